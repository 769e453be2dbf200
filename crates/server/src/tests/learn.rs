//! Learning over HTTP, with a program in the place of ours that makes of its arguments a run: it begins, waits for a file, and is
//! stopped as our verbs are.
#![cfg(unix)]

use super::fixture::{Reply, Server, cpu, write};
use feedback::{ChatRanking, Store};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use text::data::messages::{Message, Role};

use crate::settings::Learning;

/// `--out` is the second pair of arguments. It counts how often it was started, and runs until `go` is there or it is told to stop.
const PROGRAM: &str = r#"#!/bin/sh
here=$(dirname "$0")
stage=$1; out=$5
nice > "$here/nice"
event() { echo "{\"step\":1,\"event\":\"$1\",\"detail\":\"\",\"unix_secs\":1}" >> "$out/events.jsonl"; }
trap 'echo term >> "$here/terms"; stop=1' TERM
mkdir -p "$out/checkpoints"
echo $$ >> "$here/started"
printf 'stage = "%s"\nformat = 1\n[settings]\nsteps = 1\n' "$stage" > "$out/config.toml"
event started
if [ -e "$here/fail" ]; then echo "some words" >&2; echo "error: the disk is full: free some space" >&2; exit 1; fi
while [ ! -e "$here/go" ] && [ -d "$here" ] && [ -z "$stop" ]; do sleep 0.05; done
if [ -n "$stop" ]; then sleep 0.2; sleep 0.2; event stopped; exit 130; fi
cp -r "$here/$stage" "$out/checkpoints/step-000001"
event finished
"#;

/// A store of one ranking, a program, and what servers are told.
struct Home {
    dir: TempDir,
    server: Option<Server>,
}

impl Home {
    fn begin() -> Home {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let mut store = Store::open(&at("feedback.db")).unwrap();
        let said = ChatRanking {
            key: "a".into(),
            messages: vec![Message::new(Role::User, "2 + 2?")],
            completions: vec![("4".into(), None), ("5".into(), None)],
            ranks: Some(vec![1, 2]),
            comment: String::new(),
            seconds: 1.0,
        };
        store.rank_chat(&said, 1).unwrap();
        fs::write(at("mynah"), PROGRAM).unwrap();
        fs::set_permissions(at("mynah"), fs::Permissions::from_mode(0o755)).unwrap();
        let mut cpu = cpu();
        write(&at("reward"), 7, true, &mut cpu);
        write(&at("ppo"), 8, false, &mut cpu);
        let mut home = Home { dir, server: None };
        home.start();
        home
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A server; the one before it ends as it is asked to, and leaves what learns to save and stop.
    fn start(&mut self) {
        self.server = None;
        let (program, store) = (self.at("mynah"), self.at("feedback.db"));
        let folder = self.at("learned").to_owned();
        self.server = Some(Server::start(|settings| {
            settings.store = Some(store);
            settings.learning = Some(Learning { program, arguments: Vec::new(), folder });
        }));
    }

    fn server(&self) -> &Server {
        self.server.as_ref().unwrap()
    }

    fn learn(&self) -> Reply {
        self.server().post("/v1/learn", &json!({ "model": "chat", "by": "ppo", "steps": 3 }))
    }

    fn told(&self) -> Value {
        self.server().get("/v1/learn").json()["generations"][0].take()
    }

    /// Waits until the generation is so.
    fn wait(&self, what: impl Fn(&Value) -> bool) -> Value {
        let since = Instant::now();
        loop {
            let told = self.told();
            if what(&told) {
                return told;
            }
            assert!(since.elapsed() < Duration::from_secs(60), "{told}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn started(&self) -> usize {
        fs::read_to_string(self.at("started")).map_or(0, |text| text.lines().count())
    }

    fn stage(&self, number: usize) -> impl Fn(&Value) -> bool {
        let begun = number + 1;
        let started = self.at("started");
        move |told| {
            let count = fs::read_to_string(&started).map_or(0, |text| text.lines().count());
            told["stages"][number]["state"] == "running" && count >= begun
        }
    }
}

fn states(told: &Value) -> [&str; 3] {
    let text = |value: &'_ Value| -> &'static str {
        ["running", "waiting", "finished", "stopped", "failed", "killed"]
            .into_iter()
            .find(|name| value == name)
            .expect("a state")
    };
    [text(&told["state"]), text(&told["stages"][0]["state"]), text(&told["stages"][1]["state"])]
}

#[test]
fn a_model_learns_and_stands_beside_the_old_one() {
    let home = Home::begin();
    assert_eq!(home.server().get("/v1/learn").json()["rankings"], 1);
    assert_eq!(home.server().get("/v1/models").json()["offers"]["learning"], true);
    assert_eq!(home.learn().json(), json!({ "name": "ppo-1" }));
    let told = home.wait(home.stage(0));
    assert_eq!(states(&told), ["running", "running", "waiting"]);
    assert_eq!((&told["parent"], &told["rankings"]), (&json!("chat"), &json!(1)));
    let runs = [&told["stages"][0]["run"], &told["stages"][1]["run"]];
    assert_eq!(runs, [&json!("ppo-1/reward"), &Value::Null], "the names that their curves have");
    assert_eq!(home.learn().status, 409, "one at a time");
    assert_eq!(fs::read_to_string(home.at("nice")).unwrap().trim(), "10");

    fs::write(home.at("go"), "").unwrap();
    let told = home.wait(|told| told["state"] == "finished");
    assert_eq!(states(&told), ["finished"; 3]);
    let models = home.server().get("/v1/models").json()["data"].take();
    let named = |name: &str| models.as_array().unwrap().iter().find(|model| model["id"] == name).unwrap();
    assert_eq!((&named("ppo-1")["kind"], &named("ppo-1-reward")["kind"]), (&json!("chat"), &json!("score")));
    let plan: Value = serde_json::from_slice(&fs::read(home.at("learned/ppo-1/plan.json")).unwrap()).unwrap();
    let words = plan["stages"][1]["arguments"].as_array().unwrap();
    let next =
        |flag: &str| Path::new(words[1 + words.iter().position(|it| it == flag).unwrap()].as_str().unwrap());
    assert_eq!(next("--reward"), home.at("learned/ppo-1/reward").canonicalize().unwrap());
    assert_eq!(
        (fs::read_to_string(next("--prompts")).unwrap().lines().count(), next("--steps")),
        (1, Path::new("3"))
    );

    // The second generation begins from the first, and runs of its own.
    let again = home.server().post("/v1/learn", &json!({ "model": "ppo-1", "by": "dpo" }));
    assert_eq!(again.json(), json!({ "name": "dpo-2" }));
    let resumed = home.server().post("/v1/learn/resume", &json!({ "name": "ppo-1" }));
    assert_eq!(resumed.status, 409, "it is done");
}

#[test]
fn what_is_stopped_goes_on() {
    let home = Home::begin();
    let stop = || home.server().post("/v1/learn/stop", &json!({}));
    assert_eq!(stop().status, 409, "nothing is being learned");
    home.learn();
    home.wait(home.stage(0));
    assert_eq!(stop().status, 200);
    let since = Instant::now();
    while !home.at("terms").exists() && since.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(stop().status, 200, "it is being stopped");
    let told = home.wait(|told| told["state"] == "stopped");
    assert_eq!(states(&told), ["stopped", "stopped", "waiting"]);
    let terms = fs::read_to_string(home.at("terms")).unwrap();
    assert_eq!(terms.lines().count(), 1, "a second signal would end it before it has saved");
    fs::write(home.at("go"), "").unwrap();
    let resume = |name: &str| home.server().post("/v1/learn/resume", &json!({ "name": name })).status;
    assert_eq!((resume("../ppo-1"), resume("ppo-1")), (404, 200));
    home.wait(|told| told["state"] == "finished");
    assert_eq!(home.started(), 3);
}

#[test]
fn why_it_failed_is_told_in_its_words() {
    let home = Home::begin();
    fs::write(home.at("fail"), "").unwrap();
    home.learn();
    let told = home.wait(|told| told["state"] == "failed");
    assert_eq!(told["why"], "error: the disk is full: free some space");
    fs::remove_file(home.at("fail")).unwrap();
    fs::write(home.at("go"), "").unwrap();
    assert_eq!(home.server().post("/v1/learn/resume", &json!({ "name": "ppo-1" })).status, 200);
    let told = home.wait(|told| told["state"] == "finished");
    assert_eq!(told["why"], Value::Null);
}

#[test]
fn a_server_that_ends_lets_it_save_and_one_that_is_killed_finds_it_again() {
    let mut home = Home::begin();
    home.learn();
    home.wait(home.stage(0));
    home.start();
    let told = home.wait(|told| told["state"] == "stopped");
    assert_eq!(states(&told), ["stopped", "stopped", "waiting"]);

    // Its process is another server's, which is no more.
    let plan = home.at("learned/ppo-1/plan.json");
    let read = || -> Value { serde_json::from_slice(&fs::read(&plan).unwrap()).unwrap() };
    let log = home.at("learned/ppo-1/reward.log");
    let words: Vec<String> = serde_json::from_value(read()["stages"][0]["arguments"].take()).unwrap();
    let mut orphan = crate::learn::start(&home.at("mynah"), &words, &log).unwrap();
    let twice = crate::learn::start(&home.at("mynah"), &words, &log);
    assert!(twice.unwrap_err().to_string().contains("already"), "it is never started twice");
    let changed = Value::Object(
        read().as_object().unwrap().clone().into_iter().chain([("pid".into(), json!(orphan.id()))]).collect(),
    );
    fs::write(&plan, changed.to_string()).unwrap();
    home.start();
    let told = home.told();
    assert_eq!(states(&told), ["running", "running", "waiting"], "it was found");
    assert_eq!(home.learn().status, 409);
    fs::write(home.at("go"), "").unwrap();
    // A zombie holds no lock: nobody waits for it here before it has ended.
    home.wait(|told| told["state"] == "finished");
    orphan.wait().unwrap();
    assert_eq!(home.started(), 3, "the rest was begun where it ended");

    // What was learned is there after the next start.
    home.start();
    let since = Instant::now();
    while home.server().get("/v1/models/ppo-1").status != 200 {
        assert!(since.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn what_cannot_be_learned_is_said() {
    let home = Home::begin();
    let ask = |body: Value| home.server().post("/v1/learn", &body);
    for (body, status) in [
        (json!({ "model": "nothing", "by": "ppo" }), 404),
        (json!({ "model": "reward", "by": "ppo" }), 400),
        (json!({ "model": "chat", "by": "grpo" }), 400),
        (json!({ "model": "chat", "by": "dpo", "steps": 0 }), 400),
        (json!({}), 400),
    ] {
        let reply = ask(body.clone());
        assert_eq!(reply.status, status, "{body}: {}", reply.body);
    }
    assert!(!home.at("learned").exists(), "nothing is begun");
    let without = Server::start(|_| {});
    let reply = without.get("/v1/learn");
    assert!(reply.status == 404 && reply.body.contains("--store"), "{}", reply.body);
}

#[test]
fn what_the_reward_model_believes_least_is_asked_again() {
    let home = Home::begin();
    // The same two answers the other way round: of the two, it contradicts one.
    let mut store = Store::open(&home.at("feedback.db")).unwrap();
    let said = |key: &str, question: &str, ranks: [u32; 2]| ChatRanking {
        key: key.into(),
        messages: vec![Message::new(Role::User, question)],
        completions: vec![("the cat".into(), None), ("dog and dog".into(), None)],
        ranks: Some(ranks.to_vec()),
        comment: String::new(),
        seconds: 1.0,
    };
    store.rank_chat(&said("b", "who?", [1, 2]), 2).unwrap();
    store.rank_chat(&said("c", " who?", [2, 1]), 3).unwrap();
    fs::write(home.at("go"), "").unwrap();
    home.learn();
    home.wait(|told| told["state"] == "finished");
    let doubts = || home.server().get("/v1/doubts/ppo-1").json()["doubts"].take();
    let since = Instant::now();
    while doubts().is_null() {
        assert!(since.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(20));
    }
    let told = doubts();
    assert_eq!(told["of"], 3);
    let first = &told["rankings"][0];
    let rewards: Vec<f64> =
        first["answers"].as_array().unwrap().iter().map(|it| it["reward"].as_f64().unwrap()).collect();
    assert!(rewards[0] < rewards[1], "the first by the person is the last by the model: {first}");
    let texts: Vec<&str> =
        first["answers"].as_array().unwrap().iter().map(|it| it["text"].as_str().unwrap()).collect();
    let body = json!({ "model": "ppo-1-reward", "messages": first["messages"], "completions": texts });
    let scores = home.server().answer("/v1/score", &body);
    let again: Vec<f64> =
        scores["data"].as_array().unwrap().iter().map(|it| it["score"].as_f64().unwrap()).collect();
    let rounded = |values: Vec<f64>| values.into_iter().map(|value| value as f32).collect::<Vec<f32>>();
    assert_eq!(rounded(rewards), rounded(again), "they are those of /v1/score");

    let assignment = first["assignment"].clone();
    let doubt = |assignment: &Value| {
        home.server().post("/v1/doubts", &json!({ "assignment": assignment, "kept": false })).status
    };
    assert_eq!((doubt(&assignment), doubt(&json!(999))), (200, 404));
    let count = told["rankings"].as_array().unwrap().len();
    assert_eq!(doubts()["rankings"].as_array().unwrap().len(), count - 1, "it is doubted once");
    let next = home.server().post("/v1/rank/next", &json!({})).json()["item"].take();
    assert_eq!((&next["assignment"], &next["again"]), (&assignment, &json!(true)));
    assert_eq!(home.server().get("/v1/doubts/ppo-2").status, 404);
}
