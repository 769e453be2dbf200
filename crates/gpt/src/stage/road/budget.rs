//! What a road may cost, in minutes or in operations, and what that means for each stage.
//!
//! The one idea: a road has usual amounts of data and training, and a **size** multiplies them. A budget of
//! operations gives one size for the whole road, on any machine. A budget of minutes gives every stage the
//! size at which it and what follows fit the time that is left, at the speed that the machine has when the
//! stage begins: who shares the machine changes by the minute.

use crate::model::{Config, Method, sampling_work, training_work};
use crate::stage::settings::Cost;
use crate::train::update_work;
use anyhow::{Result, ensure};
use kernels::Backend;
use std::ops::AddAssign;
use std::time::{Duration, Instant};

/// What a road may cost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Budget {
    /// Wall clock, whatever else the machine does.
    Minutes(f64),
    /// Floating-point operations of models: the same amounts on every machine.
    Flops(f64),
}

impl Budget {
    /// Refuses what is not a positive number.
    pub(super) fn check(self) -> Result<()> {
        let (name, value) = match self {
            Budget::Minutes(minutes) => ("minutes", minutes),
            Budget::Flops(flops) => ("flops", flops),
        };
        ensure!(value.is_finite() && value > 0.0, "{name} is {value}: a road needs more than that");
        Ok(())
    }

    /// What of it a training of a model of shape `c` has, and what tokens and updates cost. Where that is time, the
    /// machine is measured for some two seconds.
    pub fn cost<B: Backend>(self, c: &Config, method: Method, backend: impl Fn() -> B) -> Cost {
        match self {
            Budget::Flops(budget) => {
                Cost { budget, token: c.training_flops_per_token(), update: method.update_flops(c) }
            }
            Budget::Minutes(minutes) => Cost {
                budget: 60.0 * minutes / OVERHEAD,
                token: c.training_flops_per_token() / passes_per_sec(backend(), c),
                update: mean_secs(update_work(backend(), c.clone(), method)),
            },
        }
    }

    /// Adds it to what decides the road.
    pub(super) fn record(self, settings: &mut toml::Table) {
        match self {
            Budget::Minutes(minutes) => settings.insert("minutes".into(), minutes.into()),
            Budget::Flops(flops) => settings.insert("flops".into(), flops.into()),
        };
    }
}

/// Seconds at the end of a road that are for the evaluation.
const EVALUATION_SECS: f64 = 30.0;
/// How much longer training takes than its passes: the optimizer, validations, samples.
const OVERHEAD: f64 = 1.1;

/// The seconds that training has of a road of so many `minutes`, `secs` after it began.
pub(super) fn training_secs(minutes: f64, secs: f64) -> f64 {
    (60.0 * minutes - secs - EVALUATION_SECS).max(1.0)
}

/// How much longer the road to a chat is than its stages with a model: lessons, corpus, tokenizer and tokens.
const DATA_OVERHEAD: f64 = 1.05;

/// The seconds that these stages have of a road of so many `minutes`.
pub(super) fn stages_secs(minutes: f64) -> f64 {
    60.0 * minutes / DATA_OVERHEAD
}

/// The operations of training that this machine does in `secs` at this time, for a model of shape `c`; measured in
/// about a second.
pub(super) fn training_flops<B: Backend>(b: B, c: &Config, secs: f64) -> f64 {
    secs / OVERHEAD * passes_per_sec(b, c)
}

/// Floating-point operations, by how fast a machine does them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Operations {
    /// In passes over whole sequences, forward or both ways.
    pub(super) passes: f64,
    /// In sampling token by token, prompts included.
    pub(super) sampling: f64,
}

impl Operations {
    /// All of them.
    pub(super) fn total(self) -> f64 {
        self.passes + self.sampling
    }

    /// How long they take.
    pub(super) fn secs(self, speeds: Speeds) -> f64 {
        self.passes / speeds.passes + self.sampling / speeds.sampling
    }
}

impl AddAssign for Operations {
    fn add_assign(&mut self, other: Self) {
        self.passes += other.passes;
        self.sampling += other.sampling;
    }
}

/// Operations a second of this machine at this time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Speeds {
    pub(super) passes: f64,
    pub(super) sampling: f64,
}

impl Speeds {
    /// Measures a model of shape `c` in about two seconds. Everything counts that happens meanwhile: a road
    /// has to be through in time on a busy machine, too.
    pub(super) fn measure<B: Backend>(backend: &dyn Fn() -> B, c: &Config) -> Speeds {
        Speeds { passes: passes_per_sec(backend(), c), sampling: sampling_per_sec(backend(), c) }
    }
}

/// How long each speed is measured.
const DURATION: Duration = Duration::from_millis(1000);
/// Windows of a pass.
const SEQUENCES: usize = 8;
/// Sequences that are sampled at once, tokens of their prompts and of what is drawn: about those of a chat
/// with the lessons.
const SAMPLED: usize = 64;
const PROMPT_TOKENS: usize = 24;
const NEW_TOKENS: usize = 12;

/// Operations a second of passes forward and backward over whole windows.
fn passes_per_sec<B: Backend>(b: B, c: &Config) -> f64 {
    let tokens = SEQUENCES * c.seq_len;
    tokens as f64 * c.training_flops_per_token() / mean_secs(training_work(b, c.clone(), SEQUENCES))
}

/// Operations a second of sampling answers to short prompts, many at once.
fn sampling_per_sec<B: Backend>(b: B, c: &Config) -> f64 {
    let (prompt, new) = (PROMPT_TOKENS.min(c.seq_len / 2), NEW_TOKENS.min(c.seq_len / 2));
    let secs = mean_secs(sampling_work(b, c.clone(), SAMPLED, prompt, new));
    (SAMPLED * (prompt + new)) as f64 * reading_flops(c, prompt + new) / secs
}

/// Operations of a token that is only read, in sequences of `len` tokens: a pass forward is a third of one
/// both ways.
pub(super) fn reading_flops(c: &Config, len: usize) -> f64 {
    c.training_flops_per_token_of(len as f64) / 3.0
}

/// The mean time of `work` in seconds, after a first time that allocates.
fn mean_secs(mut work: impl FnMut()) -> f64 {
    work();
    let (began, mut times) = (Instant::now(), 0);
    while times < 2 || began.elapsed() < DURATION {
        work();
        times += 1;
    }
    began.elapsed().as_secs_f64() / f64::from(times)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn training_has_what_the_evaluation_leaves() {
        assert_eq!(training_secs(10.0, 100.0), 470.0);
        assert_eq!(training_secs(1.0, 50.0), 1.0);
        assert!((stages_secs(10.5) - 600.0).abs() < 1e-9);
    }

    #[test]
    fn operations_add_up_and_take_their_own_time() {
        let mut sum = Operations { passes: 6.0, sampling: 1.0 };
        sum += Operations { passes: 3.0, sampling: 7.0 };
        assert_eq!((sum, sum.total()), (Operations { passes: 9.0, sampling: 8.0 }, 17.0));
        assert_eq!(sum.secs(Speeds { passes: 3.0, sampling: 2.0 }), 7.0);
    }
}
