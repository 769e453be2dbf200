//! Labelled texts as a model learns from them.

use super::inputs::{Inputs, MARKS, Sequences};
use crate::data::{Epochs, Form, Label, Labelled};
use crate::objective::{ClassLoss, class_loss, squared_error};
use crate::stage::Init;
use crate::stage::training_loop::Guessing;
use crate::streams;
use crate::train::run::Input;
use anyhow::{Context, Result, bail, ensure};
use std::path::{Path, PathBuf};

/// More classes than this are no classes.
const MAX_CLASSES: usize = 1000;

/// What is to be learned of an example.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Wanted {
    /// The index of a class, or of an answer.
    Class(usize),
    /// A number.
    Degree(f64),
}

impl Wanted {
    /// The loss of a model's outputs, and its derivatives by them.
    pub(super) fn loss(self, outputs: &[f64]) -> ClassLoss {
        match self {
            Wanted::Class(class) => class_loss(outputs, class),
            Wanted::Degree(degree) => squared_error(outputs[0], degree),
        }
    }
}

/// What the labels of a file are.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Labels {
    /// One of these.
    Classes(Vec<String>),
    /// One of the answers of its line.
    Answers,
    /// A number.
    Degree,
}

/// An example as sequences.
#[derive(Clone, Debug)]
pub(super) struct Example {
    pub(super) sequences: Vec<Vec<u32>>,
    pub(super) wanted: Wanted,
}

/// Labelled texts to learn from and to measure with.
#[derive(Clone, Debug)]
pub struct Examples {
    pub(super) inputs: Inputs,
    pub(super) labels: Labels,
    pub(super) train: Vec<Example>,
    pub(super) held_out: Vec<Example>,
    /// Examples of which a text was too long.
    pub(super) cut: usize,
    digest: String,
    source: Option<PathBuf>,
}

impl Examples {
    /// The same, read from this file: where a run's recipe looks for them.
    pub fn read_from(self, path: &Path) -> Self {
        Examples { source: Some(path.to_owned()), ..self }
    }

    /// The examples as what a run reads.
    pub(super) fn input(&self) -> Input {
        Input::new(self.source.as_deref().unwrap_or(Path::new("examples")), self.digest.clone())
    }

    /// Makes sequences of at most `max_tokens` tokens, by default the context of the model, of texts of this
    /// form.
    ///
    /// # Errors
    /// Classes are missing, too many, or met only in the held-out texts; the model has no tokenizer.
    pub fn new(
        form: Form,
        train: &[Labelled],
        held_out: &[Labelled],
        init: &Init,
        max_tokens: Option<usize>,
    ) -> Result<Self> {
        let tokenizer = init.needed_tokenizer()?;
        let context = init.model().config.seq_len;
        let max_tokens = max_tokens.unwrap_or(context);
        ensure!(max_tokens <= context, "seq_len = {max_tokens} is beyond the model's context of {context}");
        let inputs = Inputs::new(form, max_tokens, tokenizer)?;
        ensure!(
            !train.is_empty(),
            "there is no labelled text to learn from: give more, or those to measure with by --val"
        );
        let labels = Labels::of(form, train)?;
        let mut hasher = blake3::Hasher::new();
        let mut cut = 0;
        let mut made = |lines: &[Labelled]| -> Result<Vec<Example>> {
            hasher.update(&(lines.len() as u64).to_le_bytes());
            let one = |line: &Labelled| {
                hasher.update(&serde_json::to_vec(line)?);
                let Sequences { tokens: sequences, cut: is_cut } = inputs.of(tokenizer, &line.texts);
                cut += usize::from(is_cut);
                let label = line.label.as_ref().context("a line has no label")?;
                Ok(Example { sequences, wanted: labels.wanted(label)? })
            };
            lines.iter().map(one).collect()
        };
        let (train, held_out) = (made(train)?, made(held_out)?);
        ensure!(!held_out.is_empty(), "there is no labelled text to measure with: give some with --val");
        let digest = hasher.finalize().to_hex().to_string();
        Ok(Examples { inputs, labels, train, held_out, cut, digest, source: None })
    }

    /// The special tokens that the model has to know.
    pub fn marks() -> Vec<String> {
        MARKS.map(str::to_owned).to_vec()
    }

    /// How many there are to learn from, how many are held out, and of how many a text was cut.
    pub fn counts(&self) -> (usize, usize, usize) {
        (self.train.len(), self.held_out.len(), self.cut)
    }

    /// Tells these examples from others.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The order in which they are visited.
    pub(super) fn epochs(&self, seed: u64) -> Epochs {
        Epochs::new(self.train.len() as u64, seed, streams::EXAMPLES)
    }

    /// What guessing costs: among the classes, among the answers of the line that has the most, or of 0 as
    /// the degree.
    pub(super) fn guessing(&self) -> Guessing {
        let most = self.train.iter().map(|example| example.sequences.len()).max().unwrap_or(1);
        match &self.labels {
            Labels::Classes(names) => Guessing::Nats((names.len() as f64).ln()),
            Labels::Answers => Guessing::Nats((most as f64).ln()),
            Labels::Degree => {
                let square = |example: &Example| match example.wanted {
                    Wanted::Degree(degree) => degree * degree,
                    Wanted::Class(_) => 0.0,
                };
                let squares: f64 = self.train.iter().map(square).sum();
                Guessing::Squares(squares / self.train.len().max(1) as f64)
            }
        }
    }

    /// The examples of a step, counted from 1.
    pub(super) fn batch(&self, step: u64, batch_size: usize, seed: u64) -> Vec<&Example> {
        self.epochs(seed).batch(step, batch_size).map(|i| &self.train[i as usize]).collect()
    }
}

impl Labels {
    /// What the labels of these lines are.
    fn of(form: Form, lines: &[Labelled]) -> Result<Self> {
        if form == Form::MultipleChoice {
            return Ok(Labels::Answers);
        }
        let labels = || lines.iter().filter_map(|line| line.label.as_ref());
        let has_fraction = |label: &Label| label.degree().is_some_and(|number| number.fract() != 0.0);
        if form == Form::Similarity && labels().any(has_fraction) {
            return Ok(Labels::Degree);
        }
        let mut numbers: Vec<String> =
            labels().filter(|label| matches!(label, Label::Number(_))).map(ToString::to_string).collect();
        numbers.sort_unstable();
        numbers.dedup();
        // A text that is one of the numbers is that number.
        let name =
            |label: &Label| label.among(&numbers).map_or_else(|| label.to_string(), |at| numbers[at].clone());
        let mut names: Vec<String> = labels().map(name).collect();
        let order = |name: &String| Label::Class(name.clone()).printed().unwrap_or(f64::INFINITY);
        names.sort_by(|a, b| order(a).total_cmp(&order(b)).then_with(|| a.cmp(b)));
        names.dedup();
        match names.as_slice() {
            [] => bail!("no text to learn from has a label"),
            [one] => bail!(
                "all labels to learn from are {one}: there is nothing to tell apart; give texts of two classes at least"
            ),
            _ => {}
        }
        ensure!(
            names.len() <= MAX_CLASSES,
            "{} different labels are more than classes can be; are they numbers or texts?",
            names.len()
        );
        Ok(Labels::Classes(names))
    }

    /// # Errors
    /// The label is none of the classes.
    fn wanted(&self, label: &Label) -> Result<Wanted> {
        match (self, label) {
            (Labels::Answers, Label::Number(index)) => Ok(Wanted::Class(*index as usize)),
            (Labels::Degree, label) => {
                let degree = label.degree().map(Wanted::Degree);
                degree.with_context(|| format!("the label {label} is not a number, but others are"))
            }
            (Labels::Classes(names), label) => label.among(names).map(Wanted::Class).with_context(|| {
                format!("the label {label} is not among those to learn from: {}", names.join(", "))
            }),
            (Labels::Answers, Label::Class(name)) => {
                bail!("the label {name:?} is not the index of an answer")
            }
        }
    }

    /// Scores of the head.
    pub(super) fn n_label(&self) -> usize {
        match self {
            Labels::Classes(names) => names.len(),
            Labels::Answers | Labels::Degree => 1,
        }
    }

    /// Whether they are numbers, which are not right or wrong.
    pub(super) fn are_degrees(&self) -> bool {
        *self == Labels::Degree
    }

    /// A name for each score; none where a score has none.
    pub(super) fn names(&self) -> Vec<String> {
        match self {
            Labels::Classes(names) => names.clone(),
            Labels::Answers | Labels::Degree => Vec::new(),
        }
    }
}
