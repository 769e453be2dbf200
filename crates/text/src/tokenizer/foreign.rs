//! Tokenizers whose files ask for another pre-tokenizer, a normalizer or another model than GPT-2's: the
//! library follows the file.

use super::bpe::ByteIds;
use super::files::library_of;
use anyhow::{Result, anyhow};
use std::collections::HashMap;
use tokenizers::normalizers::Sequence as Normalizers;
use tokenizers::pre_tokenizers::metaspace::PrependScheme;
use tokenizers::{NormalizerWrapper, PostProcessorWrapper, PreTokenizerWrapper, Tokenizer as Library};

/// What stands before a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Before {
    Nothing,
    /// A special token: the library takes what follows as a piece of its own, though not for the first.
    Special,
    Text,
}

/// A tokenizer run by the `tokenizers` library.
pub(super) struct Foreign {
    library: Library,
    /// The same for text after a special token, and for text after text, where the file treats beginnings
    /// otherwise.
    after_special: Option<Library>,
    after_text: Option<Library>,
    byte_ids: ByteIds,
    /// Special tokens, and the tokens of the text that they spell.
    as_text: HashMap<u32, Vec<u32>>,
}

impl Foreign {
    /// From the content of `tokenizer.json`, the ids of the bytes, and the special tokens with the tokens
    /// that take their place where the library makes one of text (a vocabulary may have it among its words).
    pub(super) fn new(json: &str, byte_ids: ByteIds, as_text: HashMap<u32, Vec<u32>>) -> Result<Foreign> {
        let mut library = library_of(json)?;
        library.set_encode_special_tokens(true);
        // A file may ask for cut or filled-up texts, or for tokens around them; here a text's tokens are all
        // of its tokens and no others.
        library.with_truncation(None).map_err(|error| anyhow!("{error}"))?;
        library.with_padding(None);
        library.with_post_processor(None::<PostProcessorWrapper>);
        let [after_special, after_text] =
            [Before::Special, Before::Text].map(|before| adapted(&library, before));
        Ok(Foreign { library, after_special, after_text, byte_ids, as_text })
    }

    /// Appends the tokens of `text`. Where the library fails, the text is taken in halves, down to the bytes
    /// of a character.
    pub(super) fn encode(&self, text: &str, before: Before, ids: &mut Vec<u32>) {
        let other = match before {
            Before::Nothing => None,
            Before::Special => self.after_special.as_ref(),
            Before::Text => self.after_text.as_ref(),
        };
        let library = other.unwrap_or(&self.library);
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
                    self.encode(&text[..half], before, ids);
                    self.encode(&text[half..], Before::Text, ids);
                }
                _ => ids.extend(text.bytes().filter_map(|byte| self.byte_ids[usize::from(byte)])),
            },
        }
    }
}

/// The library for text after something, where that is another than for text that begins.
fn adapted(library: &Library, before: Before) -> Option<Library> {
    let normalizer = library.get_normalizer().filter(|_| before == Before::Text).and_then(without_prepend);
    let pre_tokenizer =
        library.get_pre_tokenizer().and_then(|pre_tokenizer| without_prefix(pre_tokenizer, before));
    if normalizer.is_none() && pre_tokenizer.is_none() {
        return None;
    }
    let mut adapted = library.clone();
    if let Some(normalizer) = normalizer {
        adapted.with_normalizer(normalizer);
    }
    if pre_tokenizer.is_some() {
        adapted.with_pre_tokenizer(pre_tokenizer);
    }
    Some(adapted)
}

/// A normalizer without what it puts before every piece (outer), or none where nothing is left (inner); none
/// where it puts nothing.
fn without_prepend(normalizer: &NormalizerWrapper) -> Option<Option<NormalizerWrapper>> {
    match normalizer {
        NormalizerWrapper::Prepend(_) => Some(None),
        NormalizerWrapper::Sequence(parts) => {
            let parts = parts.as_ref();
            let changed = parts.iter().any(|part| without_prepend(part).is_some());
            let kept =
                parts.iter().filter_map(|part| without_prepend(part).unwrap_or_else(|| Some(part.clone())));
            changed.then(|| Some(Normalizers::new(kept.collect()).into()))
        }
        _ => None,
    }
}

/// A pre-tokenizer without what it puts before text that begins; none where it puts nothing there.
fn without_prefix(pre_tokenizer: &PreTokenizerWrapper, before: Before) -> Option<PreTokenizerWrapper> {
    use PrependScheme::{Always, First};
    match pre_tokenizer {
        PreTokenizerWrapper::Metaspace(metaspace)
            if metaspace.prepend_scheme == First
                || metaspace.prepend_scheme == Always && before == Before::Text =>
        {
            let mut metaspace = metaspace.clone();
            metaspace.prepend_scheme = PrependScheme::Never;
            Some(metaspace.into())
        }
        PreTokenizerWrapper::ByteLevel(bytes) if bytes.add_prefix_space && before == Before::Text => {
            Some(bytes.add_prefix_space(false).into())
        }
        PreTokenizerWrapper::Sequence(parts) => {
            let mut parts = parts.clone();
            let each = parts.as_mut().iter_mut();
            let changed =
                each.filter_map(|part| without_prefix(part, before).map(|without| *part = without)).count();
            (changed > 0).then(|| parts.into())
        }
        _ => None,
    }
}
