//! Reinforcement learning from a reward model by proximal policy optimisation (Schulman et al. 2017), as
//! InstructGPT does it (Ouyang et al. 2022, §3.5) with the details of Huang et al. (2024).
//!
//! A step is an iteration: the policy answers a batch of prompts, the reward model scores the answers, every
//! token has a penalty on its KL from the reference policy, and policy and value model learn from the
//! episodes for a few epochs.

mod figures;
mod iteration;
mod settings;
mod state;

pub use settings::PpoSettings;

use self::figures::SHOWN;
use self::iteration::Experience;
use super::answers::{Answers, text};
use super::lanes::{self, Lanes};
use super::memory::{Model, Needs};
use super::prompts::TokenizedPrompt;
use super::rollout::{Outcome, Rollout};
use super::settings::{Fit, Resolved};
use super::training_loop::{self, Best, Cancel, Evaluation, Guessing, State, Step, Training};
use super::{Init, Machine, StageSettings};
use crate::data::{MixedWindows, Mixture, Prompt, Prompter};
use crate::model::{Method, Weights};
use crate::objective::ppo::KlController;
use crate::progress::Progress;
use crate::streams;
use crate::tokenizer::Tokenizer;
use crate::train::{Frozen, Reference, Schedule, Trainer};
use anyhow::{Result, ensure};
use kernels::{Backend, rng};
use std::path::PathBuf;

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
    let fit = Fit { stage: "ppo", init: options.policy, examples: options.prompts.len(), machine };
    let mut settings = options.settings.fit(&fit, &options.out, progress)?;
    lanes::check(settings.optim.lanes, &machine.ranks)?;
    let optimizer = settings.optim.optimizer;
    ensure!(
        optimizer == Method::AdamW,
        "optimizer={optimizer} is nothing that PPO has: its two models are learned by AdamW; leave it out"
    );
    let both = [&options.policy.config(0.0), &options.reward.config(0.0)];
    let trained = [Model::of(options.policy, both[0]), Model::of(options.reward, both[1])];
    // Beside an adapter the reference is the policy without what it learns.
    let frozen = if options.policy.adapter().is_some() { &trained[1..] } else { &trained };
    let optim = &settings.optim;
    let lanes = Lanes::new(optim.lanes).of(&machine.ranks).in_all(settings.own.ptx_coef > 0.0);
    let needs = Needs { trained: &trained, frozen, lanes, keep: optim.keep() };
    settings.fit_memory(needs, machine, progress)?;
    let recipe = state::recipe(options, &settings, machine)?;
    let mut training = Ppo::new(backend, machine, options, &settings, progress)?;
    let best = Best { metric: "eval/objective", highest: true, at_the_end: true };
    let pace = settings.optim.pace(training.steps, training.steps.div_ceil(10), best);
    let mut ending =
        training_loop::train(&options.out, &recipe, pace, options.seed, machine, &mut training, progress)?;
    let after = ending.evaluated(machine, progress, &mut training)?;
    let after = after.map(Evaluation::finite).transpose()?;
    Ok(Outcome { before: ending.all_before(), ending, after })
}

/// A run in progress.
struct Ppo<'a, B: Backend> {
    options: &'a Options<'a>,
    settings: &'a Resolved<PpoSettings>,
    backend: B,
    prompter: Prompter<&'a Tokenizer>,
    /// The prompts of training and of measuring, as tokens.
    prompts: Vec<TokenizedPrompt<'a>>,
    held_out: Vec<TokenizedPrompt<'a>>,
    policy: Trainer<B>,
    /// The moving average of the policy, where there is one.
    average: Option<Weights<B::Tensor>>,
    value: Trainer<B>,
    reference: Reference<B>,
    reward: Frozen<B>,
    kl: KlController,
    /// Whether a model says the same to the bit whatever it is asked along with it, as on the processor.
    same_bits: bool,
    ptx: Option<(Mixture, MixedWindows)>,
    steps: u64,
}

impl<B: Backend> Training for Ppo<'_, B> {
    fn step(&mut self, step: u64, cancel: Cancel<'_>) -> Result<Step> {
        self.iterate(step, cancel)
    }

    /// Answers the held-out prompts and measures reward, KL and, where there is one, the gold score. The same
    /// prompts draw the same random numbers every time.
    fn evaluate(&mut self, cancel: Cancel<'_>) -> Result<Evaluation> {
        let n = self.held_out.len();
        let answers = self.answer_held_out(n, cancel)?;
        let experience = self.score(Rollout::new((0..n).collect(), answers), cancel)?;
        let Experience { rollout, scores, .. } = &experience;
        let (reward, kl) = (experience.mean_score(), rollout.kl());
        let objective = reward - self.settings.own.kl_coef * kl;
        let mut metrics = vec![("eval/reward", reward), ("eval/kl", kl), ("eval/objective", objective)];
        let mut line = format!("reward {reward:.3}, KL {kl:.3}");
        let mut sorted = scores.clone();
        sorted.sort_by(f64::total_cmp);
        metrics.push(("eval/reward_median", sorted[sorted.len() / 2]));
        metrics.push(("eval/answer_tokens", rollout.answer_tokens()));
        if let Some(gold) = self.options.gold {
            let mut sum = 0.0;
            for (i, episode) in rollout.episodes.iter().enumerate() {
                sum += gold(self.held_out[i].prompt, &text(episode, rollout.ended[i], &self.prompter)?);
            }
            let mean = sum / rollout.episodes.len() as f64;
            metrics.push(("eval/gold", mean));
            line += &format!(", gold {mean:.3}");
        }
        Ok(Evaluation { metrics, line })
    }

    /// A few held-out prompts and their answers.
    fn samples(&mut self) -> Result<Vec<(String, String)>> {
        let answers = self.answer_held_out(SHOWN, Cancel::never())?;
        let asked = self.held_out.iter().map(|asked| asked.text() + "\n");
        Ok(asked.zip(answers.texts(&self.prompter)?).collect())
    }

    fn state(&mut self) -> &mut dyn State {
        self
    }

    fn begin(&mut self, progress: &dyn Progress, cancel: Cancel<'_>) -> Result<Option<Evaluation>> {
        progress.line(&format!(
            "{} parameters of policy and reference, {} of reward and value model; {} prompts, {} held out",
            self.policy.config.parameters(),
            self.value.config.parameters(),
            self.prompts.len(),
            self.held_out.len()
        ));
        self.evaluate(cancel).map(Some)
    }

    fn guessing(&self) -> Option<Guessing> {
        None
    }
}

impl<B: Backend> Ppo<'_, B> {
    /// The learning rate of the policy over the run.
    fn schedule(&self) -> Schedule {
        self.settings.optim.schedule(self.steps)
    }

    /// The policy's answers to the first `n` held-out prompts.
    fn answer_held_out(&mut self, n: usize, cancel: Cancel<'_>) -> Result<Answers> {
        let prompts = self.held_out.iter().take(n).map(|asked| asked.tokens.clone()).collect();
        self.answer(prompts, rng::bits(self.options.seed, streams::PPO_MEASURING, 0), cancel)
    }
}
