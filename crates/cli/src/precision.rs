//! Which precision products have where nobody says so: what a run began with, or what is measured to be the
//! faster.

use std::path::Path;
use std::time::Instant;

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
/// the best time of each counts, so that a neighbour on the machine slows both.
fn faster<W: FnMut()>(options: CpuOptions, work: impl Fn(Cpu) -> W) -> Precision {
    let mut works = BOTH.map(|precision| work(Cpu::new(CpuOptions { precision, ..options })));
    // The first time allocates.
    for work in &mut works {
        work();
    }
    let mut secs = [f64::INFINITY; 2];
    for _ in 0..ROUNDS {
        for (work, secs) in works.iter_mut().zip(&mut secs) {
            let began = Instant::now();
            work();
            *secs = secs.min(began.elapsed().as_secs_f64());
        }
    }
    if secs[1] < WORTH_ROUNDING * secs[0] { Precision::Bf16 } else { Precision::F32 }
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
