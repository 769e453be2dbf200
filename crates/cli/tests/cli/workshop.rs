//! Calls of the program, and a small road walked once for all tests that need something to stand on.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use assert_cmd::Command;
use assert_cmd::assert::Assert;
use serde_json::Value;
use tempfile::TempDir;

/// `mynah` with `arguments`, not run yet.
pub(crate) fn mynah(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mynah"));
    command.args(arguments).timeout(Duration::from_secs(120)).write_stdin("");
    command
}

/// Runs `mynah` with `arguments` and checks how it ends.
pub(crate) fn run(arguments: &[&str], code: i32) -> Assert {
    let assert = mynah(arguments).assert();
    let shown = format!("mynah {}\n{}", arguments.join(" "), stderr(&assert));
    assert_eq!(assert.get_output().status.code(), Some(code), "{shown}");
    assert!(!shown.contains("panicked"), "{shown}");
    assert
}

/// What stands on standard output after a success.
pub(crate) fn stdout(arguments: &[&str]) -> String {
    String::from_utf8(run(arguments, 0).get_output().stdout.clone()).expect("output is text")
}

/// The one line of JSON on standard output after a success.
pub(crate) fn json(arguments: &[&str]) -> Value {
    let text = stdout(&[arguments, &["--json"]].concat());
    assert_eq!(text.lines().count(), 1, "{text}");
    serde_json::from_str(&text).expect("output is JSON")
}

/// Checks that a call fails with `code` and a message that contains all of `parts`.
pub(crate) fn fails(arguments: &[&str], code: i32, parts: &[&str]) {
    let assert = run(arguments, code);
    let message = stderr(&assert);
    assert!(message.starts_with("error: ") || message.contains("\nerror: "), "{message}");
    assert!(!message.contains("backtrace") && !message.contains("RUST_"), "{message}");
    for part in parts {
        assert!(message.contains(part), "{part:?} is not in: {message}");
    }
}

pub(crate) fn stderr(assert: &Assert) -> String {
    String::from_utf8(assert.get_output().stderr.clone()).expect("messages are text")
}

/// The keys of an object, in order.
pub(crate) fn keys(value: &Value) -> Vec<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

/// Directories of a small road: corpus, tokenizer, tokens, run.
pub(crate) struct Road {
    dir: TempDir,
}

impl Road {
    pub(crate) fn path(&self, name: &str) -> String {
        path(self.dir.path(), name)
    }

    /// The arguments of the training, into the run `name`, for `steps` steps.
    pub(crate) fn pretrain(&self, name: &str, steps: &str) -> Vec<String> {
        let (data, out) = (self.path("tokens"), self.path(name));
        let words = ["pretrain", "--data", &data, "--preset", "tiny", "--out", &out, "--steps", steps];
        let shape = ["n_layer=1", "d_model=16", "seq_len=32", "batch_tokens=128", "warmup_steps=5"];
        let every = ["eval_every=20", "eval_windows=4", "checkpoint_every=20", "sample_every=20"];
        let sets = shape.iter().chain(&every).flat_map(|set| ["--set", set]);
        words.into_iter().chain(sets).map(String::from).collect()
    }

    /// A copy of the trained run, to be damaged.
    pub(crate) fn copy_of_run(&self) -> TempDir {
        let copy = tempfile::tempdir().expect("a temporary directory");
        copy_all(Path::new(&self.path("run")), copy.path());
        copy
    }
}

/// The road, walked by the first who asks.
pub(crate) fn road() -> &'static Road {
    static ROAD: OnceLock<Road> = OnceLock::new();
    ROAD.get_or_init(|| {
        let road = Road { dir: tempfile::tempdir().expect("a temporary directory") };
        let sources = PathBuf::from(road.path("sources"));
        write_sources(&sources, 60);
        run(&["corpus", &road.path("sources"), "--out", &road.path("corpus"), "--val-fraction", "0.1"], 0);
        let (corpus, tokenizer) = (road.path("corpus"), road.path("tokenizer.json"));
        run(&["tokenizer", "train", "--corpus", &corpus, "--vocab-size", "300", "--out", &tokenizer], 0);
        run(&["tokenize", "--corpus", &corpus, "--tokenizer", &tokenizer, "--out", &road.path("tokens")], 0);
        let arguments = road.pretrain("run", "40");
        run(&arguments.iter().map(String::as_str).collect::<Vec<_>>(), 0);
        road
    })
}

/// The road to a chat in small, walked by the first who asks, and what its command printed.
pub(crate) fn chat_road() -> &'static (TempDir, Value) {
    static ROAD: OnceLock<(TempDir, Value)> = OnceLock::new();
    ROAD.get_or_init(|| {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let out = path(dir.path(), "road");
        let result = json(&["speedrun", "--preset", "tiny", "--out", &out, "--no-chat"]);
        (dir, result)
    })
}

/// Small Python files, all different.
pub(crate) fn write_sources(dir: &Path, files: usize) {
    fs::create_dir_all(dir).expect("a directory");
    for i in 0..files {
        let functions: String = (0..8)
            .map(|j| {
                format!("def function_{i}_{j}(x, y):\n    total = x * {j} + y\n    return total - {i}\n\n")
            })
            .collect();
        fs::write(dir.join(format!("module_{i:03}.py")), format!("import numpy as np\n\n\n{functions}"))
            .expect("a file");
    }
}

/// `dir/name` as it is typed.
pub(crate) fn path(dir: &Path, name: &str) -> String {
    dir.join(name).to_str().expect("temporary paths are text").to_string()
}

fn copy_all(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_all(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("a copy");
        }
    }
}
