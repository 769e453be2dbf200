//! A program alone in its sandbox, heard until it ends or its time is over.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::{Closed, SandboxProcess, wait_any};

/// How long setting up a sandbox may take on a busy machine.
pub const SETUP_LIMIT: Duration = Duration::from_secs(30);

/// How a program that was heard came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It ended; [`SandboxProcess::said`] has what it said last.
    Ended,
    /// Its time was over.
    Late,
    /// It wrote more than it may.
    Flooded,
    /// Whoever heard it had enough.
    Enough,
}

/// Hears every line that a program writes, which may be told to be enough. It has `time` once its sandbox is set up.
///
/// # Errors
/// The sandbox could not be set up.
pub fn hear(
    process: &mut SandboxProcess,
    time: Duration,
    mut on_line: impl FnMut(Vec<u8>) -> ControlFlow<()>,
) -> Result<End> {
    let (mut begun, mut deadline) = (false, Instant::now() + SETUP_LIMIT);
    loop {
        if !begun && process.is_set_up() {
            begun = true;
            deadline = Instant::now() + time;
        }
        match process.line() {
            Ok(Some(line)) => {
                if on_line(line).is_break() {
                    return Ok(End::Enough);
                }
            }
            Err(Closed::Flooded) => return Ok(End::Flooded),
            // What it says last on standard error may still come.
            Err(Closed::Ended) if process.has_ended() => {
                ensure!(process.is_set_up(), "a sandbox could not be set up: {}", process.said());
                return Ok(End::Ended);
            }
            Ok(None) | Err(Closed::Ended) => {
                if !wait_any(&mut [&mut *process], deadline)? {
                    ensure!(begun, "a sandbox was not set up in {SETUP_LIMIT:?}");
                    return Ok(End::Late);
                }
            }
        }
    }
}

/// Source code as a literal of Python.
pub fn literal(source: &str) -> String {
    // JSON's strings are Python's, but for characters beyond 16 bits, which stand as they are.
    serde_json::Value::from(source).to_string()
}
