//! Which documents are held out: a function of the seed and of the text, so that the same text is always on
//! the same side.

use kernels::rng;

use super::Options;
use super::dedup::Key;
use crate::streams;

/// Which part of a corpus.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Split {
    /// To learn from.
    Train,
    /// To validate on.
    Val,
}

impl Split {
    /// How its files' names begin.
    pub fn name(self) -> &'static str {
        match self {
            Split::Train => "train",
            Split::Val => "val",
        }
    }
}

impl Options {
    /// A document's place in `0 .. 2⁶⁴`: what lies below the threshold validates.
    pub(super) fn place(&self, key: Key) -> u64 {
        rng::bits(self.seed, streams::CORPUS_SPLIT, key as u64)
    }

    /// The threshold that holds out `val_fraction`.
    pub(super) fn threshold(&self) -> u64 {
        (self.val_fraction * 2f64.powi(64)) as u64
    }

    pub(super) fn split(&self, key: Key, threshold: u64) -> Split {
        if self.place(key) < threshold { Split::Val } else { Split::Train }
    }
}
