#![doc = include_str!("../README.md")]

pub mod corpus;
pub mod data;
pub mod hub;
pub mod nearest;
pub mod numbers;
pub mod output;
pub mod progress;
pub mod statistics;
pub mod streams;
pub mod system;
pub mod tokenizer;
