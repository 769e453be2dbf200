//! A tensor of a file, and where in one of our arrays its values go.

use std::borrow::Cow;
use std::ops::Range;

use crate::model::Spec;

/// In which order a file keeps values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Row after row, `[d_out, d_in]`.
    Ours,
    /// `[d_in, d_out]`.
    Transposed,
    /// The rows `i` and `i + head_dim / 2` of a head, which the rotary embedding turns together, beside each
    /// other.
    Interleaved,
}

/// A tensor of a file, and what it holds.
pub(in super::super) struct Piece {
    /// Its name in the file.
    pub(in super::super) name: String,
    /// Its shape there.
    pub(in super::super) shape: Vec<usize>,
    /// The values of our array that it holds.
    pub(in super::super) values: Range<usize>,
    /// The order of its values there.
    pub(super) order: Order,
    /// Rows of a head.
    pub(super) head_dim: usize,
    /// Ours are theirs times this.
    pub(in super::super) factor: f32,
}

impl Piece {
    /// A tensor that is an array of ours as it is.
    pub(in super::super) fn whole(name: String, spec: &Spec) -> Self {
        Piece {
            name,
            shape: spec.shape.clone(),
            values: 0..spec.len(),
            order: Order::Ours,
            head_dim: 1,
            factor: 1.0,
        }
    }

    /// Whether an `f32` comes back as it was: division by a power of two loses nothing.
    pub(in super::super) fn is_exact(&self) -> bool {
        self.factor.to_bits().trailing_zeros() >= f32::MANTISSA_DIGITS - 1
    }

    /// Turns the file's values into ours.
    pub(in super::super) fn make_ours(&self, values: &mut [f32]) {
        match self.order {
            Order::Ours => {}
            Order::Transposed => values.copy_from_slice(&transpose(values, self.shape[0], self.shape[1])),
            Order::Interleaved => self.regroup_rows(values, self.width(), 2),
        }
        if self.factor != 1.0 {
            values.iter_mut().for_each(|value| *value *= self.factor);
        }
    }

    /// Whether our rows are the file's in some order.
    pub(in super::super) fn keeps_rows(&self) -> bool {
        self.factor == 1.0 && self.order != Order::Transposed
    }

    /// Brings the bytes of the file's rows, which are [kept](Self::keeps_rows), into our order.
    pub(in super::super) fn make_rows_ours(&self, rows: &mut [u8]) {
        if self.order == Order::Interleaved {
            self.regroup_rows(rows, rows.len() / self.shape[0], 2);
        }
    }

    /// Our values in the order of the file, not yet divided by the factor.
    pub(in super::super) fn in_file_order<'a>(&self, values: &'a [f32]) -> Cow<'a, [f32]> {
        match self.order {
            Order::Ours => Cow::Borrowed(values),
            Order::Transposed => Cow::Owned(transpose(values, self.shape[1], self.shape[0])),
            Order::Interleaved => {
                let mut values = values.to_vec();
                self.regroup_rows(&mut values, self.width(), self.head_dim / 2);
                Cow::Owned(values)
            }
        }
    }

    /// Values of a row.
    fn width(&self) -> usize {
        self.shape[1..].iter().product()
    }

    /// Within every head, brings together the rows, of `width` values, whose numbers have the same remainder by `stride`.
    fn regroup_rows<T: Copy + Default>(&self, values: &mut [T], width: usize, stride: usize) {
        let (rows, mut head) = (self.head_dim, vec![T::default(); self.head_dim * width]);
        for values in values.chunks_exact_mut(rows * width) {
            head.copy_from_slice(values);
            let from = (0..stride).flat_map(|first| (first..rows).step_by(stride));
            for (row, from) in values.chunks_exact_mut(width).zip(from) {
                row.copy_from_slice(&head[from * width..][..width]);
            }
        }
    }
}

/// `[rows, columns]` → `[columns, rows]`.
fn transpose(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    // Square tiles: one side of the copy would else touch a new cache line for every value.
    const TILE: usize = 16;
    let mut out = vec![0.0; values.len()];
    for row0 in (0..rows).step_by(TILE) {
        for column0 in (0..columns).step_by(TILE) {
            for row in row0..rows.min(row0 + TILE) {
                for column in column0..columns.min(column0 + TILE) {
                    out[column * rows + row] = values[row * columns + column];
                }
            }
        }
    }
    out
}
