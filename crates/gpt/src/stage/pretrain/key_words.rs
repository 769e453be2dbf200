//! Which tokens the key words of a recipe are.

use crate::objective::KeyTokens;
use crate::progress::Progress;
use crate::stage::Settings;
use crate::tokenizer::Tokenizer;
use anyhow::{Result, ensure};

/// The key tokens of a recipe: each word with and without a space before it, where that is a single token.
/// `progress` hears which are not.
///
/// # Errors
/// Words were given, and none of them is a single token.
pub(super) fn key_tokens(
    settings: &Settings,
    tokenizer: &Tokenizer,
    progress: &dyn Progress,
) -> Result<KeyTokens> {
    let words = &settings.key_tokens;
    if words.is_empty() {
        return Ok(KeyTokens::none());
    }
    let mut ids = Vec::new();
    for spelling in words.iter().flat_map(|word| [word.clone(), format!(" {word}")]) {
        match tokenizer.encode(&spelling).as_slice() {
            [id] => ids.push(*id),
            several => progress.line(&format!(
                "note: {spelling:?} is {} tokens, so it does not count as a key token",
                several.len()
            )),
        }
    }
    ensure!(
        !ids.is_empty(),
        "none of the key tokens ({}) is a single token of this vocabulary: name other words with --key-token, or leave \
         them out",
        words.join(", ")
    );
    Ok(KeyTokens::new(ids, settings.key_token_alpha))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Silent;
    use crate::stage::heard::Heard;

    #[test]
    fn words_are_tokens_with_and_without_a_space_or_are_told() {
        // `fit` stands at the beginning and after a space, `plt` only at the beginning: the pairs of each are
        // merged.
        let document = "fit fit fit\nplt\n".repeat(50);
        let tokenizer = Tokenizer::train([Ok(document)].into_iter(), 264, &[], &Silent).unwrap();
        let id = |text: &str| tokenizer.encode(text);
        assert_eq!([id("fit").len(), id(" fit").len(), id("plt").len()], [1; 3], "what the test stands on");
        assert!(id(" plt").len() > 1 && id("predict").len() > 1, "what the test stands on");
        let settings = |words: &[&str]| {
            let words = toml::Value::from(words.to_vec());
            let changes = [format!("key_tokens={words}"), "key_token_alpha=0.5".into()];
            Settings::resolve("tiny", &changes).unwrap().1
        };
        let heard = Heard::default();
        let found = key_tokens(&settings(&["fit", "plt", "fit"]), &tokenizer, &heard).unwrap();
        assert_eq!(found, KeyTokens::new([id("fit"), id(" fit"), id("plt")].concat(), 0.5));
        let lines = heard.lines();
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].contains("\" plt\" is 2 tokens"), "{lines:?}");
        let message = key_tokens(&settings(&["predict"]), &tokenizer, &Silent).unwrap_err().to_string();
        assert!(message.contains("none of the key tokens (predict)"), "{message}");
        let (_, plain) = Settings::resolve("tiny", &[]).unwrap();
        assert_eq!(key_tokens(&plain, &tokenizer, &Silent).unwrap(), KeyTokens::none());
    }
}
