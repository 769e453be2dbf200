//! `mynah serve` as programs meet it: where it listens, who may ask, how it ends.
#![cfg(unix)]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStderr, Command, Stdio};

use serde_json::{Value, json};

use super::chat::model;
use super::interrupt::signal;
use super::workshop::{chat_road, fails, path, road};

/// A server that was started, where it listens, and what else it says.
pub(super) struct Serving {
    pub(super) child: Child,
    pub(super) address: String,
    pub(super) told: Vec<String>,
    stderr: BufReader<ChildStderr>,
}

fn serve(arguments: &[&str], key: Option<&str>) -> Serving {
    start("serve", arguments, key)
}

/// Starts a verb that listens.
pub(super) fn start(verb: &str, arguments: &[&str], key: Option<&str>) -> Serving {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mynah"));
    command.args(["--threads", "1", verb, "--port", "0"]).args(arguments);
    command.env_remove("MYNAH_API_KEY").envs(key.map(|key| ("MYNAH_API_KEY", key)));
    let mut child = command.stderr(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
    let stderr = BufReader::new(child.stderr.take().expect("a pipe"));
    let mut serving = Serving { child, address: String::new(), told: Vec::new(), stderr };
    while serving.address.is_empty() {
        let mut line = String::new();
        assert!(serving.stderr.read_line(&mut line).expect("lines") > 0, "it ended: {:?}", serving.told);
        match line.trim().strip_prefix("listening on http://") {
            Some(address) => serving.address = address.to_owned(),
            None => serving.told.push(line),
        }
    }
    serving
}

impl Serving {
    /// A connection on which a request was written.
    pub(super) fn ask(&self, method: &str, path: &str, key: Option<&str>, body: &str) -> TcpStream {
        let mut stream = TcpStream::connect(&self.address).expect("it listens");
        let key = key.map(|key| format!("Authorization: Bearer {key}\r\n")).unwrap_or_default();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nConnection: close\r\n{key}Content-Length: {}\r\n\r\n",
            self.address,
            body.len()
        );
        stream.write_all((head + body).as_bytes()).expect("it reads");
        stream
    }

    /// Status and body.
    pub(super) fn answer(&self, method: &str, path: &str, key: Option<&str>, body: &str) -> (u16, String) {
        let mut text = String::new();
        self.ask(method, path, key, body).read_to_string(&mut text).expect("it answers");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head");
        (head.split(' ').nth(1).expect("a status").parse().expect("a number"), body.to_owned())
    }

    /// Ends it: its exit code, and all that it said since it listened.
    pub(super) fn end(mut self, name: &str) -> (Option<i32>, String) {
        signal(&self.child, name);
        let mut told = String::new();
        self.stderr.read_to_string(&mut told).expect("lines");
        (self.child.wait().expect("it ends").code(), told)
    }
}

#[test]
fn a_road_is_served_stage_by_stage() {
    let (dir, _) = chat_road();
    let serving = serve(
        &["--model", &path(dir.path(), "road"), "--model", &format!("mine={}", model()), "--json"],
        None,
    );
    let (status, models) = serving.answer("GET", "/v1/models", None, "");
    assert_eq!(status, 200);
    let models: Value = serde_json::from_str(&models).expect("JSON");
    let names: Vec<&str> =
        models["data"].as_array().expect("a list").iter().filter_map(|m| m["id"].as_str()).collect();
    for name in ["mine", "pretrain", "sft", "reward", "ppo"] {
        assert!(names.contains(&name), "{name} is not in {names:?}");
    }
    let chat = json!({ "model": "sft", "messages": [{ "role": "user", "content": "secret words" }], "max_tokens": 4 });
    let (status, answer) = serving.answer("POST", "/v1/chat/completions", None, &chat.to_string());
    assert!(status == 200 && answer.contains("\"finish_reason\""), "{answer}");
    let score = json!({ "model": "reward", "prompt": "2 + 3", "completions": ["5", "6"] });
    let (status, answer) = serving.answer("POST", "/v1/score", None, &score.to_string());
    assert!(status == 200 && answer.contains("\"score\""), "{answer}");
    let mut stdout = String::new();
    let mut serving = serving;
    let mut pipe = serving.child.stdout.take().expect("a pipe");
    let (code, told) = serving.end("TERM");
    pipe.read_to_string(&mut stdout).expect("text");
    assert!(stdout.starts_with("{\"listening\":\"http://127.0.0.1:"), "{stdout}");
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("letting answers come to their end, press Ctrl-C again to stop at once"), "{told}");
    let requests: Vec<Value> = told.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    assert_eq!(requests.len(), 3, "a line a request: {told}");
    assert_eq!((&requests[1]["path"], &requests[1]["status"]), (&json!("/v1/chat/completions"), &json!(200)));
    assert!(!told.contains("secret"), "what was asked is in no log");
}

#[test]
fn an_answer_that_has_begun_comes_to_its_end() {
    let serving = serve(&["--model", &format!("mine={}", model()), "--quiet"], None);
    let body = json!({ "model": "mine", "prompt": "x", "max_tokens": 200, "stream": true, "temperature": 0 });
    let mut stream = serving.ask("POST", "/v1/completions", None, &body.to_string());
    let mut first = [0; 300];
    stream.read_exact(&mut first).expect("it begins");
    let (code, told) = serving.end("INT");
    let mut rest = String::new();
    stream.read_to_string(&mut rest).expect("the rest");
    assert!(rest.contains("data: [DONE]"), "{rest}");
    assert_eq!((code, told.as_str()), (Some(0), ""), "quiet");
}

#[test]
fn keys_come_from_a_file_or_the_environment() {
    let file = road().path("key.txt");
    fs::write(&file, "one\n\n two \n").expect("a file");
    let named = format!("mine={}", model());
    let serving = serve(&["--model", &named, "--api-key-file", &file], Some("other"));
    for (key, status) in [(None, 401), (Some("other"), 401), (Some("one"), 200), (Some("two"), 200)] {
        assert_eq!(serving.answer("GET", "/v1/models", key, "").0, status, "{key:?}");
    }
    assert_eq!(serving.answer("GET", "/health", None, "").0, 200);
    let told = serving.end("TERM").1;
    assert!(!told.contains("one") && !told.contains("other"), "no key is in a log: {told}");
    let serving = serve(&["--model", &named], Some("other"));
    assert_eq!(serving.answer("GET", "/v1/models", Some("other"), "").0, 200);
    serving.end("TERM");
    let serving = serve(&["--model", &named, "--api-key", "open"], None);
    assert!(serving.told.concat().contains("--api-key-file"), "{:?}", serving.told);
    assert_eq!(serving.answer("GET", "/v1/models", None, "").0, 401);
    serving.end("TERM");
}

#[test]
fn what_cannot_be_served_is_refused_before_it_listens() {
    let named = |name: &str| format!("{name}={}", model());
    fails(&["serve", "--model", &named("a"), "--host", "0.0.0.0"], 2, &["0.0.0.0", "--api-key-file"]);
    fails(
        &["serve", "--model", &named("a"), &named("a"), "--port", "0"],
        1,
        &["two models are called \"a\""],
    );
    fails(&["serve", "--model", "nowhere", "--port", "0"], 1, &["nowhere", "does not exist"]);
    fails(
        &["serve", "--precision", "f32", "--model", &named("a"), "--cache-mb", "20", "--port", "0"],
        1,
        &["16 slots", "--slots 2"],
    );
    let empty = road().path("empty.txt");
    fs::write(&empty, "\n").expect("a file");
    fails(&["serve", "--model", &named("a"), "--api-key-file", &empty], 1, &["has no key"]);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port().to_string();
    fails(&["serve", "--model", &named("a"), "--port", &port], 1, &["cannot listen at 127.0.0.1"]);
}

#[test]
fn runs_are_watched_without_a_model() {
    let (dir, _) = chat_road();
    let serving = start("watch", &[dir.path().to_str().expect("a path"), "--quiet"], None);
    assert_eq!(serving.answer("GET", "/", None, "").0, 303);
    let (status, runs) = serving.answer("GET", "/v1/runs", None, "");
    assert!(status == 200 && runs.contains("\"name\":\"road/ppo\""), "{runs}");
    let (status, curves) = serving.answer("GET", "/v1/curves/road/ppo", None, "");
    let curves: Value = serde_json::from_str(&curves).expect("JSON");
    assert!(status == 200 && curves["state"] == "finished", "{curves}");
    assert!(curves["curves"]["objective/kl"].as_array().is_some_and(|points| !points.is_empty()), "{curves}");
    assert_eq!(serving.end("TERM").0, Some(0));
    fails(&["watch", "nowhere", "--port", "0"], 1, &["nowhere", "check the path"]);
}
