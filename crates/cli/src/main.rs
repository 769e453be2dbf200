//! `mynah`: what a person touches. Words in, exit codes out; everything else happens in the library.
//!
//! `device` is what computes, `commands` and `options` are what can be typed, `session` what was typed, resolved, `precision` what is
//! measured where nothing was, `together` who shares the work; `verbs` has one file a verb, `terminal` is what a person sees. Results go to
//! standard output, everything meant for people to standard error.

mod commands;
mod device;
mod options;
mod precision;
mod session;
mod terminal;
mod together;
mod verbs;

use std::process::ExitCode;

use gpt::output::ReaderGone;
use gpt::progress::Stopped;
use ranks::Launch;

use commands::Cli;
use options::Usage;
use session::{Ended, Session};
use terminal::{ClosedPipe, eprint_line, style};

const FAILED: u8 = 1;
const WRONG_USAGE: u8 = 2;
const STOPPED: u8 = 130;

fn main() -> ExitCode {
    if let Some(ended) = gpt::sandbox::enter_if_asked() {
        return ended;
    }
    let cli = match Cli::typed() {
        Ok(cli) => cli,
        Err(error) => {
            // Help that nobody reads to its end is no failure; of processes with one command one says it.
            if Launch::from_environment().is_none_or(|launch| launch.rank == 0) {
                let _ = error.print();
            }
            return if error.use_stderr() { WRONG_USAGE.into() } else { ExitCode::SUCCESS };
        }
    };
    let session = Session::new(cli.global);
    session.check();
    let result = session.join(&cli.verb_name).and_then(|()| verbs::run(cli.verb, &session));
    let ended = match result {
        Ok(Ended::Done) => Ok(0),
        Ok(Ended::Stopped) => Ok(STOPPED),
        Err(error) if error.is::<ClosedPipe>() || error.is::<ReaderGone>() => Ok(0),
        Err(error) => Err(failed(&error, &session)),
    };
    session.leave(ended).into()
}

/// Tells why nothing came of it; returns the exit code.
fn failed(error: &anyhow::Error, session: &Session) -> u8 {
    session.close();
    if session.speaks_of_failure() {
        match error.is::<Stopped>() {
            true => eprint_line(&format!("{error:#}")),
            false => {
                eprint_line(&style::line(&format!("{}error: {error}", session.rank_name())));
                error.chain().skip(1).for_each(|cause| eprint_line(&format!("  because: {cause}")));
            }
        }
    }
    match error {
        error if error.is::<Stopped>() => STOPPED,
        error if error.is::<Usage>() => WRONG_USAGE,
        _ => FAILED,
    }
}
