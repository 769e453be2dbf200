//! Answers that a policy learns from by reinforcement: what it and its reference say of their tokens, and the
//! gradients of a minibatch of them.
//!
//! Lists over tokens are flat: those of the answers, one answer after another. There is no padding.

use super::Ending;
use super::answers::Answers;
use super::episodes::{Episode, Rows};
use super::lanes::{Lanes, MicroBatch, pieces};
use super::training_loop::{Cancel, reading_flops, training_flops};
use crate::data::Permutation;
use crate::model::{Config, Targets};
use crate::train::{Entropies, Lane, LaneSums, Reference, Trainer};
use anyhow::{Result, ensure};
use kernels::Backend;
use ranks::Ranks;
use serde_json::{Map, Value};
use std::ops::Range;

/// How far, in nats, a log-probability may be from the one that was sampled with, where a device rounds
/// products of other shapes otherwise.
const ROUNDING: f64 = 0.25;

/// How a run ended in which a policy learns from its own answers.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What every stage says of it; a step is an iteration.
    pub ending: Ending,
    /// Held-out figures before the first iteration.
    pub before: Option<Map<String, Value>>,
    /// Held-out figures of the state that the run ended with; none of a run that was stopped.
    pub after: Option<Map<String, Value>>,
}

/// Episodes, and what is known of their tokens.
#[derive(Default)]
pub(super) struct Rollout {
    pub(super) episodes: Vec<Episode>,
    /// Which prompt each answers.
    pub(super) prompts: Vec<usize>,
    /// Whether each was ended by its policy.
    pub(super) ended: Vec<bool>,
    /// Log-probabilities by the policy that drew the tokens, at the sampling temperature; empty until it is asked.
    pub(super) logprobs: Vec<f64>,
    /// Entropies of its distributions.
    pub(super) entropies: Vec<f64>,
    /// Log-probabilities by the reference policy; empty where there is none.
    pub(super) ref_logprobs: Vec<f64>,
}

/// Episodes that go through a model together.
pub(super) struct Part {
    pub(super) lane: Lane,
    pub(super) rows: Rows,
    /// Their places in the rollout.
    pub(super) answers: Vec<usize>,
    /// Tokens of each answer.
    pub(super) lens: Vec<usize>,
    /// Where the tokens of their answers stand in the rollout's lists.
    pub(super) tokens: Vec<usize>,
}

/// Tokens of a part that are summed before others are added.
pub(super) struct Piece<'p> {
    /// Their log-probabilities under the policy as it is.
    pub(super) new: &'p [f64],
    /// Those by the policy that drew the answers.
    pub(super) old: &'p [f64],
    /// Where they stand in the rollout's lists.
    pub(super) tokens: &'p [usize],
    /// The answers that they are, by their places in the rollout.
    pub(super) answers: &'p [usize],
    /// Tokens of each.
    pub(super) lens: &'p [usize],
}

/// A minibatch, from which a model learns in one update.
pub(super) struct Minibatch<'r> {
    pub(super) rollout: &'r Rollout,
    pub(super) parts: Vec<Part>,
    /// Tokens of the answers.
    pub(super) tokens: usize,
    /// Whether nothing was learned yet since the answers were drawn.
    pub(super) is_first: bool,
}

/// What a policy that learns from a minibatch said of its tokens, in the minibatch's order; those of all ranks.
#[derive(Default)]
pub(super) struct Said {
    pub(super) logprobs: Vec<f64>,
    pub(super) entropies: Vec<f64>,
}

/// How a policy learns.
#[derive(Clone, Copy)]
pub(super) struct Learning {
    /// Logits are divided by it.
    pub(super) temperature: f32,
    /// Weight of the bonus on the mean entropy of a token.
    pub(super) entropy_coef: f64,
    /// Whether a model says the same to the bit whatever it is asked along with it, as on the processor.
    pub(super) same_bits: bool,
}

impl Rollout {
    /// The answers to these prompts.
    pub(super) fn new(prompts: Vec<usize>, Answers { episodes, ended, .. }: Answers) -> Self {
        Rollout { episodes, prompts, ended, ..Rollout::default() }
    }

    /// Fills in what the policy says of the tokens, at a temperature and in passes of at most so many. Answers are
    /// dealt to its ranks, and each gets all of it.
    pub(super) fn ask<B: Backend>(
        &mut self,
        b: &mut B,
        policy: &mut Trainer<B>,
        (temperature, most): (f32, usize),
        cancel: Cancel<'_>,
    ) -> Result<()> {
        let (ranks, lens) = (policy.ranks().clone(), self.lens());
        let (mut logprobs, mut entropies) = (Vec::new(), Vec::new());
        for Part { rows, .. } in self.parts(&self.dealt(&ranks), Lanes::new(1), most) {
            cancel.check()?;
            let targets = Targets { tokens: &rows.targets, temperature };
            let said = policy.outputs(b, rows.sequences(), targets);
            logprobs.extend(rows.of_answers(said.logprobs));
            entropies.extend(rows.of_answers(said.entropies));
        }
        self.logprobs = ranks.collect(&logprobs, &lens);
        self.entropies = ranks.collect(&entropies, &lens);
        Ok(())
    }

    /// Fills in what the reference of a policy says of the tokens, in the same way.
    pub(super) fn ask_reference<B: Backend>(
        &mut self,
        b: &mut B,
        policy: &mut Trainer<B>,
        reference: &mut Reference<B>,
        (temperature, most): (f32, usize),
        cancel: Cancel<'_>,
    ) -> Result<()> {
        let (ranks, mut logprobs) = (policy.ranks().clone(), Vec::new());
        for Part { rows, .. } in self.parts(&self.dealt(&ranks), Lanes::new(1), most) {
            cancel.check()?;
            let targets = Targets { tokens: &rows.targets, temperature };
            logprobs.extend(rows.of_answers(reference.logprobs(b, policy, rows.sequences(), targets)));
        }
        self.ref_logprobs = ranks.collect(&logprobs, &self.lens());
        Ok(())
    }

    /// Fills in what the policy said of the tokens of the `chosen` episodes, which are all, in their order.
    pub(super) fn take_said(&mut self, said: Said, chosen: &[usize]) {
        let spans = self.spans();
        let places = chosen.iter().flat_map(|&i| spans[i].clone());
        let tokens = self.lens().iter().sum();
        for list in [&mut self.logprobs, &mut self.entropies] {
            list.resize(tokens, 0.0);
        }
        for ((place, logprob), entropy) in places.zip(said.logprobs).zip(said.entropies) {
            self.logprobs[place] = logprob;
            self.entropies[place] = entropy;
        }
    }

    /// Mean over the episodes of the sampled estimate of the KL to the reference, in nats.
    pub(super) fn kl(&self) -> f64 {
        let sum: f64 = self.logprobs.iter().zip(&self.ref_logprobs).map(|(a, b)| a - b).sum();
        sum / self.episodes.len() as f64
    }

    /// Mean number of tokens of an answer.
    pub(super) fn answer_tokens(&self) -> f64 {
        self.lens().iter().sum::<usize>() as f64 / self.episodes.len() as f64
    }

    /// The share of the answers that the policy ended.
    pub(super) fn ended_share(&self) -> f64 {
        self.ended.iter().filter(|ended| **ended).count() as f64 / self.ended.len() as f64
    }

    /// Tokens of prompts and answers.
    pub(super) fn all_tokens(&self) -> u64 {
        self.episodes.iter().map(|episode| episode.tokens.len() as u64).sum()
    }

    /// Floating-point operations of `passes` without gradients over every token of the episodes, by a model of this shape.
    pub(super) fn reading_flops(&self, config: &Config, passes: f64) -> f64 {
        passes * reading_flops(config, self.all_tokens(), self.episodes.len())
    }

    /// The same of `times` passes with gradients of what is trained.
    pub(super) fn learning_flops<B: Backend>(&self, trainer: &Trainer<B>, times: u64) -> f64 {
        times as f64 * training_flops(trainer, self.all_tokens(), self.episodes.len())
    }

    /// Tokens of each answer.
    pub(super) fn lens(&self) -> Vec<usize> {
        self.episodes.iter().map(Episode::answer_len).collect()
    }

    /// Where each answer's tokens stand in the flat lists.
    pub(super) fn spans(&self) -> Vec<Range<usize>> {
        let span = |end: &mut usize, episode: &Episode| {
            *end += episode.answer_len();
            Some(*end - episode.answer_len()..*end)
        };
        self.episodes.iter().scan(0, span).collect()
    }

    /// The places of the episodes that this one of `ranks` reads.
    pub(super) fn dealt(&self, ranks: &Ranks) -> Vec<usize> {
        ranks.dealt(self.episodes.len()).collect()
    }

    /// Some episodes, in parts of at most `most` tokens.
    pub(super) fn parts(&self, chosen: &[usize], lanes: Lanes, most: usize) -> Vec<Part> {
        let spans = self.spans();
        let part = |MicroBatch { lane, examples }| {
            let chosen = &chosen[examples];
            Part {
                lane,
                rows: Rows::of(chosen.iter().map(|&i| &self.episodes[i])),
                answers: chosen.to_vec(),
                lens: chosen.iter().map(|&i| spans[i].len()).collect(),
                tokens: chosen.iter().flat_map(|&i| spans[i].clone()).collect(),
            }
        };
        let lens = chosen.iter().map(|&i| self.episodes[i].tokens.len());
        lanes.cut(lens, most).into_iter().map(part).collect()
    }

    /// The `part`-th of `parts` minibatches of a pass over the episodes in the given order.
    pub(super) fn chosen(&self, order: &Permutation, part: usize, parts: usize) -> Vec<usize> {
        let n = self.episodes.len();
        (part * n / parts..(part + 1) * n / parts).map(|i| order.at(i as u64) as usize).collect()
    }

    /// Episodes as a minibatch.
    pub(super) fn minibatch(
        &self,
        chosen: &[usize],
        lanes: Lanes,
        most: usize,
        is_first: bool,
    ) -> Minibatch<'_> {
        Minibatch {
            rollout: self,
            parts: self.parts(chosen, lanes, most),
            tokens: chosen.iter().map(|&i| self.episodes[i].answer_len()).sum(),
            is_first,
        }
    }
}

impl Part {
    /// What is summed first: all of it, or one answer after another.
    fn pieces<'p>(
        &'p self,
        new: &'p [f64],
        old: &'p [f64],
    ) -> impl Iterator<Item = (Range<usize>, Piece<'p>)> {
        let answers = match self.lane {
            Lane::Only => std::iter::once(0..self.lens.len()).collect::<Vec<_>>(),
            Lane::Number(_) => (0..self.lens.len()).map(|at| at..at + 1).collect(),
        };
        pieces(self.lane, &self.lens).into_iter().zip(answers).map(|(span, answers)| {
            let piece = Piece {
                new: &new[span.clone()],
                old: &old[span.clone()],
                tokens: &self.tokens[span.clone()],
                answers: &self.answers[answers.clone()],
                lens: &self.lens[answers],
            };
            (span, piece)
        })
    }
}

impl Minibatch<'_> {
    /// Adds the gradients of a policy's loss less its entropy bonus. `loss` gives a piece's derivatives by
    /// its tokens' log-probabilities, and what is to be summed, of which the first is the loss. A policy that was not
    /// asked before is the one that drew the answers, and what it says of them is returned too.
    ///
    /// # Errors
    /// Nothing was learned yet, and the policy says something else of the tokens than when it drew them.
    pub(super) fn accumulate<B: Backend, const N: usize>(
        &self,
        b: &mut B,
        policy: &mut Trainer<B>,
        learning: Learning,
        mut loss: impl FnMut(&Piece<'_>) -> (Vec<f64>, [f64; N]),
    ) -> Result<([f64; N], Said)> {
        let Learning { temperature, entropy_coef, same_bits } = learning;
        let is_asked = !self.rollout.logprobs.is_empty();
        let with_entropies = entropy_coef > 0.0;
        let entropies = match (with_entropies, is_asked) {
            (true, _) => Entropies::Learned,
            (false, true) => Entropies::Unasked,
            (false, false) => Entropies::Told,
        };
        let by_entropy = -entropy_coef / self.tokens as f64;
        let (mut sums, mut said) = (LaneSums::default(), Said::default());
        for part in &self.parts {
            let Part { lane, rows, tokens, .. } = part;
            let targets = Targets { tokens: &rows.targets, temperature };
            policy.accumulate_loss(b, rows.sequences(), targets, entropies, *lane, |outputs, derivatives| {
                let new = rows.of_answers(outputs.logprobs);
                let old = if is_asked { at(&self.rollout.logprobs, tokens) } else { new.clone() };
                ensure!(
                    !self.is_first || agree(&new, &old, same_bits),
                    "the policy gives other log-probabilities than those it was sampled with: this is a bug"
                );
                for (span, piece) in part.pieces(&new, &old) {
                    let (by_logprobs, mut of_piece) = loss(&piece);
                    let mut bonus = 0.0;
                    for (&row, by_logprob) in rows.before_tokens[span].iter().zip(by_logprobs) {
                        derivatives.logprobs[row as usize] = by_logprob;
                        if with_entropies {
                            derivatives.entropies[row as usize] = by_entropy;
                            bonus += by_entropy * outputs.entropies[row as usize];
                        }
                    }
                    of_piece[0] += bonus;
                    sums.add(*lane, of_piece);
                }
                if !is_asked {
                    said.entropies.extend(rows.of_answers(outputs.entropies));
                    said.logprobs.extend(new);
                }
                Ok(())
            })?;
        }
        let ranks = policy.ranks();
        let said = match is_asked {
            true => said,
            false => {
                Said { logprobs: ranks.gather(&said.logprobs), entropies: ranks.gather(&said.entropies) }
            }
        };
        Ok((sums.total(ranks), said))
    }
}

/// Whether a policy that has learned nothing since says what it said: to the bit, or but for rounding.
fn agree(new: &[f64], old: &[f64], exactly: bool) -> bool {
    let off = |(new, old): (&f64, &f64)| (new - old).abs();
    // Written so that NaN is no agreement.
    if exactly { new == old } else { new.iter().zip(old).map(off).all(|off| off <= ROUNDING) }
}

/// Some values of a list.
pub(super) fn at(values: &[f64], places: &[usize]) -> Vec<f64> {
    places.iter().map(|&place| values[place]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::init;
    use crate::objective::grpo::{KlEstimate, Ratio, Surrogate, Tokens};
    use crate::train::{Frozen, Reference as Reference_};
    use kernels::Reference;

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

    /// Two answers in a row, and the one answer that is both with what was told between them: the same tokens after
    /// the same tokens, so the same loss and the same gradients, with KL and the entropy bonus. A policy that was not
    /// asked before learns the same, and tells what it would have said.
    #[test]
    fn what_tools_returned_is_read_and_not_learned() {
        let b = &mut Reference;
        let config = Config::modern(23, 32, 2, 2, 16);
        let (prompt, drawn, told, last) = ([3, 1, 4], [1, 5, 2], [9, 9, 6, 2, 5], [3, 5]);
        let mut talk = Episode::new(&prompt, &drawn);
        talk.tell(&told);
        talk.tokens.extend(last);
        let first = Episode::new(&prompt, &drawn);
        let second = Episode::new(&[&prompt[..], &drawn, &told].concat(), &last);
        let other = Episode::new(&[7, 7], &[8, 2]);
        let mut learn = |episodes: Vec<Episode>, chosen: &[usize], asks_first: bool| {
            let n = episodes.len();
            let mut rollout =
                Rollout { prompts: vec![0; n], ended: vec![true; n], episodes, ..Rollout::default() };
            let weights = init(b, &config, 5);
            let mut policy = Trainer::new(b, config.clone(), weights);
            let frozen = init(b, &config, 6);
            let mut reference = Reference_::Apart(Box::new(Frozen::new(b, config.clone(), frozen)));
            if asks_first {
                rollout.ask(b, &mut policy, (0.7, 64), Cancel::never()).unwrap();
            }
            rollout.ask_reference(b, &mut policy, &mut reference, (0.7, 64), Cancel::never()).unwrap();
            let minibatch = rollout.minibatch(chosen, Lanes::new(1), 64, true);
            let surrogate = Surrogate {
                ratio: Ratio::Token,
                clip_low: 0.2,
                clip_high: 0.2,
                kl_coef: 0.3,
                kl: KlEstimate::K3,
                kl_corrected: false,
            };
            let learning = Learning { temperature: 0.7, entropy_coef: 0.1, same_bits: true };
            let tokens = minibatch.tokens;
            let learned = minibatch.accumulate(b, &mut policy, learning, |piece| {
                let loss = surrogate.loss(&Tokens {
                    new: piece.new,
                    old: piece.old,
                    reference: &at(&rollout.ref_logprobs, piece.tokens),
                    advantages: &at(&[0.5, -1.0, 2.0, 1.5, -0.25, 0.75, 1.0], piece.tokens),
                    weights: &vec![1.0 / 7.0; piece.answers.len()],
                    lens: piece.lens,
                    counted: tokens,
                });
                (loss.derivatives, [loss.value, loss.kl, loss.mean_ratio])
            });
            let (loss, said) = learned.unwrap();
            assert_eq!(said.logprobs.is_empty(), asks_first);
            if !asks_first {
                rollout.take_said(said, chosen);
            }
            let gradients: Vec<f64> =
                policy.gradients(b).leaves().into_iter().flat_map(|leaf| leaf.0.clone()).collect();
            let Rollout { logprobs, entropies, ref_logprobs, .. } = rollout;
            (loss, [logprobs, entropies, ref_logprobs], gradients, tokens)
        };
        let whole = learn(vec![talk.clone(), other.clone()], &[0, 1], true);
        let apart = learn(vec![first, second, other.clone()], &[0, 1, 2], true);
        assert_eq!((whole.3, apart.3), (7, 7));
        assert!((whole.0[2] - 1.0).abs() < 1e-12, "the ratio");
        assert_eq!(whole.1, apart.1, "the same tokens, after the same ones");
        let near =
            |a: &[f64], b: &[f64]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-9);
        assert!(near(&whole.0, &apart.0), "{:?}, {:?}", whole.0, apart.0);
        assert!(whole.2.iter().any(|gradient| gradient.abs() > 1e-2) && near(&whole.2, &apart.2));
        let unasked = learn(vec![talk, other], &[1, 0], false);
        assert_eq!(unasked.1, whole.1, "what it would have said");
        assert!(near(&unasked.0, &whole.0) && near(&unasked.2, &whole.2));
    }
}
