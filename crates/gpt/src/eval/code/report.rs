//! What verdicts come to.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::{Kind, PassAtK, pass_at_k_over};

/// Verdicts on the programs of a set of problems, counted.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Problems that have at least one program; pass@k is over them.
    pub problems: usize,
    /// Problems that have none.
    pub without_samples: usize,
    /// Programs.
    pub samples: usize,
    /// How many of them met which fate.
    pub verdicts: BTreeMap<Kind, u64>,
    /// pass@k, for every k asked for of which each problem has enough programs.
    #[serde(rename = "pass@k")]
    pub pass_at_k: BTreeMap<u64, PassAtK>,
}

impl Report {
    /// Counts the verdicts on the programs of each problem.
    pub fn new(verdicts: &[&[Kind]], ks: &[u64]) -> Self {
        let mut kinds = BTreeMap::new();
        verdicts.iter().copied().flatten().for_each(|kind| *kinds.entry(*kind).or_insert(0) += 1);
        let passed = |kinds: &[Kind]| kinds.iter().filter(|kind| **kind == Kind::Passed).count() as u64;
        let counts: Vec<(u64, u64)> = verdicts
            .iter()
            .filter(|kinds| !kinds.is_empty())
            .map(|kinds| (kinds.len() as u64, passed(kinds)))
            .collect();
        Report {
            problems: counts.len(),
            without_samples: verdicts.len() - counts.len(),
            samples: verdicts.iter().map(|kinds| kinds.len()).sum(),
            verdicts: kinds,
            pass_at_k: ks.iter().filter_map(|&k| Some((k, pass_at_k_over(&counts, k)?))).collect(),
        }
    }
}

/// In lines, for people.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
        let fates: Vec<String> =
            self.verdicts.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        let (problems, programs) = (plural(self.problems, "problem"), plural(self.samples, "program"));
        writeln!(f, "{problems}, {programs}: {}", fates.join(", "))?;
        if self.without_samples > 0 {
            writeln!(f, "{} without samples left out of pass@k", plural(self.without_samples, "problem"))?;
        }
        if self.verdicts.contains_key(&Kind::Broken) {
            writeln!(f, "the code of a problem itself does not run: --out says of which, and why")?;
        }
        for PassAtK { k, value, low, high, .. } in self.pass_at_k.values() {
            let [value, low, high] = [value, low, high].map(|share| 100.0 * share);
            writeln!(f, "pass@{k} {value:.1} %  (95 % interval over problems: {low:.1} to {high:.1})")?;
        }
        Ok(())
    }
}
