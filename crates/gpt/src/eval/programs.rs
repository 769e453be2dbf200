//! Programs that a model writes for problems with tests (HumanEval's format, Chen et al. 2021), run and judged by [`code`].

use super::code::{Problem, TIMEOUT, grade};
use super::exam::{Candidate, Marked, Terms, UNFINISHED, marked};
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
/// Programs that are written at once.
pub(super) const SLOTS: usize = 8;
/// Programs between two looks at whether somebody asks to stop.
const AT_ONCE: usize = 32;

impl<B: Backend> Candidate<'_, B> {
    /// Writes programs for every problem of a task, then runs them all. A problem's score is the share that passes its tests, so that
    /// the mean is pass@1.
    pub(super) fn programs(
        &mut self,
        task: &Task,
        terms: &Terms,
        progress: &dyn Progress,
    ) -> Result<Vec<Marked>> {
        let sandbox = self.sandbox.context("programs are run in a sandbox, and there is none")?;
        let problems = problems(task)?;
        let room = terms.max_tokens.unwrap_or(MAX_TOKENS.min(self.completer.context() / 2));
        let asked = task.items.iter().map(|item| self.ask(item, &[], room)).collect::<Result<Vec<_>>>()?;
        let each = terms.programs.max(1);
        let requests: Vec<Request> = asked
            .iter()
            .flat_map(|asked| std::iter::repeat_n(&asked.tokens, each))
            .zip(0..)
            .map(|(prompt, number)| self.request(prompt, number, room, terms))
            .collect();
        let written = self.write_programs(task, &requests, progress)?;
        let programs: Vec<(&Problem, &str)> =
            (0..).zip(&written).map(|(at, text): (usize, _)| (problems[at / each], text.as_str())).collect();
        let verdicts = grade(sandbox, &programs, TIMEOUT, progress)?;
        let mark = |item: usize| {
            let these = item * each..(item + 1) * each;
            let (completions, verdicts) = (&written[these.clone()], &verdicts[these]);
            let told = completions.iter().zip(verdicts).map(|(text, verdict)| {
                json!({ "completion": text, "passed": verdict.passed(), "result": verdict.kind, "detail": verdict.detail })
            });
            let record = json!({
                "prompt": asked[item].text, "task_id": problems[item].task_id, "programs": told.collect::<Vec<_>>(),
            });
            let passed = verdicts.iter().filter(|verdict| verdict.passed()).count();
            let verdicts = verdicts.iter().map(|verdict| verdict.kind).collect();
            Marked { item, verdicts, ..marked(passed as f64 / each as f64, record, &asked[item]) }
        };
        Ok((0..problems.len()).map(mark).collect())
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
        }
    }

    fn write_programs(
        &mut self,
        task: &Task,
        requests: &[Request],
        progress: &dyn Progress,
    ) -> Result<Vec<String>> {
        let stop = STOP.map(str::to_owned);
        let mut written = Vec::with_capacity(requests.len());
        progress.begin(&format!("{}: writing programs", task.name), requests.len() as u64, Unit::Count);
        for some in requests.chunks(AT_ONCE) {
            let mut go_on = |_: usize, _: &str| match progress.should_stop() {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            };
            let done = self.completer.generate(some, &stop, &mut go_on)?;
            if progress.should_stop() {
                bail!(Stopped(UNFINISHED));
            }
            written.extend(done.into_iter().map(|completion| completion.text));
            progress.advance(some.len() as u64);
        }
        progress.end();
        Ok(written)
    }
}

fn problems(task: &Task) -> Result<Vec<&Problem>> {
    let each = (1..).zip(&task.items).map(|(number, item): (usize, _)| match &item.wanted {
        Wanted::Program(problem) => Ok(&**problem),
        _ => bail!("item {number} of {} is no problem with tests, but others are", task.name),
    });
    each.collect()
}
