//! The result of one item of an evaluation: its prompt, what is recorded of it, and its score.

use super::code;
use serde_json::{Map, Value};

/// How the likelihoods of answers are compared (Brown et al. 2020, §2.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rule {
    /// log P(answer | question).
    Sum,
    /// The same divided by the number of the answer's tokens.
    #[default]
    PerToken,
    /// log P(answer | question) - log P(answer | "Answer:"): how much more likely the question makes it.
    Normalised,
}

impl Rule {
    /// All of them.
    pub const ALL: [Rule; 3] = [Rule::Sum, Rule::PerToken, Rule::Normalised];

    /// As it is typed.
    pub fn name(self) -> &'static str {
        match self {
            Rule::Sum => "sum",
            Rule::PerToken => "per-token",
            Rule::Normalised => "normalised",
        }
    }
}

/// How a model is evaluated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Terms {
    /// Examples before an item.
    pub shots: usize,
    /// By which a choice is judged; the others are told, too.
    pub rule: Rule,
    /// Draws the examples.
    pub seed: u64,
    /// Beams of a free answer; 1 takes the likeliest token each time.
    pub beams: usize,
    /// Tokens of an answer at most; of a program many more, unless somebody says so.
    pub max_tokens: Option<usize>,
    /// Programs to write for a problem.
    pub programs: usize,
    /// By which logits are divided to draw programs; 0 takes the likeliest token each time. Unless somebody
    /// says so, a single program is the likeliest, and several are drawn at 0.8, which is best for many (Chen
    /// et al. 2021).
    pub temperature: Option<f32>,
    /// Whether free answers are messages of a chat, on whose way the model may call tools.
    pub tools: bool,
}

/// A prompt as tokens.
pub(super) struct TokenizedPrompt {
    pub(super) text: String,
    pub(super) tokens: Vec<u32>,
    /// Examples before the item.
    pub(super) shown: usize,
    /// Examples that the context had no room for, and tokens at the beginning of what is asked.
    pub(super) left_out: usize,
    pub(super) cut: usize,
}

/// Log-probability, tokens and bytes of a text or a part of one.
pub(super) type Weighed = (f64, usize, usize);

/// Bits a byte of a text that was read in parts.
pub(super) fn bits_per_byte<'w>(parts: impl IntoIterator<Item = &'w Weighed>) -> f64 {
    let (logprob, bytes) = parts.into_iter().fold((0.0, 0), |sum, part| (sum.0 + part.0, sum.1 + part.2));
    -logprob / std::f64::consts::LN_2 / bytes.max(1) as f64
}

/// What an item gave.
#[derive(Default)]
pub(super) struct Marked {
    /// Which item of the task.
    pub(super) item: usize,
    pub(super) score: f64,
    pub(super) record: Map<String, Value>,
    /// Right or not under every rule, of choices.
    pub(super) by_rule: Option<[bool; 3]>,
    /// The windows of a text; of a last word the one that it is.
    pub(super) windows: Vec<Weighed>,
    /// Of free answers F1; of lines how similar they are.
    pub(super) likeness: Option<f64>,
    /// What became of each program.
    pub(super) verdicts: Vec<code::Kind>,
    pub(super) shown: usize,
    pub(super) left_out: usize,
    pub(super) cut: usize,
}

pub(super) fn marked(score: f64, record: Value, asked: &TokenizedPrompt) -> Marked {
    let mut record = match record {
        Value::Object(record) => record,
        _ => Map::new(),
    };
    for (name, count) in [("examples_left_out", asked.left_out), ("tokens_cut", asked.cut)] {
        if count > 0 {
            record.insert(name.to_owned(), count.into());
        }
    }
    let (left_out, cut) = (asked.left_out, usize::from(asked.cut > 0));
    Marked { score, record, shown: asked.shown, left_out, cut, ..Marked::default() }
}
