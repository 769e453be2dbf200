//! `mynah ppo`: reinforcement learning from a reward model.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;
use gpt::data::{Prompt, messages};
use gpt::lessons::Judge;
use gpt::stage::{Gold, PpoOptions, PpoSettings, ppo};
use serde_json::{Map, Value, json};

use super::rank::JudgeName;
use super::stages::{LoraArgs, RecipeArgs, RowArgs, init, keys, weighted};
use crate::options::number;
use crate::session::{Ended, Purpose, Session, closing};

const DETAILS: &str = "\
The prompts are JSON lines, {\"prompt\":\"…\"} or {\"messages\":[…]}. The run ends with the state of the highest held-out reward less
a penalty on its KL divergence from the model that it began from. rollouts.jsonl keeps some answers of every iteration.

Examples:
  mynah ppo --model runs/sft --reward runs/reward --prompts prompts.jsonl --out runs/ppo
  mynah ppo --model runs/sft --reward runs/reward --prompts prompts.jsonl --ptx tokens --set ptx_coef=1 --out runs/ppo-ptx";

/// Improve a model against a reward model by proximal policy optimisation
#[derive(Debug, Args)]
#[command(after_help = format!("{}\n{DETAILS}", keys::<PpoSettings>()))]
pub(crate) struct PpoArgs {
    /// The policy to begin from and to stay close to, usually that of `mynah sft`
    #[arg(long, value_name = "MODEL")]
    model: PathBuf,
    /// The reward model
    #[arg(long, value_name = "MODEL")]
    reward: PathBuf,
    /// Prompts: JSON lines, CSV, TSV or Parquet
    #[arg(long, value_name = "FILE")]
    prompts: PathBuf,
    /// Prompts to measure with [default: a tenth of --prompts]
    #[arg(long, value_name = "FILE")]
    val: Option<PathBuf>,
    /// A judge that measures held-out answers too; training does not see it
    #[arg(long, value_enum, value_name = "lessons|length", hide_possible_values = true)]
    judge: Option<JudgeName>,
    /// Run directory
    #[arg(long, value_name = "RUN")]
    out: PathBuf,
    /// Token shards of the pretraining mix, for ptx_coef; several with their weights
    #[arg(long, value_name = "DIR[=W]", value_delimiter = ',', value_parser = weighted)]
    ptx: Vec<(PathBuf, f64)>,
    /// Price of a nat of KL to the reference [default: the recipe's]
    #[arg(long, value_name = "F", value_parser = number, help_heading = "Recipe")]
    kl_coef: Option<f64>,
    #[command(flatten)]
    recipe: RecipeArgs,
    #[command(flatten)]
    lora: LoraArgs,
    #[command(flatten)]
    rows: RowArgs,
}

/// Refuses prompts that the judge knows nothing of.
fn check_keys(judge: Judge, prompts: &[Prompt]) -> Result<()> {
    for (number, prompt) in (1..).zip(prompts) {
        if let Err(fault) = judge.score(&prompt.extra, "") {
            bail!("held-out prompt {number} cannot be judged: {}: {}", fault.kind, fault.detail);
        }
    }
    Ok(())
}

fn score_of(judge: Judge, prompt: &Prompt, answer: &str) -> f64 {
    judge.score(&prompt.extra, answer).expect("the keys of all held-out prompts were checked")
}

pub(crate) fn run(args: &PpoArgs, session: &Session) -> Result<Ended> {
    session.start_threads()?;
    let kl_coef = args.kl_coef.map(|kl_coef| format!("kl_coef={kl_coef:?}"));
    let settings = args.recipe.resolve_shared::<PpoSettings>(&args.out, session, &[kl_coef])?;
    let policy = init(&args.model, "policy", &args.out, false, &args.lora, session)?;
    let mut reward = init(&args.reward, "reward", &args.out, false, &LoraArgs::default(), session)?;
    if let Some(adapter) = policy.adapter() {
        // The value model begins at the reward model, and is trained as the policy is.
        reward = reward.beside(&adapter.lora, None)?.stored(args.lora.stored(&args.out, session)?);
    }
    let rows = args.rows.reader(messages::FIELDS, session)?;
    let (prompts, held_out) = rows.prompts(&args.prompts, args.val.as_deref())?;
    rows.columns.check()?;
    let judge = args.judge.map(Judge::from);
    if let Some(judge) = judge {
        check_keys(judge, &held_out)?;
    }
    let gold = judge.map(|judge| move |prompt: &Prompt, answer: &str| score_of(judge, prompt, answer));
    let options = PpoOptions {
        policy: &policy,
        reward: &reward,
        prompts: &prompts,
        held_out: &held_out,
        ptx: args.ptx.clone(),
        gold: gold.as_ref().map(|gold| gold as &Gold<'_>),
        out: args.out.clone(),
        settings,
        seed: session.seed(),
    };
    let mut compute = session.compute(Purpose::Training(&args.out))?;
    let machine = session.machine(&mut compute);
    let outcome = ppo(compute, &machine, &options, session.watcher())?;
    let summary = json!({
        "step": outcome.ending.step, "stopped": outcome.ending.stopped, "before": outcome.before, "after": outcome.after,
        "run": args.out, "report": outcome.ending.report,
    });
    session.summary(&summary, || {
        let measured = |after: &Map<String, Value>| {
            let figure = |name: &str| after.get(name).and_then(Value::as_f64).unwrap_or(f64::NAN);
            let before = outcome.ending.before("eval/reward").map(|reward| format!("{reward:.3} → "));
            let before = before.unwrap_or_default();
            format!(
                "held-out reward {before}{:.3} at a KL of {:.3}",
                figure("eval/reward"),
                figure("eval/kl")
            )
        };
        closing(&outcome.ending, "iterations", outcome.after.as_ref().map(measured))
    })?;
    Ok(Ended::of(&outcome.ending))
}
