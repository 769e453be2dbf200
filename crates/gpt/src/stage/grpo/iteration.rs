//! One iteration: answer prompts several times, give rewards, compare within groups, learn.

use super::rewards::{Answer, Graded};
use super::{Grpo, GrpoSettings};
use crate::data::{Epochs, Permutation};
use crate::model::Sampling;
use crate::objective::grpo::{Advantages, Tokens, advantages, overlong_price, tells_apart, token_weights};
use crate::stage::answers::{self, Answers, text};
use crate::stage::learner::Learner;
use crate::stage::prompts::TokenizedPrompt;
use crate::stage::rollout::{Learning, Piece, Rollout, at};
use crate::stage::talks::{self, Turns};
use crate::stage::training_loop::{Cancel, Step};
use crate::stage::updates::Figures;
use crate::streams;
use anyhow::{Context, Result};
use kernels::{Backend, rng};

/// Answers with what they got.
#[derive(Default)]
pub(super) struct Experience {
    pub(super) rollout: Rollout,
    pub(super) graded: Graded,
    /// One for each token.
    pub(super) advantages: Vec<f64>,
    /// What happened on the way to them, where tools could be called.
    pub(super) turns: Vec<Turns>,
    /// What came of all answers, those of groups that were left out included.
    pub(super) sampled: Sampled,
}

/// What is said where nothing is to be learned of an iteration, the first time.
const ALL_EQUAL: &str = "note: the answers to each prompt of this iteration got the same reward each, so that none is better than another and nothing is \
     learned (groups/equal); prompts that the model answers rightly now and then help, larger groups (--group), a higher \
     temperature, and rewards of more than two values";

/// All answers of an iteration.
#[derive(Default)]
pub(super) struct Sampled {
    pub(super) graded: Graded,
    pub(super) turns: Vec<Turns>,
    /// Tokens that were drawn or read for them.
    pub(super) tokens: u64,
}

impl Sampled {
    /// Whether rewards tell the answers of some group apart.
    fn tells_apart(&self, group: usize) -> bool {
        self.graded.totals.chunks(group).any(tells_apart)
    }
}

impl<B: Backend> Grpo<'_, B> {
    pub(super) fn iterate(&mut self, step: u64, cancel: Cancel<'_>) -> Result<Step> {
        let settings = self.settings;
        let own = &settings.own;
        let mut experience = self.gather(step, cancel)?;
        let (b, policy) = (&mut self.policy.backend, &mut self.policy.trainer);
        let how = (own.temperature as f32, settings.optim.micro_batch_tokens);
        if let Some(reference) = &mut self.reference {
            experience.rollout.ask_reference(b, policy, reference, how, cancel)?;
        }
        if own.asks_first() {
            experience.rollout.ask(b, policy, how, cancel)?;
        }
        experience.compare(own);

        let mut figures = Figures::new(experience.fault());
        // Whitened ones are compared with those to all prompts.
        let by_group = own.advantages != Advantages::Whitened;
        if figures.skipped.is_none() && by_group && !experience.sampled.tells_apart(own.group) {
            self.progress.once(ALL_EQUAL);
        }
        // Where no group differs after all rounds, nothing is to be learned.
        let teaches = own.rounds == 1 || experience.groups(own).any(tells_apart);
        let epochs = if figures.skipped.is_none() && teaches { own.epochs } else { 0 };
        if epochs == 0 && !own.asks_first() {
            experience.rollout.ask(b, policy, how, cancel)?;
        }
        for epoch in 0..epochs {
            let pass = (step - 1) * own.epochs + epoch;
            for part in 0..own.minibatches {
                self.update(step, &mut experience, pass, part, epoch == 0, &mut figures)?;
            }
        }
        self.summary(step, &experience, figures, epochs)
    }

    /// A group of answers to each prompt of an iteration, with their rewards; over several rounds, groups
    /// whose answers differ in them, until there are enough.
    fn gather(&mut self, step: u64, cancel: Cancel<'_>) -> Result<Experience> {
        let settings = self.settings;
        let (own, seed) = (&settings.own, self.options.seed);
        let order = Epochs::new(self.prompts.len() as u64, seed, streams::GRPO_PROMPTS);
        let mut found = Experience::default();
        for round in (step - 1) * own.rounds + 1..=step * own.rounds {
            let prompts: Vec<usize> = order.batch(round, own.batch_size).map(|i| i as usize).collect();
            let prompts: Vec<usize> = prompts.into_iter().flat_map(|i| vec![i; own.group]).collect();
            let draws = rng::bits(seed, streams::GRPO_SAMPLING, round);
            let answers = self.answer(&prompts, false, draws, cancel)?;
            let graded = self.grade(&prompts, &answers, false)?;
            let is_last = round == step * own.rounds;
            let wanted = own.batch_size - found.rollout.episodes.len() / own.group;
            let kept = match own.rounds {
                1 => (0..own.batch_size).collect(),
                _ => {
                    let mut kept = differing(&graded.totals, own.group, wanted);
                    if kept.is_empty() && is_last && found.rollout.episodes.is_empty() {
                        kept.push(0);
                    }
                    kept
                }
            };
            let kept: Vec<usize> =
                kept.iter().flat_map(|group| group * own.group..(group + 1) * own.group).collect();
            found.take(&kept, &prompts, answers, graded);
            if found.rollout.episodes.len() == own.batch_size * own.group {
                break;
            }
        }
        Ok(found)
    }

    /// Samples an answer to each of these prompts of training, or held-out ones, from the policy as it is.
    pub(super) fn answer(
        &mut self,
        prompts: &[usize],
        held_out: bool,
        seed: u64,
        cancel: Cancel<'_>,
    ) -> Result<Answers> {
        let GrpoSettings { temperature, max_tokens, .. } = self.settings.own;
        let sampling = Sampling { temperature: temperature as f32, seed, ..Sampling::default() };
        let Learner { backend, trainer, .. } = &mut self.policy;
        let (policy, ranks, prompter) =
            ((&trainer.config, &trainer.weights), (trainer.ranks(), cancel), &self.prompter);
        let asked: &[TokenizedPrompt<'_>] = if held_out { &self.held_out } else { &self.prompts };
        let asked = prompts.iter().map(|&i| &asked[i]);
        match self.options.tools {
            Some(tools) => {
                let asked: Vec<_> = asked.collect();
                talks::answer_with(backend, policy, prompter, tools, &asked, max_tokens, sampling, ranks)
            }
            None => {
                let asked = asked.map(|asked| asked.tokens.clone()).collect();
                answers::answer(backend, policy, prompter, asked, max_tokens, sampling, ranks)
            }
        }
        .context("the policy")
    }

    /// What answers to prompts of training, or held-out ones, get; those that get nothing are told.
    pub(super) fn grade(&mut self, prompts: &[usize], answers: &Answers, held_out: bool) -> Result<Graded> {
        let asked: &[TokenizedPrompt<'_>] = if held_out { &self.held_out } else { &self.prompts };
        let whole = answers::whole(&answers.episodes, &answers.ended, &self.prompter);
        let texts = answers.texts(&self.prompter)?;
        let answered = prompts.iter().zip(texts).zip(whole).enumerate();
        let judged = answered.map(|(at, ((&i, text), whole))| {
            let said = answers.turns.get(at).map_or(&[][..], |turns| &turns.said);
            Answer { prompt: asked[i].prompt, text, whole, said }
        });
        let judged: Vec<Answer<'_>> = judged.collect();
        let Learner { backend, trainer, .. } = &mut self.policy;
        let mut graded = self.rewards.grade(backend, &judged, trainer.ranks())?;
        self.tell_failures(&graded);
        self.tell_refusals(&answers.turns);
        let GrpoSettings { max_tokens, .. } = self.settings.own;
        let cache = self.settings.own.overlong_tokens();
        for (total, episode) in graded.totals.iter_mut().zip(&answers.episodes) {
            *total = total.map(|total| total - overlong_price(episode.after_prompt(), max_tokens, cache));
        }
        Ok(graded)
    }

    fn tell_failures(&self, graded: &Graded) {
        for (name, given) in self.rewards.names().zip(&graded.given) {
            let failed = given.iter().filter(|given| given.is_err()).count();
            if let Some((place, Err(why))) = given.iter().enumerate().find(|(_, given)| given.is_err()) {
                self.progress.line(&format!(
                    "the reward {name} gives nothing for {failed} of {} answers, which are left out; for answer {}: {why}",
                    given.len(),
                    place + 1
                ));
            }
        }
    }

    /// Calls that were none.
    fn tell_refusals(&self, turns: &[Turns]) {
        let refused = || turns.iter().filter_map(|turns| turns.refused.as_ref());
        if let Some(why) = refused().next() {
            self.progress.line(&format!(
                "{} of {} answers end with a call that the chat template does not write: {why}",
                refused().count(),
                turns.len()
            ));
        }
    }

    /// One update: a step up the clipped objective of the `part`-th minibatch of a pass over the answers.
    /// Each pass cuts them in a random order of its own.
    fn update(
        &mut self,
        step: u64,
        experience: &mut Experience,
        pass: u64,
        part: usize,
        is_first: bool,
        figures: &mut Figures,
    ) -> Result<()> {
        let (own, optim) = (&self.settings.own, &self.settings.optim);
        let rollout = &experience.rollout;
        let order = Permutation::new(
            rollout.episodes.len() as u64,
            self.options.seed,
            streams::GRPO_MINIBATCHES.at(pass),
        );
        let chosen = rollout.chosen(&order, part, own.minibatches);
        let weights = experience.weights(&chosen, own);
        let first = is_first && part == 0;
        let minibatch = rollout.minibatch(&chosen, self.lanes(), optim.micro_batch_tokens, first);
        let surrogate = own.surrogate();
        let of_piece = |piece: &Piece<'_>| {
            let advantages = at(&experience.advantages, piece.tokens);
            let reference =
                if surrogate.kl_coef > 0.0 { at(&rollout.ref_logprobs, piece.tokens) } else { Vec::new() };
            let loss = surrogate.loss(&Tokens {
                new: piece.new,
                old: piece.old,
                reference: &reference,
                advantages: &advantages,
                weights: &at(&weights, piece.answers),
                lens: piece.lens,
                counted: minibatch.tokens,
            });
            let [low, high] = loss.clipped;
            (loss.derivatives, [loss.value, loss.policy, loss.kl, low, high, loss.approx_kl, loss.mean_ratio])
        };
        let learning = Learning {
            temperature: own.temperature as f32,
            entropy_coef: own.entropy_coef,
            same_bits: self.same_bits,
        };
        let lr = self.schedule().at(step);
        let Learner { backend, trainer, .. } = &mut self.policy;
        let ([loss, policy, kl, of_figures @ ..], said) =
            minibatch.accumulate(backend, trainer, learning, of_piece)?;
        figures.add("policy/loss", policy);
        if surrogate.kl_coef > 0.0 {
            figures.add("policy/kl", kl);
        }
        let names = ["policy/clip_low", "policy/clip_high", "policy/approxkl", "policy/ratio"];
        names.into_iter().zip(of_figures).for_each(|(name, value)| figures.add(name, value));
        let update = trainer.update(backend, &optim.optimizer(), lr, Some(loss));
        figures.add_update("policy/grad_norm", update);
        if experience.rollout.logprobs.is_empty() {
            experience.rollout.take_said(said, &chosen);
            figures.skipped = experience.fault().or(figures.skipped.take());
        }
        Ok(())
    }
}

/// The first `most` groups of `group` answers that rewards tell apart.
fn differing(totals: &[Option<f64>], group: usize, most: usize) -> Vec<usize> {
    let groups = totals.chunks(group).enumerate();
    groups.filter(|(_, totals)| tells_apart(totals)).map(|(at, _)| at).take(most).collect()
}

impl Experience {
    /// Takes over the `kept` ones of further answers to `prompts`.
    fn take(&mut self, kept: &[usize], prompts: &[usize], answers: Answers, graded: Graded) {
        let Answers { episodes, ended, turns } = answers;
        self.sampled.tokens += episodes.iter().map(|episode| episode.tokens.len() as u64).sum::<u64>();
        self.graded.extend(graded.of(kept));
        self.sampled.graded.extend(graded);
        self.turns.extend(kept.iter().filter_map(|&place| turns.get(place).cloned()));
        self.sampled.turns.extend(turns);
        let rollout = &mut self.rollout;
        for &place in kept {
            rollout.episodes.push(episodes[place].clone());
            rollout.ended.push(ended[place]);
            rollout.prompts.push(prompts[place]);
        }
    }

    /// The rewards of each group.
    pub(super) fn groups(&self, own: &GrpoSettings) -> impl Iterator<Item = &[Option<f64>]> {
        self.graded.totals.chunks(own.group)
    }

    /// Advantages, from rewards less the price of KL where it is paid there.
    fn compare(&mut self, own: &GrpoSettings) {
        let Rollout { logprobs, ref_logprobs, .. } = &self.rollout;
        let price = |(logprob, reference): (&f64, &f64)| own.kl_coef * own.kl.of(*logprob, *reference).0;
        let prices: Vec<f64> =
            if own.pays_kl() { logprobs.iter().zip(ref_logprobs).map(price).collect() } else { Vec::new() };
        let lens = self.rollout.lens();
        self.advantages = advantages(own.advantages, &self.graded.totals, own.group, &lens, &prices);
    }

    /// What a token of each answer weighs in a minibatch of the `chosen` ones.
    fn weights(&self, chosen: &[usize], own: &GrpoSettings) -> Vec<f64> {
        let Rollout { episodes, ended, .. } = &self.rollout;
        let lens: Vec<usize> = chosen.iter().map(|&i| episodes[i].answer_len()).collect();
        let learned: Vec<bool> = chosen.iter().map(|&i| ended[i] || !own.mask_cut).collect();
        let mut weights = vec![0.0; episodes.len()];
        let of_chosen = token_weights(own.reduction, &lens, &learned, own.max_tokens);
        chosen.iter().zip(of_chosen).for_each(|(&i, weight)| weights[i] = weight);
        weights
    }

    /// Why nothing can be learned of these answers.
    fn fault(&self) -> Option<String> {
        let bad = |values: &[f64]| values.iter().filter(|value| !value.is_finite()).count();
        let Rollout { logprobs, ref_logprobs, .. } = &self.rollout;
        if self.graded.totals.iter().all(Option::is_none) {
            let why = self.graded.given.iter().flatten().find_map(|given| given.as_ref().err());
            return Some(format!("no answer has a reward: {}", why.map_or("", String::as_str)));
        }
        let of_both = [("the policy", logprobs), ("the reference", ref_logprobs)];
        of_both.into_iter().map(|(who, values)| (who, bad(values))).find(|(_, n)| *n > 0).map(|(who, n)| {
            format!("{who} gives log-probabilities that are not finite, for {n} of {} tokens", logprobs.len())
        })
    }
}

impl<B: Backend> Grpo<'_, B> {
    /// The text of an answer of the rollout.
    pub(super) fn text_of(&self, rollout: &Rollout, place: usize) -> Result<String> {
        text(&rollout.episodes[place], rollout.ended[place], &self.prompter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_of_equal_rewards_tell_nothing() {
        let sampled = |totals: &[f64]| Sampled {
            graded: Graded { totals: totals.iter().copied().map(Some).collect(), ..Graded::default() },
            ..Sampled::default()
        };
        assert!(!sampled(&[1.0, 1.0, 0.0, 0.0]).tells_apart(2));
        assert!(sampled(&[1.0, 1.0, 0.0, 0.5]).tells_apart(2));
    }

    #[test]
    fn as_many_groups_as_are_wanted_are_kept_of_those_that_differ() {
        let totals = [[1.0, 1.0], [0.0, 1.0], [0.5, 0.5], [1.0, 0.0], [0.0, 0.2]].concat();
        let totals: Vec<Option<f64>> = totals.into_iter().map(Some).collect();
        assert_eq!(differing(&totals, 2, 9), [1, 3, 4]);
        assert_eq!(differing(&totals, 2, 2), [1, 3]);
    }
}
