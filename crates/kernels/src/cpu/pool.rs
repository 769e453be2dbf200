//! Threads that share the chunks of one operation, and the scratch memory they work in.
//!
//! The one idea: a job is *open* while it has chunks left. A worker joins an open job or finds it closed; the caller
//! takes chunks like everybody else, closes the job when none are left and waits only for workers that joined. So a
//! sleeping worker never delays a job, and a job that is over before anybody woke up costs what it costs alone.
//! Nothing is allocated per job. Which worker takes which chunk is left to chance: results must depend on the chunk
//! only.

use super::scratch::Scratch;
use std::any::Any;
use std::cell::UnsafeCell;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::*};
use std::sync::{Arc, Barrier, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How long an idle worker looks for the next job before it sleeps: longer than the gaps between operations.
const SPIN: Duration = Duration::from_micros(50);

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
    asleep: Box<[AtomicBool]>,
    quit: AtomicBool,
}

// SAFETY: `job` and `scratch` are written only under the protocol of `state` that their comments describe; the task
// behind the pointer is `Sync` and outlives the job, because `run` returns after the last worker has left.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Pool {
    /// Starts `threads - 1` workers (at least one thread in all: the caller) and waits until they run.
    pub(crate) fn new(threads: usize) -> Self {
        let threads = threads.max(1);
        let shared = Arc::new(Shared {
            state: AtomicU64::new(0),
            job: UnsafeCell::new(None),
            next_chunk: AtomicUsize::new(0),
            panic: Mutex::new(None),
            scratch: (0..threads).map(|_| UnsafeCell::default()).collect(),
            asleep: (0..threads).map(|_| AtomicBool::new(false)).collect(),
            quit: AtomicBool::new(false),
        });
        // What a thread's start allocates must not fall into a later step.
        let started = Arc::new(Barrier::new(threads));
        let start = |index| {
            let (shared, started) = (Arc::clone(&shared), Arc::clone(&started));
            let name = format!("kernels-{index}");
            thread::Builder::new()
                .name(name)
                .spawn(move || {
                    started.wait();
                    shared.work(index);
                })
                .expect("a worker thread starts")
        };
        let workers = (1..threads).map(start).collect();
        started.wait();
        Self { shared, workers }
    }

    /// Threads that take part in a job.
    pub(crate) fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `task` once for every chunk in `0..chunks`, in any order, on any thread; returns when all are done.
    /// A panic in a chunk is carried over to here; chunks that nobody had begun are then left out.
    pub(crate) fn run(&mut self, chunks: usize, task: &(dyn Fn(usize, &mut Scratch) + Sync)) {
        let shared = &*self.shared;
        if self.workers.is_empty() || chunks <= 1 {
            // SAFETY: `&mut self` and no open job: nobody else uses the caller's scratch.
            let scratch = unsafe { &mut *shared.scratch[0].get() };
            (0..chunks).for_each(|chunk| task(chunk, scratch));
        } else {
            shared.open(task, chunks);
            // No use in more helpers than there are chunks besides the caller's own.
            for (worker, asleep) in self.workers.iter().zip(&shared.asleep[1..]).take(chunks - 1) {
                if asleep.swap(false, SeqCst) {
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
        // SAFETY: `&mut self` and no open job: nobody uses any scratch.
        let all = || self.shared.scratch.iter().map(|s| unsafe { &mut *s.get() });
        if all().any(|s| s.take_grown()) {
            let largest = all().fold([0; Scratch::BUFFERS], |sizes, s| s.largest(sizes));
            all().for_each(|s| s.reserve(largest));
        }
    }
}

impl Shared {
    fn open(&self, task: &(dyn Fn(usize, &mut Scratch) + Sync), chunks: usize) {
        let task: *const (dyn Fn(usize, &mut Scratch) + Sync + '_) = task;
        // SAFETY: only the lifetime changes; `run` outlasts every use. No job is open, so nobody reads `job`.
        unsafe { *self.job.get() = Some((std::mem::transmute::<*const _, *const Task>(task), chunks)) };
        self.next_chunk.store(0, Relaxed);
        let last = self.state.load(Relaxed) & !(OPEN | JOINED);
        self.state.store(last.wrapping_add(JOB) | OPEN, SeqCst);
    }

    /// Lets nobody join any more and waits for those who have.
    fn close(&self) {
        self.state.fetch_and(!OPEN, AcqRel);
        let mut rounds = 0u32;
        while self.state.load(Acquire) & JOINED != 0 {
            rounds += 1;
            if rounds.is_multiple_of(1 << 12) { thread::yield_now() } else { std::hint::spin_loop() }
        }
    }

    /// Works on the open job until nothing is left of it. The thread has joined it, or is its caller.
    fn take_chunks(&self, thread: usize) {
        // SAFETY: a joined job is not replaced, its task lives, and the scratch is this thread's.
        let (task, chunks, scratch) = unsafe {
            let (task, chunks) = (*self.job.get()).expect("an open job");
            (&*task, chunks, &mut *self.scratch[thread].get())
        };
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            loop {
                let chunk = self.next_chunk.fetch_add(1, Relaxed);
                if chunk >= chunks {
                    break;
                }
                task(chunk, scratch);
            }
        }));
        if let Err(panic) = outcome {
            self.next_chunk.store(chunks, Relaxed);
            self.panic.lock().expect("held for one assignment").get_or_insert(panic);
        }
    }

    /// A worker's life.
    fn work(&self, thread: usize) {
        let mut last_job = 0;
        let mut idle_since = Instant::now();
        while !self.quit.load(Relaxed) {
            let state = self.state.load(Acquire);
            if is_new(state, last_job) {
                if self.state.compare_exchange_weak(state, state + 1, AcqRel, Relaxed).is_ok() {
                    self.take_chunks(thread);
                    self.state.fetch_sub(1, AcqRel);
                    last_job = state / JOB;
                    idle_since = Instant::now();
                }
            } else if idle_since.elapsed() < SPIN {
                (0..16).for_each(|_| std::hint::spin_loop());
            } else {
                self.asleep[thread].store(true, SeqCst);
                // A job may have opened before its caller could see that this worker is asleep.
                if !is_new(self.state.load(SeqCst), last_job) && !self.quit.load(SeqCst) {
                    thread::park();
                }
                self.asleep[thread].store(false, SeqCst);
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
        self.shared.quit.store(true, SeqCst);
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

/// A mutable slice that the chunks of a job share, each taking its own part.
pub(crate) struct Disjoint<'a, T> {
    start: *mut T,
    len: usize,
    lifetime: PhantomData<&'a mut [T]>,
}

impl<T> Clone for Disjoint<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Disjoint<'_, T> {}

// SAFETY: parts are handed out by an `unsafe` method whose callers promise that no two overlap.
unsafe impl<T: Send> Send for Disjoint<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Disjoint<'_, T> {}

impl<'a, T> Disjoint<'a, T> {
    /// Takes over the slice.
    pub(crate) fn new(slice: &'a mut [T]) -> Self {
        Self { start: slice.as_mut_ptr(), len: slice.len(), lifetime: PhantomData }
    }

    /// Number of values.
    pub(crate) fn len(self) -> usize {
        self.len
    }

    /// The first value's address, for code that writes through pointers and keeps to its part.
    pub(crate) fn start(self) -> *mut T {
        self.start
    }

    /// `len` values from `start` on.
    ///
    /// # Safety
    ///
    /// While the part lives, no other part of the same slice overlaps it.
    pub(crate) unsafe fn slice(self, start: usize, len: usize) -> &'a mut [T] {
        assert!(start <= self.len && len <= self.len - start, "{start} + {len} values of {}", self.len);
        // SAFETY: within the slice by the assertion, not aliased by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(start), len) }
    }

    /// `len` values from `start` on for reading.
    ///
    /// # Safety
    ///
    /// While the part lives, no other part of the same slice that is to be written overlaps it.
    pub(crate) unsafe fn shared(self, start: usize, len: usize) -> &'a [T] {
        assert!(start <= self.len && len <= self.len - start, "{start} + {len} values of {}", self.len);
        // SAFETY: within the slice by the assertion, not changed by the caller's promise.
        unsafe { std::slice::from_raw_parts(self.start.add(start), len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_chunk_is_done_once_in_many_tiny_jobs() {
        for threads in [1, 2, 3, 8] {
            let mut pool = Pool::new(threads);
            for round in 0..3000 {
                let chunks = round % 7;
                let mut done = [0u8; 7];
                let part = Disjoint::new(&mut done);
                // SAFETY: a chunk takes its own byte.
                pool.run(chunks, &|chunk, _| unsafe { part.slice(chunk, 1)[0] += 1 });
                let expected: [u8; 7] = std::array::from_fn(|i| u8::from(i < chunks));
                assert_eq!(done, expected, "{threads} threads, {chunks} chunks");
            }
        }
    }

    #[test]
    fn workers_take_part_and_wake_from_sleep() {
        let mut pool = Pool::new(2);
        for _ in 0..3 {
            while !pool.shared.asleep[1].load(SeqCst) {
                thread::yield_now();
            }
            // Both chunks must be in progress at once: a pool without its worker would wait here for ever.
            let both = Barrier::new(2);
            pool.run(2, &|_, _| {
                both.wait();
            });
        }
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_works_on() {
        let mut pool = Pool::new(3);
        for round in 0..200 {
            let bad = round % 5;
            let run = AssertUnwindSafe(|| pool.run(5, &|chunk, _| assert!(chunk != bad, "chunk {chunk}")));
            let payload = catch_unwind(run).expect_err("a chunk panicked");
            assert_eq!(payload.downcast_ref::<String>(), Some(&format!("chunk {bad}")));
            let sum = AtomicUsize::new(0);
            pool.run(10, &|chunk, _| {
                sum.fetch_add(chunk, Relaxed);
            });
            assert_eq!(sum.into_inner(), 45);
        }
    }

    #[test]
    fn scratch_of_every_thread_grows_with_the_largest() {
        let mut pool = Pool::new(4);
        pool.run(2, &|chunk, scratch| scratch.buffers[1].floats(100 + chunk).fill(1.0));
        for scratch in &pool.shared.scratch {
            // SAFETY: no job is open.
            let scratch = unsafe { &mut *scratch.get() };
            assert_eq!(scratch.largest([0; Scratch::BUFFERS])[1], 101usize.div_ceil(16));
        }
    }

    #[test]
    #[should_panic(expected = "3 + 2 values of 4")]
    fn a_part_outside_of_the_slice_panics() {
        // SAFETY: the only part.
        unsafe { Disjoint::new(&mut [0; 4]).slice(3, 2) };
    }
}
