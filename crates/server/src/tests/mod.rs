//! A server on small models, asked over sockets.

mod answers;
mod fixture;
mod guard;
mod leaving;
mod limits;
mod logprobs;
mod other;
mod panics;
mod streams;
