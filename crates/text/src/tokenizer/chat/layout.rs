//! A rendered conversation, cut into text and special tokens, and its tokens.

use super::twin::Rendered;
use super::{Encoded, Tokenizer};
use anyhow::{Context, Result};
use serde::Deserialize;
use std::ops::Range;

/// A special token as a template writes it.
pub(super) struct Special {
    name: String,
    id: u32,
    /// Whether it takes the white space before it.
    lstrip: bool,
    /// Whether it takes the white space after it.
    rstrip: bool,
}

/// A tokenizer's special tokens, longer names first, so that the first that fits is the longest.
pub(super) struct Specials {
    tokens: Vec<Special>,
    /// The bytes that names begin with.
    begins: [bool; 256],
}

impl Special {
    /// The length of its name in bytes.
    pub(super) fn len(&self) -> usize {
        self.name.len()
    }
}

impl Specials {
    /// Those of a tokenizer.
    pub(super) fn of(tokenizer: &Tokenizer) -> Result<Specials> {
        #[derive(Deserialize)]
        struct File {
            #[serde(default)]
            added_tokens: Vec<Added>,
        }
        #[derive(Deserialize)]
        struct Added {
            content: String,
            #[serde(default)]
            lstrip: bool,
            #[serde(default)]
            rstrip: bool,
        }
        let file: File = serde_json::from_str(tokenizer.to_json()).context("tokenizer.json is damaged")?;
        let special = |(name, id): &(String, u32)| {
            let added = file.added_tokens.iter().find(|added| added.content == *name);
            let (lstrip, rstrip) = added.map_or((false, false), |added| (added.lstrip, added.rstrip));
            Special { name: name.clone(), id: *id, lstrip, rstrip }
        };
        let mut tokens: Vec<Special> = tokenizer.specials().iter().map(special).collect();
        tokens.sort_by_key(|special| std::cmp::Reverse(special.name.len()));
        let mut begins = [false; 256];
        for special in &tokens {
            begins[usize::from(special.name.as_bytes()[0])] = true;
        }
        Ok(Specials { tokens, begins })
    }

    /// Those whose names `text` begins with.
    pub(super) fn at<'a>(&'a self, text: &'a str) -> impl Iterator<Item = &'a Special> {
        let may = text.bytes().next().is_some_and(|byte| self.begins[usize::from(byte)]);
        let tokens = if may { self.tokens.as_slice() } else { &[] };
        tokens.iter().filter(move |special| text.starts_with(&special.name))
    }

    /// Whether a text is a part of a name.
    pub(super) fn has_within(&self, text: &str) -> bool {
        self.tokens.iter().any(|special| special.name.contains(text))
    }

    /// The special tokens of a text, of which characters at `marks` can be part of none.
    pub(super) fn ids(&self, text: &str, marks: &[usize]) -> Vec<u32> {
        let id = |piece: &Piece| match piece {
            Piece::Special(_, id) => Some(*id),
            Piece::Text(_) => None,
        };
        self.cut(text, marks).iter().filter_map(id).collect()
    }

    /// Cuts a text at its special tokens; the longest name wins where several begin.
    fn cut(&self, text: &str, marks: &[usize]) -> Vec<Piece> {
        let is_marked = |range: &Range<usize>| {
            let first = marks.partition_point(|&mark| mark < range.start);
            marks.get(first).is_some_and(|&mark| mark < range.end)
        };
        let (mut pieces, mut text_start, mut at) = (Vec::new(), 0, 0);
        while let Some(c) = text[at..].chars().next() {
            let found = self.at(&text[at..]).find(|special| !is_marked(&(at..at + special.len())));
            let Some(special) = found else {
                at += c.len_utf8();
                continue;
            };
            let mut range = at..at + special.len();
            if special.lstrip {
                range.start = text_start + text[text_start..range.start].trim_end().len();
            }
            if special.rstrip {
                range.end = text.len() - text[range.end..].trim_start().len();
            }
            if text_start < range.start {
                pieces.push(Piece::Text(text_start..range.start));
            }
            (text_start, at) = (range.end, range.end);
            pieces.push(Piece::Special(range, special.id));
        }
        if text_start < text.len() {
            pieces.push(Piece::Text(text_start..text.len()));
        }
        pieces
    }
}

/// A piece of a conversation.
#[derive(Debug)]
enum Piece {
    /// Text that is encoded as a whole.
    Text(Range<usize>),
    /// A special token; its place includes the white space that it takes.
    Special(Range<usize>, u32),
}

impl Piece {
    fn range(&self) -> &Range<usize> {
        match self {
            Piece::Text(range) | Piece::Special(range, _) => range,
        }
    }
}

/// A conversation as a template wrote it, cut at its special tokens.
pub(super) struct Layout {
    rendered: Rendered,
    pieces: Vec<Piece>,
}

impl Layout {
    /// Cuts what a template wrote. `keeps_space` tells that the white space before an answer is the answer's;
    /// `end` is what ends one.
    pub(super) fn new(
        mut rendered: Rendered,
        specials: &Specials,
        keeps_space: bool,
        end: Option<u32>,
    ) -> Layout {
        let pieces = specials.cut(&rendered.text, &rendered.marks);
        for answer in &mut rendered.answers {
            if keeps_space && rendered.text[..answer.place.start].ends_with(&answer.space) {
                answer.place.start -= answer.space.len();
            }
            if answer.is_open {
                let is_end = |piece: &&Piece| matches!(piece, Piece::Special(range, id) if range.start >= answer.place.end && Some(*id) == end);
                answer.place.end =
                    pieces.iter().find(is_end).map_or(answer.place.end, |piece| piece.range().start);
            }
        }
        Layout { rendered, pieces }
    }

    /// The text that the template wrote.
    #[cfg(test)]
    pub(super) fn text(&self) -> &str {
        &self.rendered.text
    }

    /// Whether there are as many answers as there should be, and all whole.
    pub(super) fn is_whole(&self, answers: usize) -> bool {
        !self.rendered.torn && self.rendered.answers.len() == answers
    }

    /// The special token right after the last answer.
    pub(super) fn after_last_answer(&self) -> Option<u32> {
        self.special_after(self.rendered.answers.last()?.place.end).map(|(_, id)| id)
    }

    /// What stands before the last answer.
    pub(super) fn before_last_answer(&self) -> Option<&str> {
        Some(&self.rendered.text[..self.rendered.answers.last()?.place.start])
    }

    /// The special token that follows `place`, with nothing but white space between, and the number of its
    /// piece.
    fn special_after(&self, place: usize) -> Option<(usize, u32)> {
        let next = self.pieces.partition_point(|piece| piece.range().end <= place);
        let found = (next..).zip(&self.pieces[next..]).find_map(|(number, piece)| match piece {
            Piece::Special(range, id) => Some((number, range.start, *id)),
            Piece::Text(_) => None,
        });
        let (number, start, id) = found?;
        // A special token may have taken white space of the answer itself.
        let between = &self.rendered.text[place.min(start)..start];
        between.trim().is_empty().then_some((number, id))
    }

    /// The tokens; `end` is what ends an answer.
    pub(super) fn encode(&self, tokenizer: &Tokenizer, end: Option<u32>) -> Encoded {
        let text = self.rendered.text.as_str();
        // A text's own beginning is that of its piece, after a special token or after nothing.
        let special = self.pieces.iter().find_map(|piece| match piece {
            Piece::Special(_, id) => Some(*id),
            Piece::Text(_) => None,
        });
        let encode = |range: Range<usize>| match special.filter(|_| range.start > 0) {
            Some(special) => tokenizer.encode_after(special, &text[range]),
            None => tokenizer.encode(&text[range]),
        };
        let ids = |piece: &Piece| match piece {
            Piece::Text(range) => encode(range.clone()),
            Piece::Special(_, id) => vec![*id],
        };
        let ids: Vec<Vec<u32>> = self.pieces.iter().map(ids).collect();
        // How many tokens come before each piece.
        let mut before = vec![0];
        ids.iter().for_each(|ids| before.push(before[before.len() - 1] + ids.len()));

        // Tokens do not tell their places in the text. Those that stand the same when the text on one side of
        // a place is encoded alone are on that side; the others are the answer's.
        let first_token = |place: usize| {
            let number = self.pieces.partition_point(|piece| piece.range().end <= place);
            match self.pieces.get(number) {
                Some(Piece::Text(range)) if range.start < place => {
                    let alone = encode(range.start..place);
                    before[number] + common(ids[number].iter(), alone.iter())
                }
                Some(Piece::Special(range, _)) if range.start < place => before[number + 1],
                _ => before[number],
            }
        };
        let end_token = |place: usize| {
            let number = self.pieces.partition_point(|piece| piece.range().end <= place);
            match self.pieces.get(number) {
                Some(Piece::Text(range)) if range.start < place => {
                    let alone = encode(place..range.end);
                    before[number + 1] - common(ids[number].iter().rev(), alone.iter().rev())
                }
                _ => before[number],
            }
        };
        let answers = self.rendered.answers.iter().map(|answer| {
            let place = &answer.place;
            let ending = self.special_after(place.end).filter(|&(_, id)| Some(id) == end);
            let end = ending.map_or_else(|| end_token(place.end), |(number, _)| before[number + 1]);
            first_token(place.start).min(end)..end
        });
        Encoded { answers: answers.collect(), tokens: ids.concat() }
    }
}

/// How many items two sequences have in common at their beginnings.
fn common<'a>(a: impl Iterator<Item = &'a u32>, b: impl Iterator<Item = &'a u32>) -> usize {
    a.zip(b).take_while(|(a, b)| a == b).count()
}
