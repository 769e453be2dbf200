//! Tokenizers whose files ask for another pre-tokenizer, a normalizer or another model than GPT-2's: the library
//! follows the file.

use super::bpe::ByteIds;
use anyhow::{Result, anyhow};
use std::collections::HashMap;
use tokenizers::{PostProcessorWrapper, Tokenizer as Library};

/// A tokenizer run by the `tokenizers` library.
pub(super) struct Foreign {
    library: Library,
    byte_ids: ByteIds,
    /// Special tokens, and the tokens of the text that they spell.
    as_text: HashMap<u32, Vec<u32>>,
}

impl Foreign {
    /// From the content of `tokenizer.json`, the ids of the bytes, and the special tokens with the tokens that take
    /// their place where the library makes one of text (a vocabulary may have it among its words).
    pub(super) fn new(json: &str, byte_ids: ByteIds, as_text: HashMap<u32, Vec<u32>>) -> Result<Foreign> {
        let mut library =
            json.parse::<Library>().map_err(|error| anyhow!("the tokenizers library says: {error}"))?;
        library.set_encode_special_tokens(true);
        // A file may ask for cut or filled-up texts, or for tokens around them; here a text's tokens are all of its
        // tokens and no others.
        library.with_truncation(None).map_err(|error| anyhow!("{error}"))?;
        library.with_padding(None);
        library.with_post_processor(None::<PostProcessorWrapper>);
        Ok(Foreign { library, byte_ids, as_text })
    }

    /// Appends the tokens of `text`. Where the library fails, the text is taken in halves, down to the bytes of a
    /// character.
    pub(super) fn encode(&self, text: &str, ids: &mut Vec<u32>) {
        match self.library.encode_fast(text, false) {
            Ok(encoding) => {
                for &id in encoding.get_ids() {
                    match self.as_text.get(&id) {
                        None => ids.push(id),
                        Some(instead) => ids.extend_from_slice(instead),
                    }
                }
            }
            Err(_) => match text.char_indices().nth(text.chars().count() / 2) {
                Some((half, _)) if half > 0 => {
                    self.encode(&text[..half], ids);
                    self.encode(&text[half..], ids);
                }
                _ => ids.extend(text.bytes().filter_map(|byte| self.byte_ids[usize::from(byte)])),
            },
        }
    }
}
