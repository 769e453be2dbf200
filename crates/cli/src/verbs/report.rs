//! `mynah report`: the page about a run again.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use gpt::{checkpoint, report};
use serde_json::json;

use crate::session::{Ended, Session};

/// Write the page about a run again: curves, samples, corpus, recipe, lineage
#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    /// Run directory, finished or not; of a road its last stage's
    run: PathBuf,
}

pub(crate) fn run(args: &ReportArgs, session: &Session) -> Result<Ended> {
    let run = checkpoint::run_of(&args.run)?;
    if run != args.run {
        let (road, stage, page) = (args.run.display(), run.display(), args.run.join(report::REPORT));
        session.say(&format!(
            "note: {road} is a road, and its own page is {}: this is that of its last stage, {stage}",
            page.display()
        ));
    }
    let page = report::write(&run)?;
    let chart = report::loss_chart(&run, 72, 8)?;
    session.result(&json!({ "report": page }), || format!("{chart}{}\n", page.display()))?;
    Ok(Ended::Done)
}
