//! Lessons as files: a corpus, demonstrations, prompts. What is asked for appears whole or not at all.

use std::collections::HashSet;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use serde_json::{Value, json};

use ::text::output::{OutDir, completed, write_rows};

use super::{
    Split, calculator_demonstration, calculator_prompt, demonstration, held_out_task_row, plain_text, prompt,
    task_row, text,
};

/// The record of a directory of lessons.
const RECORD: &str = "lessons.json";

/// How much there is of everything in a directory of lessons.
#[derive(Clone, Debug, Serialize)]
pub struct Amounts {
    /// Decides all that is random.
    pub seed: u64,
    /// Bytes of running text.
    pub text_bytes: u64,
    /// Demonstrations.
    pub demonstrations: usize,
    /// Prompts for training, and as many labelled texts.
    pub prompts: usize,
    /// Prompts that occur in none of the others.
    pub held_out: usize,
    /// Rows of tasks.
    pub task_rows: usize,
    /// Demonstrations with a calculator.
    pub calculator: usize,
}

/// Makes the directory `out` of all lessons, as the verb `lessons` has them, and tells how many documents of
/// text there are and whether they were there already. `calculator_tools` is what models are told of the calculator.
///
/// # Errors
/// The directory holds something else, or lessons of other amounts; a file cannot be written; there are not
/// so many lessons.
pub fn write_lessons(out: &Path, amounts: &Amounts, calculator_tools: &Value) -> Result<(u64, bool)> {
    let options = serde_json::to_value(amounts)?;
    if let Some(found) = completed(out, RECORD, &options)? {
        return Ok((found["documents"].as_u64().unwrap_or(0), true));
    }
    let &Amounts { seed, text_bytes, demonstrations, prompts, held_out, task_rows, calculator } = amounts;
    let dir = OutDir::open(out, RECORD, &[])?;
    let work = dir.work();
    let documents = write_text(&work.join("text.jsonl"), seed, text_bytes)?;
    write_demonstrations(&work.join("demonstrations.jsonl"), seed, demonstrations)?;
    write_prompts(&work.join("prompts.jsonl"), seed, Split::Train, prompts)?;
    write_prompts(&work.join("held-out.jsonl"), seed, Split::HeldOut, held_out)?;
    write_labelled(&work.join("labelled.jsonl"), seed, Split::Train, prompts)?;
    write_task_rows(&work.join("tasks.jsonl"), seed, Split::Train, task_rows)?;
    write_calculator(&work.join("calculator.jsonl"), seed, calculator, calculator_tools)?;
    write_calculator_prompts(&work.join("calculator-held-out.jsonl"), seed, held_out, calculator_tools)?;
    let files = [
        "text",
        "demonstrations",
        "prompts",
        "held-out",
        "labelled",
        "tasks",
        "calculator",
        "calculator-held-out",
    ];
    let files = files.map(|name| format!("{name}.jsonl"));
    let record = json!({ "options": options, "documents": documents });
    dir.commit(&work, files.iter().map(String::as_str), &record)?;
    Ok((documents, false))
}

/// Writes documents of at least `bytes` bytes of text, one `{"text"}` a line: an input of `mynah corpus`.
/// Returns how many.
///
/// # Errors
/// The file cannot be written.
pub fn write_text(path: &Path, seed: u64, bytes: u64) -> Result<u64> {
    write_documents(path, bytes, |index| text(seed, index))
}

/// The same of [`plain_text`], to learn beside rows of tasks.
///
/// # Errors
/// The file cannot be written.
pub fn write_plain_text(path: &Path, seed: u64, bytes: u64) -> Result<u64> {
    write_documents(path, bytes, |index| plain_text(seed, index))
}

fn write_documents(path: &Path, bytes: u64, document: impl Fn(u64) -> String) -> Result<u64> {
    let mut left = bytes;
    let texts = (0..).map(document).take_while(move |text| {
        let more = left > 0;
        left = left.saturating_sub(text.len() as u64);
        more
    });
    write_rows(path, texts.map(|text| json!({ "text": text })))
}

/// Writes `n` rows of tasks, one `{"input","task","output"}` a line: an input of `mynah tokenize --tasks`.
/// Those that are held out differ from each other.
///
/// # Errors
/// The file cannot be written; there are not that many.
pub fn write_task_rows(path: &Path, seed: u64, split: Split, n: usize) -> Result<u64> {
    match split {
        Split::Train => write_rows(path, (0..n as u64).map(|index| task_row(seed, index))),
        Split::HeldOut => write_rows(path, different((0..).map(|index| held_out_task_row(seed, index)), n)?),
    }
}

/// Writes `n` different demonstrations, one `{"messages"}` a line.
///
/// # Errors
/// The file cannot be written; there are not that many.
pub fn write_demonstrations(path: &Path, seed: u64, n: usize) -> Result<u64> {
    let all = (0..).map(|index| json!({ "messages": demonstration(seed, index).messages }));
    write_rows(path, different(all, n)?)
}

/// Writes `n` different demonstrations with a calculator, one `{"messages","tools"}` a line.
///
/// # Errors
/// The file cannot be written; there are not that many.
pub fn write_calculator(path: &Path, seed: u64, n: usize, tools: &Value) -> Result<u64> {
    let all = (0..).map(|index| json!({ "messages": calculator_demonstration(seed, index), "tools": tools }));
    write_rows(path, different(all, n)?)
}

/// Writes `n` different prompts for a calculator, whose sums are in no demonstration.
///
/// # Errors
/// The file cannot be written; there are not that many.
pub fn write_calculator_prompts(path: &Path, seed: u64, n: usize, tools: &Value) -> Result<u64> {
    write_rows(path, different((0..).map(|index| calculator_prompt(seed, index, tools)), n)?)
}

/// Writes `n` different prompts of one split, one `{"messages"}` a line with the answer key in further
/// fields.
///
/// # Errors
/// The file cannot be written; there are not that many.
pub fn write_prompts(path: &Path, seed: u64, split: Split, n: usize) -> Result<u64> {
    write_rows(path, different((0..).map(|index| prompt(seed, split, index)), n)?)
}

/// Writes what is asked in `n` different prompts of one split, and which kind of task it is:
/// `{"text","label"}` a line, for a classifier.
///
/// # Errors
/// The file cannot be written; there are not that many.
pub fn write_labelled(path: &Path, seed: u64, split: Split, n: usize) -> Result<u64> {
    let line = |index| {
        let prompt = prompt(seed, split, index);
        let asked = prompt.messages.last().map(|message| message.content.clone());
        json!({ "text": asked, "label": prompt.extra["task"] })
    };
    write_rows(path, different((0..).map(line), n)?)
}

/// The first `n` that differ in their JSON.
pub(super) fn different<T: Serialize>(all: impl Iterator<Item = T>, n: usize) -> Result<Vec<T>> {
    let mut seen = HashSet::new();
    let mut kept = Vec::with_capacity(n);
    // Ten times as many draws as are needed: a kind of data that repeats itself more is too small for the
    // wish.
    for item in all.take(10 * n) {
        if kept.len() == n {
            break;
        }
        if seen.insert(serde_json::to_string(&item).context("a lesson is JSON")?) {
            kept.push(item);
        }
    }
    ensure!(kept.len() == n, "the lessons have only {} different items of {n}: ask for fewer", kept.len());
    Ok(kept)
}
