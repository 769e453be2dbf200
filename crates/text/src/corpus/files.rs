//! Which files are read: the walk and the globs.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use ignore::WalkBuilder;

use super::globs::{Globs, add, drop_file};
use super::input::Input;
use super::reason::Reason;
use super::report::{Example, Report};
use super::{Options, remote};
use crate::hub::Name;
use crate::progress::Progress;

/// All files to read, in sorted order; what is not read is counted in `report`.
pub(super) fn find(options: &Options, report: &mut Report, progress: &dyn Progress) -> Result<Vec<Input>> {
    if options.paths.is_empty() {
        bail!("no path was given: name the folders or files to make the corpus from");
    }
    let mut inputs = Vec::new();
    for root in &options.paths {
        if let Some(name) = Name::of(root)? {
            remote::find(&name, options, &mut inputs, report, progress)?;
        } else {
            find_here(root, options, &mut inputs, report)?;
        }
    }
    // A path given twice, or a file inside a folder that is given too, is read once.
    if options.paths.len() > 1 {
        let mut seen = HashSet::new();
        inputs.retain(|input| seen.insert(input.path.clone()));
    }
    report.files += inputs.len() as u64;
    report.file_bytes += inputs.iter().map(|i| i.size).sum::<u64>();
    Ok(inputs)
}

/// The files at or below `root`.
pub(super) fn find_here(
    root: &Path,
    options: &Options,
    inputs: &mut Vec<Input>,
    report: &mut Report,
) -> Result<()> {
    let metadata = root.metadata().with_context(|| {
        format!("cannot read {}: check that the path exists and may be read", root.display())
    })?;
    if metadata.is_dir() {
        return walk(root, options, inputs, report);
    }
    let globs = Globs::new(root.parent().unwrap_or(Path::new("")), options)?;
    add(root.to_owned(), root, &globs, metadata.len(), true, inputs, report);
    Ok(())
}

fn walk(root: &Path, options: &Options, inputs: &mut Vec<Input>, report: &mut Report) -> Result<()> {
    let globs = Arc::new(Globs::new(root, options)?);
    let prune = globs.clone();
    // What the person asked for by name is wanted, so rules from above the folder and from outside it do not
    // hold.
    let walk = WalkBuilder::new(root)
        .standard_filters(false)
        .hidden(true)
        .git_ignore(true)
        .require_git(false)
        .sort_by_file_path(|a, b| a.cmp(b))
        .filter_entry(move |entry| {
            !(entry.file_type().is_some_and(|t| t.is_dir()) && prune.excludes(entry.path(), true))
        })
        .build();
    for entry in walk {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                let file = root.display().to_string();
                report.drop(Reason::Unreadable, 0, || Example { file, line: 0, detail: error.to_string() });
                continue;
            }
        };
        let is_link = entry.path_is_symlink() && entry.depth() > 0;
        if is_link {
            drop_file(report, Reason::SymbolicLink, entry.path(), 0, String::new());
        } else if entry.file_type().is_some_and(|t| t.is_file()) {
            let size = entry.metadata().map_or(0, |m| m.len());
            add(entry.into_path(), root, &globs, size, false, inputs, report);
        }
    }
    Ok(())
}
