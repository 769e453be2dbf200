//! Answers that are called good or bad, as a model reads them.

use super::episodes::Episode;
use super::sides::Sides;
use crate::data::{Epochs, Judged, Prompter};
use crate::progress::Progress;
use crate::streams;
use crate::tokenizer::Tokenizer;
use crate::train::run::Input;
use anyhow::{Context, Result, ensure};
use std::path::Path;

/// A prompt with its answer, and whether that is good.
#[derive(Clone, Debug)]
pub(super) struct Labelled {
    pub(super) episode: Episode,
    pub(super) is_good: bool,
}

/// Answers to learn from and answers to measure with.
#[derive(Clone, Debug)]
pub struct Judgements {
    pub(super) sides: Sides<Labelled>,
    /// Tokens that a model reads at once.
    pub(super) context: usize,
}

impl Judgements {
    /// The same, read from this file: where a run's recipe looks for them.
    pub fn read_from(self, path: &Path) -> Self {
        Judgements { sides: self.sides.read_from(path), ..self }
    }

    /// The answers as what a run reads.
    pub(super) fn input(&self) -> Input {
        self.sides.input("data")
    }

    /// Makes tokens of judged answers. About `fraction` of the prompts is held out with all their answers, unless
    /// `held_out` has some. An answer that does not fit the `context` is left out, and `progress` hears of it.
    ///
    /// # Errors
    /// A prompt cannot be rendered; fewer than two are left on one of the two sides: each answer is put beside the prompt
    /// of another one.
    pub fn new(
        train: &[Judged],
        held_out: &[Judged],
        fraction: f64,
        prompter: &Prompter<&Tokenizer>,
        context: usize,
        progress: &dyn Progress,
    ) -> Result<Self> {
        let sides = Sides::new(train, held_out, fraction, |number, judged: &Judged| {
            let prompt = prompter
                .prompt_with(&judged.messages, judged.tools.as_ref())
                .with_context(|| format!("the prompt of answer {number}"))?;
            let episode = Episode::new(&prompt, &prompter.answer(&judged.completion));
            let fits = episode.tokens.len() <= context;
            Ok((prompt, fits.then_some(Labelled { episode, is_good: judged.label })))
        })?;
        let too_long = sides.too_long;
        if too_long > 0 {
            progress.line(&format!(
                "{too_long} answers do not fit the context of {context} tokens with their prompts and are left out"
            ));
        }
        let (to_learn, to_measure) = sides.counts();
        ensure!(
            to_learn >= 2 && to_measure >= 2,
            "{to_learn} answers to learn from and {to_measure} to measure with, of {} that there are, {too_long} of them too long for \
             the context of {context} tokens: two of each are needed; give more rows, or some with --val",
            train.len() + held_out.len()
        );
        Ok(Judgements { sides, context })
    }

    /// How many there are to learn from, and how many are held out.
    pub fn counts(&self) -> (usize, usize) {
        self.sides.counts()
    }

    /// Good and bad ones to learn from.
    pub(super) fn labels(&self) -> (usize, usize) {
        let good = self.sides.train.iter().filter(|labelled| labelled.is_good).count();
        (good, self.sides.train.len() - good)
    }

    /// The order in which they are visited.
    pub(super) fn epochs(&self, seed: u64) -> Epochs {
        self.sides.epochs(seed, streams::JUDGED)
    }

    /// The answers of a step, counted from 1.
    pub(super) fn batch(&self, step: u64, batch_size: usize, seed: u64) -> Vec<&Labelled> {
        self.sides.batch(step, batch_size, &self.epochs(seed))
    }
}

/// Every prompt of a batch with the answer of another: that of the last one before it, of the first the last one, that has
/// another prompt; where all have the same, the neighbour's. Where both together are longer than the context, the prompt
/// loses its first tokens.
pub(super) fn mismatched(batch: &[&Labelled], context: usize) -> Vec<Episode> {
    let prompt = |at: usize| &batch[at].episode.tokens[..batch[at].episode.prompt_len];
    let n = batch.len();
    let beside = |at: usize| {
        let before = |back: usize| (at + n - back) % n;
        let other = (1..n).map(before).find(|other| prompt(*other) != prompt(at));
        let answer = batch[other.unwrap_or(before(1))].episode.answer();
        let kept = prompt(at).len().min(context - answer.len());
        Episode::new(&prompt(at)[prompt(at).len() - kept..], answer)
    };
    (0..n).map(beside).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labelled(prompt: &[u32], answer: &[u32]) -> Labelled {
        Labelled { episode: Episode::new(prompt, answer), is_good: true }
    }

    fn pairs(all: &[Labelled], context: usize) -> Vec<(Vec<u32>, Vec<u32>)> {
        let found = mismatched(&all.iter().collect::<Vec<_>>(), context);
        found.iter().map(|it| (it.tokens[..it.prompt_len].to_vec(), it.answer().to_vec())).collect()
    }

    #[test]
    fn each_prompt_has_the_answer_of_the_one_before() {
        let all = [labelled(&[1], &[11]), labelled(&[2], &[12, 13]), labelled(&[3], &[14])];
        assert_eq!(pairs(&all, 8), [(vec![1], vec![14]), (vec![2], vec![11]), (vec![3], vec![12, 13])]);
    }

    /// As where a file has several answers to each prompt, one after another.
    #[test]
    fn an_answer_to_the_same_prompt_is_passed_over() {
        let all =
            [labelled(&[1], &[11]), labelled(&[1], &[12]), labelled(&[2], &[13]), labelled(&[2], &[14])];
        let answers: Vec<u32> = pairs(&all, 8).iter().map(|(_, answer)| answer[0]).collect();
        assert_eq!(answers, [14, 14, 12, 12]);
        let same = [labelled(&[1], &[11]), labelled(&[1], &[12])];
        assert_eq!(pairs(&same, 8), [(vec![1], vec![12]), (vec![1], vec![11])], "there is no other");
    }

    #[test]
    fn a_prompt_that_is_too_long_for_its_answer_loses_its_beginning() {
        let all = [labelled(&[1, 2, 3, 4], &[11]), labelled(&[5], &[12, 13, 14])];
        assert_eq!(pairs(&all, 5), [(vec![3, 4], vec![12, 13, 14]), (vec![5], vec![11])]);
    }
}
