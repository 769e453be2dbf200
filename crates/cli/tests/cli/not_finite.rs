//! Models with numbers that are none: no verb gives a figure, a text, an export or success from them.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json as object};
use tempfile::TempDir;

use super::workshop::{chat_road, fails, json, mynah, path, run, stderr};

/// What is wrong with a model.
#[derive(Clone, Copy)]
enum Spoilt {
    /// A number that is none, somewhere in a tensor.
    With(f32),
    /// All of a tensor is as large as can be: finite, but not what is computed from it.
    Overflows,
}

/// A place with models that were spoilt.
struct Place {
    dir: TempDir,
}

impl Place {
    fn new() -> Self {
        Place { dir: tempfile::tempdir().expect("a directory") }
    }

    fn path(&self, name: &str) -> String {
        path(self.dir.path(), name)
    }

    fn file(&self, name: &str, lines: &[Value]) -> String {
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        fs::write(self.dir.path().join(name), text).expect("a file");
        self.path(name)
    }

    /// The model of a run as a directory of somebody else, spoilt at a tensor.
    fn spoilt(&self, run: &Path, tensor: &str, how: Spoilt) -> String {
        let name =
            format!("{}-{}-{}", run.display(), tensor, fs::read_dir(self.dir.path()).expect("it").count());
        let to = self.dir.path().join(name.replace(['/', '.'], "_"));
        fs::create_dir(&to).expect("a directory");
        for entry in fs::read_dir(newest(run)).expect("a checkpoint") {
            let from = entry.expect("an entry").path();
            let name = from.file_name().expect("a name").to_owned();
            if name != "mynah.json" && name != "optimizer.safetensors" && name != "value.safetensors" {
                fs::copy(&from, to.join(name)).expect("a copy");
            }
        }
        spoil(&to.join("model.safetensors"), tensor, how);
        to.to_str().expect("text").to_owned()
    }
}

/// The last checkpoint of a run.
fn newest(run: &Path) -> PathBuf {
    let entries = fs::read_dir(run.join("checkpoints")).expect("a run");
    entries.map(|entry| entry.expect("an entry").path()).max().expect("a checkpoint")
}

fn spoil(file: &Path, tensor: &str, how: Spoilt) {
    let mut bytes = fs::read(file).expect("a file");
    let start = 8 + u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes")) as usize;
    let header: Value = serde_json::from_slice(&bytes[8..start]).expect("a header");
    let at = |i: usize| start + header[tensor]["data_offsets"][i].as_u64().expect("the tensor") as usize;
    let values = bytes[at(0)..at(1)].chunks_exact_mut(4);
    match how {
        Spoilt::With(value) => values.last().expect("a value").copy_from_slice(&value.to_le_bytes()),
        Spoilt::Overflows => values.for_each(|x| x.copy_from_slice(&f32::MAX.to_le_bytes())),
    }
    fs::write(file, bytes).expect("a file");
}

fn at(name: &str) -> PathBuf {
    chat_road().0.path().join("road").join(name)
}

/// Fails, says all of `parts`, prints nothing that could be taken for a result, and leaves `out` empty.
fn refuses(arguments: &[&str], parts: &[&str], out: Option<&str>) {
    let assert = run(arguments, 1);
    let (message, printed) = (stderr(&assert), assert.get_output().stdout.clone());
    for part in parts {
        assert!(message.contains(part), "{part:?} is not in: {message}");
    }
    assert!(printed.is_empty(), "{arguments:?}: {}", String::from_utf8_lossy(&printed));
    let checkpoints = out.map(|out| Path::new(out).join("checkpoints"));
    assert!(
        checkpoints.is_none_or(|dir| !dir.exists() || fs::read_dir(dir).expect("a directory").count() == 0),
        "{arguments:?}"
    );
    assert!(out.is_none_or(|out| !Path::new(out).is_file()), "{arguments:?} wrote a file");
}

/// Every verb that reads a language model, on one that is spoilt.
fn every_verb_refuses(place: &Place, model: &str, parts: &[&str]) {
    let choice = place.file(
        "choice.jsonl",
        &[object!({ "question": "two and two?", "answers": ["four", "five"], "label": 0 })],
    );
    let free = place.file("free.jsonl", &[object!({ "prompt": "two and two?", "answer": "four" })]);
    let text = place.file("text.jsonl", &[object!({ "text": "two and two are four" })]);
    for task in [&choice, &free, &text] {
        let out = place.path("items.jsonl");
        refuses(&["eval", "--model", model, "--tasks", task, "--json", "--out", &out], parts, Some(&out));
    }
    refuses(&["complete", "--model", model, "two and", "--json"], parts, None);
    refuses(&["complete", "--model", model, "two and", "--temperature", "0"], parts, None);
    let [prompts, rankings] = ["lessons/prompts.jsonl", "rankings.jsonl"].map(at);
    let [prompts, rankings] = [&prompts, &rankings].map(|path| path.to_str().expect("text"));
    let out = place.path("candidates.jsonl");
    let words = [
        "candidates",
        "--model",
        model,
        "--prompts",
        prompts,
        "--k",
        "2",
        "--max-tokens",
        "4",
        "--out",
        &out,
    ];
    refuses(&words, parts, Some(&out));
    let chat = mynah(&["chat", "--model", model, "--json"]).write_stdin("hello\n").assert();
    assert!(chat.get_output().stdout.is_empty() && chat.get_output().status.code() == Some(1));
    for (number, stage) in ["reward", "dpo"].into_iter().enumerate() {
        let out = place.path(&format!("{stage}-{number}-{}", model.len()));
        let words = [stage, "--model", model, "--rankings", rankings, "--out", &out, "--steps", "2"];
        refuses(&words, parts, Some(&out));
    }
    let (demonstrations, labelled) =
        (at("lessons/demonstrations.jsonl"), place.file("labelled.jsonl", &labelled()));
    let demonstrations = demonstrations.to_str().expect("text");
    let out = place.path("trained");
    refuses(
        &["sft", "--model", model, "--data", demonstrations, "--out", &out, "--steps", "2"],
        parts,
        Some(&out),
    );
    let reward = at("reward");
    let out = place.path("improved");
    let words = ["ppo", "--model", model, "--reward", reward.to_str().expect("text"), "--prompts", prompts];
    let sets = ["batch_size=4", "max_tokens=4", "eval_prompts=4"].iter().flat_map(|set| ["--set", set]);
    let sets: Vec<&str> = sets.collect();
    refuses(&[&words[..], &["--out", &out, "--steps", "2"], &sets].concat(), parts, Some(&out));
    let out = place.path("tuned");
    let words =
        ["finetune", "--model", model, "--task", "classification", "--train", &labelled, "--out", &out];
    refuses(&[&words[..], &["--steps", "2"]].concat(), parts, Some(&out));
}

fn labelled() -> Vec<Value> {
    let line = |i: usize| object!({ "text": format!("day {i}"), "label": (["good", "bad"][i % 2]) });
    (0..40).map(line).collect()
}

#[test]
fn numbers_that_are_none_are_named_by_every_verb() {
    let place = Place::new();
    let sft = at("sft");
    let tensors = tensors(&sft);
    // One of each kind of tensor, and one of each kind of number.
    let kinds = ["wte", "ln_1.weight", "c_attn.weight", "mlp.c_proj.weight", "ln_f.weight"];
    for (kind, bad) in
        kinds.into_iter().zip([f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, f32::INFINITY])
    {
        let tensor =
            tensors.iter().find(|name| name.contains(kind)).unwrap_or_else(|| panic!("{kind}: {tensors:?}"));
        let model = place.spoilt(&sft, tensor, Spoilt::With(bad));
        let parts = [tensor.as_str(), &format!("not finite ({bad}"), "model.safetensors"];
        refuses(&["complete", "--model", &model, "two and", "--json"], &parts, None);
        let out = place.path("out.gguf");
        refuses(&["gguf", "--model", &model, "--out", &out], &parts, Some(&out));
        let shown = json(&["show", &model]);
        assert_eq!(shown["not_finite"].as_array().map(Vec::len), Some(1), "{shown}");
        assert!(shown["not_finite"][0].as_str().is_some_and(|one| one.contains(tensor.as_str())), "{shown}");
        if kind == "ln_f.weight" {
            every_verb_refuses(&place, &model, &parts);
        }
    }
    assert_eq!(json(&["show", sft.to_str().expect("text")])["not_finite"], object!([]));

    let model = place.spoilt(&at("pretrain"), "transformer.ln_f.weight", Spoilt::With(f32::NAN));
    let (tokens, out) = (at("tokens"), place.path("further"));
    let tokens = tokens.to_str().expect("text");
    let words = ["pretrain", "--init", &model, "--data", tokens, "--out", &out, "--steps", "2"];
    let sets = ["--set", "batch_tokens=256", "--set", "seq_len=64"];
    refuses(&[&words[..], &sets].concat(), &["transformer.ln_f.weight", "not finite (NaN"], Some(&out));
}

#[test]
fn numbers_that_overflow_are_no_result_of_any_verb() {
    let place = Place::new();
    let sft = at("sft");
    // Of the last norm the logits overflow, of an embedding the first norm.
    let tensors = tensors(&sft);
    let norm = tensors.iter().find(|name| name.contains("ln_f.weight")).expect("a norm");
    every_verb_refuses(&place, &place.spoilt(&sft, norm, Spoilt::Overflows), &["finite"]);
    let embedding = tensors.iter().find(|name| name.contains("wte")).expect("an embedding");
    let model = place.spoilt(&sft, embedding, Spoilt::Overflows);
    refuses(&["complete", "--model", &model, "two and"], &["logits are not finite"], None);
    for precision in ["f32", "bf16"] {
        let words = ["complete", "--model", &model, "two and", "--precision", precision];
        refuses(&words, &["logits are not finite"], None);
    }
}

#[test]
fn models_that_score_give_numbers_only() {
    let place = Place::new();
    let reward = at("reward");
    let candidates = fs::read_to_string(at("candidates.jsonl")).expect("candidates");
    let first = candidates.lines().next().expect("a line").parse::<Value>().expect("JSON");
    let candidates = &place.file("candidates.jsonl", &[first]);
    let model = place.spoilt(&reward, "score.weight", Spoilt::With(f32::NAN));
    let score = |model: &str, parts: &[&str]| {
        refuses(&["score", "--model", model, "--data", candidates, "--json"], parts, None);
    };
    score(&model, &["score.weight is not finite (NaN"]);
    let model = place.spoilt(&reward, "score.weight", Spoilt::Overflows);
    score(&model, &["item 1: the reward of answer 1 is"]);

    let (labelled, out) = (place.file("labelled.jsonl", &labelled()), place.path("classifier"));
    let base = at("pretrain");
    let words = ["finetune", "--model", base.to_str().expect("text"), "--task", "classification"];
    run(&[&words[..], &["--train", &labelled, "--out", &out, "--steps", "2"]].concat(), 0);
    // A classifier is one by its manifest, which vouches for every byte: what overflows is found by what it says.
    let weights = newest(Path::new(&out)).join("model.safetensors");
    spoil(&weights, "score.weight", Spoilt::Overflows);
    fails(&["classify", "--model", &out, "a day"], 1, &["damaged"]);
}

/// The names of a model's tensors.
fn tensors(run: &Path) -> Vec<String> {
    let bytes = fs::read(newest(run).join("model.safetensors")).expect("a model");
    let start = 8 + u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes")) as usize;
    let header: Value = serde_json::from_slice(&bytes[8..start]).expect("a header");
    header.as_object().expect("an object").keys().cloned().collect()
}

/// Half precision ends at 65,504: a larger number would become infinite.
#[test]
fn what_half_precision_cannot_hold_is_refused() {
    let place = Place::new();
    let sft = at("sft");
    let tensors = tensors(&sft);
    let tensor = tensors.iter().find(|name| name.contains("mlp.c_proj.weight")).expect("a matrix");
    let model = place.spoilt(&sft, tensor, Spoilt::With(1e6));
    let out = place.path("half.gguf");
    refuses(
        &["gguf", "--model", &model, "--out", &out, "--quant", "f16"],
        &["1e6, which float16 cannot", "--quant"],
        Some(&out),
    );
    run(&["gguf", "--model", &model, "--out", &out], 0);
    let demonstrations = at("lessons/demonstrations.jsonl");
    let run = place.path("half");
    let words = ["sft", "--model", &model, "--data", demonstrations.to_str().expect("text"), "--out", &run];
    let options = ["--steps", "1", "--lr", "1e-9", "--dtype", "f16"];
    refuses(&[&words[..], &options].concat(), &[tensor, "which float16 cannot", "--dtype"], Some(&run));
}

/// A learning rate that no training survives: it fails, says where and what to change, and keeps nothing bad.
#[test]
fn a_training_that_explodes_fails_and_keeps_what_was_good() {
    let place = Place::new();
    let (tokens, out) = (at("tokens"), place.path("run"));
    let words = [
        "pretrain",
        "--data",
        tokens.to_str().expect("text"),
        "--preset",
        "tiny",
        "--out",
        &out,
        "--lr",
        "1e9",
    ];
    for _ in 0..2 {
        // The same again, from what the first left.
        let words = [&words[..], &["--steps", "3"]].concat();
        refuses(&words, &["training failed at step 3", "--lr, here 1e9", "--set warmup_steps"], Some(&out));
    }
    let page = fs::read_to_string(Path::new(&out).join("report.html")).expect("a page");
    assert!(page.contains("failed at step 3"));
    fails(&["complete", "--model", &out, "x"], 1, &["is a run without a good checkpoint"]);
    let run_json = fs::read_to_string(Path::new(&out).join("metrics.jsonl")).expect("metrics");
    assert!(run_json.contains("\"exploded\":true"), "{run_json}");
}
