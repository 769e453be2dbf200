//! Ranks that are threads of one process: what tests of everything above MPI stand on.

use crate::{Communicator, Ranks};
use std::sync::{Arc, Barrier, Mutex, PoisonError};

/// What `work` returns as each of `size` ranks, in order.
///
/// # Panics
/// One of them panics; the others may wait for it for ever if they have not done their work.
pub fn threads<R: Send>(size: usize, work: impl Fn(Ranks) -> R + Sync) -> Vec<R> {
    let shared = Arc::new(Shared { barrier: Barrier::new(size), slots: Mutex::new(vec![Vec::new(); size]) });
    let rank = |rank| Ranks::new(Thread { rank, size, shared: Arc::clone(&shared) });
    std::thread::scope(|scope| {
        let working: Vec<_> = (0..size).map(|number| (rank(number), &work)).collect();
        let working: Vec<_> =
            working.into_iter().map(|(ranks, work)| scope.spawn(move || work(ranks))).collect();
        let joined = working.into_iter().map(|thread| match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        joined.collect()
    })
}

struct Shared {
    barrier: Barrier,
    /// What each rank sends.
    slots: Mutex<Vec<Vec<u8>>>,
}

struct Thread {
    rank: usize,
    size: usize,
    shared: Arc<Shared>,
}

impl Thread {
    /// What `read` makes of what all ranks send.
    fn exchange(&self, send: &[u8], read: impl FnOnce(&[Vec<u8>])) {
        let slots = || self.shared.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots()[self.rank] = send.to_vec();
        self.shared.barrier.wait();
        read(&slots());
        self.shared.barrier.wait();
    }
}

impl Communicator for Thread {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn about(&self) -> String {
        "threads".into()
    }

    fn all_to_all(&self, send: &[u8], receive: &mut [u8]) {
        let len = send.len() / self.size;
        self.exchange(send, |sent| {
            let pieces = sent.iter().flat_map(|sent| &sent[self.rank * len..][..len]);
            receive.iter_mut().zip(pieces).for_each(|(to, from)| *to = *from);
        });
    }

    fn all_gather(&self, send: &[u8], receive: &mut [u8]) {
        self.exchange(send, |sent| receive.copy_from_slice(&sent.concat()));
    }

    fn broadcast(&self, bytes: &mut [u8], from: usize) {
        let send = bytes.to_vec();
        self.exchange(&send, |sent| bytes.copy_from_slice(&sent[from]));
    }

    fn finish(&self) {
        self.shared.barrier.wait();
    }

    fn abort(&self, code: i32) -> ! {
        panic!("rank {} aborts with {code}", self.rank)
    }
}
