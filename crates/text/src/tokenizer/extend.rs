//! Special tokens for a tokenizer that is there already: a model learns to mark what its first training did
//! not have.

use super::files::{CONFIG, json_of, library_of};
use super::format::{self, Contents};
use super::{Tokenizer, check_specials};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tokenizers::AddedToken;

/// What [`Tokenizer::extended`] does.
pub(super) fn extended(tokenizer: &Tokenizer, special: &[String]) -> Result<Tokenizer> {
    check_specials(&special.iter().map(String::as_str).collect::<Vec<_>>())?;
    let new: Vec<&String> = special.iter().filter(|name| tokenizer.special(name).is_none()).collect();
    let contents = Contents {
        json: tokenizer.json.clone(),
        config: Some(tokenizer.config.clone()),
        template: tokenizer.template.clone(),
        other_templates: tokenizer.other_templates.clone(),
        special_map: tokenizer.special_map.clone(),
    };
    if new.is_empty() {
        return Ok(format::parse(contents)?.with_ends(tokenizer.ends.iter().copied()));
    }

    let mut library = library_of(&tokenizer.json)?;
    let tokens: Vec<_> = new.iter().map(|name| AddedToken::from(name.as_str(), true)).collect();
    let known: Vec<bool> = new.iter().map(|name| library.token_to_id(name).is_some()).collect();
    library.add_special_tokens(&tokens);
    let json = json_of(&library)?;

    // The library counts on from the number of tokens, here and whenever the file is read.
    let read_again = library_of(&json)?;
    let mut ids = Vec::with_capacity(new.len());
    for (&name, known) in new.iter().zip(known) {
        let id = library.token_to_id(name).with_context(|| format!("{name} was not added"))?;
        ensure!(
            (known || id as usize >= tokenizer.vocab_size()) && read_again.token_to_id(name) == Some(id),
            "{name} cannot be added: the tokenizer leaves ids out, so that a new token would take the id of another"
        );
        ids.push((name.as_str(), id));
    }
    let config = config_with(&tokenizer.config, &ids)?;
    let extended = format::parse(Contents { json, config: Some(config), ..contents })?;
    Ok(extended.with_ends(tokenizer.ends.iter().copied()))
}

/// `tokenizer_config.json` may repeat the added tokens; both files must say the same.
fn config_with(config: &str, specials: &[(&str, u32)]) -> Result<String> {
    let mut fields: Value = serde_json::from_str(config).with_context(|| format!("{CONFIG} is not JSON"))?;
    let Some(decoder) = fields.get_mut("added_tokens_decoder").and_then(Value::as_object_mut) else {
        return Ok(config.to_owned());
    };
    for &(name, id) in specials {
        let token = json!({
            "content": name, "lstrip": false, "normalized": false, "rstrip": false, "single_word": false, "special": true,
        });
        decoder.insert(id.to_string(), token);
    }
    Ok(format!("{fields:#}\n"))
}
