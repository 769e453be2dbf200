//! A file of lines that grows while a command works, and that the same command continues after Ctrl-C, `kill
//! -9` or a full disk.
//!
//! Lines are appended at once. The record beside the file vouches for what came to the disk, a moment later;
//! when the command is given again, what follows that is cut, be it torn or not, and made again.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::atomic::{cannot_write, parent, rename};
use super::place::Place;
use super::record::{Record, Standing, standing, with_suffix};
use super::{Out, ReaderGone, Recipe};

/// What grows beside a file that it will replace.
const NEW: &str = ".new";
/// How long what was written may be lost to `kill -9`; more where the disk is slow, so that little time goes
/// there.
const SAVE_EVERY: Duration = Duration::from_millis(200);
/// See [`SAVE_EVERY`].
const SHARE_OF_TIME: u32 = 20;

/// See the module.
#[derive(Debug)]
pub struct Lines {
    shown: PathBuf,
    sink: Sink,
    kept: String,
}

#[derive(Debug)]
enum Sink {
    Stream(File),
    Growing(Box<Growing>),
    /// The same command finished the file.
    Finished,
}

#[derive(Debug)]
struct Growing {
    file: File,
    path: PathBuf,
    /// The name it gets at the end.
    to: PathBuf,
    /// Whether it was not there before.
    is_new: bool,
    hasher: blake3::Hasher,
    record: Record,
    next_save: Instant,
}

impl Lines {
    /// Opens what `out` names for the command of `recipe`.
    ///
    /// # Errors
    /// A file is there that another command made, or that was changed since, unless it is to be replaced;
    /// another process writes it; it cannot be written.
    pub fn open(out: &Out, recipe: &Recipe) -> Result<Lines> {
        let shown = out.asked.clone();
        let Place::File(to) = &out.place else {
            return Ok(Lines { shown, sink: Sink::Stream(out.place.stream()?), kept: String::new() });
        };
        let (path, found) = match standing(to, recipe)? {
            Standing::Foreign(why) => {
                out.may_replace(&shown, &why)?;
                let new = with_suffix(to, NEW);
                let found = standing(&new, recipe)?;
                if matches!(found, Standing::Foreign(_)) {
                    bail!(
                        "{} is in the way of what is to replace {}: remove it",
                        new.display(),
                        shown.display()
                    );
                }
                (new, found)
            }
            found => (to.clone(), found),
        };
        let (kept, hasher) = match found {
            Standing::Unfinished(kept, hasher) => (kept, *hasher),
            Standing::Finished(_) if path == *to => {
                let kept = fs::read_to_string(to).with_context(|| format!("cannot read {}", to.display()))?;
                return Ok(Lines { shown, sink: Sink::Finished, kept });
            }
            // What is to replace the other file is whole, and lacks only the name.
            Standing::Finished(record) => {
                settle(&record, &path, to)?;
                return Lines::open(out, recipe);
            }
            _ => (Vec::new(), blake3::Hasher::new()),
        };
        let is_new = !path.exists();
        let file = lock(&path, &shown, kept.len() as u64)?;
        let record = Record::unfinished(recipe.clone());
        let mut growing =
            Growing { file, path, to: to.clone(), is_new, hasher, record, next_save: Instant::now() };
        growing.record.bytes = kept.len() as u64;
        growing.save()?;
        let kept = String::from_utf8(kept).with_context(|| format!("{} is no text", shown.display()))?;
        Ok(Lines { shown, sink: Sink::Growing(Box::new(growing)), kept })
    }

    /// What the same command wrote before: whole lines, as many as there were in the calls of
    /// [`push`](Self::push) that are kept.
    pub fn kept(&self) -> &str {
        &self.kept
    }

    /// Whether the same command finished the file: nothing is to be written then.
    pub fn is_finished(&self) -> bool {
        matches!(self.sink, Sink::Finished)
    }

    /// Whether the same command goes on with this file if it is stopped now.
    pub fn stays(&self) -> bool {
        matches!(self.sink, Sink::Growing(_))
    }

    /// Appends whole lines, all or none of which are kept.
    pub fn push(&mut self, lines: &str) -> Result<()> {
        match &mut self.sink {
            Sink::Stream(file) => file.write_all(lines.as_bytes()).map_err(|error| match error.kind() {
                ErrorKind::BrokenPipe => ReaderGone.into(),
                _ => cannot_write(&self.shown, error),
            }),
            Sink::Growing(growing) => growing.push(lines),
            Sink::Finished => panic!("a finished file is not written"),
        }
    }

    /// All lines are written.
    pub fn finish(mut self) -> Result<()> {
        if let Sink::Growing(growing) = &mut self.sink {
            growing.record.finished = true;
            growing.sync()?;
            settle(&growing.record, &growing.path, &growing.to)?;
        }
        Ok(())
    }
}

/// Opens the file at `path`, locks it against a second writer, and cuts what follows its first `kept` bytes.
fn lock(path: &Path, shown: &Path, kept: u64) -> Result<File> {
    let open = || {
        fs::create_dir_all(parent(path))?;
        OpenOptions::new().append(true).create(true).open(path)
    };
    let file = open().map_err(|error| cannot_write(shown, error))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            bail!("another process is writing {}: wait for it, or name another file", shown.display())
        }
        Err(TryLockError::Error(error)) => return Err(cannot_write(shown, error)),
    }
    file.set_len(kept).map_err(|error| cannot_write(shown, error))?;
    Ok(file)
}

/// Gives a whole file its record and its name.
fn settle(record: &Record, path: &Path, to: &Path) -> Result<()> {
    record.save(to)?;
    if path != to {
        let renamed = rename(path, to).and_then(|()| fs::remove_file(Record::path(path)));
        renamed.map_err(|error| cannot_write(to, error))?;
    }
    Ok(())
}

impl Growing {
    fn push(&mut self, lines: &str) -> Result<()> {
        self.file.write_all(lines.as_bytes()).map_err(|error| {
            // A torn line would be cut when the command goes on, and whoever looks before that need not see
            // it.
            let _ = self.file.set_len(self.record.bytes);
            cannot_write(&self.path, error)
        })?;
        self.hasher.update(lines.as_bytes());
        self.record.bytes += lines.len() as u64;
        if Instant::now() >= self.next_save {
            let began = Instant::now();
            self.save()?;
            self.next_save = Instant::now() + SAVE_EVERY.max(SHARE_OF_TIME * began.elapsed());
        }
        Ok(())
    }

    /// Vouches for all that was written.
    fn save(&mut self) -> Result<()> {
        self.sync()?;
        self.record.save(&self.path)
    }

    fn sync(&mut self) -> Result<()> {
        self.record.digest = self.hasher.finalize().to_hex().to_string();
        self.file.sync_data().map_err(|error| cannot_write(&self.path, error))
    }
}

impl Drop for Growing {
    /// Keeps what was done, and leaves nothing where nothing was.
    fn drop(&mut self) {
        if self.record.finished {
            return;
        }
        if self.record.bytes > 0 {
            // Nowhere to report a failure: the last record vouches for less.
            let _ = self.save();
            return;
        }
        let _ = fs::remove_file(Record::path(&self.path));
        if self.is_new {
            let _ = fs::remove_file(&self.path);
        }
    }
}
