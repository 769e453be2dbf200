//! What the rows of one pass share with those of the other passes of their step.

use super::rows::Rows;

/// One pass of a step.
pub(super) struct Pass {
    pub(super) noise: u64,
    pub(super) head_noise: u64,
    pub(super) first_row: u64,
    pub(super) first_sequence: u64,
    /// An example's share of the step.
    pub(super) each: f64,
    pub(super) aux_lm: f64,
    /// Sequences of the whole step.
    pub(super) sequences: usize,
}

impl Pass {
    /// λ L₁'s derivatives: the mean over the step's sequences of each one's mean.
    pub(super) fn text_derivatives(&self, rows: &Rows) -> Vec<f64> {
        let mut derivatives = Vec::with_capacity(rows.tokens.len());
        for &len in &rows.lens {
            let each = -self.aux_lm / (self.sequences * (len - 1)) as f64;
            derivatives.resize(derivatives.len() + len - 1, each);
            derivatives.push(0.0);
        }
        derivatives
    }
}
