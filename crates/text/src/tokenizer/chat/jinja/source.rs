//! A template's source, made such that the engine understands what Jinja2 and `transformers` understand, and
//! the texts that it spells between quotes.
//!
//! Two things are put otherwise: `{% generation %}`, which tells `transformers` where answers are, and for
//! what is written means no more than a scope; and the operator `%`, which formats texts in Python: `a % b`
//! becomes `(a)|modulo(b)`.

use std::ops::Range;

/// The filter that takes the place of `%`.
pub(super) const MODULO: &str = "__modulo";

/// A source as the engine gets it.
pub(super) struct Source {
    pub(super) text: String,
    /// The texts between quotes.
    pub(super) literals: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    /// A name, or a number.
    Word,
    /// A text between quotes.
    Text,
    /// `**` and `//` are one.
    Sign,
}

#[derive(Clone, Debug)]
struct Token {
    kind: Kind,
    place: Range<usize>,
}

/// Words after which an operand begins.
const KEYWORDS: [&str; 15] = [
    "and", "or", "not", "in", "is", "if", "elif", "else", "set", "for", "with", "print", "call", "filter",
    "do",
];

/// Reads a template's source.
pub(super) fn read(source: &str) -> Source {
    let mut edits: Vec<(Range<usize>, String)> = Vec::new();
    let (mut literals, mut at) = (Vec::new(), 0);
    while let Some(brace) = source[at..].find('{').map(|brace| at + brace) {
        let rest = &source[brace..];
        if rest.starts_with("{#") {
            at = rest.find("#}").map_or(source.len(), |end| brace + end + 2);
            continue;
        }
        if !rest.starts_with("{{") && !rest.starts_with("{%") {
            at = brace + 1;
            continue;
        }
        let is_tag = rest.starts_with("{%");
        let (tokens, end) = tokens(source, brace + 2, is_tag);
        let word =
            |number: usize| tokens.get(number).map_or("", |token: &Token| &source[token.place.clone()]);
        // A sign that controls white space may come first.
        let first = usize::from(matches!(word(0), "-" | "+"));
        at = end;
        match word(first) {
            "raw" if is_tag => at = end_of_raw(source, end),
            name @ ("generation" | "endgeneration") if is_tag => {
                edits.push((tokens[first].place.clone(), name.replace("generation", "with")));
            }
            _ => {}
        }
        let texts = tokens.iter().filter(|token| token.kind == Kind::Text);
        literals.extend(texts.map(|token| unquoted(&source[token.place.clone()])));
        for number in (0..tokens.len()).filter(|&number| word(number) == "%") {
            modulo(source, &tokens, number, &mut edits);
        }
    }
    literals.sort();
    literals.dedup();
    Source { text: edited(source, edits), literals }
}

/// The source with pieces put otherwise; of several at one place the first comes first.
fn edited(source: &str, mut edits: Vec<(Range<usize>, String)>) -> String {
    edits.sort_by_key(|(place, _)| (place.start, place.end));
    let (mut text, mut at) = (String::with_capacity(source.len()), 0);
    for (place, instead) in edits {
        text += &source[at..place.start];
        text += &instead;
        at = place.end;
    }
    text + &source[at..]
}

/// Where a raw block's text, which begins at `at`, is over.
fn end_of_raw(source: &str, at: usize) -> usize {
    let ends = source[at..].match_indices("{%").map(|(tag, _)| at + tag);
    let is_end =
        |&tag: &usize| source[tag + 2..].trim_start_matches(['-', '+']).trim_start().starts_with("endraw");
    ends.into_iter().find(is_end).unwrap_or(source.len())
}

/// The tokens from `at` to the end of the tag or expression, and where that ends.
fn tokens(source: &str, mut at: usize, is_tag: bool) -> (Vec<Token>, usize) {
    let close = if is_tag { "%}" } else { "}}" };
    let (mut tokens, mut depth) = (Vec::new(), 0usize);
    while let Some(c) = source[at..].chars().next() {
        let rest = &source[at..];
        if depth == 0 && rest.strip_prefix(['-', '+']).unwrap_or(rest).starts_with(close) {
            return (tokens, at + rest.find(close).unwrap_or(0) + close.len());
        }
        let (kind, len) = match c {
            '\'' | '"' => (Kind::Text, text_len(rest)),
            c if c.is_alphanumeric() || c == '_' => (Kind::Word, word_len(rest)),
            c if c.is_whitespace() => {
                at += c.len_utf8();
                continue;
            }
            '*' | '/' if rest[1..].starts_with(c) => (Kind::Sign, 2),
            _ => (Kind::Sign, c.len_utf8()),
        };
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        tokens.push(Token { kind, place: at..at + len });
        at += len;
    }
    (tokens, source.len())
}

fn text_len(rest: &str) -> usize {
    let (mut chars, mut escaped) = (rest.char_indices(), false);
    let quote = chars.next().map(|(_, c)| c);
    for (at, c) in chars {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if Some(c) == quote => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// A name; or a number, with its point.
fn word_len(rest: &str) -> usize {
    let is_number = rest.starts_with(|c: char| c.is_ascii_digit());
    let belongs = |(at, c): (usize, char)| {
        let is_point = is_number && c == '.' && rest[at + 1..].starts_with(|c: char| c.is_ascii_digit());
        c.is_alphanumeric() || c == '_' || is_point
    };
    rest.char_indices().find(|&letter| !belongs(letter)).map_or(rest.len(), |(at, _)| at)
}

/// The text of a literal.
fn unquoted(literal: &str) -> String {
    let inner = literal.get(1..literal.len().saturating_sub(1)).unwrap_or_default();
    let (mut text, mut chars) = (String::new(), inner.chars());
    while let Some(c) = chars.next() {
        if c != '\\' {
            text.push(c);
            continue;
        }
        let hex = |digits: usize, chars: &mut std::str::Chars<'_>| {
            let number: String = chars.by_ref().take(digits).collect();
            u32::from_str_radix(&number, 16).ok().and_then(char::from_u32)
        };
        match chars.next() {
            Some('n') => text.push('\n'),
            Some('t') => text.push('\t'),
            Some('r') => text.push('\r'),
            Some('x') => text.extend(hex(2, &mut chars)),
            Some('u') => text.extend(hex(4, &mut chars)),
            other => text.extend(other),
        }
    }
    text
}

/// Puts the `%` of this number otherwise. Operators of its rank are done from left to right, and of higher
/// rank is only `**`.
fn modulo(source: &str, tokens: &[Token], number: usize, edits: &mut Vec<(Range<usize>, String)>) {
    let (Some(left), Some(right)) =
        (left_operand(source, tokens, number), right_operand(source, tokens, number + 1))
    else {
        return;
    };
    let (start, end) = (tokens[left].place.start, tokens[right].place.end);
    edits.push((start..start, "(".into()));
    edits.push((tokens[number].place.clone(), format!(")|{MODULO}(")));
    edits.push((end..end, ")".into()));
}

/// Whether a token may be the last of an operand.
fn ends_operand(source: &str, token: &Token) -> bool {
    let text = &source[token.place.clone()];
    match token.kind {
        Kind::Word => !KEYWORDS.contains(&text),
        Kind::Text => true,
        Kind::Sign => matches!(text, ")" | "]" | "}"),
    }
}

/// The first token of what stands left of the operator of this number.
fn left_operand(source: &str, tokens: &[Token], operator: usize) -> Option<usize> {
    let text = |number: usize| &source[tokens[number].place.clone()];
    let mut at = operator.checked_sub(1)?;
    loop {
        if !ends_operand(source, &tokens[at]) {
            return None;
        }
        if tokens[at].kind == Kind::Sign {
            let mut depth = 0;
            loop {
                match text(at) {
                    ")" | "]" | "}" => depth += 1,
                    "(" | "[" | "{" => depth -= 1,
                    _ => {}
                }
                if depth == 0 {
                    break;
                }
                at = at.checked_sub(1)?;
            }
        }
        let Some(before) = at.checked_sub(1) else { return Some(at) };
        let is_sign = |signs: &[&str]| tokens[before].kind == Kind::Sign && signs.contains(&text(before));
        let is_unary = before == 0 || !ends_operand(source, &tokens[before - 1]);
        let is_call = tokens[at].kind == Kind::Sign && matches!(text(at), "(" | "[");
        let is_joined = tokens[at].kind == Kind::Text && tokens[before].kind == Kind::Text;
        if (is_call || is_joined) && ends_operand(source, &tokens[before]) {
            at = before;
        } else if is_sign(&[".", "|", "*", "/", "//", "%", "**"]) {
            at = before.checked_sub(1)?;
        } else if is_sign(&["-", "+"]) && is_unary && before > 0 {
            return Some(before);
        } else {
            return Some(at);
        }
    }
}

/// The last token of what stands right of an operator, from `at` on.
fn right_operand(source: &str, tokens: &[Token], mut at: usize) -> Option<usize> {
    let text = |number: usize| tokens.get(number).map_or("", |token: &Token| &source[token.place.clone()]);
    let closing = |mut at: usize| {
        let mut depth = 0;
        loop {
            match text(at) {
                "(" | "[" | "{" => depth += 1,
                ")" | "]" | "}" => depth -= 1,
                "" => return None,
                _ => {}
            }
            if depth == 0 {
                return Some(at);
            }
            at += 1;
        }
    };
    while matches!(text(at), "-" | "+") {
        at += 1;
    }
    let mut last = closing(at)?;
    loop {
        match text(last + 1) {
            "(" | "[" => last = closing(last + 1)?,
            "." | "|" => last += 2,
            "**" => return right_operand(source, tokens, last + 2),
            _ if tokens.get(last + 1).is_some_and(|token| token.kind == Kind::Text) => last += 1,
            _ => return (last < tokens.len()).then_some(last),
        }
    }
}
