//! `mynah runs`: what was trained so far.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use clap::Args;
use gpt::train::run::{Figure, Listed, State, list};

use crate::session::{Ended, Session};
use crate::terminal::text::{count, left_table};

const EXAMPLES: &str = "\
Examples:
  mynah runs
  mynah runs ~/models --json";

/// List the runs and roads under a folder: stage, state, parent, best figure
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct RunsArgs {
    /// The folder to look in
    #[arg(value_name = "DIR", default_value = "runs")]
    dir: PathBuf,
}

pub(crate) fn run(args: &RunsArgs, session: &Session) -> Result<Ended> {
    let shown = args.dir.display();
    ensure!(
        args.dir.exists(),
        "there is no folder {shown}: name the one that your runs lie in (`mynah runs DIR`); the first run makes `runs`"
    );
    ensure!(args.dir.is_dir(), "{shown} is a file: name the folder that your runs lie in");
    let found = list(&args.dir)?;
    if session.json() {
        return session.result(&found, String::new).map(|()| Ended::Done);
    }
    if found.is_empty() {
        session.say(&format!(
            "no runs in {shown}: `mynah` alone makes a road of them, `mynah pretrain` a first one"
        ));
        return Ok(Ended::Done);
    }
    session.result(&found, || describe(&found))?;
    Ok(Ended::Done)
}

fn describe(found: &[Listed]) -> String {
    let mut rows = vec![["run", "stage", "state", "steps", "best figure", "parent"].map(String::from)];
    rows.extend(found.iter().map(|run| {
        let Listed { path, stage, state, steps, parent, best } = run;
        [
            path.strip_prefix(".").unwrap_or(path).display().to_string(),
            stage.clone(),
            said(*state).into(),
            steps.map_or("-".into(), count),
            best.as_ref().map_or("-".into(), figure),
            parent.as_ref().map_or("-".into(), |parent| near(parent)),
        ]
    }));
    left_table(&rows)
}

fn said(state: State) -> &'static str {
    match state {
        State::Running => "running",
        State::Finished => "finished",
        State::Stopped => "stopped",
        State::Killed => "killed",
        State::Failed => "failed",
    }
}

fn figure(best: &Figure) -> String {
    let Figure { name, value, step } = best;
    format!("{name} {value:.4} at {}", count(*step))
}

/// A path as it is seen from here, where it lies below.
fn near(path: &str) -> String {
    let here = std::env::current_dir().ok();
    let below = here.as_deref().and_then(|here| Path::new(path).strip_prefix(here).ok());
    below.map_or_else(|| path.to_owned(), |below| below.display().to_string())
}
