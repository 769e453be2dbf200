//! The stages: one file for each, reading like the paper's algorithm.

mod episodes;
mod held_out;
mod init;
mod ppo;
mod pretrain;
mod settings;
mod speedrun;
mod training_loop;

pub use init::Init;
pub use ppo::{Gold, Options as PpoOptions, Outcome as PpoOutcome, PpoSettings, ppo};
pub use pretrain::{Options as PretrainOptions, Outcome as PretrainOutcome, Start, pretrain};
pub use settings::{Family, Own, PRESETS, Regime, Settings, Shape, StageSettings};
pub use speedrun::{Options as SpeedrunOptions, Outcome as SpeedrunOutcome, TRAINING_SECS, speedrun};
pub use training_loop::Machine;
