//! Whose a run directory is: it belongs to one recipe, and to one process at a time.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use text::output::refuse_inputs;

use super::{CONFIG, Recipe, TEMPORARY, write_atomically};

/// Name of the file that is locked.
pub(super) const LOCK: &str = "run.lock";
/// Whoever looks whether a run is going on holds its lock for a moment: no reason to refuse it.
const LOOKS: u32 = 20;
const LOOK: Duration = Duration::from_millis(10);

/// Creates the directory of a run or of a road, or opens it again if `recipe` agrees with the one stored
/// there. It is this process's for as long as the file that is returned lives.
///
/// # Errors
/// Those of [`RunDir::open`](super::RunDir::open).
pub fn claim(path: &Path, recipe: &Recipe) -> Result<File> {
    refuse_what_is_no_run(path, recipe)?;
    fs::create_dir_all(path).map_err(|error| cannot_make(path, error))?;
    let lock = lock(path)?;
    if path.join(CONFIG).exists() {
        refuse_other_recipe(path, &Recipe::load(path)?, recipe)?;
    }
    let config = toml::to_string_pretty(recipe).context("the recipe cannot be written as TOML")?;
    write_atomically(&path.join(CONFIG), config.as_bytes())?;
    Ok(lock)
}

/// Takes the lock of a run directory, or says who has it.
fn lock(path: &Path) -> Result<File> {
    let lock_path = path.join(LOCK);
    let context = || format!("cannot lock {}", lock_path.display());
    // Not truncated on opening: the number inside belongs to whoever holds the lock.
    let mut options = OpenOptions::new();
    let mut file =
        options.read(true).write(true).create(true).truncate(false).open(&lock_path).with_context(context)?;
    let mut taken = file.try_lock();
    for _ in 0..LOOKS {
        if !matches!(taken, Err(TryLockError::WouldBlock)) {
            break;
        }
        std::thread::sleep(LOOK);
        taken = file.try_lock();
    }
    match taken {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            // Where locks forbid reading too, the number stays unknown.
            let read = file.read_to_string(&mut pid).is_ok() && !pid.trim().is_empty();
            let holder = if read { format!("process {}", pid.trim()) } else { "another process".into() };
            bail!(
                "{} is in use by {holder}: wait for it, stop it, or choose another directory",
                path.display()
            );
        }
        Err(TryLockError::Error(error)) => return Err(error).with_context(context),
    }
    file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).with_context(context)?;
    Ok(file)
}

/// Refuses a place where something else is than a run or nothing.
fn refuse_what_is_no_run(path: &Path, recipe: &Recipe) -> Result<()> {
    let shown = path.display();
    ensure!(
        !path.is_file(),
        "{shown} is a file: name a directory for the run, a new one or this command's own"
    );
    if path.join(CONFIG).exists() || !path.exists() {
        return Ok(());
    }
    refuse_inputs(path, &inputs(recipe))?;
    let entries = fs::read_dir(path).with_context(|| format!("cannot list {shown}"))?;
    for entry in entries {
        let name = entry.with_context(|| format!("cannot list {shown}"))?.file_name();
        // What a run leaves that was killed before it had a recipe.
        let is_ours = name == LOCK || name.to_string_lossy().ends_with(TEMPORARY);
        ensure!(
            is_ours,
            "{shown} is not empty ({} is in it) and holds no {CONFIG}, so it is no run: choose another directory",
            name.display()
        );
    }
    Ok(())
}

fn inputs(recipe: &Recipe) -> Vec<&Path> {
    recipe.inputs.values().map(|input| input.path.as_path()).collect()
}

fn cannot_make(path: &Path, error: std::io::Error) -> anyhow::Error {
    let shown = path.display();
    let advice = match error.kind() {
        ErrorKind::NotADirectory => "part of its path is a file; name another directory",
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "the disk is full; free some space",
        _ => "choose a place that you may write to",
    };
    anyhow::Error::new(error).context(format!("cannot create the run directory {shown}: {advice}"))
}

fn refuse_other_recipe(path: &Path, stored: &Recipe, asked: &Recipe) -> Result<()> {
    let differences = stored.differences(asked);
    if differences.is_empty() {
        return Ok(());
    }
    refuse_inputs(path, &inputs(asked))?;
    let is_longer = |difference: &String| {
        ["settings.steps:", "settings.epochs:", "settings.warmup_steps:"]
            .iter()
            .any(|key| difference.starts_with(key))
    };
    let flag = if stored.stage == "pretrain" { "--init" } else { "--model" };
    let longer = match differences.iter().all(is_longer) {
        true => {
            format!("; to train its model for longer, begin another run from it ({flag} {})", path.display())
        }
        false => String::new(),
    };
    bail!(
        "{} was made by a different command or from different data (there → here):\n  {}\nTo continue it, give the \
         old values; to begin anew, choose another directory or remove this one{longer}",
        path.display(),
        differences.join("\n  ")
    )
}
