//! How good the policy is on held-out prompts, and what its answers look like.

use super::prompts::Asked;
use super::rollout::Rollout;
use super::{Ppo, stream};
use crate::stage::answers::{Answers, text};
use crate::stage::training_loop::Evaluation;
use anyhow::Result;
use kernels::{Backend, rng};
use serde_json::{Map, Value, json};

/// Answers shown as samples, and kept of every iteration.
const SHOWN: usize = 4;

impl<B: Backend> Ppo<'_, B> {
    /// Answers the held-out prompts and measures reward, KL and, where there is one, the gold score. The same prompts draw the
    /// same random numbers every time.
    pub(super) fn measure(&mut self) -> Result<Evaluation> {
        let rollout = self.answer_held_out()?;
        let (reward, kl) = (rollout.mean_score(), rollout.kl());
        let objective = reward - self.options.settings.own.kl_coef * kl;
        let mut metrics = vec![("eval/reward", reward), ("eval/kl", kl), ("eval/objective", objective)];
        let mut line = format!("reward {reward:.3}, KL {kl:.3}");
        let mut sorted = rollout.scores.clone();
        sorted.sort_by(f64::total_cmp);
        metrics.push(("eval/reward_median", sorted[sorted.len() / 2]));
        metrics.push(("eval/answer_tokens", rollout.logprobs.len() as f64 / rollout.episodes.len() as f64));
        if let Some(gold) = self.options.gold {
            let mut sum = 0.0;
            for (i, episode) in rollout.episodes.iter().enumerate() {
                sum += gold(self.held_out[i].prompt, &text(episode, rollout.ended[i], &self.prompter)?);
            }
            let mean = sum / rollout.episodes.len() as f64;
            metrics.push(("eval/gold", mean));
            line += &format!(", gold {mean:.3}");
        }
        Ok(Evaluation { metrics, line })
    }

    fn answer_held_out(&mut self) -> Result<Rollout> {
        let all: Vec<usize> = (0..self.held_out.len()).collect();
        let prompts: Vec<Vec<u32>> = self.held_out.iter().map(|asked| asked.tokens.clone()).collect();
        let Answers { episodes, ended } = self.answer(prompts, self.measuring_seed())?;
        let mut rollout = Rollout::new(episodes, all, ended);
        self.score(&mut rollout);
        Ok(rollout)
    }

    /// A few held-out prompts and their answers.
    pub(super) fn answer_samples(&mut self) -> Result<Vec<(String, String)>> {
        let prompts = self.held_out.iter().take(SHOWN).map(|asked| asked.tokens.clone()).collect();
        let answers = self.answer(prompts, self.measuring_seed())?;
        let asked = self.held_out.iter().map(Asked::text);
        Ok(asked.zip(answers.texts(&self.prompter)?).collect())
    }

    fn measuring_seed(&self) -> u64 {
        rng::bits(self.options.seed, stream::MEASURING, 0)
    }

    /// Some of an iteration's episodes, for `rollouts.jsonl`.
    pub(super) fn told(&self, rollout: &Rollout) -> Result<Vec<Map<String, Value>>> {
        let spans = rollout.spans();
        let line = |i: usize| {
            let span = spans[i].clone();
            let kl: f64 = span.map(|at| rollout.logprobs[at] - rollout.ref_logprobs[at]).sum();
            let line = json!({
                "prompt": self.prompts[rollout.prompts[i]].text(),
                "answer": text(&rollout.episodes[i], rollout.ended[i], &self.prompter)?,
                "ended": rollout.ended[i],
                "reward": rollout.scores[i],
                "kl": kl,
            });
            let Value::Object(line) = line else { unreachable!("an object was written") };
            Ok(line)
        };
        (0..rollout.episodes.len().min(SHOWN)).map(line).collect()
    }
}
