//! A part of a stream that is in memory at once: its windows are trained on in a random order.

use serde::{Deserialize, Serialize};

use crate::corpus::StreamPosition;
use crate::data::Batch;
use crate::data::windows::Ring;

/// Which block it is, where its documents begin, and what is in it: what a run notes in order to go on there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// The block's number, from 0.
    pub block: u64,
    /// The number of its first window among those of the run.
    pub row: u64,
    /// The epoch, from 0.
    pub epoch: u64,
    /// Where in the epoch it begins.
    #[serde(flatten)]
    pub place: StreamPosition,
    /// How many windows it has.
    pub windows: u64,
    /// BLAKE3 of its tokens, in hexadecimal: files that changed before a run was resumed are found out.
    pub blake3: String,
}

/// A block in memory.
pub(super) struct Block {
    pub(super) mark: Mark,
    tokens: Vec<u32>,
    ring: Ring,
    /// Where the next one begins: epoch and place.
    pub(super) next: (u64, StreamPosition),
}

/// Where a block is to begin.
#[derive(Clone, Copy)]
pub(super) struct Begin {
    pub(super) block: u64,
    pub(super) row: u64,
    pub(super) epoch: u64,
    pub(super) place: StreamPosition,
}

impl Block {
    /// A block of these tokens, which are cut into windows of `seq_len` inputs as `ring` says.
    pub(super) fn new(begin: Begin, tokens: Vec<u32>, ring: Ring, next: (u64, StreamPosition)) -> Block {
        let Begin { block, row, epoch, place } = begin;
        let blake3 = blake3::hash(bytemuck::cast_slice(&tokens)).to_hex().to_string();
        Block { mark: Mark { block, row, epoch, place, windows: ring.windows(), blake3 }, tokens, ring, next }
    }

    /// Whether row `row` of the run is one of its windows.
    pub(super) fn has(&self, row: u64) -> bool {
        (self.mark.row..self.mark.row + self.mark.windows).contains(&row)
    }

    /// Where the block after it is to begin.
    pub(super) fn end(&self) -> Begin {
        let Mark { block, row, windows, .. } = self.mark;
        let (epoch, place) = self.next;
        Begin { block: block + 1, row: row + windows, epoch, place }
    }

    /// Appends the window that row `row` of the run is.
    pub(super) fn push(&self, row: u64, seq_len: usize, batch: &mut Batch) {
        let start = self.ring.start(self.mark.block, row - self.mark.row) as usize;
        let ring = self.tokens[start..].iter().chain(&self.tokens);
        batch.tokens.extend(ring.clone().take(seq_len));
        batch.targets.extend(ring.skip(1).take(seq_len));
        batch.lens.push(seq_len);
    }

    /// Its memory, to be filled anew.
    pub(super) fn into_tokens(self) -> Vec<u32> {
        self.tokens
    }
}
