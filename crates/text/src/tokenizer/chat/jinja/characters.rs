//! What Python says of characters.

use regex_syntax::hir::{Class, ClassUnicode, HirKind};
use std::sync::LazyLock;

static LETTERS: LazyLock<ClassUnicode> = LazyLock::new(|| class(r"\p{L}"));
static DECIMALS: LazyLock<ClassUnicode> = LazyLock::new(|| class(r"\p{Nd}"));
/// Others, and separators: what Python shows by number.
static UNPRINTABLE: LazyLock<ClassUnicode> = LazyLock::new(|| class(r"[\p{C}\p{Z}]"));

fn class(pattern: &str) -> ClassUnicode {
    let hir = regex_syntax::parse(pattern).expect("a fixed pattern");
    let HirKind::Class(Class::Unicode(class)) = hir.into_kind() else {
        unreachable!("{pattern} is a class of characters")
    };
    class
}

fn is_in(class: &ClassUnicode, c: char) -> bool {
    let ranges = class.ranges();
    let next = ranges.partition_point(|range| range.end() < c);
    ranges.get(next).is_some_and(|range| range.start() <= c)
}

/// `str.isspace`: Unicode's white space and four separators of ASCII.
pub(in super::super) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

pub(super) fn is_letter(c: char) -> bool {
    is_in(&LETTERS, c)
}

pub(super) fn is_decimal(c: char) -> bool {
    is_in(&DECIMALS, c)
}

/// Decimals, and digits of other shapes.
pub(super) fn is_digit(c: char) -> bool {
    is_decimal(c) || matches!(c, '²' | '³' | '¹' | '⁰' | '⁴'..='⁹' | '₀'..='₉' | '①'..='⑨' | '⓪')
}

pub(super) fn is_printable(c: char) -> bool {
    c == ' ' || !is_in(&UNPRINTABLE, c)
}

/// The length of the line's end that a text begins with.
pub(super) fn line_end(text: &str) -> Option<usize> {
    if text.starts_with("\r\n") {
        return Some(2);
    }
    let c = text.chars().next()?;
    matches!(c, '\n'..='\r' | '\x1c'..='\x1e' | '\u{85}' | '\u{2028}' | '\u{2029}').then(|| c.len_utf8())
}

/// A character as it begins a word.
pub(super) fn title_char(c: char) -> String {
    let mut upper = c.to_uppercase();
    let first: String = upper.next().into_iter().collect();
    first + &upper.collect::<String>().to_lowercase()
}

/// `str.title`: every run of letters with cases begins a word.
pub(super) fn title(text: &str) -> String {
    let (mut out, mut within) = (String::with_capacity(text.len()), false);
    for c in text.chars() {
        match within {
            true => out.extend(c.to_lowercase()),
            false => out.push_str(&title_char(c)),
        }
        within = c.is_lowercase() || c.is_uppercase();
    }
    out
}
