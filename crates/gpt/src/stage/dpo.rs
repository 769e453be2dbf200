//! Direct preference optimisation (Rafailov et al. 2023): the policy learns from rankings without a reward
//! model.

use super::episodes::Rows;
use super::lanes::Lanes;
use super::learner::Learner;
use super::memory;
use super::ranked::{Ranked, Rankings, rows};
use super::settings::{Fit, Resolved, StageConfig, at_least_one, described};
use super::training_loop::{
    self, Best, Evaluation, Guessing, State, Step, Training, finite, metrics, training_flops,
};
use super::{Ending, Init, Machine, StageSettings};
use crate::data::Prompter;
use crate::model::Targets;
use crate::objective::{RankingLoss, dpo_loss, implicit_rewards};
use crate::progress::Progress;
use crate::streams;
use crate::tokenizer::Tokenizer;
use crate::train::{Frozen, LaneSums};
use anyhow::{Result, ensure};
use kernels::{Backend, rng};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

described! {
    /// What is DPO's own in its recipe.
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct DpoSettings {
        /// How often every ranking is seen.
        pub epochs: u64,
        /// Prompts of a step, with all their answers.
        pub batch_size: usize,
        /// β, the coefficient of the distance from the reference.
        pub beta: f64,
        /// Tokens of an answer in samples at most.
        pub max_tokens: usize,
    }
}

impl StageConfig for DpoSettings {
    const KEYS: &[(&str, &str)] = DpoSettings::KEYS;
    const DEFAULTS: &str = include_str!("../../../../presets/stages/dpo.toml");

    fn check(&self) -> Result<()> {
        at_least_one([("epochs", self.epochs), ("batch_size", self.batch_size as u64)])?;
        ensure!(self.beta.is_finite() && self.beta > 0.0, "beta is {}: it must be positive", self.beta);
        Ok(())
    }
}

/// What to train, on what, and where to.
pub struct Options<'a> {
    /// The model that training begins from and stays close to.
    pub init: &'a Init,
    /// Rankings.
    pub rankings: &'a Rankings,
    /// The run directory.
    pub out: PathBuf,
    /// The recipe.
    pub settings: StageSettings<DpoSettings>,
    /// Decides everything random.
    pub seed: u64,
}

/// How a run ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What every stage says of it.
    pub ending: Ending,
    /// Loss on held-out rankings.
    pub val_loss: f64,
    /// Share of the held-out pairs of which the policy has come to prefer the better answer.
    pub val_accuracy: f64,
}

/// Runs the recipe in its run directory to the end, or from where it was interrupted.
///
/// # Errors
/// Model and data do not fit together; the directory belongs to another recipe; training diverges.
pub fn dpo<B: Backend>(
    backend: B,
    machine: &Machine,
    options: &Options<'_>,
    progress: &dyn Progress,
) -> Result<Outcome> {
    let fit = Fit { stage: "dpo", init: options.init, examples: options.rankings.counts().0 };
    let settings = options.settings.fit(&fit, &options.out, progress)?;
    let mut recipe = settings.recipe("dpo", options.seed, machine)?;
    options.init.record(&mut recipe, "init")?;
    recipe.inputs.insert("rankings".into(), options.rankings.input());
    let config = options.init.config(0.0);
    let optim = &settings.optim;
    memory::check(&[&config], &[&config], optim.micro_batch_tokens, optim.lanes, machine)?;
    let mut training = Dpo::new(backend, options, &settings)?;
    let best = Best { metric: "val_loss", highest: false, at_the_end: false };
    let pace = settings.optim.pace(training.steps, training.steps.div_ceil(5), best);
    let ending =
        training_loop::train(&options.out, &recipe, pace, options.seed, machine, &mut training, progress)?;
    let (val_loss, val_accuracy) = training.measure();
    finite("validation loss", val_loss)?;
    Ok(Outcome { ending, val_loss, val_accuracy })
}

struct Dpo<'a, B: Backend> {
    options: &'a Options<'a>,
    settings: &'a Resolved<DpoSettings>,
    prompter: Prompter<&'a Tokenizer>,
    policy: Learner<'a, B>,
    reference: Frozen<B>,
    steps: u64,
}

impl<'a, B: Backend> Dpo<'a, B> {
    fn new(backend: B, options: &'a Options<'a>, settings: &'a Resolved<DpoSettings>) -> Result<Self> {
        let (Options { init, rankings, seed, .. }, optim, own) = (options, &settings.optim, &settings.own);
        let config = init.language_config(optim.dropout as f32)?;
        let digest = rankings.digest().to_owned();
        let mut policy = Learner::new(backend, init, config.clone(), *seed, optim.dtype, digest)?;
        let reference = init.weights(&mut policy.backend, &config, *seed)?;
        Ok(Dpo {
            steps: optim.steps.unwrap_or(rankings.epochs(*seed).steps(own.epochs, own.batch_size)),
            reference: Frozen::new(&mut policy.backend, config, reference),
            prompter: Prompter::new(policy.tokenizer)?,
            policy,
            options,
            settings,
        })
    }

    /// Loss and share of right pairs on held-out rankings.
    fn measure(&mut self) -> (f64, f64) {
        let held_out: Vec<&Ranked> = self.options.rankings.held_out.iter().collect();
        let beta = self.settings.own.beta;
        let Learner { backend: b, trainer: policy, .. } = &mut self.policy;
        let elements = held_out.iter().filter(|ranked| !ranked.pairs.is_empty()).count().max(1) as f64;
        let (mut loss, mut right, mut pairs) = (0.0, 0, 0);
        for (_, rows, rankings) in rows(&held_out, Lanes::new(1), self.settings.optim.micro_batch_tokens) {
            let reference = self.reference.logprobs(b, rows.sequences(), Targets::new(&rows.targets));
            let reference = sums(&rows, &rankings, reference);
            let policy = policy.evaluate(b, rows.sequences(), &rows.targets);
            for one in losses(&sums(&rows, &rankings, policy), &reference, &rankings, beta) {
                loss += one.value / elements;
                right += one.right;
            }
            pairs += rankings.iter().map(|ranked| ranked.pairs.len()).sum::<usize>();
        }
        (loss, right as f64 / pairs.max(1) as f64)
    }
}

/// The log-probability of every answer.
fn sums(rows: &Rows, rankings: &[&Ranked], by_row: &[f64]) -> Vec<f64> {
    let tokens = rows.of_answers(by_row);
    let mut first = 0;
    let episodes = rankings.iter().flat_map(|ranked| &ranked.episodes);
    let sum = |len: usize| {
        first += len;
        tokens[first - len..first].iter().sum()
    };
    episodes.map(|episode| episode.answer_len()).map(sum).collect()
}

/// The loss of every ranking.
fn losses(policy: &[f64], reference: &[f64], rankings: &[&Ranked], beta: f64) -> Vec<RankingLoss> {
    let mut first = 0;
    let one = |ranked: &&Ranked| {
        let place = first..first + ranked.episodes.len();
        first = place.end;
        dpo_loss(&policy[place.clone()], &reference[place], &ranked.pairs, beta)
    };
    rankings.iter().map(one).collect()
}

/// The share of pairs told right, for people. While policy and reference are the same, both answers of every
/// pair are worth the same: none is right, and none is wrong.
fn right_share(accuracy: f64, loss: f64) -> String {
    match accuracy == 0.0 && (loss - std::f64::consts::LN_2).abs() < 1e-9 {
        true => "no pair told apart yet".into(),
        false => format!("{:.1} % of pairs right", 100.0 * accuracy),
    }
}

impl<B: Backend> Training for Dpo<'_, B> {
    fn step(&mut self, step: u64) -> Result<Step> {
        let (own, optim) = (&self.settings.own, &self.settings.optim);
        let batch = self.options.rankings.batch(step, own.batch_size, self.options.seed);
        let elements = batch.iter().filter(|ranked| !ranked.pairs.is_empty()).count().max(1) as f64;
        let (mut sums_of_step, mut right, mut pairs, mut tokens) = (LaneSums::default(), 0, 0, 0);
        let seed = rng::bits(self.options.seed, streams::DPO_DROPOUT, step);
        for (lane, rows, rankings) in rows(&batch, Lanes::new(optim.lanes), optim.micro_batch_tokens) {
            let Learner { backend: b, trainer: policy, .. } = &mut self.policy;
            let targets = Targets::new(&rows.targets);
            let noised = rows.noised(seed, tokens);
            tokens += noised.tokens.len() as u64;
            let reference = self.reference.logprobs(b, rows.sequences(), targets);
            let reference = sums(&rows, &rankings, reference);
            policy.accumulate_loss(b, noised, targets, false, lane, |outputs, derivatives| {
                let policy = sums(&rows, &rankings, outputs.logprobs);
                let rewards = implicit_rewards(&policy, &reference, own.beta);
                let (mut answer, mut token) = (0, 0);
                for (one, ranked) in losses(&policy, &reference, &rankings, own.beta).iter().zip(&rankings) {
                    sums_of_step.add(lane, [one.value / elements, 0.0, 0.0]);
                    right += one.right;
                    pairs += ranked.pairs.len();
                    for &(better, worse) in &ranked.pairs {
                        let [chosen, rejected] = [better, worse].map(|one| rewards[answer + one]);
                        sums_of_step.add(lane, [0.0, chosen, rejected]);
                    }
                    for (episode, derivative) in ranked.episodes.iter().zip(&one.derivatives) {
                        for &row in &rows.before_tokens[token..token + episode.answer_len()] {
                            derivatives.logprobs[row as usize] = derivative / elements;
                        }
                        token += episode.answer_len();
                    }
                    answer += ranked.episodes.len();
                }
            });
        }
        let [loss, chosen, rejected] = sums_of_step.total();
        let of_pairs = |sum: f64| sum / pairs.max(1) as f64;
        let accuracy = of_pairs(right as f64);
        let sequences = batch.iter().map(|ranked| ranked.episodes.len()).sum();
        let done = Step {
            metrics: metrics([
                ("loss", loss.into()),
                ("rewards/chosen", of_pairs(chosen).into()),
                ("rewards/rejected", of_pairs(rejected).into()),
                ("rewards/margins", of_pairs(chosen - rejected).into()),
                ("rewards/accuracies", accuracy.into()),
            ]),
            columns: vec![format!("loss {loss:.4}"), right_share(accuracy, loss)],
            loss: Some(loss),
            tokens,
            flops: 4.0 / 3.0 * training_flops(&self.policy.trainer.config, tokens, sequences),
            ..Step::default()
        };
        let lr = optim.schedule(self.steps).at(step);
        Ok(self.policy.update(&optim.optimizer(), lr, Some(loss), |_| done))
    }

    fn evaluate(&mut self) -> Result<Evaluation> {
        let (loss, accuracy) = self.measure();
        Ok(Evaluation {
            metrics: vec![("val_loss", loss), ("val_accuracy", accuracy)],
            line: format!("loss {loss:.4}, {}", right_share(accuracy, loss)),
        })
    }

    fn samples(&mut self) -> Result<Vec<(String, String)>> {
        const SHOWN: usize = 3;
        let prompt = |ranked: &Ranked| ranked.episodes[0].tokens[..ranked.episodes[0].prompt_len].to_vec();
        let prompts = self.options.rankings.held_out.iter().take(SHOWN).map(prompt).collect();
        let (max_tokens, seed) = (self.settings.own.max_tokens, self.options.seed);
        self.policy.answers(prompts, max_tokens, seed, self.prompter.end_tokens())
    }

    fn state(&mut self) -> &mut dyn State {
        &mut self.policy
    }

    fn begin(&mut self, progress: &dyn Progress) -> Result<Option<Evaluation>> {
        let (train, held_out) = self.options.rankings.counts();
        progress.line(&format!(
            "{} parameters of policy and reference; {train} rankings to learn from, {held_out} held out",
            self.policy.trainer.config.parameters()
        ));
        self.evaluate().map(Some)
    }

    fn guessing(&self) -> Option<Guessing> {
        Some(Guessing::Nats(std::f64::consts::LN_2))
    }
}
