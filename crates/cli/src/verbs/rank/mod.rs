//! `mynah rank`: candidates become rankings.

mod exchange;
mod simulate;
mod station;

use anyhow::Result;
use clap::{Args, Subcommand};

use crate::session::{Ended, Session};

pub(crate) use simulate::JudgeName;

const EXAMPLES: &str = "\
It prints a link that opens the page. People rank there with the digits of their keyboard: 2 1 4 3 and Enter is an order, = before a
digit a tie. What was acknowledged is on the disk; the same command again goes on. `mynah reward --rankings feedback.db` and
`mynah dpo --rankings feedback.db` learn from it.

Each --rater has a link of their own, whose holder sees nothing but what is to be ranked; add more at any time. With --candidates of
several models, as NAME=FILE, answers to one prompt are ranked side by side, and the owner's page says which model is better. With two
or more --reward models, such as checkpoints of one run, items on which they are apart come first; three in ten are left to chance.

Examples:
  mynah rank --candidates candidates.jsonl --store feedback.db
  mynah rank --candidates old=old.jsonl --candidates new=new.jsonl --store feedback.db --rater ada --rater ben --overlap 0.3
  mynah rank report --store feedback.db
  mynah rank export --store feedback.db --out rankings.jsonl
  mynah rank simulate --candidates candidates.jsonl --judge lessons --out rankings.jsonl";

/// Rank candidates: a reward model and DPO learn from rankings
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, subcommand_negates_reqs = true, args_conflicts_with_subcommands = true)]
pub(crate) struct RankArgs {
    #[command(subcommand)]
    how: Option<How>,
    #[command(flatten)]
    station: station::StationArgs,
}

#[derive(Debug, Subcommand)]
enum How {
    Export(exchange::ExportArgs),
    Import(exchange::ImportArgs),
    Report(exchange::ReportArgs),
    Simulate(simulate::SimulateArgs),
}

pub(crate) fn run(args: &RankArgs, session: &Session) -> Result<Ended> {
    match &args.how {
        None => station::run(&args.station, session),
        Some(How::Export(args)) => exchange::export(args, session),
        Some(How::Import(args)) => exchange::import(args, session),
        Some(How::Report(args)) => exchange::report(args, session),
        Some(How::Simulate(args)) => simulate::run(args, session),
    }
}
