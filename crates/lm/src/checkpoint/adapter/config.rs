//! `adapter_config.json`: understood with the defaults of PEFT 0.21, and written so that it understands it. What
//! changes the mathematics and is not done here is refused by name.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::super::ADAPTER_CONFIG;
use super::super::generation::read_object;
use super::super::tensor_file::TensorFiles;
use super::arrays::{FACTORS, full_name};
use super::layout::{matrices, suffixes};
use crate::model::{Adapted, Config, Lora, ends_in};

/// The model that an adapter stands beside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaseModel {
    /// Its directory, or `OWNER/NAME` of the hub.
    pub model: String,
    /// Of a model of the hub, the commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// BLAKE3 of its tensors.
    pub digest: String,
}

/// What changes what is computed, and is not done here where it has another value.
const REFUSED: &[&str] = &[
    "lora_bias",
    "ensure_weight_tying",
    "trainable_token_indices",
    "target_parameters",
    "layer_replication",
    "alora_invocation_tokens",
    "use_bdlora",
    "kasa_config",
    "velora_config",
    "monteclora_config",
    "arrow_config",
    "use_qalora",
];

/// Initialisations that change the base.
const CHANGES_BASE: &[&str] = &["pissa", "olora", "corda", "loftq", "lora_ga"];

/// What is understood, and what changes nothing.
const KNOWN: &[&str] = &[
    "alpha_pattern",
    "auto_mapping",
    "base_model_name_or_path",
    "bias",
    "corda_config",
    "eva_config",
    "exclude_modules",
    "fan_in_fan_out",
    "inference_mode",
    "init_lora_weights",
    "layers_pattern",
    "layers_to_transform",
    "loftq_config",
    "lora_alpha",
    "lora_dropout",
    "lora_ga_config",
    "megatron_config",
    "megatron_core",
    "modules_to_save",
    "peft_type",
    "peft_version",
    "qalora_group_size",
    "r",
    "rank_pattern",
    "revision",
    "runtime_config",
    "target_modules",
    "task_type",
    "use_dora",
    "use_rslora",
];

/// What a file tells.
pub(super) struct Told {
    fields: Map<String, Value>,
    /// Whether a head that scores is in the adapter's file.
    pub(super) scores: bool,
    /// What a person should know.
    pub(super) warnings: Vec<String>,
}

/// The name of the base in a directory's file: its path, or that of the hub at a revision.
pub(in super::super) fn base_of(dir: &Path) -> Result<Option<(String, Option<String>)>> {
    let fields = read_object(&dir.join(ADAPTER_CONFIG))?.unwrap_or_default();
    let text = |key: &str| fields.get(key).and_then(Value::as_str).map(str::to_owned);
    Ok(text("base_model_name_or_path").map(|base| (base, text("revision"))))
}

/// Reads the file of a directory.
///
/// # Errors
/// What of it is not supported, by name.
pub(super) fn read(dir: &Path) -> Result<Told> {
    let path = dir.join(ADAPTER_CONFIG);
    let fields = read_object(&path)?.with_context(|| format!("{}: missing", path.display()))?;
    understand(fields).with_context(|| path.display().to_string())
}

/// Whether a value is that of something that is off.
fn is_off(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(values) => values.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

fn understand(fields: Map<String, Value>) -> Result<Told> {
    let text = |key: &str| fields.get(key).and_then(Value::as_str);
    ensure!(
        text("peft_type") == Some("LORA"),
        "peft_type {} is not supported; known is \"LORA\"",
        fields.get("peft_type").unwrap_or(&Value::Null)
    );
    for key in REFUSED {
        if let Some(value) = fields.get(*key).filter(|value| !is_off(value)) {
            bail!("{key} is {value}, which is not supported: it changes what the model computes");
        }
    }
    let bias = text("bias").unwrap_or("none");
    ensure!(bias == "none", "bias {bias:?} is not supported: it changes the base's own biases");
    if let Some(init) = text("init_lora_weights") {
        ensure!(
            !CHANGES_BASE.iter().any(|changes| init.starts_with(changes)),
            "init_lora_weights {init:?} is not supported: it changes the base's weights; convert it with PEFT \
             (save_pretrained with path_initial_model_for_weight_conversion)"
        );
    }
    let scores = match text("task_type") {
        None | Some("CAUSAL_LM") => false,
        Some("SEQ_CLS") => true,
        Some(other) => bail!("task_type {other:?} is not supported; known are \"CAUSAL_LM\" and \"SEQ_CLS\""),
    };
    let saved = strings(&fields, "modules_to_save")?.unwrap_or_default();
    // Those that PEFT names for every classifier; there is one of them.
    let head = ["score", "classifier"];
    if let Some(other) = saved.iter().find(|name| !scores || !head.contains(&name.as_str())) {
        bail!(
            "modules_to_save has {other:?}: whole matrices beside an adapter are not supported, but for a head that scores"
        );
    }
    let unknown = fields.iter().filter(|(key, value)| {
        !is_off(value) && !KNOWN.contains(&key.as_str()) && !REFUSED.contains(&key.as_str())
    });
    let warnings =
        unknown.map(|(key, value)| format!("{key} {value} is nothing that is read here")).collect();
    Ok(Told { fields, scores, warnings })
}

fn strings(fields: &Map<String, Value>, key: &str) -> Result<Option<Vec<String>>> {
    match fields.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => serde_json::from_value(value.clone())
            .map(Some)
            .with_context(|| format!("{key} is {value}: a list of names is understood")),
    }
}

impl Told {
    /// The settings, for a model of this shape.
    ///
    /// # Errors
    /// A value is none that can be.
    pub(super) fn lora(&self, config: &Config, tensors: &TensorFiles) -> Result<Lora> {
        let fields = &self.fields;
        let number = |key: &str, default: f64| match fields.get(key) {
            None | Some(Value::Null) => Ok(default),
            Some(value) => value
                .as_f64()
                .filter(|number| number.is_finite() && *number >= 0.0)
                .with_context(|| format!("{key} is {value}")),
        };
        let pattern = |key: &str| -> Result<BTreeMap<String, f64>> {
            let value = fields.get(key).filter(|value| !value.is_null()).cloned().unwrap_or(json!({}));
            serde_json::from_value(value.clone()).with_context(|| format!("{key} is {value}"))
        };
        let is_name =
            |name: &String| name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'));
        let (ranks, alphas) = (pattern("rank_pattern")?, pattern("alpha_pattern")?);
        if let Some(name) = ranks.keys().chain(alphas.keys()).find(|name| !is_name(name)) {
            bail!("rank_pattern and alpha_pattern are understood with names, and {name:?} is an expression");
        }
        let rank = number("r", 8.0)?;
        for rank in ranks.values().chain([&rank]) {
            ensure!((1.0..=65536.0).contains(rank) && rank.fract() == 0.0, "a rank of {rank} cannot be");
        }
        Ok(Lora {
            rank: rank as usize,
            alpha: number("lora_alpha", 8.0)?,
            rslora: fields.get("use_rslora").and_then(Value::as_bool).unwrap_or(false),
            dora: fields.get("use_dora").and_then(Value::as_bool).unwrap_or(false),
            dropout: number("lora_dropout", 0.0)? as f32,
            targets: self.targets(config, tensors)?,
            rank_pattern: ranks.into_iter().map(|(name, rank)| (name, rank as usize)).collect(),
            alpha_pattern: alphas,
        })
    }

    /// The matrices that are adapted. Where the file has more than a list of names to say (an expression, names to
    /// leave out, numbers of layers), its tensors tell.
    fn targets(&self, config: &Config, tensors: &TensorFiles) -> Result<Adapted> {
        let is_set = |key: &str| self.fields.get(key).is_some_and(|value| !is_off(value));
        let listed = self.fields.get("target_modules").is_some_and(Value::is_array);
        if listed && !is_set("exclude_modules") && !is_set("layers_to_transform") {
            let mut names = strings(&self.fields, "target_modules")?.unwrap_or_default();
            names.sort();
            return Ok(Adapted::Named(names));
        }
        let adapted = |name: &String| tensors.contains(&full_name(&format!("{name}.{}", FACTORS[0])));
        let names = matrices(config)?.into_iter().map(|module| module.name).filter(adapted);
        Ok(Adapted::Named(names.collect()))
    }
}

/// The text of the file for an adapter beside `base`.
pub(super) fn to_text(lora: &Lora, config: &Config, base: Option<&BaseModel>) -> Result<String> {
    let scores = config.n_label.is_some();
    let targets = match &lora.targets {
        Adapted::All => suffixes(&Config { n_label: None, ..config.clone() })?,
        Adapted::Named(names) => names.clone(),
    };
    let conv1d = ["c_attn", "c_proj", "c_fc"];
    let fans = targets.iter().any(|target| conv1d.iter().any(|name| ends_in(target, name)))
        && super::super::family::keeps_conv1d(config)?;
    let json = json!({
        "alpha_pattern": lora.alpha_pattern,
        "auto_mapping": null,
        "base_model_name_or_path": base.map(|base| &base.model),
        "bias": "none",
        "fan_in_fan_out": fans,
        "inference_mode": true,
        "init_lora_weights": true,
        "layers_pattern": null,
        "layers_to_transform": null,
        "lora_alpha": whole(lora.alpha),
        "lora_dropout": lora.dropout.to_string().parse::<f64>().unwrap_or(f64::from(lora.dropout)),
        "modules_to_save": scores.then_some(["score"]),
        "peft_type": "LORA",
        "r": lora.rank,
        "rank_pattern": lora.rank_pattern,
        "revision": base.and_then(|base| base.revision.as_ref()),
        "target_modules": targets,
        "task_type": if scores { "SEQ_CLS" } else { "CAUSAL_LM" },
        "use_dora": lora.dora,
        "use_rslora": lora.rslora,
    });
    Ok(serde_json::to_string_pretty(&json)? + "\n")
}

/// A number without a point where it is whole, as PEFT writes it.
fn whole(number: f64) -> Value {
    if number.fract() == 0.0 && number.abs() < 1e15 { json!(number as i64) } else { json!(number) }
}
