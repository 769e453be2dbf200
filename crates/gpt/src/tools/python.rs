//! Python programs that a model writes, in the sandbox.

use std::ops::ControlFlow;
use std::time::Duration;

use anyhow::Result;
use serde_json::Value;

use crate::sandbox::{self, End, Sandbox};

pub(super) const NAME: &str = "python";
pub(super) const ARGUMENT: &str = "code";

/// How much of what it prints is waited for (1 MiB).
const MAX_BYTES: usize = 1 << 20;

/// Around a program: what it raises is printed, the last line has an end, and that it came to its own is told.
const PROGRAM: &str = "\
import sys, traceback
try:
    exec(compile(PROGRAM, 'program', 'exec'), {'__name__': '__main__'})
except SystemExit:
    pass
except BaseException as error:
    print('\\nerror:', traceback.format_exception_only(error)[-1].strip())
print('\\nend', file=sys.__stdout__)
";
/// Its last line.
const END: &str = "\nend\n";

pub(super) fn description() -> Value {
    super::function(NAME, "runs a program and returns what it prints", ARGUMENT, "a program in Python 3")
}

/// What `program` prints, or why it came to no end.
///
/// # Errors
/// The sandbox cannot be set up.
pub(super) fn run(sandbox: &Sandbox, program: &str, time: Duration) -> Result<Result<String, String>> {
    let source = PROGRAM.replace("PROGRAM", &sandbox::literal(program));
    let mut process = sandbox.start(&source)?;
    process.end_input();
    let mut printed = Vec::new();
    let end = sandbox::hear(&mut process, time, |line| {
        printed.extend(line);
        printed.push(b'\n');
        if printed.len() > MAX_BYTES { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    match end {
        End::Late => return Ok(Err(format!("it was not done in {} s", time.as_secs_f64()))),
        End::Flooded | End::Enough => return Ok(Err("it printed more than it may".into())),
        End::Ended => {}
    }
    let printed = String::from_utf8_lossy(&printed);
    Ok(match printed.strip_suffix(END) {
        Some(printed) => Ok(printed.trim_end().trim_start_matches('\n').to_owned()),
        None => Err("it was ended: a program has little time, memory and processes".into()),
    })
}
