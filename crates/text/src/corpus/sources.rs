//! Source code that is on the machine anyhow: what the default run learns from when no folder was given.

use std::path::{Path, PathBuf};

/// A place that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// What should be there.
    pub what: &'static str,
    /// Where.
    pub path: PathBuf,
    /// Whether it is there.
    pub found: bool,
}

/// What was looked for, and what was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// All places, in order.
    pub places: Vec<Place>,
    /// Folders to read: Rust's, and at most one Python's.
    pub folders: Vec<PathBuf>,
}

/// What of these folders to read.
pub const INCLUDE: &[&str] = &["*.rs", "*.py"];
/// What of them not to read: below Python's library, installed packages, tests (half of it) and tables of
/// characters; of crates, the bindings to operating systems, which a program wrote.
pub const EXCLUDE: &[&str] = &[
    "/site-packages",
    "/dist-packages",
    "/test",
    "/*/test",
    "/*/idle_test",
    "/encodings",
    "/windows*",
    "/winapi*",
    "/linux-raw-sys*",
];

impl Sources {
    /// Looks at the usual places of this machine.
    pub fn find() -> Sources {
        let home = std::env::home_dir().unwrap_or_default();
        let cargo = std::env::var_os("CARGO_HOME").map_or_else(|| home.join(".cargo"), PathBuf::from);
        Sources::find_in(&cargo, &home, Path::new("/"))
    }

    /// Looks below the given folders instead.
    pub fn find_in(cargo: &Path, home: &Path, root: &Path) -> Sources {
        let mut sources = Sources::default();
        let registry = cargo.join("registry/src");
        let indexes = children(&registry);
        let what = "Rust sources of cargo's registry";
        sources.places.push(Place { what, path: registry, found: !indexes.is_empty() });
        sources.folders.extend(indexes);
        let libraries = [
            root.join("usr/lib"),
            root.join("usr/local/lib"),
            root.join("opt/homebrew/lib"),
            root.join("Library/Frameworks/Python.framework/Versions/Current/lib"),
        ];
        let pyenv = children(&home.join(".pyenv/versions")).into_iter().map(|v| v.join("lib"));
        let mut best: Option<((u32, u32), PathBuf)> = None;
        for library in libraries.into_iter().chain(pyenv) {
            let newest = children(&library).into_iter().filter_map(|p| Some((python_version(&p)?, p))).max();
            let (path, found) = match &newest {
                Some((_, path)) => (path.clone(), true),
                None => (library.join("python3.*"), false),
            };
            sources.places.push(Place { what: "Python's standard library", path, found });
            // The newest one; of the same version, the first place's.
            if let Some(newest) = newest
                && best.as_ref().is_none_or(|(version, _)| *version < newest.0)
            {
                best = Some(newest);
            }
        }
        sources.folders.extend(best.map(|(_, path)| path));
        sources
    }
}

/// The version of a folder `python3.N` that holds a standard library.
fn python_version(path: &Path) -> Option<(u32, u32)> {
    let minor = path.file_name()?.to_str()?.strip_prefix("python3.")?.parse().ok()?;
    path.join("fileinput.py").is_file().then_some((3, minor))
}

/// The folders in a folder, sorted; none when it cannot be read.
fn children(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> =
        entries.filter_map(|e| Some(e.ok()?.path())).filter(|p| p.is_dir()).collect();
    paths.sort();
    paths
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn finds_the_registry_and_the_newest_python() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let (cargo, home) = (root.join("cargo"), root.join("home"));
        let none = Sources::find_in(&cargo, &home, root);
        assert!(none.folders.is_empty() && none.places.len() == 5 && none.places.iter().all(|p| !p.found));

        fs::create_dir_all(cargo.join("registry/src/index")).unwrap();
        fs::create_dir_all(root.join("usr/local/lib/python3.13")).unwrap(); // no standard library in it
        for library in
            ["usr/lib/python3.9", "usr/lib/python3.11", "home/.pyenv/versions/3.11.7/lib/python3.11"]
        {
            fs::create_dir_all(root.join(library)).unwrap();
            fs::write(root.join(library).join("fileinput.py"), "").unwrap();
        }
        let found = Sources::find_in(&cargo, &home, root);
        assert_eq!(found.folders, [cargo.join("registry/src/index"), root.join("usr/lib/python3.11")]);
        assert_eq!(found.places.iter().filter(|p| p.found).count(), 3);

        let python = root.join("usr/lib/python3.11");
        for file in ["test/a.py", "ctypes/test/b.py", "site-packages/c.py", "json/tool.py"] {
            fs::create_dir_all(python.join(file).parent().unwrap()).unwrap();
            fs::write(python.join(file), format!("import sys  # {file}\n")).unwrap();
        }
        let krate = cargo.join("registry/src/index/a-1.0.0");
        fs::create_dir_all(krate.join("tests")).unwrap();
        fs::write(krate.join("tests/d.rs"), "#[test]\nfn works() {}\n").unwrap();
        fs::write(krate.join("README.md"), "A crate.\n").unwrap();
        let options = crate::corpus::Options {
            paths: found.folders,
            out: root.join("out"),
            include: INCLUDE.iter().map(ToString::to_string).collect(),
            exclude: EXCLUDE.iter().map(ToString::to_string).collect(),
            val_fraction: 0.0,
            ..Default::default()
        };
        crate::corpus::build(&options, &crate::progress::Silent).unwrap();
        let documents = crate::corpus::Documents::open(&options.out, crate::corpus::Split::Train).unwrap();
        let read: Vec<String> = documents.map(|d| d.unwrap().source).collect();
        assert_eq!(read, ["index/a-1.0.0/tests/d.rs", "python3.11/json/tool.py"]);
    }
}
