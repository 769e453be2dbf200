//! The entries of a GGUF file → [`Tokenizer`].

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value, json};

use super::super::metadata::Metadata;
use super::super::split::{Split, byte_level};
use super::{ADD_BOS, BYTE_LEVEL, MERGES, MODEL, PRE, ROLES, TEMPLATE, TOKENS, TYPES, token_type};
use text::tokenizer::Tokenizer;

/// Makes the tokenizer of a file, if it has one.
///
/// # Errors
/// It is of a kind that is not supported, or damaged.
pub(in super::super::super) fn read(metadata: &Metadata) -> Result<Option<Tokenizer>> {
    let Some(tokens) = metadata.texts(TOKENS)? else { return Ok(None) };
    let split = split(metadata)?;
    let (vocab, added) = vocabulary(metadata, &tokens)?;
    let merges = metadata.texts(MERGES)?.with_context(|| format!("{MERGES} is missing"))?;
    let merges = merges.into_iter().map(|merge| {
        let pair = merge.split_once(' ');
        let (left, right) = pair.with_context(|| format!("{MERGES}: {merge:?} is not of two tokens"))?;
        Ok(json!([left, right]))
    });
    let merges = merges.collect::<Result<Vec<Value>>>()?;
    let config = config(metadata, split, &tokens, &vocab)?;
    let json = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": split.normalizer(),
        "pre_tokenizer": split.pre_tokenizer(),
        "post_processor": post_processor(&config, &vocab),
        "decoder": byte_level(true),
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
            "ignore_merges": split.ignore_merges, "vocab": vocab, "merges": merges,
        },
    });
    Tokenizer::from_texts(format!("{json:#}\n"), format!("{config:#}\n")).map(Some)
}

/// How text is cut, of a vocabulary that is of a known kind.
fn split(metadata: &Metadata) -> Result<&'static Split> {
    let model = metadata.text(MODEL)?.with_context(|| format!("{MODEL} is missing"))?;
    match model {
        BYTE_LEVEL => {}
        "llama" => bail!(
            "{MODEL} is \"llama\", a SentencePiece vocabulary, which a GGUF file holds without all that its \
             tokenizer.json says: use the model's Hugging Face directory"
        ),
        other => bail!("{MODEL} {other:?} is not supported; known is {BYTE_LEVEL:?}, byte-level BPE"),
    }
    let pre = metadata.text(PRE)?;
    Split::named(pre.with_context(|| {
        format!("{PRE} is missing: an old file that does not say how text is cut; convert the model again")
    })?)
}

/// The vocabulary of the model, and the added tokens.
fn vocabulary(metadata: &Metadata, tokens: &[&str]) -> Result<(Map<String, Value>, Vec<Value>)> {
    let types = metadata.integers(TYPES)?.with_context(|| format!("{TYPES} is missing"))?;
    let (n, typed) = (tokens.len(), types.len());
    ensure!(typed == n, "{TYPES} is about {typed} tokens, there are {n}");
    let (mut vocab, mut added) = (Map::new(), Vec::new());
    for (id, (&token, kind)) in tokens.iter().zip(types).enumerate() {
        let is = |known: i32| kind == i128::from(known);
        if is(token_type::UNUSED) {
            continue;
        }
        let other = vocab.insert(token.to_owned(), id.into());
        ensure!(other.is_none(), "{TOKENS}: {token:?} is there twice");
        if is(token_type::CONTROL) || is(token_type::USER_DEFINED) {
            added.push(json!({
                "id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": is(token_type::CONTROL),
            }));
        }
    }
    Ok((vocab, added))
}

/// The content of `tokenizer_config.json`.
fn config(metadata: &Metadata, split: &Split, tokens: &[&str], vocab: &Map<String, Value>) -> Result<Value> {
    let mut config =
        json!({ "tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": false });
    for (key, role) in ROLES {
        let Some(id) = metadata.size(key)? else { continue };
        let token = tokens.get(id).copied();
        let token = token.with_context(|| format!("{key} is {id}, and there are {} tokens", tokens.len()))?;
        // A row that only fills the embedding has no part to play.
        if vocab.contains_key(token) {
            config[role] = token.into();
        }
    }
    // Without a word the programs add one for those vocabularies whose words are never merged.
    config["add_bos_token"] = metadata.flag(ADD_BOS)?.unwrap_or(split.ignore_merges).into();
    if let Some(template) = metadata.text(TEMPLATE)? {
        config["chat_template"] = template.into();
    }
    Ok(config)
}

/// `post_processor` of a `tokenizer.json`: what puts the first token before a text, where one is asked for.
fn post_processor(config: &Value, vocab: &Map<String, Value>) -> Value {
    let bos = config["bos_token"].as_str().filter(|_| config["add_bos_token"] == true);
    let Some((bos, id)) = bos.and_then(|bos| Some((bos, vocab.get(bos)?))) else {
        return byte_level(true);
    };
    let special = json!({ "SpecialToken": { "id": bos, "type_id": 0 } });
    let text = |id: &str, type_id: u32| json!({ "Sequence": { "id": id, "type_id": type_id } });
    json!({
        "type": "TemplateProcessing",
        "single": [special, text("A", 0)],
        "pair": [special, text("A", 0), text("B", 1)],
        "special_tokens": { bos: { "id": bos, "ids": [id], "tokens": [bos] } },
    })
}
