//! `mynah report`: the page about a run again.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use gpt::report;
use serde_json::json;

use crate::session::{Ended, Session};

/// Write the page about a run or a road again: curves, samples, corpus, recipe, lineage
#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    /// Directory of a run, finished or not, or of a road
    run: PathBuf,
}

pub(crate) fn run(args: &ReportArgs, session: &Session) -> Result<Ended> {
    let page = report::write(&args.run)?;
    let chart = report::loss_chart(&args.run, 72, 8)?;
    session.result(&json!({ "report": page }), || format!("{chart}{}\n", page.display()))?;
    Ok(Ended::Done)
}
