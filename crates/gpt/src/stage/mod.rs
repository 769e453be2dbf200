//! The stages: one file for each, reading like the paper's algorithm.

mod held_out;
mod init;
mod pretrain;
mod settings;
mod speedrun;
mod training_loop;

pub use init::Init;
pub use pretrain::{Options as PretrainOptions, Outcome as PretrainOutcome, Source, Start, pretrain};
pub use settings::{Family, Own, PRESETS, Regime, Settings, Shape, StageSettings};
pub use speedrun::{Options as SpeedrunOptions, Outcome as SpeedrunOutcome, TRAINING_SECS, speedrun};
pub use training_loop::Machine;
