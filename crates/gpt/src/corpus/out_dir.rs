//! A directory that is either complete or not there: files are made in a work folder, moved into place, and last of all a
//! record (`report.json`, `meta.json`) is renamed into it. Whoever finds the record finds everything.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Serialize;
use serde_json::Value;

const WORK: &str = ".building";
const LOCK: &str = ".lock";

/// A directory being made.
pub(crate) struct OutDir {
    dir: PathBuf,
    record: &'static str,
    _lock: File,
}

/// The record of a complete directory; `None` when it is not complete (or not there). When its `options` are not
/// `options`, the error shows the difference.
pub(crate) fn completed(dir: &Path, record: &str, options: &Value) -> Result<Option<Value>> {
    let path = dir.join(record);
    if !path.exists() {
        return Ok(None);
    }
    let text = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let found: Value = serde_json::from_slice(&text)
        .with_context(|| format!("{} is damaged: remove {} and run again", path.display(), dir.display()))?;
    let there = &found["options"];
    let mut difference = String::new();
    let names = |v: &Value| v.as_object().map(|o| o.keys().cloned().collect::<Vec<_>>()).unwrap_or_default();
    let mut all = names(options);
    all.extend(names(there).into_iter().filter(|n| options.get(n).is_none()));
    for name in all {
        let (was, is) = (&there[&name], &options[&name]);
        if was != is {
            difference += &format!("\n  {name}: {was} there, {is} now");
        }
    }
    if !difference.is_empty() {
        bail!(
            "{} was made with other options:{difference}\nchoose another --out, or remove the directory",
            dir.display()
        );
    }
    Ok(Some(found))
}

impl OutDir {
    /// Creates the directory, locks it against a second builder and removes what a killed one left. Files for
    /// which `owns` is false are somebody else's: then it is refused.
    pub(crate) fn open(dir: &Path, record: &'static str, owns: impl Fn(&str) -> bool) -> Result<OutDir> {
        fs::create_dir_all(dir).with_context(|| format!("cannot create the directory {}", dir.display()))?;
        let mut leftovers = Vec::new();
        for entry in fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name == LOCK {
                continue;
            }
            if name != WORK && !owns(&name) {
                bail!(
                    "{} is not empty ({name} is in it): choose an --out that is new or was made by this command",
                    dir.display()
                );
            }
            leftovers.push(name);
        }
        let lock =
            File::create(dir.join(LOCK)).with_context(|| format!("cannot write in {}", dir.display()))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                bail!("another process is building {}: wait for it, or choose another --out", dir.display())
            }
            Err(TryLockError::Error(e)) => return Err(e).context("cannot lock the output directory"),
        }
        for name in leftovers.iter().filter(|n| *n != WORK) {
            fs::remove_file(dir.join(name)).with_context(|| format!("cannot remove the old {name}"))?;
        }
        let out = OutDir { dir: dir.into(), record, _lock: lock };
        if out.work().exists() {
            fs::remove_dir_all(out.work()).context("cannot remove what a stopped run left")?;
        }
        fs::create_dir(out.work()).with_context(|| format!("cannot write in {}", dir.display()))?;
        Ok(out)
    }

    /// Where files are made.
    pub(crate) fn work(&self) -> PathBuf {
        self.dir.join(WORK)
    }

    /// Moves `files` out of `from`, a folder inside the work folder, and writes the record, last.
    pub(crate) fn commit<'a>(
        self,
        from: &Path,
        files: impl IntoIterator<Item = &'a str>,
        record: &impl Serialize,
    ) -> Result<()> {
        let work = self.work();
        for name in files {
            File::open(from.join(name))
                .and_then(|f| f.sync_all())
                .with_context(|| format!("cannot sync {name}"))?;
            fs::rename(from.join(name), self.dir.join(name))
                .with_context(|| format!("cannot move {name}"))?;
        }
        sync_dir(&self.dir)?;
        let temporary = work.join(self.record);
        fs::write(&temporary, serde_json::to_vec_pretty(record)?).context("cannot write the record")?;
        File::open(&temporary)?.sync_all()?;
        fs::rename(&temporary, self.dir.join(self.record)).context("cannot move the record")?;
        sync_dir(&self.dir)?;
        Ok(())
    }
}

impl Drop for OutDir {
    /// Leaves nothing temporary behind, and nothing at all where nothing was finished.
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(self.work());
        let _ = fs::remove_file(self.dir.join(LOCK));
        let _ = fs::remove_dir(&self.dir);
    }
}

/// Makes renames durable; only Unix knows how.
fn sync_dir(dir: &Path) -> Result<()> {
    if cfg!(unix) {
        File::open(dir)?.sync_all().with_context(|| format!("cannot sync {}", dir.display()))?;
    }
    Ok(())
}
