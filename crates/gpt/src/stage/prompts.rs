//! Prompts as tokens: which of them can be answered within the context.

use crate::data::{Prompt, Prompter};
use crate::progress::Progress;
use crate::tokenizer::Tokenizer;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::collections::HashSet;

/// A prompt and the tokens that ask it.
pub(super) struct TokenizedPrompt<'a> {
    pub(super) prompt: &'a Prompt,
    pub(super) tokens: Vec<u32>,
}

impl TokenizedPrompt<'_> {
    /// What a person would read: the last message.
    pub(super) fn text(&self) -> String {
        self.prompt.messages.last().map_or_else(String::new, |message| message.content.clone())
    }
}

/// The prompts with their tokens, which tell of `tools`, or of those that a prompt names; without those of more than `room` tokens, of which `progress` hears.
///
/// # Errors
/// A prompt cannot be rendered; none is left.
pub(super) fn ask<'a>(
    what: &str,
    prompts: &'a [Prompt],
    prompter: &Prompter<&Tokenizer>,
    tools: Option<&Value>,
    room: usize,
    progress: &dyn Progress,
) -> Result<Vec<TokenizedPrompt<'a>>> {
    ensure!(
        !prompts.is_empty(),
        "{what}: there are none; give more prompts, or some to measure with in a file of their own (--val)"
    );
    let mut asked = Vec::with_capacity(prompts.len());
    for (number, prompt) in (1..).zip(prompts) {
        let tokens = prompter
            .prompt_with(&prompt.messages, tools.or_else(|| prompt.extra.get("tools")))
            .with_context(|| format!("{what}, prompt {number}"))?;
        asked.push(TokenizedPrompt { prompt, tokens });
    }
    let shortest = asked.iter().map(|asked| asked.tokens.len()).min();
    let longest = asked.iter().map(|asked| asked.tokens.len()).max();
    asked.retain(|asked| asked.tokens.len() <= room);
    let dropped = prompts.len() - asked.len();
    ensure!(
        !asked.is_empty(),
        "{what}: none of the {} prompts has at most {room} tokens, so that an answer fits the context (the shortest has {}): give \
         a smaller max_tokens, or shorter prompts",
        prompts.len(),
        shortest.unwrap_or(0)
    );
    if dropped > 0 {
        progress.line(&format!(
            "{what}: {dropped} of {} prompts have more than {room} tokens (the longest {}) and are left out",
            prompts.len(),
            longest.unwrap_or(0)
        ));
    }
    Ok(asked)
}

/// Says so where some of the prompts that are measured with are learned from as well.
pub(super) fn tell_shared(
    prompts: &[TokenizedPrompt<'_>],
    held_out: &[TokenizedPrompt<'_>],
    progress: &dyn Progress,
) {
    let learned: HashSet<&[u32]> = prompts.iter().map(|asked| &asked.tokens[..]).collect();
    let shared = held_out.iter().filter(|asked| learned.contains(&asked.tokens[..])).count();
    if shared > 0 {
        progress.line(&format!(
            "note: {shared} of the {} prompts to measure with are among those that are learned from: what is measured of them \
             tells nothing of other prompts; give others with --val",
            held_out.len()
        ));
    }
}

/// A digest of the prompts, of training and held out, with their keys.
pub(super) fn digest(prompts: &[Prompt], held_out: &[Prompt]) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    for prompts in [prompts, held_out] {
        hasher.update(&serde_json::to_vec(prompts)?);
    }
    Ok(hasher.finalize().to_hex().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stage::heard::Heard;

    #[test]
    fn prompts_that_are_learned_from_and_measured_with_are_told() {
        let prompt = Prompt { messages: Vec::new(), extra: serde_json::Map::new() };
        let asked = |tokens: &[u32]| TokenizedPrompt { prompt: &prompt, tokens: tokens.into() };
        let heard = Heard::default();
        let learned = [asked(&[1, 2]), asked(&[3])];
        tell_shared(&learned, &[asked(&[2, 1]), asked(&[4])], &heard);
        assert!(heard.lines().is_empty());
        tell_shared(&learned, &[asked(&[3]), asked(&[4])], &heard);
        let said = heard.lines();
        assert!(said.len() == 1 && said[0].starts_with("note: 1 of the 2 prompts"), "{said:?}");
    }
}
