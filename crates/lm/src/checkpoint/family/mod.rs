//! Under which names a family of models is published: every tensor of its files, and which rows of which of
//! our arrays it holds. A further family is one more static like [`GPT2`](gpt2::GPT2), listed in
//! [`FAMILIES`].

mod fields;
mod gpt2;
mod gpt_neo;
mod llama;
mod names;
mod openai_gpt;
mod piece;
mod qwen2;
mod qwen3;
mod rope;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

pub(super) use names::{Names, Rows, Tensor, interleaved, part, whole};
pub(super) use piece::Piece;

use names::conv1d;

use super::dtype::Dtype;
use crate::model::Config;

/// Every family whose directories can be read and written.
pub(super) const FAMILIES: &[&Family] =
    &[&gpt2::GPT2, &openai_gpt::OPENAI_GPT, &gpt_neo::GPT_NEO, &llama::LLAMA, &qwen2::QWEN2, &qwen3::QWEN3];

/// A family of models, as Hugging Face directories spell it.
pub(super) struct Family {
    /// `model_type` in `config.json`.
    model_type: &'static str,
    /// The class with the language-model head, in `architectures` of `config.json`.
    pub(super) with_head: &'static str,
    /// The class with a head that scores.
    pub(super) with_score: &'static str,
    /// The class without a head: names lack the `prefix`, and the head is tied.
    without_head: &'static str,
    /// What stands before the name of every tensor, except the head's.
    prefix: &'static str,
    /// The tensors of its files.
    pub(super) names: Names,
    /// Understands the family's fields of a `config.json`; what a person should know goes to `warnings`.
    read_config: fn(&Value, warnings: &mut Vec<String>) -> Result<Config>,
    /// Writes them, except those that every family has.
    write_config: fn(&Config) -> Value,
}

/// The head's own matrix, under everybody's name.
pub(super) const LM_HEAD_WEIGHT: &str = "lm_head.weight";
/// The matrix of a head that scores.
pub(super) const SCORE_WEIGHT: &str = "score.weight";
/// Its bias, where the last norm has none. `transformers` knows no such tensor: without it all scores move
/// alike.
pub(super) const SCORE_BIAS: &str = "score.bias";

impl Family {
    /// The family of a `config.json`.
    pub(super) fn of(json: &Value) -> Result<&'static Family> {
        let model_type = json.get("model_type").and_then(Value::as_str);
        let architecture = architecture(json);
        let Some(family) = FAMILIES.iter().find(|family| match (model_type, architecture) {
            (Some(model_type), None) => model_type == family.model_type,
            (_, Some(class)) => family.classes().contains(&class),
            (None, None) => false,
        }) else {
            let said = architecture.or(model_type).unwrap_or("nothing");
            bail!("architectures/model_type says {said:?}, which is not supported; known are {}", known());
        };
        if model_type.is_some_and(|said| said != family.model_type) {
            bail!("model_type {:?} contradicts architectures {:?}", model_type, architecture);
        }
        Ok(family)
    }

    /// The family whose directories hold models of this shape: the one that reads back what it writes.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn for_config(config: &Config) -> Result<&'static Family> {
        let holds = |family: &&&Family| {
            let json = family.config_json(config, None, None, Dtype::F32);
            family.config(&json, &mut Vec::new()).is_ok_and(|read| read == *config)
        };
        FAMILIES.iter().find(holds).copied().with_context(|| {
            format!(
                "none of the classes of transformers that are known here ({}) is a model of this shape: {config:?}",
                known()
            )
        })
    }

    /// Understands a `config.json`; what a person should know goes to `warnings`.
    ///
    /// # Errors
    /// Which field is missing, wrong or not supported.
    pub(super) fn config(&self, json: &Value, warnings: &mut Vec<String>) -> Result<Config> {
        ensure!(
            json.get("quantization_config").is_none_or(Value::is_null),
            "quantization_config is there: quantised weights are not supported"
        );
        let mut config = (self.read_config)(json, warnings)?;
        config.tied_head |= architecture(json) == Some(self.without_head);
        if architecture(json) == Some(self.with_score) {
            let labels = json.get("id2label").and_then(Value::as_object);
            config.n_label = Some(labels.map_or(DEFAULT_LABELS, serde_json::Map::len));
        }
        Ok(config)
    }

    /// The classes of `transformers`.
    fn classes(&self) -> [&'static str; 3] {
        [self.with_head, self.with_score, self.without_head]
    }

    /// The class of a model of this family.
    pub(super) fn class(&self, config: &Config) -> &'static str {
        if config.n_label.is_some() { self.with_score } else { self.with_head }
    }

    /// The `config.json` of a model.
    pub(super) fn config_json(
        &self,
        config: &Config,
        eot_token: Option<u32>,
        eos_token: Option<u32>,
        dtype: Dtype,
    ) -> Value {
        let mut json = json!({ "architectures": [self.class(config)], "model_type": self.model_type });
        let rest = json!({
            "initializer_range": 0.02,
            "use_cache": true,
            "bos_token_id": eot_token,
            "eos_token_id": eos_token,
            "tie_word_embeddings": config.tied_head,
            // The name of the field in transformers 4, then in 5.
            "torch_dtype": dtype.torch_name(),
            "dtype": dtype.torch_name(),
        });
        if let (Value::Object(json), Value::Object(own), Value::Object(rest)) =
            (&mut json, (self.write_config)(config), rest)
        {
            json.extend(own.into_iter().chain(rest));
        }
        if let Some(n_label) = config.n_label {
            let names: Vec<String> = (0..n_label).map(|i| format!("LABEL_{i}")).collect();
            name_labels(&mut json, &names);
            json["pad_token_id"] = eot_token.into();
        }
        json
    }

    /// A tensor's full name: files of the class without head leave the prefix out.
    pub(super) fn full_name(&self, name: &str) -> String {
        if name.starts_with(self.prefix) || [LM_HEAD_WEIGHT, SCORE_WEIGHT, SCORE_BIAS].contains(&name) {
            name.to_owned()
        } else {
            format!("{}{name}", self.prefix)
        }
    }
}

/// Writes the names of a head's scores into a `config.json`.
pub(super) fn name_labels(json: &mut Value, names: &[String]) {
    let labels = |pair: fn(&String, usize) -> (String, Value)| -> Value {
        (0..).zip(names).map(|(i, name)| pair(name, i)).collect::<serde_json::Map<_, _>>().into()
    };
    json["id2label"] = labels(|name, i| (i.to_string(), name.clone().into()));
    json["label2id"] = labels(|name, i| (name.clone(), i.into()));
}

/// The class that `transformers` would load a model of this shape with, such as `GPT2LMHeadModel`.
///
/// # Errors
/// There is none, so that such a model could not be saved.
pub fn architecture_of(config: &Config) -> Result<&'static str> {
    Family::for_config(config).map(|family| family.class(config))
}

/// Whether the family of such models keeps its linear layers as `Conv1D`.
pub(super) fn keeps_conv1d(config: &Config) -> Result<bool> {
    Ok(Family::for_config(config)?.names.keeps_conv1d())
}

/// Labels of a `config.json` that lists none.
const DEFAULT_LABELS: usize = 2;

/// The class that a `config.json` names.
fn architecture(json: &Value) -> Option<&str> {
    json.get("architectures")?.get(0)?.as_str()
}

/// All classes, for people.
fn known() -> String {
    let names: Vec<&str> = FAMILIES.iter().flat_map(|family| family.classes()).collect();
    names.join(", ")
}
