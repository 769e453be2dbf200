//! The report of a build: counts of all that was read, kept and dropped, by reason, with examples.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::classify::Classified;
use super::form::{Form, Kind};
use super::reason::Reason;
use crate::progress::Progress;

/// How many examples of a reason are kept.
const EXAMPLES: usize = 5;
/// How many different extensions the table holds before the rest are summed as `(other)`.
const EXTENSIONS: usize = 200;

/// Where something was dropped.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Example {
    /// The file, as its path was given.
    pub file: String,
    /// The line where the record begins, from 1; 0 for a whole file.
    pub line: u64,
    /// What exactly was wrong, if there is more to say than the reason.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

impl fmt::Display for Example {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        if !self.detail.is_empty() {
            write!(f, ": {}", self.detail)?;
        }
        Ok(())
    }
}

/// All that was dropped for one reason.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Dropped {
    /// How many files, records or documents.
    pub count: u64,
    /// Their size, as far as it was read.
    pub bytes: u64,
    /// The first five.
    pub examples: Vec<Example>,
}

/// Files that have something in common.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Named {
    /// How many.
    pub files: u64,
    /// The first five.
    pub examples: Vec<String>,
}

/// A number of documents and the bytes of their texts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Total {
    /// Documents.
    pub documents: u64,
    /// Bytes of UTF-8 text.
    pub bytes: u64,
}

impl Total {
    pub(super) fn add(&mut self, bytes: u64) {
        self.documents += 1;
        self.bytes += bytes;
    }
}

/// What one kind of file gave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Extension {
    /// Documents and records met.
    pub read: Total,
    /// Documents kept.
    pub kept: Total,
}

/// One file of documents.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Shard {
    /// Its name in the corpus directory.
    pub name: String,
    /// Its documents.
    pub documents: u64,
    /// Its size on disk.
    pub file_bytes: u64,
    /// BLAKE3 of the file, in hexadecimal.
    pub blake3: String,
}

/// `report.json`: written last, so that its presence says that the corpus is complete.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The version of the layout: 1.
    pub format: u32,
    /// The [`Options`](super::Options) that decide the output.
    pub options: Value,
    /// The data sets of the hub among the paths, each pinned to the commit that was read:
    /// `hf:OWNER/NAME@COMMIT`.
    #[serde(default)]
    pub sources: Vec<String>,
    /// Files found, after `.gitignore`.
    pub files: u64,
    /// Their size on disk (compressed as they are).
    pub file_bytes: u64,
    /// Of which hold JSON whatever their names say, and are read as that.
    #[serde(default)]
    pub json_by_content: Named,
    /// Documents and records met, good and bad.
    pub read: Total,
    /// Records met: JSON objects, rows of tables.
    pub records: u64,
    /// Records that were bad.
    pub bad_records: u64,
    /// Documents written.
    pub kept: Total,
    /// Of which to train on.
    pub train: Total,
    /// Of which to validate on.
    pub val: Total,
    /// Documents read in which `\r\n` became `\n`.
    pub crlf_normalised: u64,
    /// All that was dropped.
    pub dropped: BTreeMap<Reason, Dropped>,
    /// What was read and kept, by extension of the file (or of the record's `path`).
    pub by_extension: BTreeMap<String, Extension>,
    /// The files of documents, in order.
    pub shards: Vec<Shard>,
    /// BLAKE3 over the names and digests of the shards.
    pub digest: String,
}

impl Report {
    /// Counts one record or file that was classified.
    pub(super) fn met<T>(&mut self, classified: &Classified<T>) {
        self.read.add(classified.bytes);
        self.records += u64::from(classified.is_record());
        self.bad_records += u64::from(classified.is_bad());
    }

    /// Notes a file whose content says another kind than its name.
    pub(super) fn recognised(&mut self, path: &Path, form: Form) {
        let name = path.display().to_string();
        let by_name =
            Form::of_name(&name).map(|form| form.kind.has_records() && !matches!(form.kind, Kind::Table(_)));
        if by_name == Ok(false) && matches!(form.kind, Kind::Lines | Kind::Json) {
            let Named { files, examples } = &mut self.json_by_content;
            *files += 1;
            if examples.len() < EXAMPLES {
                examples.push(name);
            }
        }
    }

    /// Says which files are read as what they hold rather than as what they are called.
    pub(super) fn report_recognised(&self, progress: &dyn Progress) {
        let Named { files, examples } = &self.json_by_content;
        match (*files, examples.as_slice()) {
            (1, [name]) => {
                progress.line(&format!("{name} holds JSON, whatever its name says: its records are read"))
            }
            (files, [name, ..]) => progress.line(&format!(
                "{files} files hold JSON, whatever their names say: their records are read (such as {name})"
            )),
            (_, []) => {}
        }
    }

    /// Counts one dropped thing.
    pub(super) fn drop(&mut self, reason: Reason, bytes: u64, example: impl FnOnce() -> Example) {
        let dropped = self.dropped.entry(reason).or_default();
        dropped.count += 1;
        dropped.bytes += bytes;
        if dropped.examples.len() < EXAMPLES {
            dropped.examples.push(example());
        }
    }

    /// How many examples of a reason there are.
    pub(super) fn examples(&self, reason: Reason) -> usize {
        self.dropped.get(&reason).map_or(0, |d| d.examples.len())
    }

    /// Whether one more example of a reason would be kept.
    pub(super) fn wants_example(&self, reason: Reason) -> bool {
        self.examples(reason) < EXAMPLES
    }

    /// How many were dropped for `reason`.
    pub fn count(&self, reason: Reason) -> u64 {
        self.dropped.get(&reason).map_or(0, |d| d.count)
    }

    /// The row of an extension.
    pub(super) fn extension(&mut self, name: &str) -> &mut Extension {
        let known = self.by_extension.contains_key(name);
        let name = if known || self.by_extension.len() < EXTENSIONS { name } else { "(other)" };
        // Once for every document: the name is copied only when it is new.
        if !self.by_extension.contains_key(name) {
            self.by_extension.insert(name.into(), Extension::default());
        }
        self.by_extension.get_mut(name).expect("it was inserted")
    }

    /// The reasons that `choose` picks, one a line with their first examples: the body of a message.
    pub fn reasons(&self, choose: impl Fn(Reason) -> bool) -> String {
        let mut text = String::new();
        for (&reason, dropped) in self.dropped.iter().filter(|(r, _)| choose(**r)) {
            text += &format!("\n  {} × {reason}", dropped.count);
            for example in dropped.examples.iter().take(2) {
                text += &format!("\n      {example}");
            }
        }
        text
    }

    /// Fixes the digest of the shards.
    pub(super) fn seal(&mut self) {
        let mut hasher = blake3::Hasher::new();
        for shard in &self.shards {
            hasher.update(format!("{} {}\n", shard.name, shard.blake3).as_bytes());
        }
        self.digest = hasher.finalize().to_hex().to_string();
    }
}
