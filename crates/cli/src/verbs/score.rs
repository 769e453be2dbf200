//! `mynah score`: what a reward model thinks of answers.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::Args;
use gpt::data::Prompter;
use gpt::data::messages::{self, scored};
use gpt::stage::score;
use serde_json::json;

use super::AdapterArg;
use super::complete::Model;
use super::stages::RowArgs;
use crate::session::{Ended, Purpose, Session};

/// Print the rewards of answers
#[derive(Debug, Args)]
#[command(after_help = "\
An item is a conversation that ends with an answer, a prompt with a completion, or a prompt with several completions; rankings
are items, too. With --json one line an item: {\"rewards\":[…]}.

Examples:
  mynah score --model runs/reward --data candidates.jsonl --json")]
pub(crate) struct ScoreArgs {
    /// The reward model
    #[arg(long, value_name = "MODEL")]
    pub(super) model: PathBuf,
    #[command(flatten)]
    pub(super) adapter: AdapterArg,
    /// Items: JSON lines, CSV, TSV or Parquet
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    #[command(flatten)]
    rows: RowArgs,
}

pub(crate) fn run(args: &ScoreArgs, session: &Session) -> Result<Ended> {
    session.start_threads()?;
    let Model { mut compute, config, weights, tokenizer, .. } =
        Model::load(&args.model, Purpose::Figures, session)?;
    ensure!(
        config.n_label == Some(1),
        "{} is no reward model: train one with `mynah reward`",
        args.model.display()
    );
    let rows = args.rows.reader(messages::FIELDS, session)?;
    let items = rows.read(&args.data, scored)?;
    rows.columns.check()?;
    let prompter = Prompter::new(&tokenizer)?;
    let rewards = score(&mut compute, config, weights, &prompter, &items, session.watcher())?;
    for (item, rewards) in items.iter().zip(&rewards) {
        session.result(&json!({ "rewards": rewards }), || {
            let lines = item.completions.iter().zip(rewards);
            lines.map(|(text, reward)| format!("{reward:8.4}  {}\n", text.replace('\n', "⏎"))).collect()
        })?;
    }
    Ok(Ended::Done)
}
