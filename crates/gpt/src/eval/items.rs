//! The items of a task as files hold them, one form for each kind of line.

use super::code::problem;
use super::task::{FORM, Item, Wanted};
use crate::corpus::{holds_rows, text_of};
use crate::data::rows::{Fault, LineReport, MAX_BAD, Record, read_rows};
use crate::data::{Form, Label, TaskRow};
use crate::progress::Progress;
use anyhow::{Result, bail};
use serde_json::Value;
use std::path::Path;

/// The items of a file of rows or of a text, and what became of its lines; `last_word` takes the last word of every text for
/// the answer.
pub(super) fn read_items(
    file: &Path,
    last_word: bool,
    progress: &dyn Progress,
) -> Result<(Vec<Item>, Option<LineReport>)> {
    if holds_rows(file) {
        let lines = read_rows(file, MAX_BAD, progress, |record| item(&record, last_word))?;
        return Ok((lines.rows, Some(lines.report)));
    }
    let text = text_of(file, progress)?;
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
    let text = |name: &str| record.get(name).and_then(Value::as_str).map(str::to_owned);
    if let (Some(whole), None) = (text("text"), record.get("answers")) {
        if last_word {
            let found = word_at_end(whole.trim());
            return found.ok_or_else(|| Fault::left_out("one word", format!("{whole:.40}")));
        }
        return Ok(Item { asked: whole, wanted: Wanted::Text });
    }
    if record.contains_key("input") && record.contains_key("task") {
        let row = TaskRow::read(record)?;
        // GPT-2's forms: a task is words after the input, such as `TL;DR:`, or a form around it, such as `{input} =`.
        let (form, TaskRow { input, task, output }) = (row.task.contains("{input}"), &row);
        let asked = if form { task.replace("{input}", input) } else { format!("{input}\n{task}") };
        let wanted = if form { Wanted::Free(vec![output.clone()]) } else { Wanted::Task(row.clone()) };
        return Ok(Item { asked: asked.trim_end().to_owned(), wanted });
    }
    if record.contains_key("entry_point") {
        let mut problem = problem(record.clone())?;
        // Between words, tokens begin with their white space.
        problem.prompt.truncate(problem.prompt.trim_end().len());
        return Ok(Item { asked: problem.prompt.clone(), wanted: Wanted::Program(Box::new(problem)) });
    }
    if let Some(prompt) = text("prompt") {
        let answers: Vec<String> = match (text("answer"), record.get("answers")) {
            (Some(answer), _) => vec![answer],
            (None, Some(Value::Array(list))) => {
                list.iter().filter_map(|answer| answer.as_str().map(str::to_owned)).collect()
            }
            _ => Vec::new(),
        };
        if answers.is_empty() {
            return Err(Fault::bad("missing field", "there is a prompt, but neither answer nor answers"));
        }
        return Ok(Item { asked: prompt.trim_end().to_owned(), wanted: Wanted::Free(answers) });
    }
    let line = Form::MultipleChoice.read(record, true)?;
    let label = match line.label {
        Some(Label::Number(label)) => label as usize,
        _ => return Err(Fault::bad("wrong label", "label is not an index")),
    };
    let asked = match (text("context"), text("question")) {
        (context, Some(question)) => {
            let context = context.map(|context| context + "\n").unwrap_or_default();
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
        assert!(item(&serde_json::from_str(r#"{"prompt":"x"}"#).unwrap(), false).is_err());
    }
}
