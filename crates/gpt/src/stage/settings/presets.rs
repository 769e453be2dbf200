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
