//! A file that is replaced whole.

use std::fs::{self, File};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::Serialize;

use super::place::Place;
use crate::system;

/// Writes a whole file so that a reader, or the next process, sees either the old contents or the new. A link
/// keeps pointing to what is written; pipes and devices are written through.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    write_whole(path, |out| out.write_all(bytes))
}

/// Writes items as lines of JSON in the same way, and returns how many there were.
pub fn write_rows<T: Serialize>(path: &Path, items: impl IntoIterator<Item = T>) -> Result<u64> {
    write_whole(path, |out| {
        let (mut out, mut written) = (BufWriter::new(out), 0);
        for item in items {
            serde_json::to_writer(&mut out, &item)?;
            out.write_all(b"\n")?;
            written += 1;
        }
        out.flush()?;
        Ok(written)
    })
}

fn write_whole<T>(path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<T>) -> Result<T> {
    let file = match Place::of(path)? {
        Place::File(file) => file,
        stream => return write(&mut stream.stream()?).map_err(|error| cannot_write(path, error)),
    };
    let temporary = temporary(&file);
    let whole = || -> io::Result<T> {
        let mut new = File::create(&temporary)?;
        let written = write(&mut new)?;
        new.sync_all()?;
        rename(&temporary, &file)?;
        Ok(written)
    };
    whole().inspect_err(|_| drop(fs::remove_file(&temporary))).map_err(|error| cannot_write(path, error))
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
    system::sync_dir(parent(to))
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
