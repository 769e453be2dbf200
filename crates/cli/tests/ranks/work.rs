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
    /// Small models that one process has trained.
    models: OnceLock<()>,
}

/// The work of all tests.
pub(crate) fn work() -> &'static Work {
    static WORK: OnceLock<Work> = OnceLock::new();
    WORK.get_or_init(|| {
        let dir = tempfile::tempdir().expect("a directory can be made");
        let work = Work { dir, models: OnceLock::new() };
        let (mut prompts, mut choices, mut labelled) = (String::new(), String::new(), String::new());
        let (mut text, mut demonstrations) = (String::new(), String::new());
        let (mut rankings, mut judged) = (String::new(), String::new());
        for number in 0..400 {
            let (a, b) = (number * 7 % 10, number * 13 % 9);
            let _ = writeln!(text, "{{\"text\": \"{a} and {b} are {} in all, and {a} comes first.\"}}", a + b);
            let class = if a > b { "more" } else { "less" };
            let _ = writeln!(labelled, "{{\"text\": \"{a} and {b}, {number}\", \"label\": \"{class}\"}}");
            let _ = writeln!(prompts, "{{\"prompt\": \"{a} + {b}?\", \"number\": {number}}}");
            let answers = format!("[\"{}\", \"{}\", \"nothing\"]", a + b, a + 1);
            let _ = writeln!(choices, "{{\"question\": \"{a} + {b}?\", \"answers\": {answers}, \"label\": 0}}");
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
        let files = [
            ("judged", judged),
            ("text", text),
            ("demonstrations", demonstrations),
            ("rankings", rankings),
            ("many", prompts.repeat(3)),
            ("prompts", prompts),
            ("choices", choices),
            ("labelled", labelled),
        ];
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

/// Runs the program as one process without a launcher; it succeeds. Returns what it says on standard output.
pub(crate) fn alone(arguments: &[String]) -> String {
    let ended =
        Command::new(env!("CARGO_BIN_EXE_mynah")).args(arguments).output().expect("the program starts");
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(ended.status.success(), "{arguments:?}: {said}");
    String::from_utf8_lossy(&ended.stdout).into_owned()
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

    /// So many iterations of PPO, whose pretraining mix is measured in the first update of each, into the run `name`.
    pub(crate) fn ppo(&self, name: &str, steps: usize) -> Vec<String> {
        let [model, reward] = ["sft", "reward"].map(|name| self.model(name));
        let [prompts, tokens] = ["prompts.jsonl", "chat tokens"].map(|name| self.path(name));
        let data = ["--model", &model, "--reward", &reward, "--prompts", &prompts, "--ptx", &tokens];
        let steps = steps.to_string();
        let verb = [&["ppo", "--steps", &steps], &data[..]].concat();
        self.training(
            name,
            &verb,
            &[
                "eval_every=3",
                "checkpoint_every=2",
                "sample_every=3",
                "keep_last=3",
                "batch_size=9",
                "minibatches=2",
                "epochs=1",
                "max_tokens=5",
                "eval_prompts=3",
                "ptx_coef=0.5",
                "ptx_tokens=300",
                "ema=0.9",
            ],
        )
    }

    /// A few iterations of GRPO, of which one reward is a model.
    pub(crate) fn grpo(&self, name: &str) -> Vec<String> {
        let (model, reward) = (self.model("sft"), format!("model={}", self.model("reward")));
        let prompts = self.path("prompts.jsonl");
        let data = ["--model", &model, "--prompts", &prompts, "--reward", &reward, "--reward", "length:0.1"];
        let verb = [&["grpo", "--steps", "2"], &data[..]].concat();
        let recipe = ["batch_size=3", "group=3", "max_tokens=6", "eval_prompts=4", "eval_samples=2"];
        self.training(name, &verb, &recipe)
    }

    /// A few steps of a later stage of `model` into the run `name`.
    pub(crate) fn stage(&self, name: &str, stage: &str, model: &str) -> Vec<String> {
        let (model, rankings) = (self.path(model), self.path("rankings.jsonl"));
        let [judged, labelled] = ["judged.jsonl", "labelled.jsonl"].map(|name| self.path(name));
        let teacher = self.path("models sft");
        let (demonstrations, tokens) =
            (self.path("demonstrations.jsonl"), format!("{}=1", self.path("tokens")));
        let data = match stage {
            "sft" => vec!["--data", &demonstrations, "--ptx", &tokens, "--set", "ptx_share=0.3"],
            "kto" => vec!["--data", &judged],
            "distil" => vec!["--teacher", &teacher, "--data", &demonstrations, "--set", "max_tokens=6"],
            "finetune" => vec!["--task", "classification", "--train", &labelled],
            _ => vec!["--rankings", &rankings],
        };
        let verb = [&[stage, "--model", &model, "--steps", "6"][..], &data].concat();
        self.training(name, &verb, &["eval_every=3", "dropout=0.1", "batch_size=6"])
    }

    /// The path of a small model: `base`, `sft` or `reward`.
    pub(crate) fn model(&self, name: &str) -> String {
        let path = |name: &str| format!("models {name}");
        self.models.get_or_init(|| {
            alone(&self.pretrain(&path("base"), 5));
            alone(&self.stage(&path("sft"), "sft", &path("base")));
            alone(&self.stage(&path("reward"), "reward", &path("sft")));
            let checkpoints = self.dir.path().join(path("sft")).join("checkpoints");
            let step = sorted(&checkpoints).pop().expect("a run has a checkpoint");
            let tokenizer = checkpoints.join(step).join("tokenizer.json").display().to_string();
            let [corpus, out] = ["corpus", "chat tokens"].map(|name| self.path(name));
            alone(&words(&["tokenize", "--corpus", &corpus, "--tokenizer", &tokenizer, "--out", &out]));
        });
        self.path(&path(name))
    }

    /// Two answers to each of the prompts of a file, into the file `name`.
    pub(crate) fn candidates(&self, name: &str, prompts: &str, further: &[&str]) -> Vec<String> {
        let (model, prompts, out) = (self.model("sft"), self.path(prompts), self.path(name));
        let asked = [
            "candidates",
            "--model",
            &model,
            "--prompts",
            &prompts,
            "--k",
            "2",
            "--max-tokens",
            "8",
            "--out",
            &out,
        ];
        words(&[&asked[..], &["--seed", "3", "--threads", "1", "--precision", "f32"], further].concat())
    }

    /// An evaluation on all kinds of items, into the file `name`.
    pub(crate) fn eval(&self, name: &str) -> Vec<String> {
        let (model, out) = (self.model("base"), self.path(name));
        let [text, choices] = ["text.jsonl", "choices.jsonl"].map(|name| self.path(name));
        let tasks = format!("add-2-digits,{choices},last-word:{text},{text}");
        words(&[
            "eval",
            "--model",
            &model,
            "--tasks",
            &tasks,
            "--limit",
            "37",
            "--shots",
            "0,2",
            "--max-tokens",
            "6",
            "--out",
            &out,
            "--seed",
            "3",
            "--threads",
            "1",
            "--json",
        ])
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
        for name in ["metrics.jsonl", "samples.jsonl", "rollouts.jsonl"] {
            let is_there = name != "rollouts.jsonl" || run.join(name).exists();
            if is_there {
                files.push((name.to_owned(), fs::read(run.join(name)).expect("a run has it")));
            }
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
