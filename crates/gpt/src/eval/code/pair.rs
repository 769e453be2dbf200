//! One program and its tests, each in a sandbox of its own; we carry the words between them.
//!
//! The grader says `NONCE call ARGUMENTS` and `NONCE verdict KIND DETAIL`, the worker answers `value V`,
//! `raised E` or `odd WHY` (`grader.py`, `worker.py`). What the worker says can become an answer, never a
//! verdict: its words go to the grader as data, and the nonce never goes to the worker.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use super::plain::{hex, text, texts};
use super::{Kind, Problem, Verdict};
use crate::sandbox::{Closed, SETUP_LIMIT, Sandbox, SandboxProcess, wait_any};

const WORKER: &str = concat!(include_str!("plain.py"), "\n\n", include_str!("worker.py"));
const GRADER: &str = concat!(include_str!("plain.py"), "\n\n", include_str!("grader.py"));

/// The verdict on `completion`.
pub(super) fn run(
    sandbox: &Sandbox,
    problem: &Problem,
    completion: &str,
    timeout: Duration,
) -> Result<Verdict> {
    let mut pair = Pair::start(sandbox, problem, completion)?;
    let mut deadline = Instant::now() + SETUP_LIMIT;
    let mut begun = false;
    loop {
        if let Some(verdict) = pair.carry() {
            return Ok(verdict);
        }
        let Pair { grader, worker, .. } = &mut pair;
        if !begun && grader.is_set_up() && worker.is_set_up() {
            begun = true;
            deadline = Instant::now() + timeout;
        }
        if !wait_any(&mut [grader, worker], deadline)? {
            ensure!(begun, "a sandbox was not set up in {SETUP_LIMIT:?}");
            return Ok(Verdict::new(Kind::TimedOut, format!("not done in {} s", timeout.as_secs_f64())));
        }
        pair.check_setup()?;
    }
}

struct Pair {
    grader: SandboxProcess,
    worker: SandboxProcess,
    /// Known to us and to the grader. Not of the seed: what can be computed again can be guessed.
    nonce: String,
    /// Whether the grader waits for a word of the worker.
    awaited: bool,
}

impl Pair {
    fn start(sandbox: &Sandbox, problem: &Problem, completion: &str) -> Result<Self> {
        let Problem { prompt, test, entry_point, .. } = problem;
        let mut nonce = [0; 16];
        getrandom::fill(&mut nonce)?;
        let nonce = hex(&nonce);
        let (mut grader, mut worker) = (sandbox.start(GRADER)?, sandbox.start(WORKER)?);
        grader.send(texts(&[&nonce, prompt, test, entry_point]).as_bytes());
        worker.send(texts(&[&format!("{prompt}{completion}"), entry_point]).as_bytes());
        Ok(Pair { grader, worker, nonce, awaited: true })
    }

    /// Carries all words that were said; returns the verdict when there is one.
    fn carry(&mut self) -> Option<Verdict> {
        loop {
            match self.grader.line() {
                Ok(Some(line)) => {
                    if let Some(verdict) = self.heard_of_grader(&line) {
                        return Some(verdict);
                    }
                }
                Ok(None) => break,
                Err(_) if !self.grader.is_set_up() => break,
                Err(closed) => {
                    let said = format!(
                        "the tests ended without a verdict ({closed:?}): {}",
                        self.grader.last_said()
                    );
                    return Some(Verdict::new(Kind::Broken, said));
                }
            }
        }
        match self.worker.line() {
            // Nor is there an end to what could be said unasked.
            Ok(Some(_)) if !self.awaited => {
                Some(Verdict::new(Kind::Refused, "it answered what nobody had asked"))
            }
            Ok(Some(line)) => {
                self.awaited = false;
                self.grader.send(&line);
                self.carry()
            }
            Ok(None) => None,
            Err(Closed::Flooded) => Some(Verdict::new(Kind::Flooded, "it wrote more than it may")),
            Err(Closed::Ended) if !self.awaited || !self.worker.is_set_up() => None,
            Err(Closed::Ended) => {
                Some(Verdict::new(Kind::Died, format!("its process ended: {}", self.worker.last_said())))
            }
        }
    }

    fn heard_of_grader(&mut self, line: &[u8]) -> Option<Verdict> {
        // What tests print is nobody's.
        let line = std::str::from_utf8(line).ok()?.strip_prefix(&self.nonce)?;
        let (word, rest) = line.trim_start().split_once(' ')?;
        if word == "call" {
            self.awaited = true;
            self.worker.send(rest.as_bytes());
            return None;
        }
        let (kind, detail) = rest.split_once(' ')?;
        Some(Verdict::new(Kind::named(kind)?, text(detail)?))
    }

    /// A sandbox that could not be set up is no fault of the program.
    fn check_setup(&mut self) -> Result<()> {
        for process in [&mut self.grader, &mut self.worker] {
            if !process.is_set_up() && process.has_ended() {
                bail!("a sandbox could not be set up: {}", process.said());
            }
        }
        Ok(())
    }
}
