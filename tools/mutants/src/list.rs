//! Which mutants there are, from `cargo mutants --list`, and in which order a seed draws them.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

/// A place in a file: line and column from 1 on, columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct LineColumn {
    pub line: usize,
    pub column: usize,
}

/// From `start` to just before `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Span {
    pub start: LineColumn,
    pub end: LineColumn,
}

/// What kind of change a mutant is, in the words of `cargo mutants`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Genre {
    FnValue,
    BinaryOperator,
    UnaryOperator,
    MatchArm,
    MatchArmGuard,
    StructField,
}

/// One change of the source.
#[derive(Clone, Debug, Deserialize)]
pub struct Mutant {
    /// Its place in the order of the seed, from 1 on, and the number that switches it on.
    #[serde(skip)]
    pub number: usize,
    /// `file:line:column: what is replaced with what`.
    pub name: String,
    pub package: String,
    /// From the root of the repository.
    pub file: String,
    /// What `replacement` takes the place of; of a function, its body without the braces.
    pub span: Span,
    pub replacement: String,
    pub genre: Genre,
}

impl Mutant {
    /// Its name without line and column, which move when something above it is edited.
    fn what(&self) -> String {
        let place = format!("{}:{}:{}: ", self.file, self.span.start.line, self.span.start.column);
        format!("{}: {}", self.file, self.name.strip_prefix(&place).unwrap_or(&self.name))
    }

    fn is_in(&self, module: &str) -> bool {
        let within = |path: String| self.file.contains(&path);
        within(format!("/src/{module}/"))
            || within(format!("/src/{module}.rs"))
            || within(format!("/{module}/src/"))
    }
}

/// All mutants of `modules` in the order in which `seed` draws them.
///
/// # Errors
/// `cargo mutants` is not installed or fails; a module has no mutants.
pub fn drawn(root: &Path, modules: &[String], seed: u64) -> Result<Vec<Mutant>> {
    let output = Command::new("cargo")
        .args(["mutants", "--list", "--json"])
        .current_dir(root)
        .output()
        .context("cannot start cargo")?;
    ensure!(
        output.status.success(),
        "`cargo mutants --list` fails; is it installed (`cargo install cargo-mutants --locked`)?\n{}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    let all: Vec<Mutant> = serde_json::from_slice(&output.stdout).context("the list of cargo mutants")?;
    for module in modules {
        ensure!(all.iter().any(|mutant| mutant.is_in(module)), "no mutants in a module {module}");
    }
    Ok(in_order(all.into_iter().filter(|mutant| modules.iter().any(|module| mutant.is_in(module))), seed))
}

/// Sorted by a hash of seed and name, so that an edit elsewhere leaves the order as it is; of equal names in one file, the
/// first one, the second one and so on are told apart.
fn in_order(mutants: impl Iterator<Item = Mutant>, seed: u64) -> Vec<Mutant> {
    let mut seen = std::collections::HashMap::new();
    let mut keyed: Vec<(u64, Mutant)> = mutants
        .map(|mutant| {
            let what = mutant.what();
            let nth = seen.entry(what.clone()).and_modify(|nth| *nth += 1).or_insert(0);
            (hash(format!("{seed} {nth} {what}").as_bytes()), mutant)
        })
        .collect();
    keyed.sort_by_key(|(key, _)| *key);
    let mutants = keyed.into_iter().map(|(_, mutant)| mutant);
    mutants.enumerate().map(|(index, mutant)| Mutant { number: index + 1, ..mutant }).collect()
}

/// FNV-1a, then the finalizer of SplitMix64: the same everywhere and always, which the standard library does not promise.
pub fn hash(bytes: &[u8]) -> u64 {
    let fnv = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    let mut z = bytes.iter().fold(0xcbf2_9ce4_8422_2325, fnv);
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mutant(file: &str, line: usize, what: &str) -> Mutant {
        let start = LineColumn { line, column: 5 };
        Mutant {
            number: 0,
            name: format!("{file}:{line}:5: {what}"),
            package: String::new(),
            file: file.into(),
            span: Span { start, end: start },
            replacement: String::new(),
            genre: Genre::BinaryOperator,
        }
    }

    #[test]
    fn edits_elsewhere_leave_the_order() {
        let order = |moved_by: usize, more: usize| {
            let ours =
                (0..50).map(|n| mutant("a.rs", n + moved_by, &format!("replace + with - in f{}", n / 2)));
            let others = (0..more).map(|n| mutant("b.rs", n, "delete !"));
            let order = in_order(others.chain(ours), 1).into_iter().filter(|it| it.file == "a.rs");
            order.map(|it| it.span.start.line - moved_by).collect::<Vec<_>>()
        };
        assert_eq!(order(1, 0), order(8, 30));
        assert!(!order(1, 0).is_sorted());
        let seeded = |seed| in_order((1..50).map(|n| mutant("a.rs", n, &format!("delete {n}"))), seed);
        let lines = |seed| seeded(seed).iter().map(|it| it.span.start.line).collect::<Vec<_>>();
        assert_ne!(lines(1), lines(2));
        assert!(seeded(1).iter().map(|it| it.number).eq(1..50));
    }

    #[test]
    fn modules_are_folders_files_or_crates() {
        let is_in = |file, module| mutant(file, 1, "").is_in(module);
        assert!(is_in("crates/text/src/data/rows.rs", "data") && is_in("crates/data/src/rows.rs", "data"));
        assert!(is_in("crates/lm/src/model/score.rs", "model/score"));
        assert!(
            !is_in("crates/text/src/data/rows.rs", "rows") && !is_in("crates/gpt/src/database.rs", "data")
        );
    }
}
