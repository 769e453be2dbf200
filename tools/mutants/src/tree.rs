//! A copy of the working tree with mutants woven in, and its one build.
//!
//! What the compiler cannot take is left out by reading its errors, and the next of the order takes its place, until it builds.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::list::{Mutant, hash};
use crate::weave::{Woven, weave};

/// Packages that hold none of the modules: to compile and run their tests would show nothing.
const WITHOUT_MUTANTS: &str = "mynah-kernels";
/// What is put at the end of a crate: the switch.
const SWITCH: &str = include_str!("switch.rs.in");
/// Lints that would refuse a mutant for being one.
const ALLOW: &str =
    "#![allow(arithmetic_overflow, unconditional_panic, unconditional_recursion, overflowing_literals)]\n";

/// The files of the crates that hold mutants.
type Sources = BTreeMap<PathBuf, Woven>;

/// A program that holds tests.
#[derive(Clone, Debug)]
pub struct Binary {
    /// `mynah-gpt lib`, `mynah-gpt stages`.
    pub name: String,
    pub executable: PathBuf,
    /// Where cargo would run it.
    pub dir: PathBuf,
    /// Whether it knows the usual arguments, and one test of it can be run alone.
    pub harness: bool,
}

/// What came of a build.
pub struct Built {
    /// The mutants in it, in the order of the seed.
    pub mutants: Vec<Mutant>,
    /// Those that were passed over, with the reason.
    pub left_out: Vec<(Mutant, String)>,
    pub binaries: Vec<Binary>,
}

/// The copy.
pub struct Tree {
    root: PathBuf,
    copy: PathBuf,
    target: PathBuf,
    files: BTreeMap<PathBuf, Vec<u8>>,
}

impl Tree {
    /// What git knows of the working tree at `root`, and what it does not ignore; it is copied to a folder in `dir`.
    ///
    /// # Errors
    /// There is no git, or a file cannot be read.
    pub fn of(root: &Path, dir: &Path) -> Result<Tree> {
        let output = Command::new("git")
            .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
            .current_dir(root)
            .output()
            .context("cannot start git")?;
        ensure!(output.status.success(), "git ls-files: {}", String::from_utf8_lossy(&output.stderr));
        let names = String::from_utf8(output.stdout).context("a file name that is no UTF-8")?;
        let names = names.split_terminator('\0').map(PathBuf::from);
        let files = names.filter(|name| root.join(name).is_file());
        let files = files
            .map(|name| fs::read(root.join(&name)).map(|bytes| (name, bytes)))
            .collect::<std::io::Result<_>>()?;
        Ok(Tree { root: root.into(), copy: dir.join("tree"), target: dir.join("build"), files })
    }

    /// Tells the state of everything that tests depend on from any other.
    pub fn digest(&self) -> u64 {
        let counts = |path: &&PathBuf| {
            ["crates", "presets", "Cargo.toml", "Cargo.lock"].iter().any(|part| path.starts_with(part))
        };
        let digests = self
            .files
            .keys()
            .filter(counts)
            .map(|path| format!("{} {:x}\n", path.display(), hash(&self.files[path])));
        hash(digests.collect::<String>().as_bytes())
    }

    /// Builds the tests with the first `count` of `order` that can be compiled; `reasons` has the numbers of those that are
    /// known not to be, and what is found is told to `note`.
    ///
    /// # Errors
    /// The compiler's errors are of no mutant; `note` fails.
    pub fn build(
        &self,
        order: &[Mutant],
        count: usize,
        mut reasons: BTreeMap<usize, String>,
        note: impl Fn(&Mutant, &str) -> Result<()>,
    ) -> Result<Built> {
        // A quarter more than are needed: to begin again takes longer than to compile them.
        let mut end = 0;
        loop {
            let compile = |end: usize| order[..end].iter().filter(|it| !reasons.contains_key(&it.number));
            while compile(end).count() < count && end < order.len() {
                end = (end + (count - compile(end).count()) * 5 / 4 + 1).min(order.len());
            }
            let chosen: Vec<&Mutant> = compile(end).collect();
            let (woven, mut refused) = self.weave(&chosen)?;
            if refused.is_empty() {
                eprintln!("building with {} mutants, {} left out", chosen.len(), reasons.len());
                let (binaries, errors) = self.compile(&chosen)?;
                if errors.is_empty() {
                    let mutants: Vec<Mutant> = chosen.into_iter().take(count).cloned().collect();
                    let last = mutants.last().map_or(0, |mutant| mutant.number);
                    let passed_over = order.iter().filter(|mutant| mutant.number < last);
                    let left_out = passed_over
                        .filter_map(|mutant| Some((mutant.clone(), reasons.get(&mutant.number)?.clone())));
                    return Ok(Built { mutants, left_out: left_out.collect(), binaries });
                }
                refused.extend(culprits(&errors, &woven)?);
            }
            for (number, reason) in refused {
                let mutant = order.iter().find(|mutant| mutant.number == number);
                note(mutant.context("a number that was not drawn")?, &reason)?;
                reasons.insert(number, reason);
            }
        }
    }

    /// Writes the copy; what has not changed is not touched, so that it is not compiled again.
    fn weave(&self, mutants: &[&Mutant]) -> Result<(Sources, Vec<(usize, String)>)> {
        let crates: BTreeSet<PathBuf> = mutants.iter().map(|mutant| crate_root(&mutant.file)).collect();
        let (mut all, mut refused) = (BTreeMap::new(), Vec::new());
        for (path, bytes) in &self.files {
            let (target, name) = (self.copy.join(path), path.to_string_lossy());
            let mut bytes = bytes.clone();
            if name.ends_with(".rs") && crates.contains(&crate_root(&name)) {
                let here: Vec<&Mutant> =
                    mutants.iter().filter(|mutant| Path::new(&mutant.file) == path).copied().collect();
                let source = std::str::from_utf8(&bytes).context("source that is no UTF-8")?;
                let (mut woven, mut not_here) =
                    weave(source, &here).with_context(|| path.display().to_string())?;
                if *path == crate_root(&name) {
                    let numbers = mutants.iter().map(|mutant| mutant.number).max().unwrap_or(0) + 1;
                    woven.embrace(ALLOW, &SWITCH.replace("NUMBERS", &numbers.to_string()));
                }
                refused.append(&mut not_here);
                bytes = woven.text.clone().into_bytes();
                all.insert(path.clone(), woven);
            }
            if fs::read(&target).ok().as_deref() != Some(&bytes) {
                fs::create_dir_all(target.parent().context("a file without a folder")?)?;
                fs::write(&target, &bytes).with_context(|| target.display().to_string())?;
                fs::set_permissions(&target, fs::metadata(self.root.join(path))?.permissions())?;
            }
        }
        remove_others(&self.copy, &self.copy, &self.files)?;
        Ok((all, refused))
    }

    /// The test programs, or the compiler's errors.
    fn compile(&self, mutants: &[&Mutant]) -> Result<(Vec<Binary>, Vec<Value>)> {
        let packages: BTreeSet<&str> = mutants.iter().map(|mutant| mutant.package.as_str()).collect();
        let quick = packages.iter().flat_map(|package| {
            ["--config".to_string(), format!("profile.release.package.{package}.opt-level=0")]
        });
        let output = Command::new("cargo")
            .args(["test", "--no-run", "--release", "--locked", "--workspace", "--tests"])
            .args(["--exclude", WITHOUT_MUTANTS, "--message-format", "json"])
            .args(["--config", "profile.release.incremental=true"])
            .args(quick)
            .current_dir(&self.copy)
            .env("CARGO_TARGET_DIR", &self.target)
            .stderr(std::process::Stdio::inherit())
            .output()
            .context("cannot start cargo")?;
        let messages: Vec<Value> = serde_json::Deserializer::from_slice(&output.stdout)
            .into_iter()
            .collect::<serde_json::Result<_>>()
            .context("a message of cargo")?;
        let is_error = |message: &&Value| message["message"]["level"] == "error";
        let errors: Vec<Value> =
            messages.iter().filter(is_error).map(|message| message["message"].clone()).collect();
        ensure!(output.status.success() || !errors.is_empty(), "cargo cannot build the tests");
        Ok((messages.iter().filter_map(binary).collect(), errors))
    }
}

/// `crates/text/src/data/rows.rs` → `crates/gpt/src/lib.rs`; of what is in no `src`, nothing that exists.
fn crate_root(file: &str) -> PathBuf {
    file.split_once("/src/").map_or_else(PathBuf::new, |(dir, _)| Path::new(dir).join("src/lib.rs"))
}

fn binary(message: &Value) -> Option<Binary> {
    let executable = PathBuf::from(message["executable"].as_str()?);
    if message["profile"]["test"] != true {
        return None;
    }
    let dir = Path::new(message["manifest_path"].as_str()?).parent()?.to_path_buf();
    let target = &message["target"];
    let kind = target["kind"][0].as_str()?;
    let name = if kind == "test" { target["name"].as_str()? } else { kind };
    let manifest = fs::read_to_string(dir.join("Cargo.toml")).ok()?;
    let own = manifest.split("[[test]]").skip(1).map(|table| table.split("\n[").next().unwrap_or_default());
    let own_main =
        |table: &str| table.contains(&format!("name = \"{name}\"")) && table.contains("harness = false");
    let harness = kind != "test" || !own.into_iter().any(own_main);
    let package = dir.file_name()?.to_string_lossy().into_owned();
    Some(Binary { name: format!("{package} {name}"), executable, dir, harness })
}

fn remove_others(dir: &Path, copy: &Path, files: &BTreeMap<PathBuf, Vec<u8>>) -> Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            remove_others(&path, copy, files)?;
        } else if !files.contains_key(path.strip_prefix(copy)?) {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

/// Which mutants the compiler's errors are about, with its messages.
fn culprits(errors: &[Value], woven: &Sources) -> Result<BTreeMap<usize, String>> {
    let mut found = BTreeMap::new();
    for error in errors {
        let said = error["message"].as_str().unwrap_or_default();
        let spans = spans(error);
        match culprit(&spans, woven) {
            Some(number) => drop(found.entry(number).or_insert_with(|| said.to_string())),
            None if spans.is_empty() => {} // "aborting due to 3 previous errors"
            None => bail!("no mutant is to blame for\n{}", error["rendered"].as_str().unwrap_or(said)),
        }
    }
    ensure!(!found.is_empty(), "the compiler blames nothing");
    Ok(found)
}

/// File, bytes and whether it is the main one, of each place that an error names.
fn spans(error: &Value) -> Vec<(PathBuf, Range<usize>, bool)> {
    let span = |span: &Value| {
        let byte = |key: &str| usize::try_from(span[key].as_u64()?).ok();
        let file = PathBuf::from(span["file_name"].as_str()?);
        Some((file, byte("byte_start")?..byte("byte_end")?, span["is_primary"] == true))
    };
    let own = error["spans"].as_array().into_iter().flatten().filter_map(span);
    let children = error["children"].as_array().into_iter().flatten();
    let notes = children.flat_map(|child| child["spans"].as_array().into_iter().flatten()).filter_map(span);
    own.chain(notes.map(|(file, bytes, _)| (file, bytes, false))).collect()
}

/// The mutant in whose mutated text an error lies; else the one around its main place, or around any.
fn culprit(spans: &[(PathBuf, Range<usize>, bool)], woven: &Sources) -> Option<usize> {
    let innermost = |primary: bool, mutated: bool| {
        let places = spans.iter().filter(|span| span.2 == primary).flat_map(|(file, bytes, _)| {
            let places = woven.get(file).into_iter().flat_map(|woven| &woven.places);
            places
                .map(move |place| (if mutated { &place.mutated } else { &place.whole }, place.number, bytes))
        });
        let around = places.filter(|(range, _, bytes)| range.start <= bytes.start && bytes.end <= range.end);
        around.min_by_key(|(range, ..)| range.len()).map(|(_, number, _)| number)
    };
    [(true, true), (false, true), (true, false), (false, false)]
        .into_iter()
        .find_map(|(primary, mutated)| innermost(primary, mutated))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weave::Place;

    #[test]
    fn the_innermost_mutant_is_to_blame() {
        let outer = Place { number: 1, whole: 0..100, mutated: 0..40 };
        let inner = Place { number: 2, whole: 50..90, mutated: 50..60 };
        let file = PathBuf::from("a.rs");
        let woven =
            Sources::from([(file.clone(), Woven { text: String::new(), places: vec![outer, inner] })]);
        let blamed = |spans: &[(Range<usize>, bool)]| {
            let spans: Vec<_> =
                spans.iter().map(|(bytes, primary)| (file.clone(), bytes.clone(), *primary)).collect();
            culprit(&spans, &woven)
        };
        assert_eq!(blamed(&[(10..12, true)]), Some(1));
        assert_eq!(blamed(&[(55..57, true)]), Some(2));
        // The branches of an `if` differ: the original is the main place, and the mutated text the cause.
        assert_eq!(blamed(&[(70..80, true), (20..30, false)]), Some(1));
        assert_eq!(blamed(&[(92..95, true)]), Some(1));
        assert_eq!(blamed(&[(200..210, true)]), None);
    }
}
