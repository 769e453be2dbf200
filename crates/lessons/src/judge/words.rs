//! Answers as words: what is compared when case, spaces and punctuation do not matter.

/// What kind of word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Number,
    /// A letter that stands alone.
    Letter,
    /// Letters of the Latin alphabet.
    Word,
    /// A Chinese character.
    Han,
    /// The end of a sentence, a colon, a line break: what follows is not a part of what came before.
    Stop,
}

/// A word in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) kind: Kind,
    pub(super) text: String,
}

impl Word {
    /// Whether it belongs to a language: numbers belong to all.
    pub(super) fn is_latin(&self) -> bool {
        matches!(self.kind, Kind::Letter | Kind::Word)
    }
}

/// Sentence marks of both languages.
pub(super) const MARKS: [char; 6] = ['.', '?', '!', '。', '？', '！'];

fn is_han(c: char) -> bool {
    matches!(c, '\u{4e00}'..='\u{9fff}')
}

/// The words of a text.
pub(super) fn words(text: &str) -> Vec<Word> {
    let mut words = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let run = |same: fn(char) -> bool| rest.find(|c| !same(c)).unwrap_or(rest.len());
        let (kind, length) = if first.is_ascii_digit() {
            (Some(Kind::Number), run(|c| c.is_ascii_digit()))
        } else if is_han(first) {
            (Some(Kind::Han), first.len_utf8())
        } else if first.is_alphabetic() {
            let length = run(|c| c.is_alphabetic() && !is_han(c));
            (Some(if length == first.len_utf8() { Kind::Letter } else { Kind::Word }), length)
        } else if MARKS.contains(&first) || matches!(first, '\n' | ':' | '：') {
            (Some(Kind::Stop), first.len_utf8())
        } else {
            (None, first.len_utf8())
        };
        let (word, after) = rest.split_at(length);
        words.extend(kind.map(|kind| Word { kind, text: word.to_lowercase() }));
        rest = after;
    }
    words
}

/// The words without the stops between them.
pub(super) fn without_stops(text: &str) -> Vec<Word> {
    words(text).into_iter().filter(|word| word.kind != Kind::Stop).collect()
}

/// Where `phrase` occurs in `words`, word for word.
pub(super) fn places<'a>(words: &'a [Word], phrase: &'a [Word]) -> impl Iterator<Item = usize> + 'a {
    let found = move |at: &usize| !phrase.is_empty() && words[*at..].starts_with(phrase);
    (0..words.len()).filter(found)
}
