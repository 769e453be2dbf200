//! What a model's own files say: what ends a text, and how tokens are drawn.
#![allow(clippy::unwrap_used)] // A test that finds no value has failed.

use std::fs;
use std::path::Path;

use gpt::checkpoint::{self, About, Contents, Dtype};
use gpt::model::{Config, specs};
use gpt::progress::Silent;
use gpt::tokenizer::Tokenizer;
use gpt::tokenizer::chat::with_ours;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::workshop::{json, mynah, stderr};

/// A model that writes these tokens, one as likely as another, and no others; `generation` becomes its
/// `generation_config.json`, and `own` fields of its `config.json`.
fn model(says: &[u32], generation: &Value, own: &Value) -> TempDir {
    let special = ["<|im_start|>", "<|im_end|>", "<|eom|>"].map(str::to_owned);
    let texts = ["some words to learn from".to_owned()].map(Ok).into_iter();
    let tokenizer = with_ours(&Tokenizer::train(texts, 300, &special, &Silent).unwrap()).unwrap();
    assert_eq!(tokenizer.special("<|eom|>"), Some(id("<|eom|>")));
    let config = Config::gpt2(tokenizer.vocab_size(), 64, 1, 1, 8);
    // Whatever stands before, the last norm gives its bias, which is the embedding of those tokens.
    let mut weights = specs(&config).map(|spec| vec![0.0; spec.len()]);
    let norm = weights.final_norm.as_mut().unwrap();
    norm.bias.as_mut().unwrap()[0] = 10.0;
    says.iter().for_each(|&token| weights.wte[token as usize * config.d_model] = 10.0);
    let dir = tempfile::tempdir().unwrap();
    let contents = Contents {
        config: &config,
        weights: &weights,
        dtype: Dtype::F32,
        moments: None,
        beside: &[],
        read: &mut checkpoint::from_host,
        eot_token: tokenizer.end_of_text(),
        eos_token: None,
        end_tokens: &[],
        files: &tokenizer.files(),
        about: About { stage: "pretrain".into(), ..About::default() },
    };
    let path = dir.path().join("model");
    checkpoint::save(&path, contents).unwrap();
    // Somebody else's from now on.
    fs::remove_file(path.join("mynah.json")).unwrap();
    fs::write(path.join("generation_config.json"), generation.to_string()).unwrap();
    let mut config: Value = serde_json::from_slice(&fs::read(path.join("config.json")).unwrap()).unwrap();
    config.as_object_mut().unwrap().extend(own.as_object().unwrap().clone());
    fs::write(path.join("config.json"), config.to_string()).unwrap();
    dir
}

fn path(dir: &TempDir, name: &str) -> String {
    dir.path().join(name).to_str().unwrap().to_owned()
}

/// The id of a special token of [`model`].
fn id(name: &str) -> u32 {
    ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|eom|>"]
        .iter()
        .position(|special| *special == name)
        .unwrap() as u32
}

/// The tokens of what `mynah complete` and `mynah chat` write, and why each ended.
fn written(model: &str) -> [(usize, Value); 2] {
    let completed = &json(&["complete", "--model", model, "some", "--max-tokens", "5"])["completions"][0];
    let chat = mynah(&["chat", "--model", model, "--max-tokens", "5", "--json"])
        .write_stdin("some\n")
        .assert()
        .success();
    let said: Value = serde_json::from_slice(&chat.get_output().stdout).unwrap();
    [completed, &said]
        .map(|written| (written["tokens"].as_array().unwrap().len(), written["finish_reason"].clone()))
}

#[test]
fn every_end_token_that_the_files_name_ends_a_text() {
    let (im_end, eom) = (id("<|im_end|>"), id("<|eom|>"));
    let (none, stopped, long) = (json!({}), (0, json!("stop")), (5, json!("length")));
    for (says, generation, own, expected) in [
        ("<|im_end|>", none.clone(), none.clone(), &stopped),
        ("<|eom|>", none.clone(), none.clone(), &long),
        ("<|eom|>", json!({ "eos_token_id": [im_end, 0, eom] }), none.clone(), &stopped),
        ("<|eom|>", json!({ "eos_token_id": eom }), none.clone(), &stopped),
        ("<|eom|>", none.clone(), json!({ "eos_token_id": [im_end, eom] }), &stopped),
        ("<|eom|>", json!({ "eos_token_id": im_end }), json!({ "eos_token_id": eom }), &stopped),
        ("<|eom|>", json!({ "eos_token_id": [im_end, 999] }), none.clone(), &long),
    ] {
        let dir = model(&[id(says)], &generation, &own);
        let model = path(&dir, "model");
        assert_eq!(written(&model), [expected.clone(), expected.clone()], "{says} {generation} {own}");
    }
}

#[test]
fn end_tokens_end_what_else_is_written_and_are_handed_on() {
    let ends = json!({ "eos_token_id": [id("<|im_end|>"), id("<|eom|>")] });
    let dir = model(&[id("<|eom|>")], &ends, &json!({}));
    let [model, prompts, out, task, run] =
        ["model", "prompts.jsonl", "candidates.jsonl", "task.jsonl", "run"].map(|name| path(&dir, name));
    fs::write(&prompts, "{\"prompt\": \"some\"}\n").unwrap();
    json(&[
        "candidates",
        "--model",
        &model,
        "--prompts",
        &prompts,
        "--k",
        "2",
        "--max-tokens",
        "5",
        "--out",
        &out,
    ]);
    let candidates: Value = serde_json::from_str(&fs::read_to_string(&out).unwrap()).unwrap();
    assert_eq!(candidates["completions"], json!(["", ""]));

    fs::write(&task, "{\"prompt\": \"some\", \"answer\": \"words\"}\n".repeat(2)).unwrap();
    for beams in ["1", "3"] {
        let items = path(&dir, &format!("items-{beams}.jsonl"));
        json(&[
            "eval", "--model", &model, "--tasks", &task, "--shots", "0", "--beams", beams, "--out", &items,
        ]);
        let item: Value =
            serde_json::from_str(fs::read_to_string(&items).unwrap().lines().next().unwrap()).unwrap();
        assert_eq!(item["written"], "", "{beams} beams");
    }

    let data = path(&dir, "data.jsonl");
    fs::write(
        &data,
        "{\"prompt\": \"some\", \"completion\": \"words\"}\n{\"prompt\": \"a\", \"completion\": \"b\"}\n",
    )
    .unwrap();
    json(&["sft", "--model", &model, "--data", &data, "--out", &run, "--steps", "1"]);
    let samples = fs::read_dir(Path::new(&run).join("checkpoints")).unwrap().next().unwrap().unwrap().path();
    let generation: Value =
        serde_json::from_slice(&fs::read(samples.join("generation_config.json")).unwrap()).unwrap();
    let ends = generation["eos_token_id"].as_array().unwrap();
    assert!(ends.contains(&json!(id("<|eom|>"))) && ends.contains(&json!(id("<|im_end|>"))), "{generation}");
}

#[test]
fn sampling_is_as_the_files_say_unless_flags_say_otherwise() {
    // At temperature 0 the first of equals is taken, else any.
    let equals: Vec<u32> = (10..20).collect();
    let flat = |generation: Value| model(&equals, &generation, &json!({}));
    let ids = |dir: &TempDir, flags: &[&str]| {
        let model = path(dir, "model");
        let words = [&["complete", "--model", &model, "some"], flags].concat();
        let tokens = json(&words)["completions"][0]["tokens"].as_array().unwrap().clone();
        tokens.iter().map(|id| id.as_u64().unwrap()).collect::<Vec<u64>>()
    };
    let length = ["--max-tokens", "8"];
    let greedy = flat(json!({ "do_sample": false, "temperature": 1.0, "eos_token_id": null }));
    let first = ids(&greedy, &length);
    assert_eq!(first, [10; 8]);
    let drawn = ids(&greedy, &["--max-tokens", "8", "--temperature", "1", "--top-k", "0"]);
    assert!(drawn.iter().any(|&id| id != 10), "{drawn:?}");
    let one = flat(json!({ "top_k": 1, "max_new_tokens": 3 }));
    assert_eq!((ids(&one, &[]), ids(&one, &length)), (vec![10; 3], vec![10; 8]));

    let named = flat(json!({ "repetition_penalty": 1.2, "min_p": 0.1 }));
    let model = path(&named, "model");
    let words = ["complete", "--model", &model, "some", "--max-tokens", "1"];
    let told = stderr(&mynah(&words).assert().success());
    assert_eq!(told.matches("repetition_penalty 1.2, min_p 0.1").count(), 1, "{told}");
}
