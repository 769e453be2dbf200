//! Reinforcement learning on answers that can be checked, without a value model: a policy answers each prompt
//! several times, and learns from how much better or worse each answer is than the others (Shao et al. 2024,
//! GRPO, and its kin).
//!
//! A step is an iteration: a group of answers to each of some prompts, rewards, advantages, and a few
//! updates.

mod figures;
mod iteration;
mod measure;
mod rewards;
mod settings;

pub use rewards::{RewardKind, RewardSpec};
pub use settings::{GrpoSettings, KlIn};

use self::measure::SHOWN;
use self::rewards::Rewards;
use super::lanes::{self, Lanes};
use super::learner::Learner;
use super::memory::{Model, Needs};
use super::prompts::{TokenizedPrompt, ask, digest, tell_shared};
use super::rollout::Outcome;
use super::settings::{Fit, Resolved};
use super::training_loop::{self, Best, Cancel, Evaluation, Guessing, State, Step, Training};
use super::{Init, Machine, StageSettings};
use crate::chat::Tools;
use crate::data::{Prompt, Prompter};
use crate::progress::Progress;
use crate::sandbox::Sandbox;
use crate::tokenizer::Tokenizer;
use crate::tools::Toolbox;
use crate::train::run::{Input, Recipe};
use crate::train::{Reference, Schedule};
use anyhow::{Context, Result};
use kernels::Backend;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What to train, for what, and where to.
pub struct Options<'a> {
    /// The model that training begins from.
    pub policy: &'a Init,
    /// What answers get something for.
    pub rewards: &'a [RewardSpec],
    /// The reward models of those rewards that are some, in their order.
    pub reward_models: &'a [Init],
    /// What runs programs, where a reward does.
    pub sandbox: Option<&'a Sandbox>,
    /// What the policy may call while it answers.
    pub tools: Option<&'a Toolbox>,
    /// Prompts to answer in training.
    pub prompts: &'a [Prompt],
    /// Prompts to measure with.
    pub held_out: &'a [Prompt],
    /// The run directory.
    pub out: PathBuf,
    /// The recipe.
    pub settings: StageSettings<GrpoSettings>,
    /// Decides everything random.
    pub seed: u64,
}

/// Runs the recipe in its run directory to the end, or from where it was interrupted.
///
/// # Errors
/// Model, rewards and prompts do not fit together; a sandbox is needed and cannot be set up; the directory
/// belongs to another recipe; training diverges.
pub fn grpo<B: Backend>(
    backend: B,
    machine: &Machine,
    options: &Options<'_>,
    progress: &dyn Progress,
) -> Result<Outcome> {
    let fit = Fit { stage: "grpo", init: options.policy, examples: options.prompts.len(), machine };
    let mut settings = options.settings.fit(&fit, &options.out, progress)?;
    lanes::check(settings.optim.lanes, &machine.ranks)?;
    let config = options.policy.config(0.0);
    let models = options.reward_models.iter().map(|model| model.config(0.0)).collect::<Vec<_>>();
    // Beside an adapter the reference is the policy without what it learns.
    let is_apart = settings.own.kl_coef > 0.0 && options.policy.adapter().is_none();
    let reference = is_apart.then_some(&config);
    let frozen: Vec<Model<'_>> = reference.into_iter().chain(&models).map(Model::whole).collect();
    let optim = &settings.optim;
    let needs = Needs {
        trained: &[Model::of(options.policy, &config).by(optim.optimizer)],
        frozen: &frozen,
        lanes: Lanes::new(optim.lanes).of(&machine.ranks).in_all(false),
        keep: optim.keep(),
    };
    settings.fit_memory(needs, machine, progress)?;
    let recipe = recipe(options, &settings, machine)?;
    let mut training = Grpo::new(backend, machine, options, &settings, progress)?;
    training.policy.join(&machine.ranks);
    let best = Best { metric: "eval/objective", highest: true, at_the_end: true };
    let pace = settings.optim.pace(training.steps, training.steps.div_ceil(10), best);
    let mut ending =
        training_loop::train(&options.out, &recipe, pace, options.seed, machine, &mut training, progress)?;
    let after = ending.evaluated(machine, progress, &mut training)?;
    let after = after.map(Evaluation::finite).transpose()?;
    Ok(Outcome { before: ending.all_before(), ending, after })
}

/// A run in progress.
struct Grpo<'a, B: Backend> {
    options: &'a Options<'a>,
    settings: &'a Resolved<GrpoSettings>,
    progress: &'a dyn Progress,
    prompter: Prompter<&'a Tokenizer>,
    /// The prompts of training and of measuring, as tokens.
    prompts: Vec<TokenizedPrompt<'a>>,
    held_out: Vec<TokenizedPrompt<'a>>,
    policy: Learner<'a, B>,
    /// None where the distance from it costs nothing.
    reference: Option<Reference<B>>,
    rewards: Rewards<'a, B>,
    /// Whether a model says the same to the bit whatever it is asked along with it, as on the processor.
    same_bits: bool,
    steps: u64,
}

impl<'a, B: Backend> Grpo<'a, B> {
    /// The first state of a run.
    fn new(
        backend: B,
        machine: &Machine,
        options: &'a Options<'a>,
        settings: &'a Resolved<GrpoSettings>,
        progress: &'a dyn Progress,
    ) -> Result<Self> {
        let (Options { policy: init, seed, .. }, own, optim) = (options, &settings.own, &settings.optim);
        let prompter = Prompter::new(init.needed_tokenizer()?)?;
        init.check_no_dropout(optim.dropout)?;
        let config = init.language_config(0.0)?;
        let digest = digest(options.prompts, options.held_out)?;
        let mut policy = Learner::new(backend, init, config.clone(), *seed, optim, digest)?;
        let time = Duration::from_secs_f64(own.program_secs);
        let b = &mut policy.backend;
        let rewards = Rewards::new(b, options.rewards, options.reward_models, init, options.sandbox, time)?;
        rewards.check("prompts", options.prompts)?;
        rewards.check("held-out prompts", options.held_out)?;
        let context = config.seq_len.min(rewards.context());
        // One more for the end that a reward model reads.
        let room = context.checked_sub(own.max_tokens + 1).filter(|room| *room > 0).with_context(|| {
            format!(
                "max_tokens {} leaves no room for a prompt in a context of {context}: take fewer (--set max_tokens=N)",
                own.max_tokens
            )
        })?;
        let tools =
            options.tools.map(|tools| prompter.check_tools().map(|()| tools.descriptions())).transpose()?;
        let prompts = ask("prompts", options.prompts, &prompter, tools, room, progress)?;
        let mut held_out = ask("held-out prompts", options.held_out, &prompter, tools, room, progress)?;
        held_out.truncate(own.eval_prompts);
        tell_shared(&prompts, &held_out, progress);
        let reference = match own.kl_coef > 0.0 {
            true => Some(init.reference(b, &config, &policy.trainer.weights, *seed)?),
            false => None,
        };
        Ok(Grpo {
            same_bits: machine.device == "cpu",
            steps: optim.steps.context("the recipe of GRPO has steps")?,
            options,
            settings,
            progress,
            prompter,
            prompts,
            held_out,
            policy,
            reference,
            rewards,
        })
    }

    /// The learning rate over the run.
    fn schedule(&self) -> Schedule {
        self.settings.optim.schedule(self.steps)
    }

    /// How the examples of an update are cut.
    fn lanes(&self) -> Lanes {
        Lanes::new(self.settings.optim.lanes).of(self.policy.trainer.ranks())
    }
}

impl<B: Backend> Training for Grpo<'_, B> {
    fn step(&mut self, step: u64, cancel: Cancel<'_>) -> Result<Step> {
        self.iterate(step, cancel)
    }

    fn evaluate(&mut self, cancel: Cancel<'_>) -> Result<Evaluation> {
        self.measure(cancel)
    }

    /// A few held-out prompts and their answers.
    fn samples(&mut self) -> Result<Vec<(String, String)>> {
        let prompts: Vec<usize> = (0..self.held_out.len().min(SHOWN)).collect();
        let answers = self.answer_held_out(&prompts, 1, Cancel::never())?;
        let asked = self.held_out.iter().map(|asked| asked.text() + "\n");
        Ok(asked.zip(answers.texts(&self.prompter)?).collect())
    }

    fn state(&mut self) -> &mut dyn State {
        &mut self.policy
    }

    fn begin(&mut self, progress: &dyn Progress, cancel: Cancel<'_>) -> Result<Option<Evaluation>> {
        progress.line(&format!(
            "{} parameters{}; {} prompts, {} held out; rewards: {}",
            self.policy.trainer.config.parameters(),
            if self.reference.is_some() { " of policy and reference" } else { "" },
            self.prompts.len(),
            self.held_out.len(),
            self.rewards.names().collect::<Vec<_>>().join(", ")
        ));
        self.evaluate(cancel).map(Some)
    }

    fn guessing(&self) -> Option<Guessing> {
        None
    }
}

/// The resolved recipe as it is stored.
fn recipe(options: &Options<'_>, settings: &Resolved<GrpoSettings>, machine: &Machine) -> Result<Recipe> {
    let mut recipe = settings.recipe("grpo", options.seed, machine)?;
    let rewards: Vec<&str> = options.rewards.iter().map(RewardSpec::text).collect();
    recipe.settings.insert("rewards".into(), rewards.into());
    if let Some(tools) = options.tools {
        let tools = toml::Value::try_from(tools.settings()).context("limits are numbers")?;
        recipe.settings.insert("tools".into(), tools);
    }
    options.policy.record(&mut recipe, "policy")?;
    for (number, model) in (1..).zip(options.reward_models) {
        model.record(&mut recipe, &format!("reward {number}"))?;
    }
    for (number, spec) in (1..).zip(options.rewards) {
        if let RewardKind::Program(path) = &spec.kind {
            let source = std::fs::read(path).with_context(|| {
                format!("cannot read the reward program {}: check the path", path.display())
            })?;
            let digest = blake3::hash(&source).to_hex().to_string();
            recipe.inputs.insert(format!("program {number}"), Input::new(path, digest));
        }
    }
    recipe.inputs.insert(
        "prompts".into(),
        Input::new(Path::new("prompts"), digest(options.prompts, options.held_out)?),
    );
    Ok(recipe)
}
