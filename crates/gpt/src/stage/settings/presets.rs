//! The recipes that come with the program, and changes of them.

use crate::nearest::did_you_mean;
use anyhow::{Context, Result, bail};

macro_rules! presets {
    ($($name:literal)+) => {
        [$(($name, include_str!(concat!("../../../../../presets/", $name, ".toml")))),+]
    };
}

/// The presets that come with the program, by name.
pub const PRESETS: [(&str, &str); 23] = presets! {
    "tiny" "nano" "baby" "gpt1" "gpt2" "gpt2-medium" "gpt2-large" "gpt2-xl"
    "gpt3-small" "gpt3-medium" "gpt3-large" "gpt3-xl" "gpt3-2.7b" "gpt3-6.7b" "gpt3-13b" "gpt3-175b"
    "modern-tiny" "modern-nano" "modern-baby" "modern-small" "modern-medium" "modern-large" "modern-xl"
};

/// The tokens of the vocabulary that a preset's shape usually has: those of GPT-1 and GPT-2, and fewer for
/// shapes that are smaller. A recipe leaves it to the tokenizer.
pub fn usual_vocab_size(preset: &str) -> usize {
    if ["tiny", "nano", "baby"].iter().any(|small| preset.ends_with(small)) {
        return 8_192;
    }
    if preset == "gpt1" { 40_478 } else { 50_257 }
}

/// How to train further where no preset is named.
const CONTINUE: &str = include_str!("../../../../../presets/continue.toml");

/// The table for training further where no preset is named.
pub(super) fn continuing() -> Result<toml::Table> {
    parse("continue", CONTINUE)
}

/// The table of a preset or of a TOML file.
pub(super) fn table(name: &str) -> Result<toml::Table> {
    if let Some((_, text)) = PRESETS.iter().find(|preset| preset.0 == name) {
        return parse(name, text);
    }
    if name.ends_with(".toml") {
        let text = std::fs::read_to_string(name).with_context(|| format!("cannot read the preset {name}"))?;
        return parse(name, &text);
    }
    let names: Vec<&str> = PRESETS.iter().map(|preset| preset.0).collect();
    let meant = did_you_mean(name, names.iter().copied());
    bail!("there is no preset `{name}`{meant}: choose one of {}, or a path ending in .toml", names.join(", "))
}

fn parse(name: &str, text: &str) -> Result<toml::Table> {
    toml::from_str(text).with_context(|| format!("the preset {name} is not a TOML table"))
}

/// Applies `key=value` changes in order and returns their keys.
pub(super) fn apply(table: &mut toml::Table, changes: &[String]) -> Result<Vec<String>> {
    let mut keys = Vec::new();
    for change in changes {
        let Some((key, value)) = change.split_once('=') else {
            bail!("`{change}` is not of the form key=value, such as lr=1e-3")
        };
        let (key, value) = (key.trim(), value.trim());
        let parsed = toml::from_str::<toml::Table>(&format!("value = {value}")).ok();
        // What is not TOML is a name, such as that of a family.
        let parsed = parsed.and_then(|mut table| table.remove("value")).unwrap_or_else(|| value.into());
        table.insert(key.to_string(), parsed);
        keys.push(key.to_string());
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vocabularies_are_those_of_the_papers_and_small_ones_of_small_models() {
        let sizes = ["gpt1", "gpt2-xl", "gpt3-175b", "modern-nano", "tiny"].map(usual_vocab_size);
        assert_eq!(sizes, [40_478, 50_257, 50_257, 8_192, 8_192]);
    }
}
