//! Text in, text out: the engine between a tokenizer's two ends, with stop strings and streaming.

mod stream;

pub use stream::{Certain, TextStream};

use crate::model::{
    Beams, Config, Engine, Finish, Generated, NotFinite, Request, SCORES, Sampling, TokenLogprob, Weights,
};
use anyhow::{Context, Result, ensure};
use kernels::Backend;
use std::ops::ControlFlow;
use text::tokenizer::{FimTokens, Tokenizer};

/// Answers are told together as far as they take no more than the cache of so many whole contexts.
const TOLD_CONTEXTS: usize = 4;

/// How a text is continued.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Tokens to add at most.
    pub max_tokens: usize,
    /// How they are drawn.
    pub sampling: Sampling,
    /// Texts that end a completion; they are not part of it. They may begin and end anywhere in a token.
    pub stop: Vec<String>,
    /// What stands after the completion, for a model that has learned fill-in-the-middle.
    pub suffix: Option<String>,
    /// What is asked of the prompt, as [`Tokenizer::encode_task`] reads it, for a model that has learned task
    /// tokens. It stands between the prompt and the completion.
    pub task: Option<String>,
}

impl Default for Options {
    /// 128 tokens, drawn as they are, of plain text.
    fn default() -> Self {
        Options { max_tokens: 128, sampling: Sampling::default(), stop: Vec::new(), suffix: None, task: None }
    }
}

/// A continuation of a prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct Completion {
    /// What comes after the prompt.
    pub text: String,
    /// The tokens drawn; with a stop string the last of them may reach beyond `text`.
    pub tokens: Vec<u32>,
    /// Why it ended.
    pub finish: Finish,
    /// Tokens at the beginning of the prompt, and at the end of the suffix, that did not fit the context and
    /// were left out.
    pub dropped_tokens: usize,
}

/// A model and its tokenizer, ready to continue texts.
pub struct Completer<'a, B: Backend> {
    backend: &'a mut B,
    tokenizer: &'a Tokenizer,
    config: Config,
    /// Its cache grows with what it is asked.
    engine: Engine<B>,
    /// Texts that are continued at once, at most.
    slots: usize,
}

impl<'a, B: Backend> Completer<'a, B> {
    /// Prepares `weights` for continuing up to `slots` texts at once.
    ///
    /// # Errors
    /// The model scores texts instead of writing them; the tokenizer has more tokens than the model.
    pub fn new(
        backend: &'a mut B,
        config: &Config,
        weights: &Weights<B::Tensor>,
        tokenizer: &'a Tokenizer,
        slots: usize,
    ) -> Result<Self> {
        ensure!(config.n_label.is_none(), SCORES);
        ensure!(
            tokenizer.vocab_size() <= config.vocab_size,
            "the tokenizer has {} tokens but the model only {}: they do not belong together",
            tokenizer.vocab_size(),
            config.vocab_size
        );
        let engine = Engine::with_capacity(backend, config, weights, 1, 1).limited_to(tokenizer.vocab_size());
        Ok(Completer { backend, tokenizer, config: config.clone(), engine, slots })
    }

    /// Continues each prompt; `on_text(index, text)` hears each piece as soon as it is certain, and may end
    /// its text. Prompt `i` draws the random numbers of request `i`, so the same prompt given twice gets two
    /// continuations.
    ///
    /// # Errors
    /// A prompt is empty, and the tokenizer has no end-of-text token that could stand before it; there is a
    /// suffix, but the tokenizer has no tokens of fill-in-the-middle, or the context no room for them; there
    /// is a task, but the tokenizer has not its tokens, or the context no room for it, or a suffix is there
    /// as well; the model drew a token that the tokenizer does not have; its logits are not finite.
    pub fn complete(
        &mut self,
        prompts: &[&str],
        options: &Options,
        mut on_text: impl FnMut(usize, &str) -> ControlFlow<()>,
    ) -> Result<Vec<Completion>> {
        let mut dropped = Vec::with_capacity(prompts.len());
        ensure!(
            options.suffix.is_none() || options.task.is_none(),
            "a completion has a suffix or a task, not both"
        );
        let fim = options.suffix.as_ref().map(|_| self.tokenizer.fim()).transpose()?;
        let task = options.task.as_ref().map(|task| self.tokenizer.encode_task(task)).transpose()?;
        let mut stop_tokens = self.tokenizer.end_tokens();
        // A model that goes on after the middle begins another document.
        stop_tokens.extend(fim.into_iter().flat_map(|tokens| [tokens.prefix, tokens.middle, tokens.suffix]));
        let mut requests = Vec::with_capacity(prompts.len());
        for (number, prompt) in (0..).zip(prompts) {
            let (prompt, left_out) = match (&options.suffix, &fim) {
                (Some(suffix), Some(tokens)) => self.fit_gap(prompt, suffix, tokens, options.max_tokens)?,
                _ => self.fit(prompt, task.as_deref().unwrap_or(&[]), options.max_tokens)?,
            };
            dropped.push(left_out);
            requests.push(Request {
                prompt,
                max_tokens: options.max_tokens,
                sampling: options.sampling,
                number,
                stop_tokens: stop_tokens.clone(),
                ..Request::default()
            });
        }

        let mut completions = self.generate(&requests, &options.stop, &mut on_text)?;
        for (completion, dropped) in completions.iter_mut().zip(dropped) {
            completion.dropped_tokens = dropped;
        }
        Ok(completions)
    }

    /// Continues prompts of tokens; `on_text(index, text)` hears each piece as soon as it is certain, and may
    /// end its text.
    ///
    /// # Errors
    /// The model drew a token that the tokenizer does not have; its logits are not finite.
    pub fn generate(
        &mut self,
        requests: &[Request],
        stop: &[String],
        on_text: &mut dyn FnMut(usize, &str) -> ControlFlow<()>,
    ) -> Result<Vec<Completion>> {
        let mut streams: Vec<_> = requests.iter().map(|_| TextStream::new(stop)).collect();
        let mut failure = None;
        let longest =
            requests.iter().map(|request| request.prompt.len().saturating_add(request.max_tokens)).max();
        self.reserve(self.slots.min(requests.len()), longest.unwrap_or(0));
        let generated = self.engine.generate(self.backend, requests, |index, token| {
            let bytes = match self.tokenizer.token_bytes(token) {
                Ok(bytes) => bytes,
                Err(error) => {
                    failure.get_or_insert(error);
                    return ControlFlow::Break(());
                }
            };
            let stream = &mut streams[index];
            let Certain { text, stopped } = stream.push(bytes);
            let flow = if text.is_empty() { ControlFlow::Continue(()) } else { on_text(index, text) };
            if flow.is_break() {
                stream.end();
            }
            if stopped { ControlFlow::Break(()) } else { flow }
        });
        if let Some(error) = failure {
            return Err(error);
        }
        let finished = generated?.into_iter().zip(streams).enumerate();
        Ok(finished
            .map(|(index, (Generated { tokens, finish, .. }, mut stream))| {
                let rest = stream.finish();
                if !rest.is_empty() {
                    let _ = on_text(index, rest);
                }
                Completion { text: stream.into_text(), tokens, finish, dropped_tokens: 0 }
            })
            .collect())
    }

    /// What the model would say of each of `answers` after `prompt`, as [`Engine::score_continuations`] does.
    ///
    /// # Errors
    /// Its logits are not finite.
    pub fn score_continuations(
        &mut self,
        prompt: &[u32],
        answers: &[&[u32]],
    ) -> Result<Vec<Vec<TokenLogprob>>, NotFinite> {
        let positions = prompt.len() + answers.iter().map(|answer| answer.len()).max().unwrap_or(0);
        let together = TOLD_CONTEXTS * self.config.seq_len / positions.max(1);
        self.reserve(together.min(answers.len()), positions);
        self.engine.score_continuations(self.backend, prompt, answers)
    }

    /// The likeliest continuation that several beams find, as [`Engine::beam_search`] does.
    ///
    /// # Errors
    /// Its logits are not finite.
    pub fn beam_search(
        &mut self,
        prompt: &[u32],
        beams: &Beams,
        ends: impl Fn(&[u32]) -> bool,
    ) -> Result<Vec<u32>, NotFinite> {
        self.reserve(beams.width, prompt.len().saturating_add(beams.max_tokens));
        self.engine.beam_search(self.backend, prompt, beams, ends)
    }

    /// Room for what is asked next, within the context.
    fn reserve(&mut self, slots: usize, positions: usize) {
        let positions = positions.clamp(1, self.config.seq_len);
        self.engine.reserve(self.backend, slots.max(1), positions);
    }

    /// Keeps room for whole contexts, so that what is said again, such as the beginning of a conversation, is
    /// read once. Memory that is not written to costs nothing.
    pub fn hold_contexts(&mut self) {
        self.reserve(self.slots, self.config.seq_len);
    }

    /// The positions of the context.
    pub fn context(&self) -> usize {
        self.config.seq_len
    }

    /// The prompt's tokens, without as many of the first as the context cannot hold, and those of the task.
    /// An empty prompt without a task becomes the beginning of a document.
    ///
    /// # Errors
    /// The tokenizer has nothing to begin with; the task does not fit.
    pub fn fit(&self, prompt: &str, task: &[u32], max_tokens: usize) -> Result<(Vec<u32>, usize)> {
        let text = self.tokenizer.encode(prompt);
        let mut tokens: Vec<u32> = self.tokenizer.start().into_iter().collect();
        if tokens.is_empty() && text.is_empty() && task.is_empty() {
            let begin = self.tokenizer.end_of_text();
            tokens
                .push(begin.context("the tokenizer has no end-of-text token to begin with: give a prompt")?);
        }
        let room = self.token_budget(max_tokens).checked_sub(tokens.len() + task.len());
        let dropped = text.len().saturating_sub(room.context("the context is too short for the task")?);
        tokens.extend_from_slice(&text[dropped..]);
        tokens.extend(task);
        Ok((tokens, dropped))
    }

    /// The prompt of a gap between `prefix` and `suffix`. Where the context cannot hold both, what is
    /// farthest from the gap is left out: the suffix keeps half of the room, or what the prefix does not
    /// need.
    fn fit_gap(
        &self,
        prefix: &str,
        suffix: &str,
        fim: &FimTokens,
        max_tokens: usize,
    ) -> Result<(Vec<u32>, usize)> {
        let (prefix, suffix) = (self.tokenizer.encode(prefix), self.tokenizer.encode(suffix));
        let start = self.tokenizer.start();
        let room = self.token_budget(max_tokens).checked_sub(start.iter().len() + fim.psm(&[], &[]).len());
        let room = room.context("the context is too short for fill-in-the-middle")?;
        let (prefix_len, suffix_len) = share(room, prefix.len(), suffix.len());
        let gap = fim.psm(&prefix[prefix.len() - prefix_len..], &suffix[..suffix_len]);
        let prompt = start.into_iter().chain(gap).collect();
        Ok((prompt, prefix.len() - prefix_len + suffix.len() - suffix_len))
    }

    /// Tokens that a prompt may have: there must be room for the continuation, though never more than half
    /// the context.
    pub fn token_budget(&self, max_tokens: usize) -> usize {
        self.config.seq_len - max_tokens.min(self.config.seq_len / 2)
    }
}

/// How many tokens of a prefix and a suffix `room` holds: the suffix gets half of it, or what the prefix does
/// not need.
fn share(room: usize, prefix: usize, suffix: usize) -> (usize, usize) {
    let suffix = suffix.min((room / 2).max(room.saturating_sub(prefix)));
    (prefix.min(room - suffix), suffix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefix_and_suffix_share_the_room() {
        for (room, prefix, suffix, want) in [
            (10, 3, 4, (3, 4)),
            (10, 20, 30, (5, 5)),
            (10, 20, 2, (8, 2)),
            (10, 2, 20, (2, 8)),
            (11, 20, 30, (6, 5)),
            (0, 2, 3, (0, 0)),
        ] {
            assert_eq!(share(room, prefix, suffix), want, "{room} {prefix} {suffix}");
        }
    }
}
