//! Logits that are no numbers: found where they become tokens or log-probabilities, and named.

use kernels::all_finite;
use std::fmt;

/// A model's logits are NaN or infinite. Its weights were finite when they were read, so what it computes
/// from them overflows.
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
        if all_finite(logits) { Ok(()) } else { Err(NotFinite { sequence, tokens }) }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_that_is_none_is_found() {
        let sound = [0.0, -0.0, f32::MAX, f32::MIN, f32::MIN_POSITIVE, 1e-45, -1e-45, 1.0, f32::EPSILON];
        assert!(all_finite(&sound) && all_finite(&[]));
        for bad in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::from_bits(0x7f80_0001)] {
            for at in [0, 7, 8, 63] {
                let mut values = sound.repeat(8);
                values[at] = bad;
                assert!(!all_finite(&values), "{bad} at {at}");
            }
        }
    }
}
