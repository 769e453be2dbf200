//! Several adapters on one base.

use super::answers::{CHAT, question};
use super::fixture::{Server, write_adapter};
use crate::Source;
use lm::checkpoint;
use serde_json::{Value, json};
use std::path::Path;
use text::progress::Silent;

/// `first`, `second` and `judge` stand beside `chat`, and each is there once more, merged.
fn adapters(models: &Path) -> Vec<Source> {
    let source = |name: String| Source { path: models.join(&name), name };
    let mut sources = Vec::new();
    for (name, seed, scores) in [("first", 7, false), ("second", 8, false), ("judge", 9, true)] {
        let [beside, merged] = [source(name.into()), source(format!("{name}-merged"))];
        write_adapter(&beside.path, &models.join("chat"), seed, scores);
        checkpoint::open(&beside.path, &Silent).unwrap().merge(&merged.path, None).unwrap();
        sources.extend([beside, merged]);
    }
    sources
}

/// What a model says, drawing the likeliest.
fn said(server: &Server, model: &str) -> Value {
    let body = question(json!({ "model": model, "max_tokens": 40, "temperature": 0, "logprobs": true }));
    server.answer(CHAT, &body)["choices"].take()
}

fn logprobs(choices: &Value) -> Vec<(String, f64)> {
    let tokens = choices[0]["logprobs"]["content"].as_array().unwrap();
    tokens.iter().map(|t| (t["token"].to_string(), t["logprob"].as_f64().unwrap())).collect()
}

fn scored(server: &Server, model: &str) -> f64 {
    let messages =
        json!([{ "role": "user", "content": "the cat" }, { "role": "assistant", "content": "the dog" }]);
    let answer = server.answer("/v1/score", &json!({ "model": model, "messages": messages }));
    answer["data"][0]["score"].as_f64().expect("a score")
}

#[test]
fn adapters_of_one_base_say_what_merged_ones_say() {
    let server = Server::start_with(adapters, |_| {});
    let [base, first, second] = ["chat", "first", "second"].map(|model| said(&server, model));
    assert!(base != first && base != second && first != second);
    for (name, beside) in [("first-merged", &first), ("second-merged", &second)] {
        let (beside, merged) = (logprobs(beside), logprobs(&said(&server, name)));
        assert!(beside.len() > 3);
        for ((token, here), (other, there)) in beside.iter().zip(&merged) {
            assert!(token == other && (here - there).abs() < 1e-4, "{name}: {token} {here}, {other} {there}");
        }
    }
    let [beside, merged] = ["judge", "judge-merged"].map(|model| scored(&server, model));
    assert!((beside - merged).abs() < 1e-4 * merged.abs().max(1.0), "{beside} {merged}");
    let digests = |of: &str| {
        let card = server.get(&format!("/v1/models/{of}")).json();
        [card["digest"].clone(), card["base_digest"].clone()]
    };
    let chat = digests("chat");
    assert_eq!(chat[0], chat[1]);
    for model in ["first", "second", "judge"] {
        let [own, base] = digests(model);
        assert!(base == chat[0] && own != chat[0], "{model}");
    }
    assert_ne!(digests("first-merged")[1], chat[0]);
}

/// Whichever of them goes, the others keep the weights.
#[test]
fn shared_weights_stay_while_somebody_has_them() {
    let server = Server::start_with(adapters, |_| {});
    let names = ["chat", "first", "second"];
    let before = names.map(|model| said(&server, model));
    for (gone, stays) in [("chat", "first"), ("first", "second"), ("second", "first")] {
        assert_eq!(server.post(&format!("/v1/unload/{gone}"), &json!({})).status, 200);
        let at = names.iter().position(|name| *name == stays).unwrap();
        if stays == "first" && gone == "second" {
            assert_eq!(server.post("/v1/load/first", &json!({})).json()["state"], "loaded");
        }
        assert_eq!(said(&server, stays), before[at], "{stays} without {gone}");
    }
    for (name, before) in names.iter().zip(&before) {
        assert_eq!(server.post(&format!("/v1/load/{name}"), &json!({})).json()["state"], "loaded");
        assert_eq!(&said(&server, name), before, "{name}, loaded again");
    }
    let judge = scored(&server, "judge");
    for name in names {
        server.post(&format!("/v1/unload/{name}"), &json!({}));
    }
    assert_eq!(scored(&server, "judge"), judge);
    // The judge's engine has no head that writes: the base is read again.
    assert_eq!(server.post("/v1/load/second", &json!({})).json()["state"], "loaded");
    assert_eq!(said(&server, "second"), before[2]);
}
