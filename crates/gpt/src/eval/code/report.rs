//! What verdicts come to.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Kind, PassAtK, Problem, Verdict, pass_at_k_over};

/// Verdicts on the samples of a set of problems, counted.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Problems that have at least one sample; pass@k is over them.
    pub problems: u64,
    /// Problems that have none.
    pub without_samples: u64,
    /// Programs.
    pub samples: u64,
    /// How many of them met which fate.
    pub verdicts: BTreeMap<Kind, u64>,
    /// pass@k, for every k asked for of which each problem has enough programs.
    pub pass_at_k: Vec<PassAtK>,
}

impl Report {
    /// Counts `verdicts`, which are on `programs`; `n_problems` is how many problems there are.
    pub fn new(n_problems: usize, programs: &[(&Problem, &str)], verdicts: &[Verdict], ks: &[u64]) -> Self {
        let mut kinds = BTreeMap::new();
        let mut by_problem: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
        for ((problem, _), verdict) in programs.iter().zip(verdicts) {
            *kinds.entry(verdict.kind).or_insert(0) += 1;
            let (n, c) = by_problem.entry(&problem.task_id).or_default();
            *n += 1;
            *c += u64::from(verdict.passed());
        }
        let counts: Vec<(u64, u64)> = by_problem.into_values().collect();
        Report {
            problems: counts.len() as u64,
            without_samples: (n_problems - counts.len()) as u64,
            samples: programs.len() as u64,
            verdicts: kinds,
            pass_at_k: ks.iter().filter_map(|&k| pass_at_k_over(&counts, k)).collect(),
        }
    }
}
