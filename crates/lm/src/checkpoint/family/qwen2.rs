//! Qwen2 as `transformers` keeps it, `Qwen2ForCausalLM`: Llama with biases on queries, keys and values.

use anyhow::Result;
use serde_json::Value;

use super::fields::{expect, field};
use super::{Family, Names, Rows, llama, part};
use crate::model::{Biases, Config};

/// The family.
pub(super) static QWEN2: Family = Family {
    model_type: "qwen2",
    with_head: "Qwen2ForCausalLM",
    with_score: "Qwen2ForSequenceClassification",
    without_head: "Qwen2Model",
    prefix: "model.",
    names: Names {
        tensors: &[
            llama::TENSORS,
            &[
                part("blocks.{}.qkv.bias", "model.layers.{}.self_attn.q_proj.bias", Rows::Queries),
                part("blocks.{}.qkv.bias", "model.layers.{}.self_attn.k_proj.bias", Rows::Keys),
                part("blocks.{}.qkv.bias", "model.layers.{}.self_attn.v_proj.bias", Rows::Values),
            ],
        ],
        buffers: llama::BUFFERS,
        scales_attention: true,
    },
    read_config,
    write_config,
};

/// Key and value heads of a `config.json` that does not tell.
const DEFAULT_N_KV_HEAD: usize = 32;

fn read_config(json: &Value, warnings: &mut Vec<String>) -> Result<Config> {
    Ok(Config { biases: Biases::Qkv, ..read_qwen(json, warnings)? })
}

/// What Qwen's files have in common; defaults are those of `Qwen2Config` and `Qwen3Config`.
pub(super) fn read_qwen(json: &Value, warnings: &mut Vec<String>) -> Result<Config> {
    expect(json, "use_sliding_window", false, &[false.into()])?;
    for kind in field(json, "layer_types", Some(Vec::<Value>::new()))? {
        anyhow::ensure!(kind == "full_attention", "layer_types: {kind} is not supported, full_attention is");
    }
    let mut config = llama::read_shared(json, warnings)?;
    if json.get("num_key_value_heads").is_none() {
        config.n_kv_head = DEFAULT_N_KV_HEAD;
    }
    Ok(config)
}

/// Writes what Qwen's files have in common.
pub(super) fn write_config(config: &Config) -> Value {
    let mut json = llama::write_shared(config);
    json["use_sliding_window"] = false.into();
    json["sliding_window"] = Value::Null;
    json
}
