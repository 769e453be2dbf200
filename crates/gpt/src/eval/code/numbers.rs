//! A program of the user's that judges: it reads lines and writes a number for each, in a sandbox.

use std::ops::ControlFlow;
use std::time::Duration;

use anyhow::Result;

use crate::sandbox::{self, Sandbox, SandboxProcess};

/// Numbers leave the program as soon as they are written, so that those before a fault are heard.
const PREAMBLE: &str = "import sys\nsys.stdout.reconfigure(line_buffering=True)\n";

/// What the Python program `source` says of each line, or why it says nothing. It reads all lines, writes a
/// number a line in the same order, and has `time` for all of them. Where it writes more numbers than there
/// are lines, or ends with fewer, none is believed: nobody knows which is whose. Where it fails or takes too
/// long, those that it wrote in time are.
///
/// # Errors
/// The sandbox cannot be set up.
pub fn numbers(
    sandbox: &Sandbox,
    source: &str,
    lines: &[String],
    time: Duration,
) -> Result<Vec<Result<f64, String>>> {
    let program = format!(
        "{PREAMBLE}exec(compile({}, \"program\", \"exec\"), {{\"__name__\": \"__main__\"}})",
        sandbox::literal(source)
    );
    let mut process = sandbox.start(&program)?;
    lines.iter().for_each(|line| process.send(line.as_bytes()));
    process.end_input();
    let (mut found, end) = hear(&mut process, lines.len(), time)?;
    match end {
        End::Whole => {}
        End::Miscounted(why) => found = vec![Err(why); lines.len()],
        End::Failed(why) => found.resize(lines.len(), Err(why)),
    }
    Ok(found)
}

/// Why numbers are missing.
enum End {
    /// None is.
    Whole,
    /// Whose the others are, nobody knows.
    Miscounted(String),
    /// The others were written before it failed.
    Failed(String),
}

/// Hears numbers until the program ends.
fn hear(
    process: &mut SandboxProcess,
    wanted: usize,
    time: Duration,
) -> Result<(Vec<Result<f64, String>>, End)> {
    let mut found = Vec::with_capacity(wanted);
    let ended = sandbox::hear(process, time, |line| {
        if found.len() == wanted {
            return ControlFlow::Break(());
        }
        found.push(number(&line));
        ControlFlow::Continue(())
    })?;
    let (n, said) = (found.len(), process.said());
    let end = match ended {
        sandbox::End::Enough => End::Miscounted(format!("it wrote more than the {wanted} numbers asked for")),
        sandbox::End::Late => End::Failed(format!("it was not done in {} s", time.as_secs_f64())),
        sandbox::End::Flooded => End::Failed("it wrote more than it may".into()),
        sandbox::End::Ended if n == wanted => End::Whole,
        sandbox::End::Ended if said.contains("Traceback") => {
            End::Failed(format!("it failed: {}", said.lines().last().unwrap_or_default()))
        }
        sandbox::End::Ended => End::Miscounted(format!("it wrote {n} numbers for {wanted} answers")),
    };
    Ok((found, end))
}

fn number(line: &[u8]) -> Result<f64, String> {
    let text = String::from_utf8_lossy(line);
    let text = text.trim();
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() => Ok(number),
        _ => Err(format!(
            "it wrote {:?}, which is no finite number",
            text.chars().take(40).collect::<String>()
        )),
    }
}
