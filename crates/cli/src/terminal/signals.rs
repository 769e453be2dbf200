//! Ctrl-C and SIGTERM: the first asks the work to save and stop, the second ends the program at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::STOPPED;

/// Whether somebody asked to stop.
pub(super) struct Stop {
    asked: Arc<AtomicBool>,
    told: AtomicBool,
}

impl Stop {
    /// Listens from now on.
    pub(super) fn listen() -> Self {
        let asked = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            // In this order: the signal that sets the flag must not find it set. A platform that refuses
            // keeps its own way of stopping, which is to stop at once.
            let _ = flag::register_conditional_shutdown(signal, STOPPED.into(), Arc::clone(&asked))
                .and_then(|_| flag::register(signal, Arc::clone(&asked)));
        }
        Stop { asked, told: AtomicBool::new(false) }
    }

    /// Lets the next signal end the program.
    pub(super) fn next_is_last(&self) {
        self.told.store(true, Ordering::Relaxed);
        self.asked.store(true, Ordering::Relaxed);
    }

    /// Whatever was asked is done: the next signal asks anew.
    pub(super) fn forget(&self) {
        self.asked.store(false, Ordering::Relaxed);
        self.told.store(false, Ordering::Relaxed);
    }

    pub(super) fn is_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }

    /// True once: the first time that somebody looks after it was asked.
    pub(super) fn is_news(&self) -> bool {
        self.is_asked() && !self.told.swap(true, Ordering::Relaxed)
    }
}
