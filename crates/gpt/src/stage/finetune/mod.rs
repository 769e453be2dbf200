//! Fine-tuning for a task (Radford et al. 2018, §3.2): a linear head reads the last token of a text, and
//! learns with the model under it.
//!
//! The loss is L₃ = L₂ + λ L₁: the task's own, and language modelling of the same text, which keeps what
//! pretraining taught.

mod evaluate;
mod examples;
mod inputs;
mod settings;

pub use evaluate::{Decision, TaskReport, classify, task_of};
pub use examples::Examples;
pub use settings::FinetuneSettings;

use self::examples::Example;
use self::inputs::{Rows, lens, outputs, spread};
use super::lanes::{self, Lanes, MicroBatch, Untold, pieces};
use super::learner::{Learner, question};
use super::memory::{Model, Needs};
use super::settings::{Fit, Resolved};
use super::training_loop::{
    self, Best, Cancel, Evaluation, Guessing, State, Step, Training, finite, metrics, training_flops,
};
use super::{Ending, Init, Machine, StageSettings};
use crate::checkpoint::{About, Task};
use crate::model::{Noise, Sequences};
use crate::progress::Progress;
use crate::streams;
use crate::train::{Lane, LaneSums, TextLoss};
use anyhow::{Result, ensure};
use kernels::{Backend, Dropout, rng};
use std::path::{Path, PathBuf};

/// What to train, on what, and where to.
pub struct Options<'a> {
    /// The model to begin from, which knows the [marks](Examples::marks).
    pub init: &'a Init,
    /// Labelled texts.
    pub examples: &'a Examples,
    /// The run directory.
    pub out: PathBuf,
    /// The recipe.
    pub settings: StageSettings<FinetuneSettings>,
    /// Decides everything random.
    pub seed: u64,
}

/// How a run ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What every stage says of it.
    pub ending: Ending,
    /// How good the model is on held-out texts; none of a run that was stopped.
    pub evaluation: Option<TaskReport>,
}

/// Runs the recipe in its run directory to the end, or from where it was interrupted.
///
/// # Errors
/// Model and data do not fit together; the directory belongs to another recipe; training diverges.
pub fn finetune<B: Backend>(
    backend: B,
    machine: &Machine,
    options: &Options<'_>,
    progress: &dyn Progress,
) -> Result<Outcome> {
    let fit = Fit { stage: "finetune", init: options.init, examples: options.examples.counts().0, machine };
    let mut settings = options.settings.fit(&fit, &options.out, progress)?;
    let optim = &settings.optim;
    lanes::check(optim.lanes, &machine.ranks)?;
    let config = options.init.scoring_config(0.0, 1);
    let lanes = Lanes::new(optim.lanes).of(&machine.ranks).in_all(false);
    let model = Model::of(options.init, &config).by(optim.optimizer);
    let needs = Needs { trained: &[model], frozen: &[], lanes, keep: optim.keep() };
    settings.fit_memory(needs, machine, progress)?;
    let mut recipe = settings.recipe("finetune", options.seed, machine)?;
    recipe.settings.insert("task".into(), options.examples.inputs.form.name().into());
    options.init.record(&mut recipe, "init")?;
    recipe.inputs.insert("examples".into(), options.examples.input());
    let mut training = Finetuning::new(backend, options, &settings)?;
    training.learner.join(&machine.ranks);
    let metric = if options.examples.labels.are_degrees() { "val_pearson" } else { "val_accuracy" };
    let best = Best { metric, highest: true, at_the_end: false };
    let epoch = options.examples.epochs(options.seed).steps(1, settings.own.batch_size);
    let pace = settings.optim.pace(training.steps, epoch, best);
    let mut ending =
        training_loop::train(&options.out, &recipe, pace, options.seed, machine, &mut training, progress)?;
    let evaluation = ending.measured(machine, progress, |cancel| training.measure(cancel))?;
    evaluation.as_ref().map(|evaluation| finite("validation loss", evaluation.loss)).transpose()?;
    Ok(Outcome { ending, evaluation })
}

/// What the rows of a pass share with those of the other passes of their step.
#[derive(Clone, Copy)]
struct Pass {
    noise: u64,
    head_noise: u64,
    /// Rows and sequences of the step before its own.
    first_row: u64,
    first_sequence: u64,
    /// An example's share of the step.
    each: f64,
    /// Sequences of the whole step.
    sequences: usize,
}

struct Finetuning<'a, B: Backend> {
    options: &'a Options<'a>,
    settings: &'a Resolved<FinetuneSettings>,
    learner: Learner<'a, B>,
    steps: u64,
}

impl<'a, B: Backend> Finetuning<'a, B> {
    fn new(backend: B, options: &'a Options<'a>, settings: &'a Resolved<FinetuneSettings>) -> Result<Self> {
        let (Options { init, examples, seed, .. }, optim, own) = (options, &settings.optim, &settings.own);
        let config = init.scoring_config(optim.dropout as f32, examples.labels.n_label());
        ensure!(
            own.aux_lm == 0.0 || config.tied_head,
            "the head of {} is not its token embedding, so that a classifier does not keep it: --aux-lm 0 learns the task alone",
            init.name()
        );
        let digest = examples.digest().to_owned();
        let mut learner = Learner::new(backend, init, config, *seed, optim, digest)?;
        ensure!(
            !own.freeze_trunk || options.init.adapter().is_none(),
            "freeze_trunk is set: an adapter changes what it would keep; leave one of the two out"
        );
        if own.freeze_trunk {
            learner.trainer.freeze_trunk(&mut learner.backend, &examples.inputs.marks());
        }
        let steps = optim.steps.unwrap_or(examples.epochs(*seed).steps(own.epochs, own.batch_size));
        Ok(Finetuning { steps, learner, options, settings })
    }

    /// The learning rate of a step.
    fn rate(&self, step: u64) -> f32 {
        let settings = self.settings;
        let mut schedule = settings.optim.schedule(self.steps);
        let share = (settings.own.warmup_frac * self.steps as f64).ceil() as u64;
        schedule.warmup_steps = schedule.warmup_steps.max(share);
        schedule.at(step)
    }

    /// The model's outputs for examples, one list each.
    fn outputs(&mut self, examples: &[Example], cancel: Cancel<'_>) -> Result<Vec<Vec<f64>>> {
        let (form, n_label) = (self.options.examples.inputs.form, self.options.examples.labels.n_label());
        let mut found = Vec::with_capacity(examples.len());
        for rows in Rows::passes(&sequences(examples), self.settings.optim.micro_batch_tokens) {
            cancel.check()?;
            let Learner { backend, trainer, .. } = &mut self.learner;
            let scores = trainer.scores(backend, rows.sequences(), &rows.extracts);
            found.extend(rows.outputs(form, scores, n_label));
        }
        Ok(found)
    }

    /// Adds the gradients of one pass over `batch`. Returns its examples' shares of the task's loss, how many
    /// were told right, and the derivatives of the text's share by each log-probability that will be told.
    fn accumulate(
        &mut self,
        batch: &[&Example],
        rows: &Rows,
        pass: &Pass,
        lane: Lane,
    ) -> (Vec<f64>, usize, Vec<f64>) {
        let examples = self.options.examples;
        let (form, n_label) = (examples.inputs.form, examples.labels.n_label());
        let noise = Some(Noise { seed: pass.noise, first_row: pass.first_row });
        let noised = Sequences { noise, ..rows.sequences() };
        let dropout = Dropout {
            p: self.settings.own.head_dropout as f32,
            seed: pass.head_noise,
            stream: 0,
            first_row: pass.first_sequence,
        };
        let aux_lm = self.settings.own.aux_lm;
        let by_logprob = rows.text_derivatives(aux_lm, pass.sequences);
        let text = (aux_lm > 0.0).then_some(TextLoss { targets: &rows.targets, derivatives: &by_logprob });
        let Learner { backend, trainer, .. } = &mut self.learner;
        let (losses, right) = trainer.accumulate_scores_and_text(
            backend,
            noised,
            &rows.extracts,
            Some(&dropout),
            text,
            lane,
            |scores, derivatives| {
                let (mut losses, mut right) = (Vec::new(), 0);
                for (example, place) in batch[rows.run.clone()].iter().zip(rows.places(n_label)) {
                    let told = outputs(form, &scores[place.clone()], n_label);
                    let mut one = example.wanted.loss(&told);
                    losses.push(pass.each * one.value);
                    right += usize::from(example.wanted.is_met_by(&told));
                    one.derivatives.iter_mut().for_each(|derivative| *derivative *= pass.each);
                    spread(form, &one.derivatives, &mut derivatives[place]);
                }
                (losses, right)
            },
        );
        (losses, right, if aux_lm > 0.0 { by_logprob } else { Vec::new() })
    }
}

/// Each example as its sequences.
fn sequences<'e>(examples: impl IntoIterator<Item = &'e Example>) -> Vec<&'e [Vec<u32>]> {
    examples.into_iter().map(|example| example.sequences.as_slice()).collect()
}

impl<B: Backend> Training for Finetuning<'_, B> {
    fn step(&mut self, step: u64, _: Cancel<'_>) -> Result<Step> {
        let (settings, Options { examples, seed, .. }) = (self.settings, self.options);
        let batch = examples.batch(step, settings.own.batch_size, *seed);
        let (ranks, texts) = (self.learner.trainer.ranks().clone(), sequences(batch.iter().copied()));
        let lanes = Lanes::new(settings.optim.lanes).of(&ranks);
        let all = Pass {
            noise: rng::bits(*seed, streams::FINETUNE_DROPOUT, step),
            head_noise: rng::bits(*seed, streams::FINETUNE_HEAD_DROPOUT, step),
            first_row: 0,
            first_sequence: 0,
            each: 1.0 / batch.len() as f64,
            sequences: batch.iter().map(|example| example.sequences.len()).sum(),
        };
        let (mut sums, mut right) = (LaneSums::default(), 0);
        let (mut untold, mut by_logprobs) = (Untold::default(), Vec::new());
        for MicroBatch { lane, examples } in lanes.cut(lens(&texts), settings.optim.micro_batch_tokens) {
            let before = &texts[..examples.start];
            let first_row = lens(before).sum::<usize>() as u64;
            let first_sequence = before.iter().map(|example| example.len() as u64).sum();
            let pass = Pass { first_row, first_sequence, ..all };
            let rows = Rows::of(&texts, examples);
            let (losses, right_ones, by_logprob) = self.accumulate(&batch, &rows, &pass, lane);
            for piece in pieces(lane, &vec![1; losses.len()]) {
                sums.add(lane, [losses[piece].iter().sum()]);
            }
            right += right_ones;
            if !by_logprob.is_empty() {
                untold.push(lane, &rows.lens);
                by_logprobs.extend(by_logprob);
            }
        }
        // Forward, backward to the inputs, and backward to the weights cost alike.
        let passes = if settings.own.freeze_trunk { 2.0 / 3.0 } else { 1.0 };
        let tokens = lens(&texts).sum::<usize>() as u64;
        let flops = passes * training_flops(&self.learner.trainer, tokens, all.sequences);
        let (optimizer, lr) = (settings.optim.optimizer(), self.rate(step));
        let ([loss], right) = (sums.total(&ranks), ranks.count(right));
        let done = |mut logprobs: &[f64]| {
            let mut by = by_logprobs.iter();
            let share =
                |piece: &[f64]| [piece.iter().zip(by.by_ref()).map(|(logprob, by)| logprob * by).sum()];
            let [text_loss] = untold.sum(&ranks, &mut logprobs, share);
            let mut metrics = metrics([("loss", loss.into())]);
            if settings.own.aux_lm > 0.0 {
                metrics.insert("aux/loss".to_owned(), (text_loss / settings.own.aux_lm).into());
            }
            let mut columns = vec![format!("loss {loss:.4}")];
            if !examples.labels.are_degrees() {
                let accuracy = right as f64 / batch.len() as f64;
                metrics.insert("accuracy".to_owned(), accuracy.into());
                columns.push(format!("{:.0} % right", 100.0 * accuracy));
            }
            Step { metrics, columns, loss: Some(loss), tokens, flops, ..Step::default() }
        };
        Ok(self.learner.update(&optimizer, lr, Some(loss), done))
    }

    fn evaluate(&mut self, cancel: Cancel<'_>) -> Result<Evaluation> {
        Ok(self.measure(cancel)?.evaluation())
    }

    /// A few held-out texts and what they are told to be.
    fn samples(&mut self) -> Result<Vec<(String, String)>> {
        const SHOWN: usize = 3;
        let examples = self.options.examples;
        let held_out = &examples.held_out[..SHOWN.min(examples.held_out.len())];
        let told = self.outputs(held_out, Cancel::never())?;
        let shown = held_out.iter().zip(told).map(|(example, outputs)| {
            let text = question(self.learner.tokenizer, &example.sequences[0])?;
            let said = evaluate::said(&examples.labels, &outputs);
            Ok((text, format!("{said} (it is {})", evaluate::is(&examples.labels, example.wanted))))
        });
        shown.collect()
    }

    fn state(&mut self) -> &mut dyn State {
        &mut self.learner
    }

    fn save(&mut self, dir: &Path, about: About) -> Result<()> {
        let examples = self.options.examples;
        let task = Some(Task {
            form: examples.inputs.form.name().to_owned(),
            labels: examples.labels.names(),
            max_tokens: examples.inputs.max_tokens,
        });
        self.learner.save(dir, About { task, ..about })
    }

    fn begin(&mut self, progress: &dyn Progress, cancel: Cancel<'_>) -> Result<Option<Evaluation>> {
        let (train, held_out, cut) = self.options.examples.counts();
        let max_tokens = self.options.examples.inputs.max_tokens;
        let parameters = self.learner.trainer.config.parameters();
        progress
            .line(&format!("{parameters} parameters; {train} examples to learn from, {held_out} held out"));
        if cut > 0 {
            progress.line(&format!(
                "note: {cut} of them had more than {max_tokens} tokens, and were cut to as many (seq_len)"
            ));
        }
        self.evaluate(cancel).map(Some)
    }

    fn guessing(&self) -> Option<Guessing> {
        Some(self.options.examples.guessing())
    }
}
