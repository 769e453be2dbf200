//! A checkpoint is a Hugging Face model directory that `transformers` loads as it is, and two files more:
//!
//! ```text
//! config.json  model.safetensors  generation_config.json     as GPT2LMHeadModel, LlamaForCausalLM … save them
//! tokenizer.json  tokenizer_config.json                      the tokenizer's, carried along
//! optimizer.safetensors   the optimizer's moments, in our layout: `m.` and `v.` + the names of `model::specs` (no
//!                         `v.` of what Muon learns); and, under `w.`, the weights that model.safetensors does not hold exactly
//! value.safetensors …     further models of the stage, such as the value model of PPO, with their moments
//! adapter_config.json …   in place of the first three, where an adapter was trained, as PEFT saves it
//! mynah.json              stage, step, seed, parent, evaluation, length and BLAKE3 of every file
//! ```
//!
//! [`save`] writes one in a way that a kill, a power cut or a full disk cannot turn into a damaged one;
//! [`verify`] and [`newest_good`] find damage from elsewhere; [`open`] reads the directory of any known
//! family, whoever wrote it. Runs, and which of their checkpoints stay, are not known here.

mod adapter;
mod disk;
mod dtype;
mod family;
mod find;
mod finite;
mod fit;
mod generation;
mod gguf;
mod load;
mod manifest;
mod missing;
mod model;
mod number_format;
mod road;
mod save;
mod shards;
mod stored;
mod tensor_file;
#[cfg(test)]
mod tests;
mod writer;

pub use adapter::{AdapterFiles, BaseModel, Merged, fresh_adapter};
pub use disk::{Disk, Operation, Watcher};
pub use dtype::Dtype;
pub use family::architecture_of;
pub use find::{ModelDir, Newest, newest_good, resolve_model, steps, with_adapter_named};
pub use generation::{Generation, Writing};
pub use gguf::{Quant, Written, write as write_gguf};
pub use load::open;
pub use manifest::{About, FileRecord, Manifest, Task, verify};
pub use model::{Checkpoint, moments_to_backend, to_backend, to_backend_where, to_host};
pub use road::{PLAN, is_finished as road_is_finished, stages as road_stages};
pub use save::{Beside, Contents, from_backend, from_host, save, save_on};
pub use stored::{Stored, fresh_in_blocks, quantised};

const CONFIG: &str = "config.json";
const ADAPTER_CONFIG: &str = "adapter_config.json";
const ADAPTER_MODEL: &str = "adapter_model.safetensors";
const GENERATION_CONFIG: &str = "generation_config.json";
const MODEL: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const OPTIMIZER: &str = "optimizer.safetensors";
const FIRST_MOMENT: &str = "m.";
const SECOND_MOMENT: &str = "v.";
/// A weight that the model's own files do not hold exactly.
const EXACT: &str = "w.";

// Files are little-endian, and arrays are written as they lie in memory.
const _: () = assert!(cfg!(target_endian = "little"));
