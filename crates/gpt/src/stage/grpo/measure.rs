//! How good a policy is on held-out prompts.

use super::Grpo;
use super::figures::mean;
use crate::eval::code::{PassAtK, pass_at_k_over};
use crate::stage::answers::Answers;
use crate::stage::rollout::Rollout;
use crate::stage::training_loop::{Cancel, Evaluation};
use crate::streams;
use crate::train::Reference;
use anyhow::{Result, bail};
use kernels::{Backend, rng};

/// Answers of every iteration that are kept, and those shown as samples.
pub(super) const SHOWN: usize = 4;

impl<B: Backend> Grpo<'_, B> {
    /// Answers the held-out prompts several times, and measures their rewards and how often one is right. The
    /// same prompts draw the same random numbers every time.
    pub(super) fn measure(&mut self, cancel: Cancel<'_>) -> Result<Evaluation> {
        let settings = self.settings;
        let (own, k) = (&settings.own, settings.own.eval_samples);
        let prompts: Vec<usize> = (0..self.held_out.len()).flat_map(|i| vec![i; k]).collect();
        let each: Vec<usize> = (0..self.held_out.len()).collect();
        let answers = self.answer_held_out(&each, k, cancel)?;
        let graded = self.grade(&prompts, &answers, true)?;
        let Some(reward) = mean(graded.totals.iter().copied()) else {
            let why = graded.given.iter().flatten().find_map(|given| given.as_ref().err());
            bail!(
                "no held-out answer has a reward: {}. Where this machine was at fault, the same command goes on; a mended reward or other \
                 prompts are another run: give another --out, or remove this one",
                why.map_or("", String::as_str)
            );
        };
        let mut rollout = Rollout::new(prompts, answers);
        let mut metrics = vec![("eval/reward", reward)];
        let mut line = format!("reward {reward:.3}");
        if self.rewards.tell_right() {
            let of_prompt = |right: &[Option<bool>]| {
                let known = right.iter().flatten();
                (known.clone().count() as u64, known.filter(|is_right| **is_right).count() as u64)
            };
            let counts: Vec<(u64, u64)> = graded.right.chunks(k).map(of_prompt).collect();
            const NAMES: [[&str; 3]; 2] = [
                ["eval/pass@1", "eval/pass@1_low", "eval/pass@1_high"],
                ["eval/pass@k", "eval/pass@k_low", "eval/pass@k_high"],
            ];
            for (names, k) in NAMES.into_iter().zip([1, k as u64]).take(k.min(2)) {
                let Some(PassAtK { value, low, high, .. }) = pass_of_judged(&counts, k) else { continue };
                metrics.extend(names.into_iter().zip([value, low, high]));
                line +=
                    &format!(", pass@{k} {:.1} % ({:.1} to {:.1})", 100.0 * value, 100.0 * low, 100.0 * high);
            }
        }
        let mut objective = reward;
        if let Some(reference) = &mut self.reference {
            let how = (own.temperature as f32, settings.optim.micro_batch_tokens);
            let (b, policy) = (&mut self.policy.backend, &mut self.policy.trainer);
            // Before anything is learned, both are the same model.
            let kl = match reference {
                Reference::Apart(_) if policy.updates(b) == 0 => 0.0,
                reference => {
                    rollout.ask(b, policy, how, cancel)?;
                    rollout.ask_reference(b, policy, reference, how, cancel)?;
                    rollout.kl()
                }
            };
            objective -= own.kl_coef * kl;
            metrics.push(("eval/kl", kl));
            line += &format!(", KL {kl:.3}");
        }
        metrics.push(("eval/objective", objective));
        metrics.push(("eval/answer_tokens", rollout.answer_tokens()));
        Ok(Evaluation { metrics, line })
    }

    /// The policy's answers to some held-out prompts, `times` to each.
    pub(super) fn answer_held_out(
        &mut self,
        prompts: &[usize],
        times: usize,
        cancel: Cancel<'_>,
    ) -> Result<Answers> {
        let asked: Vec<usize> = prompts.iter().flat_map(|&i| vec![i; times]).collect();
        self.answer(&asked, true, rng::bits(self.options.seed, streams::GRPO_MEASURING, 0), cancel)
    }
}

/// pass@k of prompts with so many judged answers and right ones. Those of which fewer than k were judged say nothing of so
/// many.
fn pass_of_judged(counts: &[(u64, u64)], k: u64) -> Option<PassAtK> {
    let judged: Vec<(u64, u64)> = counts.iter().copied().filter(|(n, _)| *n >= k).collect();
    pass_at_k_over(&judged, k)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_whose_answers_were_not_judged_say_nothing() {
        let counts = [(2, 2), (1, 1), (0, 0), (2, 0)];
        let pass = |k| pass_of_judged(&counts, k).map(|pass| (pass.value, pass.n));
        assert_eq!(pass(1), Some((2.0 / 3.0, 3)));
        assert_eq!((pass(2), pass(3)), (Some((0.5, 2)), None));
    }
}
