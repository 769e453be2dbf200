//! Text ⇄ tokens: byte-level byte pair encoding as in GPT-2 (Radford et al. 2019), trained here or loaded
//! from a Hugging Face `tokenizer.json`.
//!
//! Its one idea: **text never becomes a special token**. Encoding treats the string of a special token like
//! any other text; a special id is had by name only, from [`Tokenizer::special`], or, of a text that says
//! what is asked, from [`Tokenizer::encode_task`]. Any bytes encode, and decode to themselves, unless a
//! loaded file says otherwise ([`Tokenizer::warnings`]).
//!
//! Which special tokens surround a message is the business of a model's chat template: [`chat`].

mod alphabet;
mod bpe;
pub mod chat;
mod ends;
mod extend;
mod files;
mod fim;
mod foreign;
mod format;
mod spelling;
mod split;
mod spoken;
mod start;
mod stats;
mod stream;
mod task;
mod train;

pub use files::FILES;
pub use fim::FimTokens;
pub use stats::Stats;
pub use stream::{StreamDecoder, Utf8Stream};

use crate::progress::Progress;
use anyhow::{Context, Result, bail, ensure};
use bpe::{Bpe, ByteIds, Scratch};
use foreign::{Before, Foreign};
use rayon::prelude::*;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// The special token between documents.
pub const END_OF_TEXT: &str = "<|endoftext|>";

/// A vocabulary and its merges.
pub struct Tokenizer {
    /// The content of `tokenizer.json`.
    json: String,
    /// The content of `tokenizer_config.json`.
    config: String,
    /// The content of `chat_template.jinja`.
    template: Option<String>,
    /// The content of `special_tokens_map.json`.
    special_map: Option<String>,
    /// The names of further templates, of which none is the default.
    other_templates: Vec<String>,
    /// What else ends a text, as the model's own files say.
    ends: Vec<u32>,
    encoder: Encoder,
    byte_ids: ByteIds,
    /// The bytes of each id; `None` where the vocabulary leaves an id out.
    tokens: Vec<Option<Box<[u8]>>>,
    /// In the order of their ids.
    specials: Vec<(String, u32)>,
    end_of_text: Option<u32>,
    start: Option<u32>,
    warnings: Vec<String>,
}

/// Who turns text into ids.
enum Encoder {
    /// GPT-2's pre-tokenizer, no normalizer: what mynah trains.
    Gpt2(Box<Bpe>),
    /// Another pre-tokenizer, normalizer or model: the library follows the file.
    Foreign(Box<Foreign>),
}

impl Tokenizer {
    /// Learns a vocabulary of at most `vocab_size` tokens from `documents`, read once; memory stays below 1
    /// GB however many there are. The same documents in the same order give the same tokenizer, with any
    /// number of threads.
    ///
    /// Ids: `<|endoftext|>` is 0, the other `special` tokens follow in the order given, then the 256 bytes,
    /// then the merges in the order learned. The merges are those of the `tokenizers` library. A small corpus
    /// may run out of pairs: `progress` then hears that the vocabulary is smaller than asked for.
    ///
    /// # Errors
    /// A document that could not be read; a special token that is empty, named twice or a single character; a
    /// `vocab_size` without room for bytes and special tokens; no text at all; a stop asked for through
    /// `progress`.
    pub fn train(
        documents: impl Iterator<Item = Result<String>> + Send,
        vocab_size: usize,
        special: &[String],
        progress: &dyn Progress,
    ) -> Result<Tokenizer> {
        let others = special.iter().map(String::as_str).filter(|&name| name != END_OF_TEXT);
        let specials: Vec<&str> = std::iter::once(END_OF_TEXT).chain(others).collect();
        check_specials(&specials)?;
        let first_merge = specials.len() + 256;
        let Some(n_merges) = vocab_size.checked_sub(first_merge).filter(|_| vocab_size < u32::MAX as usize)
        else {
            bail!(
                "a vocabulary of {vocab_size} cannot be: it takes at least {first_merge} tokens, 256 bytes and {} special",
                specials.len()
            );
        };

        let mut vocab: Vec<String> = specials.iter().map(|&name| name.to_owned()).collect();
        let mut alphabet: Vec<u8> = (0..=255).collect();
        alphabet.sort_by_key(|&byte| alphabet::char_of(byte));
        let mut byte_ids = [0; 256];
        for byte in alphabet {
            byte_ids[usize::from(byte)] = vocab.len() as u32;
            vocab.push(alphabet::written(&[byte]));
        }

        let counts = train::count_words(documents, progress)?;
        ensure!(!counts.is_empty(), "no text to learn a vocabulary from: the documents are empty");
        // A merge that spelled a special token would make it from text.
        let first_merge = first_merge as u32;
        let merges =
            train::learn_merges(counts, &byte_ids, first_merge, n_merges, progress, |(left, right)| {
                let token = format!("{}{}", vocab[left as usize], vocab[right as usize]);
                let allowed = !specials.contains(&token.as_str());
                if allowed {
                    vocab.push(token);
                }
                allowed
            })?;
        if merges.len() < n_merges {
            let got = vocab.len();
            progress.line(&format!("the corpus has no more pairs: {got} tokens instead of {vocab_size}"));
        }
        files::from_vocab(vocab, &merges, &specials)
    }

    /// Loads a Hugging Face directory, as [`Tokenizer::from_file`] does, which says what can be loaded.
    pub fn from_dir(dir: impl AsRef<Path>) -> Result<Tokenizer> {
        files::load(dir.as_ref())
    }

    /// Whether the directory has a tokenizer's files.
    pub fn is_in(dir: &Path) -> bool {
        files::are_in(dir)
    }

    /// Loads a tokenizer: a `tokenizer.json`, with the other [`FILES`] beside it if they are there; either of
    /// GPT-2's own two files, with the other beside it; or a directory that has the one or the others.
    ///
    /// # Errors
    /// What is missing or malformed; a tokenizer that is neither byte-level nor falls back to bytes nor is
    /// GPT-1's (it could not encode most texts).
    pub fn from_file(path: impl AsRef<Path>) -> Result<Tokenizer> {
        files::load(path.as_ref())
    }

    /// A tokenizer from the contents of a `tokenizer.json` and its `tokenizer_config.json`.
    ///
    /// # Errors
    /// As of [`Tokenizer::from_file`].
    pub fn from_texts(json: String, config: String) -> Result<Tokenizer> {
        format::parse(format::Contents { json, config: Some(config), ..Default::default() })
    }

    /// Loads GPT-2's own files, `encoder.json` and `vocab.bpe`.
    pub fn from_gpt2(encoder_json: impl AsRef<Path>, vocab_bpe: impl AsRef<Path>) -> Result<Tokenizer> {
        files::load_gpt2(encoder_json.as_ref(), vocab_bpe.as_ref())
    }

    /// This tokenizer with further `special` tokens: new ones get the ids after the last, one that is there
    /// already keeps its own, and is special from now on. All else is as before, the files beside included.
    ///
    /// # Errors
    /// A name is too short or named twice; the vocabulary leaves ids out, which the library would fill.
    pub fn extended(&self, special: &[String]) -> Result<Tokenizer> {
        extend::extended(self, special)
    }

    /// Writes [`Tokenizer::files`] into the directory `path`, which is made if need be, or one file where
    /// `path` ends in `.json`; see [`files_as`](Self::files_as).
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        files::save(self, path.as_ref())
    }

    /// The names and contents of its files: `tokenizer.json` and `tokenizer_config.json`, and, where it was
    /// loaded with them, `chat_template.jinja` and `special_tokens_map.json`. Byte for byte what was loaded.
    pub fn files(&self) -> Vec<(&'static str, &[u8])> {
        let contents =
            [Some(&self.json), Some(&self.config), self.template.as_ref(), self.special_map.as_ref()];
        let files = FILES.into_iter().zip(contents);
        files.filter_map(|(name, content)| Some((name, content?.as_bytes()))).collect()
    }

    /// The file that is meant by `path`: itself where it ends in `.json`, else the `tokenizer.json` in that
    /// directory.
    pub fn file_for(path: &Path) -> PathBuf {
        files::file_for(path)
    }

    /// What is written where `file` is to be the tokenizer's: the first of [`Tokenizer::files`] under this
    /// name, and the others beside `tokenizer.json` only, since they are read beside that alone, and would be
    /// taken for those of another.
    pub fn files_as(&self, file: &Path) -> Vec<(String, &[u8])> {
        let own =
            file.file_name().map_or_else(|| files::JSON.into(), |name| name.to_string_lossy().into_owned());
        let count = if own == files::JSON { FILES.len() } else { 1 };
        let named = |(name, content): (&str, _)| {
            if name == files::JSON { (own.clone(), content) } else { (name.into(), content) }
        };
        self.files().into_iter().take(count).map(named).collect()
    }

    /// The content of `tokenizer.json`.
    pub fn to_json(&self) -> &str {
        &self.json
    }

    /// The content of `tokenizer_config.json`, which names the special tokens for Python.
    pub fn config_json(&self) -> &str {
        &self.config
    }

    /// The Jinja template that makes text of messages, from where `transformers` takes it:
    /// `chat_template.jinja`, else the `chat_template` of `tokenizer_config.json`, of several the one named
    /// `default`.
    ///
    /// # Errors
    /// There are several, and none is named `default`.
    pub fn chat_template(&self) -> Result<Option<String>> {
        chat::template_of(&self.template, &self.other_templates, &self.config)
    }

    /// What a person should know of a tokenizer that others made: text that it does not keep.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// What tells this tokenizer from others: BLAKE3 of `tokenizer.json`, in hexadecimal.
    pub fn digest(&self) -> String {
        blake3::hash(self.json.as_bytes()).to_hex().to_string()
    }

    /// Whether ids mean the same in both: the same bytes and the same special tokens, however the files write
    /// them.
    pub fn same_tokens(&self, other: &Tokenizer) -> bool {
        self.tokens == other.tokens && self.specials == other.specials
    }

    /// The tokens of `text`, none of them special. Where nothing stands before it, a model may want
    /// [`encode_from_start`](Self::encode_from_start).
    pub fn encode(&self, text: &str) -> Vec<u32> {
        let mut ids = Vec::with_capacity(text.len() / 3);
        self.encode_into(text, &mut Scratch::default(), &mut ids);
        ids
    }

    /// The tokens of `text` where the token `before` stands before it: SentencePiece's kind puts a space
    /// before a text that begins, and some do so after a special token, too.
    pub fn encode_after(&self, before: u32, text: &str) -> Vec<u32> {
        match &self.encoder {
            Encoder::Gpt2(_) => self.encode(text),
            Encoder::Foreign(foreign) => {
                let is_special = self.specials.iter().any(|&(_, id)| id == before);
                let mut ids = Vec::with_capacity(text.len() / 3);
                foreign.encode(text, if is_special { Before::Special } else { Before::Text }, &mut ids);
                ids
            }
        }
    }

    /// The tokens of any bytes: of text as [`Tokenizer::encode`] makes them, and one for each byte that is
    /// not UTF-8, if the vocabulary has it.
    pub fn encode_bytes(&self, bytes: &[u8]) -> Vec<u32> {
        let (mut ids, mut scratch) = (Vec::with_capacity(bytes.len() / 3), Scratch::default());
        for chunk in bytes.utf8_chunks() {
            self.encode_into(chunk.valid(), &mut scratch, &mut ids);
            ids.extend(chunk.invalid().iter().filter_map(|&byte| self.byte_ids[usize::from(byte)]));
        }
        ids
    }

    /// The tokens of each text, on all threads.
    pub fn encode_batch<T: AsRef<str> + Sync>(&self, texts: &[T]) -> Vec<Vec<u32>> {
        texts.par_iter().map(|text| self.encode(text.as_ref())).collect()
    }

    /// The tokens of a task, such as `[问题] 我是谁 [答案]`: names of special tokens become these, with the white
    /// space next to them left out, and all else is text.
    ///
    /// # Errors
    /// No special token is named, or one that ends the document.
    pub fn encode_task(&self, task: &str) -> Result<Vec<u32>> {
        task::encode(self, task)
    }

    /// Whether a task names any special token.
    pub fn names_special(&self, task: &str) -> bool {
        task::names_special(self, task)
    }

    fn encode_into(&self, text: &str, scratch: &mut Scratch, ids: &mut Vec<u32>) {
        match &self.encoder {
            Encoder::Gpt2(bpe) => {
                split::words(text).for_each(|word| bpe.encode_word(word.as_bytes(), scratch, ids));
            }
            Encoder::Foreign(foreign) => foreign.encode(text, Before::Nothing, ids),
        }
    }

    /// How many bytes of `text` the vocabulary has no token for; encoding leaves them out. 0 for a vocabulary
    /// that was trained here.
    pub fn missing_bytes(&self, text: &str) -> u64 {
        if self.byte_ids.iter().all(Option::is_some) {
            return 0;
        }
        text.bytes().filter(|&byte| self.byte_ids[usize::from(byte)].is_none()).count() as u64
    }

    /// The text of `ids`; special tokens appear by name, and bytes that are not UTF-8 as U+FFFD. Fails on an
    /// id that the vocabulary does not have.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        Ok(String::from_utf8_lossy(&self.decode_bytes(ids)?).into_owned())
    }

    /// The bytes of `ids`: for any bytes, `decode_bytes(&encode_bytes(bytes))` is `bytes`, unless a foreign
    /// file changes text (a normalizer, a space put before it) or lacks bytes. Fails on an id that the
    /// vocabulary does not have.
    pub fn decode_bytes(&self, ids: &[u32]) -> Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(ids.len() * 4);
        for &id in ids {
            bytes.extend_from_slice(self.token_bytes(id)?);
        }
        Ok(bytes)
    }

    /// The bytes that a token stands for; a special token's are its name. Fails on an id that the vocabulary
    /// does not have.
    pub fn token_bytes(&self, id: u32) -> Result<&[u8]> {
        let token = self.tokens.get(id as usize).and_then(|token| token.as_deref());
        token.with_context(|| format!("token id {id} is not in the vocabulary of {}", self.vocab_size()))
    }

    /// The id of the special token `name`.
    pub fn special(&self, name: &str) -> Option<u32> {
        self.specials.iter().find(|(special, _)| special == name).map(|&(_, id)| id)
    }

    /// The special tokens and their ids, in the order of ids.
    pub fn specials(&self) -> &[(String, u32)] {
        &self.specials
    }

    /// How many rows an embedding needs: one more than the largest id.
    pub fn vocab_size(&self) -> usize {
        self.tokens.len()
    }

    /// How well the vocabulary fits `documents`, which are encoded for it.
    pub fn stats(
        &self,
        documents: impl Iterator<Item = Result<String>>,
        progress: &dyn Progress,
    ) -> Result<Stats> {
        stats::measure(self, documents, progress)
    }
}

/// Names of special tokens must be told apart from each other and from bytes.
fn check_specials(names: &[&str]) -> Result<()> {
    let mut seen = HashSet::new();
    for &name in names {
        ensure!(
            name.chars().nth(1).is_some(),
            "special token {name:?} is too short: it takes two characters"
        );
        ensure!(seen.insert(name), "special token {name:?} is named twice");
    }
    Ok(())
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer")
            .field("vocab_size", &self.vocab_size())
            .field("specials", &self.specials)
            .finish()
    }
}
