//! `--max-bytes`: a uniform sample of documents drawn while they stream by, in fixed memory.
//!
//! A document's lot is a hash of the seed and its name. The sample is all documents whose lot lies below a
//! cut, and the cut only ever sinks: when the sample outgrows the budget, the highest lots leave it. So the
//! sample depends on neither order nor threads, and those that left are removed at the end. (Bottom-k
//! sampling: Cohen & Kaplan 2007.)

use std::sync::atomic::{AtomicU32, Ordering};

/// Lots are grouped, so that counting what each one weighs takes 8 MiB.
const LOTS: usize = 1 << 20;

/// Draws the sample.
pub(super) struct Sample {
    seed: u64,
    budget: u64,
    /// Lots from here on are out.
    cut: AtomicU32,
}

/// What the sample weighs, lot by lot.
pub(super) struct Weights {
    bytes_by_lot: Vec<u64>,
    total: u64,
}

impl Sample {
    pub(super) fn new(seed: u64, budget: Option<u64>) -> (Sample, Weights) {
        let lots = if budget.is_some() { LOTS } else { 0 };
        (
            Sample { seed, budget: budget.unwrap_or(u64::MAX), cut: AtomicU32::new(LOTS as u32) },
            Weights { bytes_by_lot: vec![0; lots], total: 0 },
        )
    }

    /// The lot of a document, by its `source`.
    pub(super) fn lot(&self, source: &str) -> u32 {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"sample").update(&self.seed.to_le_bytes()).update(source.as_bytes());
        let hash = hasher.finalize();
        let bytes = hash.as_bytes();
        u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) % LOTS as u32
    }

    /// Whether the sample is all there is.
    pub(super) fn is_everything(&self) -> bool {
        self.cut.load(Ordering::Relaxed) == LOTS as u32
    }

    /// Whether there is no budget at all.
    pub(super) fn is_unlimited(&self) -> bool {
        self.budget == u64::MAX
    }

    /// Whether a document is (still) in the sample. What is out once stays out.
    pub(super) fn holds(&self, source: &str) -> bool {
        self.is_everything() || self.lot(source) < self.cut.load(Ordering::Relaxed)
    }

    /// Takes a document in, and lowers the cut until the sample fits the budget.
    pub(super) fn take(&self, weights: &mut Weights, source: &str, bytes: u64) {
        if self.is_unlimited() {
            return;
        }
        weights.bytes_by_lot[self.lot(source) as usize] += bytes;
        weights.total += bytes;
        let mut cut = self.cut.load(Ordering::Relaxed);
        while weights.total > self.budget {
            cut -= 1;
            weights.total -= std::mem::take(&mut weights.bytes_by_lot[cut as usize]);
        }
        self.cut.store(cut, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_is_the_same_in_any_order_and_fills_the_budget() {
        let names: Vec<String> = (0..5000).map(|i| format!("file-{i}")).collect();
        let draw = |seed, names: &[String]| {
            let (sample, mut weights) = Sample::new(seed, Some(100_000));
            for name in names {
                if sample.holds(name) {
                    sample.take(&mut weights, name, 100);
                }
            }
            let mut kept: Vec<String> = names.iter().filter(|n| sample.holds(n)).cloned().collect();
            kept.sort();
            kept
        };
        let forward = draw(1, &names);
        assert_eq!(forward, draw(1, &names.iter().rev().cloned().collect::<Vec<_>>()));
        assert!((990..=1000).contains(&forward.len()), "{}", forward.len());
        let other = draw(2, &names);
        let common = other.iter().filter(|n| forward.contains(n)).count();
        assert!((120..280).contains(&common), "two seeds share a fifth by chance, not {common}");
        assert_eq!(Sample::new(1, None).0.lot("x"), Sample::new(1, Some(5)).0.lot("x"));
    }
}
