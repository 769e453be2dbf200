//! Who may ask.

use super::answers::{CHAT, question};
use super::fixture::{Server, read_head};
use crate::http::routes::routes;
use serde_json::json;

const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// What needs no key, once more: the pages' files and whether the server lives.
fn is_open(path: &str) -> bool {
    const PAGES: [&str; 37] = [
        "/",
        "/page/icon.svg",
        "/page/style.css",
        "/page/chat.js",
        "/page/api.js",
        "/page/markdown.js",
        "/page/store.js",
        "/page/dice.js",
        "/page/dom.js",
        "/page/again.js",
        "/page/message.js",
        "/page/reward.js",
        "/page/why.js",
        "/page/words.js",
        "/rank",
        "/page/rank.css",
        "/page/rank.js",
        "/page/order.js",
        "/page/owner.js",
        "/runs",
        "/page/runs.css",
        "/page/runs.js",
        "/page/curves.css",
        "/page/curves.js",
        "/page/run-words.js",
        "/page/ranking.css",
        "/page/ranking.js",
        "/page/feedback.js",
        "/page/rank-words.js",
        "/learn",
        "/page/learn.css",
        "/page/learn.js",
        "/page/learn-words.js",
        "/page/doubts.js",
        "/page/alarm.js",
        "/page/rollouts.css",
        "/page/rollouts.js",
    ];
    path == "/health" || PAGES.contains(&path)
}

#[test]
fn every_route_and_method_needs_the_key() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(|settings| {
        settings.keys = vec!["secret".into(), "other".into()];
        settings.store = Some(dir.path().join("feedback.db"));
    });
    let paths = routes()
        .into_iter()
        .map(|route| route.path.replace("{*model}", "chat").replace("{*run}", "x").replace("{id}", "x"));
    let paths: Vec<String> = paths
        .chain(
            [
                "/nothing",
                "/page",
                "/page/",
                "/page/x.js",
                "/page/../v1/models",
                "/health/x",
                "//health",
                "/v1",
                "/HEALTH",
            ]
            .map(String::from),
        )
        .collect();
    assert!(paths.len() > 15);
    for path in &paths {
        for method in METHODS {
            let reply = server.send(method, path, &[("content-type", "application/json")], "");
            let expected =
                if is_open(path) { matches!(reply.status, 200 | 405) } else { reply.status == 401 };
            assert!(expected, "{method} {path}: {}", reply.status);
        }
    }
    let key = ("authorization", "Bearer other");
    assert_eq!(server.send("GET", "/v1/models", &[key], "").status, 200);
    assert_eq!(server.send("GET", "/ready", &[key], "").status, 200);
    let wrong = server.send("GET", "/v1/models", &[("authorization", "Bearer wrong")], "");
    assert_eq!((wrong.status, &wrong.json()["error"]["code"]), (401, &json!("invalid_api_key")));
    assert_eq!(wrong.headers["www-authenticate"], "Bearer");
}

#[test]
fn prompts_of_other_keys_cannot_be_told_by_their_time() {
    let server = Server::start(|settings| settings.keys = vec!["one".into(), "two".into()]);
    let ask = |key: &str| {
        let headers = [("content-type", "application/json"), ("authorization", key)];
        let reply = server.send("POST", CHAT, &headers, &question(json!({ "max_tokens": 2 })).to_string());
        reply.json()["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap()
    };
    assert_eq!(ask("Bearer one"), 0);
    assert!(ask("Bearer one") > 0);
    assert_eq!(ask("Bearer two"), 0);
}

#[test]
fn a_stream_that_is_kept_is_told_to_its_own_key() {
    let server = Server::start(|settings| settings.keys = vec!["one".into(), "two".into()]);
    let key = |key| [("content-type", "application/json"), ("authorization", key)];
    let body = question(json!({ "max_tokens": 3, "stream": true, "resumable": true })).to_string();
    let reply = server.send("POST", CHAT, &key("Bearer one"), &body);
    let path = format!("/v1/streams/chatcmpl-{}", reply.headers["x-request-id"].to_str().unwrap());
    assert_eq!(server.send("GET", &path, &key("Bearer two"), "").status, 404);
    assert_eq!(server.send("GET", &path, &key("Bearer one"), "").body, reply.body);
}

#[test]
fn names_and_pages_of_elsewhere_are_refused() {
    let server = Server::start(|settings| settings.allow_origins = vec!["https://app.example".into()]);
    let first_line =
        |text: String| read_head(&mut server.raw(&text)).lines().next().unwrap_or_default().to_owned();
    let port = server.address.port();
    for (host, status) in [
        (format!("Host: 127.0.0.1:{port}\r\n"), "200"),
        (format!("Host: localhost:{port}\r\n"), "200"),
        ("Host: evil.example\r\n".into(), "421"),
        (format!("Host: evil.example:{port}\r\n"), "421"),
        (format!("Host: :{port}\r\n"), "421"),
        (String::new(), "421"),
        (format!("Host: localhost:{port}\r\nHost: localhost:{port}\r\n"), "421"),
    ] {
        let line = first_line(format!("GET /v1/models HTTP/1.1\r\n{host}Connection: close\r\n\r\n"));
        assert!(line.contains(status) || (status == "421" && line.contains("400")), "{host:?}: {line}");
    }
    for origin in ["null", "file://", "http://localhost:1", "https://evil.example"] {
        assert_eq!(server.send("GET", "/v1/models", &[("origin", origin)], "").status, 403, "{origin}");
    }
    let allowed = server.send("GET", "/v1/models", &[("origin", "https://app.example")], "");
    assert_eq!(
        (allowed.status, allowed.headers["access-control-allow-origin"].as_bytes()),
        (200, &b"https://app.example"[..])
    );
    assert_eq!(server.send("OPTIONS", CHAT, &[("origin", "https://app.example")], "").status, 204);
    let own = server.get("/v1/models");
    assert!(!own.headers.contains_key("access-control-allow-origin"));
    let policy = own.headers["content-security-policy"].to_str().unwrap();
    assert!(policy.contains("default-src 'none'") && policy.contains("trusted-types 'none'"), "{policy}");
    for name in ["x-content-type-options", "referrer-policy", "cross-origin-opener-policy", "x-request-id"] {
        assert!(own.headers.contains_key(name), "{name}");
    }
}

#[test]
fn a_server_that_others_reach_needs_a_key() {
    let result = std::panic::catch_unwind(|| {
        crate::serve(
            super::fixture::cpu(),
            &[],
            crate::Settings { host: [0, 0, 0, 0].into(), port: 0, ..crate::Settings::default() },
            &text::progress::Silent,
            |_| panic!("it must not listen"),
        )
    });
    let error = result.unwrap().unwrap_err().to_string();
    assert!(error.contains("--api-key-file"), "{error}");
}
