//! Logits that are no numbers: found where they become tokens or log-probabilities, and named.

use std::fmt;

/// A model's logits are NaN or infinite. Its weights were finite when they were read, so what it computes from them overflows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotFinite {
    /// Which of the sequences that were asked about.
    pub sequence: usize,
    /// Tokens of it that the model had read.
    pub tokens: usize,
}

impl NotFinite {
    /// Refuses logits, or what was computed from them, that are not all finite.
    pub(super) fn check(logits: &[f32], sequence: usize, tokens: usize) -> Result<(), Self> {
        // No early end, so that the loop becomes vectors.
        let finite = logits.iter().fold(true, |finite, logit| finite & logit.is_finite());
        if finite { Ok(()) } else { Err(NotFinite { sequence, tokens }) }
    }
}

impl fmt::Display for NotFinite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "after {} tokens the model's logits are not finite (NaN or infinite): its weights are finite, but what it computes \
             from them overflows, so that it cannot be used",
            self.tokens
        )
    }
}

impl std::error::Error for NotFinite {}
