//! Knowledge distillation (Hinton et al. 2015; Agarwal et al. 2024, "GKD"): a student learns the distributions of a
//! teacher, token by token, on answers that are given or that it samples itself.
//!
//! The loss is the mean generalised Jensen–Shannon divergence over the tokens of answers and what ends them.

mod own;
mod store;
mod teacher;

pub use self::store::{Store, store};
pub use self::teacher::Source;
use self::teacher::{check_pair, show};
use super::lanes::{self, Lanes, MicroBatch, Untold, passes, pieces};
use super::learner::Learner;
use super::memory::{Model, Needs};
use super::settings::{Fit, Resolved, StageConfig, at_least_one, described};
use super::training_loop::{
    self, Best, Cancel, Evaluation, Guessing, State, Step, Training, metrics, reading_flops, training_flops,
};
use super::{Ending, Init, Machine, StageSettings};
use crate::data::{Batch, Conversations, Prompter};
use crate::model::{Noise, Sequences, Targets};
use crate::objective::cross_entropy;
use crate::progress::Progress;
use crate::streams;
use crate::tokenizer::Tokenizer;
use crate::train::run::Input;
use crate::train::{Frozen, LaneSums, Teacher};
use anyhow::{Result, ensure};
use kernels::{Distil as Distilling, NO_TARGET, rng};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

described! {
    /// What is distillation's own in its recipe.
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct DistilSettings {
        /// How often every demonstration is seen.
        pub epochs: u64,
        /// Conversations of a step.
        pub batch_size: usize,
        /// β of the divergence, from 0, KL(teacher ‖ student), to 1, KL(student ‖ teacher).
        pub beta: f64,
        /// Both models' logits are divided by it in the loss.
        pub temperature: f64,
        /// The share of steps in which the student answers itself; 0 for none.
        pub lmbda: f64,
        /// The temperature at which it does.
        pub sampling_temperature: f64,
        /// Tokens of such an answer at most.
        pub max_tokens: usize,
        /// Whether the run ends with the state of the lowest validation loss instead of the last.
        pub select_best: bool,
    }
}

impl StageConfig for DistilSettings {
    const KEYS: &[(&str, &str)] = DistilSettings::KEYS;
    const DEFAULTS: &str = include_str!("../../../../../presets/stages/distil.toml");

    fn check(&self) -> Result<()> {
        at_least_one([
            ("epochs", self.epochs),
            ("batch_size", self.batch_size as u64),
            ("max_tokens", self.max_tokens as u64),
        ])?;
        for (key, value) in [("beta", self.beta), ("lmbda", self.lmbda)] {
            ensure!((0.0..=1.0).contains(&value), "{key} is {value}: it is from 0 to 1");
        }
        for (key, value) in
            [("temperature", self.temperature), ("sampling_temperature", self.sampling_temperature)]
        {
            ensure!(value.is_finite() && value > 0.0, "{key} is {value}: it must be positive");
        }
        Ok(())
    }
}

/// What to train, from whom, on what, and where to.
pub struct Options<'a> {
    /// The student, with its chat template.
    pub init: &'a Init,
    /// The teacher.
    pub teacher: Source<'a>,
    /// Demonstrations to learn from.
    pub train: &'a Conversations,
    /// Those to validate with.
    pub val: &'a Conversations,
    /// The run directory.
    pub out: PathBuf,
    /// The recipe.
    pub settings: StageSettings<DistilSettings>,
    /// Decides everything random.
    pub seed: u64,
}

/// What is measured of a student on held-out answers.
#[derive(Clone, Copy, Debug)]
pub struct Figures {
    /// The mean divergence from the teacher, in nats per token.
    pub divergence: f64,
    /// The mean negative log-likelihood of the tokens at the temperature of the loss: at 1 what supervised fine-tuning
    /// has.
    pub cross_entropy: f64,
}

impl Figures {
    fn evaluation(self) -> Evaluation {
        let Figures { divergence, cross_entropy } = self;
        Evaluation {
            metrics: vec![("val_loss", divergence), ("val_cross_entropy", cross_entropy)],
            line: format!("loss {divergence:.4}, cross entropy {cross_entropy:.4}"),
        }
    }
}

/// How a run ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What every stage says of it.
    pub ending: Ending,
    /// Before the first step.
    pub before: Option<Figures>,
    /// Of the state that the run ended with; none of a run that was stopped.
    pub after: Option<Figures>,
}

/// Runs the recipe in its run directory to the end, or from where it was interrupted.
///
/// # Errors
/// Teacher, student and data do not fit together; the device cannot distil; the directory belongs to another recipe; training
/// diverges.
pub fn distil<B: Distilling>(
    backend: B,
    machine: &Machine,
    options: &Options<'_>,
    progress: &dyn Progress,
) -> Result<Outcome> {
    ensure!(
        machine.device == "cpu",
        "{} has no operation that compares the distributions of two models (distil): take the processor (--device cpu)",
        machine.device
    );
    check_pair(&options.teacher, options.init)?;
    let fit =
        Fit { stage: "distil", init: options.init, examples: options.train.per_epoch() as usize, machine };
    let mut settings = options.settings.fit(&fit, &options.out, progress)?;
    let optim = &settings.optim;
    lanes::check(optim.lanes, &machine.ranks)?;
    let config = options.init.config(0.0);
    let theirs = match options.teacher {
        Source::Model(teacher) => Some(teacher.language_config(0.0)?),
        Source::Store(store) => {
            settings.own.check_store(store)?;
            [options.train, options.val].into_iter().try_for_each(|data| store.check(data))?;
            None
        }
    };
    let needs = Needs {
        trained: &[Model::of(options.init, &config).by(optim.optimizer)],
        frozen: &theirs.iter().map(Model::whole).collect::<Vec<_>>(),
        lanes: Lanes::new(optim.lanes).of(&machine.ranks).in_all(false),
        keep: optim.keep(),
    };
    settings.fit_memory(needs, machine, progress)?;
    let mut recipe = settings.recipe("distil", options.seed, machine)?;
    options.init.record(&mut recipe, "init")?;
    match options.teacher {
        Source::Model(teacher) => teacher.record(&mut recipe, "teacher")?,
        Source::Store(store) => drop(recipe.inputs.insert("teacher".into(), store.input())),
    }
    for (key, data) in [("train", options.train), ("val", options.val)] {
        recipe.inputs.insert(key.into(), Input::new(data.source().unwrap_or(Path::new(key)), data.digest()));
    }
    let mut training = Distil::new(backend, options, &settings)?;
    training.student.join(&machine.ranks);
    let best = Best { metric: "val_loss", highest: false, at_the_end: settings.own.select_best };
    let epoch = options.train.epochs().steps(1, settings.own.batch_size);
    let pace = settings.optim.pace(training.steps, epoch, best);
    let mut ending =
        training_loop::train(&options.out, &recipe, pace, options.seed, machine, &mut training, progress)?;
    let after = ending.evaluated(machine, progress, &mut training)?;
    let figures = |of: &dyn Fn(&str) -> Option<f64>| {
        Some(Figures { divergence: of("val_loss")?, cross_entropy: of("val_cross_entropy")? })
    };
    let before = figures(&|name| ending.before(name));
    let after = after.and_then(|after| figures(&|name| after.figure(name)));
    Ok(Outcome { ending, before, after })
}

struct Distil<'a, B: Distilling> {
    options: &'a Options<'a>,
    settings: &'a Resolved<DistilSettings>,
    student: Learner<'a, B>,
    teacher: Teacher<B>,
    prompter: Prompter<&'a Tokenizer>,
    /// Tokens that both read at once.
    context: usize,
    steps: u64,
    batch: Batch,
}

impl<'a, B: Distilling> Distil<'a, B> {
    fn new(backend: B, options: &'a Options<'a>, settings: &'a Resolved<DistilSettings>) -> Result<Self> {
        let (Options { init, teacher, train, val, seed, .. }, optim, own) =
            (options, &settings.optim, &settings.own);
        let config = init.language_config(optim.dropout as f32)?;
        let mut context = config.seq_len;
        let mut student = Learner::new(backend, init, config, *seed, optim, train.digest())?;
        let teacher = match teacher {
            Source::Store(store) => Teacher::stored(&mut student.backend, store.k),
            Source::Model(teacher) => {
                let theirs = teacher.language_config(0.0)?;
                context = context.min(theirs.seq_len);
                let weights = teacher.weights(&mut student.backend, &theirs, *seed)?;
                Teacher::Model(Box::new(Frozen::new(&mut student.backend, theirs, weights)))
            }
        };
        let longest = train.longest().max(val.longest());
        ensure!(
            longest <= context,
            "a conversation has {longest} tokens, and teacher or student read {context} at once: leave out what is longer"
        );
        Ok(Distil {
            teacher,
            prompter: Prompter::new(student.tokenizer)?,
            student,
            context,
            steps: optim.steps.unwrap_or(train.epochs().steps(own.epochs, own.batch_size)),
            options,
            settings,
            batch: Batch::default(),
        })
    }

    /// The gradient of the batch's mean divergence; returns that mean's pieces and its number of tokens.
    fn accumulate(&mut self, step: u64) -> Result<(Untold, usize)> {
        let Self { student, teacher, batch, options, settings, .. } = self;
        let Learner { backend, trainer, .. } = student;
        let (own, optim, counted) = (&settings.own, &settings.optim, batch.predictions());
        let seed = rng::bits(options.seed, streams::DISTIL_DROPOUT, step);
        let lanes = Lanes::new(optim.lanes).of(trainer.ranks());
        let mut untold = Untold::default();
        for MicroBatch { lane, examples } in lanes.cut(batch.lens.iter().copied(), optim.micro_batch_tokens) {
            let part = batch.part(examples);
            let derivative = |&target: &u32| if target == NO_TARGET { 0.0 } else { 1.0 / counted as f64 };
            let derivatives: Vec<f64> = part.targets.iter().map(derivative).collect();
            let noise = Some(Noise { seed, first_row: part.first_row as u64 });
            let rows = Sequences { tokens: part.tokens, lens: part.lens, noise };
            let targets = Targets { tokens: part.targets, temperature: own.temperature as f32 };
            show(teacher, backend, &options.teacher, part)?;
            let teacher = (&mut *teacher, own.beta as f32);
            trainer.accumulate_divergence(backend, rows, targets, teacher, &derivatives, lane);
            untold.push(lane, part.lens);
        }
        Ok((untold, counted))
    }

    /// Divergence and cross entropy of the tokens of held-out answers.
    fn measure(&mut self, cancel: Cancel<'_>) -> Result<Figures> {
        let Self { student: Learner { backend, trainer, .. }, teacher, options, settings, .. } = self;
        let (own, optim) = (&settings.own, &settings.optim);
        let mut batch = Batch::default();
        (0..options.val.per_epoch()).for_each(|i| options.val.push(i, &mut batch));
        let (counted, mut sums) = (batch.predictions(), LaneSums::default());
        let lanes = Lanes::new(optim.lanes).of(trainer.ranks());
        for MicroBatch { lane, examples } in lanes.cut(batch.lens.iter().copied(), optim.micro_batch_tokens) {
            cancel.check()?;
            let part = batch.part(examples);
            let rows = Sequences { tokens: part.tokens, lens: part.lens, noise: None };
            let targets = Targets { tokens: part.targets, temperature: own.temperature as f32 };
            show(teacher, backend, &options.teacher, part)?;
            let teacher = (&mut *teacher, own.beta as f32);
            let (divergences, logprobs) = trainer.divergences(backend, rows, targets, teacher);
            for piece in pieces(lane, part.lens) {
                let divergence = mean(&divergences[piece.clone()], counted);
                sums.add(lane, [divergence, cross_entropy(&logprobs[piece], counted)]);
            }
        }
        let [divergence, cross_entropy] = sums.total(trainer.ranks());
        Ok(Figures { divergence, cross_entropy })
    }

    /// The parameters of the teacher, and what it itself says of held-out answers: its cross entropy.
    fn teachers(&mut self) -> Option<(usize, f64)> {
        let Self { student: Learner { backend, .. }, teacher, options, settings, .. } = self;
        let Teacher::Model(teacher) = teacher else { return None };
        let mut batch = Batch::default();
        (0..options.val.per_epoch()).for_each(|i| options.val.push(i, &mut batch));
        let counted = batch.predictions();
        let of = |run| {
            let part = batch.part(run);
            let rows = Sequences { tokens: part.tokens, lens: part.lens, noise: None };
            cross_entropy(teacher.logprobs(backend, rows, Targets::new(part.targets)), counted)
        };
        let runs = passes(batch.lens.iter().copied(), settings.optim.micro_batch_tokens);
        let cross_entropy = runs.into_iter().map(of).sum();
        Some((teacher.config.parameters(), cross_entropy))
    }
}

fn mean(values: &[f64], counted: usize) -> f64 {
    values.iter().sum::<f64>() / counted as f64
}

impl<B: Distilling> Training for Distil<'_, B> {
    fn step(&mut self, step: u64, cancel: Cancel<'_>) -> Result<Step> {
        let (own, optim) = (&self.settings.own, &self.settings.optim);
        self.options.train.batch(step, own.batch_size, &mut self.batch);
        let sampled = match self.is_own(step) {
            true => Some(self.answer(step, cancel)?),
            false => None,
        };
        let tokens = self.batch.tokens.len() as u64;
        let (untold, counted) = self.accumulate(step)?;
        let n = self.batch.lens.len();
        let trainer = &self.student.trainer;
        let mut flops = training_flops(trainer, tokens, n);
        if let Teacher::Model(teacher) = &self.teacher {
            flops += reading_flops(&teacher.config, tokens, n);
        }
        if sampled.is_some() {
            flops += reading_flops(&trainer.config, tokens, n);
        }
        let lr = optim.schedule(self.steps).at(step);
        let ranks = trainer.ranks().clone();
        Ok(self.student.update(&optim.optimizer(), lr, None, |mut divergences| {
            let [loss] = untold.sum(&ranks, &mut divergences, |piece| [mean(piece, counted)]);
            let mut metrics = metrics([("loss", loss.into())]);
            let mut columns = vec![format!("loss {loss:.4}")];
            if let Some(sampled) = sampled {
                metrics.insert("objective/ended".to_owned(), sampled.ended.into());
                metrics.insert("objective/answer_tokens".to_owned(), sampled.answer_tokens.into());
                columns.push("own answers".into());
            }
            Step { metrics, columns, loss: Some(loss), tokens, flops, ..Step::default() }
        }))
    }

    fn evaluate(&mut self, cancel: Cancel<'_>) -> Result<Evaluation> {
        Ok(self.measure(cancel)?.evaluation())
    }

    fn samples(&mut self) -> Result<Vec<(String, String)>> {
        const SHOWN: u64 = 3;
        let prompts = self.held_out_prompts(SHOWN);
        let (max_tokens, seed) = (self.settings.own.max_tokens, self.options.seed);
        self.student.answers(prompts, max_tokens, seed, self.prompter.end_tokens())
    }

    fn state(&mut self) -> &mut dyn State {
        &mut self.student
    }

    fn begin(&mut self, progress: &dyn Progress, cancel: Cancel<'_>) -> Result<Option<Evaluation>> {
        let Options { train, val, .. } = self.options;
        let teachers = self.teachers().map_or_else(
            || format!("what was kept of {}", self.options.teacher.name()),
            |(parameters, cross_entropy)| {
                format!("a teacher of {parameters}, whose cross entropy of the held-out ones is {cross_entropy:.4}")
            },
        );
        progress.line(&format!(
            "{} parameters; {} demonstrations with {} tokens to learn, {} held out; {teachers}",
            self.student.trainer.config.parameters(),
            train.per_epoch(),
            train.predictions(),
            val.per_epoch()
        ));
        self.tell_room(progress)?;
        Ok(Some(self.measure(cancel)?.evaluation()))
    }

    /// What a student that knows nothing is apart from a teacher that is sure, by KL in one direction.
    fn guessing(&self) -> Option<Guessing> {
        Some(Guessing::Nats((self.student.trainer.config.vocab_size as f64).ln()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_loss_cannot_take_is_named() {
        let refused = |change: &str| {
            format!("{:#}", StageSettings::<DistilSettings>::resolve(&[change.to_owned()]).unwrap_err())
        };
        assert!(refused("beta=1.5").contains("beta is 1.5: it is from 0 to 1"));
        assert!(refused("lmbda=-0.1").contains("lmbda is -0.1"));
        assert!(refused("temperature=0").contains("temperature is 0: it must be positive"));
        assert!(refused("max_tokens=0").contains("max_tokens"));
    }
}
