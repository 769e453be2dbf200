//! Documents on disk: shards of JSON lines, written in order and read back.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use serde::{Deserialize, Serialize};

use super::Split;
use super::report::{Report, Shard};

/// A shard is closed when it has grown beyond this (64 MiB).
const SHARD_BYTES: u64 = 64 << 20;

/// The record of a complete corpus.
pub(crate) const RECORD: &str = "report.json";

/// A text and where it came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// The text: UTF-8, without NUL.
    pub text: String,
    /// `FILE`, or `FILE:LINE` for a part of a file, or `FILE:LINE:PATH` when the record had a `path`.
    pub source: String,
}

/// Reads one split of a complete corpus, in order; each shard's digest is verified as it is read.
pub struct Documents {
    dir: PathBuf,
    /// Shards still to be opened, last first.
    shards: Vec<Shard>,
    current: Option<Current>,
}

struct Current {
    shard: Shard,
    reader: BufReader<File>,
    hasher: blake3::Hasher,
    line: u64,
}

impl Documents {
    /// Opens a corpus; fails when it is not complete.
    pub fn open(dir: &Path, split: Split) -> Result<Documents> {
        let report = Report::load(dir)?;
        let prefix = format!("{}-", split.name());
        let shards = report.shards.into_iter().filter(|s| s.name.starts_with(&prefix)).rev().collect();
        Ok(Documents { dir: dir.into(), shards, current: None })
    }

    pub(super) fn of_shards(dir: &Path, shards: Vec<Shard>) -> Documents {
        Documents { dir: dir.into(), shards: shards.into_iter().rev().collect(), current: None }
    }

    fn read(&mut self) -> Result<Option<Document>> {
        loop {
            let current = match &mut self.current {
                Some(current) => current,
                None => match self.shards.pop() {
                    Some(shard) => self.current.insert(Current::open(&self.dir, shard)?),
                    None => return Ok(None),
                },
            };
            if let Some(document) = current.read(&self.dir)? {
                return Ok(Some(document));
            }
            self.current = None;
        }
    }
}

impl Current {
    fn open(dir: &Path, shard: Shard) -> Result<Current> {
        let path = dir.join(&shard.name);
        let file = File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
        Ok(Current {
            shard,
            reader: BufReader::with_capacity(1 << 20, file),
            hasher: blake3::Hasher::new(),
            line: 0,
        })
    }

    /// The next document; `None` at the end of an undamaged shard.
    fn read(&mut self, dir: &Path) -> Result<Option<Document>> {
        let path = dir.join(&self.shard.name);
        let damaged = || anyhow!("{} is damaged: make the corpus again", path.display());
        let mut line = Vec::new();
        let n = self
            .reader
            .read_until(b'\n', &mut line)
            .with_context(|| format!("cannot read {}", path.display()))?;
        self.hasher.update(&line);
        self.line += 1;
        if n == 0 {
            if self.hasher.finalize().to_hex().as_str() != self.shard.blake3 {
                return Err(damaged().context("the digest is not the report's"));
            }
            return Ok(None);
        }
        let document = serde_json::from_slice(&line)
            .map_err(|e| damaged().context(format!("line {}: {e}", self.line)))?;
        Ok(Some(document))
    }
}

impl Iterator for Documents {
    type Item = Result<Document>;

    fn next(&mut self) -> Option<Self::Item> {
        let result = self.read().transpose();
        if matches!(result, Some(Err(_))) {
            (self.current, self.shards) = (None, Vec::new());
        }
        result
    }
}

impl Report {
    /// The report of a complete corpus.
    pub fn load(dir: &Path) -> Result<Report> {
        let path = dir.join(RECORD);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(_) if !dir.exists() => {
                bail!("there is no corpus at {}: make one with `mynah corpus PATH… --out DIR`", dir.display())
            }
            Err(_) if dir.is_file() => bail!(
                "{0} is a file, and the directory of a corpus is wanted: `mynah corpus {0} --out corpus` makes one of it",
                dir.display()
            ),
            Err(_) => bail!(
                "{} holds no complete corpus (no {RECORD}): run `mynah corpus` again with this --out",
                dir.display()
            ),
        };
        let report: Report = serde_json::from_slice(&text)
            .with_context(|| format!("{} is damaged: make the corpus again", path.display()))?;
        if report.format != 1 {
            bail!("{} is of format {}, this program reads 1", path.display(), report.format);
        }
        Ok(report)
    }
}

/// Writes shards of one split.
pub(super) struct ShardWriter {
    dir: PathBuf,
    prefix: String,
    done: Vec<Shard>,
    open: Option<(BufWriter<File>, blake3::Hasher, Shard)>,
}

impl ShardWriter {
    pub(super) fn new(dir: &Path, prefix: &str) -> ShardWriter {
        ShardWriter { dir: dir.into(), prefix: prefix.into(), done: Vec::new(), open: None }
    }

    /// Writes one document: a JSON object and a newline.
    pub(super) fn write(&mut self, line: &[u8]) -> Result<()> {
        let (file, hasher, shard) = match &mut self.open {
            Some(open) => open,
            None => {
                let name = format!("{}-{:05}.jsonl", self.prefix, self.done.len());
                let path = self.dir.join(&name);
                let file =
                    File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
                let shard = Shard { name, documents: 0, file_bytes: 0, blake3: String::new() };
                self.open.insert((BufWriter::with_capacity(1 << 20, file), blake3::Hasher::new(), shard))
            }
        };
        file.write_all(line).with_context(|| format!("cannot write {}: is the disk full?", shard.name))?;
        hasher.update(line);
        shard.documents += 1;
        shard.file_bytes += line.len() as u64;
        if shard.file_bytes > SHARD_BYTES {
            self.close()?;
        }
        Ok(())
    }

    fn close(&mut self) -> Result<()> {
        if let Some((mut file, hasher, mut shard)) = self.open.take() {
            file.flush().with_context(|| format!("cannot write {}: is the disk full?", shard.name))?;
            shard.blake3 = hasher.finalize().to_hex().to_string();
            self.done.push(shard);
        }
        Ok(())
    }

    /// Closes the last shard and names them all.
    pub(super) fn finish(mut self) -> Result<Vec<Shard>> {
        self.close()?;
        Ok(self.done)
    }
}

/// A document as a line of a shard.
pub(super) fn to_line(text: &str, source: &str) -> Vec<u8> {
    #[derive(Serialize)]
    struct Line<'a> {
        text: &'a str,
        source: &'a str,
    }
    let mut line = Vec::with_capacity(text.len() + text.len() / 16 + source.len() + 32);
    serde_json::to_writer(&mut line, &Line { text, source }).expect("strings always become JSON");
    line.push(b'\n');
    line
}
