//! Functional correctness of generated programs: problems with tests (HumanEval's format), verdicts, pass@k (Chen et al. 2021).
//!
//! Not the sandbox, which only keeps programs in their rooms, and not the model that writes them. One idea: **a program never
//! shares a process with its tests.** HumanEval's own harness runs both in one, where a program can end the process with a
//! success, patch what the tests use or answer with objects that equal everything. Here two rooms talk in plain data through us:
//! the *worker* has the program, the *grader* has the tests, and a verdict counts if it carries the grader's nonce.

mod pair;
mod pass;
mod plain;
mod problem;
mod report;
mod verdict;

use std::time::Duration;

use anyhow::Result;
use rayon::prelude::*;

pub use pass::{PassAtK, pass_at_k, pass_at_k_over};
pub use problem::{FIELDS, Problem, Sample, problem, sample};
pub use report::Report;
pub use verdict::{Kind, Verdict};

use crate::progress::{Progress, Stopped, Unit};
use crate::sandbox::Sandbox;

/// The time that a program has unless somebody says otherwise: HumanEval's own.
pub const TIMEOUT: Duration = Duration::from_secs(3);

/// The verdicts on `(problem, completion)`, in their order; as many at a time as rayon has threads. `timeout` is of wall-clock time,
/// for the definition of a program and all calls together.
///
/// # Errors
/// A sandbox cannot be set up, though it could before; somebody asked to stop.
pub fn grade(
    sandbox: &Sandbox,
    programs: &[(&Problem, &str)],
    timeout: Duration,
    progress: &dyn Progress,
) -> Result<Vec<Verdict>> {
    progress.begin("grading programs", programs.len() as u64, Unit::Count);
    let verdicts = programs
        .par_iter()
        // One at a time, or the last thread would be left with a long tail.
        .with_max_len(1)
        .map(|(problem, completion)| {
            if progress.should_stop() {
                return Err(Stopped("no verdicts are kept").into());
            }
            let verdict = pair::judge(sandbox, problem, completion, timeout);
            progress.advance(1);
            verdict
        })
        .collect();
    progress.end();
    verdicts
}
