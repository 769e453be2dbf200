//! `mynah speedrun`: the whole road in one command.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use gpt::complete::{Completer, Options};
use gpt::model::Sampling;
use gpt::report::{Completion, Results};
use gpt::stage::{SpeedrunOptions, SpeedrunOutcome, TRAINING_SECS, speedrun};
use serde_json::{Map, Value, json};

use super::complete::{Model, stream};
use super::pretrain::resolve;
use crate::Ended;
use crate::session::Session;
use crate::terminal::text::{secs, table};

const DETAILS: &str = "\
Collects source code that is on this machine anyhow, learns a vocabulary, trains the model that learns most in about
five minutes, measures it beside an untrained one and counted 5-grams, and completes code that it has not seen.
Every stage continues where it was stopped.

Examples:
  mynah
  mynah speedrun --preset tiny --out /tmp/quick --no-chat
  mynah speedrun --source ~/projects --out runs/mine";

/// The whole road in one command: corpus, tokenizer, tokens, training, evaluation
#[derive(Debug, Default, Args)]
#[command(after_help = DETAILS)]
pub(crate) struct SpeedrunArgs {
    #[arg(long, value_name = "NAME", help = preset_help())]
    preset: Option<String>,
    /// Directory for everything that is made [default: runs/speedrun]
    #[arg(long, value_name = "RUN")]
    out: Option<PathBuf>,
    /// A folder of source code to learn from, instead of those that are looked for; may be repeated
    #[arg(long, value_name = "FOLDER")]
    source: Vec<PathBuf>,
    /// Do not ask for prompts at the end
    #[arg(long)]
    no_chat: bool,
}

fn preset_help() -> String {
    format!(
        "Shape and schedule by name [default: what learns most in {} on this machine]",
        secs(TRAINING_SECS)
    )
}

pub(crate) fn run(args: &SpeedrunArgs, session: &Session) -> Result<Ended> {
    if let Some(preset) = &args.preset {
        resolve(preset, &[])?;
    }
    session.start_threads()?;
    let options = SpeedrunOptions {
        out: args.out.clone().unwrap_or_else(|| "runs/speedrun".into()),
        sources: args.source.clone(),
        preset: args.preset.clone(),
        seed: session.seed(),
        threads: session.threads(),
    };
    let machine = session.machine(&mut session.cpu());
    let SpeedrunOutcome { results, run, report } =
        speedrun(&|| session.cpu(), &machine, &options, session.watcher())?;
    let Some(results) = results else { return Ok(Ended::Stopped) };
    session.result(&to_json(&results), || describe(&results))?;
    session.say(&format!("the page about it: {}", report.display()));
    session.say(&format!("go on with: mynah complete --model {} 'fn main() {{'", run.display()));
    if !args.no_chat && !session.json() && std::io::stdin().is_terminal() {
        chat(&run, session)?;
    }
    Ok(Ended::Done)
}

/// Completes what a person types, until they have enough.
fn chat(run: &Path, session: &Session) -> Result<()> {
    session.say("\nType the beginning of some code; an empty line ends.");
    session.watcher().stop_at_once();
    let Model { mut cpu, config, weights, tokenizer } = Model::load(run, session)?;
    let mut completer = Completer::new(&mut cpu, &config, &weights, &tokenizer, 1)?;
    let sampling = Sampling { temperature: 0.8, top_k: 40, top_p: 1.0, seed: session.seed() };
    let options = Options { max_tokens: 64, sampling, stop: Vec::new(), suffix: None };
    loop {
        write!(std::io::stderr(), "> ").context("cannot ask for a prompt")?;
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).context("cannot read the prompt")?;
        let prompt = line.trim_end_matches(['\r', '\n']);
        if prompt.is_empty() {
            return Ok(());
        }
        stream(&mut completer, prompt, &options)?;
    }
}

fn to_json(results: &Results) -> Value {
    let stages: Map<String, Value> = results
        .stages
        .iter()
        .map(|stage| (stage.name.clone(), json!({ "secs": stage.secs, "note": stage.note })))
        .collect();
    json!({ "stages": stages, "baselines": results.baselines, "completions": results.completions })
}

fn describe(results: &Results) -> String {
    let mut page = String::from("\nHeld-out code the model has not seen:\n\n");
    results.completions.iter().for_each(|completion| page += &side_by_side(completion));
    let head = ["", "bits per byte", "next line exact", "95 % interval"].map(String::from);
    let mut rows = vec![head];
    for baseline in &results.baselines {
        let next = baseline.next_line;
        let percent = |share: f64| format!("{:.1} %", 100.0 * share);
        rows.push([
            baseline.name.clone(),
            format!("{:.4}", baseline.bits_per_byte),
            percent(next.value),
            format!("{} – {} of {}", percent(next.low), percent(next.high), next.n),
        ]);
    }
    page + &table(&rows)
}

/// A snippet, and under it what the model wrote beside what stands there.
fn side_by_side(completion: &Completion) -> String {
    const WIDTH: usize = 52;
    let mut text = format!("── {}\n", completion.source);
    let context: Vec<&str> = completion.prompt.lines().collect();
    context[context.len().saturating_sub(6)..].iter().for_each(|line| text += &format!("  {line}\n"));
    let heads = ["the model goes on:", "what stands there:"];
    text += &format!("  {:<WIDTH$} │ {}\n", heads[0], heads[1]);
    let (model, truth): (Vec<_>, Vec<_>) =
        (completion.model.lines().collect(), completion.truth.lines().collect());
    for i in 0..model.len().max(truth.len()) {
        let cell = |lines: &[&str]| -> String {
            let line = lines.get(i).copied().unwrap_or("").replace('\t', "    ");
            match line.char_indices().nth(WIDTH) {
                Some(_) => line.chars().take(WIDTH - 1).chain(['…']).collect(),
                None => line,
            }
        };
        text += format!("  {:<WIDTH$} │ {}", cell(&model), cell(&truth)).trim_end();
        text.push('\n');
    }
    text + "\n"
}
