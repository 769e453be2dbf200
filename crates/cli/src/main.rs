//! `mynah`: what a person touches. Words in, exit codes out; everything else happens in the library.
//!
//! `device` is what computes, `commands` and `options` are what can be typed, `session` what was typed, resolved, `precision` what is
//! measured where nothing was; `verbs` has one file a verb, `terminal` is what a person sees. Results go to
//! standard output, everything meant for people to standard error.

mod commands;
mod device;
mod options;
mod precision;
mod session;
mod terminal;
mod verbs;

use std::process::ExitCode;

use gpt::output::ReaderGone;
use gpt::progress::Stopped;

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
            // Help that nobody reads to its end is no failure.
            let _ = error.print();
            return if error.use_stderr() { WRONG_USAGE.into() } else { ExitCode::SUCCESS };
        }
    };
    let session = Session::new(cli.global);
    session.check();
    let result = verbs::run(cli.verb, &session);
    match result {
        Ok(Ended::Done) => ExitCode::SUCCESS,
        Ok(Ended::Stopped) => STOPPED.into(),
        Err(error) if error.is::<ClosedPipe>() || error.is::<ReaderGone>() => ExitCode::SUCCESS,
        Err(error) if error.is::<Stopped>() => {
            session.close();
            eprint_line(&format!("{:#}", error));
            STOPPED.into()
        }
        Err(error) => {
            session.close();
            eprint_line(&style::line(&format!("error: {error}")));
            error.chain().skip(1).for_each(|cause| eprint_line(&format!("  because: {cause}")));
            if error.is::<Usage>() { WRONG_USAGE.into() } else { FAILED.into() }
        }
    }
}
