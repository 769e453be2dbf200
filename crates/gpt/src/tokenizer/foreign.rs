//! Tokenizers whose files ask for another pre-tokenizer, a normalizer or another model than GPT-2's: the library
//! follows the file.

use super::bpe::ByteIds;
use anyhow::{Result, anyhow};
use std::collections::HashMap;
use tokenizers::pre_tokenizers::metaspace::PrependScheme;
use tokenizers::{PostProcessorWrapper, PreTokenizerWrapper, Tokenizer as Library};

/// A tokenizer run by the `tokenizers` library.
pub(super) struct Foreign {
    library: Library,
    /// The same for text that something stands before, where the file treats the beginning otherwise.
    continued: Option<Library>,
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
        let continued = library.get_pre_tokenizer().and_then(without_first).map(|pre_tokenizer| {
            let mut continued = library.clone();
            continued.with_pre_tokenizer(Some(pre_tokenizer));
            continued
        });
        Ok(Foreign { library, continued, byte_ids, as_text })
    }

    /// Appends the tokens of `text`; `begins` tells that nothing stands before it. Where the library fails, the text is taken in
    /// halves, down to the bytes of a character.
    pub(super) fn encode(&self, text: &str, begins: bool, ids: &mut Vec<u32>) {
        let library = self.continued.as_ref().filter(|_| !begins).unwrap_or(&self.library);
        match library.encode_fast(text, false) {
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
                    self.encode(&text[..half], begins, ids);
                    self.encode(&text[half..], false, ids);
                }
                _ => ids.extend(text.bytes().filter_map(|byte| self.byte_ids[usize::from(byte)])),
            },
        }
    }
}

/// A pre-tokenizer without what it does to the first piece of a text only; none where it does nothing of the kind.
fn without_first(pre_tokenizer: &PreTokenizerWrapper) -> Option<PreTokenizerWrapper> {
    match pre_tokenizer {
        PreTokenizerWrapper::Metaspace(metaspace) if metaspace.prepend_scheme == PrependScheme::First => {
            let mut metaspace = metaspace.clone();
            metaspace.prepend_scheme = PrependScheme::Never;
            Some(metaspace.into())
        }
        PreTokenizerWrapper::Sequence(parts) => {
            let mut parts = parts.clone();
            let parts_of = parts.as_mut().iter_mut();
            let changed = parts_of.filter_map(|part| without_first(part).map(|without| *part = without)).count();
            (changed > 0).then(|| parts.into())
        }
        _ => None,
    }
}
