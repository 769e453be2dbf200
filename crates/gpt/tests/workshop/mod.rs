//! What tests of stages share: a small model, a machine, and a run that is interrupted.
#![allow(dead_code)] // Each test takes what it needs.

use gpt::checkpoint::{self, About, Contents, Dtype};
use gpt::model::{self, Config};
use gpt::progress::{Progress, Silent, Unit};
use gpt::stage::{Machine, StageConfig, StageSettings};
use gpt::tokenizer::Tokenizer;
use kernels::cpu::{CpuOptions, Level};
use kernels::{Cpu, Precision};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

pub(crate) fn cpu(threads: usize) -> Cpu {
    Cpu::new(CpuOptions { threads, precision: Precision::F32, level: Level::detect() })
}

pub(crate) fn machine() -> Machine {
    Machine { peak_flops: 1e11, ..Machine::unmeasured() }
}

pub(crate) fn settings<S: StageConfig>(changes: &[&str]) -> StageSettings<S> {
    let usual = ["eval_every=3", "checkpoint_every=3", "sample_every=3", "keep_last=9"];
    let changes: Vec<String> = usual.iter().chain(changes).map(|change| change.to_string()).collect();
    StageSettings::resolve(&changes).unwrap()
}

/// A model with first weights and this tokenizer, as a checkpoint.
pub(crate) fn save(dir: &Path, tokenizer: &Tokenizer, config: impl Fn(usize) -> Config) -> PathBuf {
    let config = config(tokenizer.vocab_size());
    let mut b = cpu(1);
    let weights = model::init(&mut b, &config, 3);
    let path = dir.join("base");
    let contents = Contents {
        config: &config,
        weights: &weights,
        dtype: Dtype::F32,
        moments: None,
        beside: &[],
        read: &mut checkpoint::from_backend(&mut b),
        eot_token: tokenizer.end_of_text(),
        eos_token: tokenizer.eos(),
        end_tokens: &[],
        files: &tokenizer.files(),
        about: About { stage: "pretrain".into(), ..About::default() },
    };
    checkpoint::save(&path, contents).unwrap();
    path
}

pub(crate) fn modern(vocab_size: usize) -> Config {
    Config { n_kv_head: 1, qk_norm: true, ..Config::modern(vocab_size, 64, 2, 2, 32) }
}

/// Stops when so many steps are done.
pub(crate) struct StopAt {
    step: u64,
    done: AtomicU64,
}

impl StopAt {
    pub(crate) fn new(step: u64) -> Self {
        StopAt { step, done: AtomicU64::new(0) }
    }
}

impl Progress for StopAt {
    fn begin(&self, _: &str, _: u64, _: Unit) {}
    fn advance(&self, n: u64) {
        self.done.fetch_add(n, Ordering::Relaxed);
    }
    fn line(&self, _: &str) {}
    fn end(&self) {}
    fn should_stop(&self) -> bool {
        self.done.load(Ordering::Relaxed) >= self.step
    }
}

/// Stops after so many looks at whether to stop: in the midst of whatever is done then.
pub(crate) struct StopAfter(AtomicU64);

impl Progress for StopAfter {
    fn begin(&self, _: &str, _: u64, _: Unit) {}
    fn advance(&self, _: u64) {}
    fn line(&self, _: &str) {}
    fn end(&self) {}
    fn should_stop(&self) -> bool {
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_err()
    }
}

/// What two runs must have in common: the journals and every file of the last checkpoint.
pub(crate) fn contents(run: &Path) -> Vec<(String, Vec<u8>)> {
    let last = gpt::train::run::checkpoints(run).unwrap().pop().unwrap().path;
    let journals = ["metrics.jsonl", "samples.jsonl", "rollouts.jsonl"].map(|name| run.join(name));
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(last).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.extend(journals.into_iter().filter(|path| path.exists()));
    files.sort();
    let name = |path: &Path| path.strip_prefix(run).unwrap().display().to_string();
    files.iter().map(|path| (name(path), std::fs::read(path).unwrap())).collect()
}

/// Checks the operations that a run's steps are said to have cost: for each token so many times those of
/// learning from one.
pub(crate) fn costs(run: &Path, times: f64) {
    let config = checkpoint::open(run, &Silent).unwrap().config;
    let learning = config.training_flops_per_token_of(12.0);
    let timings = std::fs::read_to_string(run.join("timings.jsonl")).unwrap();
    for line in timings.lines() {
        let step: serde_json::Value = serde_json::from_str(line).unwrap();
        let [mfu, tokens_per_sec] = ["mfu", "tokens_per_sec"].map(|name| step[name].as_f64().unwrap());
        let ratio = mfu * machine().peak_flops / tokens_per_sec / learning;
        assert!((ratio / times - 1.0).abs() < 0.1, "{ratio} instead of {times}: {line}");
    }
}

/// Looks between a beginning and a stop, or between two stops: some before the first step, some within a step or an
/// evaluation.
const LOOKS: [u64; 5] = [0, 2, 9, 40, 5];

/// Runs a stage whole, and in parts with another number of threads, stopped after some steps and in the midst of others,
/// and compares.
pub(crate) fn continues(
    dir: &Path,
    stops: &[u64],
    run: impl Fn(&Path, Cpu, &dyn Progress) -> bool,
) -> PathBuf {
    let [whole, parts, pieces] = ["whole", "parts", "pieces"].map(|name| dir.join(name));
    assert!(!run(&whole, cpu(2), &Silent), "nobody stopped it");
    for &step in stops {
        assert!(run(&parts, cpu(1), &StopAt::new(step)), "stopped at {step}");
    }
    for looks in LOOKS {
        run(&pieces, cpu(1), &StopAfter(looks.into()));
    }
    let whole_files = contents(&whole);
    let names = |files: &[(String, Vec<u8>)]| files.iter().map(|file| file.0.clone()).collect::<Vec<_>>();
    for broken in [parts, pieces] {
        assert!(!run(&broken, cpu(1), &Silent));
        let files = contents(&broken);
        assert_eq!(names(&whole_files), names(&files));
        for ((name, a), (_, b)) in whole_files.iter().zip(&files) {
            assert!(a == b, "{name} of {} differs", broken.display());
        }
    }
    whole
}
