#![doc = include_str!("../README.md")]

pub mod chat;
pub mod checkpoint;
pub mod complete;
pub mod model;
pub mod objective;
pub mod plan;
pub mod train;
