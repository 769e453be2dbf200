//! The metrics of an iteration, and the checks that it has not diverged.

use super::iteration::Rollout;
use super::{Options, Ppo};
use crate::stage::answers::text;
use crate::stage::training_loop::{Step, metrics, shortest};
use crate::train::Update;
use anyhow::Result;
use kernels::Backend;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Answers of every iteration that are kept, and those shown as samples.
pub(super) const SHOWN: usize = 4;
/// How far a policy may go within an iteration, in the estimate of the KL of a token from the one that was
/// sampled from (nats; what learns stays below 1).
const MAX_APPROX_KL: f64 = 10.0;
/// How many times the error of a value model that says 0 its own may be.
const MAX_VALUE_ERROR: f64 = 10.0;

/// Figures of the updates of an iteration, of which the means are told.
#[derive(Default)]
pub(super) struct Figures {
    sums: BTreeMap<&'static str, (f64, u32)>,
    /// Why an update was left out, or all of them, where one was.
    pub(super) skipped: Option<String>,
}

impl Figures {
    /// No figures yet of episodes that nothing can be learned from if they have a `fault`.
    pub(super) fn new(fault: Option<String>) -> Self {
        Figures { skipped: fault, ..Figures::default() }
    }

    pub(super) fn add(&mut self, name: &'static str, value: f64) {
        let (sum, count) = self.sums.entry(name).or_default();
        *sum += value;
        *count += 1;
    }

    /// Adds the gradient's norm of an update under this name.
    pub(super) fn add_update(&mut self, name: &'static str, update: Update) {
        self.add(name, update.grad_norm);
        if !update.applied {
            self.skipped = Some(format!("gradient norm {}: the update was left out", update.grad_norm));
        }
    }

    fn mean(&self, name: &str) -> f64 {
        self.sums.get(name).map_or(0.0, |(sum, count)| sum / f64::from(*count))
    }

    fn means(&self) -> Map<String, Value> {
        metrics(self.sums.keys().map(|name| (*name, self.mean(name).into())))
    }

    /// Whether the updates left policy or value model beyond use.
    fn exploded(&self, rollout: &Rollout) -> Option<String> {
        let (kl, value) = (self.mean("policy/approxkl"), self.mean("value/loss"));
        let squares: f64 = rollout.returns.iter().map(|ret| ret * ret).sum();
        // Values are worth something only in the scale of rewards, which are normalised to 1.
        let of_zero = 0.5 * (1.0 + squares / rollout.returns.len().max(1) as f64);
        if kl > MAX_APPROX_KL {
            return Some(format!(
                "within one iteration the policy went {kl:.2e} nats a token from the one that was sampled from (policy/approxkl)"
            ));
        }
        (value > MAX_VALUE_ERROR * of_zero).then(|| {
            format!("the value model's loss is {value:.2e}, that of saying 0 everywhere at most {of_zero:.2}")
        })
    }
}

impl Rollout {
    /// Mean over the episodes of the sampled estimate of the KL to the reference, in nats.
    pub(super) fn kl(&self) -> f64 {
        let sum: f64 = self.logprobs.iter().zip(&self.ref_logprobs).map(|(a, b)| a - b).sum();
        sum / self.episodes.len() as f64
    }

    /// Mean reward of an episode.
    pub(super) fn mean_score(&self) -> f64 {
        mean(&self.scores)
    }

    /// Mean number of tokens of an answer.
    pub(super) fn answer_tokens(&self) -> f64 {
        self.logprobs.len() as f64 / self.episodes.len() as f64
    }

    /// Tokens of prompts and answers.
    fn tokens(&self) -> u64 {
        self.episodes.iter().map(|episode| episode.tokens.len() as u64).sum()
    }

    /// Which of the models says of the episodes what is not finite, where one does: nothing can be learned
    /// then.
    pub(super) fn fault(&self, options: &Options<'_>) -> Option<String> {
        let (policy, reward) = (options.policy.name(), options.reward.name());
        let bad = |values: &[f64]| values.iter().filter(|value| !value.is_finite()).count();
        let without_score = bad(&self.scores);
        if without_score > 0 {
            let all = self.episodes.len();
            return Some(format!(
                "{reward} gives {without_score} of {all} answers a reward that is not finite"
            ));
        }
        let of_tokens = [
            ("the policy gives log-probabilities".to_owned(), &self.logprobs),
            (format!("the reference, {policy}, gives log-probabilities"), &self.ref_logprobs),
            (format!("the value model, which began as {reward}, gives values"), &self.values),
        ];
        let found = of_tokens.into_iter().map(|(what, values)| (what, bad(values))).find(|(_, n)| *n > 0);
        found
            .map(|(what, n)| format!("{what} that are not finite, for {n} of {} tokens", self.logprobs.len()))
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

impl<B: Backend> Ppo<'_, B> {
    /// What an iteration was whose episodes were learned from in `epochs` passes.
    pub(super) fn summary(
        &self,
        step: u64,
        rollout: &Rollout,
        figures: Figures,
        epochs: u64,
    ) -> Result<Step> {
        let (reward, kl, entropy) = (rollout.mean_score(), rollout.kl(), mean(&rollout.entropies));
        let ended = rollout.ended.iter().filter(|ended| **ended).count() as f64 / rollout.ended.len() as f64;
        let mut metrics = metrics([
            ("objective/reward", reward.into()),
            ("objective/kl", kl.into()),
            ("objective/entropy", entropy.into()),
            ("objective/ended", ended.into()),
            ("objective/answer_tokens", rollout.answer_tokens().into()),
        ]);
        metrics.extend(figures.means());
        metrics.insert("kl_coef".to_owned(), self.kl.coefficient().into());
        metrics.insert("lr".to_owned(), shortest(self.schedule().at(step)));
        // Policy and value model both learn from every episode in every pass.
        let learned = 2 * epochs * rollout.tokens();
        let clipped = 100.0 * figures.mean("policy/clipfrac");
        Ok(Step {
            metrics,
            columns: vec![
                format!("reward {reward:6.3}"),
                format!("KL {kl:.3}"),
                format!("entropy {entropy:.3}"),
                format!("clipped {clipped:.1} %"),
            ],
            tokens: learned + rollout.tokens(),
            flops: self.flops(rollout, learned),
            exploded: figures.exploded(rollout),
            skipped: figures.skipped,
            rollouts: self.shown(rollout)?,
            ..Step::default()
        })
    }

    /// Floating-point operations of an iteration in which this many tokens were learned from: a pass without
    /// gradients costs a third of one with them, and every token of the rollout has five (sampled once, read
    /// by four models).
    fn flops(&self, rollout: &Rollout, learned_tokens: u64) -> f64 {
        const PASSES: f64 = 5.0;
        let passes = PASSES / 3.0 * rollout.tokens() as f64 + learned_tokens as f64;
        let len = rollout.tokens() as f64 / rollout.episodes.len() as f64;
        passes * self.policy.config.training_flops_per_token_of(len)
    }

    /// Some of an iteration's episodes, for `rollouts.jsonl`.
    fn shown(&self, rollout: &Rollout) -> Result<Vec<Map<String, Value>>> {
        let shown = rollout.spans().into_iter().enumerate().take(SHOWN);
        let line = |(i, span): (usize, std::ops::Range<usize>)| {
            let kl: f64 = span.map(|at| rollout.logprobs[at] - rollout.ref_logprobs[at]).sum();
            let answer = text(&rollout.episodes[i], rollout.ended[i], &self.prompter)?;
            Ok(metrics([
                ("prompt", self.prompts[rollout.prompts[i]].text().into()),
                ("answer", answer.into()),
                ("ended", rollout.ended[i].into()),
                ("reward", rollout.scores[i].into()),
                ("kl", kl.into()),
            ]))
        };
        shown.map(line).collect()
    }
}
