//! What a model's own files say about how it writes: the tokens that end a text, and how tokens are drawn.
//!
//! `transformers` keeps it in `generation_config.json`, older models in `config.json`; GGUF files have
//! entries for it.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Map, Value};

use super::gguf::metadata::Metadata;
use super::{CONFIG, GENERATION_CONFIG};

/// What a model's files ask for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Generation {
    /// The ids of tokens that end a text.
    pub end_tokens: Vec<u32>,
    /// How text is written.
    pub writing: Writing,
    /// What else the files ask for, and is not done: `repetition_penalty 1.1`.
    pub not_done: Vec<String>,
}

/// How text is written; what the files do not mention is `None`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Writing {
    /// Logits are divided by it; 0 where the files say `do_sample: false`.
    pub temperature: Option<f32>,
    /// From how many of the likeliest tokens one is drawn; 0 for all.
    pub top_k: Option<usize>,
    /// From the fewest tokens whose probabilities reach it one is drawn.
    pub top_p: Option<f32>,
    /// Tokens that are written at most.
    pub max_tokens: Option<usize>,
    /// Texts that end a text.
    pub stop: Vec<String>,
}

/// Keys of ways to draw tokens that are not known here, and the values with which each changes nothing. A
/// missing number, `null`, and what is empty change nothing either.
const OTHERS: &[(&str, &[f64])] = &[
    ("repetition_penalty", &[1.0]),
    ("encoder_repetition_penalty", &[1.0]),
    ("no_repeat_ngram_size", &[0.0]),
    ("encoder_no_repeat_ngram_size", &[0.0]),
    ("min_p", &[0.0]),
    ("typical_p", &[1.0]),
    ("epsilon_cutoff", &[0.0]),
    ("eta_cutoff", &[0.0]),
    ("top_h", &[]),
    ("num_beams", &[1.0]),
    ("num_beam_groups", &[1.0]),
    ("diversity_penalty", &[0.0]),
    ("penalty_alpha", &[0.0]),
    ("dola_layers", &[]),
    ("guidance_scale", &[1.0]),
    ("min_length", &[0.0]),
    ("min_new_tokens", &[0.0]),
    ("bad_words_ids", &[]),
    ("force_words_ids", &[]),
    ("constraints", &[]),
    ("sequence_bias", &[]),
    ("suppress_tokens", &[]),
    ("begin_suppress_tokens", &[]),
    ("forced_bos_token_id", &[]),
    ("forced_eos_token_id", &[]),
    ("exponential_decay_length_penalty", &[]),
    ("watermarking_config", &[]),
];

/// A JSON object in a file, which may begin with a mark of the byte order; none where there is no file.
pub(super) fn read_object(path: &Path) -> Result<Option<Map<String, Value>>> {
    if !path.exists() {
        return Ok(None);
    }
    let read = || -> Result<Map<String, Value>> {
        let bytes = fs::read(path)?;
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
        serde_json::from_slice(bytes).context("not a JSON object")
    };
    read().with_context(|| path.display().to_string()).map(Some)
}

impl Generation {
    /// What the files of a directory say. What draws tokens stands in one of them, and what ends a text in
    /// both.
    ///
    /// # Errors
    /// A file is no JSON object.
    pub(super) fn of_dir(dir: &Path) -> Result<Generation> {
        let config = read_object(&dir.join(CONFIG))?.unwrap_or_default();
        let own = read_object(&dir.join(GENERATION_CONFIG))?;
        let mut generation = Generation::default();
        for fields in own.iter().chain([&config]) {
            generation.add_ends(fields);
        }
        generation.add_sampling(own.as_ref().unwrap_or(&config));
        Ok(generation)
    }

    /// What the entries of a GGUF file say.
    ///
    /// # Errors
    /// An entry is of another type.
    pub(super) fn of_gguf(metadata: &Metadata) -> Result<Generation> {
        let mut generation = Generation::default();
        for role in ["eos", "eot", "eom"] {
            for id in metadata.whole_numbers(&format!("tokenizer.ggml.{role}_token_id"))? {
                generation.add_end(u32::try_from(id).ok());
            }
        }
        Ok(generation)
    }

    fn add_end(&mut self, id: Option<u32>) {
        self.end_tokens.extend(id.filter(|id| !self.end_tokens.contains(id)));
    }

    /// `eos_token_id` is an id or a list of them; negative ones stand for none.
    fn add_ends(&mut self, fields: &Map<String, Value>) {
        const ENDS: &str = "eos_token_id";
        let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
        match fields.get(ENDS) {
            None | Some(Value::Null) => {}
            Some(Value::Array(ids)) => ids.iter().for_each(|value| self.add_end(id(value))),
            Some(value) if id(value).is_some() || value.as_i64().is_some_and(|id| id < 0) => {
                self.add_end(id(value))
            }
            Some(other) => self.not_done.push(format!("{ENDS} {other}")),
        }
    }

    fn add_sampling(&mut self, fields: &Map<String, Value>) {
        let mut number = |name: &str, is_right: fn(f64) -> bool| {
            let value = fields.get(name).filter(|value| !value.is_null())?;
            let number = value.as_f64().filter(|&number| is_right(number));
            if number.is_none() {
                self.not_done.push(format!("{name} {value}"));
            }
            number
        };
        let is_count = |n: f64| n >= 0.0 && n.fract() == 0.0;
        let temperature = number("temperature", |t| t.is_finite() && t >= 0.0);
        let top_k = number("top_k", is_count);
        let top_p = number("top_p", |p| p > 0.0 && p <= 1.0);
        let max_tokens = number("max_new_tokens", |n| n >= 1.0 && n.fract() == 0.0);
        let is_greedy = match fields.get("do_sample") {
            Some(Value::Bool(samples)) => !samples,
            None | Some(Value::Null) => false,
            Some(other) => {
                self.not_done.push(format!("do_sample {other}"));
                false
            }
        };
        let stop = match fields.get("stop_strings") {
            Some(Value::String(text)) => vec![text.clone()],
            Some(Value::Array(texts)) => texts.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            _ => Vec::new(),
        };
        self.writing = Writing {
            temperature: if is_greedy { Some(0.0) } else { temperature.map(|t| t as f32) },
            top_k: top_k.map(|k| k as usize),
            top_p: top_p.map(|p| p as f32),
            max_tokens: max_tokens.map(|n| n as usize),
            stop: stop.into_iter().filter(|text| !text.is_empty()).collect(),
        };
        for (name, neutral) in OTHERS {
            let Some(value) = fields.get(*name) else { continue };
            let changes_nothing = match value {
                Value::Null | Value::Bool(false) => true,
                Value::Number(number) => number.as_f64().is_some_and(|number| neutral.contains(&number)),
                Value::Array(items) => items.is_empty(),
                Value::Object(fields) => fields.is_empty(),
                Value::Bool(true) | Value::String(_) => false,
            };
            if !changes_nothing {
                self.not_done.push(format!("{name} {value}"));
            }
        }
    }
}
