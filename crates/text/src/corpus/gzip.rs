//! Unpacks all members of a gzip stream (RFC 1952), one after the other. Zeros after a member are padding, as
//! tapes and object stores leave it; anything else there is damage, since what it was is lost.

use std::io::{self, BufRead, Error, Read};
use std::mem;

use flate2::bufread::GzDecoder;

/// What a member begins with.
pub(super) const MAGIC: [u8; 2] = [0x1f, 0x8b];

pub(super) struct Gzip<R> {
    place: Place<R>,
    /// Members that were read to their ends.
    members: u64,
}

enum Place<R> {
    Between(R),
    Within(GzDecoder<R>),
    /// After an error there is nothing to go on with.
    Broken,
}

impl<R: BufRead> Gzip<R> {
    pub(super) fn new(source: R) -> Gzip<R> {
        Gzip { place: Place::Between(source), members: 0 }
    }

    /// The member that begins here; the source itself when it has ended.
    fn next(&self, mut source: R) -> io::Result<Place<R>> {
        if self.members > 0 {
            skip_zeros(&mut source)?;
            let head = source.fill_buf()?;
            if head.is_empty() {
                return Ok(Place::Between(source));
            }
            if head[0] != MAGIC[0] {
                return Err(Error::other(format!("after member {} stands something else", self.members)));
            }
        }
        Ok(Place::Within(GzDecoder::new(source)))
    }
}

impl<R: BufRead> Read for Gzip<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match mem::replace(&mut self.place, Place::Broken) {
                Place::Between(source) => {
                    self.place = self.next(source)?;
                    if matches!(self.place, Place::Between(_)) {
                        return Ok(0);
                    }
                }
                Place::Within(mut member) => {
                    let n = member.read(buffer)?;
                    if n > 0 || buffer.is_empty() {
                        self.place = Place::Within(member);
                        return Ok(n);
                    }
                    self.members += 1;
                    self.place = Place::Between(member.into_inner());
                }
                Place::Broken => return Err(Error::other("it was damaged before")),
            }
        }
    }
}

/// Passes over zeros.
pub(super) fn skip_zeros(source: &mut impl BufRead) -> io::Result<()> {
    loop {
        let buffer = source.fill_buf()?;
        let zeros = buffer.iter().take_while(|&&byte| byte == 0).count();
        let more = zeros > 0 && zeros == buffer.len();
        source.consume(zeros);
        if !more {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Write};

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn member(text: &str) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    }

    /// What comes out, and what is wrong.
    fn unpacked(bytes: &[u8]) -> (String, Option<String>) {
        // A small buffer makes padding cross its edge.
        let mut source = Gzip::new(BufReader::with_capacity(64, bytes));
        let mut out = Vec::new();
        let error = source.read_to_end(&mut out).err().map(|e| e.to_string());
        (String::from_utf8(out).unwrap(), error)
    }

    #[test]
    fn members_follow_one_another_with_zeros_between_and_after_them() {
        let (one, two, zeros) = (member("one "), member("two"), vec![0; 512]);
        let whole = |parts: &[&[u8]], text: &str| {
            assert_eq!(unpacked(&parts.concat()), (text.to_string(), None));
        };
        whole(&[&one], "one ");
        whole(&[&one, &two], "one two");
        whole(&[&one, &zeros], "one ");
        whole(&[&one, &[0]], "one ");
        whole(&[&one, &zeros, &two, &zeros], "one two");
        whole(&[&one, &member(""), &two], "one two");
    }

    #[test]
    fn what_else_follows_is_damage_and_what_came_before_is_there() {
        let (one, zeros) = (member("one "), vec![0; 512]);
        for rest in [&b"garbage"[..], &[0x1f], &[0x1f, 0x8b], &[&zeros[..], b"x"].concat()] {
            let (text, error) = unpacked(&[&one, rest].concat());
            assert_eq!(text, "one ");
            assert!(error.is_some(), "{rest:?}");
        }
        assert_eq!(unpacked(&[&one[..], b"x"].concat()).1.unwrap(), "after member 1 stands something else");
        for none in [&b""[..], &zeros, b"plain"] {
            assert!(unpacked(none).1.is_some(), "{none:?}");
        }
        for cut in 1..one.len() {
            assert!(unpacked(&one[..cut]).1.is_some(), "cut at {cut}");
        }
    }
}
