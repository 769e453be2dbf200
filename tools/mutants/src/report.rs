//! What became of mutants: a line for each, kept so that a run can go on where it stopped, and the counts.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::list::Mutant;

/// What became of a mutant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// This test failed.
    Killed(String),
    /// This test did not end: killed, too.
    TimedOut(String),
    /// No test failed; how many reach it.
    Alive(String),
    /// It was not built, for this reason.
    LeftOut(String),
}

/// A mutant and its fate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    pub number: usize,
    /// [`Mutant::name`].
    pub mutant: String,
    pub fate: Fate,
}

impl Outcome {
    pub fn new(mutant: &Mutant, fate: Fate) -> Self {
        Outcome { number: mutant.number, mutant: mutant.name.clone(), fate }
    }

    /// As it is kept, with the state of the source that it is about.
    ///
    /// # Errors
    /// None that can be thought of.
    pub fn to_line(&self, digest: u64) -> Result<String> {
        Ok(serde_json::to_string(&Kept { source: format!("{digest:016x}"), outcome: self.clone() })?)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, detail) = match &self.fate {
            Fate::Killed(test) => ("killed by", test),
            Fate::TimedOut(test) => ("timed out in", test),
            Fate::Alive(reason) => ("ALIVE:", reason),
            Fate::LeftOut(reason) => ("left out:", reason),
        };
        write!(f, "{:5} {}\n      {word} {detail}", self.number, self.mutant)
    }
}

#[derive(Serialize, Deserialize)]
struct Kept {
    source: String,
    #[serde(flatten)]
    outcome: Outcome,
}

/// What is known of this state of the source.
pub struct Results(HashMap<String, Outcome>);

impl Results {
    pub fn none() -> Self {
        Results(HashMap::new())
    }

    /// # Errors
    /// The file exists and cannot be read.
    pub fn read(path: &Path, digest: u64) -> Result<Self> {
        if !path.exists() {
            return Ok(Results::none());
        }
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        // A last line that was not written to its end is run again.
        let kept = text.lines().filter_map(|line| serde_json::from_str::<Kept>(line).ok());
        let ours = kept.filter(|kept| kept.source == format!("{digest:016x}"));
        Ok(Results(ours.map(|kept| (kept.outcome.mutant.clone(), kept.outcome)).collect()))
    }

    /// With the number that the mutant has in this run.
    pub fn get(&self, mutant: &Mutant) -> Option<Outcome> {
        let outcome = self.0.get(&mutant.name)?;
        Some(Outcome { number: mutant.number, ..outcome.clone() })
    }
}

/// Prints what was left out and what is alive, then the counts, and writes all of it to `path`.
///
/// # Errors
/// `path` cannot be written.
pub fn summarize(outcomes: &[Outcome], path: &Path) -> Result<()> {
    let count = |is: fn(&Fate) -> bool| outcomes.iter().filter(|outcome| is(&outcome.fate)).count();
    let killed = count(|fate| matches!(fate, Fate::Killed(_)));
    let timed_out = count(|fate| matches!(fate, Fate::TimedOut(_)));
    let alive = count(|fate| matches!(fate, Fate::Alive(_)));
    let left_out = count(|fate| matches!(fate, Fate::LeftOut(_)));
    println!();
    for outcome in outcomes.iter().filter(|it| matches!(it.fate, Fate::LeftOut(_) | Fate::Alive(_))) {
        println!("{outcome}");
    }
    let run = killed + timed_out + alive;
    let share = |count: usize| 100.0 * count as f64 / run.max(1) as f64;
    println!(
        "\n{run} mutants: {killed} killed ({:.1} %), {timed_out} timed out ({:.1} %), {alive} alive ({:.1} %); \
         {left_out} more do not compile",
        share(killed),
        share(timed_out),
        share(alive)
    );
    let summary = serde_json::json!({
        "mutants": run, "killed": killed, "timed_out": timed_out, "alive": alive, "left_out": left_out,
        "outcomes": outcomes,
    });
    std::fs::write(path, format!("{summary:#}\n")).with_context(|| path.display().to_string())
}
