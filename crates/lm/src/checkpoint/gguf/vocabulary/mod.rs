//! A tokenizer in a GGUF file ⇄ `tokenizer.json` and `tokenizer_config.json`. Byte-level vocabularies go both
//! ways; others are refused by name.

mod read;
mod write;

pub(in super::super) use read::read;
pub(super) use write::write;

const MODEL: &str = "tokenizer.ggml.model";
const PRE: &str = "tokenizer.ggml.pre";
const TOKENS: &str = "tokenizer.ggml.tokens";
const TYPES: &str = "tokenizer.ggml.token_type";
const MERGES: &str = "tokenizer.ggml.merges";
const ADD_BOS: &str = "tokenizer.ggml.add_bos_token";
const TEMPLATE: &str = "tokenizer.chat_template";

/// Byte-level byte pair encoding, as `tokenizer.ggml.model` says it.
const BYTE_LEVEL: &str = "gpt2";

/// Tokens with a meaning: their key in the file, and in `tokenizer_config.json`.
const ROLES: [(&str, &str); 4] = [
    ("tokenizer.ggml.bos_token_id", "bos_token"),
    ("tokenizer.ggml.eos_token_id", "eos_token"),
    ("tokenizer.ggml.unknown_token_id", "unk_token"),
    ("tokenizer.ggml.padding_token_id", "pad_token"),
];

/// What a token is, as the file numbers it.
mod token_type {
    pub(super) const NORMAL: i32 = 1;
    /// A special token.
    pub(super) const CONTROL: i32 = 3;
    /// Found in text before it is cut, yet text.
    pub(super) const USER_DEFINED: i32 = 4;
    /// There only so that the embedding has no row without a token.
    pub(super) const UNUSED: i32 = 5;
}
