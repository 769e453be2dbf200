//! Adapters by the program: trained, gone on with, used beside their base, merged into it; and what is wrong with them
//! is told.

use std::fs;
use std::path::Path;

use serde_json::{Value, json as object};
use tempfile::TempDir;

use super::workshop::{fails, json, keys, path, road, run, stdout};

/// A run that trained an adapter beside the road's model, for the tokens that it was made of.
pub(super) fn adapted(dir: &Path, name: &str, more: &[&str]) -> String {
    let (out, base, tokens) = (path(dir, name), road().path("run"), road().path("tokens"));
    let words =
        ["pretrain", "--data", &tokens, "--init", &base, "--preset", "tiny", "--out", &out, "--steps", "8"];
    let sets = ["batch_tokens=128", "warmup_steps=1", "checkpoint_every=4", "lr=1e-2", "eval_windows=4"];
    let sets = sets.iter().flat_map(|set| ["--set", set]);
    run(&words.into_iter().chain(sets).chain(more.iter().copied()).collect::<Vec<_>>(), 0);
    out
}

fn complete(model: &[&str]) -> String {
    let words = ["def function", "--max-tokens", "24", "--temperature", "1", "--precision", "f32"];
    stdout(&[&["complete"], model, &words[..]].concat())
}

fn checkpoint(run: &str) -> String {
    path(Path::new(run), "checkpoints/step-000008")
}

#[test]
fn an_adapter_is_trained_used_and_merged() {
    let dir = tempfile::tempdir().expect("a directory");
    let base = road().path("run");
    let run_dir = adapted(dir.path(), "adapted", &["--lora", "r=4,alpha=8"]);
    let config =
        fs::read_to_string(path(Path::new(&checkpoint(&run_dir)), "adapter_config.json")).expect("a file");
    let config: Value = serde_json::from_str(&config).expect("JSON");
    assert_eq!(
        (&config["peft_type"], &config["r"], &config["fan_in_fan_out"]),
        (&object!("LORA"), &object!(4), &object!(true))
    );
    assert_eq!(config["target_modules"], object!(["c_attn", "c_proj", "c_fc"]));
    let named = config["base_model_name_or_path"].as_str().expect("a path");
    assert!(Path::new(named).join("config.json").exists(), "{named}");

    // The run alone, beside its base by flag and by name, and merged, are one model; the base is another.
    let alone = complete(&["--model", &run_dir]);
    assert_ne!(alone, complete(&["--model", &base]));
    assert_eq!(alone, complete(&["--model", &base, "--adapter", &run_dir]));
    assert_eq!(alone, complete(&["--model", &format!("{base}+{}", checkpoint(&run_dir))]));
    let merged = path(dir.path(), "merged");
    let written = json(&["merge", "--model", &base, "--adapter", &run_dir, "--out", &merged]);
    assert_eq!(keys(&written), ["model", "bytes", "dtype"]);
    assert_eq!(written["dtype"], "float32");
    assert!(Path::new(&merged).join("model.safetensors").exists());
    assert_eq!(alone, complete(&["--model", &merged]));
    let file = path(dir.path(), "merged.gguf");
    run(&["gguf", "--model", &base, "--adapter", &run_dir, "--out", &file], 0);
    assert_eq!(alone, complete(&["--model", &file]));

    let shown = json(&["show", &run_dir]);
    assert_eq!(
        (&shown["adapter"], &shown["dtype"]),
        (&object!("r=4,alpha=8,dropout=0,targets=c_attn+c_fc+c_proj"), &object!("F32"))
    );

    // Gone on with: from the adapter, not from the base.
    let further = adapted(dir.path(), "further", &["--adapter", &run_dir]);
    assert_ne!(alone, complete(&["--model", &further]));
    let kept =
        fs::read_to_string(path(Path::new(&checkpoint(&further)), "adapter_config.json")).expect("a file");
    assert_eq!(serde_json::from_str::<Value>(&kept).expect("JSON")["r"], 4);
}

/// A run beside a base in blocks is another than one beside the exact base, and goes on as what it is.
#[test]
fn a_base_is_stored_in_blocks() {
    let dir = tempfile::tempdir().expect("a directory");
    let base = road().path("run");
    let exact = adapted(dir.path(), "exact", &["--lora", "r=4"]);
    let stored = adapted(dir.path(), "stored", &["--lora", "r=4", "--base", "nf4"]);
    let files =
        |run: &str| fs::read(path(Path::new(&checkpoint(run)), "adapter_model.safetensors")).expect("a file");
    assert_ne!(files(&exact), files(&stored));
    let recipe = fs::read_to_string(path(Path::new(&stored), "config.toml")).expect("a recipe");
    assert!(recipe.contains("base = \"nf4\""), "{recipe}");
    // The same command goes on, another is another recipe.
    fs::remove_dir_all(checkpoint(&stored)).expect("removed");
    let before = files(&exact);
    assert_eq!(adapted(dir.path(), "stored", &["--lora", "r=4", "--base", "nf4"]), stored);
    let again = adapted(dir.path(), "again", &["--lora", "r=4", "--base", "nf4"]);
    assert_eq!(files(&again), files(&stored), "from the middle, and at once");
    let tokens = road().path("tokens");
    let words = [
        "pretrain", "--data", &tokens, "--init", &base, "--preset", "tiny", "--out", &stored, "--steps", "8",
    ];
    fails(&[&words[..], &["--lora", "r=4", "--base", "q8_0"]].concat(), 1, &["base", "nf4", "q8_0"]);
    assert_eq!(files(&exact), before);
    let planned = |more: &[&str]| {
        let words = ["plan", "--preset", "gpt2", "--lora", "r=8", "--device", "h100"];
        json(&[&words[..], more].concat())["plan"]["memory"]["weights"].as_u64().expect("bytes")
    };
    // 12 blocks of 12 · 768² numbers, of 8.5 bits instead of 32.
    let spared = 12 * 12 * 768 * 768 * 4 - 12 * 12 * 768 * 768 / 32 * 34;
    assert_eq!(planned(&[]) - planned(&["--base", "q8_0"]), spared);
    fails(&["plan", "--preset", "gpt2", "--base", "q8_0"], 2, &["--lora"]);
}

#[test]
fn what_does_not_fit_is_told() {
    let dir = tempfile::tempdir().expect("a directory");
    let (base, out) = (road().path("run"), path(dir.path(), "out"));
    let trained = adapted(dir.path(), "adapted", &["--lora", "r=4"]);
    let with = |adapter: &str, parts: &[&str]| {
        fails(&["complete", "--model", &base, "--adapter", adapter, "x"], 1, parts);
    };
    with(&base, &["is a model and no adapter", "adapter_config.json"]);
    with("nowhere", &["nowhere does not exist"]);
    fails(&["complete", "--adapter", &trained, "x"], 2, &["--model"]);
    fails(&["merge", "--model", &base, "--out", &out], 1, &["there is no adapter", "--adapter"]);
    fails(
        &["merge", "--model", &trained, "--adapter", &trained, "--out", &out],
        1,
        &["with an adapter already"],
    );
    let tokens = road().path("tokens");
    let pretrain = ["pretrain", "--data", &tokens, "--preset", "tiny", "--out", &out];
    let words = |more: &[&str]| {
        pretrain.iter().copied().chain(more.iter().copied()).map(String::from).collect::<Vec<_>>()
    };
    let refused = |more: &[&str], code, parts: &[&str]| {
        let words = words(more);
        fails(&words.iter().map(String::as_str).collect::<Vec<_>>(), code, parts);
    };
    refused(&["--lora", "r=4"], 2, &["--init"]);
    refused(&["--init", &base, "--lora", "rank=4"], 2, &["no key \"rank\""]);
    refused(
        &["--init", &base, "--lora", "targets=q_proj"],
        1,
        &["the model has no q_proj", "c_attn, c_proj, c_fc"],
    );
    refused(
        &["--init", &base, "--lora", "targets=wte"],
        1,
        &["transformer.wte is an end of the model", "one matrix"],
    );
    refused(&["--init", &base, "--lora", "r=8", "--adapter", &trained], 2, &["only dropout"]);
    refused(&["--init", &base, "--base", "q8_0"], 2, &["--base", "--lora or --adapter"]);
    refused(&["--base", "q8_0"], 2, &["--init"]);
    refused(&["--init", &base, "--lora", "r=8", "--base", "q5_0"], 2, &["q8_0, q4_0 and nf4"]);
    refused(&["--init", &trained, "--lora", "r=8"], 1, &["is a model with an adapter", "mynah merge"]);

    // Files that others wrote, one thing of which is wrong.
    let broken = |name: &str, change: &dyn Fn(&mut Value), parts: &[&str]| {
        let place = path(dir.path(), name);
        fs::create_dir(&place).expect("a directory");
        let from = checkpoint(&trained);
        let [config, tensors] = ["adapter_config.json", "adapter_model.safetensors"];
        fs::copy(path(Path::new(&from), tensors), path(Path::new(&place), tensors)).expect("a copy");
        let text = fs::read_to_string(path(Path::new(&from), config)).expect("a file");
        let mut fields: Value = serde_json::from_str(&text).expect("JSON");
        change(&mut fields);
        fs::write(path(Path::new(&place), config), fields.to_string()).expect("a file");
        with(&place, parts);
    };
    let set = |key: &'static str, value: Value| move |fields: &mut Value| fields[key] = value.clone();
    broken("rank", &set("r", object!(8)), &["lora_A.weight has rank 4", "the configuration says 8"]);
    broken("target", &set("target_modules", object!(["c_attn", "up"])), &["the model has no up"]);
    broken(
        "fewer",
        &set("target_modules", object!(["c_attn"])),
        &["stand beside no matrix of this model", "c_proj"],
    );
    broken("bias", &set("bias", object!("all")), &["bias \"all\" is not supported"]);
    broken("kind", &set("peft_type", object!("LOHA")), &["peft_type \"LOHA\" is not supported"]);
    broken(
        "pissa",
        &set("init_lora_weights", object!("pissa_niter_16")),
        &["pissa_niter_16", "base's weights"],
    );
    broken("saved", &set("modules_to_save", object!(["wte"])), &["modules_to_save has \"wte\""]);
    broken("tokens", &set("trainable_token_indices", object!([1])), &["trainable_token_indices is [1]"]);
    broken("dora", &set("use_dora", object!(true)), &["lora_magnitude_vector is missing"]);
}

/// An adapter of another model is told by the base's digest, one of another shape by its tensors.
#[test]
fn adapters_of_another_model_are_refused() {
    let dir: TempDir = tempfile::tempdir().expect("a directory");
    let trained = adapted(dir.path(), "adapted", &["--lora", "r=4"]);
    let mut other = road().pretrain("", "1");
    let at = other.iter().position(|word| word == "--out").expect("a run directory") + 1;
    other[at] = path(dir.path(), "other");
    other.extend(["--seed", "5"].map(String::from));
    run(&other.iter().map(String::as_str).collect::<Vec<_>>(), 0);
    let words = ["complete", "--model", &other[at], "--adapter", &trained, "x"];
    fails(&words, 1, &["it was trained beside", "holds other weights"]);
    // Without our manifest only shapes can tell.
    let [lone, wide] = ["lone", "wide"].map(|name| path(dir.path(), name));
    fs::create_dir(&lone).expect("a directory");
    for name in ["adapter_config.json", "adapter_model.safetensors"] {
        fs::copy(path(Path::new(&checkpoint(&trained)), name), path(Path::new(&lone), name)).expect("a copy");
    }
    other[at].clone_from(&wide);
    other.extend(["--set", "d_model=24"].map(String::from));
    run(&other.iter().map(String::as_str).collect::<Vec<_>>(), 0);
    fails(
        &["complete", "--model", &wide, "--adapter", &lone, "x"],
        1,
        &["has shape", "the configuration asks for"],
    );
}
