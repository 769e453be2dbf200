//! Rows of a file to learn from and rows to measure with, as a model reads them.

use crate::data::{Epochs, is_held_out};
use crate::streams::Streams;
use crate::train::run::Input;
use anyhow::Result;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Both sides. `T` is what a row becomes.
#[derive(Clone, Debug)]
pub(super) struct Sides<T> {
    pub(super) train: Vec<T>,
    pub(super) held_out: Vec<T>,
    /// Rows that do not fit the context and are on neither side.
    pub(super) too_long: usize,
    /// Tells these rows from others.
    pub(super) digest: String,
    source: Option<PathBuf>,
}

impl<T> Sides<T> {
    /// About `fraction` of the prompts is held out, unless `held_out` has some; which, the prompts themselves decide, so
    /// that rows of one prompt stay together. `read` gives the tokens of a row's prompt, with its number from 1, and what
    /// the row becomes; none where that does not fit the context.
    ///
    /// # Errors
    /// Those of `read`.
    pub(super) fn new<R: Serialize>(
        train: &[R],
        held_out: &[R],
        fraction: f64,
        read: impl Fn(usize, &R) -> Result<(Vec<u32>, Option<T>)>,
    ) -> Result<Self> {
        let mut hasher = blake3::Hasher::new();
        let (mut learned, mut measured, mut too_long) = (Vec::new(), Vec::new(), 0);
        let splits = held_out.is_empty();
        let all = train.iter().map(|row| (row, false)).chain(held_out.iter().map(|row| (row, true)));
        for (number, (row, given)) in (1..).zip(all) {
            let (prompt, Some(it)) = read(number, row)? else {
                too_long += 1;
                continue;
            };
            let bytes: Vec<u8> = prompt.iter().flat_map(|token| token.to_le_bytes()).collect();
            hasher.update(&serde_json::to_vec(row)?);
            let side =
                if given || splits && is_held_out(&bytes, fraction) { &mut measured } else { &mut learned };
            side.push(it);
        }
        let digest = hasher.finalize().to_hex().to_string();
        Ok(Sides { train: learned, held_out: measured, too_long, digest, source: None })
    }

    /// The same, read from this file: where a run's recipe looks for them.
    pub(super) fn read_from(self, path: &Path) -> Self {
        Sides { source: Some(path.to_owned()), ..self }
    }

    /// The rows as what a run reads; they are called `name` where they are from no file.
    pub(super) fn input(&self, name: &str) -> Input {
        Input::new(self.source.as_deref().unwrap_or(Path::new(name)), self.digest.clone())
    }

    /// How many there are to learn from, and how many are held out.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.train.len(), self.held_out.len())
    }

    /// The order in which they are visited.
    pub(super) fn epochs(&self, seed: u64, stream: Streams) -> Epochs {
        Epochs::new(self.train.len() as u64, seed, stream)
    }

    /// The rows of a step, counted from 1.
    pub(super) fn batch(&self, step: u64, batch_size: usize, epochs: &Epochs) -> Vec<&T> {
        epochs.batch(step, batch_size).map(|i| &self.train[i as usize]).collect()
    }
}
