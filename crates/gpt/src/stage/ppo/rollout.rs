//! An iteration's episodes: answers of the policy, what the models say of them, and what follows for every token.

use super::{Options, Ppo, PpoSettings, stream};
use crate::data::Permutation;
use crate::model::{Sampling, Targets};
use crate::objective::ppo::{gae, token_rewards, whiten};
use crate::stage::answers::{self, Answers};
use crate::stage::episodes::{Episode, Rows, passes};
use crate::stage::score::rewards;
use anyhow::{Context, Result};
use kernels::{Backend, rng};
use serde_json::{Map, Value};
use std::ops::Range;

/// Episodes, and flat lists over the tokens of their answers, one answer after another.
pub(super) struct Rollout {
    pub(super) episodes: Vec<Episode>,
    /// Which prompt each answers.
    pub(super) prompts: Vec<usize>,
    /// Whether each was ended by its policy.
    pub(super) ended: Vec<bool>,
    /// Log-probabilities by the policy that drew the tokens, at the sampling temperature.
    pub(super) logprobs: Vec<f64>,
    /// Entropies of its distributions.
    pub(super) entropies: Vec<f64>,
    /// Log-probabilities by the reference policy.
    pub(super) ref_logprobs: Vec<f64>,
    /// Values before each token.
    pub(super) values: Vec<f64>,
    /// One for each episode: the reward model's, less the penalty for an answer without end.
    pub(super) scores: Vec<f64>,
    pub(super) advantages: Vec<f64>,
    pub(super) returns: Vec<f64>,
}

impl<B: Backend> Ppo<'_, B> {
    /// The policy answers the prompts of iteration `step`.
    pub(super) fn roll_out(&mut self, step: u64) -> Result<Rollout> {
        let (n, seed) = (self.prompts.len() as u64, self.options.seed);
        let batch_size = self.settings.own.batch_size as u64;
        let prompt = |i: u64| {
            let number = (step - 1) * batch_size + i;
            Permutation::new(n, seed, stream::PROMPTS + number / n).at(number % n) as usize
        };
        let prompts: Vec<usize> = (0..batch_size).map(prompt).collect();
        let tokens = prompts.iter().map(|&i| self.prompts[i].tokens.clone()).collect();
        let Answers { episodes, ended } = self.answer(tokens, rng::bits(seed, stream::SAMPLING, step))?;
        Ok(Rollout::new(episodes, prompts, ended))
    }

    /// Samples an answer to each prompt from the policy as it is.
    pub(super) fn answer(&mut self, prompts: Vec<Vec<u32>>, seed: u64) -> Result<Answers> {
        let PpoSettings { temperature, max_tokens, .. } = self.settings.own;
        let sampling = Sampling { temperature: temperature as f32, top_k: 0, top_p: 1.0, seed };
        let policy = (&self.policy.config, &self.policy.weights);
        answers::answer(&mut self.backend, policy, &self.prompter, prompts, max_tokens, sampling, 0)
            .context("the policy")
    }

    /// Fills in what the four models say of the episodes.
    pub(super) fn score(&mut self, rollout: &mut Rollout) {
        let temperature = self.settings.own.temperature as f32;
        let b = &mut self.backend;
        let most = self.settings.regime.micro_batch_tokens;
        for run in passes(rollout.episodes.iter().map(|episode| episode.tokens.len()), most) {
            let rows = Rows::of(&rollout.episodes[run]);
            let (batch, targets) = (rows.sequences(), Targets { tokens: &rows.targets, temperature });
            let outputs = self.policy.outputs(b, batch, targets);
            rollout.logprobs.extend(rows.of_answers(outputs.logprobs));
            rollout.entropies.extend(rows.of_answers(outputs.entropies));
            rollout.ref_logprobs.extend(rows.of_answers(self.reference.logprobs(b, batch, targets)));
            let values = self.value.scores(b, batch, &rows.before_tokens);
            rollout.values.extend(values.iter().map(|&value| f64::from(value)));
        }
        let whole = answers::whole(&rollout.episodes, &rollout.ended, &self.prompter);
        rollout.scores = rewards(&mut self.reward, b, &whole);
        let penalty = self.settings.own.missing_end_penalty;
        for (score, _) in rollout.scores.iter_mut().zip(&rollout.ended).filter(|(_, ended)| !**ended) {
            *score -= penalty;
        }
    }
}

impl Rollout {
    /// Episodes of which nothing else is known yet.
    pub(super) fn new(episodes: Vec<Episode>, prompts: Vec<usize>, ended: Vec<bool>) -> Self {
        Rollout {
            episodes,
            prompts,
            ended,
            logprobs: Vec::new(),
            entropies: Vec::new(),
            ref_logprobs: Vec::new(),
            values: Vec::new(),
            scores: Vec::new(),
            advantages: Vec::new(),
            returns: Vec::new(),
        }
    }

    /// Tokens of each answer.
    pub(super) fn lens(&self) -> Vec<usize> {
        self.episodes.iter().map(Episode::answer_len).collect()
    }

    /// Where each answer's tokens stand in the flat lists.
    pub(super) fn spans(&self) -> Vec<Range<usize>> {
        let mut end = 0;
        let span = |len| {
            end += len;
            end - len..end
        };
        self.lens().into_iter().map(span).collect()
    }

    /// Rewards of every token (the score on the last one, less the price of the distance), and from them advantages and returns.
    pub(super) fn estimate_advantages(&mut self, settings: &PpoSettings, kl_coef: f64) {
        let lens = self.lens();
        let mut rewards = token_rewards(&self.logprobs, &self.ref_logprobs, &self.scores, &lens, kl_coef);
        if settings.whiten_rewards {
            whiten(&mut rewards, false);
        }
        (self.advantages, self.returns) =
            gae(&rewards, &self.values, &lens, settings.gamma, settings.gae_lambda);
        whiten(&mut self.advantages, true);
    }

    /// Mean over the episodes of the sampled estimate of the KL to the reference, in nats.
    pub(super) fn kl(&self) -> f64 {
        let sum: f64 = self.logprobs.iter().zip(&self.ref_logprobs).map(|(a, b)| a - b).sum();
        sum / self.episodes.len() as f64
    }

    /// Mean entropy of a token's distribution, in nats.
    pub(super) fn entropy(&self) -> f64 {
        mean(&self.entropies)
    }

    /// Mean reward of an episode.
    pub(super) fn mean_score(&self) -> f64 {
        mean(&self.scores)
    }

    /// Which of the models says of the episodes what is not finite, where one does: nothing can be learned then.
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

    /// Tokens of prompts and answers.
    pub(super) fn tokens(&self) -> u64 {
        self.episodes.iter().map(|episode| episode.tokens.len() as u64).sum()
    }

    /// The figures of the iteration before learning from it.
    pub(super) fn metrics(&self) -> Map<String, Value> {
        let ended = self.ended.iter().filter(|ended| **ended).count() as f64 / self.ended.len() as f64;
        let answer_len = self.logprobs.len() as f64 / self.episodes.len() as f64;
        let figures = [
            ("objective/reward", self.mean_score()),
            ("objective/kl", self.kl()),
            ("objective/entropy", self.entropy()),
            ("objective/ended", ended),
            ("objective/answer_tokens", answer_len),
        ];
        figures.map(|(name, value)| (name.to_owned(), value.into())).into_iter().collect()
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}
