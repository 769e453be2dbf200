//! Conversations in files: demonstrations, prompts, candidates and rankings, each in every form that is about, made one.
//!
//! Every function takes a JSON object, one line of a file, and gives what it says or its [`Fault`].

mod fields;

use serde::Serialize;
use serde_json::Value;

pub(super) use self::fields::missing;
use self::fields::{check_order, completions_of, prompt_of, ranks_of, transcript, turns};
use super::rows::{Fault, Record};
pub use crate::tokenizer::chat::{Message, Role};

/// A conversation that waits for an answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Prompt {
    /// What was said so far; a user has the last word.
    pub messages: Vec<Message>,
    /// Further fields of its line.
    #[serde(flatten)]
    pub extra: Record,
}

/// Several answers to one prompt.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Candidates {
    /// The prompt.
    pub messages: Vec<Message>,
    /// The answers; a sampled one may be empty.
    pub completions: Vec<String>,
    /// Further fields of its line.
    #[serde(flatten)]
    pub extra: Record,
}

/// Several answers to one prompt, ranked.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Ranking {
    /// The prompt.
    pub messages: Vec<Message>,
    /// The answers.
    pub completions: Vec<String>,
    /// The rank of each answer, 1 is best; equal ranks are ties.
    pub ranks: Vec<u32>,
    /// Further fields of its line.
    #[serde(flatten)]
    pub extra: Record,
}

impl Ranking {
    /// The pairs (better, worse) of answers, in order. Ties make no pair, and neither do two answers of the same text.
    pub fn pairs(&self) -> Vec<(usize, usize)> {
        let n = self.completions.len();
        let is_pair = |&(better, worse): &(usize, usize)| {
            self.ranks[better] < self.ranks[worse] && self.completions[better] != self.completions[worse]
        };
        (0..n).flat_map(|i| (0..n).map(move |j| (i, j))).filter(is_pair).collect()
    }
}

/// A conversation to learn from, `{"messages"}` or `{"prompt","completion"}`: its last message is the assistant's.
pub fn demonstration(mut record: Record) -> Result<Vec<Message>, Fault> {
    let messages = match (
        record.shift_remove("messages"),
        record.shift_remove("prompt"),
        record.shift_remove("completion"),
    ) {
        (Some(messages), _, _) => turns("messages", messages, None)?,
        (None, Some(prompt), Some(completion)) => {
            let mut messages = turns("prompt", prompt, Some(Role::User))?;
            messages.extend(turns("completion", completion, Some(Role::Assistant))?);
            messages
        }
        _ => return Err(missing("messages, or prompt and completion", &record)),
    };
    check_order(&messages, Role::Assistant)?;
    Ok(messages)
}

/// A conversation to be answered, `{"messages"}` or `{"prompt"}`.
pub fn prompt(mut record: Record) -> Result<Prompt, Fault> {
    let messages = prompt_of(&mut record)?;
    check_order(&messages, Role::User)?;
    Ok(Prompt { messages, extra: record })
}

/// A prompt with its answers: `{"messages","completions"}`.
pub fn candidates(mut record: Record) -> Result<Candidates, Fault> {
    let messages = prompt_of(&mut record)?;
    check_order(&messages, Role::User)?;
    let completions = completions_of(&mut record)?;
    if completions.is_empty() {
        return Err(Fault::bad("no answers", "completions is an empty array"));
    }
    Ok(Candidates { messages, completions, extra: record })
}

/// A prompt with answers to be scored: [`candidates`], a ranking in any form, or a conversation that ends with an answer.
pub fn scored(record: Record) -> Result<Candidates, Fault> {
    if record.contains_key("completions") {
        return candidates(record);
    }
    if record.contains_key("chosen") {
        let Ranking { messages, completions, extra, .. } = ranking(record)?;
        return Ok(Candidates { messages, completions, extra });
    }
    let mut messages = demonstration(record)?;
    let answer = messages.pop().map(|message| message.content);
    Ok(Candidates { messages, completions: answer.into_iter().collect(), extra: Record::new() })
}

/// Ranked answers: `{"messages","completions","ranks"}`; `{"prompt","chosen","rejected"}`; or `{"chosen","rejected"}` as two
/// conversations that differ in the last answer, lists of messages or texts of `Human:` and `Assistant:`.
///
/// A ranking without a pair is left out.
pub fn ranking(mut record: Record) -> Result<Ranking, Fault> {
    let ranking = match (record.shift_remove("chosen"), record.shift_remove("rejected")) {
        (Some(chosen), Some(rejected)) => pair(chosen, rejected, record)?,
        (None, None) => {
            let Candidates { messages, completions, mut extra } = candidates(record)?;
            let ranks = ranks_of(&mut extra, completions.len())?;
            Ranking { messages, completions, ranks, extra }
        }
        _ => return Err(Fault::bad("missing field", "of chosen and rejected there is only one")),
    };
    if ranking.completions.len() == 1 {
        return Err(Fault::left_out("one answer, no pair", ""));
    }
    if ranking.pairs().is_empty() {
        let detail = format!("ranks {:?}", ranking.ranks);
        return Err(Fault::left_out("equal answers, no pair", detail));
    }
    Ok(ranking)
}

/// Two answers, of which the first is better.
fn pair(chosen: Value, rejected: Value, mut record: Record) -> Result<Ranking, Fault> {
    let (messages, answers) = if record.contains_key("prompt") || record.contains_key("messages") {
        let messages = prompt_of(&mut record)?;
        (messages, [("chosen", chosen), ("rejected", rejected)].map(|(name, value)| answer_of(name, value)))
    } else {
        let conversation = |name, value| match value {
            Value::String(text) => transcript(&text).ok_or_else(|| {
                let detail = format!("there is no prompt, and {name} does not begin with `Human:`");
                Fault::bad("missing field", detail)
            }),
            value => turns(name, value, None),
        };
        let (chosen, rejected) = (conversation("chosen", chosen)?, conversation("rejected", rejected)?);
        let (Some((better, asked)), Some((worse, also_asked))) = (chosen.split_last(), rejected.split_last())
        else {
            return Err(Fault::bad("no messages", "chosen or rejected is empty"));
        };
        if asked != also_asked {
            let detail = "chosen and rejected differ before their last messages";
            return Err(Fault::bad("answers to different prompts", detail));
        }
        let answer = |name: &str, message: &Message| match message.role {
            Role::Assistant => Ok(message.content.clone()),
            role => Err(Fault::bad("roles out of order", format!("{name} ends with {}", role.name()))),
        };
        (asked.to_vec(), [answer("chosen", better), answer("rejected", worse)])
    };
    check_order(&messages, Role::User)?;
    let [better, worse] = answers;
    Ok(Ranking { messages, completions: vec![better?, worse?], ranks: vec![1, 2], extra: record })
}

/// An answer as a text, or as a list of one message.
fn answer_of(name: &str, value: Value) -> Result<String, Fault> {
    match turns(name, value, Some(Role::Assistant))?.as_slice() {
        [Message { role: Role::Assistant, content }] => Ok(content.clone()),
        _ => Err(Fault::bad("roles out of order", format!("{name} is not one message of the assistant"))),
    }
}
