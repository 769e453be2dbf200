//! `mynah grpo`: reinforcement learning on answers that can be checked.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use clap::builder::PossibleValuesParser;
use gpt::data::messages;
use gpt::eval::code;
use gpt::stage::{GrpoOptions, GrpoSettings, Init, RewardKind, RewardSpec, grpo};
use serde_json::{Map, Value, json};

use super::grade::Walls;
use super::stages::{LoraArgs, RecipeArgs, RowArgs, init, keys};
use super::tools::ToolArgs;
use crate::session::{Ended, Purpose, Session, closing};

const DETAILS: &str = "\
The prompts are JSON lines, {\"prompt\":\"…\"} or {\"messages\":[…]}, with what their answers are checked by beside it.

Rewards, of which several are added up; what follows the last colon is a weight, if it is a number:
  answer           1 where the answer states the prompt's \"answer\" or one of its \"accept\"
  number           1 where its last number, boxed or not, equals that of \"answer\" or \"accept\"; fractions and little LaTeX
  regex=PATTERN    1 where the pattern is found in it
  format=PATTERN   1 where the pattern matches all of it
  length           the more the shorter it is, below 1
  tests            1 where the program in it passes the prompt's \"tests\", run in a sandbox
  model=MODEL      what a reward model gives it
  program=FILE     what a Python program gives it, run in a sandbox: it reads one JSON object a line, {\"prompt\",\"completion\",…},
                   and writes one number a line
With --tool an answer may call tools on its way; what they return is not learned, and max_tokens holds for all of it. Rewards
judge the last message; a program finds what was said before it in \"said\".
An answer that a reward fails for is counted, told and left out. The run ends with the state of the highest held-out reward less
kl_coef times the KL divergence. rollouts.jsonl keeps some answers of every iteration.

Examples:
  mynah grpo --model runs/sft --prompts prompts.jsonl --reward answer --out runs/grpo
  mynah grpo --model runs/sft --prompts sums.jsonl --reward number --reward 'format=.*boxed.*:0.1' --loss dapo --out runs/sums
  mynah grpo --model runs/sft --prompts gsm8k.jsonl --fields prompt=question --reward number --out runs/gsm8k
  mynah grpo --model runs/sft --prompts sums.jsonl --reward number --tool calculator --out runs/calls";

/// Fields of a prompt that its answers are checked by.
const KEYS: &[&str] = &["answer", "accept", "tests", "entry_point"];

/// Improve a model on prompts whose answers can be checked, by comparing its answers to each
#[derive(Debug, Args)]
#[command(after_help = format!("{}\n{DETAILS}", keys::<GrpoSettings>()))]
pub(crate) struct GrpoArgs {
    /// The policy to begin from, usually that of `mynah sft`
    #[arg(long, value_name = "MODEL")]
    model: PathBuf,
    /// Prompts with their keys: JSON lines, CSV, TSV or Parquet
    #[arg(long, value_name = "FILE")]
    prompts: PathBuf,
    /// Prompts to measure with [default: a tenth of --prompts]
    #[arg(long, value_name = "FILE")]
    val: Option<PathBuf>,
    /// What answers get something for; may be repeated
    #[arg(long, value_name = "KIND[=ARG][:WEIGHT]", required = true, value_parser = reward)]
    reward: Vec<RewardSpec>,
    /// Run directory
    #[arg(long, value_name = "RUN")]
    out: PathBuf,
    /// Whose values the recipe has: advantages, ratio, reduction, clipping and KL [default: grpo]
    #[arg(long, value_name = "LOSS", value_parser = PossibleValuesParser::new(GrpoSettings::losses()))]
    loss: Option<String>,
    /// Answers to each prompt [default: the recipe's]
    #[arg(long, value_name = "G", help_heading = "Recipe")]
    group: Option<usize>,
    #[command(flatten)]
    recipe: RecipeArgs,
    #[command(flatten)]
    lora: LoraArgs,
    #[command(flatten)]
    tools: ToolArgs,
    #[command(flatten)]
    walls: Walls,
    #[command(flatten)]
    rows: RowArgs,
}

fn reward(text: &str) -> Result<RewardSpec, String> {
    text.parse().map_err(|error: anyhow::Error| format!("{error:#}"))
}

pub(crate) fn run(args: &GrpoArgs, session: &Session) -> Result<Ended> {
    session.start_threads()?;
    let mut usual = args.loss.as_deref().map(GrpoSettings::usual_of).unwrap_or_default();
    usual.extend(session.lanes(&args.out));
    let group = args.group.map(|group| format!("group={group}"));
    let settings = args.recipe.resolve_after::<GrpoSettings>(usual, &[group])?;
    let policy = init(&args.model, "policy", &args.out, false, &args.lora, session)?;
    let mut reward_models: Vec<Init> = Vec::new();
    for spec in &args.reward {
        if let RewardKind::Model(path) = &spec.kind {
            let key = format!("reward {}", reward_models.len() + 1);
            reward_models.push(init(path, &key, &args.out, false, &LoraArgs::default(), session)?);
        }
    }
    let runs_programs = args.reward.iter().any(RewardSpec::runs_programs);
    let time = code::TIMEOUT.max(settings.program_time());
    let sandbox = runs_programs.then(|| args.walls.sandbox(time)).transpose()?;
    let tools = args.tools.open()?;
    let rows = args.rows.reader(&[messages::FIELDS, KEYS].concat(), session)?;
    let (prompts, held_out) = rows.prompts(&args.prompts, args.val.as_deref())?;
    rows.columns.check()?;
    let options = GrpoOptions {
        policy: &policy,
        rewards: &args.reward,
        reward_models: &reward_models,
        sandbox: sandbox.as_ref(),
        tools: tools.as_ref(),
        prompts: &prompts,
        held_out: &held_out,
        out: args.out.clone(),
        settings,
        seed: session.seed(),
    };
    let mut compute = session.compute(Purpose::Training(&args.out))?;
    let machine = session.machine(&mut compute);
    let outcome = grpo(compute, &machine, &options, session.watcher())?;
    let summary = json!({
        "step": outcome.ending.step, "stopped": outcome.ending.stopped, "before": outcome.before, "after": outcome.after,
        "run": args.out, "report": outcome.ending.report,
    });
    session.summary(&summary, || {
        let measured = |after: &Map<String, Value>| {
            let figure = |name: &str| after.get(name).and_then(Value::as_f64);
            let before = |name: &str, scale: f64, digits: usize| {
                let before =
                    outcome.ending.before(name).map(|value| format!("{:.digits$} → ", scale * value));
                before.unwrap_or_default()
            };
            let pass = figure("eval/pass@1")
                .map(|pass| format!(", pass@1 {}{:.1} %", before("eval/pass@1", 100.0, 1), 100.0 * pass));
            let reward = figure("eval/reward").unwrap_or(f64::NAN);
            let before = before("eval/reward", 1.0, 3);
            format!("held-out reward {before}{reward:.3}{}", pass.unwrap_or_default())
        };
        closing(&outcome.ending, "iterations", outcome.after.as_ref().map(measured))
    })?;
    Ok(Ended::of(&outcome.ending))
}
