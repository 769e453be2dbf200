//! GPT-Neo as `transformers` keeps it, `GPTNeoForCausalLM`: the only published layout with the banded layers
//! of GPT-3. Its queries, keys and values have no biases, and its scores are not divided by √head_dim.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::fields::{dropout, expect, field, shortest};
use super::{Family, LM_HEAD_WEIGHT, Names, Rows, SCORE_WEIGHT, part, whole};
use crate::model::{Config, DEFAULT_BAND};

/// The family.
pub(super) static GPT_NEO: Family = Family {
    model_type: "gpt_neo",
    with_head: "GPTNeoForCausalLM",
    with_score: "GPTNeoForSequenceClassification",
    without_head: "GPTNeoModel",
    prefix: "transformer.",
    names: Names {
        tensors: &[&[
            whole("wte", "transformer.wte.weight"),
            whole("wpe", "transformer.wpe.weight"),
            whole("blocks.{}.norm1.weight", "transformer.h.{}.ln_1.weight"),
            whole("blocks.{}.norm1.bias", "transformer.h.{}.ln_1.bias"),
            part("blocks.{}.qkv.weight", "transformer.h.{}.attn.attention.q_proj.weight", Rows::Queries),
            part("blocks.{}.qkv.weight", "transformer.h.{}.attn.attention.k_proj.weight", Rows::Keys),
            part("blocks.{}.qkv.weight", "transformer.h.{}.attn.attention.v_proj.weight", Rows::Values),
            whole("blocks.{}.attn_out.weight", "transformer.h.{}.attn.attention.out_proj.weight"),
            whole("blocks.{}.attn_out.bias", "transformer.h.{}.attn.attention.out_proj.bias"),
            whole("blocks.{}.norm2.weight", "transformer.h.{}.ln_2.weight"),
            whole("blocks.{}.norm2.bias", "transformer.h.{}.ln_2.bias"),
            whole("blocks.{}.mlp_up.weight", "transformer.h.{}.mlp.c_fc.weight"),
            whole("blocks.{}.mlp_up.bias", "transformer.h.{}.mlp.c_fc.bias"),
            whole("blocks.{}.mlp_down.weight", "transformer.h.{}.mlp.c_proj.weight"),
            whole("blocks.{}.mlp_down.bias", "transformer.h.{}.mlp.c_proj.bias"),
            whole("final_norm.weight", "transformer.ln_f.weight"),
            whole("final_norm.bias", "transformer.ln_f.bias"),
            whole("lm_head", LM_HEAD_WEIGHT),
            whole("score.weight", SCORE_WEIGHT),
        ]],
        buffers: &["transformer.h.{}.attn.attention.bias", "transformer.h.{}.attn.attention.masked_bias"],
        scales_attention: false,
    },
    read_config,
    write_config,
};

/// Reads the fields that decide what the model computes; defaults are those of `GPTNeoConfig`.
fn read_config(json: &Value, warnings: &mut Vec<String>) -> Result<Config> {
    let gelu = ["gelu_new", "gelu_pytorch_tanh"].map(Value::from);
    expect(json, "activation_function", "gelu_new", &gelu)?;
    let shape = Config::gpt3(
        field(json, "vocab_size", None)?,
        field(json, "max_position_embeddings", None)?,
        field(json, "num_layers", None)?,
        field(json, "num_heads", None)?,
        field(json, "hidden_size", None)?,
    );
    let banded = is_banded(json, shape.n_layer)?;
    let window = field(json, "window_size", Some(DEFAULT_BAND))?;
    Ok(Config {
        d_ff: field(json, "intermediate_size", Some(shape.d_ff))?,
        dropout: dropout(json, ["embed_dropout", "attention_dropout", "resid_dropout"], 0.0, warnings)?,
        norm_eps: field(json, "layer_norm_epsilon", Some(1e-5))?,
        tied_head: field(json, "tie_word_embeddings", Some(true))?,
        band: banded.then_some(window),
        ..shape
    })
}

/// A run of layers in `attention_types`: the kinds of some layers, and how often they repeat.
type Run = (Vec<String>, usize);

/// Whether every second layer is `local`, from the second on; none may be.
fn is_banded(json: &Value, n_layer: usize) -> Result<bool> {
    let kinds = || vec!["global".to_owned(), "local".to_owned()];
    let runs: Vec<Run> = field(json, "attention_types", Some(vec![(kinds(), 12)]))?;
    let what = "attention_types must say that all layers are global, or that global and local ones take turns, a \
                global one first";
    let banded = runs.iter().any(|(kinds, _)| kinds.iter().any(|kind| kind == "local"));
    let mut layers = 0usize;
    for (kinds, times) in &runs {
        let length = kinds.len().checked_mul(*times).context(what)?;
        // Without a word about counts that are 0: such a run has no layers.
        if length > 0 {
            let fits = |(i, kind): (usize, &String)| match banded && (layers + i) % 2 == 1 {
                true => kind == "local",
                false => kind == "global",
            };
            let repeats = !banded || *times == 1 || kinds.len().is_multiple_of(2);
            ensure!(kinds.iter().enumerate().all(fits) && repeats, "{what}");
        }
        layers = layers.checked_add(length).context(what)?;
    }
    ensure!(layers == n_layer, "attention_types is about {layers} layers, num_layers is {n_layer}");
    Ok(banded)
}

fn write_config(config: &Config) -> Value {
    let dropout = shortest(config.dropout);
    let n = config.n_layer;
    // The pair is there for a single layer too, with no repetition: it is what tells that layers are banded.
    let mut runs = match config.band {
        Some(_) => vec![json!([["global", "local"], n / 2])],
        None => vec![json!([["global"], n])],
    };
    if config.band.is_some() && n % 2 == 1 {
        runs.push(json!([["global"], 1]));
    }
    json!({
        "vocab_size": config.vocab_size,
        "max_position_embeddings": config.seq_len,
        "hidden_size": config.d_model,
        "num_layers": n,
        "num_heads": config.n_head,
        "intermediate_size": config.d_ff,
        "attention_types": runs,
        "window_size": config.band.unwrap_or(DEFAULT_BAND),
        "activation_function": "gelu_new",
        "resid_dropout": dropout,
        "embed_dropout": dropout,
        "attention_dropout": dropout,
        "layer_norm_epsilon": shortest(config.norm_eps),
    })
}
