//! Prompts and answers as rows of a model: the tokens of several episodes for one pass, and where their
//! answers stand.

use crate::model::{Noise, Sequences};
use kernels::NO_TARGET;

/// A prompt and its answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Episode {
    /// Prompt and answer, the token that ends the answer included where there is one.
    pub(super) tokens: Vec<u32>,
    /// Tokens of the prompt; at least one.
    pub(super) prompt_len: usize,
}

impl Episode {
    /// An episode of these tokens.
    pub(super) fn new(prompt: &[u32], answer: &[u32]) -> Self {
        assert!(!prompt.is_empty(), "an answer is predicted from a prompt");
        Episode { tokens: [prompt, answer].concat(), prompt_len: prompt.len() }
    }

    /// The tokens of the answer.
    pub(super) fn answer(&self) -> &[u32] {
        &self.tokens[self.prompt_len..]
    }

    /// Number of tokens of the answer.
    pub(super) fn answer_len(&self) -> usize {
        self.tokens.len() - self.prompt_len
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
            let (len, prompt_len) = (episode.tokens.len(), episode.prompt_len);
            rows.tokens.extend_from_slice(&episode.tokens);
            rows.lens.push(len);
            rows.targets.resize(first + prompt_len - 1, NO_TARGET);
            rows.targets.extend_from_slice(episode.answer());
            rows.targets.push(NO_TARGET);
            rows.before_tokens.extend((first + prompt_len - 1..first + len - 1).map(|row| row as u32));
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
}
