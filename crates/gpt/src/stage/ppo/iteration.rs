//! One iteration of PPO: roll out, score, estimate advantages, learn.

use super::{Ppo, PpoSettings};
use crate::data::{Batch, Epochs, Permutation};
use crate::model::{Sampling, Sequences};
use crate::objective::ppo::{PolicyLoss, gae, policy_loss, token_rewards, value_loss, whiten};
use crate::objective::{cross_entropy, cross_entropy_derivatives};
use crate::stage::answers::{self, Answers};
use crate::stage::episodes::Episode;
use crate::stage::lanes::{Lanes, MicroBatch, Untold, pieces};
use crate::stage::rollout::{Learning, Minibatch, Part, Piece, Rollout, at};
use crate::stage::score::rewards;
use crate::stage::training_loop::{Cancel, Step};
use crate::stage::updates::Figures;
use crate::streams;
use crate::train::LaneSums;
use anyhow::{Context, Result};
use kernels::{Backend, rng};
use std::iter::repeat_n;

/// Episodes with what a reward model and a value model say of them.
#[derive(Default)]
pub(super) struct Experience {
    pub(super) rollout: Rollout,
    /// Values before each token.
    pub(super) values: Vec<f64>,
    /// One for each episode: the reward model's, less the penalty for an answer without end.
    pub(super) scores: Vec<f64>,
    pub(super) advantages: Vec<f64>,
    pub(super) returns: Vec<f64>,
}

impl<B: Backend> Ppo<'_, B> {
    /// One iteration (Huang et al. 2024, algorithm 1).
    pub(super) fn iterate(&mut self, step: u64, cancel: Cancel<'_>) -> Result<Step> {
        let own = &self.settings.own;
        let rollout = self.roll_out(step, cancel)?;
        let mut experience = self.score(rollout, cancel)?;
        experience.estimate_advantages(own, self.kl.coefficient());

        let mut figures = Figures::new(experience.fault(self.options));
        let epochs = if figures.skipped.is_none() { own.epochs } else { 0 };
        for epoch in 0..epochs {
            let pass = (step - 1) * own.epochs + epoch;
            for part in 0..own.minibatches {
                let minibatch = self.minibatch(&experience.rollout, pass, part, epoch == 0);
                let number = pass * own.minibatches as u64 + part as u64;
                self.update_policy(step, &experience, &minibatch, number, &mut figures)?;
                self.update_value(step, &experience, &minibatch, &mut figures);
            }
        }
        self.kl.update(experience.rollout.kl(), experience.scores.len());
        self.summary(step, &experience, figures, epochs)
    }

    /// The policy answers the prompts of an iteration.
    fn roll_out(&mut self, step: u64, cancel: Cancel<'_>) -> Result<Rollout> {
        let (n, seed) = (self.prompts.len() as u64, self.options.seed);
        let order = Epochs::new(n, seed, streams::PPO_PROMPTS);
        let prompts = order.batch(step, self.settings.own.batch_size).map(|i| i as usize);
        let prompts: Vec<usize> = prompts.collect();
        let tokens = prompts.iter().map(|&i| self.prompts[i].tokens.clone()).collect();
        let answers = self.answer(tokens, rng::bits(seed, streams::PPO_SAMPLING, step), cancel)?;
        Ok(Rollout::new(prompts, answers))
    }

    /// Samples an answer to each prompt from the policy as it is.
    pub(super) fn answer(
        &mut self,
        prompts: Vec<Vec<u32>>,
        seed: u64,
        cancel: Cancel<'_>,
    ) -> Result<Answers> {
        let PpoSettings { temperature, max_tokens, .. } = self.settings.own;
        let sampling = Sampling { temperature: temperature as f32, seed, ..Sampling::default() };
        let policy = (&self.policy.config, &self.policy.weights);
        answers::answer(
            &mut self.backend,
            policy,
            &self.prompter,
            prompts,
            max_tokens,
            sampling,
            (self.policy.ranks(), cancel),
        )
        .context("the policy")
    }

    /// What the four models say of the episodes: each rank asks its copies of them about those that are dealt to
    /// it, and hears of all.
    pub(super) fn score(&mut self, mut rollout: Rollout, cancel: Cancel<'_>) -> Result<Experience> {
        let (b, own, most) = (&mut self.backend, &self.settings.own, self.settings.optim.micro_batch_tokens);
        let how = (own.temperature as f32, most);
        rollout.ask(b, &mut self.policy, how, cancel)?;
        rollout.ask_reference(b, &mut self.policy, &mut self.reference, how, cancel)?;
        let ranks = self.policy.ranks();
        let (dealt, mut values) = (rollout.dealt(ranks), Vec::new());
        for Part { rows, .. } in rollout.parts(&dealt, Lanes::new(1), most) {
            cancel.check()?;
            let found = self.value.scores(b, rows.sequences(), &rows.before_tokens);
            values.extend(found.iter().map(|&value| f64::from(value)));
        }
        let values = ranks.collect(&values, &rollout.lens());
        let whole = answers::whole(&rollout.episodes, &rollout.ended, &self.prompter);
        let whole: Vec<Episode> = dealt.iter().map(|&place| whole[place].clone()).collect();
        let scores = rewards(&mut self.reward, b, &whole, cancel)?;
        let scores = ranks.collect(&scores, &vec![1; rollout.episodes.len()]);
        let penalised = |(score, &ended)| if ended { score } else { score - own.missing_end_penalty };
        let scores = scores.into_iter().zip(&rollout.ended).map(penalised).collect();
        Ok(Experience { rollout, values, scores, ..Experience::default() })
    }

    /// The `part`-th minibatch of a pass: each pass cuts the episodes in a random order of its own.
    fn minibatch<'r>(&self, rollout: &'r Rollout, pass: u64, part: usize, is_first: bool) -> Minibatch<'r> {
        let (own, optim, n) = (&self.settings.own, &self.settings.optim, rollout.episodes.len());
        let order = Permutation::new(n as u64, self.options.seed, streams::PPO_MINIBATCHES.at(pass));
        let chosen = rollout.chosen(&order, part, own.minibatches);
        let lanes = Lanes::new(optim.lanes).of(self.policy.ranks());
        rollout.minibatch(&chosen, lanes, optim.micro_batch_tokens, is_first && part == 0)
    }

    /// One step of the policy up the clipped objective, with its entropy bonus and the pretraining mix; `number` counts
    /// the updates of the whole run.
    fn update_policy(
        &mut self,
        step: u64,
        experience: &Experience,
        minibatch: &Minibatch<'_>,
        number: u64,
        figures: &mut Figures,
    ) -> Result<()> {
        let PpoSettings { temperature, entropy_coef, clip_range, ema, .. } = self.settings.own;
        let learning = Learning { temperature: temperature as f32, entropy_coef, same_bits: self.same_bits };
        let of_piece = |piece: &Piece<'_>| {
            let advantages = at(&experience.advantages, piece.tokens);
            let loss = policy_loss(piece.new, piece.old, &advantages, clip_range, minibatch.tokens);
            let PolicyLoss { value, derivatives, clip_fraction, approx_kl, mean_ratio } = loss;
            (derivatives, [value, value, clip_fraction, approx_kl, mean_ratio])
        };
        let (sums, _) = minibatch.accumulate(&mut self.backend, &mut self.policy, learning, of_piece)?;
        let [loss, of_figures @ ..] = sums;
        let names = ["policy/loss", "policy/clipfrac", "policy/approxkl", "policy/ratio"];
        names.into_iter().zip(of_figures).for_each(|(name, value)| figures.add(name, value));
        let mixed_in = self.mix_in_pretraining(minibatch.is_first, number)?;
        let (lr, optimizer) = (self.schedule().at(step), self.settings.optim.optimizer());
        let update = self.policy.update(&mut self.backend, &optimizer, lr, Some(loss));
        if let Some((mixed_in, counted)) = mixed_in {
            let share = |piece: &[f64]| [cross_entropy(piece, counted)];
            let [loss] = mixed_in.sum(self.policy.ranks(), &mut self.policy.told(), share);
            figures.add("ptx/loss", loss);
            if let [rl_norm, ptx_norm] = self.policy.norms() {
                figures.add("ptx/grad_norm_ratio", ptx_norm / rl_norm);
            }
        }
        figures.add_update("policy/grad_norm", update);
        if let (true, Some(average)) = (update.applied, &mut self.average) {
            for (mean, weight) in average.leaves_mut().into_iter().zip(self.policy.weights.leaves()) {
                self.backend.average(mean, weight, ema as f32);
            }
        }
        Ok(())
    }

    /// Adds the gradient of `ptx_coef` times the mean loss of `ptx_tokens` pretraining tokens (Ouyang et al.
    /// 2022, eq. 2, with means in place of expectations), where there are any; returns that mean's pieces and
    /// its number of targets. In the first update of an iteration both gradients' norms are measured.
    fn mix_in_pretraining(&mut self, is_first: bool, number: u64) -> Result<Option<(Untold, usize)>> {
        let Self { settings, backend: b, policy, ptx, .. } = self;
        let Some((_, windows)) = ptx else { return Ok(None) };
        let (own, seq_len) = (&settings.own, policy.config.seq_len);
        let sequences = (own.ptx_tokens / seq_len).max(1);
        // With other ranks the tree of the objective is summed first: it is one of the two halves.
        let sets_aside = is_first || policy.ranks().size() > 1;
        if sets_aside {
            policy.set_aside(b);
        }
        let (mut batch, mut derivatives) = (Batch::default(), Vec::new());
        let (mut untold, counted) = (Untold::default(), sequences * windows.predictions());
        let lanes = Lanes::new(settings.optim.lanes).of(policy.ranks()).besides();
        let most = settings.optim.micro_batch_tokens;
        for MicroBatch { lane, examples } in lanes.cut(repeat_n(seq_len, sequences), most) {
            windows.batch(number + 1, examples, sequences, &mut batch)?;
            cross_entropy_derivatives(&mut derivatives, &batch.targets, counted);
            derivatives.iter_mut().for_each(|derivative| *derivative *= own.ptx_coef);
            let rows = Sequences { tokens: &batch.tokens, lens: &batch.lens, noise: None };
            policy.accumulate(b, rows, &batch.targets, &derivatives, lane.by_sequence());
            untold.push(lane, &batch.lens);
        }
        if is_first {
            policy.measure_norm(b);
        }
        if sets_aside {
            policy.take_back(b);
        }
        Ok(Some((untold, counted)))
    }

    /// One step of the value model towards the returns.
    fn update_value(
        &mut self,
        step: u64,
        experience: &Experience,
        minibatch: &Minibatch<'_>,
        figures: &mut Figures,
    ) {
        let (own, optim) = (&self.settings.own, &self.settings.optim);
        let mut sums = LaneSums::default();
        for Part { lane, rows, lens, tokens, .. } in &minibatch.parts {
            let old = at(&experience.values, tokens);
            let returns = at(&experience.returns, tokens);
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
        let [loss, clip_fraction] = sums.total(self.value.ranks());
        figures.add("value/loss", loss);
        figures.add("value/clipfrac", clip_fraction);
        let ratio = own.value_lr.map_or(1.0, |value_lr| value_lr / optim.lr);
        let lr = (f64::from(self.schedule().at(step)) * ratio) as f32;
        let update = self.value.update(&mut self.backend, &optim.optimizer(), lr, Some(loss));
        figures.add_update("value/grad_norm", update);
    }
}

impl Experience {
    /// Rewards of every token (the score on the last one, less the KL penalty), and from them advantages and
    /// returns.
    fn estimate_advantages(&mut self, own: &PpoSettings, kl_coef: f64) {
        let Rollout { logprobs, ref_logprobs, .. } = &self.rollout;
        let lens = self.rollout.lens();
        let mut rewards = token_rewards(logprobs, ref_logprobs, &self.scores, &lens, kl_coef);
        if own.whiten_rewards {
            whiten(&mut rewards, false);
        }
        (self.advantages, self.returns) = gae(&rewards, &self.values, &lens, own.gamma, own.gae_lambda);
        whiten(&mut self.advantages, true);
    }
}
