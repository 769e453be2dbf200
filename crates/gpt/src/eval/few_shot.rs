//! Zero-shot, one-shot and few-shot evaluation: a model's answers to a task's items after none, one or
//! several examples (Brown et al. 2020, §2.4).
//!
//! An example is an item with its right answer; examples are separated by a blank line and come before the
//! item. Choices are compared by likelihood under three rules, free answers are written to the end of a line.

use super::choice::tokens_of_answer;
use super::figures::{Figures, summary};
use super::log::{Log, TaskLog};
use super::marked::{Marked, Terms, TokenizedPrompt, Weighed, bits_per_byte, marked};
use super::overlap::Overlap;
use super::task::{Item, Task, Wanted};
use crate::chat::Tools;
use crate::complete::Completer;
use crate::data::Prompter;
use crate::model::{Config, TokenLogprob, Weights};
use crate::progress::{Progress, Unit};
use crate::sandbox::Sandbox;
use crate::tokenizer::Tokenizer;
use anyhow::{Context, Result, bail, ensure};
use kernels::Backend;
use ranks::Ranks;
use serde_json::json;
use std::collections::HashMap;

/// Answers that are written at once.
pub(super) const SLOTS: usize = 8;
/// Items that a process examines before it hears of what others have found.
const AT_ONCE: usize = 8;

/// The result of evaluating one task.
#[derive(Clone, Debug)]
pub struct TaskResult {
    /// The task's figures.
    pub figures: Figures,
    /// What every item contributes to the figure: 1 where it is right; of texts, bits per byte, of a single
    /// one those of its windows.
    pub scores: Vec<f64>,
}

/// A model that is evaluated.
pub struct Candidate<'a, B: Backend> {
    pub(super) completer: Completer<'a, B>,
    pub(super) tokenizer: &'a Tokenizer,
    /// Log-probabilities of answers where nothing is asked.
    pub(super) unconditional: HashMap<String, f64>,
    /// Where the programs that it writes are run.
    pub(super) sandbox: Option<&'a Sandbox>,
    /// What it may call while it answers, and how it is asked then.
    pub(super) tools: Option<(&'a dyn Tools, Prompter<&'a Tokenizer>)>,
    /// Who has a copy of it, and items of their own.
    pub(super) ranks: Ranks,
}

impl<'a, B: Backend> Candidate<'a, B> {
    /// Prepares a model, of which each of `ranks` has a copy: items are dealt to them. `sandbox` is where programs
    /// are run, if any are.
    ///
    /// # Errors
    /// The model scores texts instead of predicting them; the tokenizer has more tokens than the model.
    pub fn new(
        backend: &'a mut B,
        config: &Config,
        weights: &Weights<B::Tensor>,
        tokenizer: &'a Tokenizer,
        sandbox: Option<&'a Sandbox>,
        ranks: &Ranks,
    ) -> Result<Self> {
        let completer = Completer::new(backend, config, weights, tokenizer, SLOTS)?;
        let (unconditional, ranks) = (HashMap::new(), ranks.clone());
        Ok(Candidate { completer, tokenizer, unconditional, sandbox, tools: None, ranks })
    }

    /// The same that may call `tools` while it answers.
    ///
    /// # Errors
    /// The model's chat template does not tell of them.
    pub fn with_tools(self, tools: &'a dyn Tools) -> Result<Self> {
        let prompter = Prompter::new(self.tokenizer)?;
        prompter.check_tools()?;
        Ok(Candidate { tools: Some((tools, prompter)), ..self })
    }

    /// Examines the model in a task; `overlap` is what the task shares with the model's corpus, if anybody
    /// looked. The `log` hears every item.
    ///
    /// # Errors
    /// An item does not fit the context; the model's logits are not finite; somebody asked to stop; those of
    /// the log.
    pub fn evaluate(
        &mut self,
        task: &Task,
        terms: &Terms,
        overlap: Option<&Overlap>,
        log: &mut Log<'_>,
        progress: &dyn Progress,
    ) -> Result<TaskResult> {
        ensure!(
            !terms.tools || task.items.iter().all(|item| item.is_written(self.tokenizer)),
            "tools are called on the way to answers that are written, such as {{\"prompt\",\"answer\"}}, and {} has other items: \
             leave out --tool",
            task.name
        );
        let log = &mut TaskLog::new(task, terms, overlap, log);
        match task.runs_programs() {
            true => self.programs(log, progress)?,
            false => self.items(log, progress)?,
        }
        let marked = std::mem::take(&mut log.all);
        let all: Vec<&Marked> = marked.iter().collect();
        let mut figures = summary(task, terms, &all).with_context(|| task.name.clone())?;
        if let Some(overlap) = overlap {
            let clean: Vec<&Marked> = all.into_iter().filter(|one| !overlap.items[one.item]).collect();
            let value = if clean.is_empty() { None } else { Some(summary(task, terms, &clean)?.interval) };
            let told = json!({
                "gram_words": overlap.gram_words, "overlapping": figures.n - clean.len(), "clean": value,
            });
            figures.more.insert("contamination".to_owned(), told);
        }
        let scores = match marked.as_slice() {
            [one] if one.windows.len() > 1 => {
                one.windows.iter().map(|window| bits_per_byte([window])).collect()
            }
            all => all.iter().map(|marked| marked.score).collect(),
        };
        Ok(TaskResult { figures, scores })
    }

    fn items(&mut self, log: &mut TaskLog<'_, '_>, progress: &dyn Progress) -> Result<()> {
        let (task, terms, tokenizer, ranks) = (log.task, log.terms, self.tokenizer, self.ranks.clone());
        let each = if ranks.size() == 1 { 1 } else { AT_ONCE };
        let about = format!("{} ({} shots)", task.name, terms.shots);
        progress.begin(&about, task.items.len() as u64, Unit::Count);
        let tokens = |item: &Item| match &item.wanted {
            Wanted::LastWord(word) => tokens_of_answer(tokenizer, &item.asked, word).len(),
            _ => 0,
        };
        log.examine(&ranks, each, tokens, progress, |items| {
            let marked = |&index: &usize| {
                let item = &task.items[index];
                let marked = match &item.wanted {
                    Wanted::Text => self.text(&item.asked),
                    _ => self.item(task, index, terms),
                };
                marked.with_context(|| format!("{}, item {}", task.name, index + 1))
            };
            items.iter().map(marked).collect()
        })?;
        progress.end();
        let texts = task.items.iter().all(|item| item.wanted == Wanted::Text);
        ensure!(
            !texts || log.all.iter().any(|marked| !marked.windows.is_empty()),
            "{}: no text has a token that another one comes before: there is nothing to predict",
            task.name
        );
        Ok(())
    }

    fn item(&mut self, task: &Task, index: usize, terms: &Terms) -> Result<Marked> {
        let item = &task.items[index];
        let shots = task.shots(index, terms.shots, terms.seed);
        match &item.wanted {
            Wanted::Choice { answers, label } => self.choice(item, &shots, answers, *label, terms.rule),
            Wanted::Free(answers) => self.free(item, &shots, answers, terms),
            Wanted::Task(row) if self.tokenizer.names_special(&row.task) => self.task(row, terms),
            Wanted::Task(row) => self.free(item, &shots, std::slice::from_ref(&row.output), terms),
            Wanted::LastWord(word) => self.last_word(item, &shots, word),
            Wanted::NextLine(line) => self.next_line(item, line, terms),
            Wanted::Program(_) => bail!("{}: some lines are problems of programs, others are not", task.name),
            Wanted::Text => bail!("{}: some lines are texts, others are not", task.name),
        }
    }

    /// Examples and item, as many examples as fit beside `room` tokens of an answer.
    pub(super) fn ask(&self, item: &Item, shots: &[&Item], room: usize) -> Result<TokenizedPrompt> {
        let context = self.completer.context();
        ensure!(
            room < context,
            "an answer of {room} tokens does not fit the context of {context}: allow shorter ones (--max-tokens)",
        );
        for left_out in 0..=shots.len() {
            let shown =
                shots[left_out..].iter().map(|shot| format!("{} {}\n\n", shot.asked, shot.right_answer()));
            let text = shown.collect::<String>() + &item.asked;
            let tokens = self.tokenizer.encode_from_start(&text);
            if tokens.len() + room <= context && !tokens.is_empty() {
                return Ok(TokenizedPrompt { text, tokens, shown: shots.len() - left_out, left_out, cut: 0 });
            }
        }
        let tokens = self.tokenizer.encode(&item.asked);
        ensure!(!tokens.is_empty(), "an item asks nothing");
        let start = self.tokenizer.start();
        let cut = start.iter().len() + tokens.len() + room - context;
        let text = self.tokenizer.decode(&tokens[cut..])?;
        let tokens = start.into_iter().chain(tokens.into_iter().skip(cut)).collect();
        Ok(TokenizedPrompt { text, tokens, shown: 0, left_out: shots.len(), cut })
    }

    fn last_word(&mut self, item: &Item, shots: &[&Item], word: &str) -> Result<Marked> {
        let tokens = self.answer(&item.asked, word);
        let asked = self.ask(item, shots, tokens.len())?;
        let told: Vec<TokenLogprob> =
            self.completer.score_continuations(&asked.tokens, &[&tokens])?.remove(0);
        let logprob: f64 = told.iter().map(|token| token.logprob).sum();
        let right = told.iter().all(|token| token.is_best);
        let record = json!({ "prompt": asked.text, "word": word, "logprob": logprob, "right": right });
        let windows = vec![(logprob, tokens.len(), word.len() + 1)];
        Ok(Marked { windows, ..marked(f64::from(right), record, &asked) })
    }

    /// A text in windows of the whole context, each of which begins with the last token of the one before;
    /// the first with what begins a text or ends another, where the tokenizer has such a token.
    fn text(&mut self, text: &str) -> Result<Marked> {
        let before = self.tokenizer.start().or(self.tokenizer.end_of_text());
        let mut tokens: Vec<u32> = before.into_iter().collect();
        tokens.extend(self.tokenizer.encode(text));
        let mut windows = Vec::new();
        let mut start = 0;
        while start + 1 < tokens.len() {
            let end = (start + 1 + self.completer.context()).min(tokens.len());
            let window = &tokens[start + 1..end];
            let told = self.completer.score_continuations(&tokens[start..=start], &[window])?.remove(0);
            let logprob: f64 = told.iter().map(|token| token.logprob).sum();
            let bytes = self.tokenizer.decode_bytes(window).map_or(0, |bytes| bytes.len()).max(1);
            windows.push((logprob, window.len(), bytes));
            start = end - 1;
        }
        let (logprob, tokens, bytes) = windows
            .iter()
            .fold((0.0, 0, 0), |sum: Weighed, part| (sum.0 + part.0, sum.1 + part.1, sum.2 + part.2));
        let record = json!({
            "logprob": logprob, "tokens": tokens, "bytes": bytes, "windows": windows.len(), "by_window": windows,
        });
        let asked =
            TokenizedPrompt { text: String::new(), tokens: Vec::new(), shown: 0, left_out: 0, cut: 0 };
        Ok(Marked { windows: windows.clone(), ..marked(bits_per_byte(&windows), record, &asked) })
    }
}
