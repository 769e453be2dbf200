//! Checkpoints are damaged in every way a disk or a person can, and then some: always noticed, never a panic.

use std::fs;
use std::path::Path;

use kernels::rng;
use tempfile::tempdir;

use super::super::*;
use super::{FAMILIES, golden_dir, open, resolve_model, save_step};

/// Decides everything random here.
struct Dice {
    seed: u64,
    rolled: u64,
}

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.rolled += 1;
        rng::below(self.seed, 0, self.rolled, n as u64) as usize
    }
}

/// Damages bytes, one way out of six; `None` stands for a file that is gone.
fn damage(bytes: &[u8], other: &[u8], dice: &mut Dice) -> Option<Vec<u8>> {
    let mut damaged = bytes.to_vec();
    let at = dice.below(bytes.len());
    match dice.below(6) {
        0 => damaged.truncate(at),
        1 => damaged[at] ^= 1 << dice.below(8),
        2 => damaged[at..].iter_mut().take(1 + dice.below(4096)).for_each(|byte| *byte = 0),
        3 => return None,
        4 => damaged = other.to_vec(),
        _ => damaged.insert(at, dice.below(256) as u8),
    }
    Some(damaged)
}

fn read_all(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    let mut files: Vec<_> = entries
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
        .collect();
    files.sort();
    files
}

/// Puts `bytes` in a file's place, or nothing.
fn put(path: &Path, bytes: Option<&[u8]>) {
    // A new file each time: some file systems flush one that is cut to nothing and written again.
    if path.exists() {
        fs::remove_file(path).unwrap();
    }
    if let Some(bytes) = bytes {
        fs::write(path, bytes).unwrap();
    }
}

#[test]
fn every_damage_is_noticed_and_the_one_before_is_used() {
    let shelf = tempdir().unwrap();
    let good = save_step(shelf.path(), 1);
    let dir = save_step(shelf.path(), 2);
    let files = read_all(&dir);
    assert_eq!(files.len(), 7);
    let mut tried = 0;
    for seed in 0..1_100 {
        let mut dice = Dice { seed, rolled: 0 };
        let (name, bytes) = &files[dice.below(files.len())];
        let other = &files[dice.below(files.len())].1;
        let damaged = damage(bytes, other, &mut dice);
        if damaged.as_ref() == Some(bytes) {
            continue;
        }
        tried += 1;
        put(&dir.join(name), damaged.as_deref());
        let Newest { found, damaged } = newest_good(shelf.path()).unwrap();
        assert_eq!(found.unwrap().0, good, "seed {seed}, {name}");
        assert!(damaged.len() == 1 && damaged[0].contains(name.as_str()), "seed {seed}, {name}: {damaged:?}");
        assert!(open(&dir).is_err(), "seed {seed}, {name}");
        put(&dir.join(name), Some(bytes));
    }
    assert!(tried >= 1_000, "{tried}");
    assert_eq!(newest_good(shelf.path()).unwrap().found.unwrap().0, dir);
}

#[test]
fn directories_that_changed_places_are_noticed() {
    let shelf = tempdir().unwrap();
    let dir = save_step(shelf.path(), 1);
    fs::rename(dir, shelf.path().join("step-000007")).unwrap();
    let newest = newest_good(shelf.path()).unwrap();
    assert!(newest.found.is_none());
    assert!(newest.damaged[0].contains("was written as step 1"), "{:?}", newest.damaged);
}

#[test]
fn a_later_format_is_named() {
    let shelf = tempdir().unwrap();
    let path = save_step(shelf.path(), 1).join("mynah.json");
    let text = fs::read_to_string(&path).unwrap().replace("\"format\": 1", "\"format\": 2");
    let body =
        text.split_once("  \"blake3\": \"").map(|_| &text[..text.rfind("  \"blake3\"").unwrap()]).unwrap();
    let seal = format!("  \"blake3\": \"{}\"\n}}\n", blake3::hash(body.as_bytes()).to_hex());
    fs::write(&path, format!("{body}{seal}")).unwrap();
    let error = format!("{:#}", verify(path.parent().unwrap()).unwrap_err());
    assert!(error.contains("format version 2"), "{error}");
}

#[test]
fn a_run_resolves_to_its_newest_good_checkpoint() {
    let run = tempdir().unwrap();
    let shelf = run.path().join("checkpoints");
    let good = save_step(&shelf, 1);
    let bad = save_step(&shelf, 2);
    fs::create_dir(shelf.join("step-000003.tmp")).unwrap();
    fs::write(bad.join("tokenizer.json"), "{}").unwrap();
    for path in [run.path(), &shelf] {
        let model = resolve_model(path).unwrap();
        assert_eq!(model.path, good);
        assert!(model.warnings[0].contains("tokenizer.json: damaged: has 2 bytes"), "{:?}", model.warnings);
    }
    fs::remove_file(good.join("mynah.json")).unwrap();
    let error = format!("{:#}", resolve_model(run.path()).unwrap_err());
    assert!(error.contains("every checkpoint") && error.contains("step-000001"), "{error}");
}

/// Without digests a directory may lie in any way; reading it ends with a model or a message.
#[test]
fn hostile_directories_never_panic() {
    for (number, family) in (0..).zip(FAMILIES) {
        let dir = tempdir().unwrap();
        let files: Vec<_> =
            read_all(&golden_dir(family)).into_iter().filter(|(name, _)| name != GENERATION_CONFIG).collect();
        for (name, bytes) in &files {
            put(&dir.path().join(name), Some(bytes));
        }
        let mut refused = 0;
        for seed in 1_000 * number..1_000 * number + 500 {
            let mut dice = Dice { seed, rolled: 0 };
            let (name, bytes) = &files[dice.below(files.len())];
            // The header is where a lie can do harm; the numbers behind it are only numbers.
            let header = bytes.len().min(3_500);
            let mut damaged = damage(&bytes[..header], b"{}", &mut dice).unwrap_or_default();
            for _ in 0..dice.below(3) {
                if !damaged.is_empty() {
                    let at = dice.below(damaged.len());
                    damaged[at] = b"0123456789{}[]\",:-e"[dice.below(19)];
                }
            }
            damaged.extend(&bytes[header..]);
            put(&dir.path().join(name), Some(&damaged));
            match open(dir.path()) {
                Ok(checkpoint) => drop(checkpoint.weights(to_host).unwrap()),
                Err(_) => refused += 1,
            }
            put(&dir.path().join(name), Some(bytes));
        }
        assert!(refused > 250, "{family}: {refused}");
    }
}
