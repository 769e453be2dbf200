//! What is said of an iteration.

use super::Grpo;
use super::iteration::Experience;
use super::measure::SHOWN;
use super::rewards::{Given, Graded};
use crate::objective::grpo::tells_apart;
use crate::stage::talks::Turns;
use crate::stage::training_loop::{Step, metrics, reading_flops, shortest};
use crate::stage::updates::Figures;
use anyhow::Result;
use kernels::Backend;
use serde_json::{Map, Value, json};

/// The mean of the values that there are.
pub(super) fn mean(values: impl IntoIterator<Item = Option<f64>>) -> Option<f64> {
    let (sum, n) = values.into_iter().flatten().fold((0.0, 0), |(sum, n), value| (sum + value, n + 1));
    (n > 0).then(|| sum / f64::from(n))
}

/// The numbers that answers got.
pub(super) fn numbers(given: &[Given]) -> impl Iterator<Item = Option<f64>> {
    given.iter().map(|given| given.as_ref().ok().copied())
}

/// How groups of answers differ.
struct Groups {
    all_right: Option<f64>,
    all_wrong: Option<f64>,
    /// The share whose rewards are all the same.
    equal: f64,
    /// The mean deviation of rewards within a group, by n − 1.
    deviation: Option<f64>,
}

impl Groups {
    fn of(graded: &Graded, group: usize) -> Self {
        let right: Vec<&[Option<bool>]> = graded.right.chunks(group).collect();
        let rewards: Vec<&[Option<f64>]> = graded.totals.chunks(group).collect();
        let n = rewards.len().max(1) as f64;
        let share = |all: bool| {
            let known = right.iter().filter(|group| group.iter().any(Option::is_some)).count();
            let count = right.iter().filter(|group| group.iter().any(Option::is_some));
            let same = count.filter(|group| group.iter().flatten().all(|is_right| *is_right == all)).count();
            (known > 0).then(|| same as f64 / known as f64)
        };
        Groups {
            all_right: share(true),
            all_wrong: share(false),
            equal: rewards.iter().filter(|rewards| !tells_apart(rewards)).count() as f64 / n,
            deviation: mean(rewards.iter().map(|rewards| deviation(rewards))),
        }
    }
}

fn deviation(rewards: &[Option<f64>]) -> Option<f64> {
    let mean_of = mean(rewards.iter().copied())?;
    let squares: Vec<f64> = rewards.iter().flatten().map(|reward| (reward - mean_of).powi(2)).collect();
    (squares.len() > 1).then(|| (squares.iter().sum::<f64>() / (squares.len() - 1) as f64).sqrt())
}

impl<B: Backend> Grpo<'_, B> {
    /// What an iteration was whose answers were learned from in `epochs` passes.
    pub(super) fn summary(
        &self,
        step: u64,
        experience: &Experience,
        figures: Figures,
        epochs: u64,
    ) -> Result<Step> {
        let own = &self.settings.own;
        let Experience { rollout, sampled, .. } = experience;
        let reward = mean(sampled.graded.totals.iter().copied());
        let entropy = mean(rollout.entropies.iter().map(|entropy| Some(*entropy))).unwrap_or(0.0);
        let groups = Groups::of(&sampled.graded, own.group);
        let mut metrics = metrics([
            ("objective/entropy", entropy.into()),
            ("objective/ended", rollout.ended_share().into()),
            ("objective/answer_tokens", rollout.answer_tokens().into()),
            ("groups/equal", groups.equal.into()),
        ]);
        let kl = self.reference.is_some().then(|| rollout.kl());
        let mut add = |name: &str, value: Option<f64>| {
            metrics.extend(value.map(|value| (name.to_owned(), Value::from(value))));
        };
        add("objective/reward", reward);
        add("objective/kl", kl);
        add("groups/reward_std", groups.deviation);
        add("groups/all_right", groups.all_right);
        add("groups/all_wrong", groups.all_wrong);
        if own.rounds > 1 {
            add("groups/kept", Some(rollout.episodes.len() as f64 / sampled.graded.totals.len() as f64));
        }
        if !sampled.turns.is_empty() {
            let calls = sampled.turns.iter().map(Turns::calls);
            let (calls, failed) = calls.fold((0, 0), |sum, of| (sum.0 + of.0, sum.1 + of.1));
            add("tools/calls", Some(calls as f64 / sampled.turns.len() as f64));
            add("tools/failed", (calls > 0).then(|| failed as f64 / calls as f64));
        }
        for (name, given) in self.rewards.names().zip(&sampled.graded.given) {
            add(&format!("reward/{name}"), mean(numbers(given)));
            let failed = given.iter().filter(|given| given.is_err()).count();
            add(&format!("reward/{name}_failed"), (failed > 0).then_some(failed as f64));
        }
        metrics.extend(figures.means());
        metrics.insert("lr".to_owned(), shortest(self.schedule().at(step)));
        let learned = epochs * rollout.all_tokens();
        let clipped = 100.0 * (figures.mean("policy/clip_low") + figures.mean("policy/clip_high"));
        let passes = u32::from(self.reference.is_some()) + u32::from(own.asks_first() || epochs == 0);
        let trainer = &self.policy.trainer;
        let sampling = reading_flops(&trainer.config, sampled.tokens, sampled.graded.totals.len());
        let reading = rollout.reading_flops(&trainer.config, f64::from(passes));
        Ok(Step {
            metrics,
            columns: vec![
                format!("reward {:6.3}", reward.unwrap_or(f64::NAN)),
                groups
                    .all_right
                    .map_or_else(String::new, |share| format!("all right {:.0} %", 100.0 * share)),
                kl.map_or_else(String::new, |kl| format!("KL {kl:.3}")),
                format!("entropy {entropy:.3}"),
                format!("clipped {clipped:.1} %"),
            ]
            .into_iter()
            .filter(|column| !column.is_empty())
            .collect(),
            tokens: learned + sampled.tokens,
            flops: sampling + reading + rollout.learning_flops(trainer, epochs),
            exploded: figures.gone_too_far(),
            skipped: figures.skipped,
            rollouts: self.shown(experience)?,
            ..Step::default()
        })
    }

    /// Some of an iteration's answers, for `rollouts.jsonl`: those to its first prompt come first.
    fn shown(&self, experience: &Experience) -> Result<Vec<Map<String, Value>>> {
        let Experience { rollout, graded, advantages, turns, .. } = experience;
        let line = |(i, span): (usize, std::ops::Range<usize>)| {
            let mut line = metrics([
                ("prompt", self.prompts[rollout.prompts[i]].text().into()),
                ("answer", self.text_of(rollout, i)?.into()),
                ("ended", rollout.ended[i].into()),
                ("reward", graded.totals[i].into()),
                ("advantage", advantages[span.start].into()),
            ]);
            if let Some(Turns { said, .. }) = turns.get(i).filter(|turns| !turns.said.is_empty()) {
                line.insert("said".into(), json!(said));
            }
            for (name, given) in self.rewards.names().zip(&graded.given) {
                line.insert(format!("reward/{name}"), given[i].as_ref().ok().copied().into());
                line.extend(
                    given[i].as_ref().err().map(|why| (format!("reward/{name}_failed"), why.clone().into())),
                );
            }
            if !rollout.ref_logprobs.is_empty() {
                let kl: f64 = span.map(|at| rollout.logprobs[at] - rollout.ref_logprobs[at]).sum();
                line.insert("kl".into(), kl.into());
            }
            Ok(line)
        };
        rollout.spans().into_iter().enumerate().take(SHOWN).map(line).collect()
    }
}
