//! What stands at a path that somebody wants to write to, and whether it is one of the inputs.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use super::atomic::parent;
use crate::hub::Name;
use crate::system;

/// Links that are followed before they are taken for a ring, as Linux does.
const MAX_LINKS: usize = 40;

/// Where the bytes go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Standard output: `-`, or `/dev/stdout`.
    Standard,
    /// A pipe, a device or an open file of a process: written through, and nothing is kept of it.
    Stream(PathBuf),
    /// A regular file, behind all links, or none yet.
    File(PathBuf),
}

impl Place {
    /// What `asked` is.
    ///
    /// # Errors
    /// It is a directory, or lies in something that is none; links lead in a ring.
    pub(super) fn of(asked: &Path) -> Result<Place> {
        let shown = asked.display();
        if asked == Path::new("-") {
            return Ok(Place::Standard);
        }
        ensure!(!asked.as_os_str().is_empty(), "--out is empty: name a file");
        let (mut path, mut is_open_file) = (asked.to_owned(), false);
        for _ in 0..MAX_LINKS {
            let about = match fs::symlink_metadata(&path) {
                Ok(about) => about,
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    ensure!(
                        !asked.as_os_str().as_encoded_bytes().ends_with(b"/"),
                        "{shown} names a directory: name a file"
                    );
                    return Ok(Place::File(plain(&path)));
                }
                Err(error) if error.kind() == ErrorKind::NotADirectory => {
                    bail!("{shown} cannot be written: part of its path is a file. Name another file")
                }
                Err(error) => return Err(error).with_context(|| format!("cannot use {shown}")),
            };
            if !about.is_symlink() {
                return Place::at(path, &about, asked, is_open_file);
            }
            if path.starts_with("/proc") || path.starts_with("/dev/fd") {
                // Not a name but an open file: a pipe has no other, and of a file that is open the offset is
                // the shell's.
                is_open_file = true;
                let about = fs::metadata(&path).with_context(|| format!("cannot use {shown}"))?;
                return Place::at(path, &about, asked, is_open_file);
            }
            let target = fs::read_link(&path).with_context(|| format!("cannot follow {}", path.display()))?;
            path = path.parent().unwrap_or(Path::new("")).join(target);
        }
        bail!("{shown} is a ring of symbolic links: name another file")
    }

    fn at(path: PathBuf, about: &Metadata, asked: &Path, is_open_file: bool) -> Result<Place> {
        ensure!(!about.is_dir(), "{} is a directory: name a file in it", asked.display());
        if is_open_file && system::is_standard_output(about) {
            return Ok(Place::Standard);
        }
        let is_file = about.is_file() && !is_open_file;
        Ok(if is_file { Place::File(plain(&path)) } else { Place::Stream(path) })
    }

    /// What a pipe, a device or standard output is written to by.
    pub(super) fn stream(&self) -> Result<File> {
        match self {
            Place::Standard => system::standard_output().context("standard output is closed"),
            Place::Stream(path) | Place::File(path) => OpenOptions::new()
                .append(true)
                .open(path)
                .with_context(|| format!("cannot open {} for writing", path.display())),
        }
    }
}

/// The one name of a file that two spellings of its path have in common.
fn plain(path: &Path) -> PathBuf {
    let dir = fs::canonicalize(parent(path)).or_else(|_| std::path::absolute(parent(path)));
    dir.map_or_else(|_| path.to_owned(), |dir| dir.join(path.file_name().unwrap_or_default()))
}

/// Refuses the file `out` where it is an input, by whatever name: relative, through `..`, a symbolic or a
/// hard link. Gives back the directory among the `inputs` that it lies in.
pub(super) fn refuse_input(out: &Path, shown: &Path, inputs: &[&Path]) -> Result<Option<PathBuf>> {
    let Ok(about) = fs::metadata(out) else { return Ok(None) };
    let mut within = None;
    for input in inputs.iter().filter(|input| !Name::is(input)) {
        let Ok(theirs) = fs::metadata(input) else { continue };
        ensure!(
            !system::is_same_file((out, &about), (input, &theirs)),
            "{} is read by this command ({}), and what is read is never written over: name another file",
            shown.display(),
            input.display()
        );
        if theirs.is_dir() && lies_in(out, input) {
            within = Some((*input).to_owned());
        }
    }
    Ok(within)
}

/// Refuses the directory `out` where it is an input, or holds one.
pub fn refuse_inputs(out: &Path, inputs: &[&Path]) -> Result<()> {
    let Ok(about) = fs::metadata(out) else { return Ok(()) };
    for input in inputs.iter().filter(|input| !Name::is(input)) {
        let Ok(theirs) = fs::metadata(input) else { continue };
        let is_it = system::is_same_file((out, &about), (input, &theirs));
        let holds_it = lies_in(input, out);
        let (shown, read) = (out.display(), input.display());
        ensure!(!is_it, "{shown} is read by this command: choose another --out");
        ensure!(!holds_it, "{shown} holds {read}, which this command reads: choose another --out");
    }
    Ok(())
}

/// Whether `inner` lies in the directory `outer`, however they are named.
fn lies_in(inner: &Path, outer: &Path) -> bool {
    match (fs::canonicalize(inner), fs::canonicalize(outer)) {
        (Ok(inner), Ok(outer)) => inner != outer && inner.starts_with(outer),
        _ => false,
    }
}
