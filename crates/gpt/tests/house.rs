//! The plan of the house, held by reading the source: who imports whom, and how long a file may be.
#![allow(clippy::unwrap_used)] // A test that finds no value has failed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// What any module may use: who works for long, speaks to people, counts or draws.
const FOR_ALL: [&str; 6] = ["progress", "numbers", "statistics", "nearest", "streams", "system"];
/// The crates whose modules the plan lists.
const OF_ROOMS: [&str; 3] = ["text", "lm", "gpt"];
/// The crates that are one module.
const WHOLE: [&str; 7] = ["kernels", "kernels-cuda", "ranks", "sandbox", "lessons", "feedback", "server"];

fn crates() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().into()
}

fn rust_files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn files_under(dir: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    rust_files(&crates().join(dir), &mut found);
    assert!(!found.is_empty(), "no source in {dir}");
    found
}

/// `../text/src/hub/name.rs` → `hub`; of a crate that is one module, the crate.
fn module(krate: &str, file: &Path) -> String {
    let source = crates().join(krate).join("src");
    let first = file.strip_prefix(source).unwrap().components().next().unwrap();
    match WHOLE.contains(&krate) {
        true => krate.to_string(),
        false => Path::new(first.as_os_str()).file_stem().unwrap().to_str().unwrap().to_string(),
    }
}

/// The modules that a line names after `crate::` or the name of a crate (braces name several), and the
/// crates of one module where they are named.
fn imported(line: &str) -> BTreeSet<String> {
    let name = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let is_path = |before: &str| {
        let before = before.strip_suffix("::").filter(|path| !path.ends_with('>')).unwrap_or(before);
        !before.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':')
    };
    let after = |krate: &str| {
        let krate = format!("{krate}::");
        let found = line.match_indices(&krate).filter(|(at, _)| is_path(&line[..*at]));
        found.map(|(at, _)| &line[at + krate.len()..]).collect::<Vec<_>>()
    };
    let mut modules = BTreeSet::new();
    for rest in ["crate"].iter().chain(&OF_ROOMS).flat_map(|krate| after(krate)) {
        match rest.strip_prefix('{') {
            Some(list) => modules.extend(list.split([',', '}']).map(|item| name(item.trim()))),
            None => drop(modules.insert(name(rest))),
        }
    }
    modules.extend(WHOLE.iter().filter(|krate| !after(krate).is_empty()).map(|krate| krate.to_string()));
    modules.remove("");
    modules
}

#[test]
fn imports_are_seen() {
    let seen = |line| imported(line).into_iter().collect::<Vec<_>>();
    assert_eq!(seen("use crate::{data, model::Config};"), ["data", "model"]);
    assert_eq!(seen("use text::{data, hub::{Hub, Name}};"), ["Name", "data", "hub"]);
    assert_eq!(seen("    upload: &mut crate::checkpoint::Upload<kernels::Cpu>,"), ["checkpoint", "kernels"]);
    assert_eq!(seen("use kernels::{Backend, rng};"), ["kernels"]);
    assert_eq!(seen("use ::text::streams;"), ["streams"]);
    assert!(seen("let x = my_kernels::rng + some::kernels::rng;").is_empty());
}

/// Module → the modules that it imports, `kernels` among them, as `ARCHITECTURE.md` says; none where
/// that is nearly everything.
fn plan(text: &str) -> BTreeMap<String, (BTreeSet<String>, bool)> {
    let names = |list: &str| -> Vec<String> {
        list.split([',', ' ']).filter(|name| !name.is_empty()).map(str::to_string).collect()
    };
    let sentences = text.split("## Who may import whom").nth(1).unwrap().split("\n## ").next().unwrap();
    let mut plan = BTreeMap::new();
    for (modules, others) in sentences.split(['.', '\n', '|']).filter_map(|part| part.split_once(" → ")) {
        let but = others.strip_prefix("everything but ");
        let others = but.unwrap_or(others).replace("nothing of ours", "").replace(" and ", " ");
        for module in names(modules) {
            plan.insert(module, (names(&others).into_iter().collect(), but.is_some()));
        }
    }
    plan
}

#[test]
fn modules_import_what_the_plan_says_and_nothing_else() {
    let text = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../ARCHITECTURE.md");
    let plan = plan(&std::fs::read_to_string(text).unwrap());
    let mut broken = Vec::new();
    let mut used: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let of_crate = |krate: &'static str| {
        let files = files_under(&format!("{krate}/src"));
        files.into_iter().map(move |file| (module(krate, &file), file)).collect::<Vec<_>>()
    };
    let libraries = OF_ROOMS.iter().chain(WHOLE.iter().filter(|krate| **krate != "kernels"));
    for (module, file) in libraries.flat_map(|krate| of_crate(krate)).filter(|(module, _)| module != "lib") {
        let (listed, all_but) = plan
            .get(&module)
            .unwrap_or_else(|| panic!("{module} is not in the plan of ARCHITECTURE.md: add it"));
        let text = std::fs::read_to_string(&file).unwrap();
        // What unit tests import is their own business.
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        let is_test = file.components().any(|part| part.as_os_str() == "tests") || file.ends_with("tests.rs");
        for (number, line) in code.lines().enumerate().filter(|_| !is_test) {
            let names = imported(line.split("//").next().unwrap());
            for other in names.into_iter().filter(|name| plan.contains_key(name)) {
                let is_free = other == module || FOR_ALL.contains(&other.as_str());
                if !is_free && listed.contains(&other) == *all_but {
                    broken.push(format!("{}:{}: {module} imports {other}", file.display(), number + 1));
                }
                used.entry(module.clone()).or_default().insert(other);
            }
        }
    }
    for (module, (listed, _)) in plan.iter().filter(|(module, (_, all_but))| *module != "cli" && !all_but) {
        let unused =
            listed.iter().filter(|other| !used.get(module).is_some_and(|used| used.contains(*other)));
        broken.extend(unused.map(|other| format!("{module} need not import {other}")));
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn files_stay_readable() {
    let mut long = Vec::new();
    for krate in std::fs::read_dir(crates()).unwrap() {
        for file in files_under(krate.unwrap().path().to_str().unwrap()) {
            let lines = std::fs::read_to_string(&file).unwrap().lines().count();
            if lines > 500 {
                long.push(format!("{}: {lines} lines", file.display()));
            }
        }
    }
    assert!(long.is_empty(), "split along a seam that a newcomer would expect:\n{}", long.join("\n"));
}

#[test]
fn unsafe_stays_where_it_is_needed() {
    let forbids = |text: &str| text.contains("unsafe_code = \"forbid\"");
    let read = |path: PathBuf| std::fs::read_to_string(path).unwrap();
    assert!(forbids(&read(crates().join("../Cargo.toml"))), "the workspace must forbid unsafe code");
    for krate in std::fs::read_dir(crates()).unwrap().map(|entry| entry.unwrap().path()) {
        let manifest = read(krate.join("Cargo.toml"));
        let is_safe = forbids(&manifest) || manifest.contains("[lints]\nworkspace = true");
        let needs_it = ["kernels", "kernels-cuda", "ranks"].iter().any(|name| krate.ends_with(name));
        assert!(is_safe != needs_it, "{}: unsafe code is for the kernels and for MPI", krate.display());
    }
}
