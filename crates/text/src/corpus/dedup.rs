//! Exact duplicates, for any number of documents in bounded memory.
//!
//! A document's key is the first 16 bytes of the BLAKE3 of its text (two different texts among 10¹² share one
//! with probability 10⁻¹⁵). The first [`MAX_SEEN`] different keys live in a set. What is new after that is
//! let through and its key logged to a file; at the end the log is compared with itself, one partition of the
//! keys at a time, and the repeats are named by their number, so that they can be taken out again.

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufReader, BufWriter, ErrorKind, Read, Write};
use std::path::PathBuf;

use anyhow::{Context, Result};

/// Keys held in memory: as many as a table of 2²⁴ places takes (0.29 GB; 0.43 GB while it grows).
pub const MAX_SEEN: usize = (1 << 24) / 8 * 7;

/// The identity of a text.
pub(super) type Key = u128;

/// The key of a text.
pub(super) fn key(text: &str) -> Key {
    let hash = blake3::hash(text.as_bytes());
    let (half, _) = hash.as_bytes().split_at(16);
    Key::from_le_bytes(half.try_into().expect("half of 32 bytes"))
}

/// The keys met so far.
pub(super) struct Seen {
    set: HashSet<Key>,
    limit: usize,
    log_path: PathBuf,
    log: Option<BufWriter<File>>,
    logged: u64,
}

impl Seen {
    pub(super) fn new(log_path: PathBuf, limit: usize) -> Seen {
        Seen { set: HashSet::new(), limit, log_path, log: None, logged: 0 }
    }

    /// Whether the key was met before; `number` is what the document is called if this comes out only later.
    pub(super) fn is_repeat(&mut self, key: Key, number: u64) -> Result<bool> {
        if self.set.len() < self.limit {
            return Ok(!self.set.insert(key));
        }
        if self.set.contains(&key) {
            return Ok(true);
        }
        let log = match &mut self.log {
            Some(log) => log,
            None => {
                let file = File::create(&self.log_path)
                    .with_context(|| format!("cannot create {}", self.log_path.display()))?;
                self.log.insert(BufWriter::with_capacity(1 << 20, file))
            }
        };
        log.write_all(&key.to_le_bytes())?;
        log.write_all(&number.to_le_bytes())?;
        self.logged += 1;
        Ok(false)
    }

    /// The repeats that were let through.
    pub(super) fn late_repeats(self) -> Result<Repeats> {
        let Seen { set, limit, log_path, log, logged } = self;
        drop(set);
        let Some(log) = log else { return Ok(Repeats::default()) };
        log.into_inner().map_err(|e| e.into_error())?;
        // Partitions are not exactly equal: aim at half of what fits.
        let partitions = (logged as u128 * 2).div_ceil(limit as u128);
        let mut repeats = Repeats::default();
        for partition in 0..partitions {
            let mut reader = BufReader::with_capacity(1 << 20, File::open(&log_path)?);
            let mut seen = HashSet::new();
            let mut entry = [0u8; 24];
            loop {
                match reader.read_exact(&mut entry) {
                    Ok(()) => {}
                    Err(e) if e.kind() == ErrorKind::UnexpectedEof => break,
                    Err(e) => return Err(e).context("cannot read the log of keys"),
                }
                let (key, number) = entry.split_at(16);
                let key = Key::from_le_bytes(key.try_into().expect("16 bytes"));
                if key % partitions == partition && !seen.insert(key) {
                    repeats.insert(u64::from_le_bytes(number.try_into().expect("8 bytes")));
                }
            }
        }
        std::fs::remove_file(&log_path)?;
        Ok(repeats)
    }
}

/// Numbers of documents, a bit each.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    words: Vec<u64>,
}

impl Repeats {
    fn insert(&mut self, number: u64) {
        let word = (number / 64) as usize;
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        self.words[word] |= 1 << (number % 64);
    }

    pub(super) fn contains(&self, number: u64) -> bool {
        self.words.get((number / 64) as usize).is_some_and(|w| w >> (number % 64) & 1 == 1)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.words.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_memory_finds_the_same_repeats() {
        let dir = tempfile::tempdir().unwrap();
        let texts: Vec<String> = (0..3000u64).map(|i| format!("{}", i * i % 1009)).collect();
        let repeats = |limit| {
            let mut seen = Seen::new(dir.path().join(format!("log-{limit}")), limit);
            let mut repeats = Vec::new();
            for (i, text) in texts.iter().enumerate() {
                if seen.is_repeat(key(text), i as u64).unwrap() {
                    repeats.push(i as u64);
                }
            }
            let late = seen.late_repeats().unwrap();
            assert_eq!(late.is_empty(), limit > 3000);
            repeats.extend((0..3000).filter(|&i| late.contains(i)));
            repeats.sort_unstable();
            repeats
        };
        let all = repeats(10_000);
        assert_eq!(all.len(), 3000 - 505, "1009 is prime: it has 505 squares");
        assert_eq!(repeats(10), all);
        assert_eq!(repeats(300), all);
    }
}
