//! The metrics of an iteration, and the checks that it has not diverged.

use super::iteration::Experience;
use super::{Options, Ppo};
use crate::stage::answers::text;
use crate::stage::training_loop::{Step, metrics, shortest};
use crate::stage::updates::Figures;
use anyhow::Result;
use kernels::Backend;
use serde_json::{Map, Value};

/// Answers of every iteration that are kept, and those shown as samples.
pub(super) const SHOWN: usize = 4;
/// Passes without gradients over every token of a rollout: sampled once, read by four models.
const PASSES: f64 = 5.0;
/// How many times the error of a value model that says 0 its own may be.
const MAX_VALUE_ERROR: f64 = 10.0;

/// Whether the updates left policy or value model beyond use.
fn exploded(figures: &Figures, experience: &Experience) -> Option<String> {
    let (value, returns) = (figures.mean("value/loss"), &experience.returns);
    let squares: f64 = returns.iter().map(|ret| ret * ret).sum();
    // Values are worth something only in the scale of rewards, which are normalised to 1.
    let of_zero = 0.5 * (1.0 + squares / returns.len().max(1) as f64);
    figures.gone_too_far().or_else(|| {
        (value > MAX_VALUE_ERROR * of_zero).then(|| {
            format!("the value model's loss is {value:.2e}, that of saying 0 everywhere at most {of_zero:.2}")
        })
    })
}

impl Experience {
    /// Mean reward of an episode.
    pub(super) fn mean_score(&self) -> f64 {
        mean(&self.scores)
    }

    /// Which of the models says of the episodes what is not finite, where one does: nothing can be learned
    /// then.
    pub(super) fn fault(&self, options: &Options<'_>) -> Option<String> {
        let (policy, reward) = (options.policy.name(), options.reward.name());
        let bad = |values: &[f64]| values.iter().filter(|value| !value.is_finite()).count();
        let without_score = bad(&self.scores);
        if without_score > 0 {
            let all = self.scores.len();
            return Some(format!(
                "{reward} gives {without_score} of {all} answers a reward that is not finite"
            ));
        }
        let of_tokens = [
            ("the policy gives log-probabilities".to_owned(), &self.rollout.logprobs),
            (format!("the reference, {policy}, gives log-probabilities"), &self.rollout.ref_logprobs),
            (format!("the value model, which began as {reward}, gives values"), &self.values),
        ];
        let found = of_tokens.into_iter().map(|(what, values)| (what, bad(values))).find(|(_, n)| *n > 0);
        found.map(|(what, n)| format!("{what} that are not finite, for {n} of {} tokens", self.values.len()))
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
        experience: &Experience,
        figures: Figures,
        epochs: u64,
    ) -> Result<Step> {
        let rollout = &experience.rollout;
        let (reward, kl, entropy) = (experience.mean_score(), rollout.kl(), mean(&rollout.entropies));
        let mut metrics = metrics([
            ("objective/reward", reward.into()),
            ("objective/kl", kl.into()),
            ("objective/entropy", entropy.into()),
            ("objective/ended", rollout.ended_share().into()),
            ("objective/answer_tokens", rollout.answer_tokens().into()),
        ]);
        metrics.extend(figures.means());
        metrics.insert("kl_coef".to_owned(), self.kl.coefficient().into());
        metrics.insert("lr".to_owned(), shortest(self.schedule().at(step)));
        // Policy and value model both learn from every episode in every pass.
        let times = 2 * epochs;
        let clipped = 100.0 * figures.mean("policy/clipfrac");
        Ok(Step {
            metrics,
            columns: vec![
                format!("reward {reward:6.3}"),
                format!("KL {kl:.3}"),
                format!("entropy {entropy:.3}"),
                format!("clipped {clipped:.1} %"),
            ],
            tokens: (times + 1) * rollout.all_tokens(),
            flops: rollout.reading_flops(&self.policy.config, PASSES)
                + rollout.learning_flops(&self.policy, times),
            exploded: exploded(&figures, experience),
            skipped: figures.skipped,
            rollouts: self.shown(experience)?,
            ..Step::default()
        })
    }

    /// Some of an iteration's episodes, for `rollouts.jsonl`.
    fn shown(&self, experience: &Experience) -> Result<Vec<Map<String, Value>>> {
        let Experience { rollout, scores, .. } = experience;
        let shown = rollout.spans().into_iter().enumerate().take(SHOWN);
        let line = |(i, span): (usize, std::ops::Range<usize>)| {
            let kl: f64 = span.map(|at| rollout.logprobs[at] - rollout.ref_logprobs[at]).sum();
            let answer = text(&rollout.episodes[i], rollout.ended[i], &self.prompter)?;
            Ok(metrics([
                ("prompt", self.prompts[rollout.prompts[i]].text().into()),
                ("answer", answer.into()),
                ("ended", rollout.ended[i].into()),
                ("reward", scores[i].into()),
                ("kl", kl.into()),
            ]))
        };
        shown.map(line).collect()
    }
}
