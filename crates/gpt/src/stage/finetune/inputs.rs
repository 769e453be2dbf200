//! Texts as a model reads them, each form of task as one or several sequences (Radford et al. 2018, §3.3 and
//! figure 1):
//!
//! ```text
//! classification    start text extract
//! entailment        start premise delimiter hypothesis extract
//! similarity        start a delimiter b extract   and   start b delimiter a extract, whose scores are added
//! multiple choice   start context delimiter answer extract, for every answer
//! ```
//!
//! Whole examples are the rows of a pass. The head reads the row of `extract`. It is linear, so that adding
//! the scores of both orders is adding what it reads.

use crate::data::Form;
use crate::model;
use crate::stage::lanes::passes;
use crate::tokenizer::Tokenizer;
use anyhow::{Context, Result, ensure};
use kernels::NO_TARGET;
use std::ops::Range;

/// The special tokens around texts, by name.
pub(super) const MARKS: [&str; 3] = ["<|start|>", "<|delimiter|>", "<|extract|>"];

/// How the texts of one form become sequences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Inputs {
    pub(super) form: Form,
    /// Tokens of a sequence at most.
    pub(super) max_tokens: usize,
    start: u32,
    delimiter: u32,
    extract: u32,
}

/// The sequences of one example.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sequences {
    pub(super) tokens: Vec<Vec<u32>>,
    /// Whether some text was too long and is not there to its end.
    pub(super) cut: bool,
}

impl Inputs {
    /// # Errors
    /// The tokenizer lacks a mark; there is no room for texts.
    pub(super) fn new(form: Form, max_tokens: usize, tokenizer: &Tokenizer) -> Result<Self> {
        let [start, delimiter, extract] = MARKS.map(|name| {
            tokenizer.special(name).with_context(|| format!("the tokenizer has no special token {name}"))
        });
        let inputs = Inputs { form, max_tokens, start: start?, delimiter: delimiter?, extract: extract? };
        ensure!(max_tokens >= 8, "{max_tokens} tokens leave no room for texts: seq_len must be at least 8");
        Ok(inputs)
    }

    /// The marks as tokens.
    pub(super) fn marks(&self) -> [u32; 3] {
        [self.start, self.delimiter, self.extract]
    }

    /// The sequences of these texts, of which there are as many as the form has.
    pub(super) fn of(&self, tokenizer: &Tokenizer, texts: &[String]) -> Sequences {
        let texts = tokenizer.encode_batch(texts);
        let mut made = Sequences::default();
        match (self.form, texts.as_slice()) {
            (Form::Classification, [text]) => self.push(&mut made, &[text]),
            (Form::Entailment, [premise, hypothesis]) => self.push(&mut made, &[premise, hypothesis]),
            (Form::Similarity, [a, b]) => {
                self.push(&mut made, &[a, b]);
                self.push(&mut made, &[b, a]);
            }
            (Form::MultipleChoice, [context, answers @ ..]) => {
                answers.iter().for_each(|answer| self.push(&mut made, &[context, answer]));
            }
            _ => panic!("{} texts are no example of {}", texts.len(), self.form),
        }
        made
    }

    /// One sequence of one or two texts, cut to the room there is.
    fn push(&self, made: &mut Sequences, texts: &[&[u32]]) {
        let room = self.max_tokens - texts.len() - 1;
        let lens: Vec<usize> = texts.iter().map(|text| text.len()).collect();
        let kept = match lens[..] {
            [len] => vec![len.min(room)],
            [first, second] => share(first, second, room).into(),
            _ => panic!("a sequence has one text or two"),
        };
        made.cut |= kept != lens;
        let mut tokens = vec![self.start];
        for (number, (text, kept)) in texts.iter().zip(kept).enumerate() {
            if number > 0 {
                tokens.push(self.delimiter);
            }
            // What all answers share ends with the question.
            let from_end = self.form == Form::MultipleChoice && number == 0;
            tokens.extend(if from_end { &text[text.len() - kept..] } else { &text[..kept] });
        }
        tokens.push(self.extract);
        made.tokens.push(tokens);
    }
}

/// Shares `room` between two texts of these lengths: half each, and what one does not need is the other's.
fn share(first: usize, second: usize, room: usize) -> [usize; 2] {
    let first_kept = first.min((room / 2).max(room.saturating_sub(second)));
    [first_kept, second.min(room - first_kept)]
}

/// The outputs of an example from the scores of its sequences `[sequences, n_label]`: one for each class, or
/// one for each answer.
pub(super) fn outputs(form: Form, scores: &[f32], n_label: usize) -> Vec<f64> {
    match form {
        Form::MultipleChoice => scores.iter().map(|&score| f64::from(score)).collect(),
        _ => {
            let mut sums = vec![0.0; n_label];
            for row in scores.chunks_exact(n_label) {
                sums.iter_mut().zip(row).for_each(|(sum, &score)| *sum += f64::from(score));
            }
            sums
        }
    }
}

/// The derivatives by scores from those by [`outputs`].
pub(super) fn spread(form: Form, by_output: &[f64], by_score: &mut [f32]) {
    let repeated = match form {
        Form::MultipleChoice => by_score.len(),
        _ => by_output.len(),
    };
    for row in by_score.chunks_exact_mut(repeated) {
        row.iter_mut().zip(by_output).for_each(|(out, &derivative)| *out = derivative as f32);
    }
}

/// The tokens of each example.
pub(super) fn lens(examples: &[&[Vec<u32>]]) -> impl Iterator<Item = usize> {
    examples.iter().map(|example| example.iter().map(Vec::len).sum())
}

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
        passes(lens(examples), most).into_iter().map(|run| Rows::of(examples, run)).collect()
    }

    /// Some of a list of examples, each as its sequences.
    pub(super) fn of(examples: &[&[Vec<u32>]], run: Range<usize>) -> Self {
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

    /// The derivatives of language modelling by each target's log-probability: of `weight` times the mean
    /// over a step's `sequences` of each one's mean.
    pub(super) fn text_derivatives(&self, weight: f64, sequences: usize) -> Vec<f64> {
        let mut derivatives = Vec::with_capacity(self.tokens.len());
        for &len in &self.lens {
            let each = -weight / (sequences * (len - 1)) as f64;
            derivatives.resize(derivatives.len() + len - 1, each);
            derivatives.push(0.0);
        }
        derivatives
    }

    /// The outputs of each example from the scores of its sequences.
    pub(super) fn outputs(&self, form: Form, scores: &[f32], n_label: usize) -> Vec<Vec<f64>> {
        self.places(n_label).map(|place| outputs(form, &scores[place], n_label)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Silent;

    #[test]
    fn room_is_shared() {
        assert_eq!(share(3, 4, 10), [3, 4]);
        assert_eq!(share(30, 4, 10), [6, 4]);
        assert_eq!(share(3, 40, 10), [3, 7]);
        assert_eq!(share(30, 40, 11), [5, 6]);
    }

    #[test]
    fn both_orders_are_added_and_answers_stand_beside_each_other() {
        let scores = [1.0, 2.0, 10.0, 20.0];
        assert_eq!(outputs(Form::Similarity, &scores, 2), [11.0, 22.0]);
        assert_eq!(outputs(Form::MultipleChoice, &scores, 1), [1.0, 2.0, 10.0, 20.0]);
        assert_eq!(outputs(Form::Entailment, &scores[..2], 2), [1.0, 2.0]);
        let mut by_score = [0.0; 4];
        spread(Form::Similarity, &[0.5, -0.5], &mut by_score);
        assert_eq!(by_score, [0.5, -0.5, 0.5, -0.5]);
        spread(Form::MultipleChoice, &[1.0, 2.0, 3.0, 4.0], &mut by_score);
        assert_eq!(by_score, [1.0, 2.0, 3.0, 4.0]);
    }

    fn of(form: Form, max_tokens: usize, texts: &[&str]) -> (Vec<String>, bool) {
        let documents = std::iter::once(Ok("ab".to_owned()));
        let tokenizer = Tokenizer::train(documents, 260, &MARKS.map(str::to_owned), &Silent).unwrap();
        let inputs = Inputs::new(form, max_tokens, &tokenizer).unwrap();
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        let Sequences { tokens, cut } = inputs.of(&tokenizer, &texts);
        (tokens.iter().map(|tokens| tokenizer.decode(tokens).unwrap()).collect(), cut)
    }

    #[test]
    fn texts_are_marked_and_cut() {
        let (made, cut) = of(Form::Classification, 8, &["abcdefgh"]);
        assert_eq!((made[0].as_str(), cut), ("<|start|>abcdef<|extract|>", true));
        let (made, cut) = of(Form::Similarity, 12, &["ab", "cd"]);
        assert_eq!(made[0], "<|start|>ab<|delimiter|>cd<|extract|>");
        assert_eq!(made[1], "<|start|>cd<|delimiter|>ab<|extract|>");
        assert!(!cut);
        let (made, cut) = of(Form::MultipleChoice, 9, &["a long question", "yes", "no"]);
        assert_eq!(made[0], "<|start|>ion<|delimiter|>yes<|extract|>");
        assert_eq!(made[1], "<|start|>tion<|delimiter|>no<|extract|>");
        assert!(cut, "the question stays, its beginning does not");
    }
}
