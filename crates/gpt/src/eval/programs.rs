//! Programs that a model writes for problems with tests (HumanEval's format, Chen et al. 2021), run and
//! judged by [`code`].

use super::code::{Kind, Problem, TIMEOUT, grade};
use super::few_shot::Candidate;
use super::log::{TaskLog, UNFINISHED, share_passed};
use super::marked::{Marked, Terms, marked};
use super::task::{Task, Wanted};
use crate::model::{Request, Sampling};
use crate::progress::{Progress, Stopped, Unit};
use anyhow::{Context, Result, bail};
use kernels::Backend;
use serde_json::json;
use std::ops::ControlFlow;

/// What begins something else after a function (Chen et al. 2021).
const STOP: [&str; 5] = ["\nclass", "\ndef", "\n#", "\nif", "\nprint"];
/// Tokens of a program, unless somebody says otherwise; at most half the context.
const MAX_TOKENS: usize = 512;
/// See [`Terms::temperature`].
const TEMPERATURE: f32 = 0.8;
/// Programs are drawn from the fewest tokens whose probabilities reach this (Chen et al. 2021).
const TOP_P: f32 = 0.95;
/// Programs, of one problem or several, that are written and then run at once.
const AT_ONCE: usize = 32;

impl<B: Backend> Candidate<'_, B> {
    /// Writes programs for the problems of a task and runs them, some problems at a time. A problem's score
    /// is the share that passes its tests, so that the mean is pass@1.
    pub(super) fn programs(&mut self, log: &mut TaskLog<'_, '_>, progress: &dyn Progress) -> Result<()> {
        let (task, terms) = (log.task, log.terms);
        let sandbox = self.sandbox.context("programs are run in a sandbox, and there is none")?;
        let problems = problems(task)?;
        let room = terms.max_tokens.unwrap_or(MAX_TOKENS.min(self.completer.context() / 2));
        let asked = task.items.iter().map(|item| self.ask(item, &[], room)).collect::<Result<Vec<_>>>()?;
        let (each, ranks) = (terms.programs.max(1), self.ranks.clone());
        progress.begin(&task.name, problems.len() as u64, Unit::Count);
        log.examine(&ranks, AT_ONCE / each, |_| 0, progress, |some| {
            let requests: Vec<Request> = some
                .iter()
                .flat_map(|&item| (0..each).map(move |at| (item, item * each + at)))
                .map(|(item, number)| self.request(&asked[item].tokens, number as u64, room, terms))
                .collect();
            let written = self.write_programs(&requests, progress)?;
            let programs: Vec<(&Problem, &str)> = written
                .iter()
                .enumerate()
                .map(|(at, text)| (problems[some[at / each]], text.as_str()))
                .collect();
            let mut verdicts = Vec::with_capacity(programs.len());
            let mut hear = |verdict| {
                verdicts.push(verdict);
                Ok(())
            };
            grade(sandbox, &programs, TIMEOUT, progress, &mut hear)?;
            let of_each = written.chunks(each).zip(verdicts.chunks(each));
            let marked = some.iter().zip(of_each).map(|(&item, (completions, verdicts))| {
                let told = completions.iter().zip(verdicts).map(|(text, verdict)| {
                    json!({ "completion": text, "passed": verdict.passed(), "result": verdict.kind, "detail": verdict.detail })
                });
                let record = json!({
                    "prompt": asked[item].text, "task_id": problems[item].task_id, "programs": told.collect::<Vec<_>>(),
                });
                let verdicts: Vec<Kind> = verdicts.iter().map(|verdict| verdict.kind).collect();
                let score = share_passed(&verdicts);
                Marked { verdicts, ..marked(score, record, &asked[item]) }
            });
            Ok(marked.collect())
        })?;
        progress.end();
        Ok(())
    }

    fn request(&self, prompt: &[u32], number: u64, max_tokens: usize, terms: &Terms) -> Request {
        let usual = if terms.programs > 1 { TEMPERATURE } else { 0.0 };
        let temperature = terms.temperature.unwrap_or(usual);
        Request {
            prompt: prompt.to_vec(),
            max_tokens,
            sampling: Sampling { temperature, top_k: 0, top_p: TOP_P, seed: terms.seed },
            number,
            stop_tokens: self.tokenizer.end_tokens(),
            ..Request::default()
        }
    }

    fn write_programs(&mut self, requests: &[Request], progress: &dyn Progress) -> Result<Vec<String>> {
        let stop = STOP.map(str::to_owned);
        let mut go_on = |_: usize, _: &str| match progress.should_stop() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        };
        let written = self.completer.generate(requests, &stop, &mut go_on)?;
        if progress.should_stop() {
            bail!(Stopped(UNFINISHED));
        }
        Ok(written.into_iter().map(|completion| completion.text).collect())
    }
}

fn problems(task: &Task) -> Result<Vec<&Problem>> {
    let each = (1..).zip(&task.items).map(|(number, item): (usize, _)| match &item.wanted {
        Wanted::Program(problem) => Ok(&**problem),
        _ => bail!("item {number} of {} is no problem with tests, but others are", task.name),
    });
    each.collect()
}
