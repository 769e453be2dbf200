//! A mutant, and the tests that could notice it: the quickest first, until one fails.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Result;

use crate::list::Mutant;
use crate::report::{Fate, Outcome};
use crate::suite::{Ending, Runner, Test};

/// The files of the sandbox, or its crate. Its processes lose their trace on the way, where the new root holds no file to note it in.
const SANDBOX: &str = "/sandbox/";

/// Runs the tests that reach `mutant` with it switched on.
///
/// A test that fails must pass right after without the mutant, or its failure says nothing.
///
/// # Errors
/// A test cannot be started.
pub fn outcome(runner: &Runner<'_>, tests: &[Test], mutant: &Mutant) -> Result<Outcome> {
    let reaches = |test: &&Test| {
        test.reached.contains(&mutant.number) || test.reached.contains(&0) && mutant.file.contains(SANDBOX)
    };
    let mut reaching: Vec<&Test> = tests.iter().filter(reaches).collect();
    if reaching.is_empty() {
        return Ok(Outcome::new(mutant, Fate::Alive("no test reaches it".into())));
    }
    reaching
        .sort_by(|a, b| (a.shares(), a.secs).partial_cmp(&(b.shares(), b.secs)).expect("times are numbers"));
    let (alone, together) = reaching.split_at(reaching.partition_point(|test| !test.shares()));
    // Together they share what takes long to make; but what the sandbox does, one module of them looks at.
    let at_once = if mutant.file.contains(SANDBOX) { 1 } else { together.len().max(1) };
    let mut unsteady = Vec::new();
    for tests in alone.chunks(1).chain(together.chunks(at_once)) {
        let ending = runner.mutated(tests, mutant.number)?;
        if ending == Ending::Passed {
            continue;
        }
        let Some(test) = runner.failed(tests) else { continue };
        if runner.mutated(&[&test], 0)? != Ending::Passed {
            unsteady.push(test.name());
            continue;
        }
        let failed = ending == Ending::Failed;
        let fate = if failed { Fate::Killed(test.name()) } else { Fate::TimedOut(test.name()) };
        return Ok(Outcome::new(mutant, fate));
    }
    let mut reason = format!("{} tests reach it", reaching.len());
    if !unsteady.is_empty() {
        reason += &format!("; these fail without it, too: {}", unsteady.join(", "));
    }
    Ok(Outcome::new(mutant, Fate::Alive(reason)))
}

/// `work` on each of `items`, by `jobs` workers, each of which is told its number; in the order of `items`.
///
/// # Errors
/// The first error of any; then nothing new is begun.
pub fn in_parallel<T: Sync, U: Send>(
    items: &[T],
    jobs: usize,
    work: impl Fn(usize, &T) -> Result<U> + Sync,
) -> Result<Vec<U>> {
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Ok(Vec::new())));
    let worker = |worker: usize| {
        while let Some((index, item)) = items.iter().enumerate().nth(next.fetch_add(1, Ordering::Relaxed)) {
            let result = work(worker, item);
            let mut done = done.lock().expect("no worker panics");
            match (result, &mut *done) {
                (Ok(value), Ok(values)) => values.push((index, value)),
                (Err(error), Ok(_)) => *done = Err(error),
                (_, Err(_)) => {}
            }
            if done.is_err() {
                return;
            }
        }
    };
    std::thread::scope(|scope| {
        for number in 0..jobs.max(1) {
            scope.spawn(move || worker(number));
        }
    });
    let mut done = done.into_inner().expect("no worker panics")?;
    done.sort_by_key(|(index, _)| *index);
    Ok(done.into_iter().map(|(_, value)| value).collect())
}
