//! A data set of the hub as input: which of its files are fetched and read. What globs leave out is not
//! fetched.

use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::Options;
use super::form::{Form, Kind};
use super::globs::{Globs, add, drop_file};
use super::input::Input;
use super::name::extension;
use super::name::unpacked_name;
use super::reason::Reason;
use super::report::Report;
use crate::hub::{self, Hub, Name, Repository};
use crate::progress::Progress;

/// The data set's files, fetched where they are not in the cache. `report` gets its commit.
pub(super) fn find(
    name: &Name,
    options: &Options,
    inputs: &mut Vec<Input>,
    report: &mut Report,
    progress: &dyn Progress,
) -> Result<()> {
    let hub = Hub::from_env()?;
    let repository = open(&hub, name, progress)?;
    let wanted = wanted(&repository, options, report)?;
    repository.fetch(&wanted, progress)?;
    let root = repository.dir();
    let globs = Globs::new(&root, options)?;
    for file in wanted {
        let path = root.join(file);
        let size = path.metadata().with_context(|| format!("cannot read {}", path.display()))?.len();
        add(path, &root, &globs, size, false, inputs, report);
    }
    report.sources.push(repository.name().to_string());
    Ok(())
}

/// The data set of this name.
pub(super) fn open<'a>(hub: &'a Hub, name: &Name, progress: &dyn Progress) -> Result<Repository<'a>> {
    ensure!(name.file().is_none(), "{name}: a .gguf file is a model and no text");
    hub.open(hub::Kind::Dataset, name, progress)
}

/// The files of a data set that are to be read; the others are counted in `report`.
pub(super) fn wanted<'a>(
    repository: &'a Repository<'_>,
    options: &Options,
    report: &mut Report,
) -> Result<Vec<&'a str>> {
    let root = repository.dir();
    let globs = Globs::new(&root, options)?;
    let mut wanted = Vec::new();
    for file in repository.files() {
        let path = root.join(file);
        let reason = if path.ancestors().take_while(|p| *p != root).any(|p| globs.excludes(p, p != path)) {
            Reason::Excluded
        } else if !globs.includes(&path) {
            Reason::NotIncluded
        } else if options.include.is_empty() && !is_data(file) {
            Reason::UnsupportedKind
        } else {
            wanted.push(file);
            continue;
        };
        let shown = format!("{}/{file}", repository.name());
        drop_file(report, reason, Path::new(&shown), repository.size(file).unwrap_or(0), String::new());
    }
    ensure!(!wanted.is_empty(), "{}", nothing(repository));
    Ok(wanted)
}

/// Whether a file holds a part of a data set, where no `--include` says which do: records, or plain text by
/// its name.
fn is_data(file: &str) -> bool {
    match Form::of_name(file).map(|form| form.kind) {
        Ok(kind) if kind.has_records() => true,
        Ok(Kind::Prose) => extension(unpacked_name(file).0) == "txt",
        Ok(_) | Err(_) => false,
    }
}

fn nothing(repository: &Repository<'_>) -> String {
    let there: Vec<&str> = repository.files().take(12).collect();
    format!(
        "{}: none of its files is to be read. Without --include these are .parquet, .jsonl, .json, .csv, .tsv and .txt, also as .gz \
         and .zst; its files are {}",
        repository.name(),
        there.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::is_data;

    #[test]
    fn data_and_what_stands_beside_it() {
        for file in [
            "data/train-00000-of-00002.parquet",
            "a.JSONL",
            "a.jsonl.gz",
            "b/c.json.zst",
            "x.txt",
            "y.csv",
            "z.tsv.gz",
        ] {
            assert!(is_data(file), "{file}");
        }
        for file in ["README.md", ".gitattributes", "load.py", "a.zst", "parquet", "a.jpg"] {
            assert!(!is_data(file), "{file}");
        }
    }
}
