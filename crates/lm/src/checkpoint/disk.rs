//! The few things a checkpoint does to a disk, each of which can go wrong.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::Path;

use anyhow::{Context, Result};
use text::system;

/// One thing done to the disk.
#[derive(Debug)]
pub enum Operation<'a> {
    /// Ask for the free space where this directory lies.
    FreeSpace(&'a Path),
    /// Make a directory, and those above it.
    CreateDir(&'a Path),
    /// Make an empty file.
    Create(&'a Path),
    /// Append to a file.
    Write(&'a Path, &'a [u8]),
    /// Wait until a file's bytes are on the disk.
    Sync(&'a Path),
    /// Wait until a directory's names are on the disk.
    SyncDir(&'a Path),
    /// Give another name.
    Rename(&'a Path, &'a Path),
    /// Remove a file, or a directory and everything in it.
    Remove(&'a Path),
}

/// Is asked before every operation and may refuse it.
pub type Watcher<'a> = dyn FnMut(&Operation<'_>) -> io::Result<()> + 'a;

/// The disk, with an optional [`Watcher`]: that is how a test lets each operation fail in turn.
/// `Disk::default()` is the disk alone.
#[derive(Default)]
pub struct Disk<'a> {
    before: Option<&'a mut Watcher<'a>>,
}

impl<'a> Disk<'a> {
    /// A disk that asks `before` first. It tells of flushes and does not do them: no test can see the
    /// difference, and one that lets everything fail in turn would wait for thousands.
    pub fn watched(before: &'a mut Watcher<'a>) -> Self {
        Disk { before: Some(before) }
    }

    /// Bytes that an ordinary user may still write where `dir` lies.
    pub(super) fn free_bytes(&mut self, dir: &Path) -> Result<u64> {
        self.run(&Operation::FreeSpace(dir), "ask for the free space of", dir, || fs4::available_space(dir))
    }

    pub(super) fn create_dir(&mut self, dir: &Path) -> Result<()> {
        self.run(&Operation::CreateDir(dir), "make the directory", dir, || fs::create_dir_all(dir))
    }

    pub(super) fn create(&mut self, path: &Path) -> Result<File> {
        self.run(&Operation::Create(path), "make the file", path, || File::create_new(path))
    }

    pub(super) fn write(&mut self, mut file: &File, path: &Path, bytes: &[u8]) -> Result<()> {
        self.run(&Operation::Write(path, bytes), "write", path, || file.write_all(bytes))
    }

    pub(super) fn sync(&mut self, file: &File, path: &Path) -> Result<()> {
        let watched = self.before.is_some();
        self.run(&Operation::Sync(path), "flush to the disk", path, || {
            if watched { Ok(()) } else { file.sync_all() }
        })
    }

    pub(super) fn sync_dir(&mut self, dir: &Path) -> Result<()> {
        let watched = self.before.is_some();
        let act = || if watched { Ok(()) } else { system::sync_dir(dir) };
        self.run(&Operation::SyncDir(dir), "flush to the disk the directory", dir, act)
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> Result<()> {
        self.run(&Operation::Rename(from, to), "rename to its final name", from, || fs::rename(from, to))
    }

    pub(super) fn remove(&mut self, path: &Path) -> Result<()> {
        let act = || if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
        self.run(&Operation::Remove(path), "remove", path, act)
    }

    fn run<R>(
        &mut self,
        operation: &Operation<'_>,
        verb: &str,
        path: &Path,
        act: impl FnOnce() -> io::Result<R>,
    ) -> Result<R> {
        let allowed = self.before.as_mut().map_or(Ok(()), |before| before(operation));
        let done = allowed.and_then(|()| act());
        done.map_err(|error| {
            let advice = advice(error.kind());
            anyhow::Error::new(error).context(format!("cannot {verb} {}{advice}", path.display()))
        })
    }
}

/// What to do about an error, where that is known.
fn advice(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            ": the disk is full; free some space or keep fewer checkpoints (keep_last), then give the same command again"
        }
        ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied => {
            ": not writable; choose a directory that you may write to"
        }
        _ => "",
    }
}

/// Opens a file to read it.
pub(super) fn open(path: &Path) -> Result<File> {
    File::open(path).with_context(|| format!("cannot open {}", path.display()))
}
