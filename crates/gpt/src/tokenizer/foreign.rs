//! Tokenizers whose files ask for another pre-tokenizer or a normalizer (Llama, Qwen): the library follows the file.

use anyhow::{Result, anyhow};
use std::collections::HashSet;
use tokenizers::Tokenizer as Library;

/// A byte-level tokenizer run by the `tokenizers` library.
pub(super) struct Foreign {
    library: Library,
    byte_ids: [u32; 256],
    specials: HashSet<u32>,
}

impl Foreign {
    /// From the content of `tokenizer.json`, the ids of the 256 bytes and those of the special tokens.
    pub(super) fn new(json: &str, byte_ids: [u32; 256], specials: HashSet<u32>) -> Result<Foreign> {
        let mut library =
            json.parse::<Library>().map_err(|error| anyhow!("the tokenizers library says: {error}"))?;
        library.set_encode_special_tokens(true);
        // A file may ask for cut or filled-up texts; here a text's tokens are all of its tokens and no others.
        library.with_truncation(None).map_err(|error| anyhow!("{error}"))?;
        library.with_padding(None);
        Ok(Foreign { library, byte_ids, specials })
    }

    /// Appends the tokens of `text`. Where the library fails or spells a special token (a vocabulary may have one among
    /// its words), the text is taken in halves, down to the bytes of a character.
    pub(super) fn encode(&self, text: &str, ids: &mut Vec<u32>) {
        match self.library.encode_fast(text, false) {
            Ok(encoding) if !encoding.get_ids().iter().any(|id| self.specials.contains(id)) => {
                ids.extend_from_slice(encoding.get_ids());
            }
            _ => match text.char_indices().nth(text.chars().count() / 2) {
                Some((half, _)) if half > 0 => {
                    self.encode(&text[..half], ids);
                    self.encode(&text[half..], ids);
                }
                _ => ids.extend(text.bytes().map(|byte| self.byte_id(byte))),
            },
        }
    }

    /// The id of a single byte.
    pub(super) fn byte_id(&self, byte: u8) -> u32 {
        self.byte_ids[usize::from(byte)]
    }
}
