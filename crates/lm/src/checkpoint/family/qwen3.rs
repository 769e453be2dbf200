//! Qwen3 as `transformers` keeps it, `Qwen3ForCausalLM`: Llama with norms of every head of queries and keys.

use anyhow::Result;
use serde_json::Value;

use super::fields::{expect, field};
use super::{Family, Names, llama, qwen2, whole};
use crate::model::Config;

/// The family.
pub(super) static QWEN3: Family = Family {
    model_type: "qwen3",
    with_head: "Qwen3ForCausalLM",
    with_score: "Qwen3ForSequenceClassification",
    without_head: "Qwen3Model",
    prefix: "model.",
    names: Names {
        tensors: &[
            llama::TENSORS,
            &[
                whole("blocks.{}.q_norm", "model.layers.{}.self_attn.q_norm.weight"),
                whole("blocks.{}.k_norm", "model.layers.{}.self_attn.k_norm.weight"),
            ],
        ],
        buffers: llama::BUFFERS,
        scales_attention: true,
    },
    read_config,
    write_config,
};

/// Width of a head in a `config.json` that does not tell.
const DEFAULT_HEAD_DIM: usize = 128;

fn read_config(json: &Value, warnings: &mut Vec<String>) -> Result<Config> {
    expect(json, "attention_bias", false, &[false.into()])?;
    let head_dim = field(json, "head_dim", Some(DEFAULT_HEAD_DIM))?;
    Ok(Config { qk_norm: true, head_dim, ..qwen2::read_qwen(json, warnings)? })
}

fn write_config(config: &Config) -> Value {
    let mut json = qwen2::write_config(config);
    json["attention_bias"] = false.into();
    json
}
