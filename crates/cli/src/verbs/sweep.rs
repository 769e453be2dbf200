//! `mynah sweep`: trainings that differ in some keys, one after another, and what they say together.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Args, Parser};
use gpt::data::TokenShards;
use gpt::stage::sweep::{Amount, BEST, Ended as TrialEnded, Sweep, SweepFile, Trial, Written, words};
use gpt::stage::usual_vocab_size;
use serde_json::json;

use super::pretrain::resolve;
use crate::commands::Cli;
use crate::options::Usage;
use crate::session::{Ended, Purpose, Session};
use crate::terminal::text::left_table;

const DETAILS: &str = "\
FILE is a TOML table. `verb` is a training (pretrain, unless it says otherwise); every other key is a flag of it, and [set] holds
recipe keys of all runs. [grid] has a list of values for each key, and there is a run for every combination; or [[ladder]] says
each run by itself: a preset, recipe keys, and tokens, flops or steps. `seed` and `preset` may differ as recipe keys do.

  preset = \"nano\"                     preset = \"modern-nano\"
  data = \"tokens\"                     data = \"tokens\"
  [set]
  steps = 2000                        [[ladder]]
  [grid]                              d_model = 64
  lr = [1e-3, 3e-3]                   flops = 1e14
  optimizer = [\"adamw\", \"muon\"]       [[ladder]]
                                      d_model = 128
                                      flops = 1e15

The directory gets a run for each, report.html with the figures over compute (of a ladder, with a power law), results.json, and
best.toml, which --preset takes. Ctrl-C saves and stops; the same command again goes on, and does nothing twice.

Examples:
  mynah sweep grid.toml --out sweeps/lr
  mynah pretrain --data tokens --preset sweeps/lr/best.toml --tokens 200M --out runs/best";

/// Train the same in several ways, or models of several sizes, and compare them
#[derive(Debug, Args)]
#[command(after_help = DETAILS)]
pub(crate) struct SweepArgs {
    /// What the runs have in common, and what they differ in
    file: PathBuf,
    /// Directory for the runs and the page about them
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

pub(crate) fn run(args: &SweepArgs, session: &Session) -> Result<Ended> {
    let file = SweepFile::read(&args.file).map_err(|error| Usage(format!("{error:#}")))?;
    let mut work = Vec::new();
    for trial in &file.trials {
        // A fault of the file shows before anything begins.
        parsed(&file, trial, Vec::new(), Path::new("run"))
            .map_err(|error| fault(args, &file, trial, &error))?;
        work.push(work_of(&file, trial).map_err(|error| fault(args, &file, trial, &error))?);
    }
    let precision = session.precision_name(Purpose::Training(&args.out))?;
    let mut sweep = Sweep::open(&file, &args.out, session.seed(), precision, &Session::command())?;
    let per_run: Vec<f64> = work.iter().map(|work| work.flops).collect();
    let numbers = file.trials.iter().zip(&work).map(|(trial, work)| (trial.name.as_str(), work.steps));
    let steps: std::collections::BTreeMap<&str, Option<u64>> = numbers.collect();
    let ended = sweep.run(&per_run, session.watcher(), |trial, dir| {
        let further = vec!["--precision".to_owned(), precision.to_owned()];
        let length = steps.get(trial.name.as_str()).copied().flatten();
        let length = length.map(|steps| format!("steps={steps}"));
        let further =
            [further, length.into_iter().flat_map(|steps| ["--set".to_owned(), steps]).collect()].concat();
        let cli = parsed(&file, trial, further, dir)?;
        let seed = trial.seed.unwrap_or_else(|| session.seed());
        let ended = super::run(cli.verb, &session.with_seed(seed, precision)?);
        Ok(match ended.map_err(|error| in_words(args, &file, trial, error))? {
            Ended::Done => TrialEnded::Done,
            Ended::Stopped => TrialEnded::Stopped,
        })
    })?;
    let Written { trials, best, report } = sweep.write()?;
    let best_run = trials.best().map(|best| best.name.clone());
    let told = json!({
        "stopped": ended == TrialEnded::Stopped,
        "metric": trials.metric,
        "runs": trials.trials.iter().map(|trial| {
            let differs: serde_json::Map<String, serde_json::Value> =
                trials.keys.iter().zip(&trial.values).map(|(key, value)| (key.clone(), json!(value))).collect();
            json!({
                "run": args.out.join(&trial.name), "differs": differs, "value": trial.value, "step": trial.step,
                "parameters": trial.parameters, "tokens": trial.tokens, "flops": trial.flops,
                "finished": trial.finished, "failed": trial.failed,
            })
        }).collect::<Vec<_>>(),
        "law": trials.law.as_ref().map(|law| json!({ "a": law.a, "b": law.b, "n": law.n })),
        "best": best_run,
        "preset": best,
        "report": report,
    });
    session.summary(&told, || {
        let mut rows = vec![["run".to_owned(), trials.metric.clone(), "state".to_owned()]];
        rows.extend(trials.trials.iter().map(|trial| {
            let state = match (&trial.failed, trial.finished) {
                (Some(_), _) => "failed",
                (None, true) if best_run.as_ref() == Some(&trial.name) => "the best",
                (None, true) => "finished",
                (None, false) => "not finished",
            };
            let value = trial.value.map_or("-".to_owned(), |value| format!("{value:.4}"));
            [trial.name.clone(), value, state.to_owned()]
        }));
        let law = trials.law.as_ref().map_or(String::new(), |law| {
            format!(
                "{} = {:.3} · operations^-{:.4} ({:.4} … {:.4})\n",
                trials.metric, law.a, law.b.value, law.b.low, law.b.high
            )
        });
        let best = best
            .as_ref()
            .map_or(String::new(), |_| format!("the best recipe: {}\n", args.out.join(BEST).display()));
        format!("{}{law}{best}the page about it: {}", left_table(&rows), report.display())
    })?;
    Ok(match ended {
        TrialEnded::Done => Ended::Done,
        TrialEnded::Stopped => Ended::Stopped,
    })
}

/// A run's command, understood.
fn parsed(file: &SweepFile, trial: &Trial, further: Vec<String>, dir: &Path) -> Result<Cli> {
    let out = ["--out".to_owned(), dir.display().to_string()];
    let words = std::iter::once("mynah".to_owned()).chain(words(file, trial)).chain(further).chain(out);
    Cli::try_parse_from(words).map_err(|error| {
        let text = error.to_string();
        let text = text.strip_prefix("error: ").unwrap_or(&text);
        Usage(text.split("\n\n").next().unwrap_or(text).trim().to_owned()).into()
    })
}

/// A fault of the file that shows in a run's command: which line it is of, where that can be told.
fn fault(args: &SweepArgs, file: &SweepFile, trial: &Trial, error: &anyhow::Error) -> Usage {
    let said = format!("{error:#}");
    let flag = file.flags.iter().find(|(name, ..)| said.contains(&format!("--{name}")));
    let line = flag.map_or(trial.line, |(.., line)| *line);
    Usage(format!("{}, line {line}: {said}", args.file.display()))
}

/// What a run says that is wrong with its command is wrong with the file.
fn in_words(args: &SweepArgs, file: &SweepFile, trial: &Trial, error: anyhow::Error) -> anyhow::Error {
    match error.is::<Usage>() {
        true => fault(args, file, trial, &error).into(),
        false => error,
    }
}

/// How much a run is.
struct Work {
    /// Its operations; 1 where nobody counts them.
    flops: f64,
    /// Its steps, where an amount decides them.
    steps: Option<u64>,
}

fn work_of(file: &SweepFile, trial: &Trial) -> Result<Work> {
    let begins_anew = file.verb == "pretrain" && !file.flags.iter().any(|(name, ..)| name == "init");
    let (Some(preset), true) = (trial.preset.as_deref(), begins_anew) else {
        return match trial.amount {
            Amount::Recipe => Ok(Work { flops: 1.0, steps: None }),
            _ => Err(Usage("tokens and flops are amounts of a pretraining from a preset: give steps".into())
                .into()),
        };
    };
    let (shape, settings) = resolve(preset, &trial.changes)?;
    let data = file.flags.iter().find(|(name, ..)| name == "data").and_then(|(_, values, _)| values.first());
    let vocab_size = match data {
        Some(data) => {
            TokenShards::open(Path::new(data)).with_context(|| format!("--data {data}"))?.vocab_size()
        }
        None => usual_vocab_size(preset),
    };
    let per_step =
        shape.config(vocab_size, &settings).training_flops_per_token() * settings.batch_tokens as f64;
    let steps = match trial.amount {
        Amount::Recipe => None,
        Amount::Tokens(tokens) => Some(tokens.div_ceil(settings.batch_tokens as u64)),
        Amount::Flops(flops) => Some(((flops / per_step).round() as u64).max(1)),
    };
    Ok(Work { flops: per_step * steps.unwrap_or(settings.steps) as f64, steps })
}
