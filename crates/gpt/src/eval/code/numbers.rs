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
    let (n, said) = (found.len(), process.last_said());
    let end = match ended {
        sandbox::End::Enough => {
            let why = format!("it wrote more than the {wanted} numbers asked for");
            End::Miscounted(with_odd_line(why, &found))
        }
        sandbox::End::Late => End::Failed(format!("it was not done in {} s", time.as_secs_f64())),
        sandbox::End::Flooded => End::Failed("it wrote more than it may".into()),
        sandbox::End::Ended if n == wanted => End::Whole,
        sandbox::End::Ended if said.contains("Traceback") => End::Failed(failure(&said)),
        sandbox::End::Ended => {
            End::Miscounted(with_odd_line(format!("it wrote {n} lines for {wanted} answers"), &found))
        }
    };
    Ok((found, end))
}

/// Why a count is wrong, with the first line that is no number: most likely it was meant for a person.
fn with_odd_line(why: String, found: &[Result<f64, String>]) -> String {
    match found.iter().find_map(|found| found.as_ref().err()) {
        Some(odd) => format!("{why}; {odd}: what people are to read goes to sys.stderr"),
        None => why,
    }
}

/// What a traceback of Python says last: the line of the program, and the exception with all that it says.
fn failure(said: &str) -> String {
    let lines: Vec<&str> = said.lines().collect();
    let place = lines.iter().rposition(|line| line.trim_start().starts_with("File \"program\", line "));
    let line = place.and_then(|at| lines[at].split("line ").nth(1)?.split(',').next());
    let after = place.map_or(0, |at| at + 1);
    let is_exception = |line: &&&str| !line.is_empty() && !line.starts_with([' ', '\t']);
    let exception = match place {
        Some(_) => lines[after..].iter().find(is_exception).or(lines.last()),
        None => lines.last(),
    };
    let what = exception.copied().unwrap_or_default();
    line.map_or_else(|| format!("it failed: {what}"), |line| format!("it failed in line {line}: {what}"))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceback_tells_line_and_exception() {
        for (said, told) in [
            (
                "Traceback (most recent call last):\n  File \"<string>\", line 2, in <module>\n  File \"program\", line 3, \
                 in <module>\n    raise ValueError(x)\nValueError: odd\nand more\n",
                "it failed in line 3: ValueError: odd",
            ),
            (
                "Traceback (most recent call last):\n  File \"program\", line 1\n    def f(:\n          ^\nSyntaxError: invalid \
                 syntax\n",
                "it failed in line 1: SyntaxError: invalid syntax",
            ),
            ("Traceback (most recent call last):\nMemoryError\n", "it failed: MemoryError"),
            (
                "Traceback (most recent call last):\n  File \"program\", line 7, in f\n  File \"json.py\", line 9, in \
                 loads\n    x\nKeyError: 'a'",
                "it failed in line 7: KeyError: 'a'",
            ),
            ("Traceback", "it failed: Traceback"),
        ] {
            assert_eq!(failure(said), told);
        }
    }

    #[test]
    fn a_wrong_count_tells_the_line_that_is_no_number() {
        let found = [Ok(1.0), number(b"loading the model\n")];
        let told = with_odd_line("it wrote 2 lines for 1 answer".into(), &found);
        assert!(told.starts_with("it wrote 2 lines for 1 answer; it wrote \"loading the model\""), "{told}");
        assert_eq!(with_odd_line("why".into(), &found[..1]), "why");
    }
}
