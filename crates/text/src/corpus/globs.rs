//! Which of the files that are met are read: `--include`, `--exclude`, and what can be read at all.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use ignore::gitignore::{Gitignore, GitignoreBuilder};

use super::Options;
use super::form::Form;
use super::input::Input;
use super::reason::Reason;
use super::report::{Example, Report};

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
