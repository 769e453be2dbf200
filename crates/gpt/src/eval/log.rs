//! The lines of `--out`: an item each, with its exact prompt and the model's answer. They are passed on one
//! by one, and those that an earlier call wrote are reused for the items that they are about.

use super::marked::{Marked, Rule, Terms, bits_per_byte};
use super::overlap::Overlap;
use super::task::{Item, Task, Wanted};
use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value, json};
use std::collections::VecDeque;

/// A line.
pub type Line = Map<String, Value>;

/// See the module.
pub struct Log<'a> {
    kept: VecDeque<Line>,
    hear: &'a mut dyn FnMut(&Line) -> Result<()>,
}

impl<'a> Log<'a> {
    /// `kept` are the lines of the first items, of all evaluations that follow; `hear` gets that of every
    /// further item.
    pub fn new(kept: Vec<Line>, hear: &'a mut dyn FnMut(&Line) -> Result<()>) -> Self {
        Log { kept: kept.into(), hear }
    }

    /// The next line that is there already, which is that of item `number` of `task`; none where all of those
    /// are taken.
    pub(super) fn take(&mut self, task: &str, number: usize) -> Result<Option<Line>> {
        let Some(line) = self.kept.pop_front() else { return Ok(None) };
        let is = |key: &str, value: Value| line.get(key) == Some(&value);
        ensure!(
            is("task", task.into()) && is("item", number.into()),
            "the items that are there already are not those of this evaluation: remove them"
        );
        Ok(Some(line))
    }

    pub(super) fn hear(&mut self, line: &Line) -> Result<()> {
        (self.hear)(line)
    }
}

/// The items of one task on their way into the log.
pub(super) struct TaskLog<'a, 'l> {
    pub(super) task: &'a Task,
    pub(super) terms: &'a Terms,
    overlap: Option<&'a Overlap>,
    log: &'a mut Log<'l>,
    pub(super) all: Vec<Marked>,
}

impl<'a, 'l> TaskLog<'a, 'l> {
    pub(super) fn new(
        task: &'a Task,
        terms: &'a Terms,
        overlap: Option<&'a Overlap>,
        log: &'a mut Log<'l>,
    ) -> Self {
        TaskLog { task, terms, overlap, log, all: Vec::new() }
    }

    /// Whether the log has item `index` already. `tokens` are those of the word that ends a text.
    pub(super) fn has(&mut self, index: usize, tokens: usize) -> Result<bool> {
        let number = self.all.len();
        let Some(line) = self.log.take(&self.task.name, number)? else { return Ok(false) };
        let marked = marked_again(&line, &self.task.items[index], tokens)?;
        self.all.push(Marked { item: index, ..marked });
        Ok(true)
    }

    /// Takes what item `index` gave.
    pub(super) fn add(&mut self, index: usize, mut marked: Marked) -> Result<()> {
        let (number, shots) = (self.all.len(), self.terms.shots);
        let head = [("task", json!(self.task.name)), ("shots", json!(marked.shown)), ("item", json!(number))];
        let asked = (marked.shown < shots).then(|| ("shots_asked", shots.into()));
        let overlaps = self.overlap.map(|overlap| ("overlaps", json!(overlap.items[index])));
        let named = |(name, value): (&str, Value)| (name.to_owned(), value);
        let record = std::mem::take(&mut marked.record);
        let line =
            head.into_iter().chain(asked).map(named).chain(record).chain(overlaps.map(named)).collect();
        self.log.hear(&line)?;
        self.all.push(Marked { item: index, ..marked });
        Ok(())
    }
}

/// What an item gave, from its line. `tokens` are those of the word that ends a text.
fn marked_again(line: &Line, item: &Item, tokens: usize) -> Result<Marked> {
    let number = |key: &str| line.get(key).and_then(Value::as_f64);
    let count = |key: &str| line.get(key).and_then(Value::as_u64).map(|n| n as usize);
    let right = line.get("right").and_then(Value::as_bool).map(f64::from);
    let mut marked = Marked {
        shown: count("shots").unwrap_or(0),
        left_out: count("examples_left_out").unwrap_or(0),
        cut: usize::from(line.contains_key("tokens_cut")),
        ..Marked::default()
    };
    let filled = match &item.wanted {
        Wanted::Choice { label, .. } => right.zip(line.get("told")).map(|(right, told)| {
            marked.score = right;
            marked.by_rule = Some(Rule::ALL.map(|rule| told[rule.name()] == *label));
        }),
        Wanted::Free(_) | Wanted::Task(_) => right.zip(number("f1")).map(|(right, f1)| {
            (marked.score, marked.likeness) = (right, Some(f1));
        }),
        Wanted::NextLine(_) => right.zip(number("edit_similarity")).map(|(right, similarity)| {
            (marked.score, marked.likeness) = (right, Some(similarity));
        }),
        Wanted::LastWord(word) => right.zip(number("logprob")).map(|(right, logprob)| {
            (marked.score, marked.windows) = (right, vec![(logprob, tokens, word.len() + 1)]);
        }),
        Wanted::Text => line.get("by_window").and_then(|windows| {
            marked.windows = serde_json::from_value(windows.clone()).ok()?;
            marked.score = bits_per_byte(&marked.windows);
            Some(())
        }),
        Wanted::Program(_) => line.get("programs").and_then(Value::as_array).and_then(|programs| {
            let verdict = |program: &Value| serde_json::from_value(program["result"].clone()).ok();
            marked.verdicts = programs.iter().map(verdict).collect::<Option<_>>()?;
            marked.score = share_passed(&marked.verdicts);
            Some(())
        }),
    };
    filled.context("an item that is there already lacks what its figures are made of: remove the file")?;
    Ok(marked)
}

/// Of the programs of a problem, those that pass its tests.
pub(super) fn share_passed(verdicts: &[super::code::Kind]) -> f64 {
    let passed = verdicts.iter().filter(|verdict| **verdict == super::code::Kind::Passed).count();
    passed as f64 / verdicts.len() as f64
}
