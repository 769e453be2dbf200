//! The plan of the house, held by reading the source: who imports whom, and how long a file may be.
#![allow(clippy::unwrap_used)] // A test that finds no value has failed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Room → the rooms of this crate, and `kernels`, that it imports. `ARCHITECTURE.md` says the same in words.
const IMPORTS: [(&str, &[&str]); 21] = [
    ("progress", &[]),
    ("numbers", &[]),
    ("streams", &[]),
    ("tokenizer", &["progress"]),
    ("objective", &["kernels"]),
    ("hub", &["progress"]),
    ("sandbox", &[]),
    ("output", &["hub"]),
    ("model", &["kernels", "streams"]),
    ("plan", &["model"]),
    ("corpus", &["kernels", "hub", "output", "progress", "streams"]),
    ("data", &["kernels", "corpus", "output", "progress", "streams", "tokenizer"]),
    ("lessons", &["kernels", "data", "output", "streams"]),
    ("checkpoint", &["kernels", "hub", "model", "progress", "tokenizer"]),
    ("complete", &["kernels", "model", "progress", "tokenizer"]),
    ("chat", &["kernels", "complete", "data", "model", "tokenizer"]),
    ("train", &["kernels", "checkpoint", "model", "output", "tokenizer"]),
    (
        "eval",
        &["kernels", "complete", "corpus", "data", "model", "progress", "sandbox", "streams", "tokenizer"],
    ),
    ("report", &["corpus", "eval", "numbers", "train"]),
    (
        "stage",
        &[
            "kernels",
            "checkpoint",
            "complete",
            "corpus",
            "data",
            "eval",
            "hub",
            "lessons",
            "model",
            "objective",
            "output",
            "progress",
            "report",
            "streams",
            "tokenizer",
            "train",
        ],
    ),
    ("lib", &[]),
];

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
    rust_files(&Path::new(env!("CARGO_MANIFEST_DIR")).join(dir), &mut found);
    assert!(!found.is_empty(), "no source in {dir}");
    found
}

/// `src/model/gpt.rs` → `model`.
fn room(file: &Path) -> String {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let first = file.strip_prefix(source).unwrap().components().next().unwrap();
    Path::new(first.as_os_str()).file_stem().unwrap().to_str().unwrap().to_string()
}

/// The rooms that a line names after `crate::` (braces name several), and `kernels` where it is named.
fn imported(line: &str) -> BTreeSet<String> {
    let name = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut rooms = BTreeSet::new();
    for rest in line.split("crate::").skip(1) {
        match rest.strip_prefix('{') {
            Some(list) => rooms.extend(list.split([',', '}']).map(|item| name(item.trim()))),
            None => drop(rooms.insert(name(rest))),
        }
    }
    let is_path = |before: &str| !before.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':');
    if line.match_indices("kernels::").any(|(at, _)| is_path(&line[..at])) {
        rooms.insert("kernels".into());
    }
    rooms.remove("");
    rooms
}

#[test]
fn imports_are_seen() {
    let seen = |line| imported(line).into_iter().collect::<Vec<_>>();
    assert_eq!(seen("use crate::{data, model::Config};"), ["data", "model"]);
    assert_eq!(seen("    upload: &mut crate::checkpoint::Upload<kernels::Cpu>,"), ["checkpoint", "kernels"]);
    assert_eq!(seen("use kernels::{Backend, rng};"), ["kernels"]);
    assert!(seen("let x = my_kernels::rng + some::kernels::rng;").is_empty());
}

#[test]
fn rooms_import_what_the_plan_says_and_nothing_else() {
    let (mut broken, mut unused) = (Vec::new(), BTreeSet::new());
    for (room, others) in IMPORTS {
        unused.extend(others.iter().map(|other| format!("{room} need not import {other}")));
    }
    for file in files_under("src") {
        let room = room(&file);
        let allowed = IMPORTS.iter().find(|entry| entry.0 == room);
        let allowed = allowed.unwrap_or_else(|| panic!("the room `{room}` is not in the plan: add it")).1;
        let text = std::fs::read_to_string(&file).unwrap();
        // What unit tests import is their own business.
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        let is_test = file.components().any(|part| part.as_os_str() == "tests") || file.ends_with("tests.rs");
        for (number, line) in code.lines().enumerate().filter(|_| !is_test) {
            let line = line.split("//").next().unwrap();
            for other in imported(line).iter().filter(|other| **other != room) {
                unused.remove(&format!("{room} need not import {other}"));
                if !allowed.contains(&other.as_str()) {
                    broken.push(format!("{}:{}: {room} imports {other}", file.display(), number + 1));
                }
            }
        }
    }
    broken.extend(unused);
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn files_stay_readable() {
    let mut long = Vec::new();
    for dir in ["src", "tests", "../kernels/src", "../kernels/tests", "../cli/src"] {
        for file in files_under(dir) {
            let lines = std::fs::read_to_string(&file).unwrap().lines().count();
            if lines > 500 {
                long.push(format!("{}: {lines} lines", file.display()));
            }
        }
    }
    assert!(long.is_empty(), "split along a seam that a newcomer would expect:\n{}", long.join("\n"));
}

#[test]
fn unsafe_stays_in_the_kernels() {
    for manifest in ["Cargo.toml", "../cli/Cargo.toml"] {
        let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(manifest)).unwrap();
        assert!(text.contains("unsafe_code = \"forbid\""), "{manifest} must forbid unsafe code");
    }
}
