//! Examples as rows of passes, and their outputs.

use super::super::episodes::passes;
use super::inputs::outputs;
use crate::data::Form;
use crate::model;
use kernels::NO_TARGET;
use std::ops::Range;

/// Several whole examples as the rows of a pass.
#[derive(Default)]
pub(super) struct Rows {
    /// Which examples of the list they are.
    pub(super) run: Range<usize>,
    pub(super) tokens: Vec<u32>,
    pub(super) lens: Vec<usize>,
    /// The token after each row; none after the last of a sequence.
    pub(super) targets: Vec<u32>,
    /// The rows that the head reads.
    pub(super) extracts: Vec<u32>,
    /// The number of sequences of each example.
    sequences: Vec<usize>,
}

impl Rows {
    /// Cuts a list of examples, each as its sequences, into passes of at most `most` tokens.
    pub(super) fn passes(examples: &[&[Vec<u32>]], most: usize) -> Vec<Rows> {
        let len = |example: &&[Vec<u32>]| example.iter().map(Vec::len).sum::<usize>();
        passes(examples.iter().map(len), most).into_iter().map(|run| Rows::of(examples, run)).collect()
    }

    fn of(examples: &[&[Vec<u32>]], run: Range<usize>) -> Self {
        let mut rows = Rows { run: run.clone(), ..Rows::default() };
        for example in &examples[run] {
            rows.sequences.push(example.len());
            for sequence in *example {
                rows.tokens.extend_from_slice(sequence);
                rows.lens.push(sequence.len());
                rows.targets.extend_from_slice(&sequence[1..]);
                rows.targets.push(NO_TARGET);
                rows.extracts.push((rows.tokens.len() - 1) as u32);
            }
        }
        rows
    }

    /// For a pass without dropout.
    pub(super) fn sequences(&self) -> model::Sequences<'_> {
        model::Sequences { tokens: &self.tokens, lens: &self.lens, noise: None }
    }

    /// Where the scores of each example stand, of which every sequence has `n_label`.
    pub(super) fn places(&self, n_label: usize) -> impl Iterator<Item = Range<usize>> {
        self.sequences.iter().scan(0, move |first, sequences| {
            let place = *first..*first + sequences * n_label;
            *first = place.end;
            Some(place)
        })
    }

    /// The outputs of each example from the scores of its sequences.
    pub(super) fn outputs(&self, form: Form, scores: &[f32], n_label: usize) -> Vec<Vec<f64>> {
        self.places(n_label).map(|place| outputs(form, &scores[place], n_label)).collect()
    }
}
