//! The list of a stream's files, and the visit of them in some order: those of the hub are fetched when their
//! turn comes, and evicted where they do not fit on the disk together.

use std::collections::HashSet;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail};

use super::Flag;
use crate::corpus::files::find_here;
use crate::corpus::form::Form;
use crate::corpus::input::Input;
use crate::corpus::reason::Reason;
use crate::corpus::report::{Example, Report};
use crate::corpus::{Options, remote};
use crate::hub::{Hub, Name};
use crate::progress::Progress;

/// A file of the list.
pub(super) enum Entry {
    /// On this machine.
    Here(Arc<Input>),
    /// On the hub.
    Hub(Remote),
}

/// A file of a data set of the hub.
pub(super) struct Remote {
    number: usize,
    /// The data set, pinned to a commit.
    set: Name,
    file: String,
    /// Whether the disk has room for the whole data set.
    stays: bool,
}

impl Entry {
    /// What people call it.
    pub(super) fn name(&self) -> String {
        match self {
            Entry::Here(input) => input.name(),
            Entry::Hub(remote) => format!("{}/{}", remote.set, remote.file),
        }
    }

    /// What tells it from others without reading it.
    pub(super) fn identity(&self) -> String {
        match self {
            Entry::Here(input) => format!("{} {}", input.size, input.name()),
            Entry::Hub(_) => self.name(),
        }
    }
}

/// All files to read, numbered in sorted order; what is not read is counted in `report`.
pub(super) fn find(options: &Options, report: &mut Report, progress: &dyn Progress) -> Result<Vec<Entry>> {
    let (mut entries, mut seen) = (Vec::new(), HashSet::new());
    for root in &options.paths {
        if let Some(name) = Name::of(root)? {
            find_remote(&name, options, &mut entries, report, progress)?;
            continue;
        }
        let mut inputs = Vec::new();
        find_here(root, options, &mut inputs, report)?;
        for mut input in inputs {
            // A path given twice, or a file inside a folder that is given too, is read once.
            if seen.insert(input.path.clone()) {
                input.number = entries.len();
                report.file_bytes += input.size;
                entries.push(Entry::Here(Arc::new(input)));
            }
        }
    }
    report.files = entries.len() as u64;
    if entries.is_empty() {
        bail!("there is no file to read: name folders, files or data sets{}", report.reasons(|_| true));
    }
    Ok(entries)
}

/// The files of a data set, none of them fetched.
fn find_remote(
    name: &Name,
    options: &Options,
    entries: &mut Vec<Entry>,
    report: &mut Report,
    progress: &dyn Progress,
) -> Result<()> {
    let hub = Hub::from_env()?;
    let repository = remote::open(&hub, name, progress)?;
    let files = remote::wanted(&repository, options, report)?;
    let stays = repository.fits(&files);
    if !stays {
        progress.line(&format!(
            "{} does not fit on the disk: each file is fetched when its turn comes, and removed when it is read",
            repository.name()
        ));
    }
    for file in files {
        let set = repository.name().clone();
        let bytes = repository.size(file).unwrap_or(0);
        let remote = Remote { number: entries.len(), set, file: file.into(), stays };
        match Form::of_name(file) {
            Ok(_) => {
                report.file_bytes += bytes;
                entries.push(Entry::Hub(remote));
            }
            Err(extension) => {
                let file = Entry::Hub(remote).name();
                let detail = format!(".{extension}");
                report.drop(Reason::UnsupportedKind, bytes, || Example { file, line: 0, detail });
            }
        }
    }
    report.sources.push(repository.name().to_string());
    Ok(())
}

/// Files in some order, each there when it is its turn.
pub(super) struct Visit {
    entries: Arc<[Entry]>,
    /// Still to be visited, last first.
    order: Vec<usize>,
    stop: Arc<Flag>,
    /// The file of the hub that is to be removed when the next one is asked for.
    passing: Option<usize>,
}

impl Visit {
    pub(super) fn new(entries: Arc<[Entry]>, mut order: Vec<usize>, stop: Arc<Flag>) -> Visit {
        order.reverse();
        Visit { entries, order, stop, passing: None }
    }

    fn arrive(&mut self, number: usize) -> Result<Arc<Input>> {
        match &self.entries[number] {
            Entry::Here(input) => Ok(input.clone()),
            Entry::Hub(remote) => {
                let (input, was_there) = remote.fetch(&self.stop)?;
                self.passing = (!remote.stays && !was_there).then_some(number);
                Ok(Arc::new(input))
            }
        }
    }

    fn leave(&mut self) -> Result<()> {
        match self.passing.take().map(|number| &self.entries[number]) {
            Some(Entry::Hub(remote)) => remote.forget(&self.stop),
            Some(Entry::Here(_)) | None => Ok(()),
        }
    }
}

impl Iterator for Visit {
    type Item = Result<Arc<Input>>;

    fn next(&mut self) -> Option<Self::Item> {
        let left = self.leave();
        let number = self.order.pop()?;
        Some(left.and_then(|()| self.arrive(number)))
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        // Whoever gives up a stream has nobody to tell that a file stays in the cache.
        let _ = self.leave();
    }
}

impl Remote {
    /// Fetches the file; the second value tells whether it was in the cache already.
    fn fetch(&self, stop: &Flag) -> Result<(Input, bool)> {
        let hub = Hub::from_env()?;
        let repository = remote::open(&hub, &self.set, stop)?;
        let was_there = repository.is_there(&self.file);
        repository.fetch(&[&self.file], stop)?;
        let root = repository.dir();
        let path = root.join(&self.file);
        let size = path.metadata().with_context(|| format!("cannot read {}", path.display()))?.len();
        let form =
            Form::of(&path).map_err(|extension| anyhow!("{}: .{extension} cannot be read", self.file))?;
        let mut input = Input::new(path, &root, size, false, form);
        input.number = self.number;
        Ok((input, was_there))
    }

    fn forget(&self, stop: &Flag) -> Result<()> {
        let hub = Hub::from_env()?;
        remote::open(&hub, &self.set, stop)?.forget(&self.file)
    }
}
