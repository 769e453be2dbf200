//! Training: what every stage shares. The optimizer step, the schedule, and where a run lives on disk.

mod distil;
mod lanes;
mod muon;
mod over_ranks;
mod passes;
pub mod run;
mod schedule;
mod scoring;
mod shards;
mod speed;
mod state;
mod trainer;

pub use distil::Teacher;
pub use lanes::{Lane, LaneSums};
pub use passes::{Frozen, Outputs, Reference};
pub use schedule::{Decay, Schedule};
pub use scoring::TextLoss;
pub use shards::most_owned;
pub use speed::update_work;
pub use trainer::{Derivatives, Entropies, Optimizer, Trainer, Update};
