//! The program as scripts meet it: what is typed, what comes out, how it ends. No network, no Python.

mod bad_input;
mod bench;
mod interrupt;
mod readme;
mod road;
mod usage;
mod workshop;
