//! The order in which the examples of a data set are visited, epoch by epoch.

use super::Permutation;
use crate::streams::Streams;

/// `n` examples in epochs: each epoch visits all of them, in a random order of its own.
#[derive(Clone, Copy, Debug)]
pub struct Epochs {
    n: u64,
    seed: u64,
    orders: Streams,
}

impl Epochs {
    /// Epochs whose orders `seed` draws from `orders`, a stream for each.
    pub fn new(n: u64, seed: u64, orders: Streams) -> Self {
        Epochs { n, seed, orders }
    }

    /// What visit `number` is to, counted from 0 over all epochs.
    pub fn at(&self, number: u64) -> u64 {
        Permutation::new(self.n, self.seed, self.orders.at(number / self.n)).at(number % self.n)
    }

    /// The visits of step `step` (steps count from 1), `batch_size` of them.
    pub fn batch(self, step: u64, batch_size: usize) -> impl Iterator<Item = u64> {
        assert!(step > 0, "steps count from 1");
        let first = (step - 1) * batch_size as u64;
        (first..first + batch_size as u64).map(move |number| self.at(number))
    }

    /// The steps of `epochs` epochs with `batch_size` visits a step; the last step goes on into the next
    /// epoch.
    pub fn steps(&self, epochs: u64, batch_size: usize) -> u64 {
        (epochs * self.n).div_ceil(batch_size as u64)
    }
}
