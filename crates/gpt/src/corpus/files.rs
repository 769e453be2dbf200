//! Which files are read: the walk and the globs.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use ignore::WalkBuilder;
use ignore::gitignore::{Gitignore, GitignoreBuilder};

use super::kind::{Form, Kind, Packing};
use super::reason::Reason;
use super::report::{Example, Report};
use super::{Options, remote};
use crate::hub::Name;
use crate::progress::Progress;

/// A file to read.
#[derive(Debug)]
pub(super) struct Input {
    /// Its number in a list of files that has numbers.
    pub(super) number: usize,
    pub(super) path: PathBuf,
    /// How many bytes of `path` are dropped to make its name: what is above the given directory is not part of it.
    name_at: usize,
    /// Bytes on disk.
    pub(super) size: u64,
    /// Whether it was named on the command line, rather than met in a directory.
    pub(super) named: bool,
    /// How it is packed and cut.
    pub(super) form: Form,
}

impl Input {
    pub(super) fn new(path: PathBuf, root: &Path, size: u64, named: bool, form: Form) -> Input {
        let above = root.parent().map_or(0, |p| p.as_os_str().len());
        let text = path.to_string_lossy();
        let name_at = above + text.get(above..).map_or(0, |s| s.len() - s.trim_start_matches('/').len());
        Input { number: 0, path, name_at, size, named, form }
    }

    /// The path from the given directory's own name on: the same on every machine.
    pub(super) fn name(&self) -> String {
        let text = self.path.to_string_lossy();
        text.get(self.name_at..).unwrap_or(&text).to_string()
    }

    /// Whether the file is one document at most, so that it need not be opened to know whether the sample wants it.
    pub(super) fn is_single(&self) -> bool {
        match self.form.kind {
            Kind::Lines | Kind::Json | Kind::Table(_) | Kind::Parquet => false,
            Kind::Code => true,
            Kind::Prose => self.form.packing == Packing::None && self.size <= super::PIECE_BYTES as u64,
        }
    }
}

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
    // What the person asked for by name is wanted, so rules from above the folder and from outside it do not hold.
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

pub(super) fn add(
    path: PathBuf,
    root: &Path,
    globs: &Globs,
    size: u64,
    named: bool,
    inputs: &mut Vec<Input>,
    report: &mut Report,
) {
    if globs.excludes(&path, false) {
        drop_file(report, Reason::Excluded, &path, size, String::new());
    } else if !globs.includes(&path) {
        drop_file(report, Reason::NotIncluded, &path, size, String::new());
    } else {
        match Form::of(&path) {
            Ok(form) => {
                report.recognised(&path, form);
                inputs.push(Input::new(path, root, size, named, form));
            }
            Err(extension) => {
                drop_file(report, Reason::UnsupportedKind, &path, size, format!(".{extension}"));
            }
        }
    }
}

pub(super) fn drop_file(report: &mut Report, reason: Reason, path: &Path, size: u64, detail: String) {
    report.drop(reason, size, || Example { file: path.display().to_string(), line: 0, detail });
}

/// `--include` and `--exclude`.
pub(super) struct Globs {
    include: Option<Gitignore>,
    exclude: Option<Gitignore>,
}

impl Globs {
    pub(super) fn new(root: &Path, options: &Options) -> Result<Globs> {
        let build = |globs: &[String]| -> Result<Option<Gitignore>> {
            let mut builder = GitignoreBuilder::new(root);
            for glob in globs {
                builder.add_line(None, glob).with_context(|| format!("“{glob}” is not a glob"))?;
            }
            Ok(if globs.is_empty() { None } else { Some(builder.build()?) })
        };
        Ok(Globs { include: build(&options.include)?, exclude: build(&options.exclude)? })
    }

    pub(super) fn excludes(&self, path: &Path, is_dir: bool) -> bool {
        self.exclude.as_ref().is_some_and(|g| g.matched(path, is_dir).is_ignore())
    }

    /// A glob that names a folder includes all that is in it.
    pub(super) fn includes(&self, path: &Path) -> bool {
        self.include.as_ref().is_none_or(|g| g.matched_path_or_any_parents(path, false).is_ignore())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_begin_at_the_given_folder() {
        let form = Form { packing: Packing::None, kind: Kind::Prose };
        let name = |path: &str, root: &str| Input::new(path.into(), Path::new(root), 0, false, form).name();
        assert_eq!(name("/a/b/src/lib.rs", "/a/b/src"), "src/lib.rs");
        assert_eq!(name("/a/b/src/lib.rs", "/a/b/src/"), "src/lib.rs");
        assert_eq!(name("/a/x.txt", "/a/x.txt"), "x.txt");
        assert_eq!(name("/x.txt", "/"), "x.txt");
        assert_eq!(name("data/x.txt", "data"), "data/x.txt");
    }
}
