//! Sweeps that would not do what they say: runs that are others again, and flags of all runs that win over what one of
//! them says of itself.

use super::{Amount, SweepFile, Trial};
use anyhow::{Result, bail, ensure};

/// Flags and keys that say how long a run is.
const LENGTHS: [&str; 5] = ["steps", "epochs", "tokens", "flops", "minutes"];

/// Refuses what a sweep says twice.
///
/// # Errors
/// A run is another one again; a flag is given to all runs, and some have it as a key or say otherwise how long they are; a run
/// has two lengths.
pub(super) fn check(file: &SweepFile) -> Result<()> {
    for trial in &file.trials {
        let steps = trial.differs.iter().any(|(key, _)| key == "steps");
        ensure!(
            !(steps && trial.amount != Amount::Recipe),
            "line {}: steps beside another amount: give one of tokens, flops and steps",
            trial.line
        );
    }
    for (flag, _, line) in &file.flags {
        let flag = flag.replace('-', "_");
        let clashes = |key: &str| {
            let are_lengths = LENGTHS.contains(&key) && LENGTHS.contains(&flag.as_str());
            key == flag || are_lengths
        };
        let mut keys = file.trials.iter().flat_map(|trial| &trial.differs);
        if let Some((key, _)) = keys.find(|(key, _)| clashes(key)) {
            bail!(
                "line {line}: {flag} is given to all runs, and would win over the {key} that runs have of their own: leave \
                 one of the two out"
            );
        }
    }
    let runs: Vec<_> = file.trials.iter().map(settings).collect();
    for (second, trial) in file.trials.iter().enumerate() {
        if let Some(first) = runs[..second].iter().position(|run| *run == runs[second]) {
            bail!(
                "line {}: run {} is run {} again, {}: leave one out, or repeat runs with other seeds, such as seed = [0, 1]",
                trial.line,
                second + 1,
                first + 1,
                super::said(trial)
            );
        }
    }
    Ok(())
}

/// All that decides a run beside what all have in common, whatever the order in which it was said.
fn settings(trial: &Trial) -> (Option<&str>, Option<u64>, Amount, Vec<&str>) {
    let mut changes: Vec<&str> = trial.changes.iter().map(String::as_str).collect();
    changes.sort_unstable();
    (trial.preset.as_deref(), trial.seed, trial.amount, changes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_twice_is_refused() {
        for (text, parts) in [
            (
                "[grid]\nlr = [1e-3, 0.001]",
                &["line 2", "run 2 is run 1 again, lr 0.001", "seed = [0, 1]"][..],
            ),
            (
                "[[ladder]]\nd_model = 64\nlr = 1\n[[ladder]]\nlr = 1\nd_model = 64",
                &["line 4", "run 1 again"],
            ),
            ("lr = 1e-3\n[grid]\nlr = [1, 2]", &["line 1", "lr is given to all", "win over the lr"]),
            ("\nbatch-tokens = 5\n[grid]\nbatch_tokens = [1, 2]", &["line 2", "batch_tokens"]),
            ("tokens = 5\n[grid]\nsteps = [1, 2]", &["line 1", "tokens is given", "win over the steps"]),
            ("steps = 5\n[[ladder]]\nflops = 1e9", &["line 1", "steps is given", "win over the flops"]),
            ("[[ladder]]\nflops = 1e9\nsteps = 5", &["line 1", "steps beside another amount"]),
        ] {
            let error = format!("{:#}", SweepFile::parse(text).unwrap_err());
            for part in parts {
                assert!(error.contains(part), "{text:?}: {part:?} is not in: {error}");
            }
        }
    }

    #[test]
    fn what_differs_is_not() {
        for text in [
            "seed = 3\n[grid]\nseed = [1, 2]\nlr = [1]",
            "preset = 'tiny'\n[grid]\npreset = ['tiny', 'nano']",
            "[set]\nlr = 3\n[grid]\nlr = [1, 2]",
            "steps = 5\n[grid]\nlr = [1, 2]",
            "[[ladder]]\ntokens = 5\n[[ladder]]\ntokens = 6",
        ] {
            assert!(SweepFile::parse(text).is_ok(), "{text}");
        }
    }
}
