//! Embeddings, scores, models, and what programs read of the server.

use super::answers::{CHAT, TEXT, prompt, question};
use super::fixture::{Server, cpu, tokenizer};
use lm::checkpoint;
use lm::model::{Activations, Sequences, forward, scores};
use serde_json::{Value, json};
use std::io::Write;
use std::time::{Duration, Instant};
use text::data::Prompter;
use text::progress::Silent;
use text::tokenizer::chat::{Message, Role};

fn floats(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect()
}

fn bytes(value: &Value) -> Vec<u8> {
    value.as_array().unwrap().iter().map(|x| x.as_u64().unwrap() as u8).collect()
}

#[test]
fn embeddings_are_the_mean_of_the_hidden_states() {
    let server = Server::start(|_| {});
    let texts = ["the cat", "日本語", "text that is text, and a little longer than the others"];
    let answer = server.answer("/v1/embeddings", &json!({ "model": "chat", "input": texts }));
    let (tokenizer, b) = (tokenizer(), &mut cpu());
    let opened = checkpoint::open(&server.models.path().join("chat"), &Silent).unwrap();
    let weights = opened.weights(checkpoint::to_backend(b, &opened.config)).unwrap();
    let mut total = 0;
    for (i, text) in texts.iter().enumerate() {
        let tokens = tokenizer.encode_from_start(text);
        total += tokens.len();
        let mut a = Activations::new(b, &opened.config);
        forward(
            b,
            &opened.config,
            &weights,
            &mut a,
            Sequences { tokens: &tokens, lens: &[tokens.len()], noise: None },
        );
        let mut hidden = vec![0.0; tokens.len() * 32];
        kernels::Backend::download(b, &mut hidden, &a.hidden);
        let mean: Vec<f64> =
            (0..32).map(|j| hidden.iter().skip(j).step_by(32).map(|&x| f64::from(x)).sum::<f64>()).collect();
        let length = mean.iter().map(|x| x * x).sum::<f64>().sqrt();
        let told = floats(&answer["data"][i]["embedding"]);
        assert_eq!(answer["data"][i]["index"], i);
        assert!(told.iter().zip(&mean).all(|(a, b)| (f64::from(*a) - b / length).abs() < 1e-5), "{text}");
        let alone = server.answer("/v1/embeddings", &json!({ "model": "chat", "input": text }));
        assert_eq!(floats(&alone["data"][0]["embedding"]), told, "to the bit");
    }
    assert_eq!(answer["usage"]["prompt_tokens"], total);
    let base64 = json!({ "model": "chat", "input": texts[0], "encoding_format": "base64", "dimensions": 32 });
    let encoded =
        server.answer("/v1/embeddings", &base64)["data"][0]["embedding"].as_str().unwrap().to_owned();
    let bytes = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, encoded).unwrap();
    let decoded: Vec<f32> = bytes.chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    assert_eq!(decoded, floats(&answer["data"][0]["embedding"]));
    for (more, param) in [
        (json!({ "dimensions": 8 }), "dimensions"),
        (json!({ "encoding_format": "x" }), "encoding_format"),
        (json!({ "input": [] }), "input"),
    ] {
        let mut body = json!({ "model": "chat", "input": "x" });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let reply = server.post("/v1/embeddings", &body);
        assert_eq!((reply.status, &reply.json()["error"]["param"]), (400, &json!(param)), "{}", reply.body);
    }
}

#[test]
fn scores_are_the_reward_models() {
    let server = Server::start(|_| {});
    let answers = ["the dog", "🙂", ""];
    let body = json!({ "model": "reward", "prompt": "the cat", "completions": answers, "per_token": true });
    let told = server.answer("/v1/score", &body);
    let (tokenizer, b) = (tokenizer(), &mut cpu());
    let prompter = Prompter::new(&tokenizer).unwrap();
    let opened = checkpoint::open(&server.models.path().join("reward"), &Silent).unwrap();
    let weights = opened.weights(checkpoint::to_backend(b, &opened.config)).unwrap();
    for (i, answer) in answers.iter().enumerate() {
        let asked = prompter.prompt(&[Message::new(Role::User, "the cat")]).unwrap();
        let whole = [asked.clone(), prompter.answer(answer)].concat();
        let mut a = Activations::new(b, &opened.config);
        forward(
            b,
            &opened.config,
            &weights,
            &mut a,
            Sequences { tokens: &whole, lens: &[whole.len()], noise: None },
        );
        let rows: Vec<u32> = (asked.len() as u32..whole.len() as u32).collect();
        let mut expected = Vec::new();
        scores(b, &opened.config, &weights, &mut a, &rows, None, &mut expected);
        let of = &told["data"][i];
        let per_token: Vec<f32> = of["tokens"]
            .as_array()
            .unwrap()
            .iter()
            .map(|token| token["score"].as_f64().unwrap() as f32)
            .collect();
        assert_eq!(per_token, expected, "to the bit");
        let spelled: Vec<u8> =
            of["tokens"].as_array().unwrap().iter().flat_map(|token| bytes(&token["bytes"])).collect();
        assert_eq!(spelled, [answer.as_bytes(), b"<|im_end|>"].concat());
        assert_eq!(of["score"].as_f64().unwrap() as f32, *expected.last().unwrap());
        let messages =
            json!([{ "role": "user", "content": "the cat" }, { "role": "assistant", "content": answer }]);
        let one = server.answer("/v1/score", &json!({ "model": "reward", "messages": messages }));
        assert_eq!(one["data"][0]["score"], of["score"]);
        assert!(one["data"][0]["tokens"].is_null());
    }
    assert_eq!(
        server.post("/v1/score", &json!({ "model": "chat", "prompt": "a", "completions": "b" })).status,
        400
    );
    assert_eq!(server.post("/v1/score", &json!({ "model": "reward", "prompt": "a" })).status, 400);
}

#[test]
fn models_come_and_go() {
    let server = Server::start(|_| {});
    let names = |list: Value| {
        list["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|m| (m["id"].to_string(), m["state"].to_string()))
            .collect::<Vec<_>>()
    };
    assert_eq!(names(server.get("/v1/models").json()).len(), 3);
    assert_eq!(server.get("/v1/models/reward").json()["kind"], "score");
    assert_eq!(server.get("/v1/models/none").status, 404);
    assert_eq!(server.post("/v1/unload/chat", &json!({})).json()["state"], "unloaded");
    let gone = server.post(CHAT, &question(json!({})));
    assert_eq!((gone.status, gone.headers["x-should-retry"].as_bytes()), (503, &b"false"[..]));
    assert_eq!(server.get("/ready").status, 503);
    assert_eq!(server.post("/v1/load/chat", &json!({})).json()["state"], "loaded");
    assert_eq!(server.post(CHAT, &question(json!({ "max_tokens": 2 }))).status, 200);
    std::fs::remove_dir_all(server.models.path().join("other")).unwrap();
    server.post("/v1/unload/other", &json!({}));
    let failed = server.post("/v1/load/other", &json!({}));
    assert_eq!(failed.status, 503, "{}", failed.body);
    assert_eq!(server.get("/v1/models/other").json()["state"], "failed");
    assert_eq!(server.post("/v1/load/none", &json!({})).status, 404);
}

#[test]
#[cfg(unix)]
fn others_are_answered_while_a_model_is_read() {
    let server = Server::start(|_| {});
    server.post("/v1/unload/other", &json!({}));
    // A file that is read no sooner than something is written to it.
    let file = server.models.path().join("other/mynah.json");
    let kept = file.with_extension("kept");
    std::fs::rename(&file, &kept).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&file).status().unwrap().success());
    std::thread::scope(|scope| {
        let loading = scope.spawn(|| server.post("/v1/load/other", &json!({})));
        let again = scope.spawn(|| server.post("/v1/load/other", &json!({})));
        let asking = scope.spawn(|| server.answer(CHAT, &question(json!({ "max_tokens": 5 }))));
        let since = Instant::now();
        while !asking.is_finished() && since.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_millis(2));
        }
        let is_answered = asking.is_finished() && !loading.is_finished() && !again.is_finished();
        assert_eq!(server.get("/v1/models/other").json()["state"], "unloaded");
        let mut pipe = std::fs::File::options().write(true).open(&file).unwrap();
        // Whoever opens it again finds a file.
        let text = std::fs::read(&kept).unwrap();
        std::fs::rename(&kept, &file).unwrap();
        pipe.write_all(&text).unwrap();
        drop(pipe);
        assert!(is_answered, "an answer waited for the file");
        for loaded in [loading, again] {
            let loaded = loaded.join().unwrap();
            assert_eq!(loaded.json()["state"], "loaded", "{}", loaded.body);
        }
    });
    let other = question(json!({ "model": "other", "max_tokens": 2 }));
    let card = server.get("/v1/models/other").json();
    assert_eq!(server.answer(CHAT, &other)["system_fingerprint"], card["system_fingerprint"]);
    assert_eq!(card["arithmetic"], "test");
}

#[test]
fn usage_adds_up_to_the_counters() {
    let server = Server::start(|_| {});
    let (mut asked, mut drawn, mut cached) = (0, 0, 0);
    for i in 0..12 {
        let more = json!({ "seed": i, "n": 1 + i % 3, "max_tokens": 4 + i });
        let answer = if i % 2 == 0 {
            server.answer(CHAT, &question(more))
        } else {
            server.answer(TEXT, &prompt(more))
        };
        let usage = |field: &str| answer["usage"][field].as_u64().unwrap();
        asked += usage("prompt_tokens");
        drawn += usage("completion_tokens");
        cached += answer["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap();
    }
    let told =
        ["prompt", "completion", "cached"].map(|name| server.metric(&format!("mynah_{name}_tokens_total")));
    assert_eq!(told, [asked, drawn, cached].map(|n| n as f64));
}

#[test]
fn pages_are_anybodys_and_sent_once() {
    let server = Server::start(|settings| settings.keys = vec!["secret".into()]);
    let page = server.get("/");
    assert_eq!(
        (page.status, page.headers["content-type"].as_bytes()),
        (200, &b"text/html; charset=utf-8"[..])
    );
    assert!(page.headers["content-security-policy"].to_str().unwrap().contains("trusted-types 'none'"));
    let script = server.get("/page/chat.js");
    assert_eq!(script.headers["content-type"], "text/javascript; charset=utf-8");
    let tag = script.headers["etag"].to_str().unwrap();
    assert_eq!(server.send("GET", "/page/chat.js", &[("if-none-match", tag)], "").status, 304);
    assert_eq!(server.send("GET", "/page/chat.js", &[("if-none-match", "\"other\"")], "").status, 200);
    assert_eq!(server.send("GET", "/", &[("origin", "null")], "").status, 200);
    assert_eq!(server.send("GET", "/", &[("host", "evil.example")], "").status, 421);
    assert_eq!(server.get("/page/../Cargo.toml").status, 401);
}

#[test]
fn the_interface_describes_itself() {
    let server = Server::start(|_| {});
    assert_eq!(server.get("/health").body.as_str(), "ok\n");
    let began = std::time::Instant::now();
    while server.get("/ready").status != 200 {
        assert!(began.elapsed() < std::time::Duration::from_secs(120), "the engine is not made");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let api = server.get("/openapi.json").json();
    let documented = api["paths"].as_object().unwrap();
    let pages = |path: &str| ["/", "/rank", "/runs", "/learn"].contains(&path) || path.starts_with("/page/");
    for route in crate::http::routes::routes().into_iter().filter(|route| !pages(route.path)) {
        let path = route.path.replace("{*", "{");
        assert!(documented.contains_key(&path), "{path} is not in /openapi.json");
    }
    let body =
        &api["paths"]["/v1/chat/completions"]["post"]["requestBody"]["content"]["application/json"]["schema"];
    for field in ["messages", "temperature", "response_format", "top_logprobs", "max_completion_tokens"] {
        assert!(
            body.to_string().contains(&format!("\"{field}\""))
                || api["components"].to_string().contains(&format!("\"{field}\"")),
            "{field}"
        );
    }
}
