//! The chat template of models that had none, and what tokenizers' files say of their tokens' names.

use super::super::files::{CONFIG, SPECIAL_MAP};
use super::super::format::{self, Contents};
use super::Tokenizer;
use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value};

/// Messages between `<|im_start|>ROLE` and `<|im_end|>`, as in ChatML (OpenAI 2023).
pub const OURS: &str = "{% for message in messages %}<|im_start|>{{ message.role }}\n\
    {{ message.content }}<|im_end|>\n\
    {% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

const BEGIN: &str = "<|im_start|>";
const END: &str = "<|im_end|>";

/// `tokenizer` with a chat template: its own, or else [`OURS`], whose two special tokens are added where they are missing,
/// and of which `<|im_end|>` becomes the `eos_token`, so that other programs end an answer there.
///
/// # Errors
/// The tokens cannot be added, for the reasons of [`Tokenizer::extended`].
pub fn with_ours(tokenizer: &Tokenizer) -> Result<Tokenizer> {
    let extended = match tokenizer.chat_template() {
        Some(_) => tokenizer.extended(&[])?,
        None => tokenizer.extended(&[BEGIN, END].map(str::to_owned))?,
    };
    if extended.chat_template().is_some() {
        return Ok(extended);
    }
    let mut config = fields(CONFIG, &extended.config)?;
    config.insert("eos_token".into(), END.into());
    config.insert("chat_template".into(), OURS.into());
    let written = |fields: Map<String, Value>| format!("{:#}\n", Value::Object(fields));
    let special_map = match &extended.special_map {
        None => None,
        Some(text) => {
            let mut map = fields(SPECIAL_MAP, text)?;
            map.insert("eos_token".into(), END.into());
            Some(written(map))
        }
    };
    format::parse(Contents {
        json: extended.json.clone(),
        config: Some(written(config)),
        template: None,
        special_map,
    })
}

/// The tokens that the files name (`bos_token`, `eos_token` …), which templates call by these names.
pub(in crate::tokenizer) fn token_names(tokenizer: &Tokenizer) -> Result<Vec<(String, String)>> {
    let mut names: Vec<(String, String)> = Vec::new();
    let files = [(CONFIG, Some(&tokenizer.config)), (SPECIAL_MAP, tokenizer.special_map.as_ref())];
    for (file, text) in files {
        let Some(text) = text else { continue };
        for (name, value) in fields(file, text)?.iter().filter(|(name, _)| name.ends_with("_token")) {
            let token = value.as_str().or(value["content"].as_str());
            if let Some(token) = token
                && names.iter().all(|(known, _)| known != name)
            {
                names.push((name.clone(), token.to_owned()));
            }
        }
    }
    Ok(names)
}

fn fields(file: &str, text: &str) -> Result<Map<String, Value>> {
    let value: Value = serde_json::from_str(text).with_context(|| format!("{file} is not JSON"))?;
    ensure!(value.is_object(), "{file} is not a JSON object");
    let Value::Object(fields) = value else { unreachable!("checked above") };
    Ok(fields)
}
