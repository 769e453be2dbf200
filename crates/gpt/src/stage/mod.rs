//! The stages: one file for each, reading like the paper's algorithm.

mod held_out;
mod pretrain;
mod settings;
mod speedrun;

pub use pretrain::{Machine, Options as PretrainOptions, Outcome as PretrainOutcome, pretrain};
pub use settings::{PRESETS, Settings};
pub use speedrun::{Options as SpeedrunOptions, Outcome as SpeedrunOutcome, TRAINING_SECS, speedrun};
