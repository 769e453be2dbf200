//! Answers that a model writes: to the end of a line, or the next line of a program.

use super::few_shot::Candidate;
use super::marked::{Marked, Terms, TokenizedPrompt, marked};
use super::next_line::first_line;
use super::task::Item;
use crate::chat;
use crate::complete::Options;
use crate::data::TaskRow;
use crate::data::messages::{Message, Role};
use crate::lessons::states;
use crate::model::{Beams, Sampling};
use anyhow::{Context, Result};
use kernels::Backend;
use serde_json::json;
use std::ops::ControlFlow;

/// Exponent of the length penalty of beam search (Brown et al. 2020, §2.4).
const ALPHA: f64 = 0.6;
/// Tokens of an answer or a line, unless somebody says otherwise.
const MAX_TOKENS: usize = 32;
/// The same of a message, and of each before it that calls tools.
const MESSAGE_TOKENS: usize = 256;

impl<B: Backend> Candidate<'_, B> {
    /// A text to the end of its line; any of `answers` is right.
    pub(super) fn free(
        &mut self,
        item: &Item,
        shots: &[&Item],
        answers: &[String],
        terms: &Terms,
    ) -> Result<Marked> {
        if terms.tools {
            return self.said(item, shots, answers, terms);
        }
        let asked = self.ask(item, shots, terms.max_tokens.unwrap_or(MAX_TOKENS))?;
        self.line(&asked, answers, terms)
    }

    /// A message in a chat, before which tools may be called; examples are turns before it. A message is right that
    /// states any of `answers` in whole words.
    fn said(&mut self, item: &Item, shots: &[&Item], answers: &[String], terms: &Terms) -> Result<Marked> {
        let (tools, prompter) = self.tools.as_ref().context("tools are called, and there are none")?;
        let mut messages = Vec::with_capacity(2 * shots.len() + 1);
        for shot in shots {
            messages.push(Message::new(Role::User, shot.asked.clone()));
            messages.push(Message::new(Role::Assistant, shot.right_answer()));
        }
        messages.push(Message::new(Role::User, item.asked.clone()));
        let sampling = Sampling { temperature: 0.0, ..Sampling::default() };
        let max_tokens = terms.max_tokens.unwrap_or(MESSAGE_TOKENS);
        let options = Options { max_tokens, sampling, ..Options::default() };
        let go_on = &mut |_: &str| ControlFlow::Continue(());
        let answer =
            chat::answer(&mut self.completer, prompter, Some(*tools), &messages, 0, &options, go_on)?;
        let (last, before) = answer.messages.split_last().context("an answer has a message")?;
        let written = last.content.trim();
        let right = answers.iter().any(|answer| states(written, answer));
        let f1 = answers.iter().map(|answer| f1(answer, written)).fold(0.0, f64::max);
        let left_out = answer.left_out_messages.div_ceil(2);
        let record = json!({
            "prompt": item.asked, "said": before, "written": written, "answers": answers, "right": right, "f1": f1,
        });
        let asked = TokenizedPrompt {
            text: item.asked.clone(),
            tokens: Vec::new(),
            shown: shots.len() - left_out,
            left_out,
            cut: 0,
        };
        Ok(Marked { likeness: Some(f1), ..marked(f64::from(right), record, &asked) })
    }

    /// What comes of a row's input with its task in special tokens, without examples: no such document has
    /// any.
    pub(super) fn task(&mut self, row: &TaskRow, terms: &Terms) -> Result<Marked> {
        let task = self.tokenizer.encode_task(&row.task)?;
        let max_tokens = terms.max_tokens.unwrap_or(MAX_TOKENS);
        let (tokens, cut) = self.completer.fit(&row.input, &task, max_tokens)?;
        let text = format!("{} {}", row.input, row.task);
        self.line(
            &TokenizedPrompt { text, tokens, shown: 0, left_out: 0, cut },
            std::slice::from_ref(&row.output),
            terms,
        )
    }

    fn line(&mut self, asked: &TokenizedPrompt, answers: &[String], terms: &Terms) -> Result<Marked> {
        let text = self.write(asked, terms, |text| text.trim_start().contains('\n'))?;
        let written = text.trim_start().lines().next().unwrap_or_default().trim();
        let right = answers.iter().any(|answer| answer.trim() == written);
        let f1 = answers.iter().map(|answer| f1(answer, written)).fold(0.0, f64::max);
        let record = json!({
            "prompt": asked.text, "written": written, "answers": answers, "right": right, "f1": f1,
        });
        Ok(Marked { likeness: Some(f1), ..marked(f64::from(right), record, asked) })
    }

    /// The line that comes next, without examples: the text before it is one.
    pub(super) fn next_line(&mut self, item: &Item, line: &str, terms: &Terms) -> Result<Marked> {
        let asked = self.ask(item, &[], terms.max_tokens.unwrap_or(MAX_TOKENS))?;
        let text = self.write(&asked, terms, |text| first_line(text, false).is_some())?;
        let written = first_line(&text, true).unwrap_or_default();
        let (right, similarity) = (written == line, strsim::normalized_levenshtein(written, line));
        let record = json!({
            "prompt": asked.text, "written": written, "line": line, "right": right, "edit_similarity": similarity,
        });
        Ok(Marked { likeness: Some(similarity), ..marked(f64::from(right), record, &asked) })
    }

    /// What the model writes after a prompt until `is_over` says so of the text, or it ends the document.
    fn write(
        &mut self,
        asked: &TokenizedPrompt,
        terms: &Terms,
        is_over: impl Fn(&str) -> bool,
    ) -> Result<String> {
        let max_tokens = terms.max_tokens.unwrap_or(MAX_TOKENS);
        let beams = Beams { width: terms.beams.max(1), alpha: ALPHA, max_tokens };
        let (tokenizer, ends_text) = (self.tokenizer, self.tokenizer.end_tokens());
        let is_end = |token: Option<&u32>| token.is_some_and(|token| ends_text.contains(token));
        let ends = |tokens: &[u32]| {
            is_end(tokens.last()) || tokenizer.decode(tokens).is_ok_and(|text| is_over(&text))
        };
        let mut tokens = self.completer.beam_search(&asked.tokens, &beams, ends)?;
        if is_end(tokens.last()) {
            tokens.pop();
        }
        tokenizer.decode(&tokens)
    }
}

/// F1 of the words of two answers, in lower case, without punctuation and articles (Rajpurkar et al. 2016).
fn f1(answer: &str, written: &str) -> f64 {
    let words = |text: &str| -> Vec<String> {
        let kept: String = text.to_lowercase().chars().filter(|c| !c.is_ascii_punctuation()).collect();
        let words = kept.split_whitespace().filter(|word| !["a", "an", "the"].contains(word));
        words.map(str::to_owned).collect()
    };
    let (wanted, mut left) = (words(answer), words(written));
    let (n, m) = (wanted.len(), left.len());
    if n == 0 || m == 0 {
        return f64::from(n == m);
    }
    let common = wanted.iter().filter(|word| {
        let at = left.iter().position(|other| other == *word);
        at.map(|at| left.swap_remove(at)).is_some()
    });
    2.0 * common.count() as f64 / (n + m) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f1_counts_common_words() {
        assert_eq!(f1("the red house", "Red house!"), 1.0);
        assert_eq!(f1("red house", "red car"), 0.5);
        assert_eq!(f1("red", "blue"), 0.0);
        assert_eq!(f1("red red", "red"), 2.0 / 3.0);
    }
}
