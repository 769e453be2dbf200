//! From raw text to completions, and the shapes of JSON that programs read.

use std::fs;
use std::path::Path;

use serde_json::{Value, json as object};

use super::workshop::{fails, json, keys, mynah, path, road, run, stderr, stdout};

#[test]
fn a_corpus_reports_what_it_kept() {
    let report = json(&["show", &road().path("corpus")]);
    assert_eq!(report["kind"], "corpus");
    assert_eq!((&report["files"], &report["kept"]["documents"]), (&object!(60), &object!(60)));
    let [train, val] = ["train", "val"].map(|split| report[split]["documents"].as_u64().expect("a number"));
    assert!(train + val == 60 && (1..=15).contains(&val), "{train} + {val}");
    let page = stdout(&["show", &road().path("corpus")]);
    assert!(page.contains("documents read    60") && page.contains("to validate on"), "{page}");
}

#[test]
fn a_corpus_keeps_only_what_holds_a_keyword() {
    let dir = tempfile::tempdir().expect("a directory");
    let lines = [
        r#"{"content":"import pandas as pd\nprint(pd)"}"#,
        r#"{"content":"import os\nprint(os)"}"#,
        r#"{"content":"import seaborn\nprint(seaborn)"}"#,
    ];
    let (file, out) = (dir.path().join("code.jsonl"), dir.path().join("out"));
    fs::write(&file, lines.join("\n")).expect("a file");
    let keywords = "pandas,sklearn,matplotlib,seaborn";
    let (file, out) = (file.to_str().expect("text"), out.to_str().expect("text"));
    let report = json(&["corpus", file, "--out", out, "--keep-if-contains", keywords, "--val-fraction", "0"]);
    assert_eq!(report["kept"]["documents"], 2);
    assert_eq!(report["dropped"]["no_keyword"]["examples"][0]["line"], 2);
}

#[test]
fn tokens_come_back_as_the_same_bytes() {
    let tokenizer = road().path("tokenizer.json");
    let encoded = json(&["tokenizer", "encode", "--tokenizer", &tokenizer, "def f(x):"]);
    assert_eq!(keys(&encoded), ["ids"]);
    assert!(encoded["ids"].as_array().is_some_and(|ids| !ids.is_empty() && ids.iter().all(Value::is_u64)));

    let bytes = b"def caf\xc3\xa9():\n\t\xe6\x97\xa5\xe6\x9c\xac \xf0\x9f\x99\x82 <|endoftext|>\xff\x00\n";
    let assert =
        mynah(&["tokenizer", "encode", "--tokenizer", &tokenizer, "-"]).write_stdin(bytes).assert().success();
    let ids = assert.get_output().stdout.clone();
    assert!(
        !ids.starts_with(b"0 ") && !String::from_utf8_lossy(&ids).contains(" 0 "),
        "a special token from text"
    );
    let assert =
        mynah(&["tokenizer", "decode", "--tokenizer", &tokenizer, "-"]).write_stdin(ids).assert().success();
    assert_eq!(assert.get_output().stdout, bytes);

    fails(&["tokenizer", "decode", "--tokenizer", &tokenizer, "1 two"], 2, &["two", "not a token id"]);
    fails(&["tokenizer", "decode", "--tokenizer", &tokenizer, "1 999999"], 1, &["999999"]);
}

#[test]
fn a_tokenizer_takes_more_special_tokens() {
    let (road, dir) = (road(), tempfile::tempdir().expect("a directory"));
    let (old, new) = (road.path("tokenizer.json"), path(dir.path(), "tokenizer.json"));
    let extend = ["tokenizer", "extend", "--tokenizer", &old, "--out", &new];
    let made = json(&[&extend[..], &["--special", "<|user|>", "--special", "<|endoftext|>"]].concat());
    let size = made["vocab_size"].as_u64().expect("a number");
    assert_eq!(made["specials"], object!({ "<|endoftext|>": 0, "<|user|>": size - 1 }));
    let encode =
        |tokenizer: &str| stdout(&["tokenizer", "encode", "--tokenizer", tokenizer, "def f(x): <|user|>"]);
    assert_eq!(encode(&old), encode(&new));
    fails(&extend, 2, &["--special"]);
    let (other, short) = (path(dir.path(), "other.json"), ["--special", "a"]);
    let extend = ["tokenizer", "extend", "--tokenizer", &old, "--out", &other];
    fails(&[&extend[..], &short].concat(), 1, &["\"a\" is too short"]);
}

#[test]
fn a_gap_is_filled_by_a_model_that_has_learned_it() {
    let (road, dir) = (road(), tempfile::tempdir().expect("a directory"));
    let [tokenizer, tokens, model] = ["tokenizer.json", "tokens", "run"].map(|name| path(dir.path(), name));
    let (old, corpus) = (road.path("tokenizer.json"), road.path("corpus"));
    let tokenize = ["tokenize", "--corpus", &corpus, "--fim-rate", "0.8", "--out", &tokens, "--tokenizer"];
    fails(&[&tokenize[..], &[&old]].concat(), 1, &["mynah tokenizer extend", "<|fim_middle|>"]);
    fails(
        &["tokenize", "--corpus", &corpus, "--tokenizer", &old, "--out", &tokens, "--spm-rate", "1"],
        2,
        &["--fim-rate"],
    );
    let names = ["--special", "<fim_prefix>", "--special", "<fim_middle>", "--special", "<fim_suffix>"];
    run(&[&["tokenizer", "extend", "--tokenizer", &old, "--out", &tokenizer], &names[..]].concat(), 0);
    let meta = json(&[&tokenize[..], &[&tokenizer]].concat());
    let cut = meta["fim_cut"]["psm_documents"].as_u64().zip(meta["fim_cut"]["spm_documents"].as_u64());
    let (psm, spm) = cut.expect("they are counted");
    let documents = meta["train"]["documents"].as_u64().expect("a number");
    assert!(psm > 0 && spm > 0 && psm + spm <= documents, "{psm} {spm} {documents}");
    assert_eq!(meta["fim"], object!({ "rate": 0.8, "spm_rate": 0.5, "seed": 0 }));
    assert!(stdout(&["show", &tokens]).contains("cut for fill-in-the-middle"));

    let mut pretrain = road.pretrain("", "20");
    (pretrain[2], pretrain[6]) = (tokens, model.clone());
    run(&pretrain.iter().map(String::as_str).collect::<Vec<_>>(), 0);
    let gap = [
        "complete",
        "--model",
        &model,
        "def f(",
        "--suffix",
        "return x",
        "--max-tokens",
        "6",
        "--temperature",
        "0",
    ];
    let filled = json(&gap);
    assert_eq!(keys(&filled), ["prompt", "completions"]);
    // The suffix reaches the model: with another one the likelihoods, hence the draws, are others.
    let drawn = |suffix: &str| {
        let gap = [
            "complete",
            "--model",
            &model,
            "def f(",
            "--suffix",
            suffix,
            "--max-tokens",
            "12",
            "--temperature",
            "1",
        ];
        json(&gap)["completions"][0]["tokens"].clone()
    };
    assert!(["a", "  return x", "\n\nclass A:\n"].map(drawn).windows(2).any(|pair| pair[0] != pair[1]));
    let plain = road.path("run");
    fails(
        &["complete", "--model", &plain, "def f(", "--suffix", ")"],
        1,
        &["no special tokens for fill-in-the-middle"],
    );
}

#[test]
fn a_tokenizer_is_measured() {
    let (tokenizer, corpus) = (road().path("tokenizer.json"), road().path("corpus"));
    let stats = json(&["tokenizer", "show", "--tokenizer", &tokenizer, "--corpus", &corpus]);
    let ratio = stats["bytes_per_token"].as_f64().expect("a number");
    assert!(ratio > 1.2 && ratio < 10.0, "{ratio}");
    let held_out = json(&["show", &corpus])["val"]["documents"].clone();
    assert_eq!(stats["documents"], held_out);
    assert!(
        stdout(&["tokenizer", "show", "--tokenizer", &tokenizer, "--corpus", &corpus])
            .contains("bytes per token")
    );
}

#[test]
fn tokens_lie_in_numpy_arrays() {
    let road = road();
    let meta = json(&["show", &road.path("tokens")]);
    assert_eq!((&meta["kind"], &meta["dtype"]), (&object!("tokens"), &object!("uint16")));
    let shard = fs::read(format!("{}/train-00000.npy", road.path("tokens"))).expect("a shard");
    assert!(shard.starts_with(b"\x93NUMPY"));

    let (corpus, tokenizer, out) = (road.path("corpus"), road.path("tokenizer.json"), road.path("chunks"));
    let chunks = ["tokenize", "--corpus", &corpus, "--tokenizer", &tokenizer, "--out", &out];
    let meta = json(&[&chunks[..], &["--overflow", "chunk", "--context", "32"]].concat());
    let tokens = meta["train"]["tokens"].as_u64().expect("a number");
    assert!(tokens > 0 && tokens.is_multiple_of(32), "only full chunks are kept: {tokens}");
}

#[test]
fn a_run_leaves_what_a_person_looks_for() {
    let run = road().path("run");
    let at = |name: &str| Path::new(&run).join(name);
    let metrics = fs::read_to_string(at("metrics.jsonl")).expect("metrics");
    let lines: Vec<Value> = metrics.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines.len(), 40);
    assert!(keys(&lines[0]).starts_with(&["step", "loss", "lr", "grad_norm", "tokens"]));
    assert!(lines[39]["val_loss"].as_f64() < Some(lines[0]["loss"].as_f64().expect("a loss")));
    assert!(lines[39]["val_bpb"].is_number() && lines[0].get("val_bpb").is_none());
    let checkpoint = at("checkpoints/step-000040");
    for name in ["config.json", "model.safetensors", "tokenizer.json", "mynah.json", "optimizer.safetensors"]
    {
        assert!(checkpoint.join(name).exists(), "{name}");
    }
    assert!(fs::read_to_string(at("report.html")).expect("a page").contains("</html>"));
    fs::remove_file(at("report.html")).expect("the page");
    let again = json(&["report", &run]);
    assert!(again["report"].as_str().is_some_and(|page| Path::new(page).exists()));
}

#[test]
fn a_model_shows_its_shape_and_lineage() {
    let model = json(&["show", &road().path("run")]);
    assert_eq!((&model["kind"], &model["architecture"]), (&object!("model"), &object!("GPT2LMHeadModel")));
    // Embeddings, a block of 12·d² + 13·d, the last norm.
    let vocab_size = model["config"]["vocab_size"].as_u64().expect("a number");
    assert_eq!(model["parameters"], (vocab_size + 32) * 16 + 12 * 256 + 13 * 16 + 32);
    assert_eq!((&model["lineage"]["stage"], &model["lineage"]["step"]), (&object!("pretrain"), &object!(40)));
    let page = stdout(&["show", &road().path("run")]);
    assert!(page.contains("blocks × 1") && page.contains("pretrain, step 40, seed 0"), "{page}");
}

#[test]
fn completions_have_the_shape_that_programs_read() {
    let model = road().path("run");
    let complete = |rest: &[&str]| json(&[&["complete", "--model", &model, "def function"], rest].concat());
    let result = complete(&["--max-tokens", "6", "--temperature", "0"]);
    assert_eq!(keys(&result), ["prompt", "completions"]);
    assert_eq!(result["prompt"], "def function");
    let completion = &result["completions"][0];
    assert_eq!(keys(completion), ["text", "tokens", "finish_reason"]);
    assert_eq!(
        (completion["tokens"].as_array().map(Vec::len), &completion["finish_reason"]),
        (Some(6), &object!("length"))
    );

    let text = completion["text"].as_str().expect("text");
    let streamed =
        stdout(&["complete", "--model", &model, "def function", "--max-tokens", "6", "--temperature", "0"]);
    assert_eq!(streamed, format!("{text}\n"), "what is streamed is what programs read");

    let stop: String = text.chars().skip(2).take(2).collect();
    let stopped = complete(&["--max-tokens", "6", "--temperature", "0", "--stop", &stop]);
    let stopped = &stopped["completions"][0];
    assert_eq!(stopped["finish_reason"], "stop");
    assert_eq!(stopped["text"].as_str(), text.split(&stop).next());

    let draw = |seed| {
        complete(&["--n", "3", "--max-tokens", "12", "--temperature", "2", "--top-k", "0", "--seed", seed])
    };
    let drawn = draw("1");
    assert_eq!(drawn["completions"].as_array().map(Vec::len), Some(3));
    assert_ne!(drawn["completions"][0]["tokens"], drawn["completions"][1]["tokens"]);
    assert_eq!(drawn, draw("1"));
    assert_ne!(drawn, draw("2"));
}

#[test]
fn the_same_command_continues_and_another_is_refused() {
    let road = road();
    let again = road.pretrain("again", "20");
    let words: Vec<&str> = again.iter().map(String::as_str).collect();
    run(&words, 0);
    let metrics = fs::read(format!("{}/metrics.jsonl", road.path("again"))).expect("metrics");
    run(&words, 0);
    assert_eq!(fs::read(format!("{}/metrics.jsonl", road.path("again"))).expect("metrics"), metrics);
    fails(&[&words[..], &["--lr", "0.5"]].concat(), 1, &["different command", "settings.lr: 0.003 → 0.5"]);
    fails(&[&words[..], &["--seed", "7"]].concat(), 1, &["settings.seed: 0 → 7"]);
}

#[test]
fn training_goes_on_from_another_model() {
    let road = road();
    let mut words = road.pretrain("further", "20");
    words.extend(["--init".to_string(), road.path("run")]);
    run(&words.iter().map(String::as_str).collect::<Vec<_>>(), 0);
    let first = |run: &str| -> f64 {
        let metrics = fs::read_to_string(format!("{}/metrics.jsonl", road.path(run))).expect("metrics");
        let line: Value = serde_json::from_str(metrics.lines().next().expect("a line")).expect("JSON");
        line["loss"].as_f64().expect("a loss")
    };
    assert!(first("further") < first("run") - 0.1, "{} {}", first("further"), first("run"));
    let model = json(&["show", &road.path("further")]);
    assert_eq!(model["lineage"]["parent"].as_str(), Some(road.path("run").as_str()));
}

/// Warm-up, stable, decay: the state before the fall stays, and another run ends it in more steps.
#[test]
fn the_stable_part_of_a_run_can_be_ended_at_any_length() {
    let road = road();
    let with = |name: &str, steps: &str, sets: &[&str], more: &[&str]| {
        let mut words = road.pretrain(name, steps);
        words
            .extend(sets.iter().flat_map(|set| ["--set", set]).chain(more.iter().copied()).map(String::from));
        words
    };
    let stable = with("stable", "30", &["keep_last=1", "decay=sqrt", "decay_steps=8", "min_lr_frac=0"], &[]);
    run(&stable.iter().map(String::as_str).collect::<Vec<_>>(), 0);
    let rates = |name: &str| -> Vec<f64> {
        let metrics = fs::read_to_string(format!("{}/metrics.jsonl", road.path(name))).expect("metrics");
        let line =
            |line: &str| serde_json::from_str::<Value>(line).expect("JSON")["lr"].as_f64().expect("a rate");
        metrics.lines().map(line).collect()
    };
    let whole = rates("stable");
    assert!(whole[5..23].iter().all(|rate| *rate == whole[4]), "{whole:?}");
    assert!(whole[23..].windows(2).all(|pair| pair[1] < pair[0]), "{whole:?}");
    let steps: Vec<String> = fs::read_dir(format!("{}/checkpoints", road.path("stable")))
        .expect("checkpoints")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"))
        .filter(|name| name.starts_with("step-"))
        .collect();
    assert!(steps.contains(&"step-000022".into()) && steps.contains(&"step-000030".into()), "{steps:?}");

    let begin = format!("{}/checkpoints/step-000022", road.path("stable"));
    let ended = with(
        "ended",
        "12",
        &["warmup_steps=0", "decay=sqrt", "decay_steps=12", "min_lr_frac=0"],
        &["--init", &begin, "--optimizer", "continued"],
    );
    run(&ended.iter().map(String::as_str).collect::<Vec<_>>(), 0);
    let ends = rates("ended");
    assert_eq!((ends.len(), ends[0]), (12, whole[22]), "it goes on at the whole rate");

    let long = with("long", "30", &["decay_steps=26"], &[]);
    fails(&long.iter().map(String::as_str).collect::<Vec<_>>(), 2, &["decay_steps is 26", "warm-up of 5"]);
}

/// A mixture says how often each part is seen; parts that do not belong together are refused.
#[test]
fn training_mixes_data_by_share() {
    let road = road();
    let (corpus, tokenizer, tokens) = (road.path("corpus"), road.path("tokenizer.json"), road.path("tokens"));
    let (again, chunks) = (road.path("tokens-again"), road.path("tokens-chunks"));
    run(&["tokenize", "--corpus", &corpus, "--tokenizer", &tokenizer, "--out", &again], 0);
    let chunked = ["--context", "32", "--overflow", "chunk"];
    run(
        &[&["tokenize", "--corpus", &corpus, "--tokenizer", &tokenizer, "--out", &chunks][..], &chunked]
            .concat(),
        0,
    );

    let mut words = road.pretrain("mixed", "20");
    let at = words.iter().position(|word| word == "--data").expect("a flag");
    let mut mixed = |mix: &str| -> Vec<String> {
        words.splice(at..at + 2, ["--mix".to_string(), mix.to_string()]);
        words.clone()
    };
    let good = mixed(&format!("{tokens}=3,{again}=1"));
    let result = json(&good.iter().map(String::as_str).collect::<Vec<_>>());
    let number = |part: usize, key: &str| result["data"][part][key].as_f64().expect("a number");
    assert_eq!((number(0, "share"), number(1, "share")), (0.75, 0.25));
    assert!((number(0, "epochs") / number(1, "epochs") - 3.0).abs() < 1e-9);
    let fails_with = |words: Vec<String>, code, parts: &[&str]| {
        fails(&words.iter().map(String::as_str).collect::<Vec<_>>(), code, parts);
    };
    fails_with(mixed(&format!("{tokens}=1,{chunks}=1")), 1, &["--overflow"]);
    fails_with(mixed(&format!("{tokens}=1,{tokens}=1")), 1, &["named twice"]);
    fails_with(mixed(&format!("{tokens}=1,{again}=0")), 2, &["not a positive number"]);
}

/// New special tokens get rows of the embedding, at the mean of the others; the optimizer goes on where it
/// was told to.
#[test]
fn a_vocabulary_grows_and_an_optimizer_goes_on() {
    let road = road();
    let mut words = road.pretrain("grown", "3");
    let init = road.path("run");
    words.extend(
        ["--init", &init, "--special", "<|fim_middle|>", "--optimizer", "continued"].map(String::from),
    );
    run(&words.iter().map(String::as_str).collect::<Vec<_>>(), 0);
    let (before, after) = (json(&["show", &road.path("run")]), json(&["show", &road.path("grown")]));
    let size = |model: &Value| model["config"]["vocab_size"].as_u64().expect("a size");
    assert_eq!(size(&after), size(&before) + 1);
    assert_eq!(after["tokenizer"]["vocab_size"].as_u64(), Some(size(&after)));
    let updates = |model: &Value| model["lineage"]["updates"].as_u64().expect("a count");
    assert_eq!(updates(&after), updates(&before) + 3);
    json(&["complete", "--model", &road.path("grown"), "x", "--max-tokens", "2"]);

    let mut words = road.pretrain("other-shape", "3");
    words.extend(["--init", &init, "--set", "n_layer=2"].map(String::from));
    fails(&words.iter().map(String::as_str).collect::<Vec<_>>(), 2, &["n_layer = 2 cannot be"]);
}

#[test]
fn words_for_people_stay_off_standard_output() {
    let road = road();
    let words = road.pretrain("words", "20");
    let assert = run(&words.iter().map(String::as_str).collect::<Vec<_>>(), 0);
    assert!(assert.get_output().stdout.is_empty());
    let told = stderr(&assert);
    assert!(
        told.contains("step 20/20") && told.contains("validation") && told.contains("report.html"),
        "{told}"
    );
}
