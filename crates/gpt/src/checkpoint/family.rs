//! Under which names a family of models is published: our leaf, the file's tensor, and whether the file keeps the
//! matrix transposed. A further family is one more static like [`GPT2`](super::gpt2::GPT2), listed in [`FAMILIES`].

use anyhow::{Result, bail};
use serde_json::Value;

use crate::model::Config;

/// Every family whose directories can be read.
const FAMILIES: &[&Family] = &[&super::gpt2::GPT2];

/// A family of models, as Hugging Face directories spell it.
pub(super) struct Family {
    /// `model_type` in `config.json`.
    pub(super) model_type: &'static str,
    /// The class with the language-model head, in `architectures` of `config.json`.
    pub(super) with_head: &'static str,
    /// The class without it: names lack the `prefix`, and the head is tied.
    pub(super) without_head: &'static str,
    /// What stands before the name of every tensor, except the head's.
    pub(super) prefix: &'static str,
    /// The learned arrays; `{}` stands for the number of the block.
    pub(super) leaves: &'static [Leaf],
    /// Tensors that carry nothing learned, to be ignored.
    pub(super) buffers: &'static [&'static str],
    /// Understands a `config.json`; what a person should know goes to `warnings`.
    pub(super) read_config: fn(&Value, warnings: &mut Vec<String>) -> Result<Config>,
    /// Writes a `config.json`.
    pub(super) write_config: fn(&Config, eot_token: Option<u32>) -> Value,
}

/// One learned array under both names.
pub(super) struct Leaf {
    /// The name in [`specs`](crate::model::specs).
    pub(super) ours: &'static str,
    /// The name in the file.
    pub(super) theirs: &'static str,
    /// Whether the file keeps `[d_in, d_out]`.
    pub(super) transposed: bool,
}

/// The head's own matrix, under everybody's name.
pub(super) const LM_HEAD_WEIGHT: &str = "lm_head.weight";

impl Family {
    /// The family of a `config.json`.
    pub(super) fn of(config: &Value) -> Result<&'static Family> {
        let known = || {
            let names: Vec<&str> = FAMILIES.iter().flat_map(|f| [f.with_head, f.without_head]).collect();
            names.join(", ")
        };
        let model_type = config.get("model_type").and_then(Value::as_str);
        let architecture = config.get("architectures").and_then(|list| list.get(0)).and_then(Value::as_str);
        let Some(family) = FAMILIES.iter().find(|family| match (model_type, architecture) {
            (Some(model_type), None) => model_type == family.model_type,
            (_, Some(class)) => class == family.with_head || class == family.without_head,
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

    /// The tensor's name in a file for our leaf `name`, and whether it is transposed there.
    pub(super) fn theirs(&self, name: &str) -> (String, bool) {
        let (pattern, block) = generalise(name);
        let Some(leaf) = self.leaves.iter().find(|leaf| leaf.ours == pattern) else {
            panic!("the leaf {name} has no name in the table of {}", self.model_type)
        };
        (leaf.theirs.replace("{}", block), leaf.transposed)
    }

    /// A tensor's full name: files of the class without head leave the prefix out.
    pub(super) fn full_name(&self, name: &str) -> String {
        if name.starts_with(self.prefix) || name == LM_HEAD_WEIGHT {
            name.to_owned()
        } else {
            format!("{}{name}", self.prefix)
        }
    }

    /// Whether the tensor of this full name carries nothing learned.
    pub(super) fn is_buffer(&self, full_name: &str) -> bool {
        self.buffers.contains(&generalise(full_name).0.as_str())
    }
}

/// `blocks.7.qkv.weight` → `blocks.{}.qkv.weight` and `7`.
fn generalise(name: &str) -> (String, &str) {
    let is_number = |part: &&str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let Some(block) = name.split('.').find(is_number) else {
        return (name.to_owned(), "");
    };
    let parts: Vec<&str> = name.split('.').map(|part| if part == block { "{}" } else { part }).collect();
    (parts.join("."), block)
}
