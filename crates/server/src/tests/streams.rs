//! Answers that come as they grow.

use super::answers::{CHAT, TEXT, prompt, question};
use super::fixture::{Server, read_head, read_some, tokenizer};
use super::leaving::long;
use serde_json::{Value, json};
use std::io::Read;
use std::time::Duration;

/// The chunks of a stream that ended well.
fn chunks(events: &[String]) -> Vec<Value> {
    let (done, chunks) = events.split_last().expect("a stream has events");
    assert_eq!(done, "[DONE]");
    chunks.iter().map(|chunk| serde_json::from_str(chunk).unwrap()).collect()
}

#[test]
fn a_stream_says_what_the_whole_answer_says() {
    let server = Server::start(|_| {});
    for (seed, n, stop) in [(1, 1, json!([])), (2, 3, json!(["t", "a"])), (3, 2, json!("日"))] {
        let more = json!({ "seed": seed, "n": n, "stop": stop, "max_tokens": 30, "logprobs": true, "top_logprobs": 2 });
        let whole = server.answer(CHAT, &question(more.clone()));
        let mut body = question(more);
        body["stream"] = true.into();
        body["stream_options"] = json!({ "include_usage": true });
        let chunks = chunks(&server.stream(CHAT, &body));
        let (last, chunks) = chunks.split_last().unwrap();
        assert_eq!(
            (&last["choices"], &last["usage"]["completion_tokens"]),
            (&json!([]), &whole["usage"]["completion_tokens"])
        );
        assert!(chunks.iter().all(|chunk| chunk.as_object().unwrap().get("usage") == Some(&Value::Null)));
        for (index, chunk) in chunks[..n].iter().enumerate() {
            let choice = &chunk["choices"][0];
            assert_eq!((&choice["index"], &choice["delta"]["role"]), (&json!(index), &json!("assistant")));
        }
        for index in 0..n {
            let of = chunks
                .iter()
                .flat_map(|chunk| chunk["choices"].as_array().unwrap())
                .filter(|c| c["index"] == index);
            let of: Vec<&Value> = of.collect();
            let text: String = of.iter().filter_map(|choice| choice["delta"]["content"].as_str()).collect();
            let expected = &whole["choices"][index];
            assert_eq!(expected["message"]["content"], text);
            let reasons: Vec<&Value> =
                of.iter().map(|c| &c["finish_reason"]).filter(|reason| !reason.is_null()).collect();
            assert_eq!(reasons, [&expected["finish_reason"]]);
            assert!(!of.last().unwrap()["finish_reason"].is_null(), "it is in the last chunk");
            let entries: Vec<Value> = of
                .iter()
                .filter_map(|choice| choice["logprobs"]["content"].as_array())
                .flatten()
                .cloned()
                .collect();
            assert_eq!(expected["logprobs"]["content"], Value::Array(entries));
        }
    }
}

#[test]
fn chunks_have_whole_characters() {
    let server = Server::start(|_| {});
    let mut replaced = 0;
    for seed in 0..10 {
        let body = prompt(json!({ "seed": seed, "max_tokens": 60, "stream": true }));
        let chunks = chunks(&server.stream(TEXT, &body));
        let text: String = chunks.iter().filter_map(|chunk| chunk["choices"][0]["text"].as_str()).collect();
        let whole = server.answer(TEXT, &prompt(json!({ "seed": seed, "max_tokens": 60 })));
        assert_eq!(whole["choices"][0]["text"], text);
        replaced += text.matches('\u{fffd}').count();
    }
    assert!(replaced > 0, "the model draws single bytes");
}

#[test]
fn an_invalid_request_opens_no_stream() {
    let server = Server::start(|_| {});
    for more in [json!({ "n": 0 }), json!({ "max_tokens": 0 }), json!({ "temperature": "hot" })] {
        let mut body = question(more);
        body["stream"] = true.into();
        let reply = server.post(CHAT, &body);
        assert_eq!(reply.status, 400);
        assert_eq!(reply.headers["content-type"], "application/json");
    }
    let reply = server.post(CHAT, &question(json!({ "stream_options": { "include_usage": true } })));
    assert_eq!((reply.status, &reply.json()["error"]["param"]), (400, &json!("stream_options")));
}

#[test]
fn a_stream_that_fails_ends_with_an_error_and_its_connection() {
    let server = Server::start(|settings| settings.capacity.slots = 1);
    let mut stream = server.raw(&server.head(CHAT, &long(true).to_string()));
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    server.wait_for("mynah_running", 1.0);
    assert_eq!(server.post("/v1/unload/chat", &json!({})).status, 200);
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("the server closes it");
    let (_, last) = text.rsplit_once("data: ").unwrap();
    let error: Value = serde_json::from_str(last.lines().next().unwrap()).unwrap();
    let fields: Vec<&String> = error["error"].as_object().unwrap().keys().collect();
    assert_eq!(fields, ["message", "type", "param", "code"]);
    assert!(!text.contains("[DONE]"));
}

#[test]
fn a_schema_that_comes_to_nothing_is_the_requests_fault() {
    let server = Server::start(|_| {});
    let schema = json!({ "$ref": "#/$defs/a", "$defs": { "a": { "$ref": "#/$defs/a" } } });
    let format = json!({ "type": "json_schema", "json_schema": { "schema": schema } });
    let events = server.stream(CHAT, &question(json!({ "response_format": format, "stream": true })));
    let last: Value = serde_json::from_str(events.last().unwrap()).unwrap();
    assert_eq!(last["error"]["type"], "invalid_request_error", "{last}");
    assert_eq!(last["error"]["param"], "response_format");
}

#[test]
fn a_resumable_stream_that_is_too_long_says_so() {
    let server = Server::start(|_| {});
    let mut body = long(true);
    body["resumable"] = true.into();
    let ends = tokenizer().end_tokens();
    body["logit_bias"] = ends.iter().map(|id| (id.to_string(), json!(-100))).collect();
    let events = server.stream(CHAT, &body);
    let last: Value = serde_json::from_str(events.last().unwrap()).unwrap();
    assert!(last["error"]["message"].as_str().unwrap().contains("longer"), "{last}");
}

#[test]
fn a_resumable_stream_ends_when_it_is_deleted() {
    let server = Server::start(|settings| {
        settings.capacity.slots = 1;
        settings.keys = vec!["one".into(), "two".into()];
    });
    let keys = ["one", "two"].map(|key| format!("Bearer {key}"));
    let send = |method: &str, path: &str, key: &str| server.send(method, path, &[("authorization", key)], "");
    let mut body = long(true);
    body["resumable"] = true.into();
    let keyed = |body: &Value| {
        let head = server.head(CHAT, &body.to_string());
        server.raw(&head.replacen("Host", &format!("Authorization: {}\r\nHost", keys[0]), 1))
    };
    let mut reader = keyed(&body);
    let id =
        |head: String| head.lines().find_map(|line| line.strip_prefix("x-request-id: ")).unwrap().to_owned();
    let path = format!("/v1/streams/chatcmpl-{}", id(read_head(&mut reader)));
    // The first holds the slot; who waits hears nothing, and is let go all the same.
    let mut waiting = keyed(&body);
    let other = format!("/v1/streams/chatcmpl-{}", id(read_head(&mut waiting)));
    assert_eq!(send("DELETE", &path, &keys[1]).status, 404, "it is somebody else's");
    assert_eq!(send("DELETE", &other, &keys[0]).status, 204);
    assert_eq!(send("GET", &other, &keys[0]).status, 404);
    assert_eq!(send("DELETE", &path, &keys[0]).status, 204);
    assert_eq!(send("DELETE", &path, &keys[0]).status, 404, "once");
    let free =
        |text: String| ["running", "waiting"].iter().all(|name| text.contains(&format!("mynah_{name} 0\n")));
    let since = std::time::Instant::now();
    while !free(send("GET", "/metrics", &keys[0]).body) {
        assert!(since.elapsed() < Duration::from_secs(5), "it is computed to its end");
        std::thread::sleep(Duration::from_millis(5));
    }
    let mut rest = String::new();
    reader.read_to_string(&mut rest).unwrap();
    assert!(!rest.contains("[DONE]"), "who reads it hears that it did not come to its end");
}

#[test]
fn a_resumable_stream_goes_on_without_its_reader() {
    let server = Server::start(|_| {});
    let body = question(json!({ "seed": 4, "max_tokens": 60, "stream": true, "resumable": true }));
    let mut reader = server.raw(&server.head(CHAT, &body.to_string()));
    let head = read_head(&mut reader);
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let id = head.lines().find_map(|line| line.strip_prefix("x-request-id: ")).unwrap().to_owned();
    read_some(&mut reader);
    drop(reader);
    std::thread::sleep(Duration::from_millis(100));
    let path = format!("/v1/streams/chatcmpl-{id}");
    let all = server.get(&path);
    assert_eq!(all.status, 200, "{}", all.body);
    let text = |chunks: &[Value]| {
        chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect::<String>()
    };
    let chunks = chunks(&all.events());
    let whole = server.answer(CHAT, &question(json!({ "seed": 4, "max_tokens": 60 })));
    assert_eq!(whole["choices"][0]["message"]["content"], text(&chunks));
    let rest = server.get(&format!("{path}?from=3"));
    assert_eq!(rest.events(), all.events()[3..]);
    assert!(rest.body.starts_with("id: 3\n"), "{}", rest.body);
    assert_eq!(server.get("/v1/streams/chatcmpl-none").status, 404);
    assert_eq!(server.get(&format!("{path}?from=x")).status, 400);
}

#[test]
fn streams_that_were_heard_make_room_for_others() {
    let server = Server::start(|_| {});
    for seed in 0..70 {
        let body = question(json!({ "seed": seed, "max_tokens": 2, "stream": true, "resumable": true }));
        assert_eq!(server.post(CHAT, &body).status, 200, "{seed}");
    }
}
