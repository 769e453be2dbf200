//! `mynah pretrain`: a model from tokens.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use gpt::stage::{PRESETS, PretrainOptions, PretrainOutcome, Settings, pretrain};
use serde_json::json;

use crate::Ended;
use crate::args::{Usage, amount};
use crate::session::Session;
use crate::terminal::text::{count, table};

const DETAILS: &str = "\
The run directory holds config.toml, metrics.jsonl, report.html, and checkpoints that are Hugging Face model
directories. Ctrl-C saves and stops; the same command again continues, bit for bit.

Examples:
  mynah pretrain --data tokens --preset tiny --out runs/first
  mynah pretrain --data tokens --preset baby --out runs/code --tokens 20M --lr 1e-3 --set warmup_steps=200
  mynah pretrain --data tokens --preset gpt2 --out runs/more --init path/to/gpt2";

/// Train a model on tokens, from random weights or from another model
#[derive(Debug, Args)]
#[command(after_help = format!("{}\n{DETAILS}", recipe_keys()))]
pub(crate) struct PretrainArgs {
    /// Directory made by `mynah tokenize`
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    #[arg(long, value_name = "NAME", help = preset_help())]
    preset: String,
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
    #[arg(long, value_name = "F", allow_negative_numbers = true, help_heading = "Recipe")]
    lr: Option<f64>,
    /// Change any recipe key; may be repeated
    #[arg(long, value_name = "KEY=VALUE", help_heading = "Recipe")]
    set: Vec<String>,
    /// Begin from this model instead of random weights: a run, a checkpoint or a Hugging Face directory
    #[arg(long, value_name = "MODEL")]
    init: Option<PathBuf>,
}

impl PretrainArgs {
    /// The recipe: preset, then `--set`, then the flags.
    fn settings(&self) -> Result<Settings, Usage> {
        let mut changes = self.set.clone();
        changes.extend(self.lr.map(|lr| format!("lr={lr:?}")));
        changes.extend(self.batch_tokens.map(|n| format!("batch_tokens={n}")));
        changes.extend(self.steps.map(|n| format!("steps={n}")));
        let settings = resolve(&self.preset, &changes)?;
        let Some(tokens) = self.tokens else { return Ok(settings) };
        changes.push(format!("steps={}", tokens.div_ceil(settings.batch_tokens as u64)));
        resolve(&self.preset, &changes)
    }
}

/// A recipe by name; a mistake in it is a mistake in what was typed.
pub(crate) fn resolve(preset: &str, changes: &[String]) -> Result<Settings, Usage> {
    Settings::resolve(preset, changes).map_err(|error| Usage(format!("{error:#}")))
}

pub(crate) fn run(args: &PretrainArgs, session: &Session) -> Result<Ended> {
    let options = PretrainOptions {
        data: args.data.clone(),
        out: args.out.clone(),
        settings: args.settings()?,
        seed: session.seed(),
        init: args.init.clone(),
    };
    let mut cpu = session.cpu();
    let machine = session.machine(&mut cpu);
    let outcome = pretrain(cpu, &machine, &options, session.watcher())?;
    let PretrainOutcome { step, stopped, validation, report } = &outcome;
    let summary = json!({
        "step": step,
        "stopped": stopped,
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
    Ok(if *stopped { Ended::Stopped } else { Ended::Done })
}

fn preset_help() -> String {
    let names: Vec<&str> = PRESETS.iter().map(|(name, _)| *name).collect();
    format!("Shape and schedule: {}, or a .toml file", names.join(", "))
}

/// The keys of `--set`: their values in a few presets, and what they are.
fn recipe_keys() -> String {
    let presets = ["tiny", "baby", "gpt2"];
    let values = presets.map(|name| {
        let settings = Settings::resolve(name, &[]).expect("a preset that comes with the program resolves");
        serde_json::to_value(settings).expect("settings are plain numbers")
    });
    let row = |key: &str| {
        let [tiny, baby, gpt2] = values.each_ref().map(|settings| settings[key].to_string());
        [key.to_string(), tiny, baby, gpt2]
    };
    let mut rows = vec![["key", "tiny", "baby", "gpt2"].map(String::from)];
    rows.extend(Settings::KEYS.iter().map(|(key, _)| row(key)));
    let mut text =
        String::from("Recipe keys, for --set and preset files, with the values of some presets:\n");
    let meanings = std::iter::once("").chain(Settings::KEYS.iter().map(|(_, meaning)| meaning.trim()));
    for (line, meaning) in table(&rows).lines().zip(meanings) {
        text += format!("{line}  {meaning}").trim_end();
        text.push('\n');
    }
    text
}
