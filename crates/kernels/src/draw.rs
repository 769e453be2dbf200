//! What a draw is: from a row of logits to a token, defined once, so that every backend draws the same.
//!
//! 1. A token's score is its logit plus what is [`added`](Draw::added); one that is not
//!    [`allowed`](Draw::allowed) has none.
//! 2. The *order* of tokens: higher scores first, ties by the lower id. Temperature 0 takes the first.
//! 3. A token's weight is an integer: `2⁴⁰ · exp((score - highest) / temperature)`, rounded ([`weight`]). Sums
//!    of integers do not depend on the order of addition, hence nor on how a backend walks a vocabulary.
//! 4. Of the order the first `top_k` are kept (Fan et al. 2018), and of these the shortest beginning that has
//!    `top_p` of their weight (Holtzman et al. 2020).
//! 5. A number below the weight that is kept is drawn, `rng::below(seed, stream, index, total)`. The token is
//!    the first of those kept, *by id*, at which the sum of weights exceeds it.

use crate::cpu::math::exp;
use std::cmp::Ordering;

/// The weight of the likeliest token.
pub(crate) const UNIT: u64 = 1 << 40;

/// How a token is drawn from a row of logits. See the [module](self) for what that is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Draw<'a> {
    /// Scores are divided by it; 0 takes the likeliest token.
    pub temperature: f32,
    /// Only the `k` likeliest tokens; 0 for all.
    pub top_k: usize,
    /// Only the likeliest tokens that have `p` of the probability; 1 for all.
    pub top_p: f32,
    /// Seed, stream and index of the random number.
    pub random: [u64; 3],
    /// Ids below it can be drawn.
    pub n_tokens: usize,
    /// What is added to the logits of some tokens. Ids are below `n_tokens`, no id stands twice.
    pub added: &'a [(u32, f32)],
    /// Bit `id % 32` of word `id / 32` says whether a token may be drawn; without it every token may.
    pub allowed: Option<&'a [u32]>,
}

/// What comes of a [`Draw`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Drawn {
    /// A token.
    Token(u32),
    /// None: no token is allowed.
    Nothing,
    /// None: a logit of the row is NaN or infinite.
    #[default]
    NotFinite,
}

/// What a row of logits says of a token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TokenLogprob {
    /// The natural logarithm of its probability.
    pub logprob: f64,
    /// Whether no token is more likely.
    pub is_best: bool,
}

/// `2⁴⁰ · eˣ` for `x ≤ 0`, rounded to an integer, where `eˣ` is a 32-bit float.
#[inline(always)]
pub fn weight(x: f32) -> u64 {
    /// Where the last bit of a 64-bit float is 1: adding it rounds to an integer, which is then in the low bits.
    const ROUND: f64 = (1u64 << 52) as f64;
    (f64::from(exp(x)) * UNIT as f64 + ROUND).to_bits() - ROUND.to_bits()
}

/// Whether no value is NaN or infinite.
#[inline(always)]
pub fn all_finite(values: &[f32]) -> bool {
    // The exponent of what is not finite is all ones: one more carries into the sign. Without an early end or
    // a branch, so that the loop becomes vectors and costs little beside reading the values.
    const EXPONENT: u32 = 0x7f80_0000;
    const ONE: u32 = 0x0080_0000;
    let carries = values.iter().fold(0, |carries, x| carries | ((x.to_bits() & EXPONENT) + ONE));
    carries >> 31 == 0
}

impl Draw<'_> {
    /// Panics in the name of `operation` unless the draw is one from rows of `vocab_size` logits.
    pub fn assert_fits(&self, vocab_size: usize) {
        let &Draw { n_tokens, added, allowed, .. } = self;
        assert!((1..=vocab_size).contains(&n_tokens), "draw: {n_tokens} tokens of {vocab_size}");
        assert!(
            added.iter().all(|&(id, _)| (id as usize) < n_tokens),
            "draw: something is added to no token"
        );
        let words = n_tokens.div_ceil(32);
        assert!(
            allowed.is_none_or(|allowed| allowed.len() >= words),
            "draw: fewer than {words} words of bits"
        );
    }

    /// Whether the token may be drawn.
    #[inline(always)]
    pub(crate) fn allows(&self, id: usize) -> bool {
        self.allowed.is_none_or(|allowed| allowed[id / 32] >> (id % 32) & 1 == 1)
    }

    /// What differences of scores are divided by: never infinite, so that what is forbidden weighs nothing.
    pub fn divisor(&self) -> f32 {
        self.temperature.min(f32::MAX)
    }

    /// The weight of every token in the draw from a row of finite `logits`, by id: 0 for those that it cannot
    /// take. At temperature 0 the first of the order has all. Divided by their sum, which is 0 where nothing is
    /// allowed, these are the probabilities of the draw. By sorting: it says what draws are, not how they are
    /// made fast.
    pub fn weights(&self, logits: &[f32]) -> Vec<u64> {
        let mut added = vec![0.0; self.n_tokens];
        self.added.iter().for_each(|&(id, more)| added[id as usize] = more);
        let allowed = (0..self.n_tokens).filter(|&id| self.allows(id));
        let mut kept: Vec<(f32, u32)> = allowed.map(|id| (score(logits[id], added[id]), id as u32)).collect();
        kept.sort_by(|&a, &b| order(a, b));
        let highest = kept.first().map_or(0.0, |first| first.0);
        kept.truncate(match self.top_k {
            _ if self.temperature <= 0.0 => 1,
            0 => usize::MAX,
            k => k,
        });
        let mut of_order: Vec<u64> =
            kept.iter().map(|&(score, _)| weight((score - highest) / self.divisor())).collect();
        if self.temperature <= 0.0 {
            of_order.fill(UNIT);
        } else if self.top_p < 1.0 && !of_order.is_empty() {
            let (enough, mut sum) = (self.weight_to_keep(of_order.iter().sum()), 0);
            for weight in &mut of_order {
                *weight = if sum < enough { *weight } else { 0 };
                sum += *weight;
            }
        }
        let mut weights = vec![0; self.n_tokens];
        kept.iter().zip(of_order).for_each(|(&(_, id), weight)| weights[id as usize] = weight);
        weights
    }

    /// The weight that the tokens have together which `top_p` keeps, of those that have `total`.
    pub(crate) fn weight_to_keep(&self, total: u64) -> u64 {
        ((f64::from(self.top_p) * total as f64).ceil() as u64).clamp(1, total)
    }
}

/// The order of two tokens with their scores, none of them NaN: the higher score first, ties by the lower id.
pub(crate) fn order((a_score, a): (f32, u32), (b_score, b): (f32, u32)) -> Ordering {
    b_score.partial_cmp(&a_score).unwrap_or(Ordering::Equal).then(a.cmp(&b))
}

/// The score of a token with this logit, to which `added` is added: never infinite.
#[inline(always)]
pub(crate) fn score(logit: f32, added: f32) -> f32 {
    (logit + added).clamp(f32::MIN, f32::MAX)
}

/// Panics in the name of `operation` unless `row` is among the rows of `vocab_size` logits in `len` values.
pub(crate) fn assert_row_exists(operation: &str, len: usize, row: usize, vocab_size: usize) {
    let rows = len.checked_div(vocab_size).unwrap_or(0);
    assert!(row < rows, "{operation}: row {row} of {rows}, of {vocab_size} logits each");
}

/// Panics in the name of `operation` unless logits of `len` values are `rows` rows of `vocab_size`.
pub(crate) fn assert_logits(operation: &str, len: usize, rows: usize, vocab_size: usize) {
    let expected = crate::shapes::size_of_shape(operation, &[rows, vocab_size]);
    assert_eq!(len, expected, "{operation}: {rows} rows of {vocab_size} logits");
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRAW: Draw<'_> = Draw {
        temperature: 1.0,
        top_k: 0,
        top_p: 1.0,
        random: [0; 3],
        n_tokens: 4,
        added: &[],
        allowed: None,
    };

    #[test]
    fn weights_are_the_probabilities_of_what_is_kept() {
        let logits = [0.1f32.ln(), 0.6f32.ln(), 0.25f32.ln(), 0.05f32.ln(), 9.0];
        for (draw, expected) in [
            (DRAW, [0.1, 0.6, 0.25, 0.05]),
            (Draw { temperature: 0.5, ..DRAW }, [0.01, 0.36, 0.0625, 0.0025].map(|p| p / 0.435)),
            (Draw { temperature: 0.0, ..DRAW }, [0.0, 1.0, 0.0, 0.0]),
            (Draw { top_k: 2, ..DRAW }, [0.0, 0.6 / 0.85, 0.25 / 0.85, 0.0]),
            (Draw { top_k: 9, ..DRAW }, [0.1, 0.6, 0.25, 0.05]),
            // What is drawn from is what reaches p: here of all, there of the first three alone.
            (Draw { top_p: 0.86, ..DRAW }, [0.1 / 0.95, 0.6 / 0.95, 0.25 / 0.95, 0.0]),
            (Draw { top_k: 3, top_p: 0.86, ..DRAW }, [0.0, 0.6 / 0.85, 0.25 / 0.85, 0.0]),
            (Draw { added: &[(3, 2.0f32.ln())], ..DRAW }, [0.1, 0.6, 0.25, 0.1].map(|p| p / 1.05)),
            (Draw { allowed: Some(&[0b1001]), ..DRAW }, [0.1 / 0.15, 0.0, 0.0, 0.05 / 0.15]),
        ] {
            let weights = draw.weights(&logits);
            let total: u64 = weights.iter().sum();
            for (weight, expected) in weights.iter().zip(expected) {
                let got = *weight as f64 / total as f64;
                assert!((got - expected).abs() < 1e-6, "{draw:?}: {weights:?}, {expected}");
                assert_eq!(*weight == 0, expected == 0.0, "{draw:?}: {weights:?}");
            }
        }
        assert_eq!(Draw { allowed: Some(&[0]), ..DRAW }.weights(&logits), [0; 4]);
    }

    #[test]
    fn ties_are_in_the_order_of_ids() {
        let of_two = Draw { top_k: 2, n_tokens: 3, ..DRAW };
        assert_eq!(of_two.weights(&[1.0; 3]), [UNIT, UNIT, 0]);
        assert_eq!(Draw { temperature: 0.0, ..of_two }.weights(&[0.0, 1.0, 1.0]), [0, UNIT, 0]);
    }
}
