//! What is left to chance: which item a rater gets, and in which order its answers stand. Chance is a function
//! of the store's secret, so that nobody can guess it and everybody with the store can repeat it.

use serde::{Deserialize, Serialize};

/// Why a rater was given an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// Each that was left was equally likely.
    Random,
    /// Reward models were far apart on it.
    Disagreement,
    /// The rater had ranked it before.
    Repeat,
    /// Its answers were given in the chat.
    Chat,
    /// A file says so.
    Import,
}

impl Rule {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Rule::Random => "random",
            Rule::Disagreement => "disagreement",
            Rule::Repeat => "repeat",
            Rule::Chat => "chat",
            Rule::Import => "import",
        }
    }

    pub(crate) fn of(name: &str) -> Option<Rule> {
        let all = [Rule::Random, Rule::Disagreement, Rule::Repeat, Rule::Chat, Rule::Import];
        all.into_iter().find(|rule| rule.name() == name)
    }
}

/// Random numbers that belong to a purpose.
pub(crate) struct Chance(blake3::OutputReader);

impl Chance {
    /// For what `purpose` names.
    pub(crate) fn new(secret: &[u8; 32], purpose: &str) -> Chance {
        Chance(blake3::Hasher::new_keyed(secret).update(purpose.as_bytes()).finalize_xof())
    }

    fn next(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// A number below `n`, each as likely as the others but for 1 in 2⁶⁴ / n.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next()) * n as u128) >> 64) as usize
    }

    /// The numbers below `n` in an order of which all are equally likely (Durstenfeld 1964).
    pub(crate) fn permutation(&mut self, n: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..n).collect();
        for i in (1..n).rev() {
            order.swap(i, self.below(i + 1));
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn every_order_is_as_likely_as_the_others() {
        let mut counts = BTreeMap::<Vec<usize>, f64>::new();
        for i in 0..10_000 {
            let order = Chance::new(&[7; 32], &format!("item {i}")).permutation(4);
            *counts.entry(order).or_default() += 1.0;
        }
        let expected = 10_000.0 / 24.0;
        let chi2: f64 = counts.values().map(|n| (n - expected) * (n - expected) / expected).sum();
        assert_eq!(counts.len(), 24);
        // The 99th percentile of chi-squared with 23 degrees of freedom.
        assert!(chi2 < 41.64, "{chi2}");
    }

    #[test]
    fn another_secret_is_another_order() {
        let orders = [1, 2].map(|secret| Chance::new(&[secret; 32], "x").permutation(9));
        assert_ne!(orders[0], orders[1]);
    }
}
