//! Processes that do one run together, which MPI calls ranks. Without a launcher such as `mpirun` there is one
//! process, no library is opened, and all of this costs nothing.
//!
//! The one idea: MPI only moves bytes. What is added up is added here, in a balanced binary tree over the
//! ranks, so that a rank that has summed its part of a larger tree has summed a node of it, and the bits of a
//! sum do not depend on how many processes there are. (`MPI_Allreduce` promises no order.)
//!
//! All ranks make the same calls in the same order; whatever only one of them may do is done by the first
//! ([`Ranks::lead`]), and what may fail on any of them fails on all ([`Ranks::together`]).

#![deny(unsafe_code)]

mod communicator;
mod deal;
mod launch;
#[cfg(unix)]
mod mpi;
mod threads;
mod together;
mod tree;

pub use communicator::Communicator;
pub use launch::{LIBRARY_VARIABLE, Launch};
pub use threads::threads;
pub use tree::SumOrder;

use communicator::Alone;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// The processes that do a run together, as one of them sees them.
#[derive(Clone)]
pub struct Ranks(Arc<dyn Communicator>);

impl Ranks {
    /// One process.
    pub fn alone() -> Self {
        Ranks(Arc::new(Alone))
    }

    /// Those that speak through `communicator`.
    pub fn new(communicator: impl Communicator + 'static) -> Self {
        Ranks(Arc::new(communicator))
    }

    /// Those that a launcher has started: opens MPI, where there are several. A rank that waits for the others
    /// for longer than `patience` hands a sentence about it to `tell` and ends, which ends the job.
    ///
    /// # Errors
    /// No MPI library can be opened, it is none that is known, or it counts otherwise than the launcher. What to
    /// do is in the message.
    pub fn launched(launch: &Launch, patience: Duration, tell: fn(&str)) -> anyhow::Result<Self> {
        if launch.size == Some(1) {
            return Ok(Ranks::alone());
        }
        #[cfg(unix)]
        return Ok(Ranks::new(mpi::Mpi::open(launch, patience, tell)?));
        #[cfg(not(unix))]
        {
            let _ = (patience, tell);
            anyhow::bail!("several processes need MPI, which is opened on Unix alone: start one process")
        }
    }

    /// Which of them this is, from 0.
    pub fn rank(&self) -> usize {
        self.0.rank()
    }

    /// How many there are.
    pub fn size(&self) -> usize {
        self.0.size()
    }

    /// Whether this is the first: the one that writes and speaks.
    pub fn is_first(&self) -> bool {
        self.rank() == 0
    }

    /// Which of `count` things are this rank's: in runs that are as long as each other or nearly so.
    pub fn share(&self, count: usize) -> Range<usize> {
        let [start, end] = [self.rank(), self.rank() + 1].map(|rank| rank * count / self.size());
        start..end
    }

    /// One line about how they speak to each other; empty for one process.
    pub fn describe(&self) -> String {
        match self.size() {
            1 => String::new(),
            size => format!("{size} processes ({})", self.0.about()),
        }
    }

    /// Does what waits for other ranks by another road than this one, such as their GPUs' own: who waits there
    /// for too long ends the job as well.
    pub fn during(&self, wait: &mut dyn FnMut()) {
        self.0.during(wait);
    }

    /// The end of a process that did its part: waits for the others, and nothing may be asked afterwards.
    pub fn finish(&self) {
        self.0.finish();
    }

    /// Ends this process and all others with the exit code `code`.
    pub fn abort(&self, code: i32) -> ! {
        self.0.abort(code)
    }
}

impl fmt::Debug for Ranks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rank {} of {}", self.rank(), self.size())
    }
}
