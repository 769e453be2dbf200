//! What a classifier makes of texts.

use super::inputs::Inputs;
use super::judge::highest;
use super::rows::Rows;
use crate::checkpoint::{Checkpoint, Task};
use crate::data::{Form, Labelled};
use crate::model::{Config, Weights};
use crate::objective::probabilities;
use crate::progress::{Progress, Stopped, Unit};
use crate::tokenizer::Tokenizer;
use crate::train::Frozen;
use anyhow::{Context, Result, anyhow, bail, ensure};
use kernels::Backend;

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
