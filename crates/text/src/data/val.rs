//! The fixed windows on which a model is validated.

use anyhow::{Context, Result, ensure};

use super::{Overflow, TokenShards};
use crate::corpus::Split;

/// A held-out window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValWindow {
    /// What the model reads.
    pub tokens: Vec<u32>,
    /// What follows each token.
    pub targets: Vec<u32>,
    /// Bytes of text that the targets stand for: what bits per byte divide by. An end of text stands for
    /// none.
    pub bytes: u64,
}

impl TokenShards {
    /// At most `count` windows, evenly spread over the validation split, always the same.
    ///
    /// Packed tokens: windows of `seq_len` targets begin at `numpy.linspace(0, len - seq_len - 2,
    /// count).astype(int)`. Chunks: evenly spread chunks, each `seq_len - 1` targets. A split too short for
    /// `count` different windows gives fewer.
    ///
    /// # Errors
    /// Too few tokens for one window; chunks of another length than `seq_len`.
    pub fn val_windows(&self, count: usize, seq_len: usize) -> Result<Vec<ValWindow>> {
        let len = self.len(Split::Val);
        let is_chunks = self.meta().overflow == Overflow::Chunk;
        let (stride, size, last) = if is_chunks {
            self.check_chunks(seq_len)?;
            let last = (len / seq_len as u64).checked_sub(1);
            (seq_len as u64, seq_len, last.with_context(|| too_few(len, seq_len))?)
        } else {
            (1, seq_len + 1, last_start(len, seq_len)?)
        };
        let window = |start: u64| {
            let mut tokens = Vec::new();
            self.read(Split::Val, start * stride, size, &mut tokens)?;
            Ok(tokens)
        };
        windows(last, count, window, |targets| self.text_bytes(targets))
    }

    pub(super) fn check_chunks(&self, seq_len: usize) -> Result<()> {
        let context = self.meta().context.unwrap_or(0);
        ensure!(
            context == seq_len,
            "the shards are chunks of {context} tokens, so seq_len must be {context}, not {seq_len}; or run \
             `mynah tokenize` with --context {seq_len} or --overflow pack"
        );
        Ok(())
    }
}

/// Where the last window of `seq_len` targets begins in `len` packed tokens.
pub(super) fn last_start(len: u64, seq_len: usize) -> Result<u64> {
    len.checked_sub(seq_len as u64 + 2).with_context(|| too_few(len, seq_len))
}

fn too_few(len: u64, seq_len: usize) -> String {
    format!(
        "the validation split has {len} tokens, too few for a window of seq_len {seq_len}: hold out more (--val-fraction), \
         or take a smaller seq_len"
    )
}

/// At most `count` different windows, their starts evenly spread over `0 ..= last`; `window` reads one,
/// `text_bytes` knows the bytes that targets stand for.
pub(super) fn windows(
    last: u64,
    count: usize,
    window: impl Fn(u64) -> Result<Vec<u32>>,
    text_bytes: impl Fn(&[u32]) -> u64,
) -> Result<Vec<ValWindow>> {
    let mut starts = linspace(last, count);
    starts.dedup();
    let cut = |start| {
        let mut tokens = window(start)?;
        let targets = tokens[1..].to_vec();
        tokens.pop();
        let bytes = text_bytes(&targets);
        Ok(ValWindow { tokens, targets, bytes })
    };
    starts.into_iter().map(cut).collect()
}

/// `numpy.linspace(0, last, count).astype(int)`, with its rounding.
fn linspace(last: u64, count: usize) -> Vec<u64> {
    if count == 1 {
        return vec![0];
    }
    let step = last as f64 / (count as f64 - 1.0);
    (0..count).map(|i| if i + 1 == count { last } else { (i as f64 * step) as u64 }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_begin_where_numpy_puts_them() {
        assert_eq!(linspace(10, 4), [0, 3, 6, 10]);
        assert_eq!(linspace(0, 3), [0, 0, 0]);
        assert_eq!(linspace(99, 1), [0]);
        assert!(linspace(5, 0).is_empty());
        // Exact arithmetic would give 51 and 102 here.
        let at = linspace(119, 50);
        assert_eq!((at[21], at[42], at[49]), (50, 101, 119));
    }
}
