//! Llama as `transformers` keeps it, `LlamaForCausalLM`, and what Qwen's files share with it: names and
//! fields.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::fields::{dropout, expect, field, shortest};
use super::{Family, LM_HEAD_WEIGHT, Names, Rows, SCORE_BIAS, SCORE_WEIGHT, Tensor, part, rope, whole};
use crate::model::{Config, Positions};

/// The family.
pub(super) static LLAMA: Family = Family {
    model_type: "llama",
    with_head: "LlamaForCausalLM",
    with_score: "LlamaForSequenceClassification",
    without_head: "LlamaModel",
    prefix: "model.",
    names: Names { tensors: &[TENSORS], buffers: BUFFERS, scales_attention: true },
    read_config,
    write_config,
};

/// The tensors of Llama, which are Qwen's too.
pub(super) const TENSORS: &[Tensor] = &[
    whole("wte", "model.embed_tokens.weight"),
    whole("blocks.{}.norm1.weight", "model.layers.{}.input_layernorm.weight"),
    part("blocks.{}.qkv.weight", "model.layers.{}.self_attn.q_proj.weight", Rows::Queries),
    part("blocks.{}.qkv.weight", "model.layers.{}.self_attn.k_proj.weight", Rows::Keys),
    part("blocks.{}.qkv.weight", "model.layers.{}.self_attn.v_proj.weight", Rows::Values),
    whole("blocks.{}.attn_out.weight", "model.layers.{}.self_attn.o_proj.weight"),
    whole("blocks.{}.norm2.weight", "model.layers.{}.post_attention_layernorm.weight"),
    part("blocks.{}.mlp_up.weight", "model.layers.{}.mlp.gate_proj.weight", Rows::Gate),
    part("blocks.{}.mlp_up.weight", "model.layers.{}.mlp.up_proj.weight", Rows::Up),
    whole("blocks.{}.mlp_down.weight", "model.layers.{}.mlp.down_proj.weight"),
    whole("final_norm.weight", "model.norm.weight"),
    whole("lm_head", LM_HEAD_WEIGHT),
    whole("score.weight", SCORE_WEIGHT),
    whole("score.bias", SCORE_BIAS),
];

/// The rotary embedding's frequencies, which old files carry along.
pub(super) const BUFFERS: &[&str] =
    &["model.layers.{}.self_attn.rotary_emb.inv_freq", "model.rotary_emb.inv_freq"];

/// Reads the fields that decide what the model computes; defaults are those of `LlamaConfig`.
fn read_config(json: &Value, warnings: &mut Vec<String>) -> Result<Config> {
    for name in ["attention_bias", "mlp_bias"] {
        expect(json, name, false, &[false.into()])?;
    }
    let config = read_shared(json, warnings)?;
    ensure!(
        config.n_head > 0 && config.d_model.is_multiple_of(config.n_head),
        "hidden_size {} is not a multiple of num_attention_heads {}",
        config.d_model,
        config.n_head
    );
    Ok(config)
}

/// The fields that Llama and Qwen have in common, with Llama's defaults.
pub(super) fn read_shared(json: &Value, warnings: &mut Vec<String>) -> Result<Config> {
    expect(json, "hidden_act", "silu", &["silu", "swish"].map(Value::from))?;
    let shape = Config::modern(
        field(json, "vocab_size", None)?,
        field(json, "max_position_embeddings", None)?,
        field(json, "num_hidden_layers", None)?,
        field(json, "num_attention_heads", None)?,
        field(json, "hidden_size", None)?,
    );
    Ok(Config {
        n_kv_head: field(json, "num_key_value_heads", Some(shape.n_head))?,
        head_dim: field(json, "head_dim", Some(shape.head_dim))?,
        d_ff: field(json, "intermediate_size", None)?,
        // The first two are fields of ours: transformers drops nothing there.
        dropout: dropout(json, ["embd_pdrop", "resid_pdrop", "attention_dropout"], 0.0, warnings)?,
        norm_eps: field(json, "rms_norm_eps", Some(1e-6))?,
        tied_head: field(json, "tie_word_embeddings", Some(false))?,
        positions: Positions::Rotary(rope::read(json, shape.seq_len, warnings)?),
        ..shape
    })
}

fn write_config(config: &Config) -> Value {
    let mut json = write_shared(config);
    json["attention_bias"] = false.into();
    json["mlp_bias"] = false.into();
    json
}

/// The fields that Llama and Qwen have in common.
pub(super) fn write_shared(config: &Config) -> Value {
    let dropout = shortest(config.dropout);
    let mut json = json!({
        "vocab_size": config.vocab_size,
        "max_position_embeddings": config.seq_len,
        "hidden_size": config.d_model,
        "num_hidden_layers": config.n_layer,
        "num_attention_heads": config.n_head,
        "num_key_value_heads": config.n_kv_head,
        "head_dim": config.head_dim,
        "intermediate_size": config.d_ff,
        "hidden_act": "silu",
        "attention_dropout": dropout,
        "embd_pdrop": dropout,
        "resid_pdrop": dropout,
        "rms_norm_eps": shortest(config.norm_eps),
    });
    if let Some(rope) = config.rope() {
        rope::write(&mut json, rope);
    }
    json
}
