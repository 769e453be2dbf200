#![doc = include_str!("../README.md")]

pub mod chat;
pub mod checkpoint;
pub mod complete;
pub mod eval;
pub mod lessons;
pub mod model;
pub mod objective;
pub mod plan;
pub mod report;
pub mod sandbox;
pub mod stage;
pub mod train;

pub use text::{corpus, data, hub, numbers, output, progress, streams, tokenizer};
