//! Which precision products have where nobody says so: what a run began with, or what is measured to be the
//! faster.

use std::path::Path;
use std::time::Duration;

use gpt::model::{Config, sampling_work, training_work};
use gpt::train::run::Recipe;
use kernels::{Cpu, CpuOptions, Precision};

const BOTH: [Precision; 2] = [Precision::F32, Precision::Bf16];

/// Rounds in which both are measured.
const ROUNDS: usize = 3;
/// Of the time in `f32`, what bf16 may take to be chosen: where they are alike, the exact one.
const WORTH_ROUNDING: f64 = 0.9;

/// The precision in which this machine trains faster: passes of a small block, bound by arithmetic.
pub(crate) fn for_training(options: CpuOptions) -> Precision {
    if !options.level.has_bf16() {
        // bf16 is computed as `f32`, and there is nothing to gain.
        return Precision::F32;
    }
    let config = Config::gpt2(512, 128, 1, 3, 192);
    faster(options, |cpu| training_work(cpu, config.clone(), 2))
}

/// The precision in which this machine decodes faster: tokens of one sequence by a block whose weights caches
/// do not hold, bound by memory.
pub(crate) fn for_decoding(options: CpuOptions) -> Precision {
    if options.level.has_bf16() { for_serving(options) } else { Precision::F32 }
}

/// The same for a server, which answers for long: also where bf16 is computed as `f32`, since its weights are
/// half the bytes.
pub(crate) fn for_serving(options: CpuOptions) -> Precision {
    let config = Config::gpt2(256, 16, 1, 16, 1024);
    faster(options, |cpu| sampling_work(cpu, config.clone(), 1, 1, 2))
}

/// The precision in which a piece of work is done faster, in some ten milliseconds. The two take turns and
/// the best time of each counts, so that a neighbour on the machine slows both; and it is time of the processor, on one
/// thread, so that who waits for a busy one finds what an idle one would have told.
fn faster<W: FnMut()>(options: CpuOptions, work: impl Fn(Cpu) -> W) -> Precision {
    let mut works = BOTH.map(|precision| work(Cpu::new(CpuOptions { precision, threads: 1, ..options })));
    // The first time allocates.
    for work in &mut works {
        work();
    }
    let mut secs = [f64::INFINITY; 2];
    for _ in 0..ROUNDS {
        for (work, secs) in works.iter_mut().zip(&mut secs) {
            let began = thread_time();
            work();
            *secs = secs.min((thread_time() - began).as_secs_f64());
        }
    }
    if secs[1] < WORTH_ROUNDING * secs[0] { Precision::Bf16 } else { Precision::F32 }
}

/// Time that a processor worked for this thread.
#[cfg(unix)]
fn thread_time() -> Duration {
    use rustix::time::{ClockId, clock_gettime};
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Time that has passed, where no system tells how much of it was worked.
#[cfg(not(unix))]
fn thread_time() -> Duration {
    use std::{sync::LazyLock, time::Instant};
    static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);
    BEGAN.elapsed()
}

/// The precision that the run or the road in `dir` began with. A recipe that cannot be read is for whoever
/// opens the run to report.
pub(crate) fn begun_in(dir: &Path) -> Option<Precision> {
    let recipe = Recipe::load(dir).ok()?;
    let begun = recipe.settings.get("precision")?.as_str()?;
    BOTH.into_iter().find(|&precision| name(precision) == begun)
}

/// A precision as it is typed.
pub(crate) fn name(precision: Precision) -> &'static str {
    match precision {
        Precision::F32 => "f32",
        Precision::Bf16 => "bf16",
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn waiting_is_no_work() {
        let began = thread_time();
        std::thread::sleep(Duration::from_millis(50));
        assert!(thread_time() - began < Duration::from_millis(25));
        let began = thread_time();
        let sum: u64 = (0..50_000_000).map(std::hint::black_box).sum();
        assert!(sum > 0 && thread_time() - began > Duration::from_millis(1));
    }
}
