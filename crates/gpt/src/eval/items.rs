//! The items of a task as files hold them, one form for each kind of line.

use super::code::problem;
use super::task::{FORM, Item, Wanted};
use crate::corpus::{holds_rows, text_of};
use crate::data::rows::{Fault, LineReport, MAX_BAD, Record};
use crate::data::{Columns, Form, Label, TaskRow, answer_of};
use crate::progress::Progress;
use anyhow::{Result, bail};
use serde_json::Value;
use std::path::Path;

/// The fields that items are read from, by name.
pub const FIELDS: &[&str] = &[
    "context",
    "question",
    "answers",
    "label",
    "prompt",
    "answer",
    "input",
    "task",
    "output",
    "text",
    "task_id",
    "test",
    "entry_point",
    "canonical_solution",
];

/// The items of a file of rows or of a text, and what became of its lines; `last_word` takes the last word of
/// every text for the answer.
pub(super) fn read_items(
    file: &Path,
    last_word: bool,
    columns: &Columns,
    progress: &dyn Progress,
) -> Result<(Vec<Item>, Option<LineReport>)> {
    if holds_rows(file) {
        let lines = columns.read(file, MAX_BAD, progress, |record| item(&record, last_word))?;
        return Ok((lines.rows, Some(lines.report)));
    }
    let text = text_of(file, progress)?;
    if text.trim().is_empty() {
        bail!("{} has no text", file.display());
    }
    if !last_word {
        return Ok((vec![Item { asked: text, wanted: Wanted::Text }], None));
    }
    let paragraphs = text.split("\n\n").filter_map(|paragraph| word_at_end(paragraph.trim()));
    let items: Vec<Item> = paragraphs.collect();
    if items.is_empty() {
        bail!("{} has no paragraph of several words", file.display());
    }
    Ok((items, None))
}

/// One line of any form.
fn item(record: &Record, last_word: bool) -> Result<Item, Fault> {
    let has = |name: &str| record.get(name).is_some_and(|value| !value.is_null());
    if has("text") && !has("answers") {
        let whole = text(record, "text")?;
        if last_word {
            let found = word_at_end(whole.trim());
            return found.ok_or_else(|| Fault::left_out("one word", format!("{whole:.40}")));
        }
        return Ok(Item { asked: whole, wanted: Wanted::Text });
    }
    if has("input") && has("task") {
        return task(TaskRow::read(record)?);
    }
    if has("entry_point") {
        let mut problem = problem(record.clone())?;
        // Between words, tokens begin with their white space.
        problem.prompt.truncate(problem.prompt.trim_end().len());
        return Ok(Item { asked: problem.prompt.clone(), wanted: Wanted::Program(Box::new(problem)) });
    }
    if has("prompt") {
        let prompt = text(record, "prompt")?;
        return Ok(Item {
            asked: prompt.trim_end().to_owned(),
            wanted: Wanted::Free(right_answers(record)?),
        });
    }
    choice(record)
}

/// A field that is a text with something in it.
fn text(record: &Record, name: &str) -> Result<String, Fault> {
    match &record[name] {
        Value::String(text) if text.trim().is_empty() => {
            Err(Fault::bad("empty text", format!("{name} is empty")))
        }
        Value::String(text) => Ok(text.clone()),
        _ => Err(Fault::bad("wrong type", format!("{name} is not a string"))),
    }
}

/// GPT-2's forms: a task is words after the input, such as `TL;DR:`, or a form around it, such as `{input}
/// =`.
fn task(row: TaskRow) -> Result<Item, Fault> {
    if row.output.trim().is_empty() {
        return Err(Fault::bad("empty text", "output is empty"));
    }
    let (form, TaskRow { input, task, output }) = (row.task.contains("{input}"), &row);
    let asked = if form { task.replace("{input}", input) } else { format!("{input}\n{task}") };
    let wanted = if form { Wanted::Free(vec![output.clone()]) } else { Wanted::Task(row.clone()) };
    Ok(Item { asked: asked.trim_end().to_owned(), wanted })
}

/// The answers of `answer`, of `answers`, or of both: each a text or a number.
fn right_answers(record: &Record) -> Result<Vec<String>, Fault> {
    let mut answers = Vec::new();
    if let Some(answer) = record.get("answer").filter(|answer| !answer.is_null()) {
        answers.push(answer_of("answer", answer)?);
    }
    match record.get("answers") {
        None | Some(Value::Null) => {}
        Some(Value::Array(list)) => {
            for (number, answer) in list.iter().enumerate() {
                answers.push(answer_of(&format!("answers[{number}]"), answer)?);
            }
        }
        Some(_) => return Err(Fault::bad("wrong type", "answers is not an array; a single one is `answer`")),
    }
    if answers.is_empty() {
        return Err(Fault::bad("missing field", "there is a prompt, but neither answer nor answers"));
    }
    Ok(answers)
}

/// Answers to choose from.
fn choice(record: &Record) -> Result<Item, Fault> {
    let line = Form::MultipleChoice.read(record, true)?;
    let label = match line.label {
        Some(Label::Number(label)) => label as usize,
        _ => return Err(Fault::bad("wrong label", "label is not an index")),
    };
    let there = |name: &str| record.get(name).and_then(Value::as_str);
    let asked = match (there("context"), there("question")) {
        (context, Some(question)) => {
            let context = context.map(|context| format!("{context}\n")).unwrap_or_default();
            let [before, after] = FORM;
            format!("{context}{before}{question}{after}")
        }
        (Some(context), None) => context.trim_end().to_owned(),
        (None, None) => return Err(Fault::bad("missing field", "neither context nor question")),
    };
    Ok(Item { asked, wanted: Wanted::Choice { answers: line.texts[1..].to_vec(), label } })
}

/// A text and the word that ends it.
fn word_at_end(text: &str) -> Option<Item> {
    let (asked, word) = text.rsplit_once(char::is_whitespace)?;
    let asked = asked.trim_end();
    (!asked.is_empty()).then(|| Item { asked: asked.to_owned(), wanted: Wanted::LastWord(word.to_owned()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(json: &str, last_word: bool) -> Item {
        item(&serde_json::from_str(json).unwrap(), last_word).unwrap()
    }

    #[test]
    fn every_form_of_line_is_understood() {
        let choice = of(r#"{"context":"c","question":"q","answers":["x","y"],"label":1}"#, false);
        assert_eq!((choice.asked.as_str(), choice.right_answer()), ("c\nQuestion: q\nAnswer:", "y"));
        assert_eq!(of(r#"{"context":"c ","answers":["x","y"],"label":0}"#, false).asked, "c");
        let free = of(r#"{"prompt":"2 + 2 = ","answer":"4"}"#, false);
        assert_eq!((free.asked.as_str(), free.right_answer()), ("2 + 2 =", "4"));
        let summary = of(r#"{"input":"long","task":"TL;DR:","output":"short"}"#, false);
        assert_eq!((summary.asked.as_str(), summary.right_answer()), ("long\nTL;DR:", "short"));
        assert_eq!(of(r#"{"input":"house","task":"{input} =","output":"maison"}"#, false).asked, "house =");
        assert_eq!(of(r#"{"text":"a b"}"#, false).wanted, Wanted::Text);
        let program = of(
            r#"{"task_id":"t","prompt":"def f():\n","entry_point":"f","test":"","canonical_solution":" 1"}"#,
            false,
        );
        assert_eq!((program.asked.as_str(), program.right_answer()), ("def f():", " 1"));
        let last = of(r#"{"text":"the last word"}"#, true);
        assert_eq!((last.asked.as_str(), last.right_answer()), ("the last", "word"));
    }

    #[test]
    fn numbers_are_answers_and_nothing_is_dropped() {
        for (answers, expected) in [
            (r#""answer":4"#, &["4"][..]),
            (r#""answers":[4,"four"]"#, &["4", "four"]),
            (r#""answer":0.5,"answers":[-1,1e3]"#, &["0.5", "-1", "1000.0"]),
            (r#""answer":null,"answers":["x"]"#, &["x"]),
        ] {
            let read = of(&format!(r#"{{"prompt":"2 + 2 =",{answers}}}"#), false);
            assert_eq!(
                read.wanted,
                Wanted::Free(expected.iter().map(|&text| text.to_owned()).collect()),
                "{answers}"
            );
        }
        let choice = of(r#"{"question":"2 + 2?","answers":[3,4],"label":"1"}"#, false);
        assert_eq!(choice.right_answer(), "4");
        assert_eq!(of(r#"{"input":"2 + 2","task":"{input} =","output":4}"#, false).right_answer(), "4");
        for (json, kind) in [
            (r#"{"prompt":"x"}"#, "missing field"),
            (r#"{"prompt":"x","answer":null}"#, "missing field"),
            (r#"{"prompt":"x","answers":[]}"#, "missing field"),
            (r#"{"prompt":"x","answer":""}"#, "empty text"),
            (r#"{"prompt":"x","answer":" "}"#, "empty text"),
            (r#"{"prompt":"x","answers":["a",""]}"#, "empty text"),
            (r#"{"prompt":"x","answers":["a",null]}"#, "wrong type"),
            (r#"{"prompt":"x","answers":"a"}"#, "wrong type"),
            (r#"{"prompt":"x","answer":true}"#, "wrong type"),
            (r#"{"prompt":"x","answer":["a"]}"#, "wrong type"),
            (r#"{"prompt":5,"answer":"a"}"#, "wrong type"),
            (r#"{"prompt":" ","answer":"a"}"#, "empty text"),
            (r#"{"text":""}"#, "empty text"),
            (r#"{"text":5}"#, "wrong type"),
            (r#"{"input":"x","task":"y","output":" "}"#, "empty text"),
            (r#"{"question":"x","answers":["a","b"],"label":-1}"#, "no gold label"),
        ] {
            assert_eq!(item(&serde_json::from_str(json).unwrap(), false).unwrap_err().kind, kind, "{json}");
        }
    }
}
