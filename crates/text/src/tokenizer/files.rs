//! The files of a tokenizer: Hugging Face's `tokenizer.json` with those that stand beside it, and GPT-2's own
//! two.

use super::bpe::Pair;
use super::format::{self, Contents};
use super::{END_OF_TEXT, Tokenizer};
use anyhow::{Context, Result, anyhow, ensure};
use serde_json::json;
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use tokenizers::{AddedToken, Tokenizer as Library};

/// Every file that a tokenizer may consist of, under the names that `transformers` uses.
pub const FILES: [&str; 4] = [JSON, CONFIG, TEMPLATE, SPECIAL_MAP];

pub(super) const JSON: &str = "tokenizer.json";
pub(super) const CONFIG: &str = "tokenizer_config.json";
pub(super) const TEMPLATE: &str = "chat_template.jinja";
/// Where older directories keep the template.
const OLD_TEMPLATE: &str = "chat_template.json";
/// Templates by name.
const MORE_TEMPLATES: &str = "additional_chat_templates";
pub(super) const SPECIAL_MAP: &str = "special_tokens_map.json";

/// A vocabulary and its merges, under OpenAI's names and under those of older Hugging Face directories.
const GPT2_FILES: [(&str, &str); 2] = [("encoder.json", "vocab.bpe"), ("vocab.json", "merges.txt")];

/// What [`Tokenizer::is_in`] does.
pub(super) fn are_in(dir: &Path) -> bool {
    let mut names = [JSON].into_iter().chain(GPT2_FILES.map(|(vocab, _)| vocab));
    names.any(|name| dir.join(name).is_file())
}

/// What [`Tokenizer::from_file`] does.
pub(super) fn load(path: &Path) -> Result<Tokenizer> {
    let (dir, name) = if path.is_dir() {
        let names = [JSON].into_iter().chain(GPT2_FILES.map(|(vocab, _)| vocab));
        let found = names.into_iter().find(|name| path.join(name).is_file());
        let missing = || {
            format!(
                "no tokenizer in {}: looked for {JSON}, or encoder.json with vocab.bpe; `mynah tokenizer train` makes one",
                path.display()
            )
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
    let beside = |other: &str| {
        let other = dir.join(other);
        (name == JSON && other.is_file()).then(|| read(&other)).transpose()
    };
    let config = beside(CONFIG)?;
    let template = match beside(TEMPLATE)? {
        None => {
            beside(OLD_TEMPLATE)?.map(|text| old_template(&text, config.as_deref())).transpose()?.flatten()
        }
        template => template,
    };
    let other_templates = match &template {
        None if name == JSON => named_templates(&dir.join(MORE_TEMPLATES))?,
        _ => Vec::new(),
    };
    let contents =
        Contents { json: read(&file)?, config, template, other_templates, special_map: beside(SPECIAL_MAP)? };
    format::parse(contents).with_context(|| format!("cannot use the tokenizer {}", file.display()))
}

/// The template of the file that holds nothing else, where the configuration has none.
fn old_template(text: &str, config: Option<&str>) -> Result<Option<String>> {
    let parse = |file: &str, text: &str| -> Result<serde_json::Value> {
        serde_json::from_str(text).with_context(|| format!("{file} is not JSON"))
    };
    let config = config.map(|config| parse(CONFIG, config)).transpose()?.unwrap_or_default();
    if !config["chat_template"].is_null() {
        return Ok(None);
    }
    let template = parse(OLD_TEMPLATE, text)?["chat_template"].as_str().map(str::to_owned);
    template.map(Some).with_context(|| format!("{OLD_TEMPLATE} has no chat_template that is a text"))
}

/// The names of the templates in a directory.
fn named_templates(dir: &Path) -> Result<Vec<String>> {
    if !dir.is_dir() {
        return Ok(Vec::new());
    }
    let context = || format!("cannot list {}", dir.display());
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).with_context(context)? {
        let path = entry.with_context(context)?.path();
        if path.extension().is_some_and(|extension| extension == "jinja") {
            names.extend(path.file_stem().map(|name| name.to_string_lossy().into_owned()));
        }
    }
    names.sort();
    Ok(names)
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
    json.and_then(|json| format::parse(Contents { json, ..Contents::default() }))
        .with_context(|| format!("{} does not go with {}", vocab_bpe.display(), encoder_json.display()))
}

/// What [`Tokenizer::save`] does.
pub(super) fn save(tokenizer: &Tokenizer, path: &Path) -> Result<()> {
    let file = file_for(path);
    let dir = file.parent().unwrap_or(Path::new(""));
    fs::create_dir_all(dir).with_context(|| format!("cannot make the directory {}", dir.display()))?;
    for (name, content) in tokenizer.files_as(&file) {
        let file = file.with_file_name(name);
        fs::write(&file, content).with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}

/// What [`Tokenizer::file_for`] does.
pub(super) fn file_for(path: &Path) -> PathBuf {
    let ends_in_json = path.extension().is_some_and(|extension| extension == "json");
    let is_file = (ends_in_json || path.exists() || path == Path::new("-")) && !path.is_dir();
    if is_file { path.to_owned() } else { path.join(JSON) }
}

fn read(path: &Path) -> Result<String> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    // A mark of the byte order, as some editors put it, is no part of a text.
    Ok(text.strip_prefix('\u{feff}').map_or_else(|| text.clone(), str::to_owned))
}

/// From the tokens in the order of their ids and the merges in the order they were learned.
pub(super) fn from_vocab(vocab: Vec<String>, merges: &[Pair], specials: &[&str]) -> Result<Tokenizer> {
    let name = |id: u32| vocab[id as usize].clone();
    let merges = merges.iter().map(|&(left, right)| (name(left), name(right))).collect();
    let json = library_json(vocab.into_iter().zip(0..).collect(), merges, specials.iter().copied())?;
    format::parse(Contents { json, ..Contents::default() })
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
    let mut library = library_of(&file.to_string())?;
    let specials: Vec<_> = specials.into_iter().map(|name| AddedToken::from(name, true)).collect();
    library.add_special_tokens(&specials);
    json_of(&library)
}

/// The library's tokenizer of a `tokenizer.json`. By the one function that is compiled in the library: what is generic
/// would be compiled here once more, for a fifth of the time that this crate takes to build.
pub(super) fn library_of(json: &str) -> Result<Library> {
    json.parse().map_err(|error| anyhow!("the tokenizers library says: {error}"))
}

/// Its `tokenizer.json`.
pub(super) fn json_of(library: &Library) -> Result<String> {
    Ok(serde_json::to_string_pretty(library)?)
}
