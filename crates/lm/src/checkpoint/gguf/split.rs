//! How text is cut into words before its byte pairs are merged: a name in a GGUF file (`tokenizer.ggml.pre`),
//! spelled out in a `tokenizer.json`.

use anyhow::{Context, Result};
use serde_json::{Value, json};

/// A way of cutting text, and the names under which files ask for it.
pub(super) struct Split {
    /// The first one is written.
    names: &'static [&'static str],
    cut: Cut,
    /// Whether a word that the vocabulary has is never merged from its parts.
    pub(super) ignore_merges: bool,
    /// Whether the published `tokenizer.json` composes characters (NFC) first; programs that read GGUF do
    /// not.
    composes: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Cut {
    /// GPT-2's pattern.
    Gpt2,
    /// Each digit alone, the rest by GPT-2's pattern.
    Digits,
    /// A pattern of their own.
    Pattern(&'static str),
}

/// Those whose `tokenizer.json` is known.
const KNOWN: &[Split] = &[
    Split {
        names: &["gpt-2", "phi-2", "mpt", "olmo"],
        cut: Cut::Gpt2,
        ignore_merges: false,
        composes: false,
    },
    Split {
        names: &["smollm", "starcoder", "refact", "codeshell"],
        cut: Cut::Digits,
        ignore_merges: false,
        composes: false,
    },
    Split {
        names: &["llama-bpe", "llama3", "llama-v3", "falcon3"],
        cut: Cut::Pattern(LLAMA_3),
        ignore_merges: true,
        composes: false,
    },
    Split {
        names: &["smaug-bpe", "dbrx"],
        cut: Cut::Pattern(LLAMA_3),
        ignore_merges: false,
        composes: false,
    },
    Split { names: &["tekken"], cut: Cut::Pattern(TEKKEN), ignore_merges: true, composes: false },
    Split {
        names: &["qwen2", "deepseek-r1-qwen"],
        cut: Cut::Pattern(QWEN_2),
        ignore_merges: false,
        composes: true,
    },
];

const LLAMA_3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

const QWEN_2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

impl Split {
    /// The one of this name.
    pub(super) fn named(name: &str) -> Result<&'static Split> {
        let found = KNOWN.iter().find(|split| split.names.contains(&name));
        found.with_context(|| {
            format!("tokenizer.ggml.pre {name:?} is not supported; known are {}", known_names().join(", "))
        })
    }

    /// The one that a `tokenizer.json` spells out.
    pub(super) fn of(tokenizer: &Value) -> Result<&'static Split> {
        let ignore_merges = tokenizer["model"]["ignore_merges"] == true;
        let normalizer = &tokenizer["normalizer"];
        let found = KNOWN.iter().find(|split| {
            let normalizes = normalizer.is_null() || (split.composes && normalizer["type"] == "NFC");
            normalizes && split.ignore_merges == ignore_merges && split.cut.is(&tokenizer["pre_tokenizer"])
        });
        found.with_context(|| {
            format!(
                "no program that reads GGUF would cut text as this tokenizer.json does (normalizer {normalizer}, \
                 pre_tokenizer {}, ignore_merges {ignore_merges}); it can be written where it is that of {}",
                tokenizer["pre_tokenizer"],
                known_names().join(", ")
            )
        })
    }

    /// Its name in a file.
    pub(super) fn name(&self) -> &'static str {
        self.names[0]
    }

    /// `normalizer` of a `tokenizer.json`.
    pub(super) fn normalizer(&self) -> Value {
        if self.composes { json!({ "type": "NFC" }) } else { Value::Null }
    }

    /// `pre_tokenizer` of a `tokenizer.json`.
    pub(super) fn pre_tokenizer(&self) -> Value {
        let sequence = |first: Value, use_regex: bool| json!({ "type": "Sequence", "pretokenizers": [first, byte_level(use_regex)] });
        match self.cut {
            Cut::Gpt2 => byte_level(true),
            Cut::Digits => sequence(json!({ "type": "Digits", "individual_digits": true }), true),
            Cut::Pattern(pattern) => {
                let pattern = json!({ "Regex": pattern });
                sequence(
                    json!({ "type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": false }),
                    false,
                )
            }
        }
    }
}

impl Cut {
    /// Whether a `pre_tokenizer` of a `tokenizer.json` cuts so.
    fn is(self, pre_tokenizer: &Value) -> bool {
        let is_byte_level = |part: &Value, use_regex: bool| {
            part["type"] == "ByteLevel"
                && part["add_prefix_space"] == false
                && part.get("use_regex").unwrap_or(&Value::Bool(true)) == use_regex
        };
        let parts = pre_tokenizer["pretokenizers"].as_array().map_or(&[][..], Vec::as_slice);
        match (self, parts) {
            (Cut::Gpt2, []) => is_byte_level(pre_tokenizer, true),
            (Cut::Gpt2, [only]) => is_byte_level(only, true),
            (Cut::Digits, [first, second]) => {
                first["type"] == "Digits" && first["individual_digits"] == true && is_byte_level(second, true)
            }
            (Cut::Pattern(pattern), [first, second]) => {
                first["type"] == "Split"
                    && first["pattern"]["Regex"] == pattern
                    && first["behavior"] == "Isolated"
                    && first["invert"] == false
                    && is_byte_level(second, false)
            }
            _ => false,
        }
    }
}

/// GPT-2's alphabet of bytes, with its pattern or without.
pub(super) fn byte_level(use_regex: bool) -> Value {
    json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex })
}

fn known_names() -> Vec<&'static str> {
    KNOWN.iter().flat_map(|split| split.names).copied().collect()
}
