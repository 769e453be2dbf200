//! What the model of the road makes of what it has never seen.

use super::super::held_out::{NGRAM_ORDER, by_counting, by_network, greedy};
use super::Walk;
use crate::checkpoint;
use crate::complete::{Completer, Completion, Options};
use crate::data::{TaskRow, TokenShards};
use crate::eval::{Likelihood, Rate};
use crate::lessons::{TO_CHINESE, WHO};
use crate::model::{self, Config, Finish, Weights};
use crate::report::{Predicted, TaskAccuracy, TasksResults, Written};
use crate::tokenizer::Tokenizer;
use anyhow::{Context, Result, bail, ensure};
use kernels::Backend;
use std::collections::{BTreeMap, HashSet};
use std::ops::ControlFlow;

/// Texts that are continued at once.
const SLOTS: usize = 16;
/// Tokens of an answer at most.
const ANSWER_TOKENS: usize = 24;
/// Questions of each task that are shown with their answers.
const SHOWN: usize = 6;
/// Three things to ask, as in introductions to GPT-2: a text to go on with, the same to translate, and who
/// somebody is.
const EXAMPLES: [(&str, Option<&str>); 3] =
    [("Today is a", None), ("Today is a", Some(TO_CHINESE)), ("我是小明", Some(WHO))];

impl Walk<'_> {
    /// Asks the trained model, and predicts held-out text with it.
    pub(super) fn evaluate<B: Backend>(&self, b: &mut B) -> Result<TasksResults> {
        let held_out = self.rows("held-out.jsonl")?;
        self.check_unseen(&held_out)?;
        let checkpoint = checkpoint::open(&self.at("pretrain"), self.progress)?;
        let weights = checkpoint.weights(checkpoint::to_backend(b, &checkpoint.config))?;
        let text = self.text(b, &checkpoint.config, &weights)?;
        let tokenizer = Tokenizer::from_dir(self.at("tokenizer"))?;
        let mut completer = Completer::new(b, &checkpoint.config, &weights, &tokenizer, SLOTS)?;
        let mut by_task: BTreeMap<&str, Vec<&TaskRow>> = BTreeMap::new();
        held_out.iter().for_each(|row| by_task.entry(&row.task).or_default().push(row));
        let tasks = by_task.into_iter().map(|(task, rows)| measure(&mut completer, task, &rows));
        let tasks = tasks.collect::<Result<Vec<TaskAccuracy>>>()?;
        let example = |(input, task): (&str, Option<&str>)| -> Result<Written> {
            let written = answer(&mut completer, &[input], task)?.remove(0).text;
            let task = task.unwrap_or_default().into();
            Ok(Written { input: input.into(), task, written, wanted: None })
        };
        let examples = EXAMPLES.into_iter().map(example).collect::<Result<_>>()?;
        Ok(TasksResults { stages: Vec::new(), tasks, text, examples })
    }

    /// Refuses to ask what was learned from: an input in any file, or the output of another input.
    fn check_unseen(&self, held_out: &[TaskRow]) -> Result<()> {
        let rows = self.rows("tasks.jsonl")?;
        let outputs: HashSet<&str> = rows.iter().map(|row| row.output.as_str()).collect();
        for name in ["text.jsonl", "tasks.jsonl"] {
            let path = self.at("lessons").join(name);
            let shown = path.display();
            let learned = std::fs::read_to_string(&path).with_context(|| format!("cannot read {shown}"))?;
            let seen = |row: &&TaskRow| learned.contains(&row.input) || outputs.contains(row.output.as_str());
            if let Some(TaskRow { input, output, .. }) = held_out.iter().find(seen) {
                bail!("`{input}` or `{output}` is to be new, but is learned from {shown}");
            }
        }
        Ok(())
    }

    /// How well held-out plain text is predicted, beside an untrained model and n-grams.
    fn text<B: Backend>(
        &self,
        b: &mut B,
        c: &Config,
        weights: &Weights<B::Tensor>,
    ) -> Result<Vec<Predicted>> {
        let shards = TokenShards::open(&self.at("tokens"))?;
        let windows = shards.val_windows(64, c.seq_len)?;
        let trained = by_network(b, c, weights, &windows);
        let fresh = model::init(b, c, self.options.seed);
        let untrained = by_network(b, c, &fresh, &windows);
        let (counted, _) = by_counting(&shards, &windows)?;
        let named = [
            ("mynah".into(), trained),
            ("untrained".into(), untrained),
            (format!("{NGRAM_ORDER}-grams"), counted),
        ];
        let predicted = |(name, likelihood): (String, Likelihood)| Predicted {
            name,
            bits_per_byte: likelihood.bits_per_byte(),
        };
        Ok(named.map(predicted).into())
    }
}

/// How many rows of a task are answered exactly.
fn measure<B: Backend>(
    completer: &mut Completer<'_, B>,
    task: &str,
    rows: &[&TaskRow],
) -> Result<TaskAccuracy> {
    let (mut hits, mut shown) = (0, Vec::new());
    for rows in rows.chunks(SLOTS) {
        let inputs: Vec<&str> = rows.iter().map(|row| row.input.as_str()).collect();
        for (row, Completion { text, finish, dropped_tokens, .. }) in
            rows.iter().zip(answer(completer, &inputs, Some(task))?)
        {
            ensure!(dropped_tokens == 0, "`{}` has no room in the context", row.input);
            hits += u64::from(text == row.output && finish == Finish::Stop);
            if shown.len() < SHOWN {
                let (input, wanted) = (row.input.clone(), Some(row.output.clone()));
                shown.push(Written { input, task: task.into(), written: text, wanted });
            }
        }
    }
    Ok(TaskAccuracy { task: task.into(), exact: Rate::wilson(hits, rows.len() as u64), shown })
}

/// What the model makes of each input, to the end of the document.
fn answer<B: Backend>(
    completer: &mut Completer<'_, B>,
    inputs: &[&str],
    task: Option<&str>,
) -> Result<Vec<Completion>> {
    let options = Options { task: task.map(String::from), ..greedy(ANSWER_TOKENS) };
    completer.complete(inputs, &options, |_, _| ControlFlow::Continue(()))
}
