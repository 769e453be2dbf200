//! Marks in messages, and what they tell when they come out of a template.
//!
//! A mark is a character of Unicode's private use that occurs neither in the conversation nor in the template. Those at the
//! ends of a message stand within its outer white space, which templates like to strip.

use super::{Message, Role};
use anyhow::{Context, Result};
use std::collections::HashSet;
use std::ops::Range;

/// Three characters that occur nowhere else.
pub(super) struct Marks {
    /// At the ends of a message, and within the names of special tokens.
    text: char,
    /// Where an answer begins.
    begin: char,
    /// Where it ends.
    end: char,
}

/// A template's output without its marks.
#[derive(Debug, Default)]
pub(super) struct Rendered {
    pub(super) text: String,
    /// Where marks stood: places in `text`, ascending.
    pub(super) marks: Vec<usize>,
    /// The answers without their outer white space, as places in `text`.
    pub(super) answers: Vec<Range<usize>>,
    /// Whether an answer's beginning or end is missing.
    pub(super) torn: bool,
}

impl Marks {
    /// Marks that occur in none of the texts.
    pub(super) fn unused_in(messages: &[Message], template: &str) -> Result<Marks> {
        let texts = messages.iter().map(|message| message.content.as_str()).chain([template]);
        let used: HashSet<char> = texts.flat_map(str::chars).filter(|&c| c >= '\u{e000}').collect();
        let private = ('\u{e000}'..='\u{f8ff}').chain('\u{f0000}'..='\u{ffffd}');
        let mut free = private.filter(|c| !used.contains(c));
        let mut next = || free.next().context("a conversation that uses every private character of Unicode");
        Ok(Marks { text: next()?, begin: next()?, end: next()? })
    }

    /// The content of a message with marks; `starts_special` tells whether a text begins with the name of a special token.
    pub(super) fn set(&self, message: &Message, starts_special: impl Fn(&str) -> bool) -> String {
        let (content, is_answer) = (message.content.as_str(), message.role == Role::Assistant);
        let core = core(content);
        if core.is_empty() && !is_answer {
            return content.to_owned();
        }
        let (begin, end) = if is_answer { (self.begin, self.end) } else { (self.text, self.text) };
        let mut marked = String::with_capacity(content.len() + 8);
        marked.push_str(&content[..core.start]);
        marked.push(begin);
        for (at, c) in content[core.clone()].char_indices() {
            marked.push(c);
            if starts_special(&content[core.start + at..]) {
                marked.push(self.text);
            }
        }
        marked.push(end);
        marked.push_str(&content[core.end..]);
        marked
    }

    /// Takes the marks out of a template's output.
    pub(super) fn read(&self, output: &str) -> Rendered {
        let mut rendered = Rendered { text: String::with_capacity(output.len()), ..Rendered::default() };
        let mut open = None;
        for c in output.chars() {
            let at = rendered.text.len();
            if c == self.begin {
                rendered.torn |= open.replace(at).is_some();
            } else if c == self.end {
                match open.take() {
                    Some(start) => rendered.answers.push(start..at),
                    None => rendered.torn = true,
                }
            } else if c != self.text {
                rendered.text.push(c);
                continue;
            }
            rendered.marks.push(at);
        }
        rendered.torn |= open.is_some();
        rendered
    }
}

/// A text without its outer white space; of white space only, the empty end.
pub(super) fn core(text: &str) -> Range<usize> {
    let start = text.len() - text.trim_start().len();
    start..start + text[start..].trim_end().len()
}
