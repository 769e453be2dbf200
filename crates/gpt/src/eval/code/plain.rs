//! The few values that we ourselves send to `plain.py` or read from it; it says what the format is.

/// Texts as one tuple.
pub(super) fn texts(texts: &[&str]) -> String {
    let mut line = format!("p{}", texts.len());
    for text in texts {
        line.push_str(" s");
        line.push_str(&hex(text.as_bytes()));
    }
    line
}

/// The text that `word` stands for, if it stands for one.
pub(super) fn text(word: &str) -> Option<String> {
    let digits = word.strip_prefix('s')?.as_bytes();
    let pairs = digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
    // Python's strings may hold halves of surrogate pairs, which are no text.
    Some(String::from_utf8_lossy(&pairs.collect::<Option<Vec<u8>>>()?).into_owned())
}

/// Two digits a byte.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
