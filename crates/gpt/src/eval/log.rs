//! The lines of `--out`: an item each, with its exact prompt and the model's answer. They are passed on one
//! by one, and those that an earlier call wrote are reused for the items that they are about.

use super::marked::{Marked, Rule, Terms, bits_per_byte};
use super::overlap::Overlap;
use super::task::{Item, Task, Wanted};
use crate::dealt::{agree, own, rounds};
use crate::progress::{Progress, Stopped};
use anyhow::{Context, Result, ensure};
use ranks::Ranks;
use serde_json::{Map, Value, json};
use std::collections::VecDeque;
use std::ops::Range;

/// What is said where somebody asks to stop.
pub(super) const UNFINISHED: &str = "the evaluation was not finished";

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

    /// The items that are not in the log yet, in rounds of `each` a rank: `examine` says what those gave that are
    /// this rank's; each of them takes all. `tokens` says those of the word that ends an item's text.
    pub(super) fn examine(
        &mut self,
        ranks: &Ranks,
        each: usize,
        tokens: impl Fn(&Item) -> usize,
        progress: &dyn Progress,
        mut examine: impl FnMut(&[usize]) -> Result<Vec<Marked>>,
    ) -> Result<()> {
        let items = &self.task.items;
        while self.all.len() < items.len() && self.has(tokens(&items[self.all.len()]))? {}
        progress.advance(self.all.len() as u64);
        for round in rounds(self.all.len()..items.len(), ranks, each) {
            let chosen: Vec<usize> = own(&round, ranks).collect();
            let outcome = match progress.should_stop() {
                true => Err(Stopped(UNFINISHED).into()),
                false => examine(&chosen),
            };
            let found = agree(ranks, outcome)?;
            if ranks.size() == 1 {
                found.into_iter().try_for_each(|marked| self.add(marked))?;
            } else {
                self.add_all(ranks, &round, found, &tokens)?;
            }
            progress.advance(round.len() as u64);
        }
        Ok(())
    }

    /// Whether the log has the next item already. `tokens` are those of the word that ends its text.
    fn has(&mut self, tokens: usize) -> Result<bool> {
        let number = self.all.len();
        let Some(line) = self.log.take(&self.task.name, number)? else { return Ok(false) };
        self.take(&line, tokens)?;
        Ok(true)
    }

    /// Takes what the next item gave, from its line.
    fn take(&mut self, line: &Line, tokens: usize) -> Result<()> {
        let item = self.all.len();
        let marked = marked_again(line, &self.task.items[item], tokens)?;
        self.all.push(Marked { item, ..marked });
        Ok(())
    }

    /// Takes what the next item gave.
    fn add(&mut self, mut marked: Marked) -> Result<()> {
        let item = self.all.len();
        let line = self.line(item, &mut marked);
        self.log.hear(&line)?;
        self.all.push(Marked { item, ..marked });
        Ok(())
    }

    /// Takes what the items of a round gave, of which this rank has its own: the line of an item says all.
    fn add_all(
        &mut self,
        ranks: &Ranks,
        round: &Range<usize>,
        found: Vec<Marked>,
        tokens: impl Fn(&Item) -> usize,
    ) -> Result<()> {
        let line = |(item, mut marked)| Ok(serde_json::to_vec(&self.line(item, &mut marked))?);
        let lines: Vec<Vec<u8>> = own(round, ranks).zip(found).map(line).collect::<Result<_>>()?;
        for (item, line) in round.clone().zip(ranks.collect_lists(&lines, round.len())) {
            let line: Line = serde_json::from_slice(&line).context("a line is JSON")?;
            self.log.hear(&line)?;
            self.take(&line, tokens(&self.task.items[item]))?;
        }
        Ok(())
    }

    /// The line of an item; takes the record.
    fn line(&self, item: usize, marked: &mut Marked) -> Line {
        let shots = self.terms.shots;
        let head = [("task", json!(self.task.name)), ("shots", json!(marked.shown)), ("item", json!(item))];
        let asked = (marked.shown < shots).then(|| ("shots_asked", shots.into()));
        let overlaps = self.overlap.map(|overlap| ("overlaps", json!(overlap.items[item])));
        let named = |(name, value): (&str, Value)| (name.to_owned(), value);
        let record = std::mem::take(&mut marked.record);
        head.into_iter().chain(asked).map(named).chain(record).chain(overlaps.map(named)).collect()
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
