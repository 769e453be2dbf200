//! Every operation of a save fails in turn, in three ways: an error, a kill, a power cut. A good checkpoint
//! is there afterwards, always, and the same command goes on.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use tempfile::{TempDir, tempdir};

use super::super::*;
use super::{open, random, save_step, tiny, with_contents};

/// How an operation goes wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    /// It alone returns an error.
    Error,
    /// The process ends with it: a write is half done, nothing follows.
    Kill,
    /// The machine stops too: bytes and names that were not flushed are lost.
    PowerCut,
}

/// A watcher that lets the operation number `at` go wrong.
struct Saboteur {
    fault: Fault,
    at: usize,
    seen: Vec<String>,
    unflushed_files: Vec<PathBuf>,
    /// New name → old name.
    unflushed_renames: BTreeMap<PathBuf, PathBuf>,
}

impl Saboteur {
    fn new(fault: Fault, at: usize) -> Self {
        Saboteur {
            fault,
            at,
            seen: Vec::new(),
            unflushed_files: Vec::new(),
            unflushed_renames: BTreeMap::new(),
        }
    }

    fn allow(&mut self, operation: &Operation<'_>) -> io::Result<()> {
        let number = self.seen.len();
        let text = format!("{operation:?}");
        self.seen.push(text.split('(').next().unwrap().to_owned());
        if number == self.at
            && self.fault != Fault::Error
            && let Operation::Write(path, bytes) = operation
        {
            OpenOptions::new().append(true).open(path)?.write_all(&bytes[..bytes.len() / 2])?;
        }
        if number == self.at || (number > self.at && self.fault != Fault::Error) {
            return Err(ErrorKind::StorageFull.into());
        }
        match *operation {
            Operation::Create(path) => self.unflushed_files.push(path.to_owned()),
            Operation::Sync(path) => self.unflushed_files.retain(|file| file != path),
            Operation::SyncDir(dir) => self.unflushed_renames.retain(|new, _| new.parent() != Some(dir)),
            Operation::Rename(old, new) => {
                drop(self.unflushed_renames.insert(new.to_owned(), old.to_owned()))
            }
            _ => {}
        }
        Ok(())
    }

    /// What the disk forgets when the power goes.
    fn forget_unflushed(&self) {
        for file in &self.unflushed_files {
            fs::write(file, "").unwrap();
        }
        for (new, old) in &self.unflushed_renames {
            fs::rename(new, old).unwrap();
        }
    }
}

/// A shelf with the good step 1; a `messy` one has leftovers under every name that step 2 uses.
fn shelf(messy: bool) -> TempDir {
    let shelf = tempdir().unwrap();
    save_step(shelf.path(), 1);
    if messy {
        for name in ["step-000002", "step-000002.tmp", "step-000002.damaged"] {
            fs::create_dir(shelf.path().join(name)).unwrap();
            fs::write(shelf.path().join(name).join("model.safetensors"), "torn").unwrap();
        }
    }
    shelf
}

fn save_second(shelf: &Path, saboteur: &mut Saboteur) -> anyhow::Result<()> {
    let mut before = |operation: &Operation<'_>| saboteur.allow(operation);
    let mut disk = Disk::watched(&mut before);
    with_contents(2, |contents| save_on(&mut disk, &shelf.join("step-000002"), contents))
}

/// The step of the newest good checkpoint, after loading all of it.
fn newest(shelf: &Path) -> u64 {
    let (path, manifest) = newest_good(shelf).unwrap().found.expect("a good checkpoint");
    let step = manifest.about.step;
    assert_eq!(open(&path).unwrap().weights(to_host).unwrap(), random(&tiny(), step));
    step
}

#[test]
fn whatever_fails_a_good_checkpoint_is_there() {
    for messy in [false, true] {
        let mut trial = Saboteur::new(Fault::Error, usize::MAX);
        save_second(shelf(messy).path(), &mut trial).unwrap();
        let operations = trial.seen;
        for kind in ["FreeSpace", "CreateDir", "Create", "Write", "Sync", "SyncDir", "Rename"] {
            assert!(operations.iter().any(|operation| operation == kind), "{kind} does not happen");
        }
        for at in 0..operations.len() {
            for fault in [Fault::Error, Fault::Kill, Fault::PowerCut] {
                let shelf = shelf(messy);
                let shelf = shelf.path();
                let what = format!("{fault:?} at operation {at}, {}, messy {messy}", operations[at]);
                let mut saboteur = Saboteur::new(fault, at);
                let error = save_second(shelf, &mut saboteur).expect_err(&what);
                assert!(format!("{error:#}").contains("the disk is full; free some space"), "{error:#}");
                if fault == Fault::PowerCut {
                    saboteur.forget_unflushed();
                }
                // Only the last operation, flushing the name, comes after the new checkpoint has it.
                let published = at + 1 == operations.len() && fault != Fault::PowerCut;
                assert_eq!(newest(shelf), if published { 2 } else { 1 }, "{what}");
                let leftover = shelf.join("step-000002.tmp").exists();
                let removal = operations[at] == "Remove";
                assert!(fault != Fault::Error || !leftover || removal, "{what}: not cleaned up");

                save_step(shelf, 2);
                assert_eq!(newest(shelf), 2, "{what}: the same command again");
                assert!(!shelf.join("step-000002.tmp").exists(), "{what}");
            }
        }
    }
}

#[test]
fn a_new_shelf_is_made_and_flushed() {
    let run = tempdir().unwrap();
    let mut saboteur = Saboteur::new(Fault::Error, usize::MAX);
    save_second(&run.path().join("checkpoints"), &mut saboteur).unwrap();
    assert_eq!(saboteur.seen[..2], ["CreateDir", "SyncDir"]);
    assert_eq!(newest(&run.path().join("checkpoints")), 2);
}

#[test]
fn a_disk_that_may_not_be_written_is_said() {
    let shelf = shelf(false);
    let mut refuse = |operation: &Operation<'_>| match operation {
        Operation::CreateDir(_) => Err(ErrorKind::ReadOnlyFilesystem.into()),
        _ => Ok(()),
    };
    let mut disk = Disk::watched(&mut refuse);
    let dir = shelf.path().join("step-000002");
    let error = with_contents(2, |contents| save_on(&mut disk, &dir, contents)).unwrap_err();
    let said = format!("{error:#}");
    assert!(said.contains("step-000002.tmp: not writable; choose a directory"), "{said}");
    assert_eq!(newest(shelf.path()), 1);
}
