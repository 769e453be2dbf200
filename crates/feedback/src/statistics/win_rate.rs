//! Which of two models people prefer, and how sure that is.

use serde::Serialize;
use text::statistics::wilson;

/// How far the interval shall reach to either side.
const REACH: f64 = 0.05;

/// How often one model's answer is preferred to another's. A tie is half a win for each, as AlpacaEval and MT-Bench count it;
/// votes that all are bad say nothing.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct WinRate {
    /// Votes for the one.
    pub wins: u64,
    /// Votes for neither.
    pub ties: u64,
    /// Votes for the other.
    pub losses: u64,
    /// Wins and half of the ties, of all votes.
    pub value: f64,
    /// The lower end of its interval of 95 % (Wilson's).
    pub low: f64,
    /// The upper end.
    pub high: f64,
    /// How many more votes bring the interval to ± 5 %, if the share stays what it is.
    pub missing: u64,
}

impl WinRate {
    /// Of so many votes.
    pub fn of(wins: u64, ties: u64, losses: u64) -> WinRate {
        let n = (wins + ties + losses) as f64;
        let hits = wins as f64 + 0.5 * ties as f64;
        let value = if n > 0.0 { hits / n } else { 0.5 };
        let (low, high) = wilson(hits, n);
        let reach = |more: u64| {
            let n = n + more as f64;
            let (low, high) = wilson(value * n, n);
            (high - low) / 2.0
        };
        // At one half, where it takes most, 381 are enough.
        let missing = (0..=381).find(|&more| reach(more) <= REACH).unwrap_or(381);
        WinRate { wins, ties, losses, value, low, high, missing }
    }

    /// The same from the other model's side.
    pub fn turned(self) -> WinRate {
        WinRate::of(self.losses, self.ties, self.wins)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tie_is_half_a_win() {
        let rate = WinRate::of(6, 4, 2);
        assert!((rate.value - 8.0 / 12.0).abs() < 1e-12);
        assert_eq!((rate.low, rate.high), wilson(8.0, 12.0));
        let turned = rate.turned();
        assert_eq!((turned.wins, turned.losses, turned.missing), (2, 6, rate.missing));
        assert!((turned.low - (1.0 - rate.high)).abs() < 1e-12);
    }

    #[test]
    fn as_many_votes_are_missing_as_the_interval_needs() {
        // At one half it reaches z / (2 √(n + z²)): 0.05 from n = 380.3 on.
        assert_eq!((WinRate::of(0, 0, 0).missing, WinRate::of(50, 0, 50).missing), (381, 281));
        assert_eq!((WinRate::of(190, 0, 190).missing, WinRate::of(190, 1, 190).missing), (1, 0));
        assert!(WinRate::of(90, 0, 10).missing < 60, "a share near 1 is known sooner");
        let rate = WinRate::of(30, 0, 10);
        let n = |more: u64| (40 + more) as f64;
        let reach = |more| (wilson(0.75 * n(more), n(more)).1 - wilson(0.75 * n(more), n(more)).0) / 2.0;
        assert!(reach(rate.missing) <= 0.05 && reach(rate.missing - 1) > 0.05);
    }
}
