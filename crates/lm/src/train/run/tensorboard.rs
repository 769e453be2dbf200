//! Metrics as TensorBoard reads them: records of TFRecord's frame with `Event` messages of protocol buffers, written as they
//! happen.

use anyhow::{Context, Result};
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// A file of events that grows.
#[derive(Debug)]
pub struct EventFile {
    file: File,
}

impl EventFile {
    /// Begins a file of its own in `dir`, whose first step is `step`: what older files say of it and later steps
    /// counts no longer.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn begin(dir: &Path, step: u64) -> Result<EventFile> {
        fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        // TensorBoard reads files in the order of their names.
        for n in 0.. {
            let path = dir.join(format!("events.out.tfevents.{seconds:010}.{n}.mynah"));
            match OpenOptions::new().append(true).create_new(true).open(&path) {
                Ok(file) => {
                    let mut events = EventFile { file };
                    events.write(&event(0, |bytes| field(bytes, 3, b"brain.Event:2")))?;
                    // SessionLog: START.
                    events.write(&event(step, |bytes| field(bytes, 7, &[0x08, 0x01])))?;
                    return Ok(events);
                }
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error).with_context(|| format!("cannot make {}", path.display())),
            }
        }
        unreachable!("a number that no file has")
    }

    /// Writes the values of a step.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn scalars<'v>(&mut self, step: u64, values: impl IntoIterator<Item = (&'v str, f64)>) -> Result<()> {
        let mut summary = Vec::new();
        for (name, value) in values {
            let mut of = Vec::new();
            field(&mut of, 1, name.as_bytes());
            of.push((2 << 3) | 5);
            of.extend((value as f32).to_le_bytes());
            field(&mut summary, 1, &of);
        }
        self.write(&event(step, |bytes| field(bytes, 5, &summary)))
    }

    /// Length, its checksum, data, its checksum: a file that ends within one is read up to it.
    fn write(&mut self, data: &[u8]) -> Result<()> {
        let len = (data.len() as u64).to_le_bytes();
        let parts = [&len[..], &masked(&len).to_le_bytes(), data, &masked(data).to_le_bytes()];
        self.file.write_all(&parts.concat()).context("cannot write TensorBoard's events")
    }
}

/// `Event`: wall_time = 1, step = 2, and what `rest` adds.
fn event(step: u64, rest: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64());
    let mut bytes = vec![(1 << 3) | 1];
    bytes.extend(seconds.to_le_bytes());
    bytes.push(2 << 3);
    varint(&mut bytes, step);
    rest(&mut bytes);
    bytes
}

/// A field of bytes.
fn field(to: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    to.push((number << 3) | 2);
    varint(to, bytes.len() as u64);
    to.extend(bytes);
}

fn varint(to: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        to.push(value as u8 | 0x80);
        value >>= 7;
    }
    to.push(value as u8);
}

/// CRC-32C (Castagnoli), turned and shifted as TFRecord has it.
fn masked(data: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in data {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ ((crc & 1) * 0x82f6_3b78);
        }
    }
    (!crc).rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_castagnolis() {
        let of = |data: &[u8]| masked(data).wrapping_sub(0xa282_ead8).rotate_left(15);
        // RFC 3720, appendix B.4.
        assert_eq!(of(&[0; 32]), 0x8a91_36aa);
        assert_eq!(of(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(of(&(0..32).collect::<Vec<u8>>()), 0x46dd_794e);
    }

    #[test]
    fn records_say_what_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let mut first = EventFile::begin(dir.path(), 1).unwrap();
        first.scalars(300, [("loss", 0.5), ("objective/kl", -2.0)]).unwrap();
        EventFile::begin(dir.path(), 301).unwrap();
        let mut files: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|file| file.unwrap().path()).collect();
        files.sort();
        assert_eq!(files.len(), 2, "a run that goes on has a file of its own");
        let bytes = fs::read(&files[0]).unwrap();
        let (mut at, mut records) = (0, Vec::new());
        while at < bytes.len() {
            let len = u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
            assert_eq!(masked(&bytes[at..at + 8]).to_le_bytes(), bytes[at + 8..at + 12]);
            let data = &bytes[at + 12..at + 12 + len];
            assert_eq!(masked(data).to_le_bytes(), bytes[at + 12 + len..at + 16 + len]);
            records.push(data.to_vec());
            at += 16 + len;
        }
        assert_eq!(records.len(), 3);
        assert!(records[0].ends_with(b"\x1a\x0dbrain.Event:2"));
        assert!(
            records[1].ends_with(b"\x3a\x02\x08\x01"),
            "a session starts: what came later before is gone"
        );
        // step 300, then the summary of two values.
        let value = |name: &[u8], value: f32| {
            let head = [&[0x0a, name.len() as u8 + 7, 0x0a, name.len() as u8], name, &[0x15]].concat();
            [head, value.to_le_bytes().to_vec()].concat()
        };
        let summary = [value(b"loss", 0.5), value(b"objective/kl", -2.0)].concat();
        let wanted = [&[0x10, 0xac, 0x02, 0x2a, summary.len() as u8], &summary[..]].concat();
        assert_eq!(records[2][9..], wanted);
    }
}
