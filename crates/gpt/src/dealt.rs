//! Work that is dealt to the processes of a run thing by thing, in rounds: after each of them all processes have
//! the same, and have agreed on whether to go on.

use crate::progress::Stopped;
use anyhow::{Result, bail};
use ranks::Ranks;
use std::ops::Range;

/// Who hears of things what was made of them.
pub trait Listener<T> {
    /// What this rank has made of the next of its own things.
    fn hear(&mut self, made: T) -> Result<()>;

    /// A round of `count` things is over for this rank, with this `outcome`.
    ///
    /// # Errors
    /// That of any rank: all go on, or none does.
    fn end_round(&mut self, count: usize, outcome: Result<()>) -> Result<()>;
}

/// One process alone hears everything at once.
impl<T, F: FnMut(T) -> Result<()>> Listener<T> for F {
    fn hear(&mut self, made: T) -> Result<()> {
        self(made)
    }

    fn end_round(&mut self, _: usize, outcome: Result<()>) -> Result<()> {
        outcome
    }
}

/// The rounds of `things`, in each of which a rank has at most `each`.
pub(crate) fn rounds(
    things: Range<usize>,
    ranks: &Ranks,
    each: usize,
) -> impl Iterator<Item = Range<usize>> + use<> {
    let (end, step) = (things.end, each.max(1) * ranks.size());
    things.step_by(step).map(move |start| start..(start + step).min(end))
}

/// Those of a round that are this rank's.
pub(crate) fn own(round: &Range<usize>, ranks: &Ranks) -> impl Iterator<Item = usize> + use<> {
    let start = round.start;
    ranks.dealt(round.len()).map(move |at| start + at)
}

/// The outcome of a round.
///
/// # Errors
/// Some rank's; that somebody asked to stop, where a rank heard it.
pub fn agree<T>(ranks: &Ranks, outcome: Result<T>) -> Result<T> {
    let (stop, outcome) = match outcome {
        Err(error) if error.is::<Stopped>() => (Some(error), Ok(None)),
        outcome => (None, outcome.map(Some)),
    };
    let done = ranks.together(outcome)?;
    match (ranks.any(stop.is_some()), stop, done) {
        (false, None, Some(done)) => Ok(done),
        (_, Some(stop), _) => Err(stop),
        _ => bail!(Stopped("another process was asked to")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::anyhow;

    #[test]
    fn every_thing_is_in_one_round_and_one_ranks() {
        let dealt = ranks::threads(3, |ranks| {
            rounds(2..12, &ranks, 2).map(|round| own(&round, &ranks).collect::<Vec<_>>()).collect::<Vec<_>>()
        });
        assert_eq!(dealt[0], [vec![2, 5], vec![8, 11]]);
        assert_eq!(dealt[1], [vec![3, 6], vec![9]]);
        assert_eq!(dealt[2], [vec![4, 7], vec![10]]);
        assert_eq!(rounds(3..3, &Ranks::alone(), 4).count(), 0);
    }

    #[test]
    fn all_fail_of_what_one_does_and_stop_where_one_is_asked_to() {
        let outcomes = |fails: usize, stops: usize| {
            ranks::threads(3, |ranks| {
                let own = match ranks.rank() {
                    rank if rank == fails => Err(anyhow!("no room")),
                    rank if rank == stops => Err(Stopped("half is done").into()),
                    rank => Ok(rank),
                };
                agree(&ranks, own).map_err(|error| (error.is::<Stopped>(), error.to_string()))
            })
        };
        assert_eq!(outcomes(9, 9), [Ok(0), Ok(1), Ok(2)]);
        let failed = outcomes(1, 0);
        assert!(failed.iter().all(|outcome| matches!(outcome, Err((false, why)) if why.contains("no room"))));
        let stopped = outcomes(9, 2);
        assert!(stopped.iter().all(|outcome| matches!(outcome, Err((true, _)))), "{stopped:?}");
        assert_eq!(stopped[2], Err((true, "stopped: half is done".into())));
        assert!(agree(&Ranks::alone(), Ok(1)).is_ok());
    }
}
