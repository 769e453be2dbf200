//! The rotary embedding in a `config.json`: `rope_theta` and `rope_scaling` of transformers 4,
//! `rope_parameters` of 5.

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::fields::{expect, field};
use crate::model::{Rope, RopeScaling};

/// Every field that some kind of embedding reads and that is understood here. What a kind does not read
/// changes nothing.
const KNOWN: &[&str] = &[
    "rope_type",
    "type",
    "rope_theta",
    "factor",
    ORIGINAL,
    "low_freq_factor",
    "high_freq_factor",
    "beta_fast",
    "beta_slow",
    "attention_factor",
    "mscale",
    "mscale_all_dim",
    "truncate",
    "partial_rotary_factor",
];

const ORIGINAL: &str = "original_max_position_embeddings";

/// Reads the embedding of a model with a context of `seq_len`, with the defaults of `transformers`.
///
/// # Errors
/// Names what is missing or not supported, and fields that contradict each other.
pub(super) fn read(json: &Value, seq_len: usize, warnings: &mut Vec<String>) -> Result<Rope> {
    let mut found: Option<Rope> = None;
    for name in ["rope_scaling", "rope_parameters"] {
        let Some(table) = json.get(name).filter(|table| !table.is_null() && **table != json!({})) else {
            continue;
        };
        let outside = warnings.len();
        let rope = read_table(table, json, seq_len, warnings).with_context(|| name.to_owned())?;
        match &found {
            None => found = Some(rope),
            Some(other) => {
                ensure!(*other == rope, "rope_scaling and rope_parameters contradict each other");
                warnings.truncate(outside);
            }
        }
    }
    expect(json, "partial_rotary_factor", 1.0, &[1.0.into(), 1.into()])?;
    let theta = || field(json, "rope_theta", Some(Rope::default().theta));
    found.map_or_else(|| Ok(Rope { theta: theta()?, scaling: RopeScaling::None }), Ok)
}

/// Reads `rope_scaling` or `rope_parameters` of the configuration `json`.
fn read_table(table: &Value, json: &Value, seq_len: usize, warnings: &mut Vec<String>) -> Result<Rope> {
    let fields = table.as_object().with_context(|| format!("is {table}"))?;
    // transformers reads no other fields here; tables and lists are of embeddings of other kinds.
    for (unknown, value) in fields.iter().filter(|(key, _)| !KNOWN.contains(&key.as_str())) {
        ensure!(
            !value.is_object() && !value.is_array(),
            "{unknown} is not supported; known are {}",
            KNOWN.join(", ")
        );
        if !value.is_null() && unknown != "finetuned" {
            warnings.push(format!(
                "config.json has a rotary embedding with {unknown} {value}, which nothing reads"
            ));
        }
    }
    expect(table, "partial_rotary_factor", 1.0, &[1.0.into(), 1.into()])?;

    let outer = field(json, "rope_theta", Some(Rope::default().theta))?;
    let theta = field(table, "rope_theta", Some(outer))?;
    ensure!(
        json.get("rope_theta").is_none_or(Value::is_null) || theta == outer,
        "rope_theta is {theta} here and {outer} outside"
    );
    let number = |name: &str, default: Option<f64>| field::<f64>(table, name, default);
    // Without it the model is taken to have been trained with its whole context.
    let original = || -> Result<usize> {
        let original = field(table, ORIGINAL, Some(seq_len))?;
        let outside = field(json, ORIGINAL, Some(original))?;
        ensure!(outside == original, "{ORIGINAL} is {original} here and {outside} outside");
        Ok(original)
    };
    let kind = field(table, "type", Some("default".to_owned()))?;
    let kind = field(table, "rope_type", Some(kind))?;
    let scaling = match kind.as_str() {
        "default" => RopeScaling::None,
        "linear" => RopeScaling::Linear { factor: number("factor", None)? },
        "dynamic" => {
            warnings.push(format!(
                "config.json has a rotary embedding of the type dynamic, which slows down beyond {seq_len} tokens; within \
                 them, and nothing longer is computed here, it is the default one"
            ));
            RopeScaling::None
        }
        "llama3" => RopeScaling::Llama3 {
            factor: number("factor", None)?,
            low_freq_factor: number("low_freq_factor", None)?,
            high_freq_factor: number("high_freq_factor", None)?,
            original_seq_len: original()?,
        },
        "yarn" => read_yarn(table, original()?, seq_len)?,
        other => {
            bail!("the type {other:?} is not supported; known are default, linear, dynamic, llama3, yarn")
        }
    };
    Ok(Rope { theta, scaling })
}

/// YaRN's fields; one that is 0 counts as missing, as in `transformers`.
fn read_yarn(table: &Value, original_seq_len: usize, seq_len: usize) -> Result<RopeScaling> {
    let optional = |name: &str| -> Result<Option<f64>> {
        Ok(Some(field(table, name, Some(0.0))?).filter(|value| *value != 0.0))
    };
    let factor = field(table, "factor", Some(seq_len as f64 / original_seq_len as f64))?;
    // The paper's formula (§3.4), with a weight on the logarithm.
    let magnitude = |weight: f64| if factor > 1.0 { 0.1 * weight * f64::ln(factor) + 1.0 } else { 1.0 };
    let attention_factor = match (optional("mscale")?, optional("mscale_all_dim")?) {
        (Some(mscale), Some(all)) => magnitude(mscale) / magnitude(all),
        _ => magnitude(1.0),
    };
    Ok(RopeScaling::Yarn {
        factor,
        beta_fast: optional("beta_fast")?.unwrap_or(32.0),
        beta_slow: optional("beta_slow")?.unwrap_or(1.0),
        original_seq_len,
        attention_factor: field(table, "attention_factor", Some(attention_factor))?,
        truncate: field(table, "truncate", Some(true))?,
    })
}

/// Adds the embedding to a configuration, under the names of transformers 4 and of 5.
pub(super) fn write(json: &mut Value, rope: &Rope) {
    let scaling = match rope.scaling {
        RopeScaling::None => json!({ "rope_type": "default" }),
        RopeScaling::Linear { factor } => json!({ "rope_type": "linear", "factor": factor }),
        RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_seq_len } => json!({
            "rope_type": "llama3",
            "factor": factor,
            "low_freq_factor": low_freq_factor,
            "high_freq_factor": high_freq_factor,
            ORIGINAL: original_seq_len,
        }),
        RopeScaling::Yarn { factor, beta_fast, beta_slow, original_seq_len, attention_factor, truncate } => {
            json!({
                "rope_type": "yarn",
                "factor": factor,
                "beta_fast": beta_fast,
                "beta_slow": beta_slow,
                ORIGINAL: original_seq_len,
                "attention_factor": attention_factor,
                "truncate": truncate,
            })
        }
    };
    let mut parameters = scaling.clone();
    parameters["rope_theta"] = rope.theta.into();
    json["rope_theta"] = rope.theta.into();
    json["rope_scaling"] = if rope.scaling == RopeScaling::None { Value::Null } else { scaling };
    json["rope_parameters"] = parameters;
}
