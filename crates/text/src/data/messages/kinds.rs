//! Which kind of row a line is, so that one of the wrong kind is called by its name, with what it is for.

use serde_json::Value;

use super::super::rows::{Fault, Record};
use super::Role;
use super::turns::turns;

/// What a row is by the fields that it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A prompt with an answer to learn.
    Demonstration,
    /// A prompt alone.
    Prompt,
    /// A prompt with several answers.
    Candidates,
    /// A prompt with answers of which some are better.
    Ranking,
    /// A prompt with an answer that is good or bad (Ethayarajh et al. 2024).
    Kto,
    /// A text with a label.
    Labelled,
    /// A text.
    Text,
}

impl Kind {
    /// The kind of a row, if it has the fields of one.
    pub(super) fn of(record: &Record) -> Option<Kind> {
        let has = |name: &str| record.get(name).is_some_and(|value| !value.is_null());
        let kind = if has("chosen") || has("rejected") || has("preferred_output") {
            Kind::Ranking
        } else if has("completions") {
            if has("ranks") { Kind::Ranking } else { Kind::Candidates }
        } else if has("completion") {
            if goodness(record).is_some() { Kind::Kto } else { Kind::Demonstration }
        } else if let Some(list) = ["messages", "conversations"].into_iter().find(|name| has(name)) {
            match last_role(list, &record[list])? {
                Role::Assistant => Kind::Demonstration,
                Role::User | Role::Tool => Kind::Prompt,
                Role::System => return None,
            }
        } else if has("instruction") {
            if has("output") { Kind::Demonstration } else { Kind::Prompt }
        } else if has("prompt") {
            Kind::Prompt
        } else if has("label") {
            Kind::Labelled
        } else if has("text") {
            Kind::Text
        } else {
            return None;
        };
        Some(kind)
    }

    /// The fault of a row of this kind where another one is wanted.
    pub(super) fn instead_of(self, wanted: &str) -> Fault {
        let (what, hint) = match self {
            Kind::Demonstration => ("a demonstration", "it has one answer, to be learned by `mynah sft`"),
            Kind::Prompt => (
                "a prompt",
                "it has no answer; `mynah candidates` samples some, `mynah ppo` and `mynah grpo` learn from it",
            ),
            Kind::Candidates => ("candidates", "its answers have no ranks; `mynah rank` gives them some"),
            Kind::Ranking => {
                ("a ranking", "it says which answer is better; `mynah reward` and `mynah dpo` learn from it")
            }
            Kind::Kto => (
                "a KTO row",
                "it has one answer, which its label calls good or bad, and no other to compare with; `mynah kto` learns \
                 from it, `mynah sft` from those with label true",
            ),
            Kind::Labelled => ("a labelled text", "`mynah finetune` learns from it"),
            Kind::Text => ("a text", "`mynah corpus` takes it, for `mynah pretrain`"),
        };
        Fault::bad(format!("{what}, not {wanted}"), hint)
    }
}

/// Whose the last of a list of messages is; none where it is no message.
pub(super) fn last_role(name: &str, list: &Value) -> Option<Role> {
    let last = list.as_array()?.last()?.clone();
    Some(turns(name, Value::Array(vec![last]), None).ok()?[0].role)
}

/// What KTO's `label` says of an answer: true or false, as JSON or as tables write it.
pub(super) fn goodness(record: &Record) -> Option<bool> {
    match record.get("label")? {
        Value::Bool(good) => Some(*good),
        Value::String(text) if text.eq_ignore_ascii_case("true") => Some(true),
        Value::String(text) if text.eq_ignore_ascii_case("false") => Some(false),
        Value::Number(number) if number.as_f64() == Some(1.0) => Some(true),
        Value::Number(number) if number.as_f64() == Some(0.0) => Some(false),
        _ => None,
    }
}
