//! The ranking station over HTTP.

use super::fixture::{Reply, Server};
use feedback::{ItemOptions, NewItem, Store};
use serde_json::{Map, Value, json};
use std::path::PathBuf;
use tempfile::TempDir;
use text::data::messages::{Message, Role};

/// A server with a store of so many items, its owner's token, and that of a rater.
struct Station {
    server: Server,
    dir: TempDir,
    owner: String,
    rater: String,
}

fn station(items: usize, keys: &[&str]) -> Station {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("feedback.db");
    let mut store = Store::open(&path).unwrap();
    let item = |i| NewItem {
        messages: vec![Message::new(Role::User, format!("question {i}"))],
        answers: (0..4).map(|k| (format!("answer {k}"), Some(format!("secret-model-{k}")))).collect(),
        extra: Map::from_iter([("answer".to_owned(), json!("secret-key"))]),
    };
    store.add(&(0..items).map(item).collect::<Vec<_>>(), ItemOptions { raters: 1, overlap: 0.0 }).unwrap();
    let ada = store.rater("ada").unwrap();
    let (owner, rater) = (store.token(store.owner()), store.token(ada));
    let server = Server::start(|settings| {
        settings.store = Some(path);
        settings.keys = keys.iter().map(|key| (*key).to_owned()).collect();
    });
    Station { server, dir, owner, rater }
}

impl Station {
    fn ask(&self, token: Option<&str>, method: &str, path: &str, body: &Value) -> Reply {
        let bearer = token.map(|token| format!("Bearer {token}"));
        let mut headers = vec![("content-type", "application/json")];
        headers.extend(bearer.as_deref().map(|bearer| ("authorization", bearer)));
        let body = if method == "GET" { String::new() } else { body.to_string() };
        self.server.send(method, path, &headers, &body)
    }

    fn post(&self, path: &str, body: Value) -> Reply {
        self.ask(Some(&self.rater), "POST", path, &body)
    }

    fn next(&self) -> Value {
        self.post("/v1/rank/next", json!({})).json()["item"].take()
    }

    fn store(&self) -> Store {
        Store::open_to_read(&self.path()).unwrap()
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("feedback.db")
    }
}

fn ranked(item: &Value, key: &str) -> Value {
    let ids = item["answers"].as_array().unwrap().iter().map(|answer| answer["id"].as_str().unwrap());
    let ranks: Map<_, _> = (1..).zip(ids).map(|(rank, id)| (id.to_owned(), json!(rank))).collect();
    json!({ "assignment": item["assignment"], "key": key, "ranks": ranks, "seconds": 3.5 })
}

#[test]
fn a_rater_ranks_corrects_and_comes_to_the_end() {
    let station = station(2, &["key"]);
    let me = station.ask(Some(&station.rater), "GET", "/v1/rank/me", &Value::Null).json();
    assert_eq!((&me["name"], &me["role"]), (&json!("ada"), &json!("rater")));
    assert!(me["guidelines"]["zh"].as_str().unwrap().contains("真实"));
    let first = station.next();
    let draft = json!({ "assignment": first["assignment"], "draft": { "groups": [["x"]] } });
    assert_eq!(station.post("/v1/rank/draft", draft).status, 200);
    assert_eq!(station.next()["draft"], json!({ "groups": [["x"]] }));

    let said = ranked(&first, "one");
    let rating = station.post("/v1/rank/submit", said.clone()).json();
    assert_eq!(station.post("/v1/rank/submit", said).json(), rating, "the same key is the same rating");
    let second = station.next();
    assert_ne!(second["messages"], first["messages"]);
    let before = station.post("/v1/rank/previous", json!({ "before": second["assignment"] })).json();
    assert_eq!(before["item"]["assignment"], first["assignment"]);
    assert_eq!(before["item"]["rated"]["ranks"][first["answers"][1]["id"].as_str().unwrap()], 2);
    let bad = json!({ "assignment": first["assignment"], "key": "two", "all_bad": true });
    assert_eq!(station.post("/v1/rank/submit", bad).status, 200);
    let skip = json!({ "assignment": second["assignment"], "key": "three", "skipped": "unclear" });
    assert_eq!(station.post("/v1/rank/submit", skip).status, 200);
    assert_eq!(station.next(), Value::Null);

    assert_eq!(station.store().ratings().unwrap(), 3);
    let rankings = station.store().rankings().unwrap();
    assert_eq!((rankings.len(), &rankings[0]["rating"]["all_bad"]), (1, &json!(true)));
}

#[test]
fn what_raters_hear_names_nothing() {
    let station = station(2, &["key"]);
    let mut heard = Vec::new();
    let item = station.next();
    heard.push(item.to_string());
    heard.push(station.ask(Some(&station.rater), "GET", "/v1/rank/me", &Value::Null).body);
    for body in [
        ranked(&item, ""),
        json!({ "assignment": 999, "key": "k", "all_bad": true }),
        json!({ "assignment": item["assignment"], "key": "k" }),
        json!({ "assignment": item["assignment"], "key": "k", "ranks": { "x": 1 } }),
        json!({ "assignment": "x" }),
        ranked(&item, "k"),
    ] {
        heard.push(station.post("/v1/rank/submit", body).body);
    }
    heard.push(station.post("/v1/rank/previous", json!({})).body);
    for (method, path) in [
        ("GET", "/v1/rank/report"),
        ("GET", "/v1/rank/raters"),
        ("POST", "/v1/rank/raters"),
        ("GET", "/v1/feedback"),
    ] {
        let reply = station.ask(Some(&station.rater), method, path, &json!({ "name": "eve" }));
        assert_eq!(reply.status, 403, "{method} {path}");
        heard.push(reply.body);
    }
    for (method, path) in [
        ("GET", "/v1/models"),
        ("POST", "/v1/chat/completions"),
        ("POST", "/v1/unload/chat"),
        ("GET", "/metrics"),
    ] {
        let reply = station.ask(Some(&station.rater), method, path, &json!({}));
        assert_eq!(reply.status, 401, "{method} {path}");
        heard.push(reply.body);
    }
    let dir = station.dir.path().to_string_lossy().into_owned();
    for text in &heard {
        for hidden in ["secret", "reward", "feedback.db", &dir, &station.owner] {
            assert!(!text.contains(hidden), "{hidden} in {text}");
        }
    }
}

#[test]
fn who_has_which_token_may_do_what() {
    let station = station(1, &["key"]);
    let status =
        |token: Option<&str>, method: &str, path: &str| station.ask(token, method, path, &json!({})).status;
    for path in ["/v1/rank/me", "/v1/rank/report", "/v1/feedback"] {
        assert_eq!(status(None, "GET", path), 401, "{path}");
        assert_eq!(status(Some("wrong"), "GET", path), 401, "{path}");
        assert_eq!(status(Some(&station.owner), "GET", path), 200, "{path}");
        assert_eq!(status(Some("key"), "GET", path), 200, "{path}: a key of the server is the owner's");
    }
    let offers = &station.ask(Some("key"), "GET", "/v1/models", &Value::Null).json()["offers"];
    assert_eq!(offers, &json!({ "feedback": true, "runs": false, "learning": false }));
    // What the owner's link opens is the station, not the models.
    assert_eq!(status(Some(&station.owner), "GET", "/v1/models"), 401);
    let invited = station.ask(Some("key"), "POST", "/v1/rank/raters", &json!({ "name": " ben " })).json();
    assert_eq!(invited["name"], "ben");
    assert_eq!(status(invited["token"].as_str(), "GET", "/v1/rank/me"), 200);
    let raters = station.ask(Some("key"), "GET", "/v1/rank/raters", &Value::Null).json();
    assert_eq!(raters["raters"].as_array().unwrap().len(), 2);
    assert_eq!(station.ask(Some("key"), "POST", "/v1/rank/raters", &json!({ "name": "" })).status, 400);
}

#[test]
fn without_keys_this_machine_is_the_owner_and_a_damaged_link_nobody() {
    let station = station(1, &[]);
    let me = |token: Option<&str>| station.ask(token, "GET", "/v1/rank/me", &Value::Null);
    assert_eq!(me(None).json()["role"], "owner");
    assert_eq!(me(Some(&station.rater)).json()["role"], "rater");
    assert_eq!(me(Some(&station.rater[1..])).status, 401);
    for _ in 0..10 {
        me(Some("guess"));
    }
    assert_eq!(me(Some("guess")).status, 429);
}

#[test]
fn the_chats_feedback_is_kept() {
    let station = station(1, &[]);
    let ranking = json!({ "key": "a", "messages": [{ "role": "user", "content": "2 + 2?" }],
        "completions": [["4", "new"], ["5", "old"]], "ranks": [1, 2] });
    assert_eq!(station.ask(None, "POST", "/v1/feedback/rankings", &ranking).status, 200);
    let thumb = json!({ "key": "t", "subject": "s", "messages": [{ "role": "user", "content": "hi" }],
        "completion": "hello", "label": true, "about": { "model": "chat" } });
    assert_eq!(station.ask(None, "POST", "/v1/feedback/thumbs", &thumb).status, 200);
    assert_eq!(station.ask(None, "GET", "/v1/feedback", &Value::Null).json()["ratings"], 1);
    assert_eq!(station.store().rankings().unwrap()[0]["ranks"], json!([1, 2]));
    assert_eq!(station.store().labelled().unwrap()[0]["label"], true);
    for wrong in [
        json!({}),
        json!({ "key": "b", "messages": "x" }),
        json!({ "key": "b", "messages": [], "completions": [] }),
    ] {
        assert_eq!(station.ask(None, "POST", "/v1/feedback/rankings", &wrong).status, 400, "{wrong}");
    }
}

#[test]
fn a_server_without_a_store_says_how_it_gets_one() {
    let server = Server::start(|_| {});
    for (method, path) in [("GET", "/v1/feedback"), ("GET", "/v1/rank/me"), ("POST", "/v1/rank/next")] {
        let reply = server.send(method, path, &[("content-type", "application/json")], "{}");
        assert_eq!(reply.status, 404, "{path}: {}", reply.body);
        assert!(reply.body.contains("--store"), "{}", reply.body);
    }
}
