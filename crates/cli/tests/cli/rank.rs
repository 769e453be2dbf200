//! `mynah rank` as people and scripts meet it: links, ratings that survive everything, stores as files and as rankings.
#![cfg(unix)]

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, RwLock};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::serve::{Serving, start};
use super::workshop::{chat_road, fails, json, path, run, stderr, stdout};

/// Candidates of so many prompts, four answers each.
fn candidates(dir: &TempDir, name: &str, prompts: usize) -> String {
    let line = |i: usize| {
        let answers: Vec<String> = (0..4).map(|k| format!("{name} {k} to {i}")).collect();
        json!({ "prompt": format!("question {i}"), "completions": answers }).to_string() + "\n"
    };
    let file = path(dir.path(), &format!("{name}.jsonl"));
    fs::write(&file, (0..prompts).map(line).collect::<String>()).expect("a file");
    file
}

/// The token of a link that was told.
fn token<'a>(told: &'a [String], whose: &str) -> &'a str {
    let line =
        told.iter().find(|line| line.starts_with(whose)).unwrap_or_else(|| panic!("{whose} in {told:?}"));
    line.trim().split_once("/rank#").expect("a link").1
}

/// Status and body of a POST; none where nobody listens any more.
fn post(address: &str, token: &str, place: &str, body: &Value) -> Option<(u16, Value)> {
    let body = body.to_string();
    let mut stream = TcpStream::connect(address).ok()?;
    let head = format!(
        "POST /v1/rank/{place} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nConnection: close\r\n\
         Authorization: Bearer {token}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all((head + &body).as_bytes()).ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, serde_json::from_str(body).ok()?))
}

/// What the raters of [`acknowledged_ratings_survive_kills`] share.
struct Raters {
    address: RwLock<String>,
    /// Of each question the rank that each text was given first.
    said: Mutex<BTreeMap<String, BTreeMap<String, u64>>>,
    acknowledged: AtomicUsize,
}

impl Raters {
    /// Asks until somebody answers.
    fn insist(&self, token: &str, place: &str, body: &Value) -> Value {
        for _ in 0..2000 {
            let address = self.address.read().expect("no panic").clone();
            match post(&address, token, place, body) {
                Some((200, answer)) => return answer,
                Some((status, answer)) => panic!("{place}: {status} {answer}"),
                None => thread::sleep(Duration::from_millis(5)),
            }
        }
        panic!("{place}: nobody answers");
    }

    fn rank_everything(&self, number: usize, token: &str) {
        for count in 0.. {
            let item = self.insist(token, "next", &json!({}))["item"].take();
            if item.is_null() {
                return;
            }
            let answers = item["answers"].as_array().expect("answers");
            let rank = |i: usize| ((i + count) * 7 + number) % 4 + 1;
            let ranks: serde_json::Map<_, _> = (0..)
                .zip(answers)
                .map(|(i, a)| (a["id"].as_str().expect("an id").to_owned(), json!(rank(i))))
                .collect();
            let key = format!("{number}-{count}");
            let said = json!({ "assignment": item["assignment"], "key": key, "ranks": ranks });
            self.insist(token, "submit", &said);
            self.acknowledged.fetch_add(1, Ordering::Relaxed);
            let texts = (0..)
                .zip(answers)
                .map(|(i, a)| (a["text"].as_str().expect("a text").to_owned(), rank(i) as u64));
            let question = item["messages"][0]["content"].as_str().expect("a text").to_owned();
            self.said.lock().expect("no panic").entry(question).or_insert_with(|| texts.collect());
        }
    }
}

/// Twenty raters rank a thousand items while the server is killed again and again.
#[test]
fn acknowledged_ratings_survive_kills() {
    let dir = tempfile::tempdir().expect("a directory");
    let (file, store) = (candidates(&dir, "answer", 1000), path(dir.path(), "feedback.db"));
    let names: Vec<String> = (0..20).map(|i| format!("rater-{i}")).collect();
    let mut words = vec!["--store", &store, "--quiet", "--overlap", "0"];
    let first = [
        &words[..],
        &["--candidates", &file],
        &names.iter().flat_map(|n| ["--rater", n]).collect::<Vec<_>>(),
    ]
    .concat();
    let mut serving = start("rank", &first, None);
    words.extend(["--threads", "1"]);
    let tokens: Vec<String> =
        names.iter().map(|name| token(&serving.told, &format!("{name} ranks at")).to_owned()).collect();
    let raters = Raters {
        address: RwLock::new(serving.address.clone()),
        said: Mutex::default(),
        acknowledged: AtomicUsize::new(0),
    };
    let kills = thread::scope(|scope| {
        let raters = &raters;
        let threads: Vec<_> = (0..)
            .zip(&tokens)
            .map(|(number, token)| scope.spawn(move || raters.rank_everything(number, token)))
            .collect();
        let mut kills = 0;
        while !threads.iter().all(|thread| thread.is_finished()) {
            let before = raters.acknowledged.load(Ordering::Relaxed);
            // At another moment of what it does each time.
            thread::sleep(Duration::from_millis(150 + 37 * kills % 211));
            if raters.acknowledged.load(Ordering::Relaxed) > before + 20 {
                serving.child.kill().expect("SIGKILL");
                serving.child.wait().expect("it ends");
                kills += 1;
                serving = start("rank", &words[..3], None);
                raters.address.write().expect("no panic").clone_from(&serving.address);
            }
        }
        kills
    });
    serving.end("TERM");
    assert!(kills >= 5, "{kills} kills");
    let acknowledged = raters.acknowledged.load(Ordering::Relaxed);
    assert!(acknowledged >= 1000, "{acknowledged}");

    let out = path(dir.path(), "out.jsonl");
    run(&["rank", "export", "--store", &store, "--out", &out], 0);
    let rows: Vec<Value> = fs::read_to_string(&out)
        .expect("a file")
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(rows.len(), 1000, "each item once");
    let said = raters.said.lock().expect("no panic");
    for row in &rows {
        let said = &said[row["messages"][0]["content"].as_str().expect("a text")];
        let texts = row["completions"].as_array().expect("answers");
        let ranks: Vec<u64> = texts.iter().map(|text| said[text.as_str().expect("a text")]).collect();
        assert_eq!(row["ranks"], json!(ranks), "{row}");
    }
    let report = json(&["rank", "report", "--store", &store]);
    assert_eq!((&report["ratings"], &report["items"]), (&json!(1000), &json!(1000)));
}

#[test]
fn links_open_the_page_and_nothing_else_does() {
    let dir = tempfile::tempdir().expect("a directory");
    let [old, new] = ["old", "new"].map(|name| format!("{name}={}", candidates(&dir, name, 3)));
    let store = path(dir.path(), "feedback.db");
    // Five answers of the nine that a keyboard has digits for.
    let words = ["--candidates", &old, "--candidates", &new, "--store", &store, "--rater", "ada", "--quiet"];
    let serving = start("rank", &words, None);
    let (owner, ada) =
        (token(&serving.told, "rank at").to_owned(), token(&serving.told, "ada ranks at").to_owned());
    assert!(owner.len() == 40 && owner != ada);
    for (key, status) in
        [(None, 401), (Some(owner.as_str()), 200), (Some(ada.as_str()), 200), (Some("x"), 401)]
    {
        assert_eq!(serving.answer("GET", "/v1/rank/me", key, "").0, status, "{key:?}");
    }
    let (status, page) = serving.answer("GET", "/rank", None, "");
    assert!(status == 200 && page.contains("rank.js"));
    assert_eq!(serving.answer("GET", "/", None, "").0, 303, "there is nobody to talk to");
    let (_, next) = post(&serving.address, &ada, "next", &json!({})).expect("an answer");
    assert_eq!(next["item"]["answers"].as_array().expect("answers").len(), 8);
    let (code, told) = serving.end("INT");
    assert_eq!(code, Some(0), "{told}");
    // Links are the same the next time.
    let serving = start("rank", &["--store", &store, "--quiet"], None);
    assert_eq!((token(&serving.told, "rank at"), token(&serving.told, "ada ranks at")), (&*owner, &*ada));
    serving.end("TERM");
}

#[test]
fn what_cannot_be_ranked_is_said() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = path(dir.path(), "feedback.db");
    fails(&["rank"], 2, &["--store"]);
    fails(&["rank", "--store", &store], 1, &["nothing to rank", "--candidates"]);
    let file = candidates(&dir, "answer", 3);
    fails(
        &["rank", "--store", &file, "--candidates", &file],
        1,
        &["answer.jsonl", "no store of `mynah rank`"],
    );
    assert!(fs::read_to_string(&file).expect("a file").starts_with("{\"prompt\""));
    fails(
        &["rank", "--store", &store, "--candidates", &file, "--reward", "x"],
        2,
        &["--reward", "two or more"],
    );
    let alike = path(dir.path(), "alike.jsonl");
    let twelve: Vec<String> = (0..12).map(|i| i.to_string()).collect();
    let rows = [
        json!({ "prompt": "a", "completions": ["x", "x"] }),
        json!({ "prompt": "b", "completions": twelve }),
    ];
    fs::write(&alike, rows.map(|row| row.to_string() + "\n").concat()).expect("a file");
    let assert = run(&["rank", "--store", &path(dir.path(), "other.db"), "--candidates", &alike], 1);
    let told = stderr(&assert);
    assert!(told.contains("all answers are the same") && told.contains("more than nine"), "{told}");
    fails(&["rank", "export", "--store", "nowhere.db", "--out", "-"], 1, &["nowhere.db"]);
    fails(&["rank", "report", "--store", &file], 1, &["answer.jsonl"]);
}

#[test]
fn a_store_is_a_file_of_rankings() {
    let (road, _) = chat_road();
    let rankings = path(road.path(), "road/rankings.jsonl");
    let dir = tempfile::tempdir().expect("a directory");
    let store = path(dir.path(), "feedback.db");
    let counts = json(&["rank", "import", "--store", &store, &rankings]);
    let again = json(&["rank", "import", "--store", &store, &rankings]);
    assert_eq!((&counts["known"], &again["new"]), (&json!(0), &json!(0)));
    assert_eq!(counts["new"], again["known"]);

    let out = path(dir.path(), "out.jsonl");
    run(&["rank", "export", "--store", &store, "--out", &out], 0);
    let values = |file: &str| -> Vec<Value> {
        let text = fs::read_to_string(file).expect("a file");
        text.lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .filter(|row: &Value| {
                let ranks = row["ranks"].as_array().expect("ranks");
                ranks.iter().any(|rank| rank != &ranks[0])
            })
            .collect()
    };
    assert_eq!(values(&out), values(&rankings), "what went in comes out");
    assert_eq!(
        stdout(&["rank", "export", "--store", &store, "--out", "-"]),
        fs::read_to_string(&out).expect("a file")
    );

    // The same rankings make the same reward model and the same policy, wherever they are read from.
    let sft = path(road.path(), "road/sft");
    for stage in ["reward", "dpo"] {
        let metrics = [&store, &out].map(|from| {
            let run_dir = path(dir.path(), &format!("{stage}-{}", from.ends_with("db")));
            run(
                &[
                    stage,
                    "--model",
                    &sft,
                    "--rankings",
                    from,
                    "--out",
                    &run_dir,
                    "--steps",
                    "2",
                    "--precision",
                    "f32",
                ],
                0,
            );
            fs::read_to_string(path(dir.path(), &format!("{stage}-{}/metrics.jsonl", from.ends_with("db"))))
                .expect("metrics")
        });
        assert_eq!(metrics[0], metrics[1], "{stage}");
    }
}

/// Where reward models are apart, people are asked first.
#[test]
fn reward_models_choose_what_is_asked() {
    let (road, _) = chat_road();
    let [file, reward] = ["road/candidates.jsonl", "road/reward"].map(|name| path(road.path(), name));
    let dir = tempfile::tempdir().expect("a directory");
    let store = path(dir.path(), "feedback.db");
    let words =
        ["--candidates", &file, "--store", &store, "--reward", &reward, "--reward", &reward, "--quiet"];
    let serving: Serving = start("rank", &words, None);
    let owner = token(&serving.told, "rank at").to_owned();
    for count in 0..20 {
        let item = post(&serving.address, &owner, "next", &json!({})).expect("an answer").1["item"].take();
        if item.is_null() {
            break;
        }
        let said = json!({ "assignment": item["assignment"], "key": count.to_string(), "all_bad": true });
        assert_eq!(post(&serving.address, &owner, "submit", &said).expect("an answer").0, 200);
    }
    serving.end("TERM");
    let report = json(&["rank", "report", "--store", &store]);
    let (chosen, all) =
        (report["chosen"].as_u64().expect("a number"), report["ratings"].as_u64().expect("a number"));
    assert!(chosen > 0 && chosen < all, "{chosen} of {all}");
}
