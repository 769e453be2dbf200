//! Notices ranks that hang. A rank that dies ends the job, which the launcher sees to; one that lives and does
//! nothing would have the others wait for ever.

use super::ffi::end_at_once;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Nothing is waited for.
const IDLE: u64 = 0;
/// The exit code of a process that has waited in vain.
const HUNG: i32 = 1;

/// Ends this process when it waits for the others for too long; the launcher then ends them.
pub(super) struct Watchdog {
    began: Instant,
    /// When the wait began, in milliseconds since `began`, and one more.
    waiting_since: Arc<AtomicU64>,
}

impl Watchdog {
    /// One that waits for `patience` and then hands `tell` what it has to say.
    pub(super) fn new(rank: usize, size: usize, patience: Duration, tell: fn(&str)) -> Self {
        let (began, waiting_since) = (Instant::now(), Arc::new(AtomicU64::new(IDLE)));
        let since = Arc::clone(&waiting_since);
        let look = (patience / 10).clamp(Duration::from_millis(20), Duration::from_secs(5));
        thread::spawn(move || {
            loop {
                thread::sleep(look);
                if is_over(began, since.load(Ordering::Relaxed), patience) {
                    tell(&format!(
                        "error: rank {rank} of {size} has waited for the others for {} s: one of them hangs or cannot be \
                         reached. This ends the run; the same command goes on from its last checkpoint",
                        patience.as_secs()
                    ));
                    end_at_once(HUNG);
                }
            }
        });
        Watchdog { began, waiting_since }
    }

    /// Watches that `call` comes back.
    pub(super) fn during(&self, call: impl FnOnce()) {
        let now = self.began.elapsed().as_millis() as u64 + 1;
        self.waiting_since.store(now, Ordering::Relaxed);
        call();
        self.waiting_since.store(IDLE, Ordering::Relaxed);
    }
}

fn is_over(began: Instant, since: u64, patience: Duration) -> bool {
    since != IDLE && began.elapsed() > Duration::from_millis(since - 1) + patience
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_wait_can_be_too_long() {
        let began = Instant::now().checked_sub(Duration::from_secs(60)).unwrap();
        assert!(!is_over(began, IDLE, Duration::from_secs(1)), "a long step is no wait");
        assert!(!is_over(began, 59_000, Duration::from_secs(5)), "it has begun only now");
        assert!(is_over(began, 1, Duration::from_secs(5)));
    }
}
