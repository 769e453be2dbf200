//! The tensors of a kind of file, by name, and which rows of which of our arrays each of them holds.

use std::ops::Range;

use super::piece::{Order, Piece};
use crate::model::{Config, Spec};

/// The tensors that files of a kind have.
pub(in super::super) struct Names {
    /// Those that are learned, in lists so that several kinds may share some.
    pub(in super::super) tensors: &'static [&'static [Tensor]],
    /// Those that carry nothing learned, to be ignored.
    pub(in super::super) buffers: &'static [&'static str],
    /// Whether scores are divided by √head_dim. Where they are not, our queries are √head_dim times the
    /// file's.
    pub(in super::super) scales_attention: bool,
}

/// A tensor of a file and what it holds; `{}` stands for the number of the block.
pub(in super::super) struct Tensor {
    /// The name in [`specs`](crate::model::specs) of the array that it is part of.
    ours: &'static str,
    /// Its own name.
    theirs: &'static str,
    /// The part.
    rows: Rows,
    /// The order of its values.
    order: Order,
}

/// The rows of our array that a tensor holds.
#[derive(Clone, Copy, PartialEq)]
pub(in super::super) enum Rows {
    All,
    Queries,
    Keys,
    Values,
    Gate,
    Up,
}

/// A tensor that is a whole array of ours.
pub(in super::super) const fn whole(ours: &'static str, theirs: &'static str) -> Tensor {
    Tensor { ours, theirs, rows: Rows::All, order: Order::Ours }
}

/// A tensor that is some rows of an array of ours.
pub(in super::super) const fn part(ours: &'static str, theirs: &'static str, rows: Rows) -> Tensor {
    Tensor { ours, theirs, rows, order: Order::Ours }
}

/// A `Conv1D`, which keeps `[d_in, d_out]`.
pub(super) const fn conv1d(ours: &'static str, theirs: &'static str) -> Tensor {
    Tensor { ours, theirs, rows: Rows::All, order: Order::Transposed }
}

/// Some rows of an array of ours whose heads keep the two values of every rotated pair beside each other.
pub(in super::super) const fn interleaved(ours: &'static str, theirs: &'static str, rows: Rows) -> Tensor {
    Tensor { ours, theirs, rows, order: Order::Interleaved }
}

impl Names {
    /// The tensors of a file that together are the array `spec`.
    pub(in super::super) fn pieces(&self, config: &Config, spec: &Spec) -> Vec<Piece> {
        let (pattern, block) = generalise(&spec.name);
        let width: usize = spec.shape[1..].iter().product();
        let mut covered = 0;
        let pieces = self.tensors.iter().copied().flatten().filter(|tensor| tensor.ours == pattern);
        let pieces = pieces.map(|tensor| {
            let rows = tensor.rows.range(config, spec.shape[0]);
            covered += rows.len();
            let mut shape = [&[rows.len()], &spec.shape[1..]].concat();
            if tensor.order == Order::Transposed {
                shape.reverse();
            }
            let unscaled = tensor.rows == Rows::Queries && !self.scales_attention;
            Piece {
                name: tensor.theirs.replace("{}", block),
                shape,
                values: rows.start * width..rows.end * width,
                order: tensor.order,
                head_dim: config.head_dim,
                factor: if unscaled { (config.head_dim as f32).sqrt() } else { 1.0 },
            }
        });
        let pieces = pieces.collect();
        assert_eq!(covered, spec.shape[0], "the table of names lacks rows of {}", spec.name);
        pieces
    }

    /// The tensor that is all of an array outside of the blocks.
    pub(in super::super) fn of(&self, ours: &str) -> &'static str {
        let tensor = self.tensors.iter().copied().flatten().find(|tensor| tensor.ours == ours);
        tensor.map(|tensor| tensor.theirs).unwrap_or_else(|| panic!("the table of names lacks {ours}"))
    }

    /// Whether a tensor is kept as `[d_in, d_out]`.
    pub(super) fn keeps_conv1d(&self) -> bool {
        self.tensors.iter().copied().flatten().any(|tensor| tensor.order == Order::Transposed)
    }

    /// Whether the tensor of this name carries nothing learned.
    pub(in super::super) fn is_buffer(&self, name: &str) -> bool {
        self.buffers.contains(&generalise(name).0.as_str())
    }
}

impl Rows {
    /// Which rows they are of the `all` that our array has.
    fn range(self, config: &Config, all: usize) -> Range<usize> {
        let (q, kv, ff) = (config.q_width(), config.kv_width(), config.d_ff);
        match self {
            Rows::All => 0..all,
            Rows::Queries => 0..q,
            Rows::Keys => q..q + kv,
            Rows::Values => q + kv..q + 2 * kv,
            Rows::Gate => 0..ff,
            Rows::Up => ff..2 * ff,
        }
    }
}

/// `blocks.7.qkv.weight` → `blocks.{}.qkv.weight` and `7`.
fn generalise(name: &str) -> (String, &str) {
    let is_number = |part: &&str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let Some(block) = name.split('.').find(is_number) else {
        return (name.to_owned(), "");
    };
    let parts: Vec<&str> = name.split('.').map(|part| if part == block { "{}" } else { part }).collect();
    (parts.join("."), block)
}
