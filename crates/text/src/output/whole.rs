//! Files that are written at once, when all is done.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::atomic::{cannot_write, parent, temporary, write_atomically};
use super::place::Place;
use super::record::{Record, Standing, digest_of, standing};
use super::{Out, ReaderGone, Recipe};

/// A name and a content.
pub type Named<'a> = (&'a str, &'a [u8]);

impl Out {
    /// Whether the command of `recipe` finished the file, and the `beside` files that come along with it. To
    /// be asked before any work: if it did not, the file may and can be written.
    ///
    /// # Errors
    /// Another command made it, or it was changed since, unless it is to be replaced; its place cannot be
    /// written to.
    pub fn is_finished(&self, recipe: &Recipe, beside: &[&str]) -> Result<bool> {
        let Place::File(file) = &self.place else { return Ok(false) };
        let why = match standing(file, recipe)? {
            Standing::Finished(record) => match changed(&record, file)? {
                None => return Ok(true),
                Some(other) => (other, ", and was changed since this command wrote it".to_owned()),
            },
            Standing::Foreign(why) => (self.asked.clone(), why),
            Standing::Free | Standing::Unfinished(..) => match in_the_way(file, recipe, beside)? {
                None => {
                    self.probe(file)?;
                    return Ok(false);
                }
                Some(other) => (other, ", and would be written too".to_owned()),
            },
        };
        self.may_replace(&why.0, &why.1)?;
        self.probe(file)?;
        Ok(false)
    }

    /// Tries whether a file can be made where `file` lies.
    fn probe(&self, file: &Path) -> Result<()> {
        let temporary = temporary(file);
        let made = fs::create_dir_all(parent(file)).and_then(|()| File::create(&temporary));
        made.and_then(|_| fs::remove_file(&temporary)).map_err(|error| cannot_write(&self.asked, error))
    }

    /// Writes the whole file, and the files `beside` it. A pipe, a device or standard output gets the file
    /// alone.
    pub fn write(&self, recipe: &Recipe, content: &[u8], beside: &[Named<'_>]) -> Result<()> {
        let Place::File(file) = &self.place else { return self.stream(&mut &*content) };
        let mut record = Record { finished: true, ..Record::unfinished(recipe.clone()) };
        (record.bytes, record.digest) = (content.len() as u64, blake3::hash(content).to_hex().to_string());
        for (name, content) in beside {
            record.beside.insert((*name).to_owned(), blake3::hash(content).to_hex().to_string());
        }
        // First what tells whose the files are.
        record.save(file)?;
        for (name, content) in beside {
            write_atomically(&file.with_file_name(name), content)?;
        }
        write_atomically(file, content)
    }

    /// Where somebody else writes the whole file, before [`adopt`](Self::adopt): its own place, or a
    /// temporary one where it is to go through a pipe.
    pub fn path(&self) -> PathBuf {
        match &self.place {
            Place::File(file) => file.clone(),
            _ => std::env::temp_dir().join(format!("mynah-{}.tmp", std::process::id())),
        }
    }

    /// Takes over what somebody else wrote at [`path`](Self::path).
    pub fn adopt(&self, recipe: &Recipe) -> Result<()> {
        let path = self.path();
        let mut read = File::open(&path).with_context(|| format!("cannot read {}", path.display()))?;
        if !matches!(self.place, Place::File(_)) {
            let written = self.stream(&mut read);
            fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
            return written;
        }
        let mut record = Record { finished: true, ..Record::unfinished(recipe.clone()) };
        record.bytes = read.metadata().with_context(|| format!("cannot read {}", path.display()))?.len();
        record.digest = digest_of(&mut read, &path)?.finalize().to_hex().to_string();
        record.save(&path)
    }

    fn stream(&self, content: &mut dyn io::Read) -> Result<()> {
        let mut to = self.place.stream()?;
        io::copy(content, &mut to).and_then(|_| to.flush()).map_err(|error| match error.kind() {
            ErrorKind::BrokenPipe => ReaderGone.into(),
            _ => cannot_write(&self.asked, error),
        })
    }
}

/// What is there of the files `beside` a file that is not, unless the same command made it.
fn in_the_way(file: &Path, recipe: &Recipe, beside: &[&str]) -> Result<Option<PathBuf>> {
    let own = Record::load(file)?.filter(|record| record.recipe.differences(recipe).is_empty());
    if own.is_some_and(|record| matches!(changed(&record, file), Ok(None))) {
        return Ok(None);
    }
    let others = beside.iter().map(|name| file.with_file_name(name));
    Ok(others.into_iter().find(|other| fs::metadata(other).is_ok_and(|about| about.len() > 0)))
}

/// The file beside `file` that is not what the record says, if there is one.
fn changed(record: &Record, file: &Path) -> Result<Option<PathBuf>> {
    for (name, digest) in &record.beside {
        let other = file.with_file_name(name);
        let Ok(mut read) = File::open(&other) else { return Ok(Some(other)) };
        if digest_of(&mut read, &other)?.finalize().to_hex().as_str() != digest {
            return Ok(Some(other));
        }
    }
    Ok(None)
}
