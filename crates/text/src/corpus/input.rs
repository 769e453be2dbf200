//! A file to read.

use std::path::{Path, PathBuf};

use super::form::{Form, Kind, Packing};

/// A file to read.
#[derive(Debug)]
pub(super) struct Input {
    /// Its number in a list of files that has numbers.
    pub(super) number: usize,
    pub(super) path: PathBuf,
    /// How many bytes of `path` are dropped to make its name: what is above the given directory is not part
    /// of it.
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

    /// Whether the file is one document at most, so that it need not be opened to know whether the sample
    /// wants it.
    pub(super) fn is_single(&self) -> bool {
        match self.form.kind {
            Kind::Lines | Kind::Json | Kind::Table(_) | Kind::Parquet => false,
            Kind::Code => true,
            Kind::Prose => self.form.packing == Packing::None && self.size <= super::PIECE_BYTES as u64,
        }
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
