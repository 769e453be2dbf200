//! How long a pass may be.

use std::time::Duration;

/// Rows of a pass, at most.
pub(super) const MOST_ROWS: usize = 1024;
/// Rows of the first passes of an engine that has a time to keep, and of each at least: so few cost about as
/// much as one, since all weights are read for either, and a prompt that is read row by row takes a pass for each.
const FEWEST_ROWS: f64 = 16.0;

/// How many rows of prompts a pass may have, besides the tokens that sequences are continued by.
#[derive(Debug)]
pub(super) struct Budget {
    /// The time that a pass should take at most.
    limit: Option<Duration>,
    rows: f64,
}

impl Budget {
    /// So many, however long they take.
    pub(super) fn of_rows(rows: usize) -> Self {
        Budget { limit: None, rows: rows as f64 }
    }

    /// As many as are done within `limit`.
    pub(super) fn within(limit: Duration) -> Self {
        Budget { limit: Some(limit), rows: FEWEST_ROWS }
    }

    /// Rows of prompts in a pass where `decoding` sequences are continued: nobody waits for their next token
    /// more than twice as long as without them.
    pub(super) fn prompt_rows(&self, decoding: usize) -> usize {
        let rows = self.rows as usize;
        if self.limit.is_some() && decoding > 0 { (rows / 2).max(1) } else { rows.max(1) }
    }

    /// Learns from a pass that took `time`. Only one that was `full` says that more would have been possible.
    pub(super) fn learn(&mut self, time: Duration, full: bool) {
        let Some(limit) = self.limit else { return };
        let used = time.as_secs_f64() / limit.as_secs_f64();
        if used > 0.85 {
            self.rows *= 0.75 / used;
        } else if full && used < 0.6 {
            self.rows *= 1.5;
        }
        self.rows = self.rows.clamp(FEWEST_ROWS, MOST_ROWS as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_learns_how_many_rows_it_has_time_for() {
        let mut budget = Budget::within(Duration::from_millis(40));
        assert_eq!((budget.prompt_rows(0), budget.prompt_rows(1)), (16, 8));
        budget.learn(Duration::from_millis(10), false);
        assert_eq!(budget.prompt_rows(0), 16, "it could not have had more");
        budget.learn(Duration::from_millis(10), true);
        assert_eq!(budget.prompt_rows(0), 24);
        (0..3).for_each(|_| budget.learn(Duration::from_millis(10), true));
        assert_eq!(budget.prompt_rows(0), 81);
        budget.learn(Duration::from_millis(80), true);
        assert_eq!(budget.prompt_rows(0), 30, "three quarters of what fits");
        (0..9).for_each(|_| budget.learn(Duration::from_secs(9), false));
        assert_eq!((budget.prompt_rows(0), budget.prompt_rows(9)), (16, 8), "prompts get on all the same");
    }
}
