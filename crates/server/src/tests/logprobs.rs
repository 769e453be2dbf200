//! Log-probabilities.

use super::answers::{CHAT, TEXT, prompt, question};
use super::fixture::{Server, cpu, tokenizer};
use lm::checkpoint;
use lm::model::Engine;
use serde_json::{Value, json};
use text::progress::Silent;

#[test]
fn every_token_is_told_once_and_its_bytes_make_the_text() {
    let server = Server::start(|_| {});
    for seed in 0..5 {
        let more = json!({ "seed": seed, "max_tokens": 40, "logprobs": true, "top_logprobs": 20, "temperature": 0.6 });
        let answer = server.answer(CHAT, &question(more));
        let entries = answer["choices"][0]["logprobs"]["content"].as_array().unwrap();
        let drawn = answer["usage"]["completion_tokens"].as_u64().unwrap();
        let ended = u64::from(answer["choices"][0]["finish_reason"] == "stop");
        assert_eq!(entries.len() as u64 + ended, drawn, "the token that ends it counts, and is not told");
        let of = |entry: &Value| {
            entry["bytes"].as_array().unwrap().iter().map(|b| b.as_u64().unwrap() as u8).collect::<Vec<_>>()
        };
        let bytes: Vec<u8> = entries.iter().flat_map(of).collect();
        assert_eq!(answer["choices"][0]["message"]["content"], *String::from_utf8_lossy(&bytes));
        for entry in entries {
            let top: Vec<f64> = entry["top_logprobs"]
                .as_array()
                .unwrap()
                .iter()
                .map(|t| t["logprob"].as_f64().unwrap())
                .collect();
            assert!(top.len() == 20 && top.is_sorted_by(|a, b| a >= b), "{top:?}");
        }
    }
    for (more, param) in [
        (json!({ "logprobs": true, "top_logprobs": 21 }), "top_logprobs"),
        (json!({ "top_logprobs": 3 }), "top_logprobs"),
        (json!({ "logprobs": 3 }), "logprobs"),
    ] {
        let reply = server.post(CHAT, &question(more));
        assert_eq!((reply.status, &reply.json()["error"]["param"]), (400, &json!(param)), "{}", reply.body);
    }
}

#[test]
fn what_stands_before_a_text_is_no_part_of_it() {
    let server = Server::start(|_| {});
    let asked = json!({ "prompt": "", "echo": true, "logprobs": 0, "max_tokens": 4, "seed": 1 });
    let echoed = server.answer(TEXT, &prompt(asked))["choices"][0].clone();
    let alone = server.answer(TEXT, &prompt(json!({ "prompt": "", "max_tokens": 4, "seed": 1 })));
    assert_eq!(echoed["text"], alone["choices"][0]["text"]);
    assert_eq!(echoed["logprobs"]["tokens"][0], "<|endoftext|>");
    assert_eq!(
        (&echoed["logprobs"]["text_offset"][0], &echoed["logprobs"]["text_offset"][1]),
        (&json!(0), &json!(0))
    );
    let id = tokenizer().end_of_text().unwrap();
    let asked = json!({ "prompt": [id], "echo": true, "max_tokens": 0 });
    assert_eq!(
        server.answer(TEXT, &prompt(asked))["choices"][0]["text"],
        "<|endoftext|>",
        "it was asked for"
    );
}

#[test]
fn they_are_the_models_own_to_the_bit() {
    let server = Server::start(|_| {});
    let text = "the cat and the dog 🙂 text";
    let more = json!({ "prompt": text, "max_tokens": 0, "echo": true, "logprobs": 3, "temperature": 0.3, "presence_penalty": 1 });
    let answer = server.answer(TEXT, &prompt(more));
    let logprobs = &answer["choices"][0]["logprobs"];
    assert_eq!(
        (&answer["choices"][0]["text"], &answer["usage"]["completion_tokens"]),
        (&json!(text), &json!(0))
    );

    let (tokenizer, b) = (tokenizer(), &mut cpu());
    let tokens = tokenizer.encode_from_start(text);
    let opened = checkpoint::open(&server.models.path().join("chat"), &Silent).unwrap();
    let weights = opened.weights(checkpoint::to_backend(b, &opened.config)).unwrap();
    let mut engine = Engine::new(b, &opened.config, &weights, 1);
    let told = engine.score_continuations(b, &tokens[..1], &[&tokens[1..]]).unwrap();
    let told: Vec<f64> = told[0].iter().map(|it| it.logprob).collect();
    let said = logprobs["token_logprobs"].as_array().unwrap();
    assert!(said[0].is_null(), "nothing stands before the first");
    assert_eq!(said[1..].iter().map(|it| it.as_f64().unwrap()).collect::<Vec<_>>(), told);
    for (offset, at) in logprobs["text_offset"].as_array().unwrap().iter().enumerate() {
        let whole: usize = String::from_utf8_lossy(&tokenizer.decode_bytes(&tokens[..offset]).unwrap())
            .trim_end_matches('\u{fffd}')
            .chars()
            .count();
        assert_eq!(at.as_u64().unwrap() as usize, whole, "token {}", tokens[offset]);
    }
    // The same of what it draws itself, after the echo, streamed or not.
    let more = json!({ "prompt": text, "max_tokens": 6, "echo": true, "logprobs": 3, "seed": 2 });
    let whole = server.answer(TEXT, &prompt(more.clone()));
    let said = whole["choices"][0]["logprobs"]["token_logprobs"].as_array().unwrap();
    assert_eq!(said[1..tokens.len()].iter().map(|it| it.as_f64().unwrap()).collect::<Vec<_>>(), told);
    let mut body = prompt(more);
    body["stream"] = true.into();
    let events = server.stream(TEXT, &body);
    let chunks: Vec<Value> =
        events[..events.len() - 1].iter().map(|event| serde_json::from_str(event).unwrap()).collect();
    let joined = |field: &str| -> Vec<Value> {
        chunks
            .iter()
            .filter_map(|chunk| chunk["choices"][0]["logprobs"][field].as_array())
            .flatten()
            .cloned()
            .collect()
    };
    for field in ["tokens", "token_logprobs", "text_offset", "top_logprobs"] {
        assert_eq!(Value::Array(joined(field)), whole["choices"][0]["logprobs"][field], "{field}");
    }
    let text: String = chunks.iter().filter_map(|chunk| chunk["choices"][0]["text"].as_str()).collect();
    assert_eq!(whole["choices"][0]["text"], text);
}
