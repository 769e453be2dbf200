//! Answers by the keys of their prompts: what they state, and which number they come to.

use super::number;
use crate::data::rows::Record;
use crate::lessons::{AnswerKey, judge, states};
use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// What a key accepts: any of `accept`, or `answer`.
pub(super) fn phrases(fields: &Record) -> Result<Vec<String>> {
    let text = |value: &Value| match value {
        Value::String(text) if !text.trim().is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    let accepted = match fields.get("accept") {
        Some(Value::Array(list)) => list.iter().filter_map(text).collect(),
        Some(one) => text(one).into_iter().collect(),
        None => Vec::new(),
    };
    let found = if accepted.is_empty() {
        fields.get("answer").and_then(text).into_iter().collect()
    } else {
        accepted
    };
    ensure!(!found.is_empty(), "it has neither `answer` nor `accept` with a text or a number");
    Ok(found)
}

/// Whether an answer states what its key accepts. A key of the lessons is judged as theirs are.
pub(super) fn stated(fields: &Record, answer: &str) -> f64 {
    if let Ok(key) = AnswerKey::of(fields) {
        return f64::from(judge(&key, answer).correct);
    }
    let states =
        |phrase: &String| match number::final_answer(phrase).filter(|number| *number == phrase.trim()) {
            Some(number) => number::final_answer(answer).is_some_and(|said| number::same(said, number)),
            None => states(answer, phrase),
        };
    f64::from(phrases(fields).is_ok_and(|phrases| phrases.iter().any(states)))
}

/// The numbers that a key accepts.
pub(super) fn numbers(fields: &Record) -> Result<Vec<String>> {
    let found = phrases(fields)?;
    let number = |phrase: &String| number::of_key(phrase).map(str::to_owned);
    let found: Option<Vec<String>> = found.iter().map(number).collect();
    found.context("its `answer` or `accept` has no number: give prompts that have one, or another --reward")
}

pub(super) fn equals(fields: &Record, answer: &str) -> f64 {
    let said = number::final_answer(answer);
    let right = |said: &str| numbers(fields).is_ok_and(|keys| keys.iter().any(|key| number::same(said, key)));
    f64::from(said.is_some_and(right))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Record {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn keys_say_what_answers_state() {
        for (fields, answer, is_right) in [
            (r#"{"answer":"Paris"}"#, "It is paris.", true),
            (r#"{"answer":"Paris"}"#, "It is Parisian.", false),
            (r#"{"answer":4}"#, "2 + 2 = 4", true),
            (r#"{"answer":4}"#, "4 + 2 = 6", false),
            (r#"{"answer":"-4"}"#, "so x = -4.", true),
            (r#"{"answer":"-4"}"#, "so x = 4.", false),
            (r#"{"answer":"The word is yellow.","accept":["yellow","gold"]}"#, "gold", true),
            (r#"{"answer":"Paris"}"#, "", false),
            (
                r#"{"task":"comparing","language":"en","answer":"9","accept":["9"],"reject":["5"]}"#,
                "5 or 9",
                false,
            ),
        ] {
            assert_eq!(stated(&key(fields), answer), f64::from(is_right), "{fields} {answer}");
        }
    }

    #[test]
    fn numbers_are_equal_by_value() {
        for (fields, answer, is_right) in [
            (r#"{"answer":"so\n\#\#\#\# 1,200"}"#, "\\boxed{1200}", true),
            (r#"{"answer":"\\frac{1}{2}"}"#, "it is $0.5$", true),
            (r#"{"answer":0.5}"#, "half", false),
            (r#"{"accept":["3","4"]}"#, "4", true),
        ] {
            let fields = key(&fields.replace("\\#", "#"));
            assert_eq!(equals(&fields, answer), f64::from(is_right), "{fields:?} {answer}");
        }
        for none in ["{}", r#"{"answer":null}"#, r#"{"accept":[]}"#, r#"{"answer":" "}"#] {
            assert!(phrases(&key(none)).is_err(), "{none}");
        }
        assert!(numbers(&key(r#"{"answer":"none"}"#)).is_err());
    }
}
