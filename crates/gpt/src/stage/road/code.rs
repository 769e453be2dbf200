//! The road of code, on data that is on the machine already: corpus → tokenizer → shards → pretraining → evaluation.
//!
//! Every stage has a directory of its own under one, and is skipped or continued when the command runs again.

use super::held_out::{self, HeldOut};
use super::{Road, tokens_per_sec, train_tokenizer};
use crate::corpus::{self, Documents, Split, sources::Sources};
use crate::data::{self, Overflow, TokenShards, TokenizeOptions};
use crate::progress::Progress;
use crate::report::{self, Results};
use crate::stage::{Machine, PretrainOptions, Settings, Shape, Source, Start, pretrain};
use anyhow::{Context, Result, bail};
use kernels::Backend;
use std::path::{Path, PathBuf};

/// What the road starts from and how far it goes.
#[derive(Clone, Debug)]
pub struct CodeOptions {
    /// Where everything goes.
    pub out: PathBuf,
    /// Folders of source code; empty to look for them.
    pub sources: Vec<PathBuf>,
    /// A preset; none to choose the shape that learns most in [`TRAINING_SECS`] on this machine.
    pub preset: Option<String>,
    /// Decides everything random.
    pub seed: u64,
    /// Threads for what is not training.
    pub threads: usize,
}

/// How the road ended.
#[derive(Clone, Debug)]
pub struct CodeOutcome {
    /// The figures; none when somebody stopped it on the way.
    pub results: Option<Results>,
    /// The trained model's run directory.
    pub run: PathBuf,
    /// The page about it.
    pub report: PathBuf,
}

/// How long the default training takes, about.
pub const TRAINING_SECS: f64 = 300.0;

/// How much text the road takes, how large a vocabulary it learns, and the share it holds out.
struct Scale {
    corpus_bytes: u64,
    vocab_size: usize,
    val_fraction: f64,
}

impl Scale {
    /// Several times the text that five minutes of training can read; less for `tiny`, which is through in seconds.
    fn of(preset: Option<&str>) -> Self {
        match preset {
            Some("tiny") => Scale { corpus_bytes: 2 << 20, vocab_size: 1024, val_fraction: 0.1 },
            _ => Scale { corpus_bytes: 24 << 20, vocab_size: 4096, val_fraction: 0.02 },
        }
    }
}

/// Walks the road, from where it was left. `backend` makes a backend for each stage that computes.
///
/// # Errors
/// No source code is found; a stage fails.
pub fn code_road<B: Backend>(
    backend: &dyn Fn() -> B,
    machine: &Machine,
    options: &CodeOptions,
    progress: &dyn Progress,
) -> Result<CodeOutcome> {
    let at = |name: &str| options.out.join(name);
    let (corpus_dir, tokenizer_dir, tokens_dir, run) =
        (at("corpus"), at("tokenizer"), at("tokens"), at("pretrain"));
    let scale = Scale::of(options.preset.as_deref());
    let mut road = Road::new(5, progress);

    road.stage("corpus", || {
        let report = gather(options, &corpus_dir, &scale, progress)?;
        Ok(format!("{:.1} MB in {} documents", report.kept.bytes as f64 / 1e6, report.kept.documents))
    })?;
    road.stage("tokenizer", || {
        let documents = Documents::open(&corpus_dir, Split::Train)?;
        let texts = documents.map(|document| Ok(document?.text));
        let tokenizer = train_tokenizer(&tokenizer_dir, texts, scale.vocab_size, &[], progress)?;
        Ok(format!("{} tokens", tokenizer.vocab_size()))
    })?;
    road.stage("tokens", || {
        let meta = data::tokenize(
            &TokenizeOptions {
                corpus: corpus_dir.clone(),
                tokenizer: tokenizer_dir.join("tokenizer.json"),
                out: tokens_dir.clone(),
                context: None,
                overflow: Overflow::Pack,
                fim: None,
            },
            progress,
        )?;
        let per_token = meta.train.bytes as f64 / meta.train.tokens as f64;
        Ok(format!("{} for training, {per_token:.2} bytes each", meta.train.tokens))
    })?;
    let (shape, settings) = recipe(backend, options, &tokens_dir, progress)?;
    let mut stopped = false;
    road.stage("pretrain", || {
        let options = PretrainOptions {
            source: Source::Shards(vec![(tokens_dir.clone(), 1.0)]),
            out: run.clone(),
            settings: settings.clone(),
            seed: options.seed,
            start: Start::Random(shape.clone()),
        };
        let outcome = pretrain(backend(), machine, &options, progress)?;
        stopped = outcome.stopped;
        Ok(format!("{} steps of {} tokens", outcome.step, settings.batch_tokens))
    })?;
    if stopped {
        return Ok(CodeOutcome { results: None, report: report::write(&run)?, run });
    }
    let mut results = Results::default();
    road.stage("evaluate", || {
        let texts = held_out::read(Documents::open(&corpus_dir, Split::Val)?, options.seed)?;
        let HeldOut { baselines, completions } =
            held_out::evaluate(&mut backend(), &tokens_dir, &run, &settings, &texts, options.seed, progress)?;
        results.baselines = baselines;
        results.completions = completions;
        Ok(format!("{} lines, {} snippets", texts.lines.len(), texts.snippets.len()))
    })?;
    results.stages = road.stages;
    results.save(&run)?;
    Ok(CodeOutcome { report: report::write(&run)?, results: Some(results), run })
}

fn gather(
    options: &CodeOptions,
    out: &Path,
    scale: &Scale,
    progress: &dyn Progress,
) -> Result<corpus::Report> {
    let (mut paths, mut exclude) = (options.sources.clone(), Vec::new());
    if paths.is_empty() {
        let found = Sources::find();
        if found.folders.is_empty() {
            let looked: Vec<String> = found
                .places
                .iter()
                .map(|place| format!("  {} ({})", place.path.display(), place.what))
                .collect();
            bail!(
                "there is no source code to learn from. Looked for:\n{}\nGive a folder of code: mynah speedrun --source FOLDER",
                looked.join("\n")
            );
        }
        paths = found.folders;
        exclude = corpus::sources::EXCLUDE.iter().map(|glob| glob.to_string()).collect();
    }
    corpus::build(
        &corpus::Options {
            paths,
            out: out.into(),
            include: corpus::sources::INCLUDE.iter().map(|glob| glob.to_string()).collect(),
            exclude,
            max_bytes: Some(scale.corpus_bytes),
            val_fraction: scale.val_fraction,
            seed: options.seed,
            threads: options.threads,
            ..corpus::Options::default()
        },
        progress,
    )
}

/// The recipe of the road's pretraining: decided once, then read again.
fn recipe<B: Backend>(
    backend: &dyn Fn() -> B,
    options: &CodeOptions,
    tokens: &Path,
    progress: &dyn Progress,
) -> Result<(Shape, Settings)> {
    let path = options.out.join("recipe.toml");
    if path.exists() {
        return Settings::resolve(path.to_str().context("a path that is UTF-8 is needed")?, &[]);
    }
    let (shape, settings) = match &options.preset {
        Some(preset) => Settings::resolve(preset, &[])?,
        None => {
            let vocab_size = TokenShards::open(tokens)?.vocab_size();
            let (shape, settings) = for_budget(TRAINING_SECS, &mut backend(), vocab_size)?;
            progress.line(&format!(
                "{} layers of {} for {} steps: about {:.0} minutes on this machine",
                shape.n_layer,
                shape.d_model,
                settings.steps,
                TRAINING_SECS / 60.0
            ));
            (shape, settings)
        }
    };
    let mut table = toml::Table::try_from(&shape).context("the shape is a TOML table")?;
    table.extend(toml::Table::try_from(&settings).context("settings are a TOML table")?);
    let text = toml::to_string_pretty(&table).context("a table is TOML")?;
    crate::train::run::write_atomically(&path, text.as_bytes())?;
    Ok((shape, settings))
}

/// Presets by the floating-point operations of training from which on they learn more than the one before
/// (docs/RESULTS.md has the measurements).
const LADDER: [(f64, &str); 2] = [(0.0, "nano"), (1e15, "baby")];

/// The shape that learns most in `secs` of training on this machine, and as many steps as fit.
fn for_budget<B: Backend>(secs: f64, b: &mut B, vocab_size: usize) -> Result<(Shape, Settings)> {
    let (smallest, settings) = Settings::resolve(LADDER[0].1, &[])?;
    let config = smallest.config(vocab_size, &settings);
    let flops = secs * config.training_flops_per_token() * tokens_per_sec(b, &config);
    let (_, preset) = LADDER.iter().rev().find(|rung| flops >= rung.0).expect("the first rung costs nothing");
    let (shape, mut settings) = Settings::resolve(preset, &[])?;
    let speed = tokens_per_sec(b, &shape.config(vocab_size, &settings));
    settings.steps = ((secs * speed) as u64 / settings.batch_tokens as u64).max(2 * settings.warmup_steps);
    settings.eval_every = (settings.steps / 10).max(1);
    settings.checkpoint_every = settings.eval_every;
    settings.sample_every = (settings.steps / 5).max(1);
    Ok((shape, settings))
}
