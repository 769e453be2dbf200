//! What a classifier makes of texts, and how good it is on labelled ones that it has not seen.

use super::examples::{Labels, Wanted};
use super::inputs::{Inputs, Rows};
use super::{Evaluation, Finetuning};
use crate::checkpoint::{Checkpoint, Task};
use crate::data::{Form, Labelled};
use crate::eval::{ClassFigures, Confusion, Interval, Rate, bootstrap};
use crate::model::{Config, Weights};
use crate::objective::probabilities;
use crate::progress::{Progress, Stopped, Unit};
use crate::stage::training_loop::Cancel;
use crate::tokenizer::Tokenizer;
use crate::train::Frozen;
use anyhow::{Context, Result, anyhow, bail, ensure};
use kernels::Backend;
use serde::Serialize;
use std::collections::BTreeMap;
use text::statistics::pearson;

/// Figures of a classifier on held-out texts. What the task does not have is none.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct TaskReport {
    /// Texts.
    pub n: usize,
    /// Mean loss of a text: of classes in nats, of degrees the squared error.
    pub loss: f64,
    /// Share that was told right, with Wilson's interval.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<Rate>,
    /// The mean of the classes' F1, with a bootstrap interval.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub macro_f1: Option<Interval>,
    /// Matthews' correlation coefficient, likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub matthews: Option<Interval>,
    /// Pearson's correlation of degrees, likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pearson: Option<Interval>,
    /// Each class by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub classes: BTreeMap<String, ClassFigures>,
    /// The names of the classes, and how often each was taken for which.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    /// Rows are what a text is, columns what it was told to be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confusion: Option<Confusion>,
}

impl TaskReport {
    /// Of what was wanted of each text and the model's outputs.
    pub(super) fn new(labels: &Labels, wanted: &[Wanted], outputs: &[Vec<f64>]) -> Self {
        let n = wanted.len();
        let losses = wanted.iter().zip(outputs).map(|(wanted, outputs)| wanted.loss(outputs).value);
        let loss = losses.sum::<f64>() / n.max(1) as f64;
        let right = wanted.iter().zip(outputs).filter(|(wanted, outputs)| wanted.is_met_by(outputs)).count();
        let mut report = TaskReport { n, loss, ..TaskReport::default() };
        match labels {
            Labels::Degree => {
                let pairs: Vec<(f64, f64)> = wanted
                    .iter()
                    .zip(outputs)
                    .map(|(wanted, outputs)| match *wanted {
                        Wanted::Degree(degree) => (degree, outputs[0]),
                        Wanted::Class(class) => (class as f64, outputs[0]),
                    })
                    .collect();
                report.pearson = Some(bootstrap(n, |drawn| {
                    let (a, b): (Vec<f64>, Vec<f64>) = drawn.iter().map(|&i| pairs[i]).unzip();
                    pearson(&a, &b)
                }));
            }
            Labels::Answers => report.accuracy = Some(Rate::wilson(right as u64, n as u64)),
            Labels::Classes(names) => {
                report.accuracy = Some(Rate::wilson(right as u64, n as u64));
                let pairs: Vec<(usize, usize)> = wanted
                    .iter()
                    .zip(outputs)
                    .filter_map(|(wanted, outputs)| match *wanted {
                        Wanted::Class(class) => Some((class, highest(outputs))),
                        Wanted::Degree(_) => None,
                    })
                    .collect();
                let drawn = |drawn: &[usize]| Confusion::of(names.len(), drawn.iter().map(|&i| pairs[i]));
                report.macro_f1 = Some(bootstrap(n, |items| drawn(items).macro_f1()));
                report.matthews = Some(bootstrap(n, |items| drawn(items).matthews()));
                let confusion = Confusion::of(names.len(), pairs.iter().copied());
                report.classes = names.iter().cloned().zip(confusion.classes()).collect();
                report.labels = names.clone();
                report.confusion = Some(confusion);
            }
        }
        report
    }

    /// What the training loop keeps of it.
    pub(super) fn evaluation(&self) -> Evaluation {
        let mut metrics = vec![("val_loss", self.loss)];
        let mut line = format!("loss {:.4}", self.loss);
        if let Some(accuracy) = &self.accuracy {
            metrics.push(("val_accuracy", accuracy.value));
            line += &format!(", {:.1} % right", 100.0 * accuracy.value);
        }
        let others =
            [("val_f1", self.macro_f1), ("val_matthews", self.matthews), ("val_pearson", self.pearson)];
        for (name, interval) in others {
            metrics.extend(interval.map(|interval| (name, interval.value)));
        }
        if let Some(pearson) = &self.pearson {
            line += &format!(", Pearson {:.3}", pearson.value);
        }
        Evaluation { metrics, line }
    }
}

impl Wanted {
    /// Whether the highest output is the one that was wanted; degrees are never met.
    pub(super) fn is_met_by(self, outputs: &[f64]) -> bool {
        matches!(self, Wanted::Class(class) if highest(outputs) == class)
    }
}

/// The first of the highest outputs.
pub(super) fn highest(outputs: &[f64]) -> usize {
    (0..outputs.len()).fold(0, |best, i| if outputs[i] > outputs[best] { i } else { best })
}

/// What a text was told to be, for people.
pub(super) fn said(labels: &Labels, outputs: &[f64]) -> String {
    let told = highest(outputs);
    let share = 100.0 * probabilities(outputs)[told];
    match labels {
        Labels::Degree => format!("{:.2}", outputs[0]),
        _ => format!("{}, {share:.0} %", is(labels, Wanted::Class(told))),
    }
}

/// What a text is, for people.
pub(super) fn is(labels: &Labels, wanted: Wanted) -> String {
    match (labels, wanted) {
        (_, Wanted::Degree(degree)) => degree.to_string(),
        (Labels::Classes(names), Wanted::Class(class)) => names[class].clone(),
        (_, Wanted::Class(class)) => format!("answer {class}"),
    }
}

impl<B: Backend> Finetuning<'_, B> {
    /// Measures the model as it is.
    pub(super) fn measure(&mut self, cancel: Cancel<'_>) -> Result<TaskReport> {
        let examples = self.options.examples;
        let outputs = self.outputs(&examples.held_out, cancel)?;
        let wanted: Vec<Wanted> = examples.held_out.iter().map(|example| example.wanted).collect();
        Ok(TaskReport::new(&examples.labels, &wanted, &outputs))
    }
}

/// Texts between two looks at whether to stop.
const AT_ONCE: usize = 256;

/// What was decided about one example.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// The name of the class, the index of the answer, or the degree.
    pub label: String,
    /// The probability of every class or answer by its name; of a degree, the degree.
    pub scores: Vec<(String, f64)>,
    /// Whether a text was cut.
    pub cut: bool,
}

/// What a model decides, as `mynah finetune` wrote it.
///
/// # Errors
/// It is no classifier of mynah's.
pub fn task_of(model: &Checkpoint) -> Result<(Form, Task)> {
    let task = model.manifest.as_ref().and_then(|manifest| manifest.about.task.clone());
    let task = task.with_context(|| {
        format!(
            "{} does not say which task it was taught: train one with `mynah finetune`",
            model.path.display()
        )
    })?;
    let form = task.form.parse().map_err(|error| anyhow!("the task {:?} is {error}", task.form))?;
    Ok((form, task))
}

/// Decides about examples of the form that the model was taught.
///
/// # Errors
/// The tokenizer lacks the marks; the model's outputs are not finite; somebody asked to stop.
pub fn classify<B: Backend>(
    b: &mut B,
    config: Config,
    weights: Weights<B::Tensor>,
    (form, task): &(Form, Task),
    tokenizer: &Tokenizer,
    examples: &[Labelled],
    progress: &dyn Progress,
) -> Result<Vec<Decision>> {
    let inputs = Inputs::new(*form, task.max_tokens, tokenizer)?;
    let n_label = config.n_label.context("a language model decides nothing: a classifier is needed")?;
    let mut model = Frozen::new(b, config, weights);
    let mut decisions = Vec::with_capacity(examples.len());
    progress.begin("classify", examples.len() as u64, Unit::Count);
    for some in examples.chunks(AT_ONCE) {
        if progress.should_stop() {
            bail!(Stopped("not everything was classified"));
        }
        let made: Vec<_> = some.iter().map(|example| inputs.of(tokenizer, &example.texts)).collect();
        let sequences: Vec<&[Vec<u32>]> = made.iter().map(|made| made.tokens.as_slice()).collect();
        for rows in Rows::passes(&sequences, model.config.pass_tokens()) {
            let scores = model.scores(b, rows.sequences(), &rows.extracts);
            for (made, outputs) in made[rows.run.clone()].iter().zip(rows.outputs(*form, scores, n_label)) {
                ensure!(
                    outputs.iter().all(|output| output.is_finite()),
                    "text {}: the classifier's outputs are not finite ({outputs:?}): its weights are, but what it computes from \
                     them overflows, so that it cannot be used",
                    decisions.len() + 1
                );
                decisions.push(Decision { cut: made.cut, ..decision(*form, task, &outputs) });
            }
        }
        progress.advance(some.len() as u64);
    }
    progress.end();
    Ok(decisions)
}

fn decision(form: Form, task: &Task, outputs: &[f64]) -> Decision {
    if form != Form::MultipleChoice && task.labels.is_empty() {
        let degree = outputs[0];
        return Decision { label: degree.to_string(), scores: vec![("score".into(), degree)], cut: false };
    }
    let name = |i: usize| task.labels.get(i).cloned().unwrap_or_else(|| i.to_string());
    let scores = probabilities(outputs).into_iter().enumerate().map(|(i, p)| (name(i), p)).collect();
    Decision { label: name(highest(outputs)), scores, cut: false }
}
