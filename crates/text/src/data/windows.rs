//! The batches of pretraining.
//!
//! *Packed* tokens are a ring: the last document's end of text is followed by the first document. Epoch `e`
//! turns the ring by a random offset, cuts it into `⌊len / seq_len⌋` windows that do not overlap, and visits
//! them in a random order, so an epoch predicts every token once (but `len mod seq_len`, which the next
//! epoch's offset moves elsewhere) and no two epochs cut alike. *Chunks* are windows as they are, in a random
//! order.

use std::ops::Range;

use anyhow::{Result, ensure};
use kernels::{NO_TARGET, rng};

use super::shards::Tokens;
use super::{Overflow, Permutation, TokenShards};
use crate::corpus::Split;
use crate::streams;

/// Rows for the model: sequences one after the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// The ids, `seq_len` a sequence.
    pub tokens: Vec<u32>,
    /// What follows each token: the next id, or [`NO_TARGET`].
    pub targets: Vec<u32>,
    /// The lengths of the sequences.
    pub lens: Vec<usize>,
}

/// Some of the sequences of a [`Batch`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchPart<'a> {
    /// The ids.
    pub tokens: &'a [u32],
    /// What follows each token.
    pub targets: &'a [u32],
    /// The lengths of the sequences.
    pub lens: &'a [usize],
    /// The rows of the batch before these.
    pub first_row: usize,
}

impl Batch {
    /// How many tokens are predicted.
    pub fn predictions(&self) -> usize {
        self.targets.iter().filter(|&&target| target != NO_TARGET).count()
    }

    /// Some of its sequences, by their places.
    pub fn part(&self, sequences: Range<usize>) -> BatchPart<'_> {
        let first_row = self.lens[..sequences.start].iter().sum();
        let lens = &self.lens[sequences];
        let rows = first_row..first_row + lens.iter().sum::<usize>();
        BatchPart { tokens: &self.tokens[rows.clone()], targets: &self.targets[rows], lens, first_row }
    }

    /// The rows `rows` of the `sequences` of step `step` (steps count from 1) take the place of what is
    /// there; `push` appends the row of a number, counted from the run's first. Cutting a step into several
    /// calls gives the same rows.
    pub(super) fn fill(
        &mut self,
        step: u64,
        rows: Range<usize>,
        sequences: usize,
        mut push: impl FnMut(u64, &mut Batch) -> Result<()>,
    ) -> Result<()> {
        assert!(
            step > 0 && rows.end <= sequences,
            "steps count from 1, and rows {rows:?} lie within {sequences}"
        );
        self.clear();
        let first = (step - 1) * sequences as u64;
        rows.into_iter().try_for_each(|row| push(first + row as u64, self))
    }

    pub(super) fn clear(&mut self) {
        let Batch { tokens, targets, lens } = self;
        tokens.clear();
        targets.clear();
        lens.clear();
    }
}

/// Packed tokens as a ring, and how each turn of it is cut into windows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ring {
    len: u64,
    seq_len: u64,
    seed: u64,
}

impl Ring {
    /// A ring of `len` tokens for windows of `seq_len` inputs; the seed decides every turn's cut and order.
    pub(super) fn new(len: u64, seq_len: usize, seed: u64) -> Ring {
        Ring { len, seq_len: seq_len as u64, seed }
    }

    /// The windows of a turn; none where the ring is too short for the last target of one.
    pub(super) fn windows(&self) -> u64 {
        if self.len > self.seq_len { self.len / self.seq_len } else { 0 }
    }

    /// Where the `i`-th window of a turn begins.
    pub(super) fn start(&self, turn: u64, i: u64) -> u64 {
        let place =
            Permutation::new(self.windows(), self.seed, streams::WINDOWS.at(turn)).at(i) * self.seq_len;
        (rng::below(self.seed, streams::WINDOW_OFFSETS, turn, self.len) + place) % self.len
    }
}

/// Cuts training batches out of token shards: a batch is a function of the seed and the step.
pub struct Windows {
    tokens: Tokens,
    seq_len: usize,
    /// Windows of an epoch.
    per_epoch: u64,
    seed: u64,
    is_chunks: bool,
    window: Vec<u32>,
}

impl Windows {
    /// Windows of `seq_len` inputs over the training split.
    ///
    /// # Errors
    /// Too few tokens for one window; chunks of another length than `seq_len`.
    pub fn new(shards: &TokenShards, seq_len: usize, seed: u64) -> Result<Windows> {
        let tokens = shards.tokens(Split::Train).clone();
        let is_chunks = shards.meta().overflow == Overflow::Chunk;
        assert!(seq_len > 0, "a window has tokens");
        if is_chunks {
            shards.check_chunks(seq_len)?;
        }
        let need = seq_len as u64 + u64::from(!is_chunks);
        ensure!(
            tokens.len >= need,
            "the training split has {} tokens, one window of seq_len {seq_len} needs {need}: give more text, or a \
             smaller seq_len",
            tokens.len
        );
        let per_epoch = tokens.len / seq_len as u64;
        Ok(Windows { tokens, seq_len, per_epoch, seed, is_chunks, window: Vec::new() })
    }

    /// How many windows an epoch has.
    pub fn per_epoch(&self) -> u64 {
        self.per_epoch
    }

    /// How many tokens of a sequence are predicted: `seq_len`, or one less for chunks, whose last token has
    /// no next.
    pub fn predictions(&self) -> usize {
        self.seq_len - usize::from(self.is_chunks)
    }

    /// Rows `rows` of the `sequences` of step `step` (steps count from 1) into `batch`, whose memory is used
    /// again. Cutting a step into several calls gives the same rows.
    pub fn batch(
        &mut self,
        step: u64,
        rows: Range<usize>,
        sequences: usize,
        batch: &mut Batch,
    ) -> Result<()> {
        batch.fill(step, rows, sequences, |row, batch| self.push(row, batch))
    }

    /// Appends the window of this number, counted from the run's first, to `batch`.
    pub(super) fn push(&mut self, number: u64, batch: &mut Batch) -> Result<()> {
        self.window(number / self.per_epoch, number % self.per_epoch)?;
        let window = &self.window;
        batch.tokens.extend_from_slice(&window[..self.seq_len]);
        batch.targets.extend_from_slice(&window[1..]);
        if self.is_chunks {
            batch.targets.push(NO_TARGET);
        }
        batch.lens.push(self.seq_len);
        Ok(())
    }

    /// Reads the `i`-th window of an epoch: `seq_len + 1` tokens, or a chunk's `seq_len`.
    fn window(&mut self, epoch: u64, i: u64) -> Result<()> {
        self.window.clear();
        if self.is_chunks {
            let place = Permutation::new(self.per_epoch, self.seed, streams::WINDOWS.at(epoch)).at(i);
            return self.tokens.read(place * self.seq_len as u64, self.seq_len, &mut self.window);
        }
        let len = self.tokens.len;
        let start = Ring::new(len, self.seq_len, self.seed).start(epoch, i);
        let first = (self.seq_len as u64 + 1).min(len - start) as usize;
        self.tokens.read(start, first, &mut self.window)?;
        self.tokens.read(0, self.seq_len + 1 - first, &mut self.window)
    }
}
