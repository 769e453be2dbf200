//! GPT-2 as `transformers` keeps it: `GPT2LMHeadModel`, whose linear layers are `Conv1D`, `[d_in, d_out]`.

use anyhow::{Context, Result, ensure};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::family::{Family, LM_HEAD_WEIGHT, Leaf};
use crate::model::Config;

const fn plain(ours: &'static str, theirs: &'static str) -> Leaf {
    Leaf { ours, theirs, transposed: false }
}

const fn conv1d(ours: &'static str, theirs: &'static str) -> Leaf {
    Leaf { ours, theirs, transposed: true }
}

/// The family.
pub(super) static GPT2: Family = Family {
    model_type: "gpt2",
    with_head: "GPT2LMHeadModel",
    without_head: "GPT2Model",
    prefix: "transformer.",
    leaves: &[
        plain("wte", "transformer.wte.weight"),
        plain("wpe", "transformer.wpe.weight"),
        plain("blocks.{}.norm1.weight", "transformer.h.{}.ln_1.weight"),
        plain("blocks.{}.norm1.bias", "transformer.h.{}.ln_1.bias"),
        conv1d("blocks.{}.qkv.weight", "transformer.h.{}.attn.c_attn.weight"),
        plain("blocks.{}.qkv.bias", "transformer.h.{}.attn.c_attn.bias"),
        conv1d("blocks.{}.attn_out.weight", "transformer.h.{}.attn.c_proj.weight"),
        plain("blocks.{}.attn_out.bias", "transformer.h.{}.attn.c_proj.bias"),
        plain("blocks.{}.norm2.weight", "transformer.h.{}.ln_2.weight"),
        plain("blocks.{}.norm2.bias", "transformer.h.{}.ln_2.bias"),
        conv1d("blocks.{}.mlp_up.weight", "transformer.h.{}.mlp.c_fc.weight"),
        plain("blocks.{}.mlp_up.bias", "transformer.h.{}.mlp.c_fc.bias"),
        conv1d("blocks.{}.mlp_down.weight", "transformer.h.{}.mlp.c_proj.weight"),
        plain("blocks.{}.mlp_down.bias", "transformer.h.{}.mlp.c_proj.bias"),
        plain("final_norm.weight", "transformer.ln_f.weight"),
        plain("final_norm.bias", "transformer.ln_f.bias"),
        plain("lm_head", LM_HEAD_WEIGHT),
    ],
    // The causal mask and its value, which old files carry along.
    buffers: &["transformer.h.{}.attn.bias", "transformer.h.{}.attn.masked_bias"],
    read_config,
    write_config,
};

/// Reads the fields that decide what the model computes; defaults are those of `GPT2Config`.
fn read_config(json: &Value, warnings: &mut Vec<String>) -> Result<Config> {
    let activation: String = field(json, "activation_function", Some("gelu_new".into()))?;
    ensure!(
        matches!(activation.as_str(), "gelu_new" | "gelu_pytorch_tanh"),
        "activation_function {activation:?} is not supported; known are \"gelu_new\" and its other name, \
         \"gelu_pytorch_tanh\""
    );
    for (name, supported) in [
        ("scale_attn_weights", true),
        ("scale_attn_by_inverse_layer_idx", false),
        ("add_cross_attention", false),
    ] {
        let value = field(json, name, Some(supported))?;
        ensure!(value == supported, "{name} {value} is not supported, only {supported} is");
    }
    let dropout = field(json, "resid_pdrop", Some(0.1))?;
    for name in ["embd_pdrop", "attn_pdrop"] {
        let other: f32 = field(json, name, Some(0.1))?;
        if other != dropout {
            warnings.push(format!(
                "config.json has {name} {other} and resid_pdrop {dropout}, which is taken for both in further training"
            ));
        }
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
        dropout,
        norm_eps: field(json, "layer_norm_epsilon", Some(1e-5))?,
        tied_head: field(json, "tie_word_embeddings", Some(true))?,
        ..shape
    })
}

/// A field, or what stands for it when it is missing or null.
fn field<T: DeserializeOwned>(json: &Value, name: &str, default: Option<T>) -> Result<T> {
    match json.get(name) {
        None | Some(Value::Null) => default.with_context(|| format!("{name} is missing")),
        Some(value) => T::deserialize(value).with_context(|| format!("{name} is {value}")),
    }
}

fn write_config(config: &Config, eot_token: Option<u32>) -> Value {
    let &Config { vocab_size, seq_len, n_layer, n_head, d_model, d_ff, dropout, norm_eps, tied_head, .. } =
        config;
    let (dropout, norm_eps) = (shortest(dropout), shortest(norm_eps));
    json!({
        "architectures": [GPT2.with_head],
        "model_type": GPT2.model_type,
        "vocab_size": vocab_size,
        "n_positions": seq_len,
        // The older name of the same number, which converters still read.
        "n_ctx": seq_len,
        "n_embd": d_model,
        "n_layer": n_layer,
        "n_head": n_head,
        "n_inner": d_ff,
        "activation_function": "gelu_new",
        "resid_pdrop": dropout,
        "embd_pdrop": dropout,
        "attn_pdrop": dropout,
        "layer_norm_epsilon": norm_eps,
        "initializer_range": 0.02,
        "scale_attn_weights": true,
        "scale_attn_by_inverse_layer_idx": false,
        "reorder_and_upcast_attn": false,
        "use_cache": true,
        "bos_token_id": eot_token,
        "eos_token_id": eot_token,
        "tie_word_embeddings": tied_head,
        "torch_dtype": "float32",
        "dtype": "float32",
    })
}

/// The `f64` with the fewest digits that is this `f32`: 0.1 and not 0.10000000149011612.
fn shortest(x: f32) -> f64 {
    x.to_string().parse().unwrap_or(f64::from(x))
}
