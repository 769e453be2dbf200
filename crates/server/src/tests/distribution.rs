//! What may come next, and answers that go on from any of their tokens.

use super::answers::{CHAT, prompt, question};
use super::fixture::{Server, cpu, tokenizer};
use lm::checkpoint;
use lm::model::Engine;
use serde_json::{Value, json};
use text::data::Prompter;
use text::progress::Silent;
use text::streams;
use text::tokenizer::Tokenizer;
use text::tokenizer::chat::{Message, Role};

const DISTRIBUTION: &str = "/v1/distribution";

fn with(mut body: Value, more: &Value) -> Value {
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

fn numbers(values: &Value, field: &str) -> Vec<f64> {
    values.as_array().unwrap().iter().map(|value| value[field].as_f64().unwrap()).collect()
}

fn ids(entries: &Value) -> Vec<u32> {
    entries.as_array().unwrap().iter().map(|entry| entry["id"].as_u64().unwrap() as u32).collect()
}

/// The page's arithmetic (`page/dice.js`), from nothing but log-probabilities, the likeliest first.
fn dice(logprobs: &[f64], temperature: f64, top_k: usize, top_p: f64) -> Vec<f64> {
    if temperature == 0.0 {
        return (0..logprobs.len()).map(|at| f64::from(u8::from(at == 0))).collect();
    }
    let kept = if top_k == 0 { logprobs.len() } else { top_k };
    let mut weights: Vec<f64> = logprobs.iter().map(|it| ((it - logprobs[0]) / temperature).exp()).collect();
    weights[kept..].fill(0.0);
    let (enough, mut sum) = (top_p * weights.iter().sum::<f64>(), 0.0);
    for weight in &mut weights {
        *weight = if sum < enough { *weight } else { 0.0 };
        sum += *weight;
    }
    weights.iter().map(|weight| weight / sum).collect()
}

#[test]
fn a_distribution_is_what_is_drawn_from() {
    let server = Server::start(|_| {});
    let (size, mut ends) = (tokenizer().vocab_size(), 0);
    for (temperature, top_k, top_p) in [
        (1.0, 0, 1.0),
        (0.5, 0, 1.0),
        (1.75, 40, 1.0),
        (1.0, 0, 0.75),
        (0.5, 7, 0.25),
        (2.0, 3, 0.9),
        (0.0, 0, 1.0),
    ] {
        let how = json!({ "temperature": temperature, "top_k": top_k, "top_p": top_p });
        let told = server.answer(DISTRIBUTION, &with(question(json!({ "top": size })), &how));
        let (logprobs, shares) =
            (numbers(&told["tokens"], "logprob"), numbers(&told["tokens"], "probability"));
        assert_eq!((told["others"].as_u64(), told["others_probability"].as_f64()), (Some(0), Some(0.0)));
        assert!(logprobs.len() == size && logprobs.is_sorted_by(|a, b| a >= b));
        assert!((logprobs.iter().map(|it| it.exp()).sum::<f64>() - 1.0).abs() < 1e-6, "nothing is missing");
        for (share, dice) in shares.iter().zip(dice(&logprobs, temperature, top_k, top_p)) {
            assert!((share - dice).abs() < 1e-6, "{how}: {share}, {dice}");
        }
        // The rest are the others in their order.
        let few = server.answer(DISTRIBUTION, &with(question(json!({ "top": 5, "rest": true })), &how));
        assert_eq!(few["tokens"].as_array().unwrap()[..], told["tokens"].as_array().unwrap()[..5]);
        assert_eq!(few["rest"], json!(logprobs[5..]));
        assert_eq!(few["others"], size - 5);
        let others: f64 = shares[5..].iter().sum();
        assert!((few["others_probability"].as_f64().unwrap() - others).abs() < 1e-12);
        // What is drawn is what a number below their sum picks, by the order of ids.
        let mut by_id: Vec<(&Value, f64)> = told["tokens"].as_array().unwrap().iter().zip(shares).collect();
        by_id.sort_by_key(|(token, _)| token["id"].as_u64());
        let picked = |seed: u64, number: u64| {
            let bits = kernels::rng::bits(seed, streams::SAMPLES.at(number), 0);
            let mut left = bits as f64 / 2f64.powi(64);
            let reached = by_id.iter().find(|(_, share)| {
                left -= share;
                left < 0.0
            });
            reached.unwrap().0
        };
        for seed in 0..12 {
            let one = json!({ "max_tokens": 1, "seed": seed, "n": 4, "logprobs": true });
            let drawn = server.answer(CHAT, &with(question(one), &how));
            for (number, choice) in drawn["choices"].as_array().unwrap().iter().enumerate() {
                let (picked, token) = (picked(seed, number as u64), &choice["logprobs"]["content"][0]);
                // One that ends the answer is not told.
                let is_end = picked["ends"] == true && token.is_null();
                assert!(picked["id"] == token["id"] || is_end, "{choice}");
            }
        }
        // A distribution is told whatever would be drawn from it.
        if let Some(seed) = (0..100_000).find(|&seed| picked(seed, 0)["ends"] == true) {
            server.answer(DISTRIBUTION, &with(question(json!({ "seed": seed })), &how));
            ends += 1;
        }
    }
    assert!(ends > 0);
}

#[test]
fn every_place_of_an_answer_has_its_distribution() {
    let server = Server::start(|_| {});
    let asked = json!({ "seed": 4, "max_tokens": 8, "logprobs": true, "top_logprobs": 20 });
    let answer = server.answer(CHAT, &question(asked));
    let entries = answer["choices"][0]["logprobs"]["content"].as_array().unwrap();
    let drawn = ids(&answer["choices"][0]["logprobs"]["content"]);
    assert!(entries.len() > 2, "{answer}");
    for (at, entry) in entries.iter().enumerate() {
        let told = server.answer(DISTRIBUTION, &question(json!({ "continue_tokens": drawn[..at] })));
        let top = entry["top_logprobs"].as_array().unwrap();
        assert_eq!(ids(&told["tokens"]), ids(&entry["top_logprobs"]));
        assert_eq!(
            numbers(&told["tokens"], "logprob"),
            numbers(&entry["top_logprobs"], "logprob"),
            "{top:?}"
        );
        let usage = &told["usage"];
        let read = usage["prompt_tokens"].as_u64().unwrap();
        assert_eq!(read, answer["usage"]["prompt_tokens"].as_u64().unwrap() + at as u64);
        assert_eq!(usage["prompt_tokens_details"]["cached_tokens"], read - 1, "one pass of one token");
        assert_eq!(told["system_fingerprint"], answer["system_fingerprint"]);
        assert_eq!(
            (&told["temperature"], &told["top_k"], &told["top_p"]),
            (&json!(1.0), &json!(0), &json!(1.0))
        );
    }
    let all = server.answer(DISTRIBUTION, &question(json!({ "top": tokenizer().vocab_size() })));
    let ending: Vec<&Value> =
        all["tokens"].as_array().unwrap().iter().filter(|token| token["ends"] == true).collect();
    assert!(ending.iter().any(|token| token["token"] == "<|im_end|>"), "{ending:?}");
    for (body, param) in [
        (question(json!({ "top": 0 })), "top"),
        (question(json!({ "top": 1_000_000 })), "top"),
        (question(json!({ "prompt": "a" })), "messages"),
        (question(json!({ "stream": true })), "stream"),
        (question(json!({ "logit_bias": { "1": 1 } })), "logit_bias"),
        (question(json!({ "temperature": 3 })), "temperature"),
        (question(json!({ "model": "reward" })), "model"),
        (prompt(json!({ "prompt": ["a", "b"] })), "prompt"),
        (prompt(json!({ "continue_tokens": [1] })), "continue_tokens"),
        (question(json!({ "continue_tokens": [1_000_000] })), "continue_tokens"),
    ] {
        let reply = server.post(DISTRIBUTION, &body);
        assert_eq!((reply.status, &reply.json()["error"]["param"]), (400, &json!(param)), "{}", reply.body);
    }
}

/// The tokens of single bytes.
fn bytes(tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
    let size = tokenizer.vocab_size() as u32;
    let of = |byte: u8| (0..size).find(|&id| tokenizer.token_bytes(id).unwrap() == [byte]).unwrap();
    text.bytes().map(of).collect()
}

#[test]
fn an_answer_goes_on_from_any_of_its_tokens() {
    let server = Server::start(|_| {});
    let how = json!({ "temperature": 0, "max_tokens": 12, "logprobs": true });
    let whole = server.answer(CHAT, &question(how.clone()));
    let entries = whole["choices"][0]["logprobs"]["content"].clone();
    let (drawn, asked) = (ids(&entries), whole["usage"]["prompt_tokens"].as_u64().unwrap());
    for at in [1, 3, 11] {
        let more = json!({ "continue_tokens": drawn[..at], "max_tokens": 12 - at });
        let rest = server.answer(CHAT, &question(with(how.clone(), &more)));
        let told = rest["choices"][0]["logprobs"]["content"].as_array().unwrap();
        assert_eq!(told[..], entries.as_array().unwrap()[at..], "the same tokens to the bit");
        let usage = &rest["usage"];
        assert_eq!(usage["prompt_tokens"], asked + at as u64);
        assert_eq!(usage["prompt_tokens_details"]["cached_tokens"], asked + at as u64 - 1, "one pass");
    }
    // Other tokens with the same text are other tokens, and what is said of the next is the model's own.
    let tokenizer = tokenizer();
    let spelled = bytes(&tokenizer, "text");
    assert_ne!(tokenizer.encode("text"), spelled);
    let more = json!({ "continue_tokens": spelled, "max_tokens": 5, "seed": 2, "temperature": 1 });
    let answer = server.answer(CHAT, &question(with(how.clone(), &more)));
    assert_eq!(answer["usage"]["prompt_tokens"], asked + 4);
    let entries = &answer["choices"][0]["logprobs"]["content"];
    let b = &mut cpu();
    let opened = checkpoint::open(&server.models.path().join("chat"), &Silent).unwrap();
    let weights = opened.weights(checkpoint::to_backend(b, &opened.config)).unwrap();
    let mut engine = Engine::new(b, &opened.config, &weights, 1);
    let prompter = Prompter::new(&tokenizer).unwrap();
    let before = [prompter.prompt(&[Message::new(Role::User, "the cat")]).unwrap(), spelled].concat();
    let own = engine.score_continuations(b, &before, &[&ids(entries)]).unwrap();
    assert_eq!(numbers(entries, "logprob"), own[0].iter().map(|it| it.logprob).collect::<Vec<_>>());
    // A character that they leave unfinished is made whole.
    let [first, second] = bytes(&tokenizer, "é")[..] else { panic!("two bytes") };
    let sure = json!({ second.to_string(): 100 });
    let more = json!({ "continue_tokens": [first], "max_tokens": 1, "logit_bias": sure });
    let answer = server.answer(CHAT, &question(with(how.clone(), &more)));
    assert_eq!(answer["choices"][0]["message"]["content"], "é");
    let streamed = server.stream(CHAT, &question(with(with(how, &more), &json!({ "stream": true }))));
    assert!(streamed.iter().any(|event| event.contains("\"content\":\"é\"")), "{streamed:?}");
    let end = Prompter::new(&tokenizer).unwrap().end_tokens()[0];
    for wrong in [json!([end]), json!([1_000_000]), json!([-1]), json!("x")] {
        let reply = server.post(CHAT, &question(json!({ "continue_tokens": wrong })));
        let param = reply.json()["error"]["param"].as_str().unwrap().to_owned();
        assert_eq!((reply.status, param.starts_with("continue_tokens")), (400, true), "{}", reply.body);
    }
}
