//! Fill-in-the-middle: the special tokens that tell a model what stands before and after a gap, and their
//! order.

use super::Tokenizer;
use anyhow::{Result, bail};

/// `<PRE>`, `<MID>` and `<SUF>` by name: as Qwen and CodeGemma write them, and as StarCoder does.
const NAMES: [[&str; 3]; 2] = [
    ["<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>"],
    ["<fim_prefix>", "<fim_middle>", "<fim_suffix>"],
];

/// Whether an added token is one of these. They are special whatever its file says: some files mark them as
/// text.
pub(super) fn is_name(name: &str) -> bool {
    NAMES.as_flattened().contains(&name)
}

/// The special tokens of fill-in-the-middle (Bavarian et al. 2022).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FimTokens {
    /// `<PRE>`: what stands before the gap follows.
    pub prefix: u32,
    /// `<MID>`: what fills the gap follows.
    pub middle: u32,
    /// `<SUF>`: what stands after the gap follows.
    pub suffix: u32,
}

impl FimTokens {
    /// `<PRE> prefix <SUF> suffix <MID>`, which the middle continues: the order prefix, suffix, middle (PSM).
    pub fn psm(&self, prefix: &[u32], suffix: &[u32]) -> Vec<u32> {
        [&[self.prefix], prefix, &[self.suffix], suffix, &[self.middle]].concat()
    }

    /// `<PRE> <SUF> suffix <MID> prefix`, which the middle continues: the order suffix, prefix, middle (SPM),
    /// in the paper's second variant, made for training together with PSM: what follows `<MID>` ends with the
    /// middle.
    pub fn spm(&self, prefix: &[u32], suffix: &[u32]) -> Vec<u32> {
        [&[self.prefix, self.suffix], suffix, &[self.middle], prefix].concat()
    }
}

impl Tokenizer {
    /// Its special tokens of fill-in-the-middle.
    ///
    /// # Errors
    /// It does not have all three; says how to get them.
    pub fn fim(&self) -> Result<FimTokens> {
        for names in NAMES {
            if let [Some(prefix), Some(middle), Some(suffix)] = names.map(|name| self.special(name)) {
                return Ok(FimTokens { prefix, middle, suffix });
            }
        }
        let flags = NAMES[0].map(|name| format!("--special '{name}'")).join(" ");
        bail!(
            "the tokenizer has no special tokens for fill-in-the-middle: make it with `mynah tokenizer train … {flags}`, \
             or add them to another with `mynah tokenizer extend … {flags}`"
        )
    }
}
