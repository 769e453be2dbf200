//! Threads that share the chunks of one operation, and the scratch memory they work in.
//!
//! The one idea: a job is *open* while it has chunks left. A worker joins an open job or finds it closed; the
//! caller takes chunks like everybody else, closes the job when none are left and waits only for workers that
//! joined. So a sleeping worker never delays a job, and a job that is over before anybody woke up costs what
//! it costs alone. Nothing is allocated per job. Which worker takes which chunk is left to chance: results
//! must depend on the chunk only.

mod disjoint;
#[cfg(all(test, loom))]
mod model;
mod sync;
#[cfg(all(test, not(loom)))]
mod tests;

pub(crate) use disjoint::Disjoint;

use super::scratch::Scratch;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::time::{Duration, Instant};
use sync::{Arc, AtomicBool, AtomicU64, AtomicUsize, JoinHandle, Mutex, UnsafeCell, spin_loop, thread};

/// How long an idle worker looks for the next job before it sleeps: longer than the gaps between operations.
/// A model has no clock.
const SPIN: Duration = if cfg!(loom) { Duration::ZERO } else { Duration::from_micros(50) };

/// The state word: number of the job (upper half), whether it is open, how many workers have joined it.
const JOB: u64 = 1 << 32;
const OPEN: u64 = 1 << 31;
const JOINED: u64 = OPEN - 1;

type Task = dyn Fn(usize, &mut Scratch) + Sync;

/// A fixed number of threads, the calling one included.
pub(crate) struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

struct Shared {
    state: AtomicU64,
    /// The job's task and its number of chunks. Written while no job is open and nobody has joined.
    job: UnsafeCell<Option<(*const Task, usize)>>,
    next_chunk: AtomicUsize,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    /// One a thread, the caller's first. A thread uses its own while it takes part in a job.
    scratch: Box<[UnsafeCell<Scratch>]>,
    /// One a thread: whether it may be asleep.
    asleep: Box<[AtomicBool]>,
    quit: AtomicBool,
}

// SAFETY: `job` and `scratch` are written only under the protocol of `state` that their comments describe;
// the task behind the pointer is `Sync` and outlives the job, because `run` returns after the last worker has
// left.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Pool {
    /// Starts `threads - 1` workers (at least one thread in all: the caller) and waits until they run.
    pub(crate) fn new(threads: usize) -> Self {
        let threads = threads.max(1);
        let shared = Arc::new(Shared {
            // Workers begin as if they had joined a job, and leave it once they run.
            state: AtomicU64::new(threads as u64 - 1),
            job: UnsafeCell::new(None),
            next_chunk: AtomicUsize::new(0),
            panic: Mutex::new(None),
            scratch: (0..threads).map(|_| UnsafeCell::new(Scratch::default())).collect(),
            asleep: (0..threads).map(|_| AtomicBool::new(false)).collect(),
            quit: AtomicBool::new(false),
        });
        let start = |index| {
            let shared = Arc::clone(&shared);
            let builder = thread::Builder::new().name(format!("kernels-{index}"));
            builder.spawn(move || shared.work(index)).expect("a worker thread starts")
        };
        let workers = (1..threads).map(start).collect();
        // What a thread's start allocates must not fall into a later step.
        shared.close();
        Self { shared, workers }
    }

    /// Threads that take part in a job.
    pub(crate) fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `task` once for every chunk in `0..chunks`, in any order, on any thread; returns when all are
    /// done. A panic in a chunk is carried over to here; chunks that nobody had begun are then left out.
    pub(crate) fn run(&mut self, chunks: usize, task: &(dyn Fn(usize, &mut Scratch) + Sync)) {
        let shared = &*self.shared;
        if self.workers.is_empty() || chunks <= 1 {
            shared.scratch[0].with_mut(|scratch| {
                // SAFETY: `&mut self` and no open job: nobody else uses the caller's scratch.
                let scratch = unsafe { &mut *scratch };
                (0..chunks).for_each(|chunk| task(chunk, scratch));
            });
        } else {
            shared.open(task, chunks);
            // No use in more helpers than there are chunks besides the caller's own.
            for (worker, asleep) in self.workers.iter().zip(&shared.asleep[1..]).take(chunks - 1) {
                if asleep.swap(false, AcqRel) {
                    worker.thread().unpark();
                }
            }
            shared.take_chunks(0);
            shared.close();
        }
        self.even_out_scratch();
        let panic = self.shared.panic.lock().expect("held for one assignment").take();
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }

    /// Grows every thread's scratch to the largest one's size. Else a worker that happened to take none of an
    /// operation's chunks would allocate when, steps later, it takes its first.
    fn even_out_scratch(&mut self) {
        let mut any_grown = false;
        self.for_each_scratch(|scratch| any_grown |= scratch.take_grown());
        if any_grown {
            let mut largest = [0; Scratch::BUFFERS];
            self.for_each_scratch(|scratch| largest = scratch.largest(largest));
            self.for_each_scratch(|scratch| scratch.reserve(largest));
        }
    }

    fn for_each_scratch(&mut self, mut work: impl FnMut(&mut Scratch)) {
        for scratch in &self.shared.scratch {
            // SAFETY: `&mut self` and no open job: nobody uses any scratch.
            scratch.with_mut(|scratch| work(unsafe { &mut *scratch }));
        }
    }
}

impl Shared {
    fn open(&self, task: &(dyn Fn(usize, &mut Scratch) + Sync), chunks: usize) {
        let task: *const (dyn Fn(usize, &mut Scratch) + Sync + '_) = task;
        // SAFETY: only the lifetime changes; `run` returns after the last use.
        let task = unsafe { std::mem::transmute::<*const _, *const Task>(task) };
        // SAFETY: no job is open and nobody has joined, so nobody reads `job`.
        self.job.with_mut(|job| unsafe { *job = Some((task, chunks)) });
        self.next_chunk.store(0, Relaxed);
        let last = self.state.load(Relaxed) & !(OPEN | JOINED);
        self.state.store(last.wrapping_add(JOB) | OPEN, Release);
    }

    /// Lets nobody join any more and waits for those who have.
    fn close(&self) {
        self.state.fetch_and(!OPEN, AcqRel);
        let mut rounds = 0u32;
        while self.state.load(Acquire) & JOINED != 0 {
            rounds = rounds.wrapping_add(1);
            if rounds.is_multiple_of(1 << 12) { thread::yield_now() } else { spin_loop() }
        }
    }

    /// Works on the open job until nothing is left of it. The thread has joined it, or is its caller. Never
    /// panics.
    fn take_chunks(&self, thread: usize) {
        // SAFETY: a job that has been joined is not replaced.
        let (task, chunks) = self.job.with(|job| unsafe { *job }).expect("an open job");
        let outcome = self.scratch[thread].with_mut(|scratch| {
            // SAFETY: the task outlives its job, and the scratch is this thread's.
            let (task, scratch) = unsafe { (&*task, &mut *scratch) };
            catch_unwind(AssertUnwindSafe(|| {
                loop {
                    let chunk = self.next_chunk.fetch_add(1, Relaxed);
                    if chunk >= chunks {
                        break;
                    }
                    task(chunk, scratch);
                }
            }))
        });
        if let Err(panic) = outcome {
            self.next_chunk.store(chunks, Relaxed);
            let mut first = self.panic.lock().expect("held for one assignment");
            if first.is_none() {
                *first = Some(panic);
            } else {
                // To drop it could panic again, and a thread that unwinds from here never leaves its job.
                std::mem::forget(panic);
            }
        }
    }

    /// What a worker does until the pool is dropped.
    fn work(&self, thread: usize) {
        self.state.fetch_sub(1, AcqRel);
        let mut last_job = 0;
        let mut idle_since = Instant::now();
        while !self.quit.load(Acquire) {
            let state = self.state.load(Acquire);
            if is_new(state, last_job) {
                if self.state.compare_exchange_weak(state, state + 1, AcqRel, Relaxed).is_ok() {
                    self.take_chunks(thread);
                    self.state.fetch_sub(1, AcqRel);
                    last_job = state / JOB;
                    idle_since = Instant::now();
                }
            } else if idle_since.elapsed() < SPIN {
                (0..16).for_each(|_| spin_loop());
            } else {
                // Who opens a job swaps as well: either that swap finds a sleeper to wake, or it came before
                // this one, and then its job is seen below. Nothing but swaps may write here, or the later
                // one need not see the earlier.
                self.asleep[thread].swap(true, AcqRel);
                if !is_new(self.state.load(Acquire), last_job) {
                    thread::park();
                }
                idle_since = Instant::now();
            }
        }
    }
}

/// Whether the state is that of an open job other than `last_job`.
fn is_new(state: u64, last_job: u64) -> bool {
    state & OPEN != 0 && state / JOB != last_job
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.quit.store(true, Release);
        for worker in self.workers.drain(..) {
            worker.thread().unpark();
            // A worker's panics were carried to the caller of their job; there is nothing else to report.
            let _ = worker.join();
        }
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("threads", &self.threads()).finish()
    }
}
