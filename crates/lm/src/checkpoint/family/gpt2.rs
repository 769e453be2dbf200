//! GPT-2 as `transformers` keeps it: `GPT2LMHeadModel`, whose linear layers are `Conv1D`, `[d_in, d_out]`.

use anyhow::Result;
use serde_json::{Value, json};

use super::fields::{dropout, expect, field, shortest};
use super::{Family, LM_HEAD_WEIGHT, Names, SCORE_WEIGHT, conv1d, whole};
use crate::model::Config;

/// The family.
pub(super) static GPT2: Family = Family {
    model_type: "gpt2",
    with_head: "GPT2LMHeadModel",
    with_score: "GPT2ForSequenceClassification",
    without_head: "GPT2Model",
    prefix: "transformer.",
    names: Names {
        tensors: &[&[
            whole("wte", "transformer.wte.weight"),
            whole("wpe", "transformer.wpe.weight"),
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
            whole("final_norm.weight", "transformer.ln_f.weight"),
            whole("final_norm.bias", "transformer.ln_f.bias"),
            whole("lm_head", LM_HEAD_WEIGHT),
            whole("score.weight", SCORE_WEIGHT),
        ]],
        // The causal mask and its value, which old files carry along.
        buffers: &["transformer.h.{}.attn.bias", "transformer.h.{}.attn.masked_bias"],
        scales_attention: true,
    },
    read_config,
    write_config,
};

/// Reads the fields that decide what the model computes; defaults are those of `GPT2Config`.
fn read_config(json: &Value, warnings: &mut Vec<String>) -> Result<Config> {
    let gelu = ["gelu_new", "gelu_pytorch_tanh"].map(Value::from);
    expect(json, "activation_function", "gelu_new", &gelu)?;
    for (name, supported) in [
        ("scale_attn_weights", true),
        ("scale_attn_by_inverse_layer_idx", false),
        ("add_cross_attention", false),
    ] {
        expect(json, name, supported, &[supported.into()])?;
    }
    let shape = Config::gpt2(
        field(json, "vocab_size", None)?,
        field(json, "n_positions", None)?,
        field(json, "n_layer", None)?,
        field(json, "n_head", None)?,
        field(json, "n_embd", None)?,
    );
    Ok(Config {
        d_ff: field(json, "n_inner", Some(shape.d_ff))?,
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
        // The older name of the same number, which converters still read.
        "n_ctx": config.seq_len,
        "n_embd": config.d_model,
        "n_layer": config.n_layer,
        "n_head": config.n_head,
        "n_inner": config.d_ff,
        "activation_function": "gelu_new",
        "resid_pdrop": dropout,
        "embd_pdrop": dropout,
        "attn_pdrop": dropout,
        "layer_norm_epsilon": shortest(config.norm_eps),
        "scale_attn_weights": true,
        "scale_attn_by_inverse_layer_idx": false,
        "reorder_and_upcast_attn": false,
    })
}
