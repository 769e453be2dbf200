//! The files of a tokenizer: Hugging Face's `tokenizer.json` with `tokenizer_config.json`, and GPT-2's own two files.

use super::bpe::{Bpe, Pair};
use super::foreign::Foreign;
use super::{END_OF_TEXT, Encoder, Tokenizer, alphabet};
use anyhow::{Context, Result, anyhow, ensure};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::Path;
use tokenizers::{AddedToken, Tokenizer as Library};

const JSON: &str = "tokenizer.json";
const CONFIG: &str = "tokenizer_config.json";

/// A vocabulary and its merges, under OpenAI's names and under those of older Hugging Face directories.
const GPT2_FILES: [(&str, &str); 2] = [("encoder.json", "vocab.bpe"), ("vocab.json", "merges.txt")];

/// Larger ids are taken for damage; a table of that many would only fill memory.
const MAX_IDS: u32 = 1 << 24;

const NOT_BYTE_LEVEL: &str =
    "it is not byte-level BPE (as GPT-2, Llama 3 and Qwen have it), so it cannot encode every text";

/// What [`Tokenizer::from_file`] does.
pub(super) fn load(path: &Path) -> Result<Tokenizer> {
    let (dir, name) = if path.is_dir() {
        let names = [JSON].into_iter().chain(GPT2_FILES.map(|(vocab, _)| vocab));
        let found = names.into_iter().find(|name| path.join(name).is_file());
        let missing = || {
            format!("no tokenizer in {}: looked for {JSON}, or encoder.json with vocab.bpe", path.display())
        };
        (path, found.with_context(missing)?)
    } else {
        let name = path.file_name().and_then(|name| name.to_str());
        (path.parent().unwrap_or(Path::new("")), name.unwrap_or_default())
    };
    if let Some((vocab, merges)) = GPT2_FILES.iter().find(|(vocab, merges)| name == *vocab || name == *merges)
    {
        return load_gpt2(&dir.join(vocab), &dir.join(merges));
    }
    let file = if path.is_dir() { dir.join(name) } else { path.to_owned() };
    let config_file = dir.join(CONFIG);
    let config = if name == JSON && config_file.is_file() { Some(read(&config_file)?) } else { None };
    from_json(read(&file)?, config).with_context(|| format!("cannot use the tokenizer {}", file.display()))
}

/// What [`Tokenizer::from_gpt2`] does.
pub(super) fn load_gpt2(encoder_json: &Path, vocab_bpe: &Path) -> Result<Tokenizer> {
    let bad = |path: &Path, what: &str| format!("{}: {what}", path.display());
    let vocab: HashMap<String, u32> = serde_json::from_str(&read(encoder_json)?)
        .with_context(|| bad(encoder_json, "not a JSON object of tokens and ids"))?;
    ensure!(vocab.contains_key(END_OF_TEXT), bad(encoder_json, "has no <|endoftext|>"));
    let mut merges = Vec::new();
    for (number, line) in (1..).zip(read(vocab_bpe)?.lines()) {
        if line.is_empty() || (number == 1 && line.starts_with("#version")) {
            continue;
        }
        let merge = line.split_once(' ').filter(|(_, right)| !right.contains(' '));
        let (left, right) =
            merge.with_context(|| bad(vocab_bpe, &format!("line {number} is not two tokens: {line:?}")))?;
        merges.push((left.to_owned(), right.to_owned()));
    }
    let json = library_json(vocab, merges, [END_OF_TEXT]);
    json.and_then(|json| from_json(json, None))
        .with_context(|| format!("{} does not go with {}", vocab_bpe.display(), encoder_json.display()))
}

/// What [`Tokenizer::save`] does.
pub(super) fn save(tokenizer: &Tokenizer, path: &Path) -> Result<()> {
    let is_file = path.extension().is_some_and(|extension| extension == "json") && !path.is_dir();
    let (dir, file) = match path.parent() {
        Some(parent) if is_file => (parent, path.to_owned()),
        _ => (path, path.join(JSON)),
    };
    fs::create_dir_all(dir).with_context(|| format!("cannot make the directory {}", dir.display()))?;
    for (file, content) in [(file, &tokenizer.json), (dir.join(CONFIG), &tokenizer.config)] {
        fs::write(&file, content).with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// From the tokens in the order of their ids and the merges in the order they were learned.
pub(super) fn from_vocab(vocab: Vec<String>, merges: &[Pair], specials: &[&str]) -> Result<Tokenizer> {
    let name = |id: u32| vocab[id as usize].clone();
    let merges = merges.iter().map(|&(left, right)| (name(left), name(right))).collect();
    let json = library_json(vocab.into_iter().zip(0..).collect(), merges, specials.iter().copied())?;
    from_json(json, None)
}

/// The content of `tokenizer.json`. The library reads and writes it once, so that its other users will.
fn library_json<'a>(
    vocab: HashMap<String, u32>,
    merges: Vec<(String, String)>,
    specials: impl IntoIterator<Item = &'a str>,
) -> Result<String> {
    let byte_level =
        json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": true });
    let file = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": [],
        "normalizer": null,
        "pre_tokenizer": byte_level,
        "post_processor": byte_level,
        "decoder": byte_level,
        "model": { "type": "BPE", "vocab": vocab, "merges": merges },
    });
    let mut library: Library = serde_json::from_value(file)?;
    let specials: Vec<_> = specials.into_iter().map(|name| AddedToken::from(name, true)).collect();
    library.add_special_tokens(&specials);
    library.to_string(true).map_err(|error| anyhow!("{error}"))
}

/// The parts of `tokenizer.json` that are read here.
#[derive(Deserialize)]
struct File {
    #[serde(default)]
    added_tokens: Vec<Added>,
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    model: Value,
}

#[derive(Deserialize)]
struct Added {
    id: u32,
    content: String,
    special: bool,
}

/// From the contents of `tokenizer.json` and, where there is one, `tokenizer_config.json`.
fn from_json(json: String, config: Option<String>) -> Result<Tokenizer> {
    let file: File = serde_json::from_str(&json).context("not a Hugging Face tokenizer.json")?;
    let ids = file.vocab()?;
    let byte_ids = file.byte_ids(&ids)?;
    let tokens = file.tokens(&ids)?;
    let mut specials: Vec<(String, u32)> =
        file.specials().map(|added| (added.content.clone(), added.id)).collect();
    specials.sort_by_key(|&(_, id)| id);
    let special_ids: HashSet<u32> = specials.iter().map(|&(_, id)| id).collect();
    ensure!(!byte_ids.iter().any(|id| special_ids.contains(id)), "a special token stands for a byte");

    let end_of_text_name = end_of_text_name(&specials, config.as_deref())?;
    let end_of_text = specials.iter().find(|(name, _)| *name == end_of_text_name).map(|&(_, id)| id);
    let end_of_text =
        end_of_text.with_context(|| format!("{end_of_text_name} is not a special token of it"))?;
    let encoder = if file.is_gpt2() {
        // A merge that spells a special token would make it from text.
        let merges = file.merges(&ids)?.into_iter().filter(|(_, _, id)| !special_ids.contains(id));
        Encoder::Gpt2(Box::new(Bpe::new(byte_ids, merges, tokens.iter().flatten().map(|token| &**token))))
    } else {
        Encoder::Foreign(Box::new(Foreign::new(&json, byte_ids, special_ids)?))
    };
    let config = config.unwrap_or_else(|| default_config(&end_of_text_name));
    Ok(Tokenizer { json, config, encoder, tokens, specials, end_of_text })
}

/// `<|endoftext|>` where there is one, since a chat model's `eos_token` ends a message; else the `eos_token`.
fn end_of_text_name(specials: &[(String, u32)], config: Option<&str>) -> Result<String> {
    if specials.iter().any(|(name, _)| name == END_OF_TEXT) {
        return Ok(END_OF_TEXT.to_owned());
    }
    let config: Value =
        serde_json::from_str(config.unwrap_or("{}")).with_context(|| format!("{CONFIG} is not JSON"))?;
    let eos = &config["eos_token"];
    let name = eos.as_str().or(eos["content"].as_str());
    name.map(str::to_owned).with_context(|| {
        format!("it has no {END_OF_TEXT}; name its end-of-text token as eos_token in {CONFIG}")
    })
}

/// What Python's `AutoTokenizer` needs to load the `tokenizer.json` beside it.
fn default_config(end_of_text: &str) -> String {
    let config = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": end_of_text,
        "eos_token": end_of_text,
        "unk_token": end_of_text,
        "clean_up_tokenization_spaces": false,
    });
    format!("{config:#}\n")
}

/// Tokens, as written in the file, and their ids.
type Ids<'a> = HashMap<&'a str, u32>;

impl File {
    fn specials(&self) -> impl Iterator<Item = &Added> {
        self.added_tokens.iter().filter(|added| added.special)
    }

    fn vocab(&self) -> Result<Ids<'_>> {
        let vocab = self.model["vocab"].as_object().context(NOT_BYTE_LEVEL)?;
        let mut ids = Ids::with_capacity(vocab.len());
        for (token, value) in vocab {
            let id = value.as_u64().and_then(|id| u32::try_from(id).ok()).filter(|&id| id < MAX_IDS);
            ids.insert(token, id.with_context(|| format!("the id of token {token:?} is {value}"))?);
        }
        Ok(ids)
    }

    fn byte_ids(&self, ids: &Ids<'_>) -> Result<[u32; 256]> {
        ensure!(self.pre_tokenizer.to_string().contains("\"ByteLevel\""), NOT_BYTE_LEVEL);
        let mut byte_ids = [0; 256];
        for (byte, slot) in (0..=255).zip(&mut byte_ids) {
            let written = alphabet::written(&[byte]);
            *slot =
                *ids.get(written.as_str()).with_context(|| format!("it has no token for the byte {byte}"))?;
        }
        Ok(byte_ids)
    }

    /// The bytes of each id. Added tokens stand for their text as it is, the others are written in the byte alphabet.
    fn tokens(&self, ids: &Ids<'_>) -> Result<Vec<Option<Box<[u8]>>>> {
        let mut tokens: Vec<Option<Box<[u8]>>> = Vec::new();
        let mut put = |id: u32, bytes: Vec<u8>| {
            let at = id as usize;
            if tokens.len() <= at {
                tokens.resize(at + 1, None);
            }
            tokens[at].replace(bytes.into()).is_some()
        };
        for (&token, &id) in ids {
            let bytes = alphabet::meant(token).unwrap_or_else(|| token.into());
            ensure!(!put(id, bytes), "two tokens have the id {id}");
        }
        for added in &self.added_tokens {
            ensure!(added.id < MAX_IDS, "the id of token {:?} is {}", added.content, added.id);
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
