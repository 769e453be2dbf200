//! Answers to choose from, compared by likelihood under three rules (Brown et al. 2020, §2.4).

use super::few_shot::Candidate;
use super::marked::{Marked, Rule, marked};
use super::task::Item;
use crate::tokenizer::Tokenizer;
use anyhow::Result;
use kernels::Backend;
use serde_json::{Map, Value, json};

/// What stands before an answer where nothing is asked.
const NO_QUESTION: &str = "Answer:";

impl<B: Backend> Candidate<'_, B> {
    /// See [`tokens_of_answer`].
    pub(super) fn answer(&self, asked: &str, answer: &str) -> Vec<u32> {
        tokens_of_answer(self.tokenizer, asked, answer)
    }

    pub(super) fn choice(
        &mut self,
        item: &Item,
        shots: &[&Item],
        answers: &[String],
        label: usize,
        rule: Rule,
    ) -> Result<Marked> {
        let of = |asked: &str| answers.iter().map(|answer| self.answer(asked, answer)).collect::<Vec<_>>();
        let room = of(&item.asked).iter().map(Vec::len).max().unwrap_or(0);
        let asked = self.ask(item, shots, room)?;
        let tokens = of(&item.asked);
        let sums = self.sums(&asked.tokens, &tokens)?;
        let alone = self.unconditional(answers)?;
        let of_rule = |rule: Rule, i: usize| match rule {
            Rule::Sum => sums[i],
            Rule::PerToken => sums[i] / tokens[i].len().max(1) as f64,
            Rule::Normalised => sums[i] - alone[i],
        };
        let told = |rule: Rule| {
            (0..answers.len())
                .fold(0, |best, i| if of_rule(rule, i) > of_rule(rule, best) { i } else { best })
        };
        let chosen: Map<String, Value> =
            Rule::ALL.into_iter().map(|rule| (rule.name().to_owned(), told(rule).into())).collect();
        let right = told(rule) == label;
        let lens: Vec<usize> = tokens.iter().map(Vec::len).collect();
        let record = json!({
            "prompt": asked.text, "answers": answers, "label": label, "logprobs": sums, "tokens": lens,
            "unconditional": alone, "told": chosen, "right": right,
        });
        let by_rule = Some(Rule::ALL.map(|rule| told(rule) == label));
        Ok(Marked { by_rule, ..marked(f64::from(right), record, &asked) })
    }

    /// log P(answer | "Answer:"), which no item changes.
    fn unconditional(&mut self, answers: &[String]) -> Result<Vec<f64>> {
        let unknown: Vec<&String> =
            answers.iter().filter(|answer| !self.unconditional.contains_key(*answer)).collect();
        if !unknown.is_empty() {
            let tokens: Vec<Vec<u32>> =
                unknown.iter().map(|answer| self.answer(NO_QUESTION, answer)).collect();
            let sums = self.sums(&self.tokenizer.encode_from_start(NO_QUESTION), &tokens)?;
            self.unconditional.extend(unknown.into_iter().cloned().zip(sums));
        }
        Ok(answers.iter().map(|answer| self.unconditional[answer]).collect())
    }

    fn sums(&mut self, prompt: &[u32], answers: &[Vec<u32>]) -> Result<Vec<f64>> {
        let answers: Vec<&[u32]> = answers.iter().map(Vec::as_slice).collect();
        let told = self.completer.score_continuations(prompt, &answers)?;
        Ok(told.iter().map(|tokens| tokens.iter().map(|token| token.logprob).sum()).collect())
    }
}

/// The tokens of ` answer` after `asked`: those of both texts together beyond those of the first alone.
pub(super) fn tokens_of_answer(tokenizer: &Tokenizer, asked: &str, answer: &str) -> Vec<u32> {
    let before = tokenizer.encode(asked).len();
    let whole = tokenizer.encode(&format!("{asked} {}", answer.trim_start()));
    whole[before.min(whole.len())..].to_vec()
}
