//! What is refused, and how it is told.

use super::answers::{CHAT, TEXT, prompt, question};
use super::fixture::{Server, read_head};
use super::leaving::long;
use crate::Limits;
use serde_json::{Map, Value, json};
use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::time::Duration;

#[test]
fn a_field_that_is_wrong_is_named() {
    let server = Server::start(|_| {});
    let many: Map<String, Value> = (0..5000).map(|id| (id.to_string(), json!(1))).collect();
    for (more, param) in [
        (json!({ "temperature": -0.1 }), "temperature"),
        (json!({ "temperature": 2.1 }), "temperature"),
        (json!({ "temperature": "hot" }), "temperature"),
        (json!({ "temperature": 1e300 }), "temperature"),
        (json!({ "top_p": 0 }), "top_p"),
        (json!({ "top_p": 1.1 }), "top_p"),
        (json!({ "top_k": 1_000_000_000 }), "top_k"),
        (json!({ "top_k": -1 }), "top_k"),
        (json!({ "n": 0 }), "n"),
        (json!({ "n": 17 }), "n"),
        (json!({ "n": 1.5 }), "n"),
        (json!({ "max_tokens": -1 }), "max_tokens"),
        (json!({ "max_tokens": 1.5 }), "max_tokens"),
        (json!({ "max_tokens": 1e99 }), "max_tokens"),
        (json!({ "max_tokens": 0 }), "max_tokens"),
        (json!({ "seed": "x" }), "seed"),
        (json!({ "seed": 0.5 }), "seed"),
        (json!({ "stop": [1] }), "stop"),
        (json!({ "stop": vec!["x"; 17] }), "stop"),
        (json!({ "stop": "x".repeat(257) }), "stop"),
        (json!({ "presence_penalty": 3 }), "presence_penalty"),
        (json!({ "frequency_penalty": -3 }), "frequency_penalty"),
        (json!({ "logit_bias": { "100000": 1 } }), "logit_bias"),
        (json!({ "logit_bias": { "word": 1 } }), "logit_bias"),
        (json!({ "logit_bias": { "1": 101 } }), "logit_bias"),
        (json!({ "logit_bias": { "1": 1, "01": 1 } }), "logit_bias"),
        (json!({ "logit_bias": many }), "logit_bias"),
        (json!({ "tools": [{}] }), "tools"),
        (json!({ "functions": [{}] }), "functions"),
        (json!({ "audio": {} }), "audio"),
        (json!({ "modalities": ["text", "audio"] }), "modalities"),
        (json!({ "chat_template": "x" }), "chat_template"),
        (json!({ "chat_template_kwargs": {} }), "chat_template_kwargs"),
        (json!({ "model": "reward" }), "model"),
    ] {
        let reply = server.post(CHAT, &question(more.clone()));
        assert_eq!(
            (reply.status, &reply.json()["error"]["param"]),
            (400, &json!(param)),
            "{more}: {}",
            reply.body
        );
        assert_eq!(reply.json()["error"]["type"], "invalid_request_error");
    }
    for (more, param) in [
        (json!({ "suffix": "x" }), "suffix"),
        (json!({ "response_format": { "type": "json_object" } }), "response_format"),
        (json!({ "best_of": 2 }), "best_of"),
        (json!({ "prompt": [100_000] }), "prompt"),
        (json!({ "prompt": [] }), "prompt"),
        (json!({ "prompt": [[]] }), "prompt"),
        (json!({ "prompt": { "a": 1 } }), "prompt"),
        (json!({ "logprobs": 21 }), "logprobs"),
    ] {
        let reply = server.post(TEXT, &prompt(more.clone()));
        assert_eq!(
            (reply.status, &reply.json()["error"]["param"]),
            (400, &json!(param)),
            "{more}: {}",
            reply.body
        );
    }
    let fine = json!({
        "tools": [], "tool_choice": "none", "modalities": ["text"], "unknown": { "field": 1 }, "user": "me", "stop": null,
        "max_tokens": 3, "seed": null,
    });
    assert_eq!(server.post(CHAT, &question(fine)).status, 200);
}

#[test]
fn what_is_wrong_is_said_in_the_words_of_the_interface() {
    let server = Server::start(|_| {});
    for (more, said) in [
        (json!({ "max_tokens": -1 }), "whole number, 0 or more"),
        (json!({ "top_k": "many" }), "whole number, 0 or more"),
        (json!({ "n": 1.5 }), "whole number, 0 or more"),
        (json!({ "continue_tokens": [-1] }), "whole number from 0 to 4294967295"),
        (json!({ "temperature": "hot" }), "expected a number"),
        (json!({ "stream": 1 }), "expected true or false"),
        (json!({ "messages": "x" }), "expected a list"),
        (json!({ "messages": [1] }), "expected an object"),
        (json!({ "logit_bias": [1] }), "expected an object"),
        (json!({ "seed": 0.5 }), "must be a whole number"),
    ] {
        let message = server.post(CHAT, &question(more.clone())).json()["error"]["message"].to_string();
        assert!(message.contains(said), "{more}: {message}");
        let is_ours =
            ["u64", "u32", "f64", "struct", "map,", "sequence"].iter().any(|it| message.contains(it));
        assert!(!is_ours, "{message}");
    }
}

#[test]
fn a_seed_is_told_as_it_was_given() {
    let server = Server::start(|_| {});
    for seed in [json!(0), json!(-1), json!(i64::MIN), json!(u64::MAX)] {
        let ask = || server.answer(CHAT, &question(json!({ "seed": seed, "max_tokens": 9 })));
        let answer = ask();
        assert_eq!((&answer["seed"], &answer["choices"]), (&seed, &ask()["choices"]));
    }
    let beyond = server.post(CHAT, &question(json!({ "seed": 1e30 })));
    assert_eq!((beyond.status, &beyond.json()["error"]["param"]), (400, &json!("seed")), "{}", beyond.body);
}

#[test]
fn a_body_that_is_wrong_is_refused() {
    let server = Server::start(|_| {});
    let json = [("content-type", "application/json")];
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(100), "]".repeat(100));
    for (headers, body, status) in [
        (&json[..], "{", 400),
        (&json[..], "[]", 400),
        (&json[..], deep.as_str(), 400),
        (&json[..], "{}", 400),
        (&[("content-type", "text/plain")][..], "{}", 415),
        (&[][..], "{}", 415),
    ] {
        let reply = server.send("POST", CHAT, headers, body);
        assert_eq!(reply.status, status, "{body}: {}", reply.body);
        assert!(reply.json()["error"]["message"].is_string());
    }
    for (body, param) in [
        (r#"{"model": "chat", "top_p": NaN}"#, json!("top_p")),
        (r#"{"model": "chat", "temperature": Infinity}"#, json!("temperature")),
        (r#"{"logit_bias": {"7": -Infinity}}"#, json!("logit_bias.7")),
        (r#"{"model": "chat"} {}"#, json!(null)),
    ] {
        let reply = server.send("POST", CHAT, &json, body);
        assert_eq!((reply.status, &reply.json()["error"]["param"]), (400, &param), "{}", reply.body);
        assert!(reply.body.contains("not JSON"), "{}", reply.body);
    }
    let long = format!("{{\"a\":\"{}\"}}", "x".repeat(3 << 20));
    assert_eq!(server.send("POST", CHAT, &json, &long).status, 413);
    let unknown = server.post(CHAT, &question(json!({ "model": "none" })));
    assert_eq!((unknown.status, &unknown.json()["error"]["code"]), (404, &json!("model_not_found")));
    assert!(unknown.body.contains("chat, other, reward"), "{}", unknown.body);
    for path in ["/v1/nothing", "/v1/models/%ff", "/v1/streams/%ff", "/%ff"] {
        let reply = server.get(path);
        assert_eq!((reply.status, &reply.json()["error"]["code"]), (404, &json!("not_found")), "{path}");
    }
    assert_eq!(server.get(CHAT).status, 405);
    let long_head = format!("GET /health HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "x".repeat(40_000));
    assert!(read_head(&mut server.raw(&long_head)).starts_with("HTTP/1.1 431"));
}

#[test]
fn the_last_connections_are_for_health_and_for_one_request_each() {
    let server = Server::start(|_| {});
    let head = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", server.address);
    let mut others: Vec<_> = (0..240).map(|_| server.raw("")).collect();
    for (path, status) in [("/v1/models", "503"), ("/health", "200")] {
        let mut last = server.raw(&head(path));
        let mut text = String::new();
        last.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        last.read_to_string(&mut text).expect("the server closes it");
        assert!(text.starts_with(&format!("HTTP/1.1 {status}")), "{text}");
        assert_eq!(text.contains("retry-after: "), status == "503", "{text}");
    }
    others.clear();
    let since = std::time::Instant::now();
    while server.get("/v1/models").status != 200 {
        assert!(since.elapsed() < Duration::from_secs(5));
    }
}

#[test]
fn more_than_there_is_room_for_is_sent_away() {
    let server = Server::start(|settings| settings.capacity.slots = 1);
    // Three models of one slot, and 128 that wait: nobody reads the first answers, which hold up the others.
    let body = long(true).to_string();
    let holding: Vec<_> = (0..8).map(|_| server.asleep(&server.head(CHAT, &body))).collect();
    while server.metric("mynah_waiting") < 112.0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    let reply = server.post(CHAT, &question(json!({ "n": 16, "stream": true })));
    assert_eq!((reply.status, reply.headers["retry-after"].as_bytes()), (429, &b"1"[..]), "{}", reply.body);
    assert_eq!(reply.json()["error"]["type"], "rate_limit_error");
    drop(holding);
    server.wait_for("mynah_running", 0.0);
    assert_eq!(server.post(CHAT, &question(json!({ "max_tokens": 3 }))).status, 200);
}

#[test]
fn stopping_lets_answers_come_to_their_end() {
    let mut server = Server::start(|settings| settings.capacity.slots = 1);
    // More than anything between holds, and nobody reads it yet.
    let mut asked = server.asleep(&server.head(CHAT, &long(true).to_string()));
    server.wait_for("mynah_running", 1.0);
    server.stop();
    std::thread::sleep(Duration::from_millis(60));
    let reply = server.post(CHAT, &question(json!({ "max_tokens": 3 })));
    assert_eq!((reply.status, reply.headers["retry-after"].as_bytes()), (503, &b"5"[..]), "{}", reply.body);
    assert_eq!((server.get("/ready").status, server.get("/health").status), (503, 200));
    let mut text = String::new();
    // The server closes the connection once it has stopped.
    asked.read_to_string(&mut text).unwrap();
    assert!(text.contains("data: [DONE]"), "what was taken in is answered");
    server.join();
}

/// Short times.
fn hurried() -> Server {
    let short = Duration::from_millis(300);
    Server::start(|settings| {
        settings.capacity.slots = 1;
        let usual = settings.limits;
        settings.limits = Limits {
            connections: 8,
            reserve: 3,
            head: short,
            body: short,
            write: short,
            silence: short,
            ..usual
        };
    })
}

/// All that comes until the other end closes.
fn until_closed(stream: &mut TcpStream) -> String {
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut text = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => text.extend_from_slice(&buffer[..n]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
            Err(error) => panic!("it stays open: {error}"),
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

#[test]
fn who_is_slow_is_let_go() {
    let server = hurried();
    assert_eq!(until_closed(&mut server.raw("")), "", "a connection that says nothing");
    let half = until_closed(&mut server.raw("GET /health HTTP/1.1\r\nHost: x"));
    assert!(half.is_empty() || half.starts_with("HTTP/1.1 408"), "{half}");
    let health = format!("GET /health HTTP/1.1\r\nHost: {}\r\n\r\n", server.address);
    assert!(until_closed(&mut server.raw(&health)).starts_with("HTTP/1.1 200"), "then it says no more");
    let head = server.head(CHAT, &"x".repeat(100));
    let without_body = &head[..head.len() - 100];
    assert!(
        until_closed(&mut server.raw(without_body)).starts_with("HTTP/1.1 408"),
        "a body that never comes"
    );
    // A reader who sleeps keeps neither slot nor connection.
    let asleep = server.asleep(&server.head(CHAT, &long(true).to_string()));
    while server.metric("mynah_left_total") == 0.0 {
        std::thread::sleep(Duration::from_millis(5));
    }
    drop(asleep);
    assert_eq!(server.post(CHAT, &question(json!({ "max_tokens": 3 }))).status, 200);
}

#[test]
fn a_silent_stream_says_that_it_lives() {
    let server = Server::start(|settings| {
        settings.capacity.slots = 1;
        settings.limits.silence = Duration::from_millis(50);
    });
    // The slot is taken by somebody who does not read.
    let asleep = server.asleep(&server.head(CHAT, &long(true).to_string()));
    server.wait_for("mynah_running", 1.0);
    let body = question(json!({ "max_tokens": 2, "stream": true }));
    let mut waiting = server.raw(&server.head(CHAT, &body.to_string()));
    let mut told = String::new();
    let mut buffer = [0; 1024];
    while !told.contains("\n:\n\n") {
        let n = waiting.read(&mut buffer).unwrap();
        assert!(n > 0, "{told}");
        told.push_str(&String::from_utf8_lossy(&buffer[..n]));
    }
    drop(asleep);
    told.push_str(&until_closed(&mut waiting));
    assert!(told.contains("data: [DONE]"), "{told}");
}
