//! `mynah watch`: runs that are going on, in the browser.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use clap::Args;
use kernels::{Cpu, CpuOptions};
use serde_json::json;
use server::Settings;

use crate::options::whole;
use crate::session::{Ended, Session};
use crate::terminal::{eprint_line, print_json};

const EXAMPLES: &str = "\
Curves grow as they are written, a run that was interrupted is marked where it went on, and what the models wrote can be seen after
every step. Nothing of a run is locked or changed. `mynah serve --runs DIR` shows the same beside a chat, and asks checkpoints.

Examples:
  mynah watch runs
  mynah watch ~/models /data/runs --port 8080";

/// Watch all runs under a folder in the browser: curves, samples, time left
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct WatchArgs {
    /// Folders that runs lie in
    #[arg(value_name = "RUNS", default_value = "runs")]
    runs: Vec<PathBuf>,
    /// The port to listen at; 0 takes a free one
    #[arg(long, value_name = "N", default_value_t = 8000, value_parser = whole::<u16>(0..=65535))]
    port: u16,
}

pub(crate) fn run(args: &WatchArgs, session: &Session) -> Result<Ended> {
    let settings =
        Settings { port: args.port, runs: args.runs.clone(), log: Arc::new(|_| {}), ..Settings::default() };
    // Nothing is computed: there is no model.
    let idle = Cpu::new(CpuOptions { threads: 1, ..CpuOptions::default() });
    server::serve(idle, &[], settings, session.watcher(), |address| {
        session.close();
        session.say(&format!("the runs are at http://{address}/runs"));
        eprint_line(&format!("listening on http://{address}"));
        if session.json() {
            let _ = print_json(&json!({ "listening": format!("http://{address}") }));
        }
    })?;
    Ok(Ended::Done)
}
