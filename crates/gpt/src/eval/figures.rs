//! From marked items to a task's figures with their intervals; and two models on the same items.

use super::Interval;
use super::bootstrap::{Resampled, bootstrap, mean};
use super::code::{Kind, Report};
use super::marked::{Marked, Rule, Terms, Weighed, bits_per_byte};
use super::task::{Task, Wanted};
use anyhow::{Result, ensure};
use serde::Serialize;
use serde_json::{Map, Value, json};

/// The pass@k that are told, of those for which there are enough programs (Chen et al. 2021).
const KS: [u64; 3] = [1, 10, 100];

/// A task's figures.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figures {
    /// What the value is: `accuracy`, `exact_match`, `bits_per_byte`.
    pub metric: &'static str,
    /// The value with its 95 % interval: Wilson's of shares, the bootstrap's over items of everything else.
    #[serde(flatten)]
    pub interval: Interval,
    /// Items.
    pub n: usize,
    /// Examples before each item; where some had fewer than others, the fewest. How many were asked for,
    /// where that differs, how many there were at most, and why, stand in `shots_asked`, `shots_most` and
    /// `shots_because`.
    pub shots: usize,
    /// What became of the programs that were written, and pass@k.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub programs: Option<Report>,
    /// What else there is to tell, by name: the rule and the values under the others, chance and majority,
    /// perplexity, F1, where examples came from, items of which examples or beginnings did not fit.
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

/// Why an item is shown fewer examples than were asked for.
const NO_ROOM: &str = "the context has no room for more";
const NO_MORE: &str = "there are no more";
const ALONE: &str = "these items are asked without examples";

/// The figures of marked items.
///
/// # Errors
/// A figure is beyond what can be written.
pub(super) fn summary(task: &Task, terms: &Terms, marked: &[&Marked]) -> Result<Figures> {
    let n = marked.len();
    let mean_of =
        |value: &dyn Fn(&Marked) -> f64| mean(&marked.iter().map(|marked| value(marked)).collect::<Vec<_>>());
    let mut more = Map::new();
    let mut tell = |name: &str, value: Value| drop(more.insert(name.to_owned(), value));
    // All windows of some items.
    let windows = |items: &[usize]| items.iter().flat_map(|&i| &marked[i].windows).collect::<Vec<&Weighed>>();
    let all: Vec<usize> = (0..n).collect();
    let (metric, interval) = match task.items.first().map(|item| &item.wanted) {
        Some(Wanted::Choice { .. }) => {
            let values = Rule::ALL.into_iter().enumerate().map(|(at, rule)| {
                let right = |marked: &Marked| f64::from(marked.by_rule.is_some_and(|rules| rules[at]));
                (rule.name().to_owned(), json!(mean_of(&right)))
            });
            let by_rule: Map<String, Value> = values.collect();
            tell("rule", terms.rule.name().into());
            tell("by_rule", by_rule.into());
            tell("chance", json!(task.chance()));
            tell("majority", json!(task.majority()));
            ("accuracy", mean_of(&|marked| marked.score))
        }
        Some(Wanted::Free(_) | Wanted::Task(_)) => {
            tell("f1", json!(mean_of(&|marked| marked.likeness.unwrap_or(0.0))));
            (if terms.tools { "stated" } else { "exact_match" }, mean_of(&|marked| marked.score))
        }
        Some(Wanted::NextLine(_)) => {
            tell("edit_similarity", json!(mean_of(&|marked| marked.likeness.unwrap_or(0.0))));
            ("exact_match", mean_of(&|marked| marked.score))
        }
        Some(Wanted::Program(_)) => ("pass@1", mean_of(&|marked| marked.score)),
        Some(Wanted::LastWord(_)) => {
            let logprob: f64 = windows(&all).iter().map(|word| word.0).sum();
            tell("perplexity_of_words", perplexity(-logprob / n.max(1) as f64)?);
            ("accuracy", mean_of(&|marked| marked.score))
        }
        Some(Wanted::Text) | None => {
            let parts = windows(&all);
            let sum =
                |part: &dyn Fn(&Weighed) -> usize| parts.iter().map(|&window| part(window)).sum::<usize>();
            let (tokens, logprob) =
                (sum(&|window| window.1), parts.iter().map(|window| window.0).sum::<f64>());
            tell("perplexity", perplexity(-logprob / tokens.max(1) as f64)?);
            tell("tokens", tokens.into());
            tell("bytes", sum(&|window| window.2).into());
            tell("windows", parts.len().into());
            let unread = marked.iter().filter(|marked| marked.windows.is_empty()).count();
            if unread > 0 {
                tell("texts_of_one_token", unread.into());
            }
            // How far a single text could be off, only its windows can tell.
            let interval = match n {
                1 => bootstrap(parts.len(), |drawn| bits_per_byte(drawn.iter().map(|&i| parts[i]))),
                _ => bootstrap(n, |items| bits_per_byte(windows(items))),
            };
            ("bits_per_byte", interval)
        }
    };
    for (name, count) in [
        ("examples_left_out", marked.iter().map(|marked| marked.left_out).sum::<usize>()),
        ("cut", marked.iter().map(|marked| marked.cut).sum()),
    ] {
        if count > 0 {
            tell(name, count.into());
        }
    }
    let shown = || marked.iter().map(|marked| marked.shown);
    let (shots, most) = (shown().min().unwrap_or(0), shown().max().unwrap_or(0));
    if most > 0 {
        let own = task.examples.is_some();
        tell("examples_from", if own { "items of their own" } else { "the other items" }.into());
    }
    if most > shots {
        tell("shots_most", most.into());
    }
    if shots < terms.shots {
        let no_room = marked.iter().any(|marked| marked.left_out > 0);
        tell("shots_asked", terms.shots.into());
        let are_more = task.examples.as_ref().map_or(task.items.len() - 1, Vec::len) > most;
        tell(
            "shots_because",
            if no_room {
                NO_ROOM
            } else if are_more {
                ALONE
            } else {
                NO_MORE
            }
            .into(),
        );
    }
    let programs = task.runs_programs().then(|| {
        let verdicts: Vec<&[Kind]> = marked.iter().map(|marked| marked.verdicts.as_slice()).collect();
        Report::new(&verdicts, &KS)
    });
    Ok(Figures { metric, interval, n, shots, programs, more })
}

/// `e^loss`, where it is a number.
fn perplexity(loss: f64) -> Result<Value> {
    let perplexity = loss.exp();
    ensure!(
        perplexity.is_finite(),
        "the model gives what is there a mean loss of {loss:.1} nats, whose perplexity is beyond any number: it cannot be used"
    );
    Ok(perplexity.into())
}

impl Figures {
    /// How many examples were shown, and of how many that were asked for: `2`, `7–8 of 50`.
    pub fn shown(&self) -> String {
        let known = |name: &str| self.more.get(name).and_then(Value::as_u64);
        let most = known("shots_most").map_or(String::new(), |most| format!("–{most}"));
        let asked = known("shots_asked").map_or(String::new(), |asked| format!(" of {asked}"));
        format!("{}{most}{asked}", self.shots)
    }
}

/// Resamples of a comparison: its shares are finer than an interval's ends.
const RESAMPLES: u64 = 10_000;

/// One model beside another on the same items.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// The first model's mean score less the second's, with its 95 % interval by the paired bootstrap (Koehn
    /// 2004): both are measured on the same resampled items.
    #[serde(flatten)]
    pub interval: Interval,
    /// The share of the resamples in which the first model's mean is the higher one.
    pub share_higher: f64,
    /// Items of which the first model has the higher score, and of which the lower.
    pub higher: usize,
    /// Likewise.
    pub lower: usize,
}

/// Compares the scores of two models on the same items.
pub fn difference(first: &[f64], second: &[f64]) -> Difference {
    assert_eq!(first.len(), second.len(), "both models have the same items");
    let by_item: Vec<f64> = first.iter().zip(second).map(|(a, b)| a - b).collect();
    let mean = |items: &[usize]| items.iter().map(|&i| by_item[i]).sum::<f64>() / items.len().max(1) as f64;
    let resampled = Resampled::of(by_item.len(), RESAMPLES, mean);
    Difference {
        interval: resampled.interval(),
        share_higher: resampled.share_above_zero(),
        higher: by_item.iter().filter(|&&by| by > 0.0).count(),
        lower: by_item.iter().filter(|&&by| by < 0.0).count(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kernels::rng;

    #[test]
    fn a_difference_is_paired() {
        // The items differ far more from each other than the models do.
        let second: Vec<f64> = (0..50).map(f64::from).collect();
        let first: Vec<f64> = second.iter().map(|score| score + 0.5).collect();
        let Difference { interval, share_higher, higher, lower } = difference(&first, &second);
        assert_eq!(interval, Interval { value: 0.5, low: 0.5, high: 0.5 });
        assert_eq!((share_higher, higher, lower), (1.0, 50, 0));
        assert_eq!(difference(&first, &first).share_higher, 0.0);
    }

    #[test]
    fn intervals_of_differences_cover_the_truth() {
        const EXPERIMENTS: u64 = 2000;
        const ITEMS: u64 = 150;
        // Both models are right where an item is easier than they are good: 70 % and 60 % of items, far from
        // independently.
        let covers = |experiment: u64| {
            let right = |good: f32, noise: u64, i: u64| {
                let own = rng::uniform(2 + noise, experiment, i) < 0.2;
                let draw =
                    if own { rng::uniform(4 + noise, experiment, i) } else { rng::uniform(1, experiment, i) };
                f64::from(draw < good)
            };
            let by: Vec<f64> = (0..ITEMS).map(|i| right(0.7, 0, i) - right(0.6, 1, i)).collect();
            let mean = |items: &[usize]| items.iter().map(|&i| by[i]).sum::<f64>() / items.len() as f64;
            let Interval { low, high, .. } = Resampled::of(by.len(), 400, mean).interval();
            low <= 0.1 + 1e-9 && 0.1 <= high + 1e-9
        };
        let covered = (0..EXPERIMENTS).filter(|&experiment| covers(experiment)).count();
        assert!(
            (1860..=1940).contains(&covered),
            "{covered} of {EXPERIMENTS} intervals cover the difference"
        );
    }
}
