//! Conversations in files: demonstrations, prompts, candidates and rankings, each in every form that is
//! about, made one.
//!
//! Every function takes a JSON object, one line of a file, and gives what it says or its [`Fault`]. What is
//! asked stands in `messages` (OpenAI), `conversations` (ShareGPT), `prompt` (TRL), `instruction` and `input`
//! (Alpaca); beside it stand answers: `completion` or `output`, `chosen` and `rejected`, `completions` and
//! `ranks`.

mod fields;
mod kinds;
mod turns;

use serde::Serialize;
use serde_json::Value;

pub(super) use self::fields::missing;
use self::fields::{completions_of, ranks_of, said, take, whole, with_system};
use self::kinds::{Kind, goodness};
use self::turns::{check_order, tools_of, turns};
use super::rows::{Fault, Record};
pub use crate::tokenizer::chat::{Message, Role};

/// The fields that conversations are read from, by name.
pub const FIELDS: &[&str] = &[
    "messages",
    "conversations",
    "prompt",
    "instruction",
    "input",
    "history",
    "system",
    "tools",
    "functions",
    "completion",
    "output",
    "label",
    "chosen",
    "rejected",
    "preferred_output",
    "non_preferred_output",
    "completions",
    "ranks",
];

/// A conversation to learn from; the assistant has the last word.
#[derive(Clone, Debug, PartialEq)]
pub struct Demonstration {
    /// What is said.
    pub messages: Vec<Message>,
    /// The tools that the assistant may call, as templates are told of them.
    pub tools: Option<Value>,
}

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

/// An answer to a prompt, called good or bad without any other to compare with (Ethayarajh et al. 2024).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Judged {
    /// The prompt.
    pub messages: Vec<Message>,
    /// The answer.
    pub completion: String,
    /// Whether it is good.
    pub label: bool,
    /// The tools that the assistant could call, as templates are told of them.
    pub tools: Option<Value>,
}

impl Ranking {
    /// By how much the better answer of a pair is to be ahead, as TRL has it in the field `margin`; 0 where nothing is said.
    pub fn margin(&self) -> f64 {
        margin_of(&self.extra).and_then(margin).unwrap_or(0.0)
    }

    /// The pairs (better, worse) of answers, in order. Ties make no pair, and neither do two answers of the
    /// same text.
    pub fn pairs(&self) -> Vec<(usize, usize)> {
        let n = self.completions.len();
        let is_pair = |&(better, worse): &(usize, usize)| {
            self.ranks[better] < self.ranks[worse] && self.completions[better] != self.completions[worse]
        };
        (0..n).flat_map(|i| (0..n).map(move |j| (i, j))).filter(is_pair).collect()
    }
}

/// A conversation to learn from: what is asked with `completion` or `output` as its answer, or a conversation
/// that ends with one; of rankings whose answers are whole conversations the better one. KTO's rows with
/// label false are left out.
pub fn demonstration(record: Record) -> Result<Demonstration, Fault> {
    const WANTED: &str = "a demonstration";
    let mut record = opened(record)?;
    let kind = Kind::of(&record);
    let mut messages = match kind {
        Some(Kind::Kto) if goodness(&record) == Some(false) => {
            return Err(Fault::left_out("a KTO row with label false", "only good answers are learned"));
        }
        Some(kind @ Kind::Ranking) => {
            let chosen = take(&mut record, "chosen").map(|chosen| whole("chosen", &chosen)).transpose()?;
            match chosen.flatten() {
                Some(chosen) => with_system(chosen, &mut record),
                None => return Err(kind.instead_of(WANTED)),
            }
        }
        Some(kind @ (Kind::Prompt | Kind::Candidates | Kind::Labelled | Kind::Text)) => {
            return Err(kind.instead_of(WANTED));
        }
        Some(Kind::Demonstration | Kind::Kto) | None => said(&mut record)?,
    };
    if messages.last().is_some_and(|last| last.role != Role::Assistant) {
        for name in ["completion", "output"] {
            if let Some(answer) = take(&mut record, name) {
                messages.extend(turns(name, answer, Some(Role::Assistant))?);
                break;
            }
        }
    }
    check_order(&messages, true)?;
    Ok(Demonstration { messages, tools: take(&mut record, "tools") })
}

/// A conversation to be answered. Answers that it had before are not kept.
pub fn prompt(record: Record) -> Result<Prompt, Fault> {
    let mut prompt = asked(record)?;
    ["completions", "ranks"].into_iter().for_each(|name| drop(prompt.extra.shift_remove(name)));
    Ok(prompt)
}

fn asked(record: Record) -> Result<Prompt, Fault> {
    const WANTED: &str = "a prompt";
    let mut record = opened(record)?;
    if take_if_answered(&mut record) && !record.contains_key("prompt") {
        return Err(Kind::Demonstration.instead_of(WANTED));
    }
    let kind = Kind::of(&record);
    let messages = said(&mut record).map_err(|fault| match kind {
        Some(kind @ (Kind::Ranking | Kind::Labelled | Kind::Text)) => kind.instead_of(WANTED),
        _ => fault,
    })?;
    check_order(&messages, false)?;
    Ok(Prompt { messages, extra: record })
}

/// A prompt with its answers: what is asked, and `completions`.
pub fn candidates(record: Record) -> Result<Candidates, Fault> {
    const WANTED: &str = "a prompt with candidates";
    match Kind::of(&record) {
        None | Some(Kind::Candidates) => {}
        Some(Kind::Ranking) if record.contains_key("completions") => {}
        Some(kind) => return Err(kind.instead_of(WANTED)),
    }
    let Prompt { messages, mut extra } = asked(record)?;
    let completions = completions_of(&mut extra)?;
    if completions.is_empty() {
        return Err(Fault::bad("no answers", "completions is an empty array"));
    }
    Ok(Candidates { messages, completions, extra })
}

/// A prompt with answers to be scored: [`candidates`], a ranking in any form, or a conversation that ends
/// with an answer.
pub fn scored(record: Record) -> Result<Candidates, Fault> {
    match Kind::of(&record) {
        Some(Kind::Candidates) => candidates(record),
        Some(Kind::Ranking) if record.contains_key("completions") => candidates(record),
        Some(Kind::Ranking) => {
            let Ranking { messages, completions, extra, .. } = ranking(record)?;
            Ok(Candidates { messages, completions, extra })
        }
        Some(Kind::Kto) => {
            let mut record = record;
            record.shift_remove("label");
            answered(record)
        }
        _ => answered(record),
    }
}

/// A [`demonstration`] as a prompt with its one answer.
pub fn answered(record: Record) -> Result<Candidates, Fault> {
    let Demonstration { mut messages, tools } = demonstration(record)?;
    let answer = messages.pop().map(answer_of).transpose()?;
    let extra = tools.map(|tools| ("tools".to_owned(), tools)).into_iter().collect();
    Ok(Candidates { messages, completions: answer.into_iter().collect(), extra })
}

/// An answer that is called good or bad: a [`demonstration`] in any form with a `label` beside it, true or false.
pub fn judged(mut record: Record) -> Result<Judged, Fault> {
    const WANTED: &str = "a KTO row";
    match Kind::of(&record) {
        None | Some(Kind::Kto) => {}
        Some(Kind::Demonstration) if record.contains_key("label") => {}
        Some(kind) => return Err(kind.instead_of(WANTED)),
    }
    let Some(label) = goodness(&record) else {
        let detail = match record.get("label") {
            Some(label) => format!("label is {label}: it says whether the answer is good, true or false"),
            None => "label: whether the answer is good, true or false".into(),
        };
        return Err(Fault::bad("no label", detail));
    };
    record.shift_remove("label");
    let Demonstration { mut messages, tools } = demonstration(record)?;
    let completion = messages.pop().map(answer_of).transpose()?.unwrap_or_default();
    Ok(Judged { messages, completion, label, tools })
}

/// Ranked answers: a prompt with `completions` and `ranks`; a prompt with `chosen` and `rejected`; or these
/// alone, as two conversations that differ in the last answer, lists of messages or texts of `Human:` and
/// `Assistant:`. A prompt that stands beside whole conversations repeats what they say, and does not matter.
///
/// A ranking without a pair is left out.
pub fn ranking(record: Record) -> Result<Ranking, Fault> {
    let mut record = opened(record)?;
    match Kind::of(&record) {
        None | Some(Kind::Ranking) => {}
        Some(kind) => return Err(kind.instead_of("a ranking")),
    }
    let ranking = match (take(&mut record, "chosen"), take(&mut record, "rejected")) {
        (Some(chosen), Some(rejected)) => pair(chosen, rejected, record)?,
        (None, None) => {
            let Candidates { messages, completions, mut extra } = candidates(record)?;
            let ranks = ranks_of(&mut extra, completions.len())?;
            Ranking { messages, completions, ranks, extra }
        }
        _ => return Err(Fault::bad("missing field", "of chosen and rejected there is only one")),
    };
    if let Some(value) = margin_of(&ranking.extra).filter(|value| margin(value).is_none()) {
        let detail = format!("margin is {value}: it is a number that is not negative");
        return Err(Fault::bad("wrong margin", detail));
    }
    if ranking.completions.len() == 1 {
        return Err(Fault::left_out("one answer, no pair", ""));
    }
    if ranking.pairs().is_empty() {
        let detail = format!("ranks {:?}", ranking.ranks);
        return Err(Fault::left_out("equal answers, no pair", detail));
    }
    Ok(ranking)
}

fn margin_of(extra: &Record) -> Option<&Value> {
    extra.get("margin").filter(|value| !value.is_null())
}

/// A number, which tables may have as a text.
fn margin(value: &Value) -> Option<f64> {
    let number = value.as_f64().or_else(|| value.as_str()?.trim().parse().ok());
    number.filter(|margin| margin.is_finite() && *margin >= 0.0)
}

/// Two answers, of which the first is better.
fn pair(chosen: Value, rejected: Value, mut record: Record) -> Result<Ranking, Fault> {
    let (messages, answers) = match conversations(&chosen, &rejected, &record)? {
        Some([chosen, rejected]) => {
            for name in ["prompt", "messages", "conversations"] {
                record.shift_remove(name);
            }
            let (Some((better, asked)), Some((worse, also_asked))) =
                (chosen.split_last(), rejected.split_last())
            else {
                return Err(Fault::bad("no messages", "chosen or rejected is empty"));
            };
            if asked != also_asked {
                let detail = "chosen and rejected differ before their last messages";
                return Err(Fault::bad("answers to different prompts", detail));
            }
            (with_system(asked.to_vec(), &mut record), [better, worse].map(|message| vec![message.clone()]))
        }
        None => {
            take_if_answered(&mut record);
            let answer = |name, value| turns(name, value, Some(Role::Assistant));
            (said(&mut record)?, [answer("chosen", chosen)?, answer("rejected", rejected)?])
        }
    };
    check_order(&messages, false)?;
    let mut completions = Vec::with_capacity(2);
    for (name, answer) in ["chosen", "rejected"].into_iter().zip(answers) {
        match <[Message; 1]>::try_from(answer) {
            Ok([answer]) if answer.role == Role::Assistant => completions.push(answer_of(answer)?),
            Ok([answer]) => {
                let detail = format!("{name} ends with {}", answer.role.name());
                return Err(Fault::bad("roles out of order", detail));
            }
            Err(_) => {
                let detail = format!("{name} is not one message of the assistant");
                return Err(Fault::bad("roles out of order", detail));
            }
        }
    }
    Ok(Ranking { messages, completions, ranks: vec![1, 2], extra: record })
}

/// Both answers as whole conversations, if that is what they are.
fn conversations(
    chosen: &Value,
    rejected: &Value,
    record: &Record,
) -> Result<Option<[Vec<Message>; 2]>, Fault> {
    let is_asked = Kind::of(record).is_some();
    // A dialogue that was asked for is no conversation: that one repeats the prompt.
    if let (Value::String(chosen), Some(Value::String(prompt))) = (chosen, record.get("prompt"))
        && !chosen.contains(prompt.trim())
    {
        return Ok(None);
    }
    match (whole("chosen", chosen)?, whole("rejected", rejected)?) {
        (Some(chosen), Some(rejected)) => Ok(Some([chosen, rejected])),
        (None, None) if !is_asked => {
            let detail = "there is no prompt, and chosen is no conversation: neither messages from the user's on, nor `Human: …`";
            Err(Fault::bad("missing field", detail))
        }
        (None, None) => Ok(None),
        (Some(_), None) | (None, Some(_)) if is_asked && chosen.is_string() && rejected.is_string() => {
            Ok(None)
        }
        _ => Err(Fault::bad(
            "answers to different prompts",
            "of chosen and rejected only one is a whole conversation",
        )),
    }
}

/// The text of an answer. Calls of tools are no text.
fn answer_of(message: Message) -> Result<String, Fault> {
    match message.calls_tools() {
        true => Err(Fault::left_out(
            "an answer that calls a tool",
            "answers that are scored or compared are texts",
        )),
        false => Ok(message.content),
    }
}

/// A row with its fields by the names that are used here: OpenAI's for preferences are replaced, and tools
/// are a list.
fn opened(mut record: Record) -> Result<Record, Fault> {
    if let Some(Value::Object(input)) = record.get("input").cloned() {
        record.shift_remove("input");
        record.extend(input);
    }
    for (name, ours) in [("preferred_output", "chosen"), ("non_preferred_output", "rejected")] {
        if let Some(value) = take(&mut record, name) {
            record.insert(ours.to_owned(), value);
        }
    }
    if let Some(tools) = tools_of(&mut record)? {
        record.insert("tools".to_owned(), tools);
    }
    Ok(record)
}

/// Takes away a conversation that ends with an answer, and says whether there was one: UltraFeedback's rows
/// have it beside their prompt.
fn take_if_answered(record: &mut Record) -> bool {
    let named =
        ["messages", "conversations"].into_iter().find(|name| record.get(*name).is_some_and(Value::is_array));
    let Some(name) = named else { return false };
    let answered = kinds::last_role(name, &record[name]) == Some(Role::Assistant);
    if answered {
        record.shift_remove(name);
    }
    answered
}
