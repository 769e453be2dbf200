//! GGUF files: written from a run, and taken wherever a model is.

use std::fs;
use std::path::Path;

use serde_json::json as object;

use super::workshop::{fails, json, keys, path, road, run, stderr, stdout};

fn complete(model: &str) -> String {
    let words = ["complete", "--model", model, "def function", "--max-tokens", "12", "--temperature", "0"];
    stdout(&[&words[..], &["--precision", "f32"]].concat())
}

#[test]
fn a_model_goes_to_gguf_and_comes_back() {
    let (road, dir) = (road(), tempfile::tempdir().expect("a directory"));
    let (model, file) = (road.path("run"), path(dir.path(), "deep/code.gguf"));
    let written = json(&["gguf", "--model", &model, "--out", &file]);
    assert_eq!(keys(&written), ["file", "architecture", "bytes", "tensors"]);
    assert_eq!((&written["architecture"], &written["tensors"]), (&object!("gpt2"), &object!({ "F32": 16 })));
    assert_eq!(written["bytes"], fs::metadata(&file).expect("the file").len());
    assert_eq!(complete(&file), complete(&model));

    let shown = json(&["show", &file]);
    let directory = json(&["show", &model]);
    for key in ["kind", "architecture", "parameters", "config"] {
        assert_eq!(shown[key], directory[key], "{key}");
    }
    assert_eq!(shown["tokenizer"]["vocab_size"], directory["tokenizer"]["vocab_size"]);
    assert!(stdout(&["show", &file]).contains("stored as   F32"));

    // What is there is not overwritten, unless that is asked for, and from file to file nothing changes.
    assert!(stderr(&run(&["gguf", "--model", &model, "--out", &file], 0)).contains("complete already"));
    let half = ["gguf", "--model", &model, "--out", &file, "--quant", "f16"];
    fails(&half, 1, &["code.gguf is there already", "--force"]);
    let again = path(dir.path(), "again.gguf");
    run(&["gguf", "--model", &file, "--out", &again], 0);
    assert_eq!(complete(&again), complete(&model));

    // Training goes on from the file as it does from the directory.
    let metrics = ["from-directory", "from-gguf"].map(|name| {
        let mut words = road.pretrain(name, "5");
        words.extend(["--init".to_string(), if name == "from-gguf" { file.clone() } else { model.clone() }]);
        run(&words.iter().map(String::as_str).collect::<Vec<_>>(), 0);
        fs::read_to_string(format!("{}/metrics.jsonl", road.path(name))).expect("metrics")
    });
    assert_eq!(metrics[0], metrics[1]);
}

#[test]
fn denser_formats_are_smaller_and_say_what_they_hold() {
    let (road, dir) = (road(), tempfile::tempdir().expect("a directory"));
    let model = road.path("run");
    let [half, small] = ["half.gguf", "small.gguf"].map(|name| path(dir.path(), name));
    let told = stderr(&run(&["gguf", "--model", &model, "--out", &half, "--quant", "f16"], 0));
    assert!(
        told.contains("gpt2, ") && told.contains("5 F16, 11 F32") && told.contains("half.gguf"),
        "{told}"
    );
    // Rows of 16 are no whole blocks; of the last matrix, 64, they are.
    let written = json(&["gguf", "--model", &model, "--out", &small, "--quant", "q8_0"]);
    assert_eq!(written["tensors"], object!({ "F16": 4, "F32": 11, "Q8_0": 1 }));
    assert!(json(&["show", &small])["dtype"] == "F16, F32, Q8_0");
    assert!(!complete(&small).is_empty() && !complete(&half).is_empty());
    let smaller = path(dir.path(), "smaller.gguf");
    let written = json(&["gguf", "--model", &model, "--out", &smaller, "--quant", "q4_0"]);
    assert_eq!(written["tensors"], object!({ "F16": 4, "F32": 11, "Q4_0": 1 }));
    assert!(!complete(&smaller).is_empty());
    let refused = path(dir.path(), "refused.gguf");
    fails(&["gguf", "--model", &model, "--out", &refused, "--quant", "q4_k"], 2, &["q8_0", "q4_0"]);
}

/// How weights are stored while text is written: as asked for, or as the file has them, whose blocks give the bits
/// of their numbers.
#[test]
fn weights_are_stored_as_asked_for_or_as_in_the_file() {
    let (road, dir) = (road(), tempfile::tempdir().expect("a directory"));
    let (model, small) = (road.path("run"), path(dir.path(), "small.gguf"));
    run(&["gguf", "--model", &model, "--out", &small, "--quant", "q8_0"], 0);
    let said = |model: &str, more: &[&str]| {
        let words =
            ["complete", "--model", model, "def function", "--max-tokens", "24", "--temperature", "1"];
        stdout(&[&words[..], more].concat())
    };
    let exact = said(&model, &["--precision", "f32"]);
    assert_eq!(said(&model, &["--weights", "f32"]), exact);
    assert_eq!(said(&model, &["--weights", "bf16"]), said(&model, &["--precision", "bf16"]));
    assert_eq!(said(&small, &["--precision", "f32"]), said(&small, &["--weights", "f32"]));
    // Whatever the machine measures as the faster, blocks are read exactly where nothing else is asked for.
    assert_eq!(said(&small, &[]), said(&small, &["--weights", "f32"]));
    let threads = |n| said(&model, &["--weights", "q4_0", "--threads", n]);
    assert_eq!(threads("1"), threads("3"));
    let complete = ["complete", "--model", &model, "x"];
    for more in [["--weights", "f32", "--precision", "bf16"], ["--weights", "bf16", "--precision", "f32"]] {
        fails(
            &[&complete[..], &more].concat(),
            2,
            &["--weights and --precision", "leave one of the two out"],
        );
    }
    fails(&[&complete[..], &["--weights", "nf4"]].concat(), 2, &["f32, bf16, q8_0, q4_0"]);

    // What decides a file's items is kept with it.
    let (text, items) = (path(dir.path(), "text.txt"), path(dir.path(), "items.jsonl"));
    fs::write(&text, "def function(x):\n    return x\n".repeat(20)).expect("a file");
    let words = ["eval", "--model", &model, "--tasks", &text, "--out", &items, "--weights"];
    let bits = |weights: &str| json(&[&words[..5], &["--weights", weights]].concat());
    assert_eq!(bits("f32"), json(&words[..5]));
    assert_ne!(bits("q4_0"), bits("f32"));
    run(&[&words[..], &["q8_0"]].concat(), 0);
    fails(&[&words[..], &["q4_0"]].concat(), 1, &["items.jsonl", "weights"]);
}

#[test]
fn what_gguf_cannot_hold_is_refused() {
    let (road, dir) = (road(), tempfile::tempdir().expect("a directory"));
    let out = path(dir.path(), "out.gguf");
    let mut words = road.pretrain("post-norm", "20");
    words.extend(["--set", "family=gpt1"].map(String::from));
    run(&words.iter().map(String::as_str).collect::<Vec<_>>(), 0);
    let model = road.path("post-norm");
    let families = ["out.gguf cannot be written", "GPT-2, Llama, Qwen2 and Qwen3", "GPT-1 (norms after"];
    fails(&["gguf", "--model", &model, "--out", &out], 1, &families);

    let speechless = dir.path().join("speechless");
    fs::create_dir(&speechless).expect("a directory");
    for name in ["config.json", "model.safetensors"] {
        let from = format!("{}/checkpoints/step-000040/{name}", road.path("run"));
        fs::copy(from, speechless.join(name)).expect("a copy");
    }
    let model = path(dir.path(), "speechless");
    fails(&["gguf", "--model", &model, "--out", &out], 1, &["speechless has no tokenizer"]);
    assert!(!Path::new(&out).exists());

    let cut = path(dir.path(), "cut.gguf");
    run(&["gguf", "--model", &road.path("run"), "--out", &cut], 0);
    let bytes = fs::read(&cut).expect("the file");
    fs::write(&cut, &bytes[..bytes.len() / 2]).expect("a file");
    fails(&["show", &cut], 1, &["cut.gguf", "cut off: the tensor"]);
    fails(&["complete", "--model", &cut, "x"], 1, &["cut.gguf", "beyond the file's end"]);
}

/// SentencePiece vocabularies are not read; the model is.
#[test]
fn a_model_shows_without_a_tokenizer_that_can_be_read() {
    let (road, dir) = (road(), tempfile::tempdir().expect("a directory"));
    let file = path(dir.path(), "other.gguf");
    run(&["gguf", "--model", &road.path("run"), "--out", &file], 0);
    let mut bytes = fs::read(&file).expect("the file");
    // The value of tokenizer.ggml.model, behind its key, its type and its length.
    let key = b"tokenizer.ggml.model";
    let at = bytes.windows(key.len()).position(|window| window == key).expect("the key") + key.len() + 4 + 8;
    assert_eq!(&bytes[at..at + 4], b"gpt2");
    bytes[at..at + 4].copy_from_slice(b"bert");
    fs::write(&file, bytes).expect("a file");
    let assert = run(&["show", &file], 0);
    let page = String::from_utf8_lossy(&assert.get_output().stdout).into_owned();
    assert!(page.contains("there, but not readable") && page.contains("blocks × 1"), "{page}");
    assert!(stderr(&assert).contains("\"bert\" is not supported"), "{}", stderr(&assert));
    assert_eq!(json(&["show", &file])["tokenizer"], object!(null));
    fails(&["complete", "--model", &file, "x"], 1, &["other.gguf", "\"bert\" is not supported"]);
}
