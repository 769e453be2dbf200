//! One JSON object, also as Python writes it: with NaN and Infinity, numbers beyond all measure, halves of
//! surrogate pairs, a byte order mark in front. What JSON cannot say becomes an [odd] value.
//!
//! A record is parsed strictly first, and looked through for what Python writes only when that failed.

use serde_json::Value;

use super::odd::{self, odd_json};
use super::reason::Reason;
use super::reason::Verdict;
use super::record::{Record, describe};

/// How much of a number is shown.
const SHOWN_BYTES: usize = 24;

/// Parses an object; the second value says whether it has [odd](super::odd) values.
pub(super) fn parse(json: &[u8]) -> Result<(Record, bool), Verdict> {
    // A file that was put together from several has their marks in the middle.
    let json = json.strip_prefix("\u{feff}".as_bytes()).unwrap_or(json);
    let (reason, detail) = match strict(json) {
        Ok(record) => return Ok((record, false)),
        Err(why) => why,
    };
    if !matches!(reason, Reason::MalformedJson | Reason::RecordNotUtf8) {
        return Err((reason, detail));
    }
    let Some(rewritten) = rewritten(json) else { return Err((reason, detail)) };
    match strict(&rewritten) {
        Ok(record) => match odd::why_record(&record) {
            None => Ok((record, true)),
            Some((_, what)) => Err((Reason::NotAnObject, format!("it {what}"))),
        },
        // Places are those of the rewritten record.
        Err((Reason::TornJson, _)) => Err(torn(json)),
        Err((reason, detail)) => {
            Err((reason, detail.split_once(" at line ").map_or(&*detail, |(what, _)| what).into()))
        }
    }
}

fn strict(json: &[u8]) -> Result<Record, Verdict> {
    let text = std::str::from_utf8(json)
        .map_err(|e| (Reason::RecordNotUtf8, format!("byte {} of the record", e.valid_up_to())))?;
    match serde_json::from_str(text.trim_end()) {
        Ok(Value::Object(record)) => Ok(record),
        Ok(other) => Err((Reason::NotAnObject, format!("it {}", describe(&other)))),
        Err(e) if e.is_eof() => Err(torn(json)),
        Err(e) if e.to_string().starts_with("recursion limit") => Err((Reason::DeepJson, String::new())),
        Err(e) => Err((Reason::MalformedJson, e.to_string())),
    }
}

fn torn(json: &[u8]) -> Verdict {
    (Reason::TornJson, format!("ends at byte {}", json.trim_ascii_end().len()))
}

/// The same with odd values in the place of what is no JSON; `None` if nothing was found.
fn rewritten(json: &[u8]) -> Option<Vec<u8>> {
    let (mut out, mut at, mut found) = (Vec::with_capacity(json.len() + 64), 0, false);
    while at < json.len() {
        let rest = &json[at..];
        let length = match rest[0] {
            b'"' => string_length(rest),
            byte if is_word(byte) => rest.iter().take_while(|&&byte| is_word(byte)).count(),
            _ => 1,
        };
        let (piece, after) = rest.split_at(length);
        let odd = match piece[0] {
            b'"' => mended(piece).map(|(reason, what, literal)| match after.trim_ascii_start().first() {
                // Nobody can ask for a column by a name that is none.
                Some(b':') => literal,
                _ => odd_json(reason, &what, &literal),
            }),
            byte if is_word(byte) => {
                odd_number(piece).map(|what| odd_json(Reason::MalformedJson, &what, b"null"))
            }
            _ => None,
        };
        found |= odd.is_some();
        out.extend_from_slice(odd.as_deref().unwrap_or(piece));
        at += length;
    }
    found.then_some(out)
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.')
}

/// Up to the quote that closes the string, or all there is.
fn string_length(json: &[u8]) -> usize {
    let mut escaped = false;
    let closes = |&byte: &u8| {
        let closes = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        closes
    };
    json[1..].iter().position(closes).map_or(json.len(), |at| at + 2)
}

/// What is odd about a number, as C and Python print it.
fn odd_number(word: &[u8]) -> Option<String> {
    let word = std::str::from_utf8(word).ok()?;
    let number: f64 = word.parse().ok()?;
    let shown = if word.len() > SHOWN_BYTES { format!("{}…", &word[..SHOWN_BYTES]) } else { word.into() };
    let spelled = word.trim_start_matches(['-', '+']).starts_with(|c: char| c.is_ascii_alphabetic());
    match number.is_finite() {
        true => None,
        false if spelled => Some(format!("is {shown}")),
        false => Some(format!("is {shown}, which is beyond all numbers")),
    }
}

/// What is odd about a string literal, and the literal with replacement characters there.
fn mended(literal: &[u8]) -> Option<(Reason, String, Vec<u8>)> {
    let (mut out, mut at, mut what) = (Vec::with_capacity(literal.len()), 0, None);
    while at < literal.len() {
        let length = match (unit(&literal[at..]), unit(literal.get(at + 6..).unwrap_or_default())) {
            (Some(0xd800..0xdc00), Some(0xdc00..0xe000)) => 12,
            (Some(half @ 0xd800..0xe000), _) => {
                let half = format!("holds \\u{half:04x}, half of a surrogate pair");
                what.get_or_insert((Reason::MalformedJson, half));
                out.extend_from_slice(b"\\ufffd");
                at += 6;
                continue;
            }
            // An escape is taken whole: what follows `\\` is no escape.
            _ if literal[at] == b'\\' => 2,
            _ => 1,
        };
        let end = literal.len().min(at + length);
        out.extend_from_slice(&literal[at..end]);
        at = end;
    }
    if let Err(e) = std::str::from_utf8(&out) {
        let not_utf8 = format!("holds bytes that are not UTF-8, first {:#04x}", out[e.valid_up_to()]);
        what.get_or_insert((Reason::RecordNotUtf8, not_utf8));
        out = String::from_utf8_lossy(&out).into_owned().into_bytes();
    }
    what.map(|(reason, what)| (reason, what, out))
}

/// The unit of UTF-16 that an escape at the beginning stands for.
fn unit(json: &[u8]) -> Option<u16> {
    let digits = json.strip_prefix(b"\\u")?.get(..4)?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn odds(json: &str) -> Vec<String> {
        let (record, is_odd) = parse(json.as_bytes()).unwrap_or_else(|why| panic!("{json}: {why:?}"));
        let found = odd::find(&record);
        assert_eq!(is_odd, !found.is_empty(), "{json}");
        found
    }

    #[test]
    fn what_python_writes_is_read_and_named() {
        assert_eq!(
            odds(r#"{"a": NaN, "b": [Infinity, -Infinity, 1]}"#),
            ["a is NaN", "b[0] is Infinity", "b[1] is -Infinity"]
        );
        assert_eq!(odds(r#"{"a": 1e999, "b": -1E+400}"#).len(), 2);
        assert!(
            odds(&format!(r#"{{"a": {}}}"#, "9".repeat(400)))[0].ends_with("…, which is beyond all numbers")
        );
        assert_eq!(odds(r#"{"a": {"b": "x\ud800"}}"#), [r"a.b holds \ud800, half of a surrogate pair"]);
        assert_eq!(odds(r#"{"a": "\udc00\ud800", "c": 1}"#), [r"a holds \udc00, half of a surrogate pair"]);
        assert_eq!(odds("\u{feff}{\"a\": 1}\r\n"), [""; 0]);
        let (record, _) =
            parse(br#"{"NaN": "NaN, Infinity", "b": NaN, "\ud800": 1, "c": "\\ud800 \ud83d\udc4d"}"#)
                .unwrap();
        assert_eq!(record["NaN"], "NaN, Infinity", "in a string they are text");
        assert_eq!(record["\u{fffd}"], 1, "no name that could be asked for");
        assert_eq!(record["c"], "\\ud800 👍", "neither escaped backslashes nor pairs are odd");
        let (record, odd) = parse(b"{\"a\": \"caf\xe9\", \"b\": \"ok\"}").unwrap();
        assert!(odd && record["b"] == "ok");
        assert_eq!(odd::find(&record), ["a holds bytes that are not UTF-8, first 0xe9"]);
        assert_eq!(odd::settled(record)["a"], "caf\u{fffd}");
    }

    #[test]
    fn what_is_no_json_stays_none() {
        let reason = |json: &[u8]| parse(json).unwrap_err().0;
        for (json, why) in [
            (&b"{\"a\": NaN, 'b': 1}"[..], Reason::MalformedJson),
            (b"{\"a\": Nan1}", Reason::MalformedJson),
            (b"{\"a\": \"torn", Reason::TornJson),
            (b"{\"a\": NaN, \"b\": \"torn", Reason::TornJson),
            (b"{\"a\": NaN", Reason::TornJson),
            (b"[NaN]", Reason::NotAnObject),
            (b"NaN", Reason::NotAnObject),
            (b"{\"a\": \xff}", Reason::RecordNotUtf8),
            (b"{\"a\": \"\\ud8\"}", Reason::MalformedJson),
            (b"{\"a\": \"\\", Reason::TornJson),
        ] {
            assert_eq!(reason(json), why, "{}", String::from_utf8_lossy(json));
        }
        assert_eq!(
            reason(format!("{{\"a\": NaN, \"b\": {}}}", "[".repeat(200)).as_bytes()),
            Reason::DeepJson
        );
        assert_eq!(parse(b"{\"a\": NaN, \"torn").unwrap_err().1, "ends at byte 16");
        assert_eq!(parse(b"{\"a\": NaN, 'b': 1}").unwrap_err().1, "key must be a string");
    }
}
