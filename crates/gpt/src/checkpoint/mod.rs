//! A checkpoint is a Hugging Face model directory that `transformers` loads as it is, and two files more:
//!
//! ```text
//! config.json  model.safetensors  generation_config.json     as GPT2LMHeadModel saves them
//! tokenizer.json  tokenizer_config.json                      the tokenizer's, carried along
//! optimizer.safetensors   AdamW's moments, in our layout: `m.` and `v.` + the names of `model::specs`
//! mynah.json              stage, step, seed, parent, evaluation, length and BLAKE3 of every file
//! ```
//!
//! [`save`] writes one in a way that a kill, a power cut or a full disk cannot turn into a damaged one; [`verify`] and
//! [`newest_good`] find damage from elsewhere; [`open`] reads any GPT-2 directory, whoever wrote it. Runs, and which of
//! their checkpoints stay, are not known here.

mod disk;
mod family;
mod find;
mod gpt2;
mod load;
mod manifest;
mod save;
mod tensor_file;
#[cfg(test)]
mod tests;
mod writer;

pub use disk::{Disk, Operation, Watcher};
pub use find::{ModelDir, Newest, newest_good, resolve_model, steps};
pub use load::{Checkpoint, open, to_backend, to_host};
pub use manifest::{About, FileRecord, Manifest, verify};
pub use save::{Contents, from_backend, from_host, save, save_on};

const CONFIG: &str = "config.json";
const GENERATION_CONFIG: &str = "generation_config.json";
const MODEL: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const OPTIMIZER: &str = "optimizer.safetensors";
const FIRST_MOMENT: &str = "m.";
const SECOND_MOMENT: &str = "v.";

// Files are little-endian, and arrays are written as they lie in memory.
const _: () = assert!(cfg!(target_endian = "little"));
