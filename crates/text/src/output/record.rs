//! The record beside a file that a verb wrote: `candidates.jsonl.mynah` tells which command made
//! `candidates.jsonl`, from what, how far it came, and whether the file is still what it left.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::Recipe;
use super::atomic::write_atomically;

/// What the record's name adds to the file's.
pub const RECORD: &str = ".mynah";

/// See the module.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    /// Whether the command came to its end.
    pub(super) finished: bool,
    /// So many bytes at the file's beginning are vouched for; of a finished file, all.
    pub(super) bytes: u64,
    /// BLAKE3 of these bytes.
    pub(super) digest: String,
    /// Files that were made along with it, by name, and their digests.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) beside: BTreeMap<String, String>,
    /// What made it.
    pub(super) recipe: Recipe,
}

/// What a file is to a command that wants to write it.
pub(super) enum Standing {
    /// Nothing is lost by writing here.
    Free,
    /// The same command left it unfinished: what it vouches for, and its digest so far.
    Unfinished(Vec<u8>, Box<blake3::Hasher>),
    /// The same command finished it.
    Finished(Record),
    /// Somebody else's, and why.
    Foreign(String),
}

impl Record {
    pub(super) fn unfinished(recipe: Recipe) -> Record {
        let digest = blake3::Hasher::new().finalize().to_hex().to_string();
        Record { finished: false, bytes: 0, digest, beside: BTreeMap::new(), recipe }
    }

    pub(super) fn path(file: &Path) -> PathBuf {
        with_suffix(file, RECORD)
    }

    /// The record of `file`, if it has one.
    ///
    /// # Errors
    /// Something else has the record's name.
    pub(super) fn load(file: &Path) -> Result<Option<Record>> {
        let path = Record::path(file);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        let record = toml::from_str(&text).ok().with_context(|| {
            let (path, file) = (path.display(), file.display());
            format!(
                "{path} is no record of what made {file}, and would be one: move it, or name another file"
            )
        })?;
        Ok(Some(record))
    }

    pub(super) fn save(&self, file: &Path) -> Result<()> {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let state = if self.finished { "made" } else { "is making" };
        let about = format!(
            "# What {state} {name}. The same command reads this: it goes on where it stopped, or finds the file finished.\n"
        );
        let text = toml::to_string_pretty(self).context("a record cannot be written as TOML")?;
        write_atomically(&Record::path(file), (about + &text).as_bytes())
    }
}

/// What `file` is to the command of `recipe`.
///
/// # Errors
/// It cannot be read; something else has the name of its record.
pub(super) fn standing(file: &Path, recipe: &Recipe) -> Result<Standing> {
    let record = Record::load(file)?;
    let mut read = match File::open(file) {
        Ok(read) => read,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Standing::Free),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", file.display())),
    };
    let bytes = read.metadata().with_context(|| format!("cannot read {}", file.display()))?.len();
    let Some(record) = record else {
        let foreign = || Standing::Foreign(", and no record beside it says that this command made it".into());
        return Ok(if bytes == 0 { Standing::Free } else { foreign() });
    };
    let differences = record.recipe.differences(recipe);
    if bytes == 0 && (record.bytes > 0 || !differences.is_empty()) {
        return Ok(Standing::Free);
    }
    if !differences.is_empty() {
        let made = if record.finished { "was made" } else { "was left unfinished" };
        let list = differences.join("\n  ");
        return Ok(Standing::Foreign(format!(
            ". It {made} by a different command (there → here):\n  {list}\n"
        )));
    }
    let intact = if record.finished { bytes == record.bytes } else { bytes >= record.bytes };
    let (kept, hasher) = match record.finished {
        false => {
            let mut kept = Vec::new();
            read.take(record.bytes).read_to_end(&mut kept).with_context(|| cannot_read(file))?;
            let mut hasher = blake3::Hasher::new();
            hasher.update(&kept);
            (kept, hasher)
        }
        true => (Vec::new(), digest_of(&mut read, file)?),
    };
    if !intact || hasher.finalize().to_hex().as_str() != record.digest {
        return Ok(Standing::Foreign(", and was changed since this command wrote it".into()));
    }
    Ok(if record.finished {
        Standing::Finished(record)
    } else {
        Standing::Unfinished(kept, Box::new(hasher))
    })
}

/// The digest of a file from where it is read on.
pub(super) fn digest_of(read: &mut File, path: &Path) -> Result<blake3::Hasher> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(read).with_context(|| cannot_read(path))?;
    Ok(hasher)
}

fn cannot_read(path: &Path) -> String {
    format!("cannot read {}", path.display())
}

/// `NAME` + `suffix`, in the same directory.
pub(super) fn with_suffix(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.file_name().unwrap_or_default().to_os_string();
    name.push(suffix);
    file.with_file_name(name)
}
