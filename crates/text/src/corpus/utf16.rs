//! Text in UTF-16 as UTF-8, while it is read: Windows writes it, PowerShell's `>` among others, and Python
//! when asked to.
//!
//! What is no text in UTF-16 becomes what is none in UTF-8, so that whoever reads on finds it where it
//! stands.

use std::io::{self, BufRead, Error, ErrorKind, Read};

/// How much of a text without a mark is looked at.
const LOOK_BYTES: usize = 4096;
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// The order of the two bytes of a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Little,
    Big,
}

impl Order {
    fn unit(self, bytes: [u8; 2]) -> u16 {
        match self {
            Order::Little => u16::from_le_bytes(bytes),
            Order::Big => u16::from_be_bytes(bytes),
        }
    }
}

/// The text of `reader` in UTF-8, without a byte order mark. What is not in UTF-16 passes as it is.
///
/// # Errors
/// It cannot be read; it is in UTF-32 ([`ErrorKind::Unsupported`]).
pub(super) fn as_utf8<'a>(mut reader: Box<dyn BufRead + 'a>) -> io::Result<Box<dyn BufRead + 'a>> {
    let head = reader.fill_buf()?;
    if head.starts_with(&[0xff, 0xfe, 0, 0]) || head.starts_with(&[0, 0, 0xfe, 0xff]) {
        let what = "text in UTF-32: convert it with iconv -f UTF-32 -t UTF-8";
        return Err(Error::new(ErrorKind::Unsupported, what));
    }
    let mut reader: Box<dyn BufRead + 'a> = match order(head) {
        Some(order) => {
            Box::new(Utf16 { source: reader, order, odd: None, high: None, text: Vec::new(), at: 0 })
        }
        None => reader,
    };
    if reader.fill_buf()?.starts_with(BYTE_ORDER_MARK) {
        reader.consume(BYTE_ORDER_MARK.len());
    }
    Ok(reader)
}

/// In which order a text is in UTF-16, if it is: its mark tells, or else that every other byte is often a
/// zero and the characters are those of texts.
fn order(head: &[u8]) -> Option<Order> {
    match head {
        [0xff, 0xfe, ..] => return Some(Order::Little),
        [0xfe, 0xff, ..] => return Some(Order::Big),
        _ => {}
    }
    let units = head[..head.len().min(LOOK_BYTES)].as_chunks::<2>().0;
    let zeros = |place: usize| units.iter().filter(|unit| unit[place] == 0).count();
    let order = match (zeros(0), zeros(1)) {
        (0, zeros) if 4 * zeros >= units.len() && units.len() > 1 => Order::Little,
        (zeros, 0) if 4 * zeros >= units.len() && units.len() > 1 => Order::Big,
        _ => return None,
    };
    let is_text = |unit: u16| unit >= 0x20 || matches!(unit, 0x09 | 0x0a | 0x0d);
    units.iter().all(|&unit| is_text(order.unit(unit))).then_some(order)
}

struct Utf16<R> {
    source: R,
    order: Order,
    /// The first byte of a unit whose second one has not come.
    odd: Option<u8>,
    /// The first half of a pair.
    high: Option<u16>,
    text: Vec<u8>,
    /// What of `text` was taken.
    at: usize,
}

impl<R: BufRead> Utf16<R> {
    fn more(&mut self) -> io::Result<()> {
        self.at = 0;
        self.text.clear();
        while self.text.is_empty() {
            let bytes = self.source.fill_buf()?;
            if bytes.is_empty() {
                // Half a pair and half a unit: no UTF-8 either.
                self.text.extend(self.high.take().iter().flat_map(|&half| generalized(half)));
                self.text.extend(self.odd.take().map(|_| 0xff));
                return Ok(());
            }
            let n = bytes.len();
            let bytes: Vec<u8> = self.odd.take().into_iter().chain(bytes.iter().copied()).collect();
            self.source.consume(n);
            let (units, rest) = bytes.as_chunks::<2>();
            self.odd = rest.first().copied();
            units.iter().for_each(|&unit| self.push(self.order.unit(unit)));
        }
        Ok(())
    }

    fn push(&mut self, unit: u16) {
        if let Some(high) = self.high.take() {
            if let Some(Ok(char)) = char::decode_utf16([high, unit]).next() {
                self.text.extend(char.encode_utf8(&mut [0; 4]).bytes());
                return;
            }
            self.text.extend(generalized(high));
        }
        match char::from_u32(u32::from(unit)) {
            Some(char) => self.text.extend(char.encode_utf8(&mut [0; 4]).bytes()),
            None if unit < 0xdc00 => self.high = Some(unit),
            None => self.text.extend(generalized(unit)),
        }
    }
}

/// A lone surrogate in the bytes that UTF-8 would give it, if it did.
fn generalized(half: u16) -> [u8; 3] {
    [0xe0 | (half >> 12) as u8, 0x80 | (half >> 6 & 0x3f) as u8, 0x80 | (half & 0x3f) as u8]
}

impl<R: BufRead> BufRead for Utf16<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at == self.text.len() {
            self.more()?;
        }
        Ok(&self.text[self.at..])
    }

    fn consume(&mut self, n: usize) {
        self.at += n;
    }
}

impl<R: BufRead> Read for Utf16<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.fill_buf()?.read(buffer)?;
        self.consume(n);
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use super::*;

    const TEXT: &str = "{\"text\": \"Zwölf 汉字 und 🦜\"}\n";

    fn encoded(text: &str, order: Order) -> Vec<u8> {
        let bytes = |unit: u16| match order {
            Order::Little => unit.to_le_bytes(),
            Order::Big => unit.to_be_bytes(),
        };
        text.encode_utf16().flat_map(bytes).collect()
    }

    fn read(bytes: &[u8], capacity: usize) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        as_utf8(Box::new(BufReader::with_capacity(capacity, bytes)))?.read_to_end(&mut out)?;
        Ok(out)
    }

    #[test]
    fn both_orders_are_read_with_a_mark_and_without() {
        for order in [Order::Little, Order::Big] {
            for text in [TEXT.to_string(), format!("\u{feff}{TEXT}"), TEXT.repeat(3000)] {
                // An odd buffer cuts units and pairs.
                for capacity in [21, 8192] {
                    let got = read(&encoded(&text, order), capacity).unwrap();
                    assert_eq!(String::from_utf8(got).unwrap(), text.trim_start_matches('\u{feff}'));
                }
            }
        }
    }

    #[test]
    fn other_texts_pass_as_they_are() {
        for text in
            [TEXT.as_bytes(), b"", b"a", b"ab", b"\0\0\0\0", b"caf\xe9", &[1, 0, 2, 0, 3, 0], b"a\0b\0\0c"]
        {
            assert_eq!(read(text, 4096).unwrap(), text);
        }
        assert_eq!(read("\u{feff}x".as_bytes(), 4096).unwrap(), b"x", "but for the mark");
        let utf32: Vec<u8> = "\u{feff}x".chars().flat_map(|c| u32::from(c).to_le_bytes()).collect();
        let error = read(&utf32, 4096).unwrap_err();
        assert!(error.kind() == ErrorKind::Unsupported && error.to_string().contains("UTF-32"), "{error}");
    }

    #[test]
    fn what_is_no_text_is_found_where_it_stands() {
        let lone =
            [encoded("\u{feff}a", Order::Little), vec![0, 0xd8], encoded("b\n", Order::Little)].concat();
        let got = read(&lone, 4096).unwrap();
        assert_eq!(std::str::from_utf8(&got).unwrap_err().valid_up_to(), 1);
        assert!(got.ends_with(b"b\n"));
        let torn = encoded("\u{feff}ab", Order::Big);
        assert_eq!(read(&torn[..torn.len() - 1], 4096).unwrap(), b"a\xff");
        assert_eq!(read(&[&torn[..], &[0xd8, 0x3e]].concat(), 4096).unwrap(), b"ab\xed\xa0\xbe");
    }
}
