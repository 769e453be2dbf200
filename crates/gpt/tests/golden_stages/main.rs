//! The first steps of every stage against PyTorch (`tools/golden_stages.py`), with everything switched on
//! that a user can switch on.
//!
//! Each stage runs as a user runs it, through its public function, on a tiny GPT-2 and the `f64` backend;
//! compared are its journal and its checkpoints. `MYNAH_GOLDEN_INPUTS=1` writes anew what the script makes
//! its figures of.
#![allow(clippy::unwrap_used)] // A test that finds no value has failed.

mod candidates;
mod distil;
mod dpo;
mod finetune;
mod fixture;
mod golden;
mod grpo;
mod held_out;
mod kto;
mod lanes;
mod ppo;
mod pretrain;
mod rankings;
mod reward;
mod sft;
#[path = "../workshop/mod.rs"]
mod workshop;
