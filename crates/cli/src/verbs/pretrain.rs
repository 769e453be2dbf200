//! `mynah pretrain`: a model from tokens.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};
use gpt::corpus::Split;
use gpt::data::{BLOCK_TOKENS, StreamOptions, TokenShards};
use gpt::model::Config;
use gpt::stage::{
    Budget, Ending, Init, PRESETS, PretrainOptions, PretrainOutcome, Settings, Shape, Sized, Source, Start,
    pretrain, sized,
};
use gpt::tokenizer::Tokenizer;
use serde_json::{Value, json};

use super::stages::LoraArgs;
use crate::options::{Usage, amount, number};
use crate::session::{Ended, Purpose, Session};
use crate::terminal::text::{count, table};
use crate::verbs::corpus::ChoiceArgs;

const DETAILS: &str = "\
The run directory holds config.toml, metrics.jsonl, report.html, and checkpoints that are Hugging Face model
directories. Ctrl-C saves and stops; the same command again continues, bit for bit.

Examples:
  mynah pretrain --data tokens --minutes 5 --out runs/first
  mynah pretrain --data tokens --preset tiny --out runs/small
  mynah pretrain --data tokens --preset baby --out runs/code --tokens 20M --lr 1e-3 --set warmup_steps=200
  mynah pretrain --mix code=0.7,prose=0.3 --preset baby --out runs/mixed
  mynah pretrain --data tokens --preset baby --out runs/plots --key-token plt --key-token fit
  mynah pretrain --stream hf:roneneldan/TinyStories --tokenizer tokenizer.json --preset baby --out runs/stories
  mynah pretrain --data tokens --out runs/more --init hf:openai-community/gpt2 --tokens 2M --lr 5e-5";

/// Train a model on tokens, from random weights or from another model
#[derive(Debug, Args)]
#[command(after_help = format!("{}\n{DETAILS}", recipe_keys()))]
pub(crate) struct PretrainArgs {
    /// Directory made by `mynah tokenize`
    #[arg(long, value_name = "DIR", required_unless_present_any = ["mix", "stream"])]
    data: Option<PathBuf>,
    /// Several such directories and their shares of every batch, in place of --data
    #[arg(long, value_name = "DIR=W,DIR=W", value_delimiter = ',', value_parser = weighted, conflicts_with = "data")]
    mix: Vec<(PathBuf, f64)>,
    /// Files, directories and hf:OWNER/NAME as `mynah corpus` takes them, in place of --data: they are
    /// cleaned and tokenized while they are read, nothing is written down, and duplicates stay
    #[arg(long, value_name = "PATH", num_args = 1.., requires = "tokenizer", conflicts_with_all = ["data", "mix"])]
    stream: Vec<PathBuf>,
    /// The tokenizer.json, or its directory, for --stream
    #[arg(long, value_name = "FILE", requires = "stream")]
    tokenizer: Option<PathBuf>,
    /// Tokens of a stream that are shuffled at once [default: 16,777,216]
    #[arg(long, value_name = "N", value_parser = amount, requires = "stream")]
    block_tokens: Option<u64>,
    #[command(flatten, next_help_heading = "What a stream reads")]
    choice: ChoiceArgs,
    #[arg(long, value_name = "NAME", required_unless_present_any = ["init", "minutes", "flops"], help = preset_help())]
    preset: Option<String>,
    /// In place of a preset: train about so many minutes on this machine, and choose shape, rate and batch for that
    #[arg(long, value_name = "N", value_parser = number, conflicts_with_all = ["preset", "init", "steps", "tokens", "flops"])]
    minutes: Option<f64>,
    /// The same for so many floating-point operations, which any machine can repeat, such as 1e14
    #[arg(long, value_name = "F", value_parser = number, conflicts_with_all = ["preset", "init", "steps", "tokens"])]
    flops: Option<f64>,
    /// Run directory
    #[arg(long, value_name = "RUN")]
    out: PathBuf,
    /// Optimizer steps [default: the preset's]
    #[arg(long, value_name = "N", value_parser = amount, help_heading = "Recipe")]
    steps: Option<u64>,
    /// Tokens to train on, such as 20M, rounded up to whole steps
    #[arg(long, value_name = "N", value_parser = amount, conflicts_with = "steps", help_heading = "Recipe")]
    tokens: Option<u64>,
    /// Tokens of a step, a multiple of seq_len [default: the preset's]
    #[arg(long, value_name = "N", value_parser = amount, help_heading = "Recipe")]
    batch_tokens: Option<u64>,
    /// Highest learning rate [default: the preset's]
    #[arg(long, value_name = "F", value_parser = number, help_heading = "Recipe")]
    lr: Option<f64>,
    /// Number format of checkpoints [default: f32]; what continues does so from exact numbers
    #[arg(long, value_name = "f32|f16|bf16", help_heading = "Recipe")]
    dtype: Option<String>,
    /// Weigh sequences by how often this word is a token in them, with or without a space before it (the
    /// Hugging Face course's key tokens); may be repeated. Validation stays plain
    #[arg(long, value_name = "WORD", help_heading = "Recipe")]
    key_token: Vec<String>,
    /// A sequence with n key tokens counts α (1 + n) times: this is α [default: 1]
    #[arg(long, value_name = "F", value_parser = number, requires = "key_token", help_heading = "Recipe")]
    key_token_alpha: Option<f64>,
    /// Change any recipe key; may be repeated
    #[arg(long, value_name = "KEY=VALUE", help_heading = "Recipe")]
    set: Vec<String>,
    /// Begin from this model instead of random weights: a run, a checkpoint, a Hugging Face directory, a GGUF
    /// file or hf:OWNER/NAME. The shape is the model's then, and the preset says only how to train
    #[arg(long, value_name = "MODEL")]
    init: Option<PathBuf>,
    #[command(flatten)]
    lora: LoraArgs,
    /// Whether the optimizer of the model begins anew or goes on
    #[arg(long, value_name = "STATE", requires = "init", default_value = "fresh")]
    optimizer: OptimizerState,
    /// Add a special token to the model's vocabulary; may be repeated
    #[arg(long, value_name = "TOKEN", requires = "init")]
    special: Vec<String>,
}

/// `DIR=0.7`.
pub(crate) fn weighted(text: &str) -> Result<(PathBuf, f64), String> {
    let shape = || format!("{text} has no share: write {text}=0.7,OTHER=0.3");
    let (path, weight) = text.rsplit_once('=').ok_or_else(shape)?;
    let weight = weight.parse::<f64>().ok().filter(|w| w.is_finite() && *w > 0.0);
    Ok((path.into(), weight.ok_or_else(|| format!("the weight of {path} is not a positive number"))?))
}

/// What becomes of the optimizer's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum OptimizerState {
    /// Moments begin at zero
    Fresh,
    /// Moments and the count of updates go on
    Continued,
}

impl PretrainArgs {
    /// Where the tokens come from.
    fn source(&self, session: &Session) -> Result<Source> {
        let Some(tokenizer) = &self.tokenizer else {
            if self.choice.is_given() {
                let what =
                    "--include, --exclude, --text-field, --where, --keep-if-contains and --val-fraction";
                return Err(Usage(format!("{what} choose what --stream reads; here there is none")).into());
            }
            let one = self.data.iter().map(|dir| (dir.clone(), 1.0));
            return Ok(Source::Shards(one.chain(self.mix.clone()).collect()));
        };
        let block_tokens = self.block_tokens.map_or(Ok(BLOCK_TOKENS), usize::try_from)?;
        let corpus = self.choice.options(&self.stream, session);
        Ok(Source::Stream(Box::new(StreamOptions { corpus, tokenizer: tokenizer.clone(), block_tokens })))
    }

    /// Where the weights come from, and the recipe: preset, then `--set`, then the flags.
    fn recipe(&self, session: &Session) -> Result<(Start, Settings)> {
        let mut changes = self.changes(session);
        if let Some(budget) = self.budget()? {
            let (shape, settings) = self.sized(budget, &changes, session)?;
            return Ok((Start::Random(shape), settings));
        }
        let Some(path) = &self.init else {
            if self.lora.is_given() {
                let usage = "--lora, --adapter and --base are beside a model: name it with --init";
                return Err(Usage(usage.into()).into());
            }
            let preset = self.preset.as_deref().expect("required where there is no --init");
            let (_, settings) = resolve(preset, &changes)?;
            changes.extend(self.steps_for_tokens(&settings));
            let (shape, settings) = resolve(preset, &changes)?;
            return Ok((Start::Random(shape), settings));
        };
        let init = self.lora.init(path, "init", &self.out, session, |name, model| {
            let tokenizer = model.tokenizer()?;
            Init::new(name, model, tokenizer, &self.special)
        })?;
        let resolve = |changes: &[String]| {
            Settings::resolve_for(self.preset.as_deref(), changes, &init.model().config)
                .map_err(|error| Usage(format!("{error:#}")))
        };
        changes.extend(self.steps_for_tokens(&resolve(&changes)?));
        let settings = resolve(&changes)?;
        let continued = self.optimizer == OptimizerState::Continued;
        Ok((Start::Model { init: Box::new(init), continue_optimizer: continued }, settings))
    }

    /// What the training may cost, where that is to decide its recipe.
    fn budget(&self) -> Result<Option<Budget>> {
        let (name, value, budget) = match (self.minutes, self.flops) {
            (Some(minutes), _) => ("--minutes", minutes, Budget::Minutes(minutes)),
            (None, Some(flops)) => ("--flops", flops, Budget::Flops(flops)),
            (None, None) => return Ok(None),
        };
        let is_positive = value.is_finite() && value > 0.0;
        let usage =
            || Usage(format!("{name} {value}: give a number above 0, such as --minutes 10 or --flops 1e14"));
        ensure!(is_positive, usage());
        Ok(Some(budget))
    }

    /// The recipe for a budget: that of the run where it has begun, since a machine is never twice as fast as it was.
    fn sized(&self, budget: Budget, changes: &[String], session: &Session) -> Result<(Shape, Settings)> {
        if let Some(begun) = Settings::of_run(&self.out, changes)? {
            session.say(&format!("{} has begun: its recipe holds", self.out.display()));
            return Ok(begun);
        }
        let (mut vocab_size, mut tokens) = (0, None);
        for dir in self.data.iter().chain(self.mix.iter().map(|(dir, _)| dir)) {
            let shards = TokenShards::open(dir)?;
            vocab_size = vocab_size.max(shards.vocab_size());
            tokens = Some(tokens.unwrap_or(0) + shards.len(Split::Train));
        }
        if let Some(tokenizer) = &self.tokenizer {
            vocab_size = Tokenizer::from_file(tokenizer)?.vocab_size();
        }
        let computes = session.computes(Purpose::Training(&self.out))?;
        session.start_threads()?;
        if matches!(budget, Budget::Minutes(_)) && session.ranks().size() > 1 {
            let usage = "--minutes is measured, and processes would choose otherwise: give --flops";
            return Err(Usage(usage.into()).into());
        }
        let cost = |config: &Config, method| budget.cost(config, method, &computes);
        let Sized { shape, settings, why } = sized(cost, vocab_size, tokens, changes)?;
        why.iter().for_each(|line| session.say(line));
        Ok((shape, settings))
    }

    fn changes(&self, session: &Session) -> Vec<String> {
        let says_lanes = self.preset.as_deref().is_some_and(Settings::says_lanes);
        let mut changes: Vec<String> =
            session.lanes(&self.out).into_iter().filter(|_| !says_lanes).chain(self.set.clone()).collect();
        changes.extend(self.lr.map(|lr| format!("lr={lr:?}")));
        changes.extend(self.batch_tokens.map(|n| format!("batch_tokens={n}")));
        changes.extend(self.steps.map(|n| format!("steps={n}")));
        changes.extend(self.dtype.as_ref().map(|dtype| format!("dtype={dtype}")));
        if !self.key_token.is_empty() {
            // A list of strings is written alike in JSON and in TOML.
            changes.push(format!("key_tokens={}", json!(self.key_token)));
        }
        changes.extend(self.key_token_alpha.map(|alpha| format!("key_token_alpha={alpha:?}")));
        changes
    }

    /// The steps that `--tokens` asks for.
    fn steps_for_tokens(&self, settings: &Settings) -> Option<String> {
        self.tokens.map(|tokens| format!("steps={}", tokens.div_ceil(settings.batch_tokens as u64)))
    }
}

/// A recipe by name; a mistake in it is a mistake in what was typed.
pub(crate) fn resolve(preset: &str, changes: &[String]) -> Result<(Shape, Settings), Usage> {
    Settings::resolve(preset, changes).map_err(|error| Usage(format!("{error:#}")))
}

pub(crate) fn run(args: &PretrainArgs, session: &Session) -> Result<Ended> {
    let source = args.source(session)?;
    let (start, settings) = args.recipe(session)?;
    let options = PretrainOptions { source, out: args.out.clone(), settings, seed: session.seed(), start };
    let mut compute = session.compute(Purpose::Training(&args.out))?;
    let machine = session.machine(&mut compute);
    let outcome = pretrain(compute, &machine, &options, session.watcher())?;
    let PretrainOutcome { ending, validation, exposure } = &outcome;
    let Ending { step, stopped, report, .. } = ending;
    let summary = json!({
        "step": step,
        "stopped": stopped,
        "data": exposure.iter().map(|e| json!({"path": e.path, "share": e.share, "epochs": e.epochs})).collect::<Vec<_>>(),
        "val_loss_before": ending.before("val_loss"),
        "val_bpb_before": ending.before("val_bpb"),
        "val_loss": validation.map(|v| v.loss()),
        "val_bpb": validation.map(|v| v.bits_per_byte()),
        "run": args.out,
        "report": report,
    });
    session.summary(&summary, || {
        let measured =
            validation.map(|v| format!(", {:.4} bits per byte", v.bits_per_byte())).unwrap_or_default();
        format!("{} steps{measured} → {}", count(*step), report.display())
    })?;
    Ok(Ended::of(&outcome.ending))
}

fn preset_help() -> String {
    let names: Vec<&str> = PRESETS.iter().map(|(name, _)| *name).collect();
    format!("Shape and schedule: {}, or a .toml file", names.join(", "))
}

/// The keys of `--set`: their values in a few presets, and what they are.
fn recipe_keys() -> String {
    let presets = ["tiny", "baby", "gpt2", "modern-small"];
    let values = presets.map(|name| {
        let (shape, settings) =
            Settings::resolve(name, &[]).expect("a preset that comes with the program resolves");
        let plain = "a recipe is made of plain values";
        [serde_json::to_value(shape).expect(plain), serde_json::to_value(settings).expect(plain)]
    });
    let row = |key: &str| {
        let value = |recipe: &[Value; 2]| match recipe.iter().find_map(|part| part.get(key)) {
            None | Some(Value::Null) => "-".to_string(),
            Some(Value::String(name)) => name.clone(),
            Some(value) => value.to_string(),
        };
        let [a, b, c, d] = values.each_ref().map(value);
        [key.to_string(), a, b, c, d]
    };
    let keys = || Shape::KEYS.iter().chain(Settings::KEYS);
    let [a, b, c, d] = presets;
    let mut rows = vec![["key", a, b, c, d].map(String::from)];
    rows.extend(keys().map(|(key, _)| row(key)));
    let mut text =
        String::from("Recipe keys, for --set and preset files, with the values of some presets:\n");
    let meanings = std::iter::once("").chain(keys().map(|(_, meaning)| meaning.trim()));
    for (line, meaning) in table(&rows).lines().zip(meanings) {
        text += format!("{line}  {meaning}").trim_end();
        text.push('\n');
    }
    text
}
