//! Answers that a model writes: to the end of a line, or the next line of a program.

use super::few_shot::Candidate;
use super::marked::{Marked, Terms, TokenizedPrompt, marked};
use super::next_line::first_line;
use super::task::Item;
use crate::data::TaskRow;
use crate::model::Beams;
use anyhow::Result;
use kernels::Backend;
use serde_json::json;

/// Exponent of the length penalty of beam search (Brown et al. 2020, §2.4).
const ALPHA: f64 = 0.6;
/// Tokens of an answer or a line, unless somebody says otherwise.
const MAX_TOKENS: usize = 32;

impl<B: Backend> Candidate<'_, B> {
    /// A text to the end of its line; any of `answers` is right.
    pub(super) fn free(
        &mut self,
        item: &Item,
        shots: &[&Item],
        answers: &[String],
        terms: &Terms,
    ) -> Result<Marked> {
        let asked = self.ask(item, shots, terms.max_tokens.unwrap_or(MAX_TOKENS))?;
        self.line(&asked, answers, terms)
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
