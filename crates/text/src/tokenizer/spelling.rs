//! How the entries of a vocabulary stand for bytes. The one idea: whatever the file asks for, a token's bytes
//! are known from its entry alone, so that decoding is concatenation.

use super::alphabet;
use super::bpe::ByteIds;
use anyhow::{Result, bail};
use serde_json::Value;
use std::collections::HashMap;

/// A way of writing bytes as entries of a vocabulary.
pub(super) enum Spelling {
    /// Each byte is a character of the alphabet of GPT-2 (Radford et al. 2019).
    ByteLevel,
    /// Text as it is with `▁` for a space; what the vocabulary has no characters for, as bytes `<0x0A>`:
    /// SentencePiece (Kudo & Richardson 2018) with byte fallback, as Llama 2 and Mistral have it.
    ByteFallback,
    /// The last piece of a word ends in this suffix, which stands for the space after it (Sennrich et al.
    /// 2016); GPT-1.
    WordEnd(String),
}

impl Spelling {
    /// What the file's parts ask for.
    ///
    /// # Errors
    /// None of these: then most texts could not be written with the vocabulary.
    pub(super) fn of(normalizer: &Value, pre_tokenizer: &Value, model: &Value) -> Result<Spelling> {
        let is_byte_level = |part: &Value| part.to_string().contains("\"ByteLevel\"");
        if is_byte_level(pre_tokenizer) || is_byte_level(normalizer) {
            return Ok(Spelling::ByteLevel);
        }
        if model["byte_fallback"] == true {
            return Ok(Spelling::ByteFallback);
        }
        match model["end_of_word_suffix"].as_str() {
            Some(suffix) if !suffix.is_empty() => Ok(Spelling::WordEnd(suffix.to_owned())),
            _ => bail!(
                "it is neither byte-level BPE (as GPT-2, Llama 3 and Qwen have it) nor falls back to bytes (as Llama 2 \
                 does), so it cannot encode every text"
            ),
        }
    }

    /// The bytes that an entry stands for.
    pub(super) fn bytes(&self, entry: &str) -> Vec<u8> {
        match self {
            Spelling::ByteLevel => alphabet::meant(entry).unwrap_or_else(|| entry.into()),
            Spelling::ByteFallback => {
                byte_entry(entry).map_or_else(|| entry.replace('▁', " ").into_bytes(), |byte| vec![byte])
            }
            Spelling::WordEnd(suffix) => match entry.strip_suffix(suffix.as_str()) {
                Some(end) => format!("{end} ").into_bytes(),
                None => entry.into(),
            },
        }
    }

    /// The token of each byte; the `unknown` one where words are not spelled in bytes.
    pub(super) fn byte_ids(&self, ids: &HashMap<&str, u32>, unknown: Option<u32>) -> ByteIds {
        let mut byte_ids = [unknown; 256];
        for (byte, slot) in (0..=255).zip(&mut byte_ids) {
            *slot = match self {
                Spelling::ByteLevel => ids.get(alphabet::written(&[byte]).as_str()).copied(),
                Spelling::ByteFallback => ids.get(format!("<0x{byte:02X}>").as_str()).copied(),
                Spelling::WordEnd(_) => unknown,
            };
        }
        byte_ids
    }
}

/// `<0x0A>` → 10.
fn byte_entry(entry: &str) -> Option<u8> {
    let digits = entry.strip_prefix("<0x")?.strip_suffix('>')?;
    u8::from_str_radix(digits, 16).ok().filter(|_| digits.len() == 2)
}
