//! What a model is evaluated on: tasks, and their items in the forms that files and generators give.

use super::code::Problem;
use super::items::read_items;
use super::next_line::{NextLine, next_lines};
use super::synthetic::{self, Kind};
use crate::corpus::{Documents, Split};
use crate::data::rows::LineReport;
use crate::data::{Columns, TaskRow};
use crate::nearest::did_you_mean;
use crate::progress::Progress;
use crate::streams;
use crate::tokenizer::Tokenizer;
use anyhow::{Context, Result, ensure};
use kernels::rng;
use std::path::{Path, PathBuf};

/// What is asked, and what is right.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// What stands before the answer, without white space at its end.
    pub asked: String,
    /// What is right.
    pub wanted: Wanted,
}

/// What is right, and thereby how an item is scored.
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
    /// What is asked of a text with special tokens, if the model has them (Radford et al. 2019); else a free
    /// answer.
    Task(TaskRow),
    /// The word that ends the text: right when no other token is likelier, all along.
    LastWord(String),
    /// The line of a program that comes next, with its indentation.
    NextLine(String),
    /// A function that passes the problem's tests.
    Program(Box<Problem>),
    /// Nothing: how likely the text itself is.
    Text,
}

/// What the form of a question adds to it.
pub(super) const FORM: [&str; 2] = ["Question: ", "\nAnswer:"];

impl Item {
    /// What is asked, without the words that the form of a question adds.
    pub(super) fn without_form(&self) -> String {
        let [question, answer] = FORM;
        match self.asked.strip_suffix(answer) {
            Some(asked) => asked.replace(question, ""),
            None => self.asked.clone(),
        }
    }

    /// Whether the model writes an answer to it, by this tokenizer in plain text.
    pub(super) fn is_written(&self, tokenizer: &Tokenizer) -> bool {
        match &self.wanted {
            Wanted::Free(_) => true,
            Wanted::Task(row) => !tokenizer.names_special(&row.task),
            _ => false,
        }
    }

    /// The answer that an example of this item shows.
    pub fn right_answer(&self) -> &str {
        match &self.wanted {
            Wanted::Choice { answers, label } => &answers[*label],
            Wanted::Free(answers) => &answers[0],
            Wanted::Task(row) => &row.output,
            Wanted::LastWord(word) => word,
            Wanted::NextLine(line) => line,
            Wanted::Program(problem) => problem.canonical_solution.as_deref().unwrap_or_default(),
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
/// Items that examples of a generated task are drawn from; fewer than it has words for them, so that none is
/// there twice.
const EXAMPLES: usize = 250;

/// The generated tasks, by name and what they are about.
pub fn generated() -> impl Iterator<Item = (&'static str, &'static str)> {
    Kind::ALL.into_iter().map(|kind| (kind.name(), kind.about()))
}

impl Task {
    /// The files that the task of this name may read.
    pub fn files(name: &str) -> Vec<PathBuf> {
        let file = ["last-word:", "next-line:"].into_iter().find_map(|prefix| name.strip_prefix(prefix));
        let file = Path::new(file.unwrap_or(name));
        [file.to_owned()].into_iter().chain(examples_beside(file)).collect()
    }

    /// The task of this name: a generated one; a file of JSON lines; a text file; `last-word:FILE`; or
    /// `next-line:FILE`, where the file can be a corpus, of which held-out documents are taken. At most
    /// `limit` items, drawn by `seed`. Files may have their fields in other `columns`.
    ///
    /// # Errors
    /// There is no such task; the file cannot be used.
    pub fn open(
        name: &str,
        limit: Option<usize>,
        seed: u64,
        columns: &Columns,
        progress: &dyn Progress,
    ) -> Result<Self> {
        if let Some(kind) = Kind::ALL.into_iter().find(|kind| kind.name() == name) {
            let n = limit.unwrap_or(GENERATED);
            let items =
                |split, n: usize| (0..n as u64).map(|i| synthetic::item(kind, split, seed, i)).collect();
            let examples = Some(items(Split::Train, EXAMPLES));
            return Ok(Task { name: name.to_owned(), items: items(Split::Val, n), examples, lines: None });
        }
        if let Some(file) = name.strip_prefix("next-line:") {
            return Self::next_line(Path::new(file), limit.unwrap_or(GENERATED), seed, columns, progress);
        }
        let (file, last_word) = match name.strip_prefix("last-word:") {
            Some(file) => (Path::new(file), true),
            None => (Path::new(name), false),
        };
        ensure!(
            file.exists(),
            "there is no task {name:?}{}, and no such file: `mynah eval --list` names the tasks",
            did_you_mean(name, Kind::ALL.map(Kind::name))
        );
        let shown = || format!("cannot use {}", file.display());
        let stem = file.file_name().map_or(name.into(), |name| name.to_string_lossy());
        let stem = stem.split('.').next().unwrap_or(name).to_owned();
        let (items, lines) = read_items(file, last_word, columns, progress).with_context(shown)?;
        let beside = examples_beside(file).into_iter().find(|beside| beside.exists());
        let examples = beside.map(|beside| read_items(&beside, last_word, columns, progress)).transpose()?;
        let examples = examples.map(|(items, _)| items);
        let items = sample(items, limit, seed);
        Ok(Task { name: if last_word { format!("{stem}-last-word") } else { stem }, items, examples, lines })
    }

    /// `count` lines of held-out programs that are to be written.
    fn next_line(
        file: &Path,
        count: usize,
        seed: u64,
        columns: &Columns,
        progress: &dyn Progress,
    ) -> Result<Self> {
        let (lines, report) = if file.is_dir() {
            let documents = Documents::open(file, Split::Val)?.map(|document| Ok(document?.text));
            (next_lines(documents, count, seed)?, None)
        } else {
            let shown = || format!("cannot use {}", file.display());
            let (texts, report) = read_items(file, false, columns, progress).with_context(shown)?;
            (next_lines(texts.into_iter().map(|text| Ok(text.asked)), count, seed)?, report)
        };
        ensure!(!lines.is_empty(), "{} has no text of more than five lines", file.display());
        let item = |line: NextLine| Item { asked: line.context, wanted: Wanted::NextLine(line.truth) };
        let stem = file.file_name().map_or("texts".into(), |name| name.to_string_lossy());
        let name = format!("{}-next-line", stem.split('.').next().unwrap_or("texts"));
        Ok(Task { name, items: lines.into_iter().map(item).collect(), examples: None, lines: report })
    }

    /// Whether programs are written, which have to be run.
    pub fn runs_programs(&self) -> bool {
        self.items.iter().any(|item| matches!(item.wanted, Wanted::Program(_)))
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
        let pool = self.examples.as_ref().unwrap_or(&self.items);
        let pool: Vec<&Item> = pool.iter().filter(|item| item.asked != self.items[index].asked).collect();
        let mut left: Vec<usize> = (0..pool.len()).collect();
        let draws = 0..shots.min(pool.len());
        draws
            .map(|draw| {
                let at =
                    rng::below(seed, streams::EVAL_SHOTS.at(index as u64), draw as u64, left.len() as u64);
                pool[left.swap_remove(at as usize)]
            })
            .collect()
    }
}

/// Where the examples of a file's items lie, if there are some.
fn examples_beside(file: &Path) -> [PathBuf; 2] {
    let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let stem = name.split('.').next().unwrap_or_default();
    ["jsonl", "jsonl.gz"].map(|end| file.with_file_name(format!("{stem}.train.{end}")))
}

/// `limit` of the items in their order.
fn sample(items: Vec<Item>, limit: Option<usize>, seed: u64) -> Vec<Item> {
    let Some(limit) = limit.filter(|&limit| limit < items.len()) else { return items };
    let mut order: Vec<usize> = (0..items.len()).collect();
    order.sort_by_key(|&i| rng::bits(seed, streams::EVAL_LIMIT, i as u64));
    let mut kept = order[..limit].to_vec();
    kept.sort_unstable();
    kept.into_iter().map(|i| items[i].clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

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
