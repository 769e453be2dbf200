//! Several directories of token shards as one: each gives its share of every batch (Brown et al. 2020, table
//! 2.2: a share need not be the share of the tokens, so that good data is seen more often than plentiful
//! data).
//!
//! Which part row `n` of a run comes from, and the index of its window there, is a closed formula of `n`:
//! nothing is drawn or stored, and the shares hold in every stretch of rows to within one row.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};

use super::{Batch, TokenShards, ValWindow, Windows};
use crate::tokenizer::Tokenizer;

/// Token shards with their shares of a batch.
pub struct Mixture {
    parts: Vec<Part>,
}

/// One part of a mixture.
pub struct Part {
    /// The directory.
    pub path: PathBuf,
    /// Its share of the rows, from 0 to 1.
    pub share: f64,
    /// What is in it.
    pub shards: TokenShards,
}

/// How much of a part a run sees.
#[derive(Clone, Debug, PartialEq)]
pub struct Exposure {
    /// The directory.
    pub path: PathBuf,
    /// Its share of the rows.
    pub share: f64,
    /// How often each of its tokens is seen.
    pub epochs: f64,
}

impl Mixture {
    /// Opens directories with their weights, which are scaled to add up to 1.
    ///
    /// # Errors
    /// A directory cannot be opened; a weight is not positive; the parts were made with different tokenizers,
    /// or one is chunks and another is not; one directory is named twice.
    pub fn open(sources: &[(PathBuf, f64)]) -> Result<Mixture> {
        let total: f64 = sources.iter().map(|(_, weight)| weight).sum();
        let mut parts: Vec<Part> = Vec::with_capacity(sources.len());
        for (path, weight) in sources {
            let shown = path.display();
            ensure!(
                weight.is_finite() && *weight > 0.0,
                "the weight of {shown} is {weight}: it must be positive"
            );
            ensure!(parts.iter().all(|part| part.path != *path), "{shown} is named twice in the mixture");
            let part = Part { path: path.clone(), share: weight / total, shards: TokenShards::open(path)? };
            if let Some(first) = parts.first() {
                let first_path = first.path.display();
                ensure!(
                    part.shards.tokenizer().same_tokens(first.shards.tokenizer()),
                    "{shown} was made with another tokenizer than {first_path}: run `mynah tokenize` with the same one"
                );
                let (a, b) = (part.shards.meta().overflow, first.shards.meta().overflow);
                ensure!(
                    a == b,
                    "{shown} was made with --overflow {a:?} and {first_path} with {b:?}: make them alike"
                );
            }
            parts.push(part);
        }
        ensure!(!parts.is_empty(), "a mixture needs at least one directory of token shards");
        Ok(Mixture { parts })
    }

    /// The parts, in the order given.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// The tokenizer that made all parts.
    pub fn tokenizer(&self) -> &Arc<Tokenizer> {
        self.parts[0].shards.tokenizer()
    }

    /// Rows that the embedding of a model for this data needs.
    pub fn vocab_size(&self) -> usize {
        self.parts.iter().map(|part| part.shards.vocab_size()).max().unwrap_or(0)
    }

    /// What tells this data from other data: the digest of a single directory, else one over all and their
    /// shares.
    pub fn digest(&self) -> String {
        if let [only] = self.parts.as_slice() {
            return only.shards.digest().to_string();
        }
        let mut hasher = blake3::Hasher::new();
        for part in &self.parts {
            hasher.update(part.shards.digest().as_bytes()).update(&part.share.to_le_bytes());
        }
        hasher.finalize().to_hex().to_string()
    }

    /// At most `count` windows of the validation splits, each part's share of them, always the same.
    pub fn val_windows(&self, count: usize, seq_len: usize) -> Result<Vec<ValWindow>> {
        let mut windows = Vec::new();
        for part in &self.parts {
            let own = ((count as f64 * part.share).round() as usize).max(1);
            windows.extend(part.shards.val_windows(own, seq_len).with_context(|| shown(&part.path))?);
        }
        Ok(windows)
    }

    /// The training batches, as a function of the seed and the step.
    pub fn windows(&self, seq_len: usize, seed: u64) -> Result<MixedWindows> {
        let open = |part: &Part| {
            let windows = Windows::new(&part.shards, seq_len, seed).with_context(|| shown(&part.path))?;
            Ok((windows, part.share))
        };
        Ok(MixedWindows { parts: self.parts.iter().map(open).collect::<Result<_>>()? })
    }

    /// How often each part is seen in `rows` windows of `seq_len` tokens.
    pub fn exposure(&self, rows: u64, seq_len: usize) -> Vec<Exposure> {
        let epochs = |part: &Part| {
            let tokens = part.shards.meta().train.tokens.max(1) as f64;
            rows as f64 * part.share * seq_len as f64 / tokens
        };
        let exposure =
            |part: &Part| Exposure { path: part.path.clone(), share: part.share, epochs: epochs(part) };
        self.parts.iter().map(exposure).collect()
    }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// Training batches of a mixture.
pub struct MixedWindows {
    parts: Vec<(Windows, f64)>,
}

impl MixedWindows {
    /// How many tokens of a sequence are predicted.
    pub fn predictions(&self) -> usize {
        self.parts[0].0.predictions()
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
        let shares: Vec<f64> = self.parts.iter().map(|(_, share)| *share).collect();
        batch.fill(step, rows, sequences, |row, batch| {
            let (part, own) = place(row, &shares);
            self.parts[part].0.push(own, batch)
        })
    }
}

/// Which part row `number` comes from, and its number among the part's own rows.
///
/// The first part takes row `n` where `⌊(n + 1)·share⌋` is one more than `⌊n·share⌋`; what it leaves is
/// numbered anew and divided among the others in the same way.
fn place(mut number: u64, shares: &[f64]) -> (usize, u64) {
    let mut left = 1.0;
    for (part, share) in shares.iter().enumerate() {
        if part + 1 == shares.len() {
            break;
        }
        let share_of_left = (share / left).clamp(0.0, 1.0);
        let taken = |n: u64| (n as f64 * share_of_left) as u64;
        let own = taken(number);
        if taken(number + 1) > own {
            return (part, own);
        }
        number -= own;
        left -= share;
    }
    (shares.len() - 1, number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_hold_in_every_stretch_and_no_window_is_left_out() {
        for shares in [&[1.0][..], &[0.7, 0.3], &[0.6, 0.22, 0.08, 0.08, 0.02]] {
            let mut next = vec![0; shares.len()];
            for number in 0..10_000 {
                let (part, own) = place(number, shares);
                assert_eq!(own, next[part], "row {number}: the windows of a part come one after the other");
                next[part] += 1;
                for (&count, &share) in next.iter().zip(shares) {
                    let expected = (number + 1) as f64 * share;
                    assert!((count as f64 - expected).abs() <= shares.len() as f64, "row {number}: {next:?}");
                }
            }
        }
    }
}
