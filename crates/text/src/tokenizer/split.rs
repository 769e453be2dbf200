//! GPT-2's pre-tokenizer: cuts text into the words within which byte pairs are merged (Radford et al. 2019).
//!
//! It computes what this pattern computes, alternatives tried in order, in one pass without a regex engine:
//!
//! ```text
//! 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
//! ```

use regex_syntax::hir::{Class as HirClass, HirKind};
use std::sync::LazyLock;

/// What the pattern distinguishes in a character.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Class {
    /// None of the others: punctuation, symbols, marks, controls, unassigned.
    Other,
    /// `\p{L}`
    Letter,
    /// `\p{N}`
    Number,
    /// `\s`
    Space,
}

/// The class of every Unicode scalar value: about 1 MB, of which text touches a few pages.
static CLASSES: LazyLock<Box<[Class]>> = LazyLock::new(|| {
    let mut classes = vec![Class::Other; char::MAX as usize + 1].into_boxed_slice();
    for (pattern, class) in [(r"\p{L}", Class::Letter), (r"\p{N}", Class::Number), (r"\s", Class::Space)] {
        let hir = regex_syntax::parse(pattern).expect("a fixed pattern");
        let HirKind::Class(HirClass::Unicode(set)) = hir.kind() else {
            unreachable!("{pattern} is a class of characters")
        };
        for range in set.iter() {
            classes[range.start() as usize..=range.end() as usize].fill(class);
        }
    }
    classes
});

/// The words of `text`, in order; joined they are `text` again.
pub(super) fn words(text: &str) -> Words<'_> {
    Words { rest: text, classes: &CLASSES }
}

/// `text` in pieces of about a megabyte, whose words are the words of `text`: a space after a visible ASCII
/// character begins a word whatever stands around it.
pub(super) fn independent(text: &str) -> impl Iterator<Item = &str> {
    const PIECE_BYTES: usize = 1 << 20;
    let mut rest = text;
    std::iter::from_fn(move || {
        let bytes = rest.as_bytes();
        let cut =
            bytes.windows(2).skip(PIECE_BYTES).position(|pair| pair[0].is_ascii_graphic() && pair[1] == b' ');
        let (piece, after) = rest.split_at(cut.map_or(rest.len(), |at| PIECE_BYTES + at + 1));
        rest = after;
        (!piece.is_empty()).then_some(piece)
    })
}

/// See [`words`].
pub(super) struct Words<'a> {
    rest: &'a str,
    classes: &'static [Class],
}

impl<'a> Iterator for Words<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        if self.rest.is_empty() {
            return None;
        }
        let (word, rest) = self.rest.split_at(self.word_len());
        self.rest = rest;
        Some(word)
    }
}

impl Words<'_> {
    /// Length in bytes of the word at the start of `rest`, which is not empty.
    fn word_len(&self) -> usize {
        if let Some(len) = contraction_len(self.rest.as_bytes()) {
            return len;
        }
        let after_space = usize::from(self.rest.starts_with(' '));
        match self.class_at(after_space) {
            Some(class) if class != Class::Space => self.run_end(after_space, class).0,
            _ => self.space_len(),
        }
    }

    /// Whitespace, which leaves its last character to the word that follows (`\s+(?!\S)`), unless it has only
    /// one.
    fn space_len(&self) -> usize {
        let (end, last_len) = self.run_end(0, Class::Space);
        if end == self.rest.len() || end == last_len { end } else { end - last_len }
    }

    fn class_at(&self, at: usize) -> Option<Class> {
        self.rest[at..].chars().next().map(|c| self.classes[c as usize])
    }

    /// Where the run of `class` that covers `start` ends, and the length of its last character, in bytes.
    fn run_end(&self, start: usize, class: Class) -> (usize, usize) {
        let (mut end, mut last_len) = (start, 0);
        for c in self.rest[start..].chars() {
            if self.classes[c as usize] != class {
                break;
            }
            last_len = c.len_utf8();
            end += last_len;
        }
        (end, last_len)
    }
}

/// The English endings that are words of their own.
fn contraction_len(rest: &[u8]) -> Option<usize> {
    match rest {
        [b'\'', b's' | b't' | b'm' | b'd', ..] => Some(2),
        [b'\'', b'r' | b'v', b'e', ..] | [b'\'', b'l', b'l', ..] => Some(3),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tokenizers::pre_tokenizers::byte_level::ByteLevel;
    use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};

    fn split(text: &str) -> Vec<&str> {
        words(text).collect()
    }

    /// The same through the library's regex.
    fn library_split(text: &str) -> Vec<&str> {
        let mut pieces = PreTokenizedString::from(text);
        ByteLevel::new(false, false, true).pre_tokenize(&mut pieces).expect("any text splits");
        let splits = pieces.get_splits(OffsetReferential::Original, OffsetType::Byte);
        splits.into_iter().map(|(_, (start, end), _)| &text[start..end]).collect()
    }

    #[test]
    fn by_hand() {
        assert_eq!(split("I'll say  it's 42!"), ["I", "'ll", " say", " ", " it", "'s", " 42", "!"]);
        assert_eq!(split("def f():\n    return"), ["def", " f", "():", "\n   ", " return"]);
        assert_eq!(split("a\n\nb \u{3000}"), ["a", "\n", "\n", "b", " \u{3000}"]);
        assert_eq!(split(" 'tis what're 'R"), [" '", "tis", " what", "'re", " '", "R"]);
    }

    #[test]
    fn every_character_is_classed_as_in_the_library() {
        // A letter, a number and a sign before each character show by what it joins which class it has.
        let mut text = String::new();
        // The planes that have characters.
        for c in ('\0'..='\u{3ffff}').chain('\u{e0000}'..='\u{e0fff}') {
            text.extend(['a', c, '1', c, '!', c, ' ', c, '\n']);
            if text.len() > 1 << 16 {
                assert_eq!(split(&text), library_split(&text));
                text.clear();
            }
        }
        assert_eq!(split(&text), library_split(&text));
    }

    #[test]
    fn independent_pieces_have_the_words_of_the_whole() {
        let text = "It's 10 o'clock\u{3000} in  Zürich , they 'd say \n\n".repeat(60_000);
        let pieces: Vec<&str> = independent(&text).collect();
        assert!(pieces.len() > 1);
        assert_eq!(pieces.concat(), text);
        assert!(pieces.iter().flat_map(|piece| words(piece)).eq(words(&text)));
    }

    proptest! {
        #[test]
        fn cuts_where_the_library_cuts(text in r"([a-c]|'[a-zA-Z]{0,3}| |[\s]|[0-9]|\PC|[!-/]){0,60}") {
            prop_assert_eq!(split(&text), library_split(&text));
        }
    }
}
