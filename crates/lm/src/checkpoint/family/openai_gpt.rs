//! GPT-1 as `transformers` keeps it: `OpenAIGPTLMHeadModel`. The feed-forward layer is always four times as
//! wide as the model, and its `gelu` is the form with the hyperbolic tangent.

use anyhow::Result;
use serde_json::{Value, json};

use super::fields::{dropout, expect, field, shortest};
use super::{Family, LM_HEAD_WEIGHT, Names, SCORE_WEIGHT, conv1d, whole};
use crate::model::Config;

/// The family.
pub(super) static OPENAI_GPT: Family = Family {
    model_type: "openai-gpt",
    with_head: "OpenAIGPTLMHeadModel",
    with_score: "OpenAIGPTForSequenceClassification",
    without_head: "OpenAIGPTModel",
    prefix: "transformer.",
    names: Names {
        tensors: &[&[
            whole("wte", "transformer.tokens_embed.weight"),
            whole("wpe", "transformer.positions_embed.weight"),
            whole("blocks.{}.norm1.weight", "transformer.h.{}.ln_1.weight"),
            whole("blocks.{}.norm1.bias", "transformer.h.{}.ln_1.bias"),
            conv1d("blocks.{}.qkv.weight", "transformer.h.{}.attn.c_attn.weight"),
            whole("blocks.{}.qkv.bias", "transformer.h.{}.attn.c_attn.bias"),
            conv1d("blocks.{}.attn_out.weight", "transformer.h.{}.attn.c_proj.weight"),
            whole("blocks.{}.attn_out.bias", "transformer.h.{}.attn.c_proj.bias"),
            whole("blocks.{}.norm2.weight", "transformer.h.{}.ln_2.weight"),
            whole("blocks.{}.norm2.bias", "transformer.h.{}.ln_2.bias"),
            conv1d("blocks.{}.mlp_up.weight", "transformer.h.{}.mlp.c_fc.weight"),
            whole("blocks.{}.mlp_up.bias", "transformer.h.{}.mlp.c_fc.bias"),
            conv1d("blocks.{}.mlp_down.weight", "transformer.h.{}.mlp.c_proj.weight"),
            whole("blocks.{}.mlp_down.bias", "transformer.h.{}.mlp.c_proj.bias"),
            whole("lm_head", LM_HEAD_WEIGHT),
            whole("score.weight", SCORE_WEIGHT),
        ]],
        buffers: &["transformer.h.{}.attn.bias", "transformer.position_ids"],
        scales_attention: true,
    },
    read_config,
    write_config,
};

/// Reads the fields that decide what the model computes; defaults are those of `OpenAIGPTConfig`.
fn read_config(json: &Value, warnings: &mut Vec<String>) -> Result<Config> {
    expect(json, "afn", "gelu", &["gelu".into()])?;
    let shape = Config::gpt1(
        field(json, "vocab_size", None)?,
        field(json, "n_positions", None)?,
        field(json, "n_layer", None)?,
        field(json, "n_head", None)?,
        field(json, "n_embd", None)?,
    );
    Ok(Config {
        dropout: dropout(json, ["embd_pdrop", "attn_pdrop", "resid_pdrop"], 0.1, warnings)?,
        norm_eps: field(json, "layer_norm_epsilon", Some(1e-5))?,
        tied_head: field(json, "tie_word_embeddings", Some(true))?,
        ..shape
    })
}

fn write_config(config: &Config) -> Value {
    let dropout = shortest(config.dropout);
    json!({
        "vocab_size": config.vocab_size,
        "n_positions": config.seq_len,
        "n_ctx": config.seq_len,
        "n_embd": config.d_model,
        "n_layer": config.n_layer,
        "n_head": config.n_head,
        "afn": "gelu",
        "resid_pdrop": dropout,
        "embd_pdrop": dropout,
        "attn_pdrop": dropout,
        "layer_norm_epsilon": shortest(config.norm_eps),
    })
}
