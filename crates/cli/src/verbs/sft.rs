//! `mynah sft`: a language model learns to answer.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use gpt::data::{TooLong, messages};
use gpt::stage::{SftOptions, SftSettings, sft};
use gpt::tokenizer::chat::ChatTemplate;
use serde_json::json;

use super::stages::{HELD_OUT, LoraArgs, RecipeArgs, RowArgs, init as model, keys, weighted};
use crate::options::whole;
use crate::session::{Ended, Purpose, Session, closing};

const DETAILS: &str = "\
The demonstrations are JSON lines, {\"messages\":[{\"role\":\"user\",\"content\":\"…\"},{\"role\":\"assistant\",\"content\":\"…\"}]} or
{\"prompt\":\"…\",\"completion\":\"…\"}, or rows of ShareGPT, Alpaca, OpenAI, UltraFeedback or KTO (label true); --fields names other
columns. Messages of weight 0 and what tools return are read and not learned. A model without a chat template gets mynah's, whose two tokens are added to its vocabulary.

Examples:
  mynah sft --model runs/base --data demonstrations.jsonl --out runs/sft
  mynah sft --model runs/base --data demonstrations.jsonl --ptx tokens --set ptx_share=0.1 --out runs/sft
  mynah sft --model runs/base --data questions.jsonl --fields prompt=question,completion=answer --out runs/sft
  mynah sft --model runs/base --data demonstrations.jsonl --reward runs/reward --out runs/sft-again";

/// Teach a model to answer, from demonstrations
#[derive(Debug, Args)]
#[command(after_help = format!("{}\n{DETAILS}", keys::<SftSettings>()))]
pub(crate) struct SftArgs {
    /// The model to begin from: a run, a checkpoint, a Hugging Face directory, a GGUF file or hf:OWNER/NAME
    #[arg(long, value_name = "MODEL")]
    model: PathBuf,
    /// Demonstrations: JSON lines, CSV, TSV or Parquet
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// Demonstrations to validate with [default: a tenth of --data]
    #[arg(long, value_name = "FILE")]
    val: Option<PathBuf>,
    /// A reward model whose mean score of held-out answers selects the best state, instead of the validation
    /// loss
    #[arg(long, value_name = "MODEL")]
    reward: Option<PathBuf>,
    /// Run directory
    #[arg(long, value_name = "RUN")]
    out: PathBuf,
    /// What becomes of conversations that are longer than the context
    #[arg(long, value_enum, value_name = "POLICY", default_value = "drop")]
    overflow: OverflowPolicy,
    /// Token shards of the pretraining mix, for ptx_share; several with their weights
    #[arg(long, value_name = "DIR[=W]", value_delimiter = ',', value_parser = weighted)]
    ptx: Vec<(PathBuf, f64)>,
    /// How often every demonstration is seen [default: by their number]
    #[arg(long, value_name = "N", value_parser = whole::<u64>(1..), help_heading = "Recipe")]
    epochs: Option<u64>,
    #[command(flatten)]
    recipe: RecipeArgs,
    #[command(flatten)]
    lora: LoraArgs,
    #[command(flatten)]
    rows: RowArgs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum OverflowPolicy {
    /// They are left out, and counted
    Drop,
    /// Their first tokens are left out, and counted
    TruncateLeft,
    /// The file is refused
    Error,
}

pub(crate) fn run(args: &SftArgs, session: &Session) -> Result<Ended> {
    session.start_threads()?;
    let epochs = args.epochs.map(|epochs| format!("epochs={epochs}"));
    let settings = args.recipe.resolve_shared::<SftSettings>(&args.out, session, &[epochs])?;
    let init = model(&args.model, "init", &args.out, true, &args.lora, session)?;
    let tokenizer = init.tokenizer().context("a model with a chat template has a tokenizer")?;
    let template = ChatTemplate::of(tokenizer)?.context("it was given a chat template")?;
    let rows = args.rows.reader(messages::FIELDS, session)?;
    let context = init.model().config.seq_len;
    let too_long = match args.overflow {
        OverflowPolicy::Drop => TooLong::Drop,
        OverflowPolicy::TruncateLeft => TooLong::TruncateLeft,
        OverflowPolicy::Error => TooLong::Error,
    };
    let read = |path| rows.conversations(path, &template, tokenizer, context, too_long);
    let (train, val) = match &args.val {
        Some(val) => (read(&args.data)?, read(val)?),
        None => read(&args.data)?.split(HELD_OUT)?,
    };
    rows.columns.check()?;
    let reward = args
        .reward
        .as_ref()
        .map(|path| model(path, "reward", &args.out, false, &LoraArgs::default(), session));
    let reward = reward.transpose()?;
    let options = SftOptions {
        init: &init,
        train: &train,
        val: &val,
        reward: reward.as_ref(),
        ptx: args.ptx.clone(),
        out: args.out.clone(),
        settings,
        seed: session.seed(),
    };
    let mut compute = session.compute(Purpose::Training(&args.out))?;
    let machine = session.machine(&mut compute);
    let outcome = sft(compute, &machine, &options, session.watcher())?;
    let summary = json!({
        "step": outcome.ending.step, "stopped": outcome.ending.stopped, "val_loss_before": outcome.before,
        "val_loss": outcome.after, "demonstrations": train.per_epoch(), "held_out": val.per_epoch(),
        "run": args.out, "report": outcome.ending.report,
    });
    session.summary(&summary, || {
        let loss = outcome.after.map(|loss| format!("validation loss {loss:.4}"));
        closing(&outcome.ending, "steps", loss)
    })?;
    Ok(Ended::of(&outcome.ending))
}
