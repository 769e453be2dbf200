//! Can the model write the next line? The share of held-out lines that a greedy continuation hits exactly.

use anyhow::Result;
use kernels::rng;

use crate::streams;

/// A place in a held-out document, and the line that comes next.
#[derive(Clone, Debug, PartialEq)]
pub struct NextLine {
    /// Everything before, up to the end of a line, without its line break.
    pub context: String,
    /// The next line that is not blank, with its indentation, without white space at its end.
    pub truth: String,
}

/// Lines before the one to be written, at least.
const LINES_BEFORE: usize = 5;
/// Items from one document, at most.
const PER_DOCUMENT: usize = 8;
/// Bytes of context that are kept.
const CONTEXT_BYTES: usize = 8192;

/// Chooses `count` items from `documents` by `seed`: lines with at least four letters or digits, never too
/// early in their document. There are fewer where the documents have no more.
pub fn next_lines(
    documents: impl Iterator<Item = Result<String>>,
    count: usize,
    seed: u64,
) -> Result<Vec<NextLine>> {
    let mut items = Vec::new();
    for (number, document) in (0..).zip(documents) {
        let document = document?;
        let mut candidates = places(&document);
        for draw in 0..PER_DOCUMENT.min(candidates.len()) {
            let left = candidates.len() - draw;
            let pick =
                draw + rng::below(seed, streams::NEXT_LINES.at(number), draw as u64, left as u64) as usize;
            candidates.swap(draw, pick);
            let (end, truth) = candidates[draw];
            let start = document.floor_char_boundary(end.saturating_sub(CONTEXT_BYTES));
            let item = NextLine { context: document[start..end].to_string(), truth: truth.to_string() };
            items.push((rng::bits(seed, streams::NEXT_LINES_ORDER.at(number), draw as u64), item));
        }
    }
    items.sort_by_key(|item| item.0);
    Ok(items.into_iter().take(count).map(|item| item.1).collect())
}

/// Ends of contexts, and the lines that follow them.
fn places(document: &str) -> Vec<(usize, &str)> {
    let mut places = Vec::new();
    let mut last_end = 0;
    let mut at = 0;
    for (number, line) in document.split_inclusive('\n').enumerate() {
        let truth = line.trim_end();
        let letters = truth.chars().filter(|c| c.is_alphanumeric()).count();
        if number >= LINES_BEFORE && letters >= 4 {
            places.push((last_end, truth));
        }
        at += line.len();
        if !truth.is_empty() {
            last_end = at - line.len() + truth.len();
        }
    }
    places
}

/// The first line of a continuation that is not blank, if it is complete or the continuation is at its `end`.
pub fn first_line(continuation: &str, end: bool) -> Option<&str> {
    let mut lines = continuation.split_inclusive('\n').skip_while(|line| line.trim().is_empty());
    let line = lines.next()?;
    (end || line.ends_with('\n')).then(|| line.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_context_and_the_line_meet_in_the_document() {
        let document = "fn a() {\n    one();\n    two();\n}\n\n\nfn bcde() {  \n    three();\n}\n";
        let items = next_lines([Ok(document.to_string())].into_iter(), 10, 1).unwrap();
        let mut truths: Vec<&str> = items.iter().map(|item| item.truth.as_str()).collect();
        truths.sort_unstable();
        assert_eq!(truths, ["    three();", "fn bcde() {"]);
        for item in &items {
            let rest = &document[item.context.len()..];
            assert!(document.starts_with(&item.context) && !item.context.ends_with('\n'));
            assert_eq!(first_line(rest, false).unwrap(), item.truth);
        }
    }

    #[test]
    fn a_line_is_known_when_it_is_complete() {
        assert_eq!(first_line("\n\n    x = 1", false), None);
        assert_eq!(first_line("\n\n    x = 1", true), Some("    x = 1"));
        assert_eq!(first_line("\n  \n    x = 1 \ny", false), Some("    x = 1"));
        assert_eq!(first_line("\n\n", true), None);
    }
}
