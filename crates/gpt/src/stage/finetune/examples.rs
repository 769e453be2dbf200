//! Labelled texts as a model learns from them.

use super::inputs::{Inputs, MARKS, Sequences};
use crate::data::{Form, Label, Labelled, Permutation};
use crate::stage::Init;
use crate::train::run::Input;
use anyhow::{Context, Result, bail, ensure};
use std::cmp::Ordering;
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

    /// Makes sequences of at most `max_tokens` tokens, by default the context of the model, of texts of this form.
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
        let tokenizer = init.tokenizer().with_context(|| format!("{} has no tokenizer", init.name()))?;
        let context = init.model().config.seq_len;
        let max_tokens = max_tokens.unwrap_or(context);
        ensure!(max_tokens <= context, "seq_len = {max_tokens} is beyond the model's context of {context}");
        let inputs = Inputs::new(form, max_tokens, tokenizer)?;
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

    /// The steps of `epochs` epochs.
    pub(super) fn steps(&self, epochs: u64, batch_size: usize) -> u64 {
        (epochs * self.train.len() as u64).div_ceil(batch_size as u64)
    }

    /// The examples of a step, counted from 1: an epoch visits all in a random order.
    pub(super) fn batch(&self, step: u64, batch_size: usize, seed: u64) -> Vec<&Example> {
        const ORDER: u64 = 0x4c41_4245 << 32;
        let n = self.train.len() as u64;
        let first = (step - 1) * batch_size as u64;
        let example =
            |number: u64| &self.train[Permutation::new(n, seed, ORDER + number / n).at(number % n) as usize];
        (first..first + batch_size as u64).map(example).collect()
    }
}

impl Labels {
    /// What the labels of these lines are.
    fn of(form: Form, lines: &[Labelled]) -> Result<Self> {
        if form == Form::MultipleChoice {
            return Ok(Labels::Answers);
        }
        let labels = || lines.iter().filter_map(|line| line.label.as_ref());
        let has_fraction = |label: &Label| matches!(label, Label::Number(number) if number.fract() != 0.0);
        if form == Form::Similarity && labels().any(has_fraction) {
            return Ok(Labels::Degree);
        }
        let mut classes: Vec<&Label> = labels().collect();
        classes.sort_by(|a, b| match (a, b) {
            (Label::Number(a), Label::Number(b)) => a.total_cmp(b),
            (Label::Class(a), Label::Class(b)) => a.cmp(b),
            (Label::Number(_), Label::Class(_)) => Ordering::Less,
            (Label::Class(_), Label::Number(_)) => Ordering::Greater,
        });
        let mut names: Vec<String> = classes.into_iter().map(ToString::to_string).collect();
        names.dedup();
        ensure!(names.len() >= 2, "all labels are {:?}: there is nothing to tell apart", names.first());
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
            (Labels::Degree, Label::Number(degree)) => Ok(Wanted::Degree(*degree)),
            (Labels::Classes(names), label) => {
                let name = label.to_string();
                let index = names.iter().position(|known| *known == name);
                index.map(Wanted::Class).with_context(|| {
                    format!("the label {name:?} is not among those to learn from: {}", names.join(", "))
                })
            }
            (_, Label::Class(name)) => bail!("the label {name:?} is not a number, but others are"),
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
