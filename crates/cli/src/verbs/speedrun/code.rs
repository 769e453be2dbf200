//! The road of code.

use std::io::IsTerminal;
use std::path::Path;

use anyhow::Result;
use gpt::complete::{Completer, Options};
use gpt::model::Sampling;
use gpt::report::{Completion, Results};
use gpt::stage::{CodeOptions, CodeOutcome, code_road};
use serde_json::{Map, Value, json};

use super::SpeedrunArgs;
use crate::session::{Ended, Purpose, Session};
use crate::terminal::text::table;
use crate::terminal::{Asking, Input, Typed};
use crate::verbs::complete::{Model, stream};
use crate::verbs::pretrain::resolve;

pub(super) fn run(args: &SpeedrunArgs, session: &Session) -> Result<Ended> {
    if let Some(preset) = &args.preset {
        resolve(preset, &[])?;
    }
    let options = CodeOptions {
        out: args.out.clone().unwrap_or_else(|| "runs/code".into()),
        sources: args.source.clone(),
        preset: args.preset.clone(),
        budget: args.budget()?,
        seed: session.seed(),
        threads: session.threads(),
    };
    let compute = session.computes(Purpose::Training(&options.out))?;
    let machine = session.machine(&mut compute());
    let CodeOutcome { results, run, report } = code_road(&compute, &machine, &options, session.watcher())?;
    let Some(results) = results else { return Ok(Ended::Stopped) };
    session.result(&to_json(&results), || describe(&results))?;
    session.say(&format!("the page about it: {}", report.display()));
    session.say(&format!("go on with: mynah complete --model {} 'fn main() {{'", run.display()));
    if !args.no_chat && !session.json() && std::io::stdin().is_terminal() {
        complete(&run, session)?;
    }
    Ok(Ended::Done)
}

/// Completes what a person types, until they have enough.
fn complete(run: &Path, session: &Session) -> Result<()> {
    session.say("\nType the beginning of some code; an empty line ends.");
    session.watcher().stop_at_once();
    let Model { mut compute, config, weights, tokenizer, .. } = Model::load(run, Purpose::Text, session)?;
    let mut completer = Completer::new(&mut compute, &config, &weights, &tokenizer, 1)?;
    let sampling = Sampling { temperature: 0.8, top_k: 40, top_p: 1.0, seed: session.seed() };
    let options = Options { max_tokens: 64, sampling, stop: Vec::new(), suffix: None, task: None };
    let mut input = Input::open(Asking { prompt: "> ", ..Asking::default() })?;
    loop {
        let line = match input.next()? {
            Typed::Line(line) => line,
            Typed::Nothing => continue,
            Typed::End => return Ok(()),
        };
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
