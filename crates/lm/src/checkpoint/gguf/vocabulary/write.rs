//! [`Tokenizer`] → the entries of a GGUF file.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::super::entries::Entries;
use super::super::split::Split;
use super::{ADD_BOS, BYTE_LEVEL, MERGES, MODEL, PRE, ROLES, TEMPLATE, TOKENS, TYPES, token_type};
use text::tokenizer::Tokenizer;

/// Parts of a model in a `tokenizer.json` that must be absent, as they are in GPT-2's.
const WITHOUT_WORDS: [&str; 4] =
    ["dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback"];

/// Writes a tokenizer for a model with `vocab_size` rows of embedding.
///
/// # Errors
/// It is of a kind that GGUF has no words for, or it does not fit the model.
pub(in super::super) fn write(entries: &mut Entries, tokenizer: &Tokenizer, vocab_size: usize) -> Result<()> {
    let json: Value = serde_json::from_str(tokenizer.to_json()).context("tokenizer.json is not JSON")?;
    let model = &json["model"];
    for option in WITHOUT_WORDS {
        let absent = matches!(model[option], Value::Null | Value::Bool(false)) || model[option] == "";
        ensure!(absent, "tokenizer.json has {option} {}, for which GGUF has no words", model[option]);
    }
    let split = Split::of(&json)?;
    let (tokens, types) = tokens(&json, vocab_size)?;
    let merges = model["merges"].as_array().context("tokenizer.json has no merges")?;
    let merges = merges.iter().map(|merge| merge_text(merge).with_context(|| format!("the merge {merge}")));

    entries.text(MODEL, BYTE_LEVEL);
    entries.text(PRE, split.name());
    entries.texts(TOKENS, &tokens);
    entries.integers(TYPES, &types);
    entries.texts(MERGES, &merges.collect::<Result<Vec<_>>>()?);
    let config: Value =
        serde_json::from_str(tokenizer.config_json()).context("tokenizer_config.json is not JSON")?;
    for (key, role) in ROLES {
        let Some(name) = name_of(&config[role]) else { continue };
        let id = tokens.iter().position(|token| token == name);
        entries.size(key, id.with_context(|| format!("its {role} {name:?} is not in the vocabulary"))?)?;
    }
    entries.flag(ADD_BOS, tokenizer.start().is_some());
    if let Some(template) = tokenizer.chat_template()? {
        entries.text(TEMPLATE, &template);
    }
    Ok(())
}

/// The token of every row, and its type.
fn tokens(json: &Value, vocab_size: usize) -> Result<(Vec<String>, Vec<i32>)> {
    let mut tokens: Vec<String> = (0..vocab_size).map(|id| format!("[PAD{id}]")).collect();
    let mut types = vec![token_type::UNUSED; vocab_size];
    let mut put = |token: &str, id: &Value, kind: i32| {
        let row = id.as_u64().and_then(|id| usize::try_from(id).ok()).filter(|&row| row < vocab_size);
        let row =
            row.with_context(|| format!("the token {token:?} is number {id}, the model has {vocab_size}"))?;
        token.clone_into(&mut tokens[row]);
        types[row] = kind;
        anyhow::Ok(())
    };
    for (token, id) in json["model"]["vocab"].as_object().context("tokenizer.json has no vocabulary")? {
        put(token, id, token_type::NORMAL)?;
    }
    for added in json["added_tokens"].as_array().into_iter().flatten() {
        let token = added["content"].as_str().context("an added token of tokenizer.json has no content")?;
        let kind = if added["special"] == true { token_type::CONTROL } else { token_type::USER_DEFINED };
        put(token, &added["id"], kind)?;
    }
    Ok((tokens, types))
}

/// `["a", "b"]`, or the older `"a b"`, as the latter.
fn merge_text(merge: &Value) -> Result<String> {
    let text = match merge {
        Value::String(text) => text.clone(),
        _ => {
            let pair = merge[0].as_str().zip(merge[1].as_str());
            let (left, right) = pair.context("is not of two tokens")?;
            format!("{left} {right}")
        }
    };
    ensure!(
        text.matches(' ').count() == 1,
        "is not of two tokens without spaces, which GGUF has no words for"
    );
    Ok(text)
}

/// A token in `tokenizer_config.json`: its text, or an object around it.
fn name_of(token: &Value) -> Option<&str> {
    token.as_str().or(token["content"].as_str())
}
