//! What goes wrong outside of the program: each a clear message and exit code.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::workshop::{fails, json, path, road, run, stderr, write_sources};

fn temporary() -> TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

/// Checks that a corpus of one file fails, with a message that contains all of `parts`.
fn corpus_fails(name: &str, bytes: &[u8], parts: &[&str]) {
    let dir = temporary();
    fs::write(dir.path().join(name), bytes).expect("a file");
    let out = path(dir.path(), "out");
    fails(&["corpus", &path(dir.path(), name), "--out", &out], 1, parts);
    assert!(!Path::new(&out).join("report.json").exists(), "a failed corpus must not look complete");
}

#[test]
fn folders_that_are_missing_or_hold_nothing() {
    let dir = temporary();
    let (nowhere, empty, out) =
        (path(dir.path(), "nowhere"), path(dir.path(), "empty"), path(dir.path(), "out"));
    fails(&["corpus", &nowhere, "--out", &out], 1, &["nowhere"]);
    fs::create_dir(&empty).expect("a directory");
    fails(&["corpus", &empty, "--out", &out], 1, &["empty"]);
    fails(
        &["tokenizer", "train", "--corpus", &nowhere, "--vocab-size", "300", "--out", &out],
        1,
        &["nowhere", "mynah corpus"],
    );
    fails(&["tokenize", "--corpus", &nowhere, "--tokenizer", &nowhere, "--out", &out], 1, &["nowhere"]);
    fails(
        &["pretrain", "--data", &nowhere, "--preset", "tiny", "--out", &out],
        1,
        &["nowhere", "mynah tokenize"],
    );
    fails(&["complete", "--model", &nowhere, "x"], 1, &["nowhere"]);
    fails(&["complete", "--model", &empty, "x"], 1, &["empty", "holds no model"]);
    fails(&["show", &nowhere], 1, &["nowhere"]);
    fails(&["report", &empty], 1, &["empty"]);
}

#[test]
fn files_that_hold_no_text() {
    corpus_fails("empty.txt", b"", &["empty"]);
    corpus_fails("program.txt", b"\x7fELF\0\0\0\0binary\0\0", &["binary file"]);
    corpus_fails("noise.py", &[0xff, 0xfe, 0x80, 0x81, b'\n'], &["not UTF-8"]);
}

#[test]
fn a_corrupt_archive() {
    let text = r#"{"content":"def f():\n    return 1\n"}"#.to_string() + "\n";
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(text.repeat(400).as_bytes()).expect("compression");
    let mut bytes = encoder.finish().expect("compression");
    bytes.truncate(bytes.len() / 2);
    corpus_fails("code.jsonl.gz", &bytes, &["gzip", "code.jsonl.gz"]);
    corpus_fails("other.jsonl.gz", b"this is not gzip", &["gzip", "other.jsonl.gz"]);
    corpus_fails("other.jsonl.zst", b"this is not zstd", &["damaged zstd", "other.jsonl.zst"]);
    corpus_fails("other.parquet", b"this is not parquet", &["damaged Parquet", "other.parquet", "PAR1"]);
}

/// More bad records than are allowed stop the build, and the flag that the message names allows more.
#[test]
fn bad_records_are_allowed_by_the_flag_that_is_named() {
    let dir = temporary();
    let good =
        |i: usize| format!("{{\"text\":\"the sentence number {i}\",\"lang\":\"{}\"}}\n", ["en", "de"][i % 2]);
    let lines: String = (0..90).map(good).collect::<String>() + &"{\"text\":\n".repeat(10);
    let file = path(dir.path(), "lines.jsonl");
    fs::write(&file, lines).expect("a file");
    let out = path(dir.path(), "out");
    let corpus = ["corpus", &file, "--out", &out];
    fails(&corpus, 1, &["10 of 100 records are bad, more than 1 %", "lines.jsonl:91", "--max-bad-fraction"]);
    let lenient = [&corpus[..], &["--max-bad-fraction", "0.1", "--where", "lang=EN,fr"]].concat();
    let report = json(&lenient);
    assert_eq!((&report["kept"]["documents"], &report["bad_records"]), (&45.into(), &10.into()));
    assert_eq!(report["dropped"]["filtered"]["count"], 45);
    assert_eq!(report["dropped"]["filtered"]["examples"][0]["detail"], "lang is de");
    fails(&[&corpus[..], &["--where", "lang"]].concat(), 2, &["COLUMN=VALUE"]);
    fails(&[&corpus[..], &["--max-bad-fraction", "2"]].concat(), 2, &["from 0 to 1"]);
}

#[test]
fn torn_lines_of_json() {
    let dir = temporary();
    let good = |i: usize| format!("{{\"content\":\"def f{i}():\\n    return {i}\\n\"}}\n");
    let mut lines: String = (0..300).map(good).collect();
    lines += "{\"content\":\"def torn():\\n   ";
    let file = path(dir.path(), "code.jsonl");
    fs::write(&file, &lines).expect("a file");
    let report = json(&["corpus", &file, "--out", &path(dir.path(), "out")]);
    assert_eq!(report["kept"]["documents"], 300);
    let torn = &report["dropped"]["torn_json"];
    assert_eq!((&torn["count"], &torn["examples"][0]["line"]), (&1.into(), &301.into()));
    assert!(torn["examples"][0]["file"].as_str().is_some_and(|name| name.ends_with("code.jsonl")));

    corpus_fails("torn.jsonl", "{\"content\":\"x\n".repeat(20).as_bytes(), &["torn.jsonl", "JSON"]);
    corpus_fails(
        "columns.jsonl",
        "{\"body\":\"x\"}\n".repeat(20).as_bytes(),
        &["columns.jsonl", "no text column"],
    );
}

#[test]
fn a_tokenizer_that_does_not_fit_the_model() {
    let road = road();
    let (dir, corpus) = (temporary(), road.path("corpus"));
    let larger = path(dir.path(), "larger.json");
    run(&["tokenizer", "train", "--corpus", &corpus, "--vocab-size", "400", "--out", &larger], 0);
    let model = path(dir.path(), "model");
    fs::create_dir(&model).expect("a directory");
    for name in ["config.json", "model.safetensors"] {
        fs::copy(
            format!("{}/checkpoints/step-000040/{name}", road.path("run")),
            path(Path::new(&model), name),
        )
        .expect("a copy");
    }
    fs::copy(&larger, path(Path::new(&model), "tokenizer.json")).expect("a copy");
    fails(&["complete", "--model", &model, "x"], 1, &["the tokenizer has", "the model only 300"]);

    let tokens = path(dir.path(), "tokens");
    run(&["tokenize", "--corpus", &corpus, "--tokenizer", &larger, "--out", &tokens], 0);
    let mut words = road.pretrain("misfit", "20");
    words.extend(["--data".into(), tokens, "--init".into(), road.path("run")]);
    let at = words.iter().position(|word| word == "--data").expect("a flag");
    words.drain(at..at + 2);
    fails(&words.iter().map(String::as_str).collect::<Vec<_>>(), 1, &["another tokenizer", "mynah tokenize"]);
}

#[test]
fn a_tokenizer_that_is_none() {
    let dir = temporary();
    let file = path(dir.path(), "tokenizer.json");
    fs::write(&file, "{\"model\": 1").expect("a file");
    fails(&["tokenizer", "encode", "--tokenizer", &file, "x"], 1, &["tokenizer.json"]);
    fails(
        &["tokenizer", "encode", "--tokenizer", &path(dir.path(), "nowhere.json"), "x"],
        1,
        &["nowhere.json"],
    );
    let (corpus, out) = (road().path("corpus"), path(dir.path(), "out.json"));
    fails(
        &["tokenizer", "train", "--corpus", &corpus, "--vocab-size", "100", "--out", &out],
        1,
        &["100", "at least 257"],
    );
}

#[test]
fn a_damaged_checkpoint_gives_way_to_the_one_before() {
    let copy = road().copy_of_run();
    let model = |step: u64| copy.path().join(format!("checkpoints/step-{step:06}/model.safetensors"));
    let run_dir = copy.path().to_str().expect("text").to_string();
    flip_a_bit(&model(40));
    let arguments = ["complete", "--model", &run_dir, "def", "--max-tokens", "3"];
    let told = stderr(&run(&arguments, 0));
    assert!(
        told.contains("step-000040/model.safetensors") && told.contains("an older one is used"),
        "{told}"
    );
    flip_a_bit(&model(20));
    fails(
        &arguments,
        1,
        &["every checkpoint", "step-000040/model.safetensors", "step-000020/model.safetensors"],
    );
}

fn flip_a_bit(path: &PathBuf) {
    let mut bytes = fs::read(path).expect("a file");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).expect("a file");
}

#[test]
fn damaged_data() {
    let road = road();
    let dir = temporary();
    let tokens = dir.path().join("tokens");
    fs::create_dir(&tokens).expect("a directory");
    for entry in fs::read_dir(road.path("tokens")).expect("a directory") {
        let entry = entry.expect("an entry");
        fs::copy(entry.path(), tokens.join(entry.file_name())).expect("a copy");
    }
    let shard = tokens.join("train-00000.npy");
    let bytes = fs::read(&shard).expect("a shard");
    fs::write(&shard, &bytes[..bytes.len() - 10]).expect("a shard");
    let (tokens, out) = (tokens.to_str().expect("text"), path(dir.path(), "run"));
    fails(&["pretrain", "--data", tokens, "--preset", "tiny", "--out", &out], 1, &["train-00000.npy"]);
    fs::remove_file(Path::new(tokens).join("meta.json")).expect("a file");
    fails(
        &["pretrain", "--data", tokens, "--preset", "tiny", "--out", &out],
        1,
        &["meta.json", "mynah tokenize"],
    );
}

#[cfg(target_os = "linux")]
#[test]
fn a_model_that_memory_lacks_for() {
    let (road, dir) = (road(), temporary());
    let (data, out) = (road.path("tokens"), path(dir.path(), "run"));
    let words =
        ["pretrain", "--data", &data, "--preset", "gpt3-175b", "--batch-tokens", "2048", "--out", &out];
    fails(&words, 1, &["training needs", "GB of memory", "smaller model"]);
    assert!(!Path::new(&out).exists(), "nothing was begun");
}

/// A limit on the size of files stands in for a disk that is full: a write fails in the middle.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk() {
    let road = road();
    let words = road.pretrain("full", "40");
    let limited = |blocks: &str, words: &[String]| {
        Command::new("sh")
            .args(["-c", "trap '' XFSZ; ulimit -f $0; exec \"$@\"", blocks, env!("CARGO_BIN_EXE_mynah")])
            .args(words)
            .output()
            .expect("a shell")
    };
    // Blocks of 512 bytes in some shells, of 1024 in others: 16 or 32 KB, less than a checkpoint and more
    // than a line.
    let output = limited("32", &words);
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("the checkpoint") && told.contains("was not saved"), "{told}");
    let left = fs::read_dir(format!("{}/checkpoints", road.path("full"))).expect("a directory").count();
    assert_eq!(left, 0, "nothing of it is left");
    // There is room again: the same command goes on.
    run(&words.iter().map(String::as_str).collect::<Vec<_>>(), 0);

    let dir = temporary();
    let (sources, out) = (path(dir.path(), "sources"), path(dir.path(), "out"));
    write_sources(Path::new(&sources), 60);
    let output = limited("8", &["corpus", &sources, "--out", &out].map(String::from));
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("error: ") && told.contains("large"), "{told}");
    assert!(!Path::new(&out).join("report.json").exists());
}
