//! Learning from an iteration's episodes: a few epochs of minibatches, in each of which the policy and then the value model
//! take a step.

use super::rollout::Rollout;
use super::{Ppo, stream};
use crate::data::{Batch, Permutation};
use crate::model::{Sequences, Targets};
use crate::objective::ppo::{PolicyLoss, ValueLoss, policy_loss, value_loss};
use crate::objective::{cross_entropy, cross_entropy_derivatives};
use crate::stage::episodes::{Episode, Rows, passes};
use crate::train::{Schedule, Update};
use anyhow::{Result, ensure};
use kernels::Backend;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::ops::Range;

/// What learning from a rollout did.
#[derive(Default)]
pub(super) struct Learned {
    pub(super) metrics: Map<String, Value>,
    /// Tokens that went forward and backward through a model.
    pub(super) tokens: u64,
    pub(super) clip_fraction: f64,
    /// Why an update was left out, where one was.
    pub(super) skipped: Option<String>,
    /// Why the models are beyond use, where they are.
    pub(super) exploded: Option<String>,
}

/// How far a policy may go within an iteration, in the estimate of the KL of a token from the one that was sampled from (nats; what
/// learns stays below 1).
const MAX_APPROX_KL: f64 = 10.0;
/// How many times the error of a value model that says 0 its own may be.
const MAX_VALUE_ERROR: f64 = 10.0;

impl Learned {
    /// Nothing, for this reason.
    pub(super) fn left_out(reason: String) -> Self {
        Learned { skipped: Some(reason), ..Learned::default() }
    }
}

/// Figures of the updates of an iteration, of which the means are told.
#[derive(Default)]
struct Figures(BTreeMap<&'static str, (f64, u32)>);

impl Figures {
    fn add(&mut self, name: &'static str, value: f64) {
        let (sum, count) = self.0.entry(name).or_default();
        *sum += value;
        *count += 1;
    }

    fn mean(&self, name: &str) -> f64 {
        self.0.get(name).map_or(0.0, |(sum, count)| sum / f64::from(*count))
    }

    fn means(&self) -> Map<String, Value> {
        self.0.keys().map(|name| ((*name).to_owned(), self.mean(name).into())).collect()
    }
}

/// Some of a rollout's episodes: those of a minibatch.
struct Minibatch<'a> {
    rollout: &'a Rollout,
    chosen: Vec<usize>,
    spans: Vec<Range<usize>>,
    /// Tokens of the answers.
    tokens: usize,
}

impl<'a> Minibatch<'a> {
    fn of(rollout: &'a Rollout, chosen: Vec<usize>) -> Self {
        let spans = rollout.spans();
        let spans: Vec<_> = chosen.iter().map(|&i| spans[i].clone()).collect();
        Minibatch { rollout, chosen, tokens: spans.iter().map(ExactSizeIterator::len).sum(), spans }
    }

    /// Rows that go through a model together, and the places of their tokens in the minibatch's episodes.
    fn passes(&self, most: usize) -> Vec<(Rows, Range<usize>)> {
        let episodes: Vec<&Episode> = self.chosen.iter().map(|&i| &self.rollout.episodes[i]).collect();
        let runs = passes(episodes.iter().map(|episode| episode.tokens.len()), most);
        runs.into_iter().map(|run| (Rows::of(episodes[run.clone()].iter().copied()), run)).collect()
    }

    /// The values of some of its episodes in one of the rollout's flat lists.
    fn of_run(&self, all: &[f64], run: &Range<usize>) -> Vec<f64> {
        self.spans[run.clone()].iter().flat_map(|span| &all[span.clone()]).copied().collect()
    }
}

/// Whether the updates of an iteration left policy or value model beyond use.
fn exploded(figures: &Figures, rollout: &Rollout) -> Option<String> {
    let (kl, value) = (figures.mean("policy/approxkl"), figures.mean("value/loss"));
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

impl<B: Backend> Ppo<'_, B> {
    /// The learning rate of the policy over the run.
    pub(super) fn schedule(&self) -> Schedule {
        self.settings.regime.schedule(self.steps)
    }

    /// Floating-point operations of an iteration in which this many tokens were learned from: a pass without gradients costs a
    /// third of one with them, and every token of the rollout has five (sampled once, read by four models).
    pub(super) fn flops(&self, rollout: &Rollout, learned_tokens: u64) -> f64 {
        const PASSES: f64 = 5.0;
        let passes = PASSES / 3.0 * rollout.tokens() as f64 + learned_tokens as f64;
        let len = rollout.tokens() as f64 / rollout.episodes.len() as f64;
        passes * self.policy.config.training_flops_per_token_of(len)
    }

    /// Learns from a rollout.
    pub(super) fn learn(&mut self, step: u64, rollout: &Rollout) -> Result<Learned> {
        let (settings, seed) = (&self.settings.own, self.options.seed);
        let (n, parts) = (rollout.episodes.len(), settings.minibatches);
        let (mut figures, mut skipped, mut tokens) = (Figures::default(), None, 0);
        for epoch in 0..settings.epochs {
            let pass = (step - 1) * settings.epochs + epoch;
            let order = Permutation::new(n as u64, seed, stream::MINIBATCHES + pass);
            for part in 0..parts {
                let chosen = (part * n / parts..(part + 1) * n / parts).map(|i| order.at(i as u64) as usize);
                let minibatch = Minibatch::of(rollout, chosen.collect());
                let number = pass * parts as u64 + part as u64;
                let is_first = (epoch, part) == (0, 0);
                for update in [
                    self.update_policy(step, number, is_first, &minibatch, &mut figures)?,
                    self.update_value(step, &minibatch, &mut figures),
                ] {
                    if !update.applied {
                        skipped =
                            Some(format!("gradient norm {}: the update was left out", update.grad_norm));
                    }
                }
                let rows: usize = minibatch.chosen.iter().map(|&i| rollout.episodes[i].tokens.len()).sum();
                tokens += 2 * rows as u64;
            }
        }
        let clip_fraction = figures.mean("policy/clipfrac");
        let exploded = exploded(&figures, rollout);
        Ok(Learned { metrics: figures.means(), tokens, clip_fraction, skipped, exploded })
    }

    /// One step of the policy up the clipped objective, with its entropy bonus and the pretraining mix.
    fn update_policy(
        &mut self,
        step: u64,
        number: u64,
        is_first: bool,
        minibatch: &Minibatch<'_>,
        figures: &mut Figures,
    ) -> Result<Update> {
        let settings = &self.settings.own;
        let mut loss = 0.0;
        let mut total = PolicyLoss::default();
        for (rows, run) in minibatch.passes(self.settings.regime.micro_batch_tokens) {
            let old = minibatch.of_run(&minibatch.rollout.logprobs, &run);
            let advantages = minibatch.of_run(&minibatch.rollout.advantages, &run);
            let targets = Targets { tokens: &rows.targets, temperature: settings.temperature as f32 };
            let with_entropies = settings.entropy_coef > 0.0;
            let told = self.policy.accumulate_loss(
                &mut self.backend,
                rows.sequences(),
                targets,
                with_entropies,
                |outputs, derivatives| {
                    let new = rows.of_answers(outputs.logprobs);
                    ensure!(
                        !is_first || new == old,
                        "the policy gives other log-probabilities than those it was sampled with: this is a bug"
                    );
                    let policy = policy_loss(&new, &old, &advantages, settings.clip_range, minibatch.tokens);
                    for (&row, derivative) in rows.before_tokens.iter().zip(&policy.derivatives) {
                        derivatives.logprobs[row as usize] = *derivative;
                    }
                    let mut bonus = 0.0;
                    if with_entropies {
                        let each = -settings.entropy_coef / minibatch.tokens as f64;
                        for &row in &rows.before_tokens {
                            bonus += each * outputs.entropies[row as usize];
                            derivatives.entropies[row as usize] = each;
                        }
                    }
                    Ok((policy, bonus))
                },
            );
            let (policy, bonus) = told?;
            loss += policy.value + bonus;
            total.add(&policy);
        }
        figures.add("policy/loss", total.value);
        figures.add("policy/clipfrac", total.clip_fraction);
        figures.add("policy/approxkl", total.approx_kl);
        figures.add("policy/ratio", total.mean_ratio);
        if self.ptx.is_some() {
            loss += self.mix_in_pretraining(number, is_first, figures)?;
        }
        let lr = self.schedule().at(step);
        let optimizer = self.settings.regime.optimizer();
        let update = self.policy.update(&mut self.backend, &optimizer, lr, loss);
        figures.add("policy/grad_norm", update.grad_norm);
        if let (true, Some(average)) = (update.applied, &mut self.average) {
            for (mean, weight) in average.leaves_mut().into_iter().zip(self.policy.weights.leaves()) {
                self.backend.average(mean, weight, settings.ema as f32);
            }
        }
        Ok(update)
    }

    /// Adds the gradient of `ptx_coef` times the mean loss of `ptx_tokens` pretraining tokens (Ouyang et al. 2022, eq. 2, with
    /// means in place of expectations), and returns that loss. In the first update of an iteration both gradients' norms are
    /// measured.
    fn mix_in_pretraining(&mut self, number: u64, measures: bool, figures: &mut Figures) -> Result<f64> {
        let Self { settings, backend: b, policy, ptx, .. } = self;
        let (_, windows) = ptx.as_mut().expect("asked for where there is one");
        let most = settings.regime.micro_batch_tokens;
        let settings = &settings.own;
        let sequences = (settings.ptx_tokens / policy.config.seq_len).max(1);
        let aside = measures.then(|| policy.set_aside(b));
        let (mut batch, mut derivatives, mut loss) = (Batch::default(), Vec::new(), 0.0);
        let counted = sequences * windows.predictions();
        for run in passes(std::iter::repeat_n(policy.config.seq_len, sequences), most) {
            windows.batch(number + 1, run, sequences, &mut batch)?;
            cross_entropy_derivatives(&mut derivatives, &batch.targets, counted);
            derivatives.iter_mut().for_each(|derivative| *derivative *= settings.ptx_coef);
            let rows = Sequences { tokens: &batch.tokens, lens: &batch.lens, noise: None };
            let group_rows = policy.config.seq_len;
            let logprobs = policy.accumulate(b, rows, &batch.targets, &derivatives, group_rows);
            loss += cross_entropy(logprobs, counted);
        }
        figures.add("ptx/loss", loss);
        if let Some(rl_norm) = aside {
            let ptx_norm = policy.grad_norm(b);
            policy.take_back(b);
            figures.add("ptx/grad_norm_ratio", ptx_norm / rl_norm);
        }
        Ok(settings.ptx_coef * loss)
    }

    /// One step of the value model towards the returns.
    fn update_value(&mut self, step: u64, minibatch: &Minibatch<'_>, figures: &mut Figures) -> Update {
        let settings = &self.settings.own;
        let mut total = ValueLoss::default();
        for (rows, run) in minibatch.passes(self.settings.regime.micro_batch_tokens) {
            let old = minibatch.of_run(&minibatch.rollout.values, &run);
            let returns = minibatch.of_run(&minibatch.rollout.returns, &run);
            let told = self.value.accumulate_scores(
                &mut self.backend,
                rows.sequences(),
                &rows.before_tokens,
                |values, derivatives| {
                    let new: Vec<f64> = values.iter().map(|&value| f64::from(value)).collect();
                    let value = value_loss(&new, &old, &returns, settings.value_clip, minibatch.tokens);
                    for (out, derivative) in derivatives.iter_mut().zip(&value.derivatives) {
                        *out = *derivative as f32;
                    }
                    value
                },
            );
            total.add(&told);
        }
        figures.add("value/loss", total.value);
        figures.add("value/clipfrac", total.clip_fraction);
        let regime = &self.settings.regime;
        let ratio = settings.value_lr.map_or(1.0, |value_lr| value_lr / regime.lr);
        let lr = (f64::from(self.schedule().at(step)) * ratio) as f32;
        let update = self.value.update(&mut self.backend, &regime.optimizer(), lr, total.value);
        figures.add("value/grad_norm", update.grad_norm);
        update
    }
}
