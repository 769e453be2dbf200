//! Matrix products on packed operands.

use super::aligned::Aligned;

/// The weight of a linear layer, laid out as the right factor of its product.
pub(super) struct PackedWeight {
    words: Aligned<u32>,
    d_in: usize,
    d_out: usize,
}

impl PackedWeight {
    /// Number of values of the matrix.
    pub(super) fn len(&self) -> usize {
        self.d_in * self.d_out
    }
}
