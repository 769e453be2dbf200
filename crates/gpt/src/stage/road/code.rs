//! The road of code, on data that is on the machine already: corpus → tokenizer → shards → pretraining →
//! evaluation.
//!
//! Every stage has a directory of its own under one, and is skipped or continued when the command runs again.

use super::budget::{Budget, training_flops, training_secs};
use super::dir::{RoadDir, recipe};
use super::held_out::{self, HeldOut};
use super::{kept, tokenize, train_tokenizer};
use crate::corpus::{self, Documents, Split, sources::Sources};
use crate::data::TokenShards;
use crate::progress::Progress;
use crate::report::{self, Results};
use crate::stage::{Machine, PretrainOptions, Settings, Shape, Source, Start, pretrain};
use crate::train::run::write_atomically;
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
    /// A preset; none to choose the shape that learns most within the budget.
    pub preset: Option<String>,
    /// What the road may cost; none for seven minutes.
    pub budget: Option<Budget>,
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

/// How long the road of code takes, about, where nobody says otherwise.
const MINUTES: f64 = 7.0;

/// How much text the road takes, how large a vocabulary it learns, and the share it holds out.
struct Scale {
    corpus_bytes: u64,
    vocab_size: usize,
    val_fraction: f64,
}

impl Scale {
    /// Several times the text that five minutes of training can read; less for `tiny`, which is through in
    /// seconds.
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
    let preset = options.preset.iter().map(|preset| ("preset".to_owned(), preset.clone().into()));
    let road = recipe("speedrun --code", preset.collect(), options.budget(), options.seed, machine)?;
    let mut road = RoadDir::open(&options.out, &road, 5, progress)?;

    road.stage("corpus", || Ok(Some(kept(&gather(options, &corpus_dir, &scale, progress)?))))?;
    road.stage("tokenizer", || {
        let documents = Documents::open(&corpus_dir, Split::Train)?;
        let texts = documents.map(|document| Ok(document?.text));
        let tokenizer = train_tokenizer(&tokenizer_dir, texts, scale.vocab_size, &[], progress)?;
        Ok(Some(format!("{} tokens", tokenizer.vocab_size())))
    })?;
    road.stage("tokens", || tokenize(&options.out, progress).map(Some))?;
    let (shape, settings) = training(backend, options, &tokens_dir, road.secs(), progress)?;
    let goes_on = road.stage("pretrain", || {
        let options = PretrainOptions {
            source: Source::Shards(vec![(tokens_dir.clone(), 1.0)]),
            out: run.clone(),
            settings: settings.clone(),
            seed: options.seed,
            start: Start::Random(shape.clone()),
        };
        let outcome = pretrain(backend(), machine, &options, progress)?;
        let said = || format!("{} steps of {} tokens", outcome.ending.step, settings.batch_tokens);
        Ok((!outcome.ending.stopped).then(said))
    })?;
    if !goes_on {
        return Ok(CodeOutcome { results: None, report: report::write(&run)?, run });
    }
    let mut results = Results::default();
    road.stage("evaluate", || {
        let texts = held_out::read(Documents::open(&corpus_dir, Split::Val)?, options.seed)?;
        let HeldOut { baselines, completions } =
            held_out::evaluate(&mut backend(), &tokens_dir, &run, &settings, &texts, options.seed, progress)?;
        results.baselines = baselines;
        results.completions = completions;
        Ok(Some(format!("{} lines, {} snippets", texts.lines.len(), texts.snippets.len())))
    })?;
    results.stages = road.into_stages();
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

impl CodeOptions {
    /// What the road may cost; none where the preset says how many steps there are.
    fn budget(&self) -> Option<Budget> {
        self.budget.or(self.preset.is_none().then_some(Budget::Minutes(MINUTES)))
    }
}

/// The recipe of the road's pretraining, `secs` after it began: decided once, then read again.
fn training<B: Backend>(
    backend: &dyn Fn() -> B,
    options: &CodeOptions,
    tokens: &Path,
    secs: f64,
    progress: &dyn Progress,
) -> Result<(Shape, Settings)> {
    let path = options.out.join("recipe.toml");
    if path.exists() {
        return Settings::resolve(path.to_str().context("a path that is UTF-8 is needed")?, &[]);
    }
    let vocab_size = TokenShards::open(tokens)?.vocab_size();
    let (shape, settings) = match (options.budget(), &options.preset) {
        (None, preset) => {
            Settings::resolve(preset.as_deref().context("a road has a budget or a preset")?, &[])?
        }
        (Some(budget), preset) => {
            let mut left = String::new();
            let flops = match budget {
                Budget::Flops(flops) => flops,
                Budget::Minutes(minutes) => {
                    let secs = training_secs(minutes, secs);
                    left = format!(": about {:.1} minutes on this machine as it is now", secs / 60.0);
                    let (shape, settings) = Settings::resolve(preset.as_deref().unwrap_or(LADDER[0].1), &[])?;
                    training_flops(backend(), &shape.config(vocab_size, &settings), secs)
                }
            };
            let (shape, settings) = for_flops(flops, preset.as_deref(), vocab_size)?;
            let Settings { steps, batch_tokens, .. } = settings;
            progress.line(&format!(
                "{} layers of {} for {steps} steps of {batch_tokens} tokens{left}",
                shape.n_layer, shape.d_model,
            ));
            (shape, settings)
        }
    };
    let mut table = toml::Table::try_from(&shape).context("the shape is a TOML table")?;
    table.extend(toml::Table::try_from(&settings).context("settings are a TOML table")?);
    let text = toml::to_string_pretty(&table).context("a table is TOML")?;
    write_atomically(&path, text.as_bytes())?;
    Ok((shape, settings))
}

/// Presets by the floating-point operations of training from which on they learn more than the one before
/// (docs/RESULTS.md has the measurements).
const LADDER: [(f64, &str); 2] = [(0.0, "nano"), (1e15, "baby")];

/// The shape that learns most from so many operations of training, unless there is a `preset`, and as many
/// steps as they are.
fn for_flops(flops: f64, preset: Option<&str>, vocab_size: usize) -> Result<(Shape, Settings)> {
    let (_, learns_most) =
        LADDER.iter().rev().find(|rung| flops >= rung.0).expect("the first rung costs nothing");
    let (shape, mut settings) = Settings::resolve(preset.unwrap_or(learns_most), &[])?;
    let step = settings.batch_tokens as f64 * shape.config(vocab_size, &settings).training_flops_per_token();
    settings.steps = ((flops / step) as u64).max(2 * settings.warmup_steps);
    settings.eval_every = (settings.steps / 10).max(1);
    settings.checkpoint_every = settings.eval_every;
    settings.sample_every = (settings.steps / 5).max(1);
    Ok((shape, settings))
}
