//! One-dimensional NumPy arrays of unsigned integers (NEP 1, format version 1.0), written in one pass and
//! read by position.

use std::fs::File;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

use crate::system;
use anyhow::{Context, Result, bail, ensure};

/// Magic, version and length take 10 bytes of it.
const HEADER_BYTES: usize = 128;
const MAGIC: &[u8; 8] = b"\x93NUMPY\x01\x00";

/// How a token is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Width {
    U16,
    U32,
}

impl Width {
    /// The narrowest for ids below `vocab_size`: 16 bits up to 65,535 tokens.
    pub(super) fn of(vocab_size: usize) -> Width {
        if vocab_size <= 65_535 { Width::U16 } else { Width::U32 }
    }

    pub(super) fn bytes(self) -> usize {
        match self {
            Width::U16 => 2,
            Width::U32 => 4,
        }
    }

    /// NumPy's name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Width::U16 => "uint16",
            Width::U32 => "uint32",
        }
    }

    fn descr(self) -> &'static str {
        match self {
            Width::U16 => "<u2",
            Width::U32 => "<u4",
        }
    }

    /// Appends the tokens stored in `bytes`.
    pub(super) fn decode(self, bytes: &[u8], tokens: &mut Vec<u32>) {
        match self {
            Width::U16 => {
                tokens.extend(bytes.chunks_exact(2).map(|b| u32::from(u16::from_le_bytes([b[0], b[1]]))))
            }
            Width::U32 => {
                tokens.extend(bytes.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])))
            }
        }
    }
}

fn header(width: Width, len: u64) -> Vec<u8> {
    let descr = width.descr();
    let text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({len},), }}");
    let mut header = MAGIC.to_vec();
    header.extend(((HEADER_BYTES - 10) as u16).to_le_bytes());
    header.extend(text.bytes());
    header.resize(HEADER_BYTES - 1, b' ');
    header.push(b'\n');
    header
}

/// Writes an array whose length is known only at the end.
pub(super) struct Writer {
    file: BufWriter<File>,
    width: Width,
    len: u64,
    hasher: blake3::Hasher,
    scratch: Vec<u8>,
}

impl Writer {
    pub(super) fn create(path: &Path, width: Width) -> Result<Writer> {
        let file = File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
        let mut file = BufWriter::with_capacity(1 << 20, file);
        file.write_all(&header(width, 0))?;
        Ok(Writer { file, width, len: 0, hasher: blake3::Hasher::new(), scratch: Vec::new() })
    }

    /// Appends tokens, which must fit the width.
    pub(super) fn write(&mut self, tokens: &[u32]) -> Result<()> {
        self.scratch.clear();
        match self.width {
            Width::U16 => {
                for &token in tokens {
                    let token = u16::try_from(token).expect("an id below the vocabulary's size");
                    self.scratch.extend(token.to_le_bytes());
                }
            }
            Width::U32 => self.scratch.extend(tokens.iter().flat_map(|t| t.to_le_bytes())),
        }
        self.hasher.update(&self.scratch);
        self.len += tokens.len() as u64;
        self.file.write_all(&self.scratch).context("cannot write tokens: is the disk full?")
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Completes the file; returns the number of tokens and the BLAKE3 of their bytes, in hexadecimal.
    pub(super) fn finish(self) -> Result<(u64, String)> {
        let mut file = self.file.into_inner().map_err(|e| e.into_error()).context("cannot write tokens")?;
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&header(self.width, self.len))?;
        Ok((self.len, self.hasher.finalize().to_hex().to_string()))
    }
}

/// An open array.
#[derive(Debug)]
pub(super) struct Array {
    pub(super) file: File,
    pub(super) width: Width,
    pub(super) len: u64,
    /// Where the first element lies.
    pub(super) offset: u64,
}

impl Array {
    /// Opens a one-dimensional array of `<u2` or `<u4`, of format version 1 or 2, and checks its size.
    pub(super) fn open(path: &Path) -> Result<Array> {
        let mut file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        let size = file.metadata()?.len();
        let (width, len, offset) =
            read_header(&mut file).with_context(|| format!("{} is no array of tokens", path.display()))?;
        let want = len.checked_mul(width.bytes() as u64).and_then(|n| n.checked_add(offset));
        ensure!(
            want == Some(size),
            "{} is {size} bytes long but its header announces {len} tokens: make the shards again",
            path.display()
        );
        Ok(Array { file, width, len, offset })
    }

    /// Fills `buffer` from element `at` on.
    pub(super) fn read_at(&self, buffer: &mut [u8], at: u64) -> std::io::Result<()> {
        let offset = self.offset + at * self.width.bytes() as u64;
        system::read_exact_at(&self.file, buffer, offset)
    }
}

fn read_header(file: &mut File) -> Result<(Width, u64, u64)> {
    let mut start = [0u8; 10];
    file.read_exact(&mut start).context("shorter than a NumPy header")?;
    ensure!(start.starts_with(b"\x93NUMPY"), "it does not begin as NumPy files do");
    let (len, at) = match start[6] {
        1 => (u64::from(u16::from_le_bytes([start[8], start[9]])), 10),
        2 => {
            let mut high = [0u8; 2];
            file.read_exact(&mut high).context("shorter than a NumPy header")?;
            (u64::from(u32::from_le_bytes([start[8], start[9], high[0], high[1]])), 12)
        }
        version => bail!("NumPy format version {version} is not known"),
    };
    let mut text = String::new();
    file.take(len).read_to_string(&mut text).context("a damaged NumPy header")?;
    ensure!(text.len() as u64 == len, "a NumPy header cut short");
    let value = |key: &str| text.split_once(&format!("'{key}':")).map(|(_, rest)| rest.trim_start());
    let width = match value("descr") {
        Some(rest) if rest.starts_with("'<u2'") => Width::U16,
        Some(rest) if rest.starts_with("'<u4'") => Width::U32,
        other => {
            let descr = other.and_then(|rest| rest.split(',').next()).unwrap_or("nothing");
            bail!("its elements are {descr}, not uint16 or uint32")
        }
    };
    let shape =
        value("shape").and_then(|rest| rest.strip_prefix('(')?.split_once(')')).map(|(shape, _)| shape);
    let len = shape.and_then(|shape| shape.strip_suffix(',')?.trim().parse().ok());
    let Some(len) = len else { bail!("its shape is ({}), not one-dimensional", shape.unwrap_or("?")) };
    Ok((width, len, at + text.len() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let dir = tempfile::tempdir().unwrap();
        for (vocab_size, tokens) in [(65_535, [0, 7, 65_534]), (65_536, [1, 65_535, 3])] {
            let (path, width) = (dir.path().join("a.npy"), Width::of(vocab_size));
            let mut writer = Writer::create(&path, width).unwrap();
            writer.write(&tokens[..1]).unwrap();
            writer.write(&tokens[1..]).unwrap();
            assert_eq!(writer.finish().unwrap().0, 3);
            let array = Array::open(&path).unwrap();
            assert_eq!((array.width, array.len, array.offset % 64), (width, 3, 0));
            let mut buffer = vec![0; 2 * width.bytes()];
            array.read_at(&mut buffer, 1).unwrap();
            let mut read = Vec::new();
            width.decode(&buffer, &mut read);
            assert_eq!(read, tokens[1..]);
        }
    }

    #[test]
    fn what_is_no_array_of_tokens_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.npy");
        let fails = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            format!("{:#}", Array::open(&path).unwrap_err())
        };
        let npy = |text: &str| [MAGIC as &[u8], &(text.len() as u16).to_le_bytes(), text.as_bytes()].concat();
        assert!(fails(b"").contains("shorter than a NumPy header"));
        assert!(fails(b"PK\x03\x04 something").contains("does not begin"));
        let good = "{'shape': (0,), 'fortran_order': False, 'descr': '<u2'}";
        std::fs::write(&path, npy(good)).unwrap();
        assert_eq!(Array::open(&path).unwrap().len, 0);
        assert!(fails(&npy(&good.replace("<u2", "<f4"))).contains("'<f4'"));
        assert!(fails(&npy(&good.replace("(0,)", "(2, 3)"))).contains("(2, 3)"));
        assert!(fails(&npy(&good.replace("(0,)", "(5,)"))).contains("announces 5 tokens"));
        assert!(fails(&npy(&good.replace("(0,)", "(18446744073709551615,)"))).contains("announces"));
        assert!(fails(&npy(good)[..30]).contains("cut short"));
    }
}
