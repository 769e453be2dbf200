//! A walk over structures in Thrift's compact protocol, which the headers of Parquet files are written in. It
//! keeps nothing: whoever walks is told the integers and the ends of structures.
//!
//! (Apache Thrift, `thrift-compact-protocol.md`.)

use std::io::{self, Error, ErrorKind, Read};

/// Structures in structures, at most; Parquet's own need six.
const MAX_DEPTH: usize = 24;

/// What is met, with the field ids that lead to it; elements of a list have the path of the list.
pub(super) enum Met<'a> {
    /// An integer or a truth value.
    Int(&'a [i16], i64),
    /// The end of a structure.
    End(&'a [i16]),
}

/// Walks over one structure.
pub(super) fn walk(source: &mut dyn Read, met: &mut dyn FnMut(Met) -> io::Result<()>) -> io::Result<()> {
    Walk { source, met, path: Vec::new(), depth: 0 }.structure()
}

struct Walk<'a> {
    source: &'a mut dyn Read,
    met: &'a mut dyn FnMut(Met) -> io::Result<()>,
    path: Vec<i16>,
    depth: usize,
}

impl Walk<'_> {
    fn structure(&mut self) -> io::Result<()> {
        let mut id = 0i16;
        loop {
            let head = self.byte()?;
            if head & 15 == 0 {
                return (self.met)(Met::End(&self.path));
            }
            id = match head >> 4 {
                0 => self.int()? as i16,
                step => id.checked_add(i16::from(step)).ok_or_else(|| damaged("a field id is too large"))?,
            };
            self.path.push(id);
            match head & 15 {
                truth @ (1 | 2) => (self.met)(Met::Int(&self.path, i64::from(truth == 1)))?,
                kind => self.value(kind)?,
            }
            self.path.pop();
        }
    }

    fn value(&mut self, kind: u8) -> io::Result<()> {
        if self.depth == MAX_DEPTH {
            return Err(damaged("structures are nested too deep"));
        }
        self.depth += 1;
        match kind {
            // In a list, a truth value is a byte.
            1..=3 => {
                let byte = self.byte()?;
                (self.met)(Met::Int(&self.path, i64::from(byte)))?;
            }
            4..=6 => {
                let int = self.int()?;
                (self.met)(Met::Int(&self.path, int))?;
            }
            7 => self.skip(8)?,
            8 => {
                let length = self.varint()?;
                self.skip(length)?;
            }
            9 | 10 => self.list()?,
            12 => self.structure()?,
            13 => self.skip(16)?,
            _ => return Err(damaged("a field is of an unknown type")),
        }
        self.depth -= 1;
        Ok(())
    }

    /// Every element takes a byte at least, so a length that is a lie ends with the source.
    fn list(&mut self) -> io::Result<()> {
        let head = self.byte()?;
        let length = match head >> 4 {
            15 => self.varint()?,
            length => u64::from(length),
        };
        (0..length).try_for_each(|_| self.value(head & 15))
    }

    fn byte(&mut self) -> io::Result<u8> {
        let mut byte = [0];
        self.source.read_exact(&mut byte)?;
        Ok(byte[0])
    }

    fn varint(&mut self) -> io::Result<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(damaged("a number is too long"))
    }

    /// Zigzag: 0, −1, 1, −2 …
    fn int(&mut self) -> io::Result<i64> {
        self.varint().map(|v| (v >> 1) as i64 ^ -((v & 1) as i64))
    }

    fn skip(&mut self, length: u64) -> io::Result<()> {
        match io::copy(&mut (&mut *self.source).take(length), &mut io::sink())? == length {
            true => Ok(()),
            false => Err(ErrorKind::UnexpectedEof.into()),
        }
    }
}

fn damaged(what: &str) -> Error {
    Error::new(ErrorKind::InvalidData, what)
}
