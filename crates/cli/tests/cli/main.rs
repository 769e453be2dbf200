//! The program as scripts meet it: what is typed, what comes out, how it ends. No network, no Python.

mod adapters;
mod bad_input;
mod bench;
mod chat;
mod continued;
mod eval;
mod first_hour;
mod gguf;
mod grade;
mod grpo;
mod hub;
#[path = "../../../text/tests/hub/server.rs"]
mod hub_server;
mod interrupt;
mod not_finite;
mod outputs;
mod own_files;
mod rank;
mod readme;
mod road;
mod serve;
mod sized;
mod speedrun;
mod stages;
mod sweep;
mod terminal;
mod tools;
mod usage;
mod workshop;
