//! What is said to be on the disk was flushed to it: where flushing fails, so does whoever asked for it, and
//! nothing has its name.
//!
//! One test, for it counts on the numbers that the process's files get.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)] // A test that finds no value has failed.

#[path = "../../text/tests/hub/flush.rs"]
mod flush;

use flush::without;
use libc::{SYS_fdatasync, SYS_fsync};
use lm::checkpoint::{self, About, Contents, Dtype};
use lm::model::{Config, specs};
use lm::train::run::RunDir;
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::Path;
use text::output::{Lines, Out, Recipe, write_atomically};

fn save(dir: &Path) -> anyhow::Result<()> {
    let config = Config::gpt2(5, 2, 1, 1, 2);
    let weights = specs(&config).map(|spec| vec![0.5; spec.len()]);
    let contents = Contents {
        config: &config,
        weights: &weights,
        dtype: Dtype::F32,
        moments: None,
        beside: &[],
        read: &mut checkpoint::from_host,
        eot_token: None,
        eos_token: None,
        end_tokens: &[],
        files: &[],
        about: About::default(),
    };
    checkpoint::save(dir, contents)
}

#[test]
fn what_cannot_be_flushed_is_not_there() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let told = |result: anyhow::Result<()>| format!("{:#}", result.unwrap_err());

    // Checkpoints: their files, and the directories that name them.
    let files = told(without(SYS_fsync, None, || save(&at("checkpoint"))));
    assert!(files.contains("cannot flush to the disk /") && !at("checkpoint").exists(), "{files}");
    let directories = told(without(SYS_fsync, None, || save(&at("new/checkpoint"))));
    assert!(directories.contains("cannot flush to the disk the directory"), "{directories}");
    assert!(!at("new/checkpoint").exists());
    save(&at("checkpoint")).unwrap();

    // Files that are replaced whole.
    let whole = at("whole");
    fs::write(&whole, "old").unwrap();
    let replace = || write_atomically(&whole, b"new");
    let refused = told(without(SYS_fsync, None, replace));
    assert!(refused.contains("cannot write"), "{refused}");
    assert_eq!(fs::read_to_string(&whole).unwrap(), "old");
    let next = File::open(&whole).unwrap().as_raw_fd() as u64;
    let unnamed = told(without(SYS_fsync, Some(next + 1), replace));
    assert!(unnamed.contains("cannot write"), "the directory is opened after the file: {unnamed}");
    replace().unwrap();

    // Files that grow, and the journals that a checkpoint stands on.
    let recipe = Recipe::new("test", toml::Table::new());
    let grow = || {
        let mut lines = Lines::open(&Out::new(&at("lines"), false, &[])?, &recipe)?;
        lines.push("one\n")?;
        lines.finish()
    };
    let refused = told(without(SYS_fdatasync, None, grow));
    assert!(refused.contains("cannot write"), "{refused}");
    grow().unwrap();
    let run = RunDir::open(&at("run"), &recipe).unwrap();
    let refused = told(without(SYS_fdatasync, None, || run.sync()));
    assert!(refused.contains("cannot sync"), "{refused}");
    run.sync().unwrap();
}
