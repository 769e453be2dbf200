//! What a model is examined in: tasks, and their items in the forms that files and generators give.

use super::next_line::{NextLine, next_lines};
use super::synthetic::{self, Kind};
use crate::corpus::{Documents, Split, text_of};
use crate::data::jsonl::{Fault, LineReport, Record, read_jsonl};
use crate::data::{Form, Label};
use crate::progress::Progress;
use anyhow::{Context, Result, bail, ensure};
use kernels::rng;
use serde_json::Value;
use std::path::Path;

/// What is asked, and what is right.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// What stands before the answer, without white space at its end.
    pub asked: String,
    /// What is right.
    pub wanted: Wanted,
}

/// What is right, and thereby how an item is examined.
#[derive(Clone, Debug, PartialEq)]
pub enum Wanted {
    /// One of several answers, which are compared by likelihood.
    Choice {
        /// All answers.
        answers: Vec<String>,
        /// Which one is right.
        label: usize,
    },
    /// A text that the model writes to the end of its line; any of these is right.
    Free(Vec<String>),
    /// The word that ends the text: right when no other token is likelier, all along.
    LastWord(String),
    /// The line of a program that comes next, with its indentation.
    NextLine(String),
    /// Nothing: how likely the text itself is.
    Text,
}

/// What the form of a question adds to it.
const FORM: [&str; 2] = ["Question: ", "\nAnswer:"];

impl Item {
    /// What is asked, without the words that the form of a question adds.
    pub(super) fn without_form(&self) -> String {
        let [question, answer] = FORM;
        match self.asked.strip_suffix(answer) {
            Some(asked) => asked.replace(question, ""),
            None => self.asked.clone(),
        }
    }

    /// The answer that an example of this item shows.
    pub fn right_answer(&self) -> &str {
        match &self.wanted {
            Wanted::Choice { answers, label } => &answers[*label],
            Wanted::Free(answers) => &answers[0],
            Wanted::LastWord(word) => word,
            Wanted::NextLine(line) => line,
            Wanted::Text => "",
        }
    }
}

/// Items, and those that examples are drawn from.
#[derive(Clone, Debug)]
pub struct Task {
    /// By which it is asked for and reported.
    pub name: String,
    /// What is measured.
    pub items: Vec<Item>,
    /// Where examples come from; none for the other items of the task.
    pub examples: Option<Vec<Item>>,
    /// What became of the lines of its file.
    pub lines: Option<LineReport>,
}

/// Items of a generated task, unless somebody wants fewer.
const GENERATED: usize = 500;
/// Items that examples of a generated task are drawn from; fewer than it has words for them, so that none is there twice.
const EXAMPLES: usize = 250;

/// The generated tasks, by name and what they are about.
pub fn generated() -> impl Iterator<Item = (&'static str, &'static str)> {
    Kind::ALL.into_iter().map(|kind| (kind.name(), kind.about()))
}

impl Task {
    /// The task of this name: a generated one; a file of JSON lines; a text file; `last-word:FILE`; or `next-line:FILE`, where the file can be a
    /// corpus, of which held-out documents are taken. At most `limit` items, drawn
    /// by `seed`.
    ///
    /// # Errors
    /// There is no such task; the file cannot be used.
    pub fn open(name: &str, limit: Option<usize>, seed: u64, progress: &dyn Progress) -> Result<Self> {
        if let Some(kind) = Kind::ALL.into_iter().find(|kind| kind.name() == name) {
            let n = limit.unwrap_or(GENERATED);
            let items =
                |split, n: usize| (0..n as u64).map(|i| synthetic::item(kind, split, seed, i)).collect();
            let examples = Some(items(Split::Train, EXAMPLES));
            return Ok(Task { name: name.to_owned(), items: items(Split::Val, n), examples, lines: None });
        }
        if let Some(file) = name.strip_prefix("next-line:") {
            return Self::next_line(Path::new(file), limit.unwrap_or(GENERATED), seed, progress);
        }
        let (file, last_word) = match name.strip_prefix("last-word:") {
            Some(file) => (Path::new(file), true),
            None => (Path::new(name), false),
        };
        ensure!(
            file.exists(),
            "there is no task {name:?}, and no such file: `mynah eval --list` names the tasks"
        );
        let shown = || format!("cannot use {}", file.display());
        let stem = file.file_name().map_or(name.into(), |name| name.to_string_lossy());
        let stem = stem.split('.').next().unwrap_or(name).to_owned();
        let (items, lines) = read_items(file, last_word, progress).with_context(shown)?;
        let beside = ["jsonl", "jsonl.gz"].map(|end| file.with_file_name(format!("{stem}.train.{end}")));
        let beside = beside.iter().find(|beside| beside.exists());
        let examples = beside.map(|beside| read_items(beside, last_word, progress)).transpose()?;
        let examples = examples.map(|(items, _)| items);
        let items = sample(items, limit, seed);
        Ok(Task { name: if last_word { format!("{stem}-last-word") } else { stem }, items, examples, lines })
    }

    /// `count` lines of held-out programs that are to be written.
    fn next_line(file: &Path, count: usize, seed: u64, progress: &dyn Progress) -> Result<Self> {
        let (lines, report) = if file.is_dir() {
            let documents = Documents::open(file, Split::Val)?.map(|document| Ok(document?.text));
            (next_lines(documents, count, seed)?, None)
        } else {
            let shown = || format!("cannot use {}", file.display());
            let (texts, report) = read_items(file, false, progress).with_context(shown)?;
            (next_lines(texts.into_iter().map(|text| Ok(text.asked)), count, seed)?, report)
        };
        ensure!(!lines.is_empty(), "{} has no text of more than five lines", file.display());
        let item = |line: NextLine| Item { asked: line.context, wanted: Wanted::NextLine(line.truth) };
        let stem = file.file_name().map_or("texts".into(), |name| name.to_string_lossy());
        let name = format!("{}-next-line", stem.split('.').next().unwrap_or("texts"));
        Ok(Task { name, items: lines.into_iter().map(item).collect(), examples: None, lines: report })
    }

    /// The share of right answers by chance, of choices.
    pub fn chance(&self) -> Option<f64> {
        let one = |item: &Item| match &item.wanted {
            Wanted::Choice { answers, .. } => Some(1.0 / answers.len() as f64),
            _ => None,
        };
        let all: Option<Vec<f64>> = self.items.iter().map(one).collect();
        all.map(|all| all.iter().sum::<f64>() / all.len() as f64)
    }

    /// The share of right answers of who always gives the most frequent index, of choices.
    pub fn majority(&self) -> Option<f64> {
        let label = |item: &Item| match item.wanted {
            Wanted::Choice { label, .. } => Some(label),
            _ => None,
        };
        let labels: Vec<usize> = self.items.iter().map(label).collect::<Option<_>>()?;
        let count = |label: usize| labels.iter().filter(|&&other| other == label).count();
        labels.iter().map(|&label| count(label)).max().map(|most| most as f64 / labels.len() as f64)
    }

    /// The `shots` examples of item `index`, drawn by `seed`; never the item itself.
    pub fn shots(&self, index: usize, shots: usize, seed: u64) -> Vec<&Item> {
        const DRAWS: u64 = 0x5348_4f54 << 32;
        let pool = self.examples.as_ref().unwrap_or(&self.items);
        let pool: Vec<&Item> = pool.iter().filter(|item| item.asked != self.items[index].asked).collect();
        let mut left: Vec<usize> = (0..pool.len()).collect();
        let draws = 0..shots.min(pool.len());
        draws
            .map(|draw| {
                let at = rng::below(seed, DRAWS + index as u64, draw as u64, left.len() as u64);
                pool[left.swap_remove(at as usize)]
            })
            .collect()
    }
}

/// `limit` of the items in their order.
fn sample(items: Vec<Item>, limit: Option<usize>, seed: u64) -> Vec<Item> {
    const DRAWS: u64 = 0x4c49_4d49;
    let Some(limit) = limit.filter(|&limit| limit < items.len()) else { return items };
    let mut order: Vec<usize> = (0..items.len()).collect();
    order.sort_by_key(|&i| rng::bits(seed, DRAWS, i as u64));
    let mut kept = order[..limit].to_vec();
    kept.sort_unstable();
    kept.into_iter().map(|i| items[i].clone()).collect()
}

fn read_items(
    file: &Path,
    last_word: bool,
    progress: &dyn Progress,
) -> Result<(Vec<Item>, Option<LineReport>)> {
    let name = file.to_string_lossy();
    if name.contains(".json") {
        let lines =
            read_jsonl(file, crate::data::jsonl::MAX_BAD, progress, |record| item(&record, last_word))?;
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
    if let (Some(input), Some(task), Some(output)) = (text("input"), text("task"), text("output")) {
        // GPT-2's forms: a task is words after the input, such as `TL;DR:`, or a form around it, such as `{input} =`.
        let asked = match task.contains("{input}") {
            true => task.replace("{input}", &input),
            false => format!("{input}\n{task}"),
        };
        return Ok(Item { asked: asked.trim_end().to_owned(), wanted: Wanted::Free(vec![output]) });
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
        assert_eq!(summary.asked, "long\nTL;DR:");
        assert_eq!(of(r#"{"input":"house","task":"{input} =","output":"maison"}"#, false).asked, "house =");
        assert_eq!(of(r#"{"text":"a b"}"#, false).wanted, Wanted::Text);
        let last = of(r#"{"text":"the last word"}"#, true);
        assert_eq!((last.asked.as_str(), last.right_answer()), ("the last", "word"));
        assert!(item(&serde_json::from_str(r#"{"prompt":"x"}"#).unwrap(), false).is_err());
    }

    #[test]
    fn examples_are_never_the_item_itself_nor_twice_the_same() {
        let item = |i: usize| Item { asked: i.to_string(), wanted: Wanted::Free(vec![i.to_string()]) };
        let task = Task { name: "x".into(), items: (0..6).map(item).collect(), examples: None, lines: None };
        for index in 0..6 {
            let mut shots: Vec<&str> =
                task.shots(index, 9, 1).into_iter().map(|item| item.asked.as_str()).collect();
            assert_eq!(shots.len(), 5, "all the others");
            shots.sort_unstable();
            shots.dedup();
            assert_eq!(shots.len(), 5);
            assert!(!shots.contains(&index.to_string().as_str()));
        }
        assert_ne!(task.shots(0, 3, 1), task.shots(0, 3, 2), "the seed decides");
        assert_eq!(sample(task.items.clone(), Some(2), 1).len(), 2);
    }
}
