//! Key-token weighting: a sequence with more of the tokens that matter counts for more of the loss (Hugging
//! Face course, chapter 7.6, 2022, `keytoken_weighted_loss`). Which words are key tokens is not decided here.

/// Which tokens make a sequence count for more, and how much a sequence counts at all.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyTokens {
    /// Sorted, each once.
    ids: Vec<u32>,
    alpha: f64,
}

impl KeyTokens {
    /// The ids of key tokens, in any order and any number of times, and the factor `α` of every weight.
    pub fn new(mut ids: Vec<u32>, alpha: f64) -> Self {
        ids.sort_unstable();
        ids.dedup();
        KeyTokens { ids, alpha }
    }

    /// No key tokens and `α = 1`: every weight is exactly 1.
    pub fn none() -> Self {
        KeyTokens::new(Vec::new(), 1.0)
    }

    /// The weight of a sequence, `α (1 + n)`: `n` counts the key tokens among the tokens that the model
    /// reads. The loss of the step is the mean over its sequences of weight times mean loss.
    pub fn weight(&self, tokens: &[u32]) -> f64 {
        let key_tokens = tokens.iter().filter(|token| self.ids.binary_search(token).is_ok()).count();
        self.alpha * (1.0 + key_tokens as f64)
    }

    /// Multiplies the derivatives of each sequence of `seq_len` tokens by its weight.
    pub fn weigh(&self, derivatives: &mut [f64], tokens: &[u32], seq_len: usize) {
        assert_eq!(derivatives.len(), tokens.len(), "a derivative for each token");
        for (derivatives, tokens) in derivatives.chunks_mut(seq_len).zip(tokens.chunks(seq_len)) {
            let weight = self.weight(tokens);
            derivatives.iter_mut().for_each(|derivative| *derivative *= weight);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objective::{cross_entropy, cross_entropy_derivatives};
    use kernels::NO_TARGET;

    const SEQ_LEN: usize = 4;
    /// Chunks, as the course cuts them: the last token of each has no target.
    const TOKENS: [u32; 12] = [3, 7, 5, 7, 1, 2, 3, 4, 5, 1, 1, 2];
    const TARGETS: [u32; 12] = [7, 5, 7, NO_TARGET, 2, 3, 4, NO_TARGET, 1, 1, 2, NO_TARGET];
    const LOGPROBS: [f64; 12] = [
        -2.253296776023,
        -2.550825388658,
        -1.922869077689,
        0.0,
        -2.585287278849,
        -2.23495716269,
        -2.044027627471,
        0.0,
        -3.080317286459,
        -1.542183719278,
        -2.816556829239,
        0.0,
    ];

    fn loss(key_tokens: &KeyTokens, logprobs: &[f64]) -> f64 {
        let sequences = logprobs.chunks(SEQ_LEN).zip(TOKENS.chunks(SEQ_LEN));
        sequences.map(|(logprobs, tokens)| key_tokens.weight(tokens) * cross_entropy(logprobs, 9)).sum()
    }

    fn derivatives(key_tokens: &KeyTokens) -> Vec<f64> {
        let mut derivatives = Vec::new();
        cross_entropy_derivatives(&mut derivatives, &TARGETS, 9);
        key_tokens.weigh(&mut derivatives, &TOKENS, SEQ_LEN);
        derivatives
    }

    /// The course's function in PyTorch 2.15, in `f64`, with logits that give these log-probabilities.
    #[test]
    fn the_loss_and_its_derivatives_are_the_courses() {
        let key_tokens = KeyTokens::new(vec![7, 5, 7], 0.5);
        let weights: Vec<f64> = TOKENS.chunks(SEQ_LEN).map(|tokens| key_tokens.weight(tokens)).collect();
        assert_eq!(weights, [2.0, 0.5, 1.0]);
        assert!((loss(&key_tokens, &LOGPROBS) - 2.7027973726910997).abs() < 1e-11);
        let (two, half, one) = (-2.0 / 9.0, -0.5 / 9.0, -1.0 / 9.0);
        let expected = [two, two, two, 0.0, half, half, half, 0.0, one, one, one, 0.0];
        for (i, (derivative, expected)) in derivatives(&key_tokens).into_iter().zip(expected).enumerate() {
            assert!((derivative - expected).abs() < 1e-15, "{i}: {derivative} and {expected}");
            if TARGETS[i] != NO_TARGET {
                let moved = |by: f64| {
                    let mut logprobs = LOGPROBS;
                    logprobs[i] += by;
                    loss(&key_tokens, &logprobs)
                };
                let difference = (moved(1e-4) - moved(-1e-4)) / 2e-4;
                assert!((difference - derivative).abs() < 1e-9, "{i}: {derivative} and {difference}");
            }
        }
    }

    #[test]
    fn without_key_tokens_nothing_changes_by_a_bit() {
        let (none, mut plain) = (KeyTokens::none(), Vec::new());
        cross_entropy_derivatives(&mut plain, &TARGETS, 9);
        assert_eq!(derivatives(&none), plain);
        assert_eq!(none.weight(&TOKENS), 1.0);
    }
}
