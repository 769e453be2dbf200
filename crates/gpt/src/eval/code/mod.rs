//! Functional correctness of generated programs: problems with tests (HumanEval's format), verdicts, pass@k
//! (Chen et al. 2021).
//!
//! The sandbox is `crates/sandbox`; the model that writes programs is in `eval/programs.rs`. One
//! idea: **a program never shares a process with its tests.** HumanEval's own harness runs both in one, where
//! a program can end the process with a success, patch what the tests use or answer with objects that equal
//! everything. Here two sandboxes talk in plain data through us: the *worker* has the program, the *grader*
//! has the tests, and a verdict counts if it carries the grader's nonce.

mod numbers;
mod pair;
mod pass;
mod plain;
mod problem;
mod report;
mod verdict;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use rayon::prelude::*;

pub use numbers::numbers;
pub use pass::{PassAtK, pass_at_k, pass_at_k_over};
pub use problem::{FIELDS, Problem, Sample, code_of, problem, problem_of_tests, sample};
pub use report::Report;
pub use verdict::{Kind, Verdict};

use crate::progress::{Progress, Stopped, Unit};
use crate::sandbox::Sandbox;

/// The time that a program has unless somebody says otherwise: HumanEval's own.
pub const TIMEOUT: Duration = Duration::from_secs(3);

/// The verdicts on `(problem, completion)`; as many at a time as rayon has threads. `hear` gets each in the
/// order of the programs, as soon as those before it are there. `timeout` is of wall-clock time, for the
/// definition of a program and all calls together.
///
/// # Errors
/// A sandbox cannot be set up, though it could before; somebody asked to stop; those of `hear`.
pub fn grade(
    sandbox: &Sandbox,
    programs: &[(&Problem, &str)],
    timeout: Duration,
    progress: &dyn Progress,
    hear: &mut (dyn FnMut(Verdict) -> Result<()> + Send),
) -> Result<()> {
    progress.begin("grading programs", programs.len() as u64, Unit::Count);
    let queue = Mutex::new(Queue { next: 0, waiting: BTreeMap::new(), hear });
    // Taken one by one from the front, so that little is waiting behind what is not done.
    let graded = programs.iter().enumerate().par_bridge().try_for_each(|(index, (problem, completion))| {
        if progress.should_stop() {
            return Err(Stopped("not every program was graded").into());
        }
        let verdict = pair::run(sandbox, problem, completion, timeout)?;
        progress.advance(1);
        queue.lock().unwrap_or_else(PoisonError::into_inner).push(index, verdict)
    });
    progress.end();
    graded
}

/// Verdicts that come as they like and are heard in order.
struct Queue<'a> {
    next: usize,
    waiting: BTreeMap<usize, Verdict>,
    hear: &'a mut (dyn FnMut(Verdict) -> Result<()> + Send),
}

impl Queue<'_> {
    fn push(&mut self, index: usize, verdict: Verdict) -> Result<()> {
        self.waiting.insert(index, verdict);
        while let Some(verdict) = self.waiting.remove(&self.next) {
            // After a failure nothing is heard any more: there would be a gap.
            let next = std::mem::replace(&mut self.next, usize::MAX);
            (self.hear)(verdict)?;
            self.next = next + 1;
        }
        Ok(())
    }
}
