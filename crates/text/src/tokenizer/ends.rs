//! The tokens that end a text: those of a tokenizer's files, and those that the files of its model name
//! besides.

use super::{Tokenizer, chat};

impl Tokenizer {
    /// The token that ends a document: `<|endoftext|>`, else the `eos_token` of its files. GPT-1's has none.
    pub fn end_of_text(&self) -> Option<u32> {
        self.end_of_text
    }

    /// The token that ends what a model says, the `eos_token` of its files: of a chat model that is the end
    /// of an answer. Else [`end_of_text`](Self::end_of_text).
    pub fn eos(&self) -> Option<u32> {
        let names = chat::token_names(self).unwrap_or_default();
        let eos = names.iter().find(|(name, _)| name == "eos_token");
        eos.and_then(|(_, token)| self.special(token)).or(self.end_of_text)
    }

    /// This tokenizer with further tokens that end a text, as a model's own files name them; ids that it has
    /// not are left out.
    #[must_use]
    pub fn with_ends(mut self, ids: impl IntoIterator<Item = u32>) -> Tokenizer {
        for id in ids {
            if self.token_bytes(id).is_ok() && !self.ends.contains(&id) {
                self.ends.push(id);
            }
        }
        self
    }

    /// The tokens that end a text when one of them is drawn: [`end_of_text`](Self::end_of_text),
    /// [`eos`](Self::eos), and what the model's own files name.
    pub fn end_tokens(&self) -> Vec<u32> {
        let mut ends: Vec<u32> = Vec::new();
        for id in self.end_of_text.into_iter().chain(self.eos()).chain(self.ends.iter().copied()) {
            if !ends.contains(&id) {
                ends.push(id);
            }
        }
        ends
    }
}
