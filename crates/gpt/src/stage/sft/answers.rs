//! What the model answers in held-out conversations, and what a reward model thinks of it.

use super::{Learner, Sft};
use crate::data::Batch;
use crate::model::Sampling;
use crate::stage::answers::{Answers, answer, whole};
use crate::stage::score::rewards;
use crate::stage::training_loop::Cancel;
use anyhow::{Result, ensure};
use kernels::{Backend, NO_TARGET};

/// Answers shown as samples, and their tokens at most.
const SHOWN: u64 = 3;
const SHOWN_TOKENS: usize = 64;
/// Conversations whose answers a reward model judges, at most.
const JUDGED: u64 = 256;

impl<B: Backend> Sft<'_, B> {
    /// The first answers of a few held-out conversations.
    pub(super) fn answer_samples(&mut self) -> Result<Vec<(String, String)>> {
        let prompts = self.prompts(SHOWN, 1);
        self.learner.answers(prompts, SHOWN_TOKENS, self.options.seed, self.prompter.end_tokens())
    }

    /// The reward model's mean score of sampled answers, where there is one. The same conversations draw the
    /// same random numbers every time.
    pub(super) fn mean_reward(&mut self, cancel: Cancel<'_>) -> Result<Option<f64>> {
        if self.reward.is_none() {
            return Ok(None);
        }
        let max_tokens = self.settings.own.max_tokens;
        // One more for the end that the reward model reads.
        let prompts = self.prompts(JUDGED, max_tokens + 1);
        ensure!(
            !prompts.is_empty(),
            "no held-out conversation leaves room for {max_tokens} tokens: take fewer (max_tokens)"
        );
        let sampling = Sampling { seed: self.options.seed, ..Sampling::default() };
        let Self { learner: Learner { backend, trainer, .. }, reward, prompter, .. } = self;
        trainer.release_pass(backend);
        let model = (&trainer.config, &trainer.weights);
        let Answers { episodes, ended, .. } =
            answer(backend, model, prompter, prompts, max_tokens, sampling, (trainer.ranks(), cancel))?;
        let whole = whole(&episodes, &ended, prompter);
        let scores = reward.as_mut().map(|reward| rewards(reward, backend, &whole, cancel)).transpose()?;
        Ok(scores.map(|scores| scores.iter().sum::<f64>() / scores.len() as f64))
    }

    /// What stands before the first answer of the first `n` held-out conversations, where `room` is left for
    /// an answer.
    fn prompts(&self, n: u64, room: usize) -> Vec<Vec<u32>> {
        let prompt = |number: u64| {
            let mut one = Batch::default();
            self.options.val.push(number, &mut one);
            let asked = one.targets.iter().position(|&target| target != NO_TARGET).unwrap_or(0);
            one.tokens[..=asked].to_vec()
        };
        let reads = self.reward.iter().map(|reward| reward.config.seq_len);
        let context = reads.fold(self.learner.trainer.config.seq_len, usize::min);
        let numbers = 0..n.min(self.options.val.per_epoch());
        numbers.map(prompt).filter(|prompt| prompt.len() + room <= context).collect()
    }
}
