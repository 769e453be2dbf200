//! `mynah merge`: an adapter added to the weights that it stands beside, as one model.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use gpt::checkpoint::{self, Dtype};
use serde_json::json;

use crate::session::{Ended, Session};
use crate::terminal::text::bytes;

const EXAMPLES: &str = "\
What comes out is a model directory like any other. Sums are rounded once, to the number format of --dtype. A run that trained an
adapter names its base, so that it may stand alone.

Examples:
  mynah merge --model hf:HuggingFaceTB/SmolLM2-135M-Instruct --adapter runs/mine --out mine
  mynah merge --model runs/mine --out mine --dtype bf16
  mynah gguf --model runs/mine --out mine.gguf";

/// Merge an adapter into the model that it stands beside
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct MergeArgs {
    /// The base, or a run that trained an adapter
    #[arg(long, value_name = "MODEL")]
    model: PathBuf,
    /// The adapter: a run that trained it, a checkpoint or the directory of PEFT
    #[arg(long, value_name = "ADAPTER")]
    adapter: Option<PathBuf>,
    /// The directory to write
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Number format [default: that of the base, or f32 where it has several or another]
    #[arg(long, value_name = "f32|f16|bf16", value_parser = dtype)]
    dtype: Option<Dtype>,
}

fn dtype(name: &str) -> Result<Dtype, String> {
    Dtype::named(name).ok_or_else(|| "f32, f16 and bf16 are known".into())
}

pub(crate) fn run(args: &MergeArgs, session: &Session) -> Result<Ended> {
    let mut model = checkpoint::open(&args.model, session.terminal())?;
    if let Some(adapter) = &args.adapter {
        model = model.with_adapter(adapter, session.watcher())?;
    }
    model.warnings.iter().for_each(|warning| session.say(&format!("note: {warning}")));
    let written = model.merge(&args.out, args.dtype).with_context(|| {
        let beside = args.adapter.as_ref().map_or_else(String::new, |a| format!(" with {}", a.display()));
        format!("cannot merge {}{beside}", args.model.display())
    })?;
    let summary = json!({ "model": args.out, "bytes": written.bytes, "dtype": written.dtype });
    session.summary(&summary, || {
        format!("{}, {} → {}", written.dtype, bytes(written.bytes), args.out.display())
    })?;
    Ok(Ended::Done)
}
