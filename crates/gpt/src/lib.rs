#![doc = include_str!("../README.md")]

pub mod chat;
pub mod checkpoint;
pub mod complete;
pub mod corpus;
pub mod data;
pub mod eval;
pub mod hub;
pub mod lessons;
pub mod model;
pub mod numbers;
pub mod objective;
pub mod output;
pub mod plan;
pub mod progress;
pub mod report;
pub mod sandbox;
pub mod stage;
pub mod streams;
mod system;
pub mod tokenizer;
pub mod train;
