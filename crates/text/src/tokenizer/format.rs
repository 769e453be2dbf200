//! `tokenizer.json` → [`Tokenizer`].

use super::bpe::{Bpe, ByteIds};
use super::files::{CONFIG, SPECIAL_MAP};
use super::foreign::Foreign;
use super::spelling::Spelling;
use super::{END_OF_TEXT, Encoder, Tokenizer, fim, start};
use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::HashMap;

/// Ids from here on are taken for damage. So are ids beyond the number of bytes of the file: a table of so
/// many would only fill memory.
const MAX_IDS: u32 = 1 << 24;

/// What the files hold, as it was read.
#[derive(Default)]
pub(super) struct Contents {
    /// `tokenizer.json`
    pub(super) json: String,
    /// `tokenizer_config.json`
    pub(super) config: Option<String>,
    /// `chat_template.jinja`
    pub(super) template: Option<String>,
    /// The names of `additional_chat_templates/`, where there is no other.
    pub(super) other_templates: Vec<String>,
    /// `special_tokens_map.json`
    pub(super) special_map: Option<String>,
}

/// The parts of `tokenizer.json` that are read here.
#[derive(Deserialize)]
struct File {
    /// Ids are below.
    #[serde(skip)]
    end_of_ids: u32,
    #[serde(default)]
    added_tokens: Vec<Added>,
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    #[serde(default)]
    post_processor: Value,
    model: Value,
}

#[derive(Deserialize)]
struct Added {
    id: u32,
    content: String,
    special: bool,
}

/// Entries of the vocabulary, as written in the file, and their ids.
type Ids<'a> = HashMap<&'a str, u32>;

/// Understands the files' contents.
pub(super) fn parse(contents: Contents) -> Result<Tokenizer> {
    let Contents { json, config, template, other_templates, special_map } = contents;
    let mut file: File = serde_json::from_str(&json)
        .context("not a Hugging Face tokenizer.json, as `mynah tokenizer train` writes it")?;
    file.end_of_ids = u32::try_from(json.len()).map_or(MAX_IDS, |bytes| bytes.min(MAX_IDS));
    let spelling = Spelling::of(&file.normalizer, &file.pre_tokenizer, &file.model)?;
    let ids = file.vocab()?;
    let unknown = file.model["unk_token"].as_str().and_then(|name| ids.get(name).copied());
    let byte_ids = spelling.byte_ids(&ids, unknown);
    ensure!(byte_ids.iter().any(Option::is_some), "its vocabulary has no token for any byte");
    let tokens = file.tokens(&ids, &spelling)?;

    let mut specials = file.specials();
    let end_of_text_name = end_of_text_name(&specials, config.as_deref(), special_map.as_deref())?;
    let end_of_text = end_of_text_name.as_deref().map(|name| file.find(name, &ids)).transpose()?;
    let fields = config.as_deref().map(serde_json::from_str::<Value>).transpose();
    let fields = fields.with_context(|| format!("{CONFIG} is not JSON"))?.unwrap_or_default();
    let start_name = start::name(&file.post_processor, &fields);
    let start = start_name.and_then(|name| file.find(name, &ids).ok());
    for (name, id) in [(end_of_text_name.as_deref(), end_of_text), (start_name, start)] {
        if let (Some(name), Some(id)) = (name, id)
            && !specials.iter().any(|&(_, special)| special == id)
        {
            specials.push((name.to_owned(), id));
        }
    }
    specials.sort_by_key(|&(_, id)| id);

    let as_text = as_text(&specials, &ids, &spelling, &byte_ids, unknown);
    let is_special = |id: &u32| as_text.contains_key(id);
    ensure!(!byte_ids.iter().flatten().any(is_special), "a special token stands for a byte");

    let encoder = if file.is_gpt2() {
        // A merge that spells a special token would make it from text.
        let merges = file.merges(&ids)?.into_iter().filter(|(_, _, id)| !is_special(id));
        Encoder::Gpt2(Box::new(Bpe::new(byte_ids, merges, tokens.iter().flatten().map(|token| &**token))))
    } else {
        Encoder::Foreign(Box::new(Foreign::new(&json, byte_ids, as_text)?))
    };
    let config = config.unwrap_or_else(|| default_config(end_of_text_name.as_deref()));
    Ok(Tokenizer {
        json,
        config,
        template,
        special_map,
        other_templates,
        ends: Vec::new(),
        encoder,
        warnings: warnings(&spelling, &byte_ids),
        byte_ids,
        tokens,
        specials,
        end_of_text,
        start,
    })
}

/// What takes the place of special tokens that text spells: the tokens of its bytes. An unknown token stands
/// for bytes that have none; where words are not spelled in bytes it stays.
fn as_text(
    specials: &[(String, u32)],
    ids: &Ids<'_>,
    spelling: &Spelling,
    byte_ids: &ByteIds,
    unknown: Option<u32>,
) -> HashMap<u32, Vec<u32>> {
    let keeps_unknown = matches!(spelling, Spelling::WordEnd(_));
    let misses_bytes = byte_ids.iter().any(Option::is_none);
    let entries: HashMap<u32, &str> = ids.iter().map(|(&entry, &id)| (id, entry)).collect();
    let tokens = |name: &str, id: u32| {
        if Some(id) == unknown && misses_bytes {
            return Vec::new();
        }
        let bytes = entries.get(&id).map_or_else(|| name.into(), |entry| spelling.bytes(entry));
        bytes.iter().filter_map(|&byte| byte_ids[usize::from(byte)]).collect()
    };
    let replaced = specials.iter().filter(|&&(_, id)| !(keeps_unknown && Some(id) == unknown));
    replaced.map(|(name, id)| (*id, tokens(name, *id))).collect()
}

/// `<|endoftext|>` where there is one, since a chat model's `eos_token` ends a message; else the `eos_token`,
/// if any.
fn end_of_text_name(
    specials: &[(String, u32)],
    config: Option<&str>,
    special_map: Option<&str>,
) -> Result<Option<String>> {
    if specials.iter().any(|(name, _)| name == END_OF_TEXT) {
        return Ok(Some(END_OF_TEXT.to_owned()));
    }
    for (file, text) in [(CONFIG, config), (SPECIAL_MAP, special_map)] {
        let Some(text) = text else { continue };
        let fields: Value = serde_json::from_str(text).with_context(|| format!("{file} is not JSON"))?;
        let eos = &fields["eos_token"];
        if let Some(name) = eos.as_str().or(eos["content"].as_str()) {
            return Ok(Some(name.to_owned()));
        }
    }
    Ok(None)
}

/// What Python's `AutoTokenizer` needs to load the `tokenizer.json` beside it.
fn default_config(end_of_text: Option<&str>) -> String {
    let config = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": end_of_text,
        "eos_token": end_of_text,
        "unk_token": end_of_text,
        "clean_up_tokenization_spaces": false,
    });
    format!("{config:#}\n")
}

/// What a person should know before using it.
fn warnings(spelling: &Spelling, byte_ids: &ByteIds) -> Vec<String> {
    if let Spelling::WordEnd(suffix) = spelling {
        return vec![format!(
            "the tokenizer spells words that end in {suffix}: text does not come back as it was (spaces, and where it \
             lowercases, capitals); characters it does not know become its unknown token"
        )];
    }
    // Bytes that no UTF-8 text has are not missed.
    let in_text = |byte: u8| !matches!(byte, 0xc0 | 0xc1 | 0xf5..=0xff);
    let missing = (0..=255u8).zip(byte_ids).filter(|&(byte, id)| id.is_none() && in_text(byte));
    let missing: Vec<String> = missing.map(|(byte, _)| format!("{byte:02x}")).collect();
    let Some(first) = missing.get(..missing.len().min(8)).filter(|first| !first.is_empty()) else {
        return Vec::new();
    };
    let more = if missing.len() > first.len() { " …" } else { "" };
    vec![format!(
        "the tokenizer has no token for {} of the bytes that text may have ({}{more}): they are left out of the text",
        missing.len(),
        first.join(" ")
    )]
}

impl File {
    fn specials(&self) -> Vec<(String, u32)> {
        let specials = self.added_tokens.iter().filter(|added| added.special || fim::is_name(&added.content));
        specials.map(|added| (added.content.clone(), added.id)).collect()
    }

    /// The id of an added token or of an entry of the vocabulary.
    fn find(&self, name: &str, ids: &Ids<'_>) -> Result<u32> {
        let added = self.added_tokens.iter().find(|added| added.content == name).map(|added| added.id);
        let id = added.or(ids.get(name).copied());
        id.with_context(|| format!("its eos_token {name} is not in the vocabulary"))
    }

    /// BPE's vocabulary is an object of ids; Unigram's a list of entries with scores, in the order of ids.
    fn vocab(&self) -> Result<Ids<'_>> {
        let mut ids = Ids::new();
        match &self.model["vocab"] {
            Value::Object(vocab) => {
                for (entry, value) in vocab {
                    let id = value
                        .as_u64()
                        .and_then(|id| u32::try_from(id).ok())
                        .filter(|&id| id < self.end_of_ids);
                    ids.insert(entry, id.with_context(|| format!("the id of token {entry:?} is {value}"))?);
                }
            }
            Value::Array(vocab) => {
                for (id, entry) in (0..MAX_IDS).zip(vocab) {
                    let entry = entry[0].as_str().with_context(|| format!("token {id} has no text"))?;
                    ids.insert(entry, id);
                }
            }
            _ => ensure!(false, "its model has no vocabulary"),
        }
        Ok(ids)
    }

    /// The bytes of each id. Added tokens stand for their text as it is.
    fn tokens(&self, ids: &Ids<'_>, spelling: &Spelling) -> Result<Vec<Option<Box<[u8]>>>> {
        let mut tokens: Vec<Option<Box<[u8]>>> = Vec::new();
        let mut put = |id: u32, bytes: Vec<u8>| {
            let at = id as usize;
            if tokens.len() <= at {
                tokens.resize(at + 1, None);
            }
            tokens[at].replace(bytes.into()).is_some()
        };
        for (&entry, &id) in ids {
            ensure!(!put(id, spelling.bytes(entry)), "two tokens have the id {id}");
        }
        for added in &self.added_tokens {
            ensure!(added.id < self.end_of_ids, "the id of token {:?} is {}", added.content, added.id);
            put(added.id, added.content.clone().into());
        }
        Ok(tokens)
    }

    /// The merges as ids: left, right, result.
    fn merges(&self, ids: &Ids<'_>) -> Result<Vec<(u32, u32, u32)>> {
        let merges = self.model["merges"].as_array().context("its model has no merges")?;
        let id = |token: &str| ids.get(token).copied();
        let parse = |merge: &Value| {
            // Both ways of writing a merge are about: ["a", "b"], and the older "a b".
            let (left, right) = match merge {
                Value::String(text) => text.split_once(' ')?,
                _ => merge[0].as_str().zip(merge[1].as_str())?,
            };
            Some((id(left)?, id(right)?, id(&format!("{left}{right}"))?))
        };
        let unknown = |merge| format!("the merge {merge} is not of two tokens that make a third");
        merges.iter().map(|merge| parse(merge).with_context(|| unknown(merge))).collect()
    }

    /// Whether the file asks for nothing but GPT-2's way of encoding, which [`Bpe`] is.
    fn is_gpt2(&self) -> bool {
        let absent =
            |value: &Value| matches!(value, Value::Null | Value::Bool(false)) || value == "" || value == 0.0;
        let model_is_plain =
            ["dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback", "ignore_merges"]
                .into_iter()
                .all(|option| absent(&self.model[option]));
        let pre = &self.pre_tokenizer;
        self.normalizer.is_null()
            && pre["type"] == "ByteLevel"
            && pre["add_prefix_space"] == false
            && pre["use_regex"] != false
            && matches!(self.model["type"].as_str(), Some("BPE") | None)
            && model_is_plain
            && self.added_tokens.iter().all(|added| added.special)
    }
}
