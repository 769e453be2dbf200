//! Giving up what can be done again, when somebody asks to stop.

use crate::progress::{Progress, Stopped};
use ranks::Ranks;
use std::ops::ControlFlow;

/// Whether work that changes nothing, such as an evaluation or a rollout, is to be given up because somebody asked to stop.
#[derive(Clone, Copy)]
pub(in crate::stage) struct Cancel<'p>(Option<&'p dyn Progress>);

impl<'p> Cancel<'p> {
    /// When `progress` says so. Processes that train together go on to the end of what they began: they exchange what
    /// they find, and would first have to agree.
    pub(in crate::stage) fn by(progress: &'p dyn Progress, ranks: &Ranks) -> Self {
        Cancel((ranks.size() == 1).then_some(progress))
    }

    /// Never.
    pub(in crate::stage) fn never() -> Self {
        Cancel(None)
    }

    /// # Errors
    /// [`Stopped`], if it is to be given up.
    pub(in crate::stage) fn check(self) -> Result<(), Stopped> {
        match self.0.is_some_and(Progress::should_stop) {
            true => Err(Stopped("what was being measured is measured anew by the same command")),
            false => Ok(()),
        }
    }

    /// The same for work that asks whether to go on; [`check`](Self::check) comes after it.
    pub(in crate::stage) fn flow(self) -> ControlFlow<()> {
        match self.check() {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    }
}
