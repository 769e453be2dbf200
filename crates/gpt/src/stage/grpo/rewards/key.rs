//! Answers by the keys of their prompts: what they state, and which number they come to.

use super::number;
use crate::data::rows::Record;
use crate::lessons::{AnswerKey, judge, states};
use anyhow::{Result, bail, ensure};
use serde_json::Value;

/// What a key accepts: `answer`, and any of `accept` as well.
pub(super) fn phrases(fields: &Record) -> Result<Vec<String>> {
    let text = |name: &str, value: &Value| match value {
        Value::String(text) => Ok(Some(text.clone()).filter(|text| !text.trim().is_empty())),
        Value::Number(number) => Ok(Some(number.to_string())),
        Value::Null => Ok(None),
        odd => bail!(
            "its `{name}` has {}, which is neither a text nor a number; several right answers are a list in `accept`",
            odd.to_string().chars().take(40).collect::<String>()
        ),
    };
    let of = |name| fields.get(name).into_iter().map(move |value| (name, value));
    let accepted = of("accept").flat_map(|(name, value)| match value {
        Value::Array(list) => list.iter().map(|one| (name, one)).collect(),
        one => vec![(name, one)],
    });
    let found = of("answer").chain(accepted).map(|(name, value)| text(name, value));
    let found: Vec<String> = found.filter_map(Result::transpose).collect::<Result<_>>()?;
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
    let numbers: Vec<String> =
        found.iter().filter_map(|phrase| number::of_key(phrase)).map(str::to_owned).collect();
    ensure!(
        !numbers.is_empty(),
        "its `answer` or `accept` has no number: give prompts that have one, or another --reward"
    );
    Ok(numbers)
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
            (r#"{"answer":"Paris","accept":["the City of Light"]}"#, "It is Paris.", true),
            (r#"{"answer":"Paris","accept":["the City of Light"]}"#, "The city of light!", true),
            (r#"{"answer":"Paris","accept":[null]}"#, "Paris", true),
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
            (r#"{"answer":3,"accept":["4", "four"]}"#, "3", true),
            (r#"{"answer":0.00001}"#, "it is 0.00001", true),
            (r#"{"answer":0.00001}"#, "it is 5", false),
        ] {
            let fields = key(&fields.replace("\\#", "#"));
            assert_eq!(equals(&fields, answer), f64::from(is_right), "{fields:?} {answer}");
        }
        for none in ["{}", r#"{"answer":null}"#, r#"{"accept":[]}"#, r#"{"answer":" "}"#] {
            assert!(phrases(&key(none)).is_err(), "{none}");
        }
        for odd in
            [r#"{"answer":["5","five"]}"#, r#"{"answer":true}"#, r#"{"answer":"5","accept":["6",[7]]}"#]
        {
            let error = phrases(&key(odd)).unwrap_err().to_string();
            assert!(error.contains("neither a text nor a number"), "{odd}: {error}");
        }
        assert!(numbers(&key(r#"{"answer":"none"}"#)).is_err());
    }
}
