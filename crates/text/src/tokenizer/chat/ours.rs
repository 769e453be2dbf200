//! The chat template of models that had none, and what tokenizers' files say of their tokens' names.

use super::super::files::{CONFIG, SPECIAL_MAP};
use super::super::format::{self, Contents};
use super::Tokenizer;
use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::{Map, Value};

/// Messages between `<|im_start|>ROLE` and `<|im_end|>`, as in ChatML (OpenAI 2023). Tools stand before them, a
/// signature a line, which is short enough for small contexts; calls as Qwen2.5 writes them.
pub const OURS: &str = include_str!("ours.jinja").trim_ascii_end();

const BEGIN: &str = "<|im_start|>";
const END: &str = "<|im_end|>";

/// `tokenizer` with a chat template: its own, or else [`OURS`], whose two special tokens are added where they
/// are missing, and of which `<|im_end|>` becomes the `eos_token`, so that other programs end an answer
/// there.
///
/// # Errors
/// The tokens cannot be added, for the reasons of [`Tokenizer::extended`].
pub fn with_ours(tokenizer: &Tokenizer) -> Result<Tokenizer> {
    let extended = match tokenizer.chat_template()? {
        Some(_) => tokenizer.extended(&[])?,
        None => tokenizer.extended(&[BEGIN, END].map(str::to_owned))?,
    };
    if extended.chat_template()?.is_some() {
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
    let json = extended.json.clone();
    let ours =
        format::parse(Contents { json, config: Some(written(config)), special_map, ..Contents::default() })?;
    Ok(ours.with_ends(extended.end_tokens()))
}

/// What [`Tokenizer::chat_template`] does, from the content of `chat_template.jinja`, the names of further
/// templates, and the content of `tokenizer_config.json`.
pub(in crate::tokenizer) fn template_of(
    template: &Option<String>,
    others: &[String],
    config: &str,
) -> Result<Option<String>> {
    if template.is_some() {
        return Ok(template.clone());
    }
    let several = |names: &[String]| {
        let names = names.join(", ");
        anyhow!(
            "there are several chat templates ({names}), and none is named default: name the one to use so"
        )
    };
    ensure!(others.is_empty(), several(others));
    let named: Vec<(String, Value)> = match fields(CONFIG, config)?.remove("chat_template") {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(template)) => return Ok(Some(template)),
        Some(Value::Array(list)) => {
            let name = |named: &Value| named["name"].as_str().unwrap_or("without a name").to_owned();
            list.into_iter().map(|named| (name(&named), named["template"].clone())).collect()
        }
        Some(Value::Object(table)) => table.into_iter().collect(),
        Some(other) => bail!("{CONFIG}: chat_template is {other}, and no text"),
    };
    let names: Vec<String> = named.iter().map(|(name, _)| name.clone()).collect();
    match named.into_iter().find(|(name, _)| name == "default") {
        Some((_, Value::String(template))) => Ok(Some(template)),
        Some(_) => bail!("{CONFIG}: the chat template named default is no text"),
        None if names.is_empty() => Ok(None),
        None => Err(several(&names)),
    }
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
