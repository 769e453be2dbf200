use super::*;
use std::panic::panic_any;
use std::sync::Barrier;
use std::sync::mpsc;

/// Rounds of tests that look for what seldom happens. Sanitizers and Miri are slow, and look closer.
const ROUNDS: usize = if cfg!(slow) { 30 } else { 3000 };

#[test]
fn every_chunk_is_done_once_in_many_tiny_jobs() {
    for threads in [1, 2, 3, 8] {
        let mut pool = Pool::new(threads);
        for round in 0..ROUNDS {
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
        while !pool.shared.asleep[1].load(Acquire) {
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
    for round in 0..ROUNDS / 15 {
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

/// Two chunks panic at once, with values that panic when they are dropped: one reaches the caller, and nobody
/// waits for ever.
#[test]
fn a_panic_that_panics_when_it_is_dropped_ends_no_worker() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("a bomb was dropped");
        }
    }
    let (done, is_done) = mpsc::channel();
    thread::spawn(move || {
        let mut pool = Pool::new(2);
        for _ in 0..10 {
            let both = Barrier::new(2);
            let run = AssertUnwindSafe(|| {
                pool.run(2, &|_, _| {
                    both.wait();
                    panic_any(Bomb);
                });
            });
            let payload = catch_unwind(run).expect_err("both chunks panicked");
            assert!(payload.is::<Bomb>());
            std::mem::forget(payload);
        }
        drop(pool);
        done.send(()).unwrap();
    });
    is_done.recv_timeout(Duration::from_secs(60)).expect("every job ends, and so does the pool");
}

#[test]
fn scratch_of_every_thread_grows_with_the_largest() {
    let mut pool = Pool::new(4);
    pool.run(2, &|chunk, scratch| scratch.buffers[1].floats(100 + chunk).fill(1.0));
    pool.for_each_scratch(|scratch| {
        assert_eq!(scratch.largest([0; Scratch::BUFFERS])[1], 101usize.div_ceil(16));
    });
}

#[test]
#[should_panic(expected = "3 + 2 values of 4")]
fn a_part_outside_of_the_slice_panics() {
    // SAFETY: the only part.
    unsafe { Disjoint::new(&mut [0; 4]).slice(3, 2) };
}

/// What a sanitizer has to find before its silence means anything: two chunks that write the same byte at the
/// same time.
#[cfg(planted_race)]
#[test]
fn planted_race() {
    let (mut pool, mut byte, both) = (Pool::new(2), [0u8], Barrier::new(2));
    let part = Disjoint::new(&mut byte);
    pool.run(2, &|_, _| {
        both.wait();
        // SAFETY: there is none, which is the point.
        unsafe { part.slice(0, 1)[0] += 1 };
    });
}
