//! Kahneman–Tversky optimisation (Ethayarajh et al. 2024): the policy learns from answers that are called good or bad one
//! by one, without pairs and without a reward model.
//!
//! The point from which gains and losses are counted belongs to the batch of an optimizer step, and is measured over
//! all of it before anything is learned: so it does not depend on micro-batches.

use super::episodes::Rows;
use super::judged::{Judgements, Labelled, mismatched};
use super::lanes::{self, Lanes, MicroBatch, passes};
use super::learner::Learner;
use super::memory::{Model, Needs};
use super::settings::{Fit, Resolved, StageConfig, at_least_one, described};
use super::training_loop::{
    self, Best, Cancel, Evaluation, Guessing, State, Step, Training, metrics, reading_flops, training_flops,
};
use super::{Ending, Init, Machine, StageSettings};
use crate::data::Prompter;
use crate::model::Targets;
use crate::objective::{BALANCED, Unpaired, UnpairedLoss, reference_point};
use crate::progress::Progress;
use crate::streams;
use crate::tokenizer::Tokenizer;
use crate::train::{Entropies, LaneSums, Reference};
use anyhow::{Result, ensure};
use kernels::{Backend, rng};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

described! {
    /// What is KTO's own in its recipe.
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct KtoSettings {
        /// How often every answer is seen.
        pub epochs: u64,
        /// Answers of a step, at least two: each prompt is put beside the answer of another one.
        pub batch_size: usize,
        /// What is learned of an answer: kto or apo_zero_unpaired.
        pub loss: UnpairedLoss,
        /// β, how soon gains and losses saturate.
        pub beta: f64,
        /// λ_D, the weight of good answers.
        pub desirable_weight: f64,
        /// λ_U, the weight of bad answers.
        pub undesirable_weight: f64,
        /// Tokens of an answer in samples at most.
        pub max_tokens: usize,
    }
}

impl StageConfig for KtoSettings {
    const KEYS: &[(&str, &str)] = KtoSettings::KEYS;
    const DEFAULTS: &str = include_str!("../../../../presets/stages/kto.toml");

    fn check(&self) -> Result<()> {
        at_least_one([("epochs", self.epochs)])?;
        ensure!(
            self.batch_size >= 2,
            "batch_size is {}: it is at least 2, since each prompt is put beside the answer of another one",
            self.batch_size
        );
        for (key, value) in [
            ("beta", self.beta),
            ("desirable_weight", self.desirable_weight),
            ("undesirable_weight", self.undesirable_weight),
        ] {
            ensure!(value.is_finite() && value > 0.0, "{key} is {value}: it must be positive");
        }
        Ok(())
    }
}

impl KtoSettings {
    fn unpaired(&self) -> Unpaired {
        let KtoSettings { loss, beta, desirable_weight, undesirable_weight, .. } = *self;
        Unpaired { loss, beta, desirable_weight, undesirable_weight }
    }
}

/// What to train, on what, and where to.
pub struct Options<'a> {
    /// The model that training begins from and stays close to.
    pub init: &'a Init,
    /// Answers that are good or bad.
    pub judgements: &'a Judgements,
    /// The run directory.
    pub out: PathBuf,
    /// The recipe.
    pub settings: StageSettings<KtoSettings>,
    /// Decides everything random.
    pub seed: u64,
}

/// How a run ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What every stage says of it.
    pub ending: Ending,
    /// How good the policy is on held-out answers; none of a run that was stopped.
    pub after: Option<Figures>,
}

/// How good a policy is on held-out answers.
#[derive(Clone, Copy, Debug)]
pub struct Figures {
    /// The mean loss of an answer.
    pub loss: f64,
    /// By how much good ones are rewarded above bad ones; none where there are none of either.
    pub margin: Option<f64>,
}

/// Runs the recipe in its run directory to the end, or from where it was interrupted.
///
/// # Errors
/// Model and data do not fit together; the directory belongs to another recipe; training diverges.
pub fn kto<B: Backend>(
    backend: B,
    machine: &Machine,
    options: &Options<'_>,
    progress: &dyn Progress,
) -> Result<Outcome> {
    let fit = Fit { stage: "kto", init: options.init, examples: options.judgements.counts().0, machine };
    let mut settings = options.settings.fit(&fit, &options.out, progress)?;
    lanes::check(settings.optim.lanes, &machine.ranks)?;
    let config = options.init.config(0.0);
    let optim = &settings.optim;
    // Beside an adapter the reference is the policy without what it learns.
    let apart = if options.init.adapter().is_none() { &[Model::whole(&config)][..] } else { &[] };
    let needs = Needs {
        trained: &[Model::of(options.init, &config).by(optim.optimizer)],
        frozen: apart,
        lanes: Lanes::new(optim.lanes).of(&machine.ranks).in_all(false),
        keep: optim.keep(),
    };
    settings.fit_memory(needs, machine, progress)?;
    let mut recipe = settings.recipe("kto", options.seed, machine)?;
    options.init.record(&mut recipe, "init")?;
    recipe.inputs.insert("data".into(), options.judgements.input());
    let mut training = Kto::new(backend, options, &settings)?;
    training.policy.join(&machine.ranks);
    let best = Best { metric: "val_loss", highest: false, at_the_end: false };
    let pace = settings.optim.pace(training.steps, training.steps.div_ceil(5), best);
    let mut ending =
        training_loop::train(&options.out, &recipe, pace, options.seed, machine, &mut training, progress)?;
    let after = ending.evaluated(machine, progress, &mut training)?;
    let figures = |after: Evaluation| {
        Some(Figures { loss: after.figure("val_loss")?, margin: after.figure("val_margin") })
    };
    Ok(Outcome { ending, after: after.and_then(figures) })
}

struct Kto<'a, B: Backend> {
    options: &'a Options<'a>,
    settings: &'a Resolved<KtoSettings>,
    prompter: Prompter<&'a Tokenizer>,
    policy: Learner<'a, B>,
    reference: Reference<B>,
    steps: u64,
}

/// Sums of what good and bad answers are rewarded with, and how many they are.
#[derive(Clone, Copy, Debug, Default)]
struct Rewards {
    sums: [f64; 2],
    counts: [usize; 2],
}

impl Rewards {
    /// Sums of good and of bad answers of a batch.
    fn of(sums: [f64; 2], batch: &[&Labelled]) -> Self {
        let good = batch.iter().filter(|labelled| labelled.is_good).count();
        Rewards { sums, counts: [good, batch.len() - good] }
    }

    /// Means of good and of bad answers, where there are any.
    fn means(&self) -> [Option<f64>; 2] {
        let mean = |at: usize| (self.counts[at] > 0).then(|| self.sums[at] / self.counts[at] as f64);
        [mean(0), mean(1)]
    }

    /// By how much good answers are above bad ones.
    fn margin(&self) -> Option<f64> {
        let [good, bad] = self.means();
        Some(good? - bad?)
    }
}

impl<'a, B: Backend> Kto<'a, B> {
    fn new(backend: B, options: &'a Options<'a>, settings: &'a Resolved<KtoSettings>) -> Result<Self> {
        let (Options { init, judgements, seed, .. }, optim, own) = (options, &settings.optim, &settings.own);
        let config = init.language_config(optim.dropout as f32)?;
        let digest = judgements.sides.digest.clone();
        let mut policy = Learner::new(backend, init, config.clone(), *seed, optim, digest)?;
        let weights = &policy.trainer.weights;
        let reference = init.reference(&mut policy.backend, &config, weights, *seed)?;
        Ok(Kto {
            steps: optim.steps.unwrap_or(judgements.epochs(*seed).steps(own.epochs, own.batch_size)),
            reference,
            prompter: Prompter::new(policy.tokenizer)?,
            policy,
            options,
            settings,
        })
    }

    /// `log π − log π_ref` of every answer, without gradients and without dropout.
    fn ratios(&mut self, rows: &Rows) -> Vec<f64> {
        let reference = self.reference_sums(rows);
        let Learner { backend: b, trainer: policy, .. } = &mut self.policy;
        let policy = rows.sums(policy.evaluate(b, rows.sequences(), &rows.targets));
        policy.iter().zip(reference).map(|(policy, reference)| policy - reference).collect()
    }

    fn reference_sums(&mut self, rows: &Rows) -> Vec<f64> {
        let Learner { backend: b, trainer: policy, .. } = &mut self.policy;
        rows.sums(self.reference.logprobs(b, policy, rows.sequences(), Targets::new(&rows.targets)))
    }

    /// The point from which gains and losses of a batch are counted, and the tokens that were read for it.
    fn reference_point(&mut self, batch: &[&Labelled], cancel: Cancel<'_>) -> Result<(f64, u64)> {
        if !self.settings.own.loss.has_reference_point() {
            return Ok((0.0, 0));
        }
        let pairs = mismatched(batch, self.options.judgements.context);
        let lens = pairs.iter().map(|episode| episode.tokens.len());
        let tokens = lens.clone().sum::<usize>() as u64;
        let mut ratios = Vec::with_capacity(pairs.len());
        for run in passes(lens, self.settings.optim.micro_batch_tokens) {
            cancel.check()?;
            ratios.extend(self.ratios(&Rows::of(&pairs[run])));
        }
        Ok((reference_point(&ratios), tokens))
    }

    /// Loss on held-out answers, which are one batch, and their rewards.
    fn measure(&mut self, cancel: Cancel<'_>) -> Result<(f64, Rewards)> {
        let batch: Vec<&Labelled> = self.options.judgements.sides.held_out.iter().collect();
        let unpaired = self.settings.own.unpaired();
        let (z, _) = self.reference_point(&batch, cancel)?;
        let (mut loss, mut sums) = (0.0, [0.0; 2]);
        let lens = batch.iter().map(|labelled| labelled.episode.tokens.len());
        for run in passes(lens, self.settings.optim.micro_batch_tokens) {
            cancel.check()?;
            let rows = Rows::of(batch[run.clone()].iter().map(|labelled| &labelled.episode));
            for (ratio, labelled) in self.ratios(&rows).into_iter().zip(&batch[run]) {
                loss += unpaired.loss(ratio, labelled.is_good, z).0;
                sums[usize::from(!labelled.is_good)] += unpaired.reward(ratio);
            }
        }
        Ok((loss / batch.len() as f64, Rewards::of(sums, &batch)))
    }
}

/// How far good answers are above bad ones, for people.
fn apart(rewards: &Rewards) -> String {
    rewards.margin().map_or_else(
        || "answers of one kind alone".into(),
        |margin| format!("good ones {margin:+.3} above bad ones"),
    )
}

impl<B: Backend> Training for Kto<'_, B> {
    fn step(&mut self, step: u64, _: Cancel<'_>) -> Result<Step> {
        let Kto { settings, options, .. } = *self;
        let (own, optim, unpaired) = (&settings.own, &settings.optim, settings.own.unpaired());
        let batch = options.judgements.batch(step, own.batch_size, options.seed);
        let (z, read) = self.reference_point(&batch, Cancel::never())?;
        let each = 1.0 / batch.len() as f64;
        let mut sums = LaneSums::default();
        let seed = rng::bits(options.seed, streams::KTO_DROPOUT, step);
        let lens: Vec<usize> = batch.iter().map(|labelled| labelled.episode.tokens.len()).collect();
        let rows_of = |lens: &[usize]| lens.iter().sum::<usize>() as u64;
        let (tokens, ranks) = (rows_of(&lens), self.policy.trainer.ranks().clone());
        let lanes = Lanes::new(optim.lanes).of(&ranks);
        for MicroBatch { lane, examples } in lanes.cut(lens.iter().copied(), optim.micro_batch_tokens) {
            let first_row = rows_of(&lens[..examples.start]);
            let examples = &batch[examples];
            let rows = Rows::of(examples.iter().map(|labelled| &labelled.episode));
            let reference = self.reference_sums(&rows);
            let Learner { backend: b, trainer: policy, .. } = &mut self.policy;
            let (noised, targets) = (rows.noised(seed, first_row), Targets::new(&rows.targets));
            policy.accumulate_loss(b, noised, targets, Entropies::Unasked, lane, |outputs, derivatives| {
                let mut predicting = rows.before_tokens.iter();
                let answers = rows.sums(outputs.logprobs).into_iter().zip(&reference).zip(examples);
                for ((policy, reference), labelled) in answers {
                    let ratio = policy - reference;
                    let (loss, derivative) = unpaired.loss(ratio, labelled.is_good, z);
                    let mut of_one = [each * loss, 0.0, 0.0];
                    of_one[1 + usize::from(!labelled.is_good)] = unpaired.reward(ratio);
                    sums.add(lane, of_one);
                    for row in predicting.by_ref().take(labelled.episode.answer_len()) {
                        derivatives.logprobs[*row as usize] = each * derivative;
                    }
                }
            });
        }
        let [loss, good, bad] = sums.total(&ranks);
        let rewards = Rewards::of([good, bad], &batch);
        let mut figures = metrics([("loss", loss.into())]);
        if own.loss.has_reference_point() {
            figures.insert("kl".into(), z.into());
        }
        let [chosen, rejected] = rewards.means();
        let named = [("chosen", chosen), ("rejected", rejected), ("margins", rewards.margin())];
        let known = named.into_iter().filter_map(|(name, value)| Some((name, value?)));
        figures.extend(known.map(|(name, value)| (format!("rewards/{name}"), value.into())));
        let trainer = &self.policy.trainer;
        let reading = reading_flops(&trainer.config, tokens, batch.len())
            + 2.0 * reading_flops(&trainer.config, read, batch.len());
        let done = Step {
            metrics: figures,
            columns: vec![format!("loss {loss:.4}"), apart(&rewards)],
            loss: Some(loss),
            tokens,
            flops: reading + training_flops(trainer, tokens, batch.len()),
            ..Step::default()
        };
        let lr = optim.schedule(self.steps).at(step);
        Ok(self.policy.update(&optim.optimizer(), lr, Some(loss), |_| done))
    }

    fn evaluate(&mut self, cancel: Cancel<'_>) -> Result<Evaluation> {
        let (loss, rewards) = self.measure(cancel)?;
        let margin = rewards.margin().map(|margin| ("val_margin", margin));
        Ok(Evaluation {
            metrics: [("val_loss", loss)].into_iter().chain(margin).collect(),
            line: format!("loss {loss:.4}, {}", apart(&rewards)),
        })
    }

    fn samples(&mut self) -> Result<Vec<(String, String)>> {
        const SHOWN: usize = 3;
        let prompt = |labelled: &Labelled| labelled.episode.tokens[..labelled.episode.prompt_len].to_vec();
        let mut prompts: Vec<Vec<u32>> = self.options.judgements.sides.held_out.iter().map(prompt).collect();
        prompts.dedup();
        prompts.truncate(SHOWN);
        let (max_tokens, seed) = (self.settings.own.max_tokens, self.options.seed);
        self.policy.answers(prompts, max_tokens, seed, self.prompter.end_tokens())
    }

    fn state(&mut self) -> &mut dyn State {
        &mut self.policy
    }

    fn begin(&mut self, progress: &dyn Progress, cancel: Cancel<'_>) -> Result<Option<Evaluation>> {
        let (train, held_out) = self.options.judgements.counts();
        let (good, bad) = self.options.judgements.labels();
        progress.line(&format!(
            "{} parameters of policy and reference; {train} answers to learn from, {good} good and {bad} bad, {held_out} held out",
            self.policy.trainer.config.parameters()
        ));
        let balance = self.settings.own.unpaired().balance(good, bad);
        if !BALANCED.contains(&balance) {
            progress.line(&format!(
                "note: desirable_weight · {good} good answers / (undesirable_weight · {bad} bad ones) is {balance:.2}: the authors of \
                 KTO want it from 1 to 1.33, by the two weights (--set)"
            ));
        }
        self.evaluate(cancel).map(Some)
    }

    /// A policy that is the reference gains and loses nothing: half of each weight.
    fn guessing(&self) -> Option<Guessing> {
        let batch: Vec<&Labelled> = self.options.judgements.sides.held_out.iter().collect();
        let unpaired = self.settings.own.unpaired();
        let loss = batch.iter().map(|labelled| unpaired.loss(0.0, labelled.is_good, 0.0).0).sum::<f64>();
        Some(Guessing::Nats(loss / batch.len() as f64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_loss_cannot_take_is_named() {
        let refused = |change: &str| {
            format!("{:#}", StageSettings::<KtoSettings>::resolve(&[change.to_owned()]).unwrap_err())
        };
        assert!(refused("batch_size=1").contains("at least 2"));
        assert!(refused("desirable_weight=0").contains("desirable_weight is 0"));
        assert!(refused("beta=-1").contains("beta is -1"));
        assert!(refused("loss=bco").contains("apo_zero_unpaired"));
    }
}
