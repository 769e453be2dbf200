//! The recipes that come with the program.

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
