//! Training: what every stage shares. The optimizer step, the schedule, and where a run lives on disk.

mod lanes;
mod passes;
pub mod run;
mod schedule;
mod scoring;
mod state;
mod trainer;

pub use lanes::{Lane, LaneSums};
pub use passes::{Frozen, Outputs};
pub use schedule::{Decay, Schedule};
pub use scoring::TextLoss;
pub use trainer::{Derivatives, Optimizer, Trainer, Update};
