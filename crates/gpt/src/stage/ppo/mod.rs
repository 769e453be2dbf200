//! Reinforcement learning from a reward model by proximal policy optimisation (Schulman et al. 2017), as InstructGPT does it
//! (Ouyang et al. 2022, §3.5) with the details of Huang et al. (2024).
//!
//! A step is an iteration: the policy answers a batch of prompts, the reward model scores the answers, every token pays for its
//! distance from the reference policy, and policy and value model learn from the episodes for a few epochs.

mod evaluate;
mod prompts;
mod rollout;
mod settings;
mod state;
mod update;

pub use settings::PpoSettings;

use super::memory;
use super::settings::{Fit, Resolved};
use super::training_loop::{self, Best, Evaluation, Guessing, State, Step, Training, finite, shortest};
use super::{Ending, Init, Machine, StageSettings};
use crate::checkpoint::{About, Checkpoint};
use crate::data::{MixedWindows, Mixture, Prompt, Prompter};
use crate::model::Weights;
use crate::objective::ppo::KlController;
use crate::progress::Progress;
use crate::train::{Frozen, Trainer};
use anyhow::Result;
use kernels::Backend;
use prompts::Asked;
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};
use update::Learned;

/// Says how good an answer is, from 0 to 1, by a measure that training does not see.
pub type Gold<'a> = dyn Fn(&Prompt, &str) -> f64 + 'a;

/// What to train, against what, and where to.
pub struct Options<'a> {
    /// The model that PPO begins from and stays close to.
    pub policy: &'a Init,
    /// The reward model, from which the value model begins.
    pub reward: &'a Init,
    /// Prompts to answer in training.
    pub prompts: &'a [Prompt],
    /// Prompts to measure with.
    pub held_out: &'a [Prompt],
    /// Token shards of the pretraining mix, with their weights.
    pub ptx: Vec<(PathBuf, f64)>,
    /// A measure of held-out answers, where there is one.
    pub gold: Option<&'a Gold<'a>>,
    /// The run directory.
    pub out: PathBuf,
    /// The recipe.
    pub settings: StageSettings<PpoSettings>,
    /// Decides everything random.
    pub seed: u64,
}

/// How a run ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What every stage says of it; a step is an iteration.
    pub ending: Ending,
    /// Held-out figures before the first iteration; none in later sittings.
    pub before: Option<Map<String, Value>>,
    /// Held-out figures of the state that the run ended with.
    pub after: Map<String, Value>,
}

/// Runs the recipe in its run directory to the end, or from where it was interrupted.
///
/// # Errors
/// Models, prompts or data do not fit together; the directory belongs to another recipe; training diverges.
pub fn ppo<B: Backend>(
    backend: B,
    machine: &Machine,
    options: &Options<'_>,
    progress: &dyn Progress,
) -> Result<Outcome> {
    let fit = Fit { stage: "ppo", init: options.policy, examples: options.prompts.len() };
    let settings = options.settings.fit(&fit, &options.out, progress)?;
    let recipe = state::recipe(options, &settings, machine)?;
    let both = [&options.policy.config(0.0), &options.reward.config(0.0)];
    memory::check(&both, &both, settings.regime.micro_batch_tokens, machine)?;
    let mut training = Ppo::new(backend, options, &settings, progress)?;
    let steps = training.steps;
    let best = Best { metric: "eval/objective", highest: true, at_the_end: true };
    let pace = settings.regime.pace(steps, steps.div_ceil(10), best);
    let ending =
        training_loop::train(&options.out, &recipe, pace, options.seed, machine, &mut training, progress)?;
    let after = training.evaluate()?.metrics.into_iter();
    let after = after.map(|(name, value)| Ok((name.to_owned(), finite(name, value)?.into())));
    let after = after.collect::<Result<_>>()?;
    Ok(Outcome { ending, before: training.before, after })
}

/// A run in progress.
struct Ppo<'a, B: Backend> {
    options: &'a Options<'a>,
    settings: &'a Resolved<PpoSettings>,
    backend: B,
    prompter: Prompter<'a>,
    /// The prompts of training and of measuring, as tokens.
    prompts: Vec<Asked<'a>>,
    held_out: Vec<Asked<'a>>,
    policy: Trainer<B::Tensor>,
    /// The moving average of the policy, where there is one.
    average: Option<Weights<B::Tensor>>,
    value: Trainer<B::Tensor>,
    reference: Frozen<B::Tensor>,
    reward: Frozen<B::Tensor>,
    kl: KlController,
    ptx: Option<(Mixture, MixedWindows)>,
    steps: u64,
    before: Option<Map<String, Value>>,
}

impl<B: Backend> Training for Ppo<'_, B> {
    /// One iteration.
    fn step(&mut self, step: u64) -> Result<Step> {
        let settings = &self.settings.own;
        let mut rollout = self.roll_out(step)?;
        self.score(&mut rollout);
        rollout.estimate_advantages(settings, self.kl.coefficient());
        let update = match rollout.fault(self.options) {
            None => self.learn(step, &rollout)?,
            Some(fault) => Learned::left_out(fault),
        };
        self.kl.update(rollout.kl(), rollout.episodes.len());

        let mut metrics = rollout.metrics();
        let (reward, kl) = (rollout.mean_score(), rollout.kl());
        metrics.extend(update.metrics);
        metrics.insert("kl_coef".to_owned(), self.kl.coefficient().into());
        metrics.insert("lr".to_owned(), shortest(self.schedule().at(step)));
        let (tokens, flops) = (update.tokens + rollout.tokens(), self.flops(&rollout, update.tokens));
        Ok(Step {
            metrics,
            line: format!(
                "reward {reward:7.3}  KL {kl:7.3}  entropy {:6.3}  clipped {:4.1} %",
                rollout.entropy(),
                100.0 * update.clip_fraction
            ),
            loss: None,
            tokens,
            flops,
            skipped: update.skipped,
            exploded: update.exploded,
            ended: None,
            rollouts: self.told(&rollout)?,
        })
    }

    fn evaluate(&mut self) -> Result<Evaluation> {
        self.measure()
    }

    fn samples(&mut self) -> Result<Vec<(String, String)>> {
        self.answer_samples()
    }

    fn state(&mut self) -> &mut dyn State {
        self
    }

    fn begin(&mut self, progress: &dyn Progress) -> Result<Option<Evaluation>> {
        self.introduce(progress).map(Some)
    }

    fn guessing(&self) -> Option<Guessing> {
        None
    }
}

impl<B: Backend> State for Ppo<'_, B> {
    fn save(&mut self, dir: &Path, about: About) -> Result<()> {
        self.save_to(dir, about)
    }

    fn restore(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        self.restore_from(checkpoint)
    }

    fn restart(&mut self) -> Result<()> {
        self.begin_again()
    }
}

/// Streams of random numbers.
mod stream {
    /// The order of prompts.
    pub(super) const PROMPTS: u64 = 0x5050_4f01 << 32;
    /// The order of episodes in an epoch.
    pub(super) const MINIBATCHES: u64 = 0x5050_4f02 << 32;
    /// The seed of sampling in training, and in measuring.
    pub(super) const SAMPLING: u64 = 0x5050_4f03;
    pub(super) const MEASURING: u64 = 0x5050_4f04;
}
