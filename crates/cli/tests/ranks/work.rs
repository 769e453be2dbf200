//! What the processes are given to do, and what came of it.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use tempfile::TempDir;

/// Tokens, demonstrations and rankings, made once.
pub(crate) struct Work {
    dir: TempDir,
}

/// The work of all tests.
pub(crate) fn work() -> &'static Work {
    static WORK: OnceLock<Work> = OnceLock::new();
    WORK.get_or_init(|| {
        let work = Work { dir: tempfile::tempdir().expect("a directory can be made") };
        let (mut text, mut demonstrations) = (String::new(), String::new());
        let (mut rankings, mut judged) = (String::new(), String::new());
        for number in 0..400 {
            let (a, b) = (number * 7 % 10, number * 13 % 9);
            let _ = writeln!(text, "{{\"text\": \"{a} and {b} are {} in all, and {a} comes first.\"}}", a + b);
            if number < 60 {
                let (asked, right) = (format!("{a} + {b}?"), a + b);
                let messages =
                    format!("[{{\"role\": \"user\", \"content\": \"{asked}\"}}, {{\"role\": \"assistant\", \"content\": \"{right}.\"}}]");
                let _ = writeln!(demonstrations, "{{\"messages\": {messages}}}");
                let _ = writeln!(
                    rankings,
                    "{{\"prompt\": \"{asked}\", \"chosen\": \"{right}.\", \"rejected\": \"{}!\"}}",
                    right + 1 + number % 3
                );
            }
        }
        for number in 0..60 {
            let (a, b) = (number * 7 % 10, number * 13 % 9);
            let said = a + b + number % 2;
            let label = number % 2 == 0;
            let _ = writeln!(
                judged,
                "{{\"prompt\": \"{a} + {b}?\", \"completion\": \"{said}.\", \"label\": {label}}}"
            );
        }
        let files = [("judged", judged), ("text", text), ("demonstrations", demonstrations), ("rankings", rankings)];
        for (name, lines) in files {
            fs::write(work.dir.path().join(format!("{name}.jsonl")), lines).expect("a file can be written");
        }
        let at = |name: &str| work.path(name);
        alone(&words(&["corpus", &at("text.jsonl"), "--text-field", "text", "--no-dedup", "--out", &at("corpus")]));
        let tokenizer = ["tokenizer", "train", "--corpus", &at("corpus"), "--vocab-size", "300", "--out"];
        alone(&words(&[&tokenizer[..], &[&at("tokenizer.json")]].concat()));
        let tokens = ["tokenize", "--corpus", &at("corpus"), "--tokenizer", &at("tokenizer.json"), "--out"];
        alone(&words(&[&tokens[..], &[&at("tokens")]].concat()));
        work
    })
}

pub(crate) fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// Runs the program as one process without a launcher; it succeeds.
pub(crate) fn alone(arguments: &[String]) {
    let ended =
        Command::new(env!("CARGO_BIN_EXE_mynah")).args(arguments).output().expect("the program starts");
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(ended.status.success(), "{arguments:?}: {said}");
}

impl Work {
    pub(crate) fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    /// Pretraining into the run `name`, which checks and saves its state every few steps.
    pub(crate) fn pretrain(&self, name: &str, steps: usize) -> Vec<String> {
        let (tokens, steps) = (self.path("tokens"), steps.to_string());
        let recipe = ["eval_every=5", "checkpoint_every=5", "sample_every=10", "dropout=0.1", "keep_last=3"];
        self.training(name, &["pretrain", "--data", &tokens, "--preset", "tiny", "--steps", &steps], &recipe)
    }

    /// A few steps of a later stage of `model` into the run `name`.
    pub(crate) fn stage(&self, name: &str, stage: &str, model: &str) -> Vec<String> {
        let (model, rankings) = (self.path(model), self.path("rankings.jsonl"));
        let judged = self.path("judged.jsonl");
        let (demonstrations, tokens) =
            (self.path("demonstrations.jsonl"), format!("{}=1", self.path("tokens")));
        let data = match stage {
            "sft" => vec!["--data", &demonstrations, "--ptx", &tokens, "--set", "ptx_share=0.3"],
            "kto" => vec!["--data", &judged],
            _ => vec!["--rankings", &rankings],
        };
        let verb = [&[stage, "--model", &model, "--steps", "6"][..], &data].concat();
        self.training(name, &verb, &["eval_every=3", "dropout=0.1", "batch_size=6"])
    }

    fn training(&self, name: &str, verb: &[&str], recipe: &[&str]) -> Vec<String> {
        let out = self.path(name);
        let usual = ["--out", &out, "--seed", "3", "--threads", "1"];
        let recipe = recipe.iter().flat_map(|change| ["--set", change]).collect::<Vec<_>>();
        words(&[verb, &usual, &recipe].concat())
    }

    /// The journal of a run's steps.
    pub(crate) fn metrics(&self, name: &str) -> PathBuf {
        self.dir.path().join(name).join("metrics.jsonl")
    }

    /// What a run must be to the byte, whoever did it: names and contents of its reproducible files.
    pub(crate) fn result(&self, name: &str) -> Vec<(String, Vec<u8>)> {
        let run = self.dir.path().join(name);
        let mut files = Vec::new();
        for name in ["metrics.jsonl", "samples.jsonl"] {
            files.push((name.to_owned(), fs::read(run.join(name)).expect("a run has it")));
        }
        let checkpoints = run.join("checkpoints");
        for step in sorted(&checkpoints) {
            for file in sorted(&checkpoints.join(&step)) {
                let bytes = fs::read(checkpoints.join(&step).join(&file)).expect("a checkpoint has files");
                files.push((format!("{step}/{file}"), bytes));
            }
        }
        assert!(files.len() > 5, "{files:?}");
        files
    }
}

fn sorted(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).expect("a directory can be listed");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Refuses results that differ, by the names of the files that do.
pub(crate) fn assert_same(result: &[(String, Vec<u8>)], other: &[(String, Vec<u8>)], what: &str) {
    let names = |files: &[(String, Vec<u8>)]| files.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(result), names(other), "{what}");
    let differ = result.iter().zip(other).filter(|(a, b)| a.1 != b.1).map(|(a, _)| &a.0);
    let differ: Vec<_> = differ.collect();
    assert!(differ.is_empty(), "{what}: other bytes in {differ:?}");
}
