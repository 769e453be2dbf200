//! Whether a file holds JSON, whatever it is called: its first lines, or its first value, say so.

use std::io::{self, BufRead, Read};
use std::path::Path;

use super::form::{Kind, Packing};
use super::json::parse;
use super::json_values::JsonValues;
use super::raw::MAX_RECORD_BYTES;
use super::unpack;
use crate::progress::Silent;

/// What is looked at, but for a first line that is longer.
const LOOK_BYTES: u64 = 16 << 10;
/// Lines that are looked at.
const LOOK_LINES: usize = 16;

/// How the JSON in a file is cut; `None` where it holds something else. Most of the first lines being objects
/// makes it lines; some may be damaged.
pub(super) fn json_kind(path: &Path, packing: Packing) -> io::Result<Option<Kind>> {
    let mut reader = unpack::open(path, packing, &Silent)?;
    let mut head = Vec::new();
    let all = reader.by_ref().take(LOOK_BYTES).read_to_end(&mut head)? < LOOK_BYTES as usize;
    if !is_json_ahead(&head) && !head.split(|&byte| byte == b'\n').skip(1).any(is_json_ahead) {
        return Ok(None);
    }
    if !all && !head.contains(&b'\n') {
        reader.by_ref().take(MAX_RECORD_BYTES as u64).read_until(b'\n', &mut head)?;
    }
    let end = if all { head.len() } else { head.iter().rposition(|&byte| byte == b'\n').unwrap_or(0) };
    let lines = head[..end].split(|&byte| byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
    let are_objects: Vec<bool> = lines.take(LOOK_LINES).map(|line| parse(line).is_ok()).collect();
    let objects = are_objects.iter().filter(|is_object| **is_object).count();
    if 2 * objects > are_objects.len() {
        return Ok(Some(Kind::Lines));
    }
    // A value of one line is no reason to take what follows for values too.
    let may_be_values = is_json_ahead(&head) && are_objects.first() != Some(&true);
    let mut text = head.as_slice().chain(reader).take(MAX_RECORD_BYTES as u64);
    Ok((may_be_values && are_values(&mut text)?).then_some(Kind::Json))
}

/// Whether the first character of a file is one of an object or an array, though it may not be JSON.
pub(super) fn begins_like_json(path: &Path, packing: Packing) -> bool {
    let reader = unpack::open(path, packing, &Silent);
    reader.is_ok_and(|mut reader| reader.fill_buf().is_ok_and(is_json_ahead))
}

/// Whether the first character is one of an object or an array.
fn is_json_ahead(text: &[u8]) -> bool {
    let text = text.trim_ascii_start();
    let text = text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text);
    matches!(text.first(), Some(b'{' | b'['))
}

/// Whether the text is an array of objects, or objects one after the other.
fn are_values(reader: &mut dyn BufRead) -> io::Result<bool> {
    let (mut values, mut line) = (JsonValues::new(), 1);
    let (mut first, mut second) = (Vec::new(), Vec::new());
    values.next(reader, &mut first, &mut line)?;
    values.next(reader, &mut second, &mut line)?;
    Ok(parse(&first).is_ok() && (second.is_empty() || second[0] == b'{'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_values_are_told_from_texts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let kind = |text: &str| {
            std::fs::write(&path, text).unwrap();
            json_kind(&path, Packing::None).unwrap()
        };
        let record = "{\"text\": \"A lamp.\"}\n";
        let long = format!("{{\"text\": \"{}\"}}\n", "x".repeat(100_000));
        for text in [
            record,
            record.trim(),
            &record.repeat(3000),
            &format!("\n \n{record}"),
            &long,
            &long.repeat(2),
            &format!("torn\"}}\n{}", record.repeat(2)),
            &format!("\u{feff}{record}\u{feff}{record}"),
            "{\"text\": \"a\", \"score\": NaN}\n",
            "{\"a\": 1}\r\n{\"a\": 2}\r\n",
        ] {
            assert_eq!(kind(text), Some(Kind::Lines), "{text:.60}");
        }
        for text in [
            "[{\"a\": 1}, {\"a\": 2}]",
            "[\n  {\"a\": NaN},\n  {\"a\": 2}\n]\n",
            "{\n  \"a\": 1\n}\n{\n  \"a\": 2\n}\n",
            "{\n  \"a\": 1\n}\n",
            &format!("[{}{{}}]", "{\"a\": \"some words\"},\n".repeat(5000)),
        ] {
            assert_eq!(kind(text), Some(Kind::Json), "{text:.60}");
        }
        for text in [
            "",
            " \n",
            "Prose.\n\nMore prose.\n",
            "[Music]\nA song.\n",
            "{not JSON}\n",
            "{\"title\": \"front matter\"}\n\n# A page\n\nWith words.\n",
            "{\n\"title\": \"front matter\"\n}\n\n# A page\n",
            "[1, 2, 3]\n[4, 5, 6]\n",
            "A page that shows JSON:\n{\"a\": 1}\nand goes on.\n",
            "{ 'a': 1 }\n{ 'a': 2 }\n",
            "{\"a\": 1}\n{\"a\": torn\n{\"a\": torn\n",
        ] {
            assert_eq!(kind(text), None, "{text:.60}");
        }
    }
}
