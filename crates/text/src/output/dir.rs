//! A directory that is either complete or not there: files are made in a work folder, moved into place, and
//! last of all a record (`report.json`, `meta.json`) is renamed into it. Whoever finds the record finds
//! everything.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;
use serde_json::Value;

use super::atomic::{cannot_write, write_atomically};
use super::refuse_inputs;
use crate::system::sync_dir;

const WORK: &str = ".building";
const LOCK: &str = ".lock";
/// In the work folder, the names of the files that are being moved out of it: they are ours, though there is
/// no record yet.
const MOVING: &str = "moving.json";

/// A directory being made.
pub struct OutDir {
    dir: PathBuf,
    record: &'static str,
    /// What was moved out of the work folder, until the record is there.
    moved: Vec<String>,
    _lock: File,
}

/// The record of a complete directory; `None` when it is not complete (or not there). When its `options` are
/// not `options`, the error shows the difference.
///
/// # Errors
/// That; the record cannot be read or is none.
pub fn completed(dir: &Path, record: &str, options: &Value) -> Result<Option<Value>> {
    let path = dir.join(record);
    if !path.exists() {
        return Ok(None);
    }
    let text = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let found: Value = serde_json::from_slice(&text).with_context(|| {
        format!("{} is damaged, or was never one of ours: choose another --out", path.display())
    })?;
    let there = &found["options"];
    let names = |v: &Value| v.as_object().map(|o| o.keys().cloned().collect::<Vec<_>>()).unwrap_or_default();
    let mut all = names(options);
    all.extend(names(there).into_iter().filter(|n| options.get(n).is_none()));
    let difference = |name: &String| match (&there[name], &options[name]) {
        (was, is) if was == is => None,
        (was, is) if is_digest(was) && is_digest(is) => Some(format!("\n  {name}: other contents now")),
        (was, is) => Some(format!("\n  {name}: {was} there, {is} now")),
    };
    let difference: String = all.iter().filter_map(difference).collect();
    if !difference.is_empty() {
        bail!(
            "{} was made with other options:{difference}\nchoose another --out, or remove the directory",
            dir.display()
        );
    }
    Ok(Some(found))
}

fn is_digest(value: &Value) -> bool {
    value.as_str().is_some_and(|text| text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

impl OutDir {
    /// Creates the directory, locks it against a second builder and removes what a killed one left. It is
    /// refused where it holds something else, is one of the `inputs` or holds one.
    ///
    /// # Errors
    /// It is refused, somebody else builds it, or the disk is in the way.
    pub fn open(dir: &Path, record: &'static str, inputs: &[&Path]) -> Result<OutDir> {
        let shown = dir.display();
        ensure!(!dir.is_file(), "{shown} is a file, and a directory is to be made: choose another --out");
        refuse_inputs(dir, inputs)?;
        fs::create_dir_all(dir).map_err(|error| cannot_write(dir, error))?;
        let moving = fs::read(dir.join(WORK).join(MOVING)).unwrap_or_default();
        let moving: Vec<String> = serde_json::from_slice(&moving).unwrap_or_default();
        let mut leftovers = Vec::new();
        for entry in fs::read_dir(dir).with_context(|| format!("cannot list {shown}"))? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            match name.as_str() {
                LOCK | WORK => {}
                _ if moving.contains(&name) => leftovers.push(name),
                _ => bail!(
                    "{shown} is not empty ({name} is in it): choose an --out that is new or was made by this command"
                ),
            }
        }
        let lock = File::create(dir.join(LOCK)).map_err(|error| cannot_write(dir, error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                bail!("another process is building {}: wait for it, or choose another --out", dir.display())
            }
            Err(TryLockError::Error(e)) => return Err(e).context("cannot lock the output directory"),
        }
        for name in &leftovers {
            fs::remove_file(dir.join(name)).with_context(|| format!("cannot remove the old {name}"))?;
        }
        let out = OutDir { dir: dir.into(), record, moved: Vec::new(), _lock: lock };
        if out.work().exists() {
            fs::remove_dir_all(out.work()).context("cannot remove what a stopped run left")?;
        }
        fs::create_dir(out.work()).map_err(|error| cannot_write(dir, error))?;
        Ok(out)
    }

    /// Where files are made.
    pub fn work(&self) -> PathBuf {
        self.dir.join(WORK)
    }

    /// Moves `files` out of `from`, a folder inside the work folder, and writes the record, last.
    ///
    /// # Errors
    /// The disk is full or in the way.
    pub fn commit<'a>(
        mut self,
        from: &Path,
        files: impl IntoIterator<Item = &'a str>,
        record: &impl Serialize,
    ) -> Result<()> {
        let work = self.work();
        let files: Vec<&str> = files.into_iter().collect();
        write_atomically(&work.join(MOVING), &serde_json::to_vec(&files)?)?;
        for name in files {
            File::open(from.join(name))
                .and_then(|f| f.sync_all())
                .with_context(|| format!("cannot sync {name}"))?;
            fs::rename(from.join(name), self.dir.join(name))
                .with_context(|| format!("cannot move {name}"))?;
            self.moved.push(name.to_owned());
        }
        sync_dir(&self.dir).with_context(|| format!("cannot sync {}", self.dir.display()))?;
        let temporary = work.join(self.record);
        fs::write(&temporary, serde_json::to_vec_pretty(record)?).context("cannot write the record")?;
        sync_dir(&temporary)?;
        fs::rename(&temporary, self.dir.join(self.record)).context("cannot move the record")?;
        sync_dir(&self.dir).with_context(|| format!("cannot sync {}", self.dir.display()))?;
        self.moved.clear();
        Ok(())
    }
}

impl Drop for OutDir {
    /// Leaves nothing temporary behind, and nothing at all where nothing was finished.
    fn drop(&mut self) {
        for name in &self.moved {
            let _ = fs::remove_file(self.dir.join(name));
        }
        let _ = fs::remove_dir_all(self.work());
        let _ = fs::remove_file(self.dir.join(LOCK));
        let _ = fs::remove_dir(&self.dir);
    }
}
