//! JSON values one after the other from a stream that may be larger than memory.

use std::io::{self, BufRead};

use super::raw::MAX_RECORD_BYTES;

/// Cuts a stream into the elements of a top-level array, or into top-level values, by brackets and quotes
/// alone.
pub(super) struct JsonValues {
    started: bool,
    in_array: bool,
    /// Whether the stream ended within a value.
    torn: bool,
    /// The size of the last value, also of one too long to be kept.
    pub(super) value_bytes: usize,
}

impl JsonValues {
    pub(super) fn new() -> Self {
        JsonValues { started: false, in_array: false, torn: false, value_bytes: 0 }
    }

    /// Whether the stream ended between two elements of an array, after which there should have been more.
    pub(super) fn lacks_end(&self) -> bool {
        self.in_array && !self.torn
    }

    /// The next value into `value` (at most [`MAX_RECORD_BYTES`] + 1 of it); returns the line where it
    /// begins.
    pub(super) fn next(
        &mut self,
        reader: &mut dyn BufRead,
        value: &mut Vec<u8>,
        line: &mut u64,
    ) -> io::Result<Option<u64>> {
        self.value_bytes = 0;
        let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
        let mut start = None;
        loop {
            let buffer = reader.fill_buf()?;
            if buffer.is_empty() {
                self.torn |= depth > 0 || in_string;
                return Ok(start);
            }
            let (mut used, mut done) = (0, false);
            for &byte in buffer {
                used += 1;
                *line += u64::from(byte == b'\n');
                if start.is_none() {
                    // A byte order mark stands where a file was put together from several.
                    let skipped = byte.is_ascii_whitespace() || matches!(byte, 0xef | 0xbb | 0xbf);
                    if skipped || byte == b',' && self.in_array {
                        continue;
                    }
                    if byte == b'[' && !self.started {
                        (self.started, self.in_array) = (true, true);
                        continue;
                    }
                    if byte == b']' && self.in_array {
                        self.in_array = false;
                        continue;
                    }
                    self.started = true;
                    start = Some(*line);
                } else if depth == 0
                    && !in_string
                    && (byte == b',' || byte == b']' || byte.is_ascii_whitespace())
                {
                    // A scalar ends where something else begins.
                    self.in_array &= byte != b']';
                    done = true;
                    break;
                }
                self.value_bytes += 1;
                if value.len() <= MAX_RECORD_BYTES {
                    value.push(byte);
                }
                if in_string {
                    in_string = escaped || byte != b'"';
                    escaped = !escaped && byte == b'\\';
                } else {
                    match byte {
                        b'"' => in_string = true,
                        b'{' | b'[' => depth += 1,
                        b'}' | b']' => depth = depth.saturating_sub(1),
                        _ => continue,
                    }
                }
                if depth == 0 && !in_string {
                    done = true;
                    break;
                }
            }
            reader.consume(used);
            if done {
                return Ok(start);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use super::*;

    fn values(text: &str) -> Vec<(u64, String)> {
        read(text).0
    }

    fn read(text: &str) -> (Vec<(u64, String)>, bool) {
        // A tiny buffer makes every value cross its edge.
        let mut reader = BufReader::with_capacity(3, text.as_bytes());
        let (mut values, mut line, mut out) = (JsonValues::new(), 1, Vec::new());
        loop {
            let mut value = Vec::new();
            match values.next(&mut reader, &mut value, &mut line).unwrap() {
                Some(start) => out.push((start, String::from_utf8(value).unwrap())),
                None => return (out, values.lacks_end()),
            }
        }
    }

    #[test]
    fn json_is_cut_by_brackets_and_quotes() {
        let got = values("[ {\"a\": \"}\\\"]\"},\n {\"b\":\n [1, {}]}, 12,\"x\" , null]\n");
        let want =
            [(1, "{\"a\": \"}\\\"]\"}"), (2, "{\"b\":\n [1, {}]}"), (3, "12"), (3, "\"x\""), (3, "null")];
        assert_eq!(got, want.map(|(l, v)| (l, v.to_string())));
        assert_eq!(values("{}\n{\"a\":1} [2]").len(), 3);
        assert_eq!(values("{}\n\u{feff}{}"), [(1, "{}".to_string()), (2, "{}".to_string())]);
        assert_eq!(values("[{\"a\": 1"), [(1, "{\"a\": 1".to_string())], "a torn value is still seen");
        assert!(values("[]").is_empty() && values(" ").is_empty());
        for (text, lacks_end) in [
            ("[{}]", false),
            ("[{}", true),
            ("[{}, ", true),
            ("[", true),
            ("[{}, {\"a", false),
            ("{}", false),
        ] {
            assert_eq!(read(text).1, lacks_end, "{text}");
        }
    }
}
