//! Training: what every stage shares. The optimizer step, the schedule, and where a run lives on disk.

pub mod run;
mod schedule;
mod state;
mod trainer;

pub use schedule::Schedule;
pub use trainer::{Optimizer, Trainer, Update};
