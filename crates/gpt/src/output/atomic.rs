//! A file that is replaced whole.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::place::Place;

/// Writes a whole file so that a reader, or the next process, sees either the old contents or the new. A link keeps pointing to what
/// is written; pipes and devices are written through.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let file = match Place::of(path)? {
        Place::File(file) => file,
        stream => return stream.stream()?.write_all(bytes).map_err(|error| cannot_write(path, error)),
    };
    let temporary = temporary(&file);
    let write = || -> io::Result<()> {
        let mut new = File::create(&temporary)?;
        new.write_all(bytes)?;
        new.sync_all()?;
        rename(&temporary, &file)
    };
    write().inspect_err(|_| drop(fs::remove_file(&temporary))).map_err(|error| cannot_write(path, error))
}

/// The error of a write to `path`, with what to do about it where that is known.
pub(super) fn cannot_write(path: &Path, error: io::Error) -> anyhow::Error {
    let advice = match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            ": the disk is full; free some space and give the same command again"
        }
        ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied => {
            ": not writable; choose a place that you may write to"
        }
        _ => "",
    };
    anyhow::Error::new(error).context(format!("cannot write {}{advice}", path.display()))
}

/// Gives a file its final name, and waits until that is on disk.
pub(super) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    sync_dir(parent(to))
}

/// Makes renames in a directory durable.
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// What a file is called until it is whole.
pub(super) fn temporary(file: &Path) -> PathBuf {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    file.with_file_name(format!(".{name}.mynah.tmp"))
}

/// The directory that a file lies in.
pub(super) fn parent(file: &Path) -> &Path {
    match file.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}
