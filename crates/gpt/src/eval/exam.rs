//! A model in an examination: what it says of a task's items, after none, one or several examples (Brown et al. 2020, §2.4).
//!
//! An example is an item with its right answer; examples are separated by a blank line and come before the item. Choices are compared
//! by likelihood under three rules, free answers are written to the end of a line.

use super::figures::{Figures, summary};
use super::overlap::Overlap;
use super::task::{Item, Task, Wanted};
use crate::model::{Config, Engine, SCORES, Told, Weights};
use crate::progress::{Progress, Stopped, Unit};
use crate::tokenizer::Tokenizer;
use anyhow::{Result, bail, ensure};
use kernels::Backend;
use serde_json::{Map, Value, json};
use std::collections::HashMap;

/// How the likelihoods of answers are compared (Brown et al. 2020, §2.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rule {
    /// log P(answer | question).
    Sum,
    /// The same divided by the number of the answer's tokens.
    #[default]
    PerToken,
    /// log P(answer | question) - log P(answer | "Answer:"): how much more likely the question makes it.
    Normalised,
}

impl Rule {
    /// All of them.
    pub const ALL: [Rule; 3] = [Rule::Sum, Rule::PerToken, Rule::Normalised];

    /// As it is typed.
    pub fn name(self) -> &'static str {
        match self {
            Rule::Sum => "sum",
            Rule::PerToken => "per-token",
            Rule::Normalised => "normalised",
        }
    }
}

/// What stands before an answer where nothing is asked.
const NO_QUESTION: &str = "Answer:";

/// How a model is examined.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Terms {
    /// Examples before an item.
    pub shots: usize,
    /// By which a choice is judged; the others are told, too.
    pub rule: Rule,
    /// Draws the examples.
    pub seed: u64,
    /// Beams of a free answer; 1 takes the likeliest token each time.
    pub beams: usize,
    /// Tokens of a free answer at most.
    pub max_tokens: usize,
}

/// What came of an examination.
#[derive(Clone, Debug)]
pub struct Exam {
    /// The task's figures.
    pub figures: Figures,
    /// Every item with its exact prompt and what the model said of it.
    pub items: Vec<Map<String, Value>>,
    /// What every item contributes to the figure: 1 where it is right; of texts, bits per byte.
    pub scores: Vec<f64>,
}

/// A model that is examined.
pub struct Candidate<'a, B: Backend> {
    pub(super) backend: &'a mut B,
    pub(super) engine: Engine<B::Tensor>,
    pub(super) tokenizer: &'a Tokenizer,
    context: usize,
    /// Log-probabilities of answers where nothing is asked.
    unconditional: HashMap<String, f64>,
}

/// A prompt as tokens.
pub(super) struct Asked {
    pub(super) text: String,
    pub(super) tokens: Vec<u32>,
    /// Examples that the context had no room for, and tokens at the beginning of what is asked.
    left_out: usize,
    cut: usize,
}

/// What an item gave.
pub(super) struct Marked {
    pub(super) score: f64,
    pub(super) record: Map<String, Value>,
    /// Right or not under every rule, of choices.
    pub(super) by_rule: Option<[bool; 3]>,
    /// Log-probability, tokens and bytes, of texts and last words.
    pub(super) likelihood: Option<(f64, usize, usize)>,
    /// Of free answers F1; of lines how similar they are.
    pub(super) likeness: Option<f64>,
    pub(super) left_out: usize,
    pub(super) cut: usize,
    /// Whether it shares words with the corpus, if anybody looked.
    pub(super) overlaps: Option<bool>,
}

impl<'a, B: Backend> Candidate<'a, B> {
    /// Prepares a model; free answers can have up to `beams` beams.
    ///
    /// # Errors
    /// The model scores texts instead of predicting them.
    pub fn new(
        backend: &'a mut B,
        config: &Config,
        weights: &Weights<B::Tensor>,
        tokenizer: &'a Tokenizer,
        beams: usize,
    ) -> Result<Self> {
        ensure!(config.n_label.is_none(), SCORES);
        let engine = Engine::new(backend, config, weights, beams.max(1)).limited_to(tokenizer.vocab_size());
        let unconditional = HashMap::new();
        Ok(Candidate { engine, context: config.seq_len, backend, tokenizer, unconditional })
    }

    /// Examines the model in a task; `overlap` is what the task shares with the model's corpus, if anybody looked.
    ///
    /// # Errors
    /// An item does not fit the context; somebody asked to stop.
    pub fn examine(
        &mut self,
        task: &Task,
        terms: &Terms,
        overlap: Option<&Overlap>,
        progress: &dyn Progress,
    ) -> Result<Exam> {
        let mut marked: Vec<Marked> = Vec::with_capacity(task.items.len());
        progress.begin(
            &format!("{} ({} shots)", task.name, terms.shots),
            task.items.len() as u64,
            Unit::Count,
        );
        for (index, item) in task.items.iter().enumerate() {
            if progress.should_stop() {
                bail!(Stopped("the examination was not finished"));
            }
            match &item.wanted {
                Wanted::Text => marked.extend(self.text(&item.asked)),
                _ => marked.push(self.item(task, index, terms)?),
            }
            if let Some(overlap) = overlap {
                let new = marked.iter_mut().filter(|marked| marked.overlaps.is_none());
                new.for_each(|marked| marked.overlaps = Some(overlap.items[index]));
            }
            progress.advance(1);
        }
        progress.end();
        let all: Vec<&Marked> = marked.iter().collect();
        let mut figures = summary(task, terms, &all);
        if let Some(overlap) = overlap {
            let clean: Vec<&Marked> = all.into_iter().filter(|one| one.overlaps == Some(false)).collect();
            let value = (!clean.is_empty()).then(|| summary(task, terms, &clean).interval);
            let told = json!({
                "gram_words": overlap.gram_words, "overlapping": figures.n - clean.len(), "clean": value,
            });
            figures.more.insert("contamination".to_owned(), told);
        }
        let scores = marked.iter().map(|marked| marked.score).collect();
        let items = (0..).zip(marked).map(|(number, marked): (u64, Marked)| {
            let head = [("task", json!(task.name)), ("shots", json!(terms.shots)), ("item", json!(number))];
            let head = head.map(|(name, value)| (name.to_owned(), value));
            let overlaps = marked.overlaps.map(|overlaps| ("overlaps".to_owned(), overlaps.into()));
            head.into_iter().chain(marked.record).chain(overlaps).collect()
        });
        Ok(Exam { figures, items: items.collect(), scores })
    }

    fn item(&mut self, task: &Task, index: usize, terms: &Terms) -> Result<Marked> {
        let item = &task.items[index];
        let shots = task.shots(index, terms.shots, terms.seed);
        match &item.wanted {
            Wanted::Choice { answers, label } => self.choice(item, &shots, answers, *label, terms.rule),
            Wanted::Free(answers) => self.free(item, &shots, answers, terms),
            Wanted::LastWord(word) => self.last_word(item, &shots, word),
            Wanted::NextLine(line) => self.next_line(item, line, terms),
            Wanted::Text => unreachable!("texts are taken apart into windows"),
        }
    }

    /// Examples and item, as many examples as fit beside `room` tokens of an answer.
    pub(super) fn ask(&self, item: &Item, shots: &[&Item], room: usize) -> Result<Asked> {
        ensure!(
            room < self.context,
            "an answer of {room} tokens does not fit the context of {}: allow shorter ones (--max-tokens)",
            self.context
        );
        let fits = |tokens: &[u32]| tokens.len() + room <= self.context;
        for left_out in 0..=shots.len() {
            let shown =
                shots[left_out..].iter().map(|shot| format!("{} {}\n\n", shot.asked, shot.right_answer()));
            let text = shown.collect::<String>() + &item.asked;
            let tokens = self.tokenizer.encode(&text);
            if fits(&tokens) && !tokens.is_empty() {
                return Ok(Asked { text, tokens, left_out, cut: 0 });
            }
        }
        let tokens = self.tokenizer.encode(&item.asked);
        ensure!(!tokens.is_empty(), "an item asks nothing");
        let cut = tokens.len() + room - self.context;
        let tokens = tokens[cut..].to_vec();
        Ok(Asked { text: self.tokenizer.decode(&tokens)?, tokens, left_out: shots.len(), cut })
    }

    /// The tokens of ` answer` after `asked`: those of both texts together beyond those of the first alone.
    fn answer(&self, asked: &str, answer: &str) -> Vec<u32> {
        let before = self.tokenizer.encode(asked).len();
        let whole = self.tokenizer.encode(&format!("{asked} {}", answer.trim_start()));
        whole[before.min(whole.len())..].to_vec()
    }

    fn choice(
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
        let sums = self.sums(&asked.tokens, &tokens);
        let alone = self.unconditional(answers);
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
    fn unconditional(&mut self, answers: &[String]) -> Vec<f64> {
        let unknown: Vec<&String> =
            answers.iter().filter(|answer| !self.unconditional.contains_key(*answer)).collect();
        if !unknown.is_empty() {
            let tokens: Vec<Vec<u32>> =
                unknown.iter().map(|answer| self.answer(NO_QUESTION, answer)).collect();
            let sums = self.sums(&self.tokenizer.encode(NO_QUESTION), &tokens);
            self.unconditional.extend(unknown.into_iter().cloned().zip(sums));
        }
        answers.iter().map(|answer| self.unconditional[answer]).collect()
    }

    fn sums(&mut self, prompt: &[u32], answers: &[Vec<u32>]) -> Vec<f64> {
        let answers: Vec<&[u32]> = answers.iter().map(Vec::as_slice).collect();
        let told = self.engine.tell(self.backend, prompt, &answers);
        told.iter().map(|tokens| tokens.iter().map(|token| token.logprob).sum()).collect()
    }

    fn last_word(&mut self, item: &Item, shots: &[&Item], word: &str) -> Result<Marked> {
        let tokens = self.answer(&item.asked, word);
        let asked = self.ask(item, shots, tokens.len())?;
        let told: Vec<Told> = self.engine.tell(self.backend, &asked.tokens, &[&tokens]).remove(0);
        let logprob: f64 = told.iter().map(|token| token.logprob).sum();
        let right = told.iter().all(|token| token.is_best);
        let record = json!({ "prompt": asked.text, "word": word, "logprob": logprob, "right": right });
        let likelihood = Some((logprob, tokens.len(), word.len() + 1));
        Ok(Marked { likelihood, ..marked(f64::from(right), record, &asked) })
    }

    /// A text in windows of the whole context, each of which begins with the last token of the one before; the first with the end of
    /// another text, where the tokenizer has such a token.
    fn text(&mut self, text: &str) -> Vec<Marked> {
        let mut tokens: Vec<u32> = self.tokenizer.end_of_text().into_iter().collect();
        tokens.extend(self.tokenizer.encode(text));
        let mut windows = Vec::new();
        let mut start = 0;
        while start + 1 < tokens.len() {
            let end = (start + 1 + self.context).min(tokens.len());
            let window = &tokens[start + 1..end];
            let told = self.engine.tell(self.backend, &tokens[start..=start], &[window]).remove(0);
            let logprob: f64 = told.iter().map(|token| token.logprob).sum();
            let bytes = self.tokenizer.decode_bytes(window).map_or(0, |bytes| bytes.len()).max(1);
            let bits = -logprob / std::f64::consts::LN_2 / bytes as f64;
            let record = json!({ "logprob": logprob, "tokens": window.len(), "bytes": bytes });
            let asked = Asked { text: String::new(), tokens: Vec::new(), left_out: 0, cut: 0 };
            let likelihood = Some((logprob, window.len(), bytes));
            windows.push(Marked { likelihood, ..marked(bits, record, &asked) });
            start = end - 1;
        }
        windows
    }
}

pub(super) fn marked(score: f64, record: Value, asked: &Asked) -> Marked {
    let mut record = match record {
        Value::Object(record) => record,
        _ => Map::new(),
    };
    for (name, count) in [("examples_left_out", asked.left_out), ("tokens_cut", asked.cut)] {
        if count > 0 {
            record.insert(name.to_owned(), count.into());
        }
    }
    let (left_out, cut) = (asked.left_out, usize::from(asked.cut > 0));
    Marked { score, record, by_rule: None, likelihood: None, likeness: None, left_out, cut, overlaps: None }
}
