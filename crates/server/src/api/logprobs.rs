//! Log-probabilities as clients read them.

use lm::model::Logprobs;
use serde::Serialize;
use std::collections::BTreeMap;
use text::tokenizer::Utf8Stream;
use utoipa::ToSchema;

use crate::model::Model;
use crate::worker::Token;

/// Those of a chat's answer.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ChatLogprobs {
    pub(crate) content: Vec<ChatLogprob>,
    pub(crate) refusal: Option<String>,
}

/// That of one token.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ChatLogprob {
    #[serde(flatten)]
    token: Named,
    top_logprobs: Vec<Named>,
}

/// A token and its log-probability.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Named {
    /// Its number in the vocabulary.
    id: u32,
    /// Its text; U+FFFD for what is no whole character.
    token: String,
    /// Natural logarithm.
    logprob: f64,
    bytes: Vec<u8>,
}

impl Named {
    pub(super) fn new(model: &Model, id: u32, logprob: f64) -> Named {
        let bytes = model.bytes(id).to_vec();
        Named { id, token: String::from_utf8_lossy(&bytes).into_owned(), logprob, bytes }
    }
}

/// Those of an answer's tokens.
pub(crate) fn of_chat(model: &Model, tokens: &[Token]) -> ChatLogprobs {
    let entry = |token: &Token| {
        let Logprobs { logprob, top } = token.logprobs.as_ref()?;
        let top_logprobs = top.iter().map(|&(id, logprob)| Named::new(model, id, logprob)).collect();
        Some(ChatLogprob { token: Named::new(model, token.id, *logprob), top_logprobs })
    };
    ChatLogprobs { content: tokens.iter().filter_map(entry).collect(), refusal: None }
}

/// Those of a completion, its prompt's among them where it is echoed.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct CompletionLogprobs {
    tokens: Vec<String>,
    /// None for the first of a prompt.
    token_logprobs: Vec<Option<f64>>,
    top_logprobs: Vec<Option<BTreeMap<String, f64>>>,
    /// Characters before each token.
    text_offset: Vec<usize>,
}

/// Where the tokens of a completion stand in its text.
#[derive(Debug, Default)]
pub(crate) struct Offset {
    text: Utf8Stream,
    characters: usize,
}

impl Offset {
    /// Characters before a token, which is passed.
    pub(crate) fn pass(&mut self, bytes: &[u8]) -> usize {
        let before = self.characters;
        self.characters += self.text.push(bytes).chars().count();
        before
    }
}

impl CompletionLogprobs {
    /// Adds a token; none of the logprobs for the first of a prompt.
    pub(crate) fn push(&mut self, model: &Model, offset: &mut Offset, id: u32, logprobs: Option<&Logprobs>) {
        let bytes = model.bytes(id);
        self.text_offset.push(offset.pass(bytes));
        self.tokens.push(name(bytes));
        self.token_logprobs.push(logprobs.map(|it| it.logprob));
        let top =
            logprobs.map(|it| it.top.iter().map(|&(id, logprob)| (name(model.bytes(id)), logprob)).collect());
        self.top_logprobs.push(top);
    }
}

/// A token's text; its bytes in hexadecimal where it is none, so that two tokens have two names.
fn name(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().fold("bytes:".to_owned(), |name, byte| name + &format!("\\x{byte:02x}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_count_characters_that_are_whole() {
        let mut offset = Offset::default();
        let bytes = "a🙂b".as_bytes();
        let offsets: Vec<usize> = [&bytes[..1], &bytes[1..3], &bytes[3..5], &bytes[5..]]
            .into_iter()
            .map(|bytes| offset.pass(bytes))
            .collect();
        assert_eq!(offsets, [0, 1, 1, 2]);
        assert_eq!((name(b"ab"), name(&bytes[1..3])), ("ab".into(), "bytes:\\xf0\\x9f".into()));
    }
}
