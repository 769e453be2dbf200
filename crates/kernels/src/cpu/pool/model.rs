//! The protocol under a model checker: every order in which two threads can go through it, and every value
//! that their loads may see. Run by `tools/soundness.sh loom`; what it finds when something is missing is in
//! docs/TESTING.md.

use super::sync::{AtomicUsize, UnsafeCell, thread};
use super::*;

/// Numbers that the model watches: two accesses that nothing orders are an error.
struct Watched([UnsafeCell<usize>; 2]);

// SAFETY: the model reports what is not.
unsafe impl Sync for Watched {}

impl Watched {
    fn new() -> Self {
        Self([UnsafeCell::new(0), UnsafeCell::new(0)])
    }

    fn add(&self, i: usize) {
        // SAFETY: the model reports who reads or writes it meanwhile.
        self.0[i].with_mut(|value| unsafe { *value += 1 });
    }

    fn get(&self) -> [usize; 2] {
        // SAFETY: the model reports who writes them meanwhile.
        [0, 1].map(|i| self.0[i].with(|value| unsafe { *value }))
    }
}

/// Explores `model` in every order with at most three preemptions, a second's work; LOOM_MAX_PREEMPTIONS says
/// otherwise.
fn check(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound.get_or_insert(3);
    builder.check(model);
}

#[test]
fn every_chunk_is_done_once_and_the_caller_sees_it() {
    check(|| {
        let mut pool = Pool::new(2);
        let done = Watched::new();
        for round in 1..=2 {
            pool.run(2, &|chunk, _| done.add(chunk));
            assert_eq!(done.get(), [round; 2]);
        }
    });
}

/// Each chunk waits for the other: without its worker, awake or woken, the job would never end.
#[test]
fn a_job_never_misses_a_sleeping_worker() {
    check(|| {
        let mut pool = Pool::new(2);
        for _ in 0..2 {
            let begun = AtomicUsize::new(0);
            pool.run(2, &|_, _| {
                begun.fetch_add(1, Relaxed);
                while begun.load(Relaxed) < 2 {
                    thread::yield_now();
                }
            });
        }
    });
}

#[test]
fn a_pool_without_a_job_ends() {
    check(|| drop(Pool::new(3)));
}
