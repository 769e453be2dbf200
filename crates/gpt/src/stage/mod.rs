//! The stages: one file for each, reading like the paper's algorithm.

mod settings;

pub use settings::{PRESETS, Settings};
