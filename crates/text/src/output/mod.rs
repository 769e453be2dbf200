//! The one rule for everything that a verb writes where it was told to.
//!
//! * **An input is never an output**, by whatever name it goes: relative, through `..`, a symbolic or a hard
//!   link.
//! * **What this same command left unfinished is continued; what it finished is finished.** A [`Recipe`] says
//!   what makes two commands the same: the verb, the options that decide what comes out, and the digests of
//!   what is read. It lies beside the file, as `candidates.jsonl.mynah` beside `candidates.jsonl`, with the
//!   digest of what was written: a file that was changed since is somebody else's.
//! * **Somebody else's file is not written over**, but replaced where that is asked for (`--force`), and only
//!   when the new one is whole. An empty file is nobody's.
//! * **Links are written through**, and so are pipes and devices; `-` is standard output.
//!
//! [`Out`] is a file as it was asked for; it is written at once ([`Out::write`]), or grows line by line
//! ([`Lines`]). [`OutDir`] is a directory that is made as a whole; what lies in the
//! directory of a run, runs know.

mod atomic;
mod dir;
mod lines;
mod place;
mod recipe;
mod record;
#[cfg(test)]
mod tests;
mod whole;

use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail, ensure};

pub use atomic::{write_atomically, write_rows};
pub use dir::{OutDir, completed};
pub use lines::Lines;
pub use place::refuse_inputs;
pub use recipe::{CONFIG, FORMAT, Input, Recipe, leaves};
pub use record::RECORD;
pub use whole::Named;

use place::Place;
use record::Record;

/// A file to be written, as it was asked for.
#[derive(Clone, Debug)]
pub struct Out {
    asked: PathBuf,
    place: Place,
    force: bool,
    /// The directory among the inputs that it lies in.
    within: Option<PathBuf>,
}

impl Out {
    /// The file that `asked` names; `-` is standard output. `force` lets it replace somebody else's.
    ///
    /// # Errors
    /// It is a directory, or one of the `inputs`, or lies in something that is no directory.
    pub fn new(asked: &Path, force: bool, inputs: &[&Path]) -> Result<Out> {
        let place = Place::of(asked)?;
        let mut within = None;
        if let Place::File(file) = &place {
            within = place::refuse_input(file, asked, inputs)?;
            place::refuse_input(&Record::path(file), &Record::path(asked), inputs)?;
        }
        Ok(Out { asked: asked.to_owned(), place, force, within })
    }

    /// Whether it is standard output, where nothing else may go then.
    pub fn is_standard(&self) -> bool {
        self.place == Place::Standard
    }

    /// Refuses to replace `file`, which is somebody else's, unless that is asked for and it is no part of
    /// what is read.
    fn may_replace(&self, file: &Path, why: &str) -> Result<()> {
        let shown = file.display();
        if let Some(input) = self.within.as_ref().filter(|_| self.force) {
            bail!(
                "{shown} belongs to {}, which this command reads, and what is read is never written over: name another file",
                input.display()
            );
        }
        let advice = match why.ends_with('\n') {
            true => "To go on, give the old values; else name another file, or replace it with --force",
            false => ": name another file, or replace it with --force",
        };
        ensure!(self.force, "{shown} is there already{why}{advice}");
        Ok(())
    }

    /// The path as it was asked for.
    pub fn asked(&self) -> &Path {
        &self.asked
    }

    /// Whether both are the same file.
    pub fn is_same(&self, other: &Out) -> bool {
        self.place == other.place && !matches!(self.place, Place::Stream(_))
    }

    /// The recipe of the command that made or began the file, if one of mynah did.
    pub fn recipe(&self) -> Option<Recipe> {
        let Place::File(file) = &self.place else { return None };
        Record::load(file).ok().flatten().map(|record| record.recipe)
    }
}

/// BLAKE3 of what was read, as it is meant: lines that are not used, their order of fields and the packing of
/// a file have no say.
pub fn digest(read: &impl fmt::Debug) -> String {
    let mut hasher = blake3::Hasher::new();
    write!(hasher, "{read:?}").expect("a hasher takes everything");
    hasher.finalize().to_hex().to_string()
}

/// Whether some command has not come to the end of writing `file` yet.
pub fn is_unfinished(file: &Path) -> bool {
    Record::load(file).is_ok_and(|record| record.is_some_and(|record| !record.finished))
}

/// Whoever reads the pipe that is written to has gone, as `head` does: no reason to complain, nor to go on.
#[derive(Clone, Copy, Debug)]
pub struct ReaderGone;

impl fmt::Display for ReaderGone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nobody reads the output any more")
    }
}

impl std::error::Error for ReaderGone {}
