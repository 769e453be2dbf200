//! One iteration of PPO: roll out, score, estimate advantages, learn.
//!
//! Lists over tokens are flat: those of the answers, one answer after another. There is no padding.

use super::figures::Figures;
use super::{Ppo, PpoSettings};
use crate::data::{Batch, Epochs, Permutation};
use crate::model::{Sampling, Sequences, Targets};
use crate::objective::ppo::{PolicyLoss, gae, policy_loss, token_rewards, value_loss, whiten};
use crate::objective::{cross_entropy, cross_entropy_derivatives};
use crate::stage::answers::{self, Answers};
use crate::stage::episodes::{Episode, Rows};
use crate::stage::lanes::{Lanes, MicroBatch, Untold, pieces};
use crate::stage::score::rewards;
use crate::stage::training_loop::Step;
use crate::streams;
use crate::train::{Lane, LaneSums};
use anyhow::{Context, Result, ensure};
use kernels::{Backend, rng};
use std::iter::repeat_n;
use std::ops::Range;

/// Episodes, and what is known of their tokens.
#[derive(Default)]
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

/// How far, in nats, a log-probability may be from the one that was sampled with, where a device rounds products of
/// other shapes otherwise.
const ROUNDING: f64 = 0.25;

/// Whether a policy that has learned nothing since says what it said: to the bit, or but for rounding.
fn agree(new: &[f64], old: &[f64], exactly: bool) -> bool {
    let off = |(new, old): (&f64, &f64)| (new - old).abs();
    // Written so that NaN is no agreement.
    if exactly { new == old } else { new.iter().zip(old).map(off).all(|off| off <= ROUNDING) }
}

/// Some episodes of a rollout, from which policy and value model learn in one update each.
struct Minibatch<'a> {
    rollout: &'a Rollout,
    /// Counted over the whole run.
    number: u64,
    /// Whether nothing was learned yet in this iteration.
    is_first: bool,
    parts: Vec<Part>,
    /// Tokens of the answers.
    tokens: usize,
}

/// Episodes that go through a model together.
struct Part {
    lane: Lane,
    rows: Rows,
    /// Tokens of each answer.
    lens: Vec<usize>,
    /// Where the tokens of their answers stand in the rollout's lists.
    tokens: Vec<usize>,
}

impl<B: Backend> Ppo<'_, B> {
    /// One iteration (Huang et al. 2024, algorithm 1).
    pub(super) fn iterate(&mut self, step: u64) -> Result<Step> {
        let own = &self.settings.own;
        let mut rollout = self.roll_out(step)?;
        self.score(&mut rollout);
        rollout.estimate_advantages(own, self.kl.coefficient());

        let mut figures = Figures::new(rollout.fault(self.options));
        let epochs = if figures.skipped.is_none() { own.epochs } else { 0 };
        for epoch in 0..epochs {
            for part in 0..own.minibatches {
                let minibatch = self.minibatch(&rollout, step, epoch, part);
                self.update_policy(step, &minibatch, &mut figures)?;
                self.update_value(step, &minibatch, &mut figures);
            }
        }
        self.kl.update(rollout.kl(), rollout.episodes.len());
        self.summary(step, &rollout, figures, epochs)
    }

    /// The policy answers the prompts of an iteration.
    fn roll_out(&mut self, step: u64) -> Result<Rollout> {
        let (n, seed) = (self.prompts.len() as u64, self.options.seed);
        let order = Epochs::new(n, seed, streams::PPO_PROMPTS);
        let prompts = order.batch(step, self.settings.own.batch_size).map(|i| i as usize);
        let prompts: Vec<usize> = prompts.collect();
        let tokens = prompts.iter().map(|&i| self.prompts[i].tokens.clone()).collect();
        let Answers { episodes, ended } =
            self.answer(tokens, rng::bits(seed, streams::PPO_SAMPLING, step))?;
        Ok(Rollout { episodes, prompts, ended, ..Rollout::default() })
    }

    /// Samples an answer to each prompt from the policy as it is.
    pub(super) fn answer(&mut self, prompts: Vec<Vec<u32>>, seed: u64) -> Result<Answers> {
        let PpoSettings { temperature, max_tokens, .. } = self.settings.own;
        let sampling = Sampling { temperature: temperature as f32, seed, ..Sampling::default() };
        let policy = (&self.policy.config, &self.policy.weights);
        answers::answer(&mut self.backend, policy, &self.prompter, prompts, max_tokens, sampling, 0)
            .context("the policy")
    }

    /// Fills in what the four models say of the episodes.
    pub(super) fn score(&mut self, rollout: &mut Rollout) {
        let (b, own) = (&mut self.backend, &self.settings.own);
        let all: Vec<usize> = (0..rollout.episodes.len()).collect();
        for Part { rows, .. } in rollout.parts(&all, Lanes::new(1), self.settings.optim.micro_batch_tokens) {
            let targets = Targets { tokens: &rows.targets, temperature: own.temperature as f32 };
            let policy = self.policy.outputs(b, rows.sequences(), targets);
            rollout.logprobs.extend(rows.of_answers(policy.logprobs));
            rollout.entropies.extend(rows.of_answers(policy.entropies));
            let reference = self.reference.logprobs(b, rows.sequences(), targets);
            rollout.ref_logprobs.extend(rows.of_answers(reference));
            let values = self.value.scores(b, rows.sequences(), &rows.before_tokens);
            rollout.values.extend(values.iter().map(|&value| f64::from(value)));
        }
        let whole = answers::whole(&rollout.episodes, &rollout.ended, &self.prompter);
        let scores = rewards(&mut self.reward, b, &whole).into_iter().zip(&rollout.ended);
        let penalised = |(score, &ended)| if ended { score } else { score - own.missing_end_penalty };
        rollout.scores = scores.map(penalised).collect();
    }

    /// The `part`-th minibatch of an epoch: each epoch cuts the episodes in a random order of its own.
    fn minibatch<'r>(&self, rollout: &'r Rollout, step: u64, epoch: u64, part: usize) -> Minibatch<'r> {
        let (own, optim, n) = (&self.settings.own, &self.settings.optim, rollout.episodes.len());
        let (pass, parts) = ((step - 1) * own.epochs + epoch, own.minibatches);
        let order = Permutation::new(n as u64, self.options.seed, streams::PPO_MINIBATCHES.at(pass));
        let chosen: Vec<usize> =
            (part * n / parts..(part + 1) * n / parts).map(|i| order.at(i as u64) as usize).collect();
        Minibatch {
            rollout,
            number: pass * parts as u64 + part as u64,
            is_first: (epoch, part) == (0, 0),
            parts: rollout.parts(&chosen, Lanes::new(optim.lanes), optim.micro_batch_tokens),
            tokens: chosen.iter().map(|&i| rollout.episodes[i].answer_len()).sum(),
        }
    }

    /// One step of the policy up the clipped objective, with its entropy bonus and the pretraining mix.
    fn update_policy(&mut self, step: u64, minibatch: &Minibatch<'_>, figures: &mut Figures) -> Result<()> {
        let own = &self.settings.own;
        let (with_entropies, exactly) = (own.entropy_coef > 0.0, self.same_bits);
        let by_entropy = -own.entropy_coef / minibatch.tokens as f64;
        let mut sums = LaneSums::default();
        for Part { lane, rows, lens, tokens } in &minibatch.parts {
            let old = at(&minibatch.rollout.logprobs, tokens);
            let advantages = at(&minibatch.rollout.advantages, tokens);
            let targets = Targets { tokens: &rows.targets, temperature: own.temperature as f32 };
            let (b, rows_in) = (&mut self.backend, rows.sequences());
            self.policy.accumulate_loss(b, rows_in, targets, with_entropies, *lane, |outputs, derivatives| {
                let new = rows.of_answers(outputs.logprobs);
                ensure!(
                    !minibatch.is_first || agree(&new, &old, exactly),
                    "the policy gives other log-probabilities than those it was sampled with: this is a bug"
                );
                for piece in pieces(*lane, lens) {
                    let [new, old, advantages] =
                        [&new, &old, &advantages].map(|values| &values[piece.clone()]);
                    let clipped = policy_loss(new, old, advantages, own.clip_range, minibatch.tokens);
                    let mut bonus = 0.0;
                    for (&row, &by_logprob) in rows.before_tokens[piece].iter().zip(&clipped.derivatives) {
                        derivatives.logprobs[row as usize] = by_logprob;
                        if with_entropies {
                            derivatives.entropies[row as usize] = by_entropy;
                            bonus += by_entropy * outputs.entropies[row as usize];
                        }
                    }
                    let PolicyLoss { value, clip_fraction, approx_kl, mean_ratio, .. } = clipped;
                    sums.add(*lane, [value + bonus, value, clip_fraction, approx_kl, mean_ratio]);
                }
                Ok(())
            })?;
        }
        let [loss, of_figures @ ..] = sums.total();
        let names = ["policy/loss", "policy/clipfrac", "policy/approxkl", "policy/ratio"];
        names.into_iter().zip(of_figures).for_each(|(name, value)| figures.add(name, value));
        let mixed_in = self.mix_in_pretraining(minibatch)?;
        let (lr, optimizer) = (self.schedule().at(step), self.settings.optim.optimizer());
        let update = self.policy.update(&mut self.backend, &optimizer, lr, Some(loss));
        if let Some((mixed_in, counted)) = mixed_in {
            let share = |piece: &[f64]| [cross_entropy(piece, counted)];
            let [loss] = mixed_in.sum(&mut self.policy.told(), share);
            figures.add("ptx/loss", loss);
            if let [rl_norm, ptx_norm] = self.policy.norms() {
                figures.add("ptx/grad_norm_ratio", ptx_norm / rl_norm);
            }
        }
        figures.add_update("policy/grad_norm", update);
        if let (true, Some(average)) = (update.applied, &mut self.average) {
            for (mean, weight) in average.leaves_mut().into_iter().zip(self.policy.weights.leaves()) {
                self.backend.average(mean, weight, own.ema as f32);
            }
        }
        Ok(())
    }

    /// Adds the gradient of `ptx_coef` times the mean loss of `ptx_tokens` pretraining tokens (Ouyang et al.
    /// 2022, eq. 2, with means in place of expectations), where there are any; returns that mean's pieces and
    /// its number of targets. In the first update of an iteration both gradients' norms are measured.
    fn mix_in_pretraining(&mut self, minibatch: &Minibatch<'_>) -> Result<Option<(Untold, usize)>> {
        let Self { settings, backend: b, policy, ptx, .. } = self;
        let Some((_, windows)) = ptx else { return Ok(None) };
        let (own, seq_len) = (&settings.own, policy.config.seq_len);
        let sequences = (own.ptx_tokens / seq_len).max(1);
        if minibatch.is_first {
            policy.set_aside(b);
        }
        let (mut batch, mut derivatives) = (Batch::default(), Vec::new());
        let (mut untold, counted) = (Untold::default(), sequences * windows.predictions());
        let (lanes, most) = (Lanes::new(settings.optim.lanes).besides(), settings.optim.micro_batch_tokens);
        for MicroBatch { lane, examples } in lanes.cut(repeat_n(seq_len, sequences), most) {
            windows.batch(minibatch.number + 1, examples, sequences, &mut batch)?;
            cross_entropy_derivatives(&mut derivatives, &batch.targets, counted);
            derivatives.iter_mut().for_each(|derivative| *derivative *= own.ptx_coef);
            let rows = Sequences { tokens: &batch.tokens, lens: &batch.lens, noise: None };
            policy.accumulate(b, rows, &batch.targets, &derivatives, lane.by_sequence());
            untold.push(lane, &batch.lens);
        }
        if minibatch.is_first {
            policy.measure_norm(b);
            policy.take_back(b);
        }
        Ok(Some((untold, counted)))
    }

    /// One step of the value model towards the returns.
    fn update_value(&mut self, step: u64, minibatch: &Minibatch<'_>, figures: &mut Figures) {
        let (own, optim) = (&self.settings.own, &self.settings.optim);
        let mut sums = LaneSums::default();
        for Part { lane, rows, lens, tokens } in &minibatch.parts {
            let old = at(&minibatch.rollout.values, tokens);
            let returns = at(&minibatch.rollout.returns, tokens);
            let (b, before) = (&mut self.backend, &rows.before_tokens);
            self.value.accumulate_scores(b, rows.sequences(), before, *lane, |values, derivatives| {
                let new: Vec<f64> = values.iter().map(|&value| f64::from(value)).collect();
                for piece in pieces(*lane, lens) {
                    let [new, old, returns] = [&new, &old, &returns].map(|values| &values[piece.clone()]);
                    let loss = value_loss(new, old, returns, own.value_clip, minibatch.tokens);
                    let derivatives = derivatives[piece].iter_mut().zip(&loss.derivatives);
                    derivatives.for_each(|(out, &by)| *out = by as f32);
                    sums.add(*lane, [loss.value, loss.clip_fraction]);
                }
            });
        }
        let [loss, clip_fraction] = sums.total();
        figures.add("value/loss", loss);
        figures.add("value/clipfrac", clip_fraction);
        let ratio = own.value_lr.map_or(1.0, |value_lr| value_lr / optim.lr);
        let lr = (f64::from(self.schedule().at(step)) * ratio) as f32;
        let update = self.value.update(&mut self.backend, &optim.optimizer(), lr, Some(loss));
        figures.add_update("value/grad_norm", update);
    }
}

impl Rollout {
    /// Rewards of every token (the score on the last one, less the KL penalty), and from them advantages and
    /// returns.
    fn estimate_advantages(&mut self, own: &PpoSettings, kl_coef: f64) {
        let lens: Vec<usize> = self.episodes.iter().map(Episode::answer_len).collect();
        let mut rewards = token_rewards(&self.logprobs, &self.ref_logprobs, &self.scores, &lens, kl_coef);
        if own.whiten_rewards {
            whiten(&mut rewards, false);
        }
        (self.advantages, self.returns) = gae(&rewards, &self.values, &lens, own.gamma, own.gae_lambda);
        whiten(&mut self.advantages, true);
    }

    /// Where each answer's tokens stand in the flat lists.
    pub(super) fn spans(&self) -> Vec<Range<usize>> {
        let span = |end: &mut usize, episode: &Episode| {
            *end += episode.answer_len();
            Some(*end - episode.answer_len()..*end)
        };
        self.episodes.iter().scan(0, span).collect()
    }

    /// Some episodes, in parts of at most `most` tokens.
    fn parts(&self, chosen: &[usize], lanes: Lanes, most: usize) -> Vec<Part> {
        let spans = self.spans();
        let part = |MicroBatch { lane, examples }| {
            let chosen = &chosen[examples];
            Part {
                lane,
                rows: Rows::of(chosen.iter().map(|&i| &self.episodes[i])),
                lens: chosen.iter().map(|&i| spans[i].len()).collect(),
                tokens: chosen.iter().flat_map(|&i| spans[i].clone()).collect(),
            }
        };
        let lens = chosen.iter().map(|&i| self.episodes[i].tokens.len());
        lanes.cut(lens, most).into_iter().map(part).collect()
    }
}

/// Some values of a list.
fn at(values: &[f64], places: &[usize]) -> Vec<f64> {
    places.iter().map(|&place| values[place]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_agree_or_are_close() {
        let old = [-1.5, -0.25];
        assert!(agree(&old, &old, true) && agree(&old, &old, false));
        let near = [-1.5, -0.375];
        assert!(!agree(&near, &old, true) && agree(&near, &old, false));
        for far in [[-1.5, -0.75], [f64::NAN, -0.25]] {
            assert!(!agree(&far, &old, true) && !agree(&far, &old, false), "{far:?}");
        }
    }
}
