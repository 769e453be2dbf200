//! Append-only files of JSON lines that survive `kill -9`: a line is written in one call, and a resumed run
//! cuts what the interrupted one had written after its last checkpoint.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

/// One file of JSON lines.
#[derive(Debug)]
pub struct Journal {
    file: File,
    path: PathBuf,
}

#[derive(Deserialize)]
struct Stepped {
    step: u64,
}

impl Journal {
    /// Opens the file for appending; it begins empty. A torn last line is cut.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = OpenOptions::new().read(true).append(true).create(true).open(path);
        let file = file.with_context(|| format!("cannot open {} for writing", path.display()))?;
        let mut journal = Self { file, path: path.to_path_buf() };
        let bytes = journal.read()?;
        let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |last| last + 1);
        journal.cut(&bytes, whole)?;
        Ok(journal)
    }

    /// Appends `line` as one JSON object. Keys keep their order; numbers that are not finite become `null`.
    ///
    /// An `f32` field prints its shortest form, an `f32` widened to `f64` beforehand prints seventeen digits.
    pub fn append(&mut self, line: &impl Serialize) -> Result<()> {
        let mut bytes = serde_json::to_vec(line).context("a line of a journal must be a JSON object")?;
        bytes.push(b'\n');
        self.file
            .write_all(&bytes)
            .with_context(|| format!("cannot append to {}: is the disk full?", self.path.display()))
    }

    /// Waits until everything appended is on disk.
    pub fn sync(&self) -> Result<()> {
        self.file.sync_data().with_context(|| format!("cannot sync {} to disk", self.path.display()))
    }

    /// Cuts every line after `step` and returns the last step kept, if any line is left.
    ///
    /// What follows the first unreadable line is lost with it; should a line of `step` or before stand there,
    /// the file is damaged in a way that cutting cannot mend, and is refused.
    pub(super) fn truncate_after(&mut self, step: u64) -> Result<Option<u64>> {
        let bytes = self.read()?;
        let (mut end, mut last, mut first_cut) = (0, None, None);
        for (index, line) in bytes.split_inclusive(|&byte| byte == b'\n').enumerate() {
            let found = serde_json::from_slice::<Stepped>(line).ok().map(|stepped| stepped.step);
            match (found, first_cut) {
                (Some(found), None) if found <= step => {
                    end += line.len();
                    last = Some(found);
                }
                (Some(found), Some(cut)) if found <= step => bail!(
                    "{} is damaged at line {cut}: step {found} stands after it, at line {}. Mend or remove the line \
                     and run the same command again",
                    self.path.display(),
                    index + 1
                ),
                _ => first_cut = first_cut.or(Some(index + 1)),
            }
        }
        self.cut(&bytes, end)?;
        Ok(last)
    }

    /// Cuts every line.
    pub(super) fn clear(&mut self) -> Result<()> {
        let bytes = self.read()?;
        self.cut(&bytes, 0)
    }

    fn read(&mut self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.file
            .seek(SeekFrom::Start(0))
            .and_then(|_| self.file.read_to_end(&mut bytes))
            .with_context(|| format!("cannot read {}", self.path.display()))?;
        Ok(bytes)
    }

    fn cut(&self, bytes: &[u8], end: usize) -> Result<()> {
        if end == bytes.len() {
            return Ok(());
        }
        self.file
            .set_len(end as u64)
            .and_then(|()| self.file.sync_all())
            .with_context(|| format!("cannot cut {} to {end} bytes", self.path.display()))
    }
}

/// Reads a journal that somebody may still be writing to; needs no lock. A file that does not exist is empty,
/// and a torn last line is no damage: it is about to be finished, or will be cut.
pub fn read_lines<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<Lines<T>> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let mut lines = Lines { items: Vec::new(), unreadable: Vec::new() };
    for (index, line) in bytes.split_inclusive(|&byte| byte == b'\n').enumerate() {
        match serde_json::from_slice(line) {
            _ if !line.ends_with(b"\n") => {}
            Ok(item) => lines.items.push(item),
            Err(_) => lines.unreadable.push(index + 1),
        }
    }
    Ok(lines)
}

/// What [`read_lines`] found.
#[derive(Debug)]
pub struct Lines<T> {
    /// The lines that could be read, in order.
    pub items: Vec<T>,
    /// Line numbers, from 1, of those that could not.
    pub unreadable: Vec<usize>,
}
