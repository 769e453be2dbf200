//! A server on small models, asked over sockets.

mod adapters;
mod answers;
mod distribution;
mod fixture;
mod guard;
mod learn;
mod leaving;
mod limits;
mod logprobs;
mod other;
mod panics;
mod runs;
mod station;
mod streams;
mod tools;
