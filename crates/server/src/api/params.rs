//! What chats and completions have in common: how tokens are drawn, and what ends an answer.

use lm::model::Sampling;
use serde::Deserialize;
use serde_json::{Number, Value};
use std::collections::BTreeMap;
use utoipa::ToSchema;

use super::error::ApiError;
use crate::model::Model;

/// Choices of one request, at most.
const CHOICES: u64 = 16;
/// Stop strings, and bytes of each, at most.
const STOPS: usize = 16;
const STOP_BYTES: usize = 256;
/// Biased tokens, at most.
const BIASES: usize = 1024;
/// Seeds that are drawn here are exact in JavaScript, too.
const SEED_BITS: u32 = 53;

/// One text or several.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(untagged, expecting = "a text or a list of texts")]
pub(crate) enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

/// What is asked of a stream.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
pub(crate) struct StreamOptions {
    /// Whether its last chunk has the usage.
    pub(crate) include_usage: Option<bool>,
}

/// How tokens are drawn. What is not given is as the model's own files say, else as OpenAI's interface does.
#[derive(Clone, Debug, Deserialize, ToSchema)]
pub(crate) struct Params {
    /// Logits are divided by it, 0 to 2; 0 takes the likeliest token.
    temperature: Option<f64>,
    /// Only the fewest likely tokens whose probabilities reach it.
    top_p: Option<f64>,
    /// Only so many of the likeliest tokens; 0 for all.
    top_k: Option<u64>,
    /// Tokens of an answer, at most.
    max_tokens: Option<u64>,
    /// The same; it wins.
    max_completion_tokens: Option<u64>,
    /// Answers to give.
    n: Option<u64>,
    /// Texts that end an answer.
    stop: Option<OneOrMany>,
    /// Decides every draw, a whole number; one is drawn and told where it is missing.
    #[schema(value_type = Option<i64>)]
    seed: Option<Value>,
    /// Taken from the logits of tokens that came before, -2 to 2.
    presence_penalty: Option<f64>,
    /// The same for each time, -2 to 2.
    frequency_penalty: Option<f64>,
    /// What is added to the logits of tokens by their ids, -100 to 100.
    logit_bias: Option<BTreeMap<String, f64>>,
    /// Whether the answer comes as it grows.
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    /// Whether a stream can be read again from `/v1/streams/ID` after its reader went away.
    resumable: Option<bool>,
}

/// The same, checked.
#[derive(Clone, Debug)]
pub(crate) struct Generation {
    pub(crate) sampling: Sampling,
    /// The seed as it was given, or drawn.
    pub(crate) seed: Number,
    /// None for as many as the context has room for.
    pub(crate) max_tokens: Option<usize>,
    pub(crate) n: usize,
    pub(crate) stop: Vec<String>,
    pub(crate) presence_penalty: f32,
    pub(crate) frequency_penalty: f32,
    pub(crate) logit_bias: Vec<(u32, f32)>,
    pub(crate) stream: bool,
    pub(crate) include_usage: bool,
    pub(crate) resumable: bool,
}

impl Params {
    /// Checks every field, and fills in what is missing.
    ///
    /// # Errors
    /// A field is out of its range.
    pub(crate) fn check(&self, model: &Model) -> Result<Generation, ApiError> {
        let writing = &model.generation.writing;
        let temperature = within("temperature", self.temperature, 0.0, 2.0)?.or(writing.temperature);
        let top_p = within("top_p", self.top_p, 0.0, 1.0)?;
        if top_p == Some(0.0) {
            return Err(ApiError::param("top_p", "top_p must be above 0"));
        }
        let vocabulary = model.tokenizer.vocab_size();
        let top_k = match self.top_k {
            Some(k) if k > vocabulary as u64 => {
                let message = format!("top_k must be at most the vocabulary's {vocabulary}");
                return Err(ApiError::param("top_k", message));
            }
            k => k.map(|k| k as usize).or(writing.top_k),
        };
        let n = self.n.unwrap_or(1);
        if !(1..=CHOICES).contains(&n) {
            return Err(ApiError::param("n", format!("n must be from 1 to {CHOICES}")));
        }
        let stream = self.stream.unwrap_or(false);
        if self.stream_options.is_some() && !stream {
            return Err(ApiError::param("stream_options", "stream_options needs stream: true"));
        }
        let (seed, bits) = self.seed()?;
        let sampling = Sampling {
            temperature: temperature.unwrap_or(1.0),
            top_k: top_k.unwrap_or(0),
            top_p: top_p.or(writing.top_p).unwrap_or(1.0),
            seed: bits,
        };
        let max_tokens = self.max_completion_tokens.or(self.max_tokens).map(|n| n as usize);
        Ok(Generation {
            sampling,
            seed,
            max_tokens,
            n: n as usize,
            stop: self.stops(&writing.stop)?,
            presence_penalty: within("presence_penalty", self.presence_penalty, -2.0, 2.0)?.unwrap_or(0.0),
            frequency_penalty: within("frequency_penalty", self.frequency_penalty, -2.0, 2.0)?.unwrap_or(0.0),
            logit_bias: self.biases(vocabulary)?,
            stream,
            include_usage: self.stream_options.as_ref().and_then(|o| o.include_usage).unwrap_or(false),
            resumable: self.resumable.unwrap_or(false),
        })
    }

    fn stops(&self, of_model: &[String]) -> Result<Vec<String>, ApiError> {
        let given = match &self.stop {
            None => Vec::new(),
            Some(OneOrMany::One(text)) => vec![text.clone()],
            Some(OneOrMany::Many(texts)) => texts.clone(),
        };
        if given.len() > STOPS || given.iter().any(|text| text.len() > STOP_BYTES) {
            let message = format!("stop has at most {STOPS} texts of {STOP_BYTES} bytes each");
            return Err(ApiError::param("stop", message));
        }
        Ok(given.into_iter().chain(of_model.iter().cloned()).collect())
    }

    /// The seed, and the bits that decide. Negative ones are seeds, too.
    fn seed(&self) -> Result<(Number, u64), ApiError> {
        let Some(given) = self.seed.as_ref().filter(|seed| !seed.is_null()) else {
            let random = getrandom::u64().map_err(|error| ApiError::failed(format!("no seed: {error}")))?;
            let drawn = random >> (u64::BITS - SEED_BITS);
            return Ok((drawn.into(), drawn));
        };
        let whole = given.as_number().and_then(|number| {
            let bits = number.as_u64().or_else(|| number.as_i64().map(|seed| seed as u64))?;
            Some((number.clone(), bits))
        });
        whole.ok_or_else(|| ApiError::param("seed", "seed must be a whole number, from -2^63 to 2^64 - 1"))
    }

    fn biases(&self, vocabulary: usize) -> Result<Vec<(u32, f32)>, ApiError> {
        const PARAM: &str = "logit_bias";
        let Some(biases) = &self.logit_bias else { return Ok(Vec::new()) };
        if biases.len() > BIASES {
            return Err(ApiError::param(PARAM, format!("logit_bias has at most {BIASES} tokens")));
        }
        let mut checked = BTreeMap::new();
        for (token, &bias) in biases {
            let id = token.parse::<u32>().ok().filter(|&id| (id as usize) < vocabulary);
            let id = id.ok_or_else(|| {
                let message =
                    format!("logit_bias: {token:?} is no id of the vocabulary's {vocabulary} tokens");
                ApiError::param(PARAM, message)
            })?;
            let bias = within(PARAM, Some(bias), -100.0, 100.0)?.unwrap_or(0.0);
            if checked.insert(id, bias).is_some() {
                return Err(ApiError::param(PARAM, format!("logit_bias names token {id} twice")));
            }
        }
        Ok(checked.into_iter().collect())
    }
}

fn within(param: &str, value: Option<f64>, least: f64, most: f64) -> Result<Option<f32>, ApiError> {
    match value {
        Some(value) if !(least..=most).contains(&value) => {
            Err(ApiError::param(param, format!("{param} must be from {least} to {most}")))
        }
        value => Ok(value.map(|value| value as f32)),
    }
}

/// Refuses what is asked of other models than those here, and `besides` it these fields. `tools: []` and the like ask
/// for nothing.
pub(crate) fn refuse_unsupported(body: &Value, besides: &[&str]) -> Result<(), ApiError> {
    const FIELDS: [&str; 8] = [
        "functions",
        "function_call",
        "audio",
        "modalities",
        "prediction",
        "web_search_options",
        "chat_template",
        "chat_template_kwargs",
    ];
    for &field in FIELDS.iter().chain(besides) {
        let asks = match (field, &body[field]) {
            (_, Value::Null) => false,
            (_, Value::Array(items)) if items.is_empty() => false,
            ("tool_choice" | "function_call", Value::String(choice)) => choice != "none" && choice != "auto",
            ("modalities", Value::Array(kinds)) => kinds.iter().any(|kind| kind != "text"),
            _ => true,
        };
        if asks {
            return Err(ApiError::unsupported(field));
        }
    }
    Ok(())
}
