//! Prompts and answers as rows of a model: the tokens of several episodes for one pass, and where their
//! answers stand. What tools returned within an answer is read like a prompt: of those tokens nothing is predicted, and
//! no list over an answer's tokens has them.

use crate::model::{Noise, Sequences};
use kernels::NO_TARGET;
use std::ops::Range;

/// A prompt and its answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Episode {
    /// Prompt and answer, the token that ends the answer included where there is one.
    pub(super) tokens: Vec<u32>,
    /// Tokens of the prompt; at least one.
    pub(super) prompt_len: usize,
    /// Where tokens after the prompt stand that the model was told in the middle of its answer.
    told: Vec<Range<usize>>,
}

impl Episode {
    /// An episode of these tokens.
    pub(super) fn new(prompt: &[u32], answer: &[u32]) -> Self {
        assert!(!prompt.is_empty(), "an answer is predicted from a prompt");
        Episode { tokens: [prompt, answer].concat(), prompt_len: prompt.len(), told: Vec::new() }
    }

    /// Goes on with tokens that the model does not draw.
    pub(super) fn tell(&mut self, tokens: &[u32]) {
        let start = self.tokens.len();
        self.tokens.extend(tokens);
        self.told.push(start..self.tokens.len());
    }

    /// The same episode with what was told within it, as [`told_flat`](Self::told_flat) gives it.
    pub(super) fn with_told(self, flat: &[u64]) -> Self {
        let told = flat.chunks(2).map(|range| range[0] as usize..range[1] as usize).collect();
        Episode { told, ..self }
    }

    /// Beginnings and ends of what was told.
    pub(super) fn told_flat(&self) -> Vec<u64> {
        self.told.iter().flat_map(|told| [told.start as u64, told.end as u64]).collect()
    }

    /// All tokens after the prompt.
    pub(super) fn answer(&self) -> &[u32] {
        &self.tokens[self.prompt_len..]
    }

    /// The last message of the answer: what comes after all that was told.
    pub(super) fn last_message(&self) -> &[u32] {
        &self.tokens[self.told.last().map_or(self.prompt_len, |told| told.end)..]
    }

    /// Number of tokens after the prompt.
    pub(super) fn after_prompt(&self) -> usize {
        self.tokens.len() - self.prompt_len
    }

    /// Number of the answer's tokens that the model drew.
    pub(super) fn answer_len(&self) -> usize {
        self.after_prompt() - self.told.iter().map(Range::len).sum::<usize>()
    }

    /// Where the tokens stand that the model drew.
    fn drawn(&self) -> impl Iterator<Item = usize> {
        let is_told = |at: &usize| self.told.iter().any(|told| told.contains(at));
        (self.prompt_len..self.tokens.len()).filter(move |at| !is_told(at))
    }
}

/// Episodes as the rows of a pass.
#[derive(Default)]
pub(super) struct Rows {
    tokens: Vec<u32>,
    lens: Vec<usize>,
    /// What each row predicts: the answers' tokens, nothing else.
    pub(super) targets: Vec<u32>,
    /// The rows that predict the answers' tokens: where a value is taken before each token.
    pub(super) before_tokens: Vec<u32>,
    /// The last row of every episode: where a reward model reads.
    pub(super) last: Vec<u32>,
}

impl Rows {
    /// The rows of `episodes`.
    pub(super) fn of<'a>(episodes: impl IntoIterator<Item = &'a Episode>) -> Self {
        let mut rows = Rows::default();
        for episode in episodes {
            let first = rows.tokens.len();
            let len = episode.tokens.len();
            rows.tokens.extend_from_slice(&episode.tokens);
            rows.lens.push(len);
            rows.targets.resize(first + len, NO_TARGET);
            for at in episode.drawn() {
                let row = first + at - 1;
                rows.targets[row] = episode.tokens[at];
                rows.before_tokens.push(row as u32);
            }
            rows.last.push((first + len - 1) as u32);
        }
        rows
    }

    /// For a pass without dropout.
    pub(super) fn sequences(&self) -> Sequences<'_> {
        Sequences { tokens: &self.tokens, lens: &self.lens, noise: None }
    }

    /// For a training pass with dropout, `first_row` rows of the step before it.
    pub(super) fn noised(&self, seed: u64, first_row: u64) -> Sequences<'_> {
        Sequences { noise: Some(Noise { seed, first_row }), ..self.sequences() }
    }

    /// The sum of a value over the answer's tokens, of each episode; `by_row` is 0 where nothing is predicted.
    pub(super) fn sums(&self, by_row: &[f64]) -> Vec<f64> {
        let mut rest = by_row;
        let sum = |&len: &usize| {
            let (of_one, others) = rest.split_at(len);
            rest = others;
            of_one.iter().sum()
        };
        self.lens.iter().map(sum).collect()
    }

    /// The values of the answers' tokens among those of all rows, in order.
    pub(super) fn of_answers(&self, by_row: &[f64]) -> Vec<f64> {
        self.before_tokens.iter().map(|&row| by_row[row as usize]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_predicted_from_the_row_before() {
        let episodes = [Episode::new(&[5, 6], &[7, 8]), Episode::new(&[9], &[4])];
        let rows = Rows::of(&episodes);
        assert_eq!(rows.tokens, [5, 6, 7, 8, 9, 4]);
        assert_eq!(rows.targets, [NO_TARGET, 7, 8, NO_TARGET, 4, NO_TARGET]);
        assert_eq!(rows.before_tokens, [1, 2, 4]);
        assert_eq!(rows.last, [3, 5]);
        assert_eq!(rows.of_answers(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]), [1.0, 2.0, 4.0]);
        assert_eq!(rows.sums(&[0.0, 1.0, 2.0, 0.0, 4.0, 0.0]), [3.0, 4.0]);
    }

    #[test]
    fn what_was_told_is_not_predicted() {
        let mut episode = Episode::new(&[5, 6], &[7, 1]);
        episode.tell(&[8, 8, 9]);
        episode.tokens.extend([4, 1]);
        let rows = Rows::of([&Episode::new(&[2], &[3]), &episode]);
        assert_eq!(rows.tokens, [2, 3, 5, 6, 7, 1, 8, 8, 9, 4, 1]);
        let no = NO_TARGET;
        assert_eq!(rows.targets, [3, no, no, 7, 1, no, no, no, 4, 1, no]);
        assert_eq!((&rows.before_tokens[..], &rows.last[..]), (&[0, 3, 4, 8, 9][..], &[1, 10][..]));
        assert_eq!(
            (episode.answer_len(), episode.after_prompt(), episode.last_message()),
            (4, 7, &[4, 1][..])
        );
        let copy = Episode::new(&[5, 6], episode.answer()).with_told(&episode.told_flat());
        assert_eq!(copy, episode);
    }
}
