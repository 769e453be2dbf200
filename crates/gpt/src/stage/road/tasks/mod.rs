//! The road of task tokens: a small model of plain text and of rows that say what is asked of a text, and
//! what it makes of names and sentences that it has never seen (Radford et al. 2019: `P(output | input,
//! task)`).
//!
//! lessons → corpus → tokenizer → tokens → pretraining on both → evaluation.

mod evaluate;

use super::budget::{Budget, training_flops, training_secs};
use super::dir::{RoadDir, recipe};
use super::{lessons_corpus, train_tokenizer};
use crate::corpus::{Documents, Split};
use crate::data::rows::{MAX_BAD, Record, read_rows};
use crate::data::{self, Overflow, TaskRow, TokenizeOptions, TokenizeTasksOptions};
use crate::lessons::{self, TASK_TOKENS};
use crate::progress::Progress;
use crate::report::{self, TasksResults};
use crate::stage::{Machine, PretrainOptions, Settings, Shape, Source, Start, pretrain};
use anyhow::{Context, Result};
use kernels::Backend;
use std::path::PathBuf;

/// Where the road goes.
#[derive(Clone, Debug)]
pub struct TasksOptions {
    /// Where everything goes.
    pub out: PathBuf,
    /// Whether it only walks, for tests: through in seconds, with nothing learned well.
    pub tiny: bool,
    /// What the road may cost; none for its usual steps, or fewer where five minutes do not hold them.
    pub budget: Option<Budget>,
    /// Decides everything random.
    pub seed: u64,
    /// Threads for what is not training.
    pub threads: usize,
}

/// How the road ended.
#[derive(Clone, Debug)]
pub struct TasksOutcome {
    /// The figures; none when somebody stopped it on the way.
    pub results: Option<TasksResults>,
    /// The trained model's run directory.
    pub run: PathBuf,
    /// The page about the road, or about the run where it was stopped.
    pub report: PathBuf,
}

/// Amounts of data and training.
struct Scale {
    text_bytes: u64,
    rows: usize,
    held_out: usize,
    vocab_size: usize,
    preset: &'static str,
    /// Recipe keys besides the preset's.
    changes: &'static [&'static str],
    /// Steps of pretraining, and the minutes that hold them or fewer.
    steps: u64,
    minutes: Option<f64>,
}

const USUAL: Scale = Scale {
    text_bytes: 3_000_000,
    rows: 60_000,
    held_out: 800,
    vocab_size: 1536,
    preset: "nano",
    changes: &["seq_len=64"],
    steps: 2200,
    minutes: Some(5.0),
};
const TINY: Scale = Scale {
    text_bytes: 100_000,
    rows: 1000,
    held_out: 40,
    vocab_size: 600,
    preset: "tiny",
    changes: &[],
    steps: 60,
    minutes: None,
};

/// The share of rows in every batch; the others are plain text.
const TASKS_SHARE: f64 = 0.6;
/// Rows and documents that are validated on in training.
const VAL_FRACTION: f64 = 0.02;

/// Walks the road, from where it was left. `backend` makes a backend for each stage that computes.
///
/// # Errors
/// A stage fails; something that is asked at the end occurs in training.
pub fn tasks_road<B: Backend>(
    backend: &dyn Fn() -> B,
    machine: &Machine,
    options: &TasksOptions,
    progress: &dyn Progress,
) -> Result<TasksOutcome> {
    let walk = Walk { options, scale: if options.tiny { TINY } else { USUAL }, progress };
    let settings = toml::Table::from_iter([("tiny".to_owned(), options.tiny.into())]);
    let recipe = recipe(report::TASKS_ROAD, settings, options.budget, options.seed, machine)?;
    let mut road = RoadDir::open(&options.out, &recipe, 6, progress)?;
    road.stage("lessons", || walk.write_lessons().map(Some))?;
    road.stage("corpus", || walk.gather().map(Some))?;
    road.stage("tokenizer", || walk.train_tokenizer().map(Some))?;
    road.stage("tokens", || walk.tokenize().map(Some))?;
    let run = walk.at("pretrain");
    let secs = road.secs();
    let size = road.size("pretrain", || walk.size(backend, secs))?;
    let goes_on = road.stage("pretrain", || {
        let options = walk.pretraining(size)?;
        let tokens = options.settings.batch_tokens;
        let outcome = pretrain(backend(), machine, &options, progress)?;
        Ok((!outcome.ending.stopped).then(|| format!("{} steps of {tokens} tokens", outcome.ending.step)))
    })?;
    if !goes_on {
        return Ok(TasksOutcome { results: None, report: report::write(&run)?, run });
    }
    let mut results = TasksResults::default();
    road.stage("evaluate", || {
        results = walk.evaluate(&mut backend())?;
        let exact =
            results.tasks.iter().map(|asked| format!("{} {:.1} %", asked.task, 100.0 * asked.exact.value));
        Ok(Some(exact.collect::<Vec<_>>().join(", ")))
    })?;
    results.stages = road.into_stages();
    let report = report::write_tasks_road(&options.out, &results)?;
    Ok(TasksOutcome { results: Some(results), run, report })
}

/// What all stages know.
struct Walk<'a> {
    options: &'a TasksOptions,
    scale: Scale,
    progress: &'a dyn Progress,
}

impl Walk<'_> {
    fn at(&self, name: &str) -> PathBuf {
        self.options.out.join(name)
    }

    fn write_lessons(&self) -> Result<String> {
        let (Scale { text_bytes, rows, held_out, .. }, seed) = (&self.scale, self.options.seed);
        let dir = self.at("lessons");
        std::fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let missing = |name: &str| Some(dir.join(name)).filter(|path| !path.exists());
        if let Some(path) = missing("text.jsonl") {
            lessons::write_plain_text(&path, seed, *text_bytes)?;
        }
        if let Some(path) = missing("tasks.jsonl") {
            lessons::write_task_rows(&path, seed, lessons::Split::Train, *rows)?;
        }
        if let Some(path) = missing("held-out.jsonl") {
            lessons::write_task_rows(&path, seed, lessons::Split::HeldOut, *held_out)?;
        }
        Ok(format!("{:.1} MB of text, {rows} rows, {held_out} held out", *text_bytes as f64 / 1e6))
    }

    fn gather(&self) -> Result<String> {
        let Walk { options: TasksOptions { out, seed, threads, .. }, progress, .. } = self;
        lessons_corpus(out, VAL_FRACTION, *seed, *threads, *progress)
    }

    fn rows(&self, name: &str) -> Result<Vec<TaskRow>> {
        let read = |record: Record| TaskRow::read(&record);
        Ok(read_rows(&self.at("lessons").join(name), MAX_BAD, self.progress, read)?.rows)
    }

    fn train_tokenizer(&self) -> Result<String> {
        let documents = Documents::open(&self.at("corpus"), Split::Train)?;
        let texts = documents.map(|document| Ok(apart(&document?.text)));
        let rows = self.rows("tasks.jsonl")?.into_iter();
        let rows = rows.map(|TaskRow { input, task, output }| Ok(apart(&[input, task, output].join("\n"))));
        let special = TASK_TOKENS.map(String::from);
        let out = self.at("tokenizer");
        let tokenizer =
            train_tokenizer(&out, texts.chain(rows), self.scale.vocab_size, &special, self.progress)?;
        Ok(format!("{} tokens, {} of them name tasks", tokenizer.vocab_size(), special.len()))
    }

    fn tokenize(&self) -> Result<String> {
        let tokenizer = self.at("tokenizer/tokenizer.json");
        let text = TokenizeOptions {
            corpus: self.at("corpus"),
            tokenizer: tokenizer.clone(),
            out: self.at("tokens"),
            overflow: Overflow::Pack,
            ..TokenizeOptions::default()
        };
        let rows = TokenizeTasksOptions {
            rows: self.at("lessons/tasks.jsonl"),
            tokenizer,
            out: self.at("task-tokens"),
            fields: Vec::new(),
            val_fraction: VAL_FRACTION,
        };
        let text = data::tokenize(&text, self.progress)?;
        let rows = data::tokenize_tasks(&rows, self.progress)?;
        Ok(format!("{} of text and {} of tasks for training", text.train.tokens, rows.train.tokens))
    }

    /// How far training goes, as a multiple of its usual steps, `secs` after the road began. More than usual
    /// is for whoever gives a budget.
    fn size<B: Backend>(&self, backend: &dyn Fn() -> B, secs: f64) -> Result<f64> {
        let (shape, settings) = self.resolve(1.0)?;
        let config = shape.config(self.scale.vocab_size, &settings);
        let usual =
            (settings.steps * settings.batch_tokens as u64) as f64 * config.training_flops_per_token();
        let in_minutes = |minutes| training_flops(backend(), &config, training_secs(minutes, secs)) / usual;
        Ok(match (self.options.budget, self.scale.minutes) {
            (Some(Budget::Flops(flops)), _) => flops / usual,
            (Some(Budget::Minutes(minutes)), _) => in_minutes(minutes),
            (None, Some(minutes)) => in_minutes(minutes).min(1.0),
            (None, None) => 1.0,
        })
    }

    fn resolve(&self, size: f64) -> Result<(Shape, Settings)> {
        let steps = ((self.scale.steps as f64 * size) as u64).max(60);
        let mut changes: Vec<String> = self.scale.changes.iter().map(|change| change.to_string()).collect();
        changes.push(format!("steps={steps}"));
        changes.extend(["eval_every", "checkpoint_every"].map(|key| format!("{key}={}", steps.div_ceil(5))));
        changes.push(format!("sample_every={}", steps.div_ceil(2)));
        Settings::resolve(self.scale.preset, &changes)
    }

    fn pretraining(&self, size: f64) -> Result<PretrainOptions> {
        let (shape, settings) = self.resolve(size)?;
        let parts = vec![(self.at("tokens"), 1.0 - TASKS_SHARE), (self.at("task-tokens"), TASKS_SHARE)];
        Ok(PretrainOptions {
            source: Source::Shards(parts),
            out: self.at("pretrain"),
            settings,
            seed: self.options.seed,
            start: Start::Random(shape),
        })
    }
}

/// Chinese characters on lines of their own, so that the tokenizer learns no token of two of them: a name
/// within a sentence then has the tokens that it has alone, and can be copied.
fn apart(text: &str) -> String {
    let mut lines = String::with_capacity(2 * text.len());
    for character in text.chars() {
        lines.push(character);
        if !character.is_ascii() {
            lines.push('\n');
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Silent;
    use crate::tokenizer::Tokenizer;

    /// By the operations of the usual training; minutes make less of it where they do not hold it.
    #[test]
    fn the_size_is_what_a_budget_pays_for() {
        let size = |tiny: bool, budget: Option<Budget>, secs: f64| {
            let options = TasksOptions { out: PathBuf::new(), tiny, budget, seed: 1, threads: 1 };
            let scale = if tiny { TINY } else { USUAL };
            let walk = Walk { options: &options, scale, progress: &Silent };
            walk.size(&|| kernels::Cpu::new(kernels::CpuOptions::default()), secs).unwrap()
        };
        let (shape, settings) = Settings::resolve("tiny", &["steps=60".into()]).unwrap();
        let per_token = shape.config(600, &settings).training_flops_per_token();
        let usual = 60.0 * settings.batch_tokens as f64 * per_token;
        assert!((size(true, Some(Budget::Flops(3.0 * usual)), 0.0) - 3.0).abs() < 1e-9);
        assert_eq!(size(true, None, 0.0), 1.0);
        // A second is left of them, and none of a larger budget is lost.
        assert!(size(false, None, 400.0) < 0.1);
        assert!(size(true, Some(Budget::Minutes(600.0)), 0.0) > 1.0);
    }

    #[test]
    fn a_name_in_a_sentence_has_the_tokens_that_it_has_alone() {
        let rows: Vec<TaskRow> = (0..2000).map(|index| lessons::task_row(1, index)).collect();
        let texts = rows.iter().map(|row| Ok(apart(&format!("{} {}", row.input, row.output))));
        let tokenizer = Tokenizer::train(texts, 900, &[], &Silent).unwrap();
        for row in (0..200).map(|index| lessons::held_out_task_row(1, 2 * index)) {
            let alone = tokenizer.encode(&row.output);
            assert!(tokenizer.encode(&row.input).ends_with(&alone), "{}", row.input);
            assert!(
                alone.len() <= 2 * row.output.chars().count(),
                "{} has {} tokens",
                row.output,
                alone.len()
            );
        }
    }
}
