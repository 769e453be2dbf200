//! GGUF files: of others, of ours, and such as nobody should trust.

mod container;
mod files;
mod vocabulary;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::super::{Checkpoint, Quant, Written, write_gguf};
use super::super::{Contents, Dtype, from_host, save, to_host};
use super::{about, golden_dir, open, random};
use crate::model::Config;
use text::progress::Silent;
use text::tokenizer::Tokenizer;

/// A golden file, written by the gguf package.
fn golden(name: &str) -> PathBuf {
    golden_dir("").with_file_name("gguf").join(name)
}

/// The smallest tokenizer that is cut as GPT-2's.
fn tokenizer() -> Tokenizer {
    let byte_level =
        json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true });
    let json = json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null,
        "added_tokens": [{
            "id": 0, "content": "<|endoftext|>", "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true,
        }],
        "pre_tokenizer": byte_level, "post_processor": byte_level, "decoder": byte_level,
        "model": {
            "type": "BPE", "vocab": { "<|endoftext|>": 0, "a": 1, "b": 2, "ab": 3, "Ġ": 5 }, "merges": [["a", "b"]],
        },
    });
    Tokenizer::from_texts(json.to_string(), json!({ "eos_token": "<|endoftext|>" }).to_string()).unwrap()
}

/// A checkpoint of random weights.
pub(super) fn saved(dir: &Path, config: &Config) -> Checkpoint {
    let contents = Contents {
        config,
        weights: &random(config, 1),
        dtype: Dtype::F32,
        moments: None,
        beside: &[],
        read: &mut from_host,
        eot_token: Some(0),
        eos_token: Some(0),
        end_tokens: &[],
        files: &[],
        about: about(0),
    };
    save(dir, contents).unwrap();
    open(dir).unwrap()
}

/// Writes a model under our smallest tokenizer.
pub(super) fn write(model: &Checkpoint, quant: Quant, out: &Path) -> anyhow::Result<Written> {
    write_gguf(model, &tokenizer(), "tiny", quant, out, &Silent)
}

fn tokens_json() -> Value {
    serde_json::from_slice(&fs::read(golden("tokens.json")).unwrap()).unwrap()
}

/// What is said about a file of these bytes.
fn refusal(bytes: &[u8]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    fs::write(&path, bytes).unwrap();
    let said = format!("{:#}", open(&path).err().expect("the file is refused"));
    assert!(said.contains("model.gguf"), "{said}");
    said
}
