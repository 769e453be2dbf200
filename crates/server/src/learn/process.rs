//! A verb of this program as a process of its own. It outlives the server, which finds it again: what it says goes to a
//! file whose lock the process holds for as long as it lives, since it inherits it.

use anyhow::{Context, Result, bail};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Whoever looks whether a process lives holds its lock for a moment.
const LOOKS: u32 = 20;
const LOOK: Duration = Duration::from_millis(10);
/// How far behind others it stands for the processor's time.
const NICE: &str = "10";
/// Lines of what it said last, and bytes of these.
const LINES: usize = 6;
const BYTES: u64 = 4000;

/// A process that was started here, or by a server that is no more.
#[derive(Debug)]
pub(super) enum Process {
    Own(Child),
    Found,
}

/// Starts `program`, which says what it has to say to the file `log`.
///
/// # Errors
/// It cannot be started; another process holds `log`, and so does this work already.
pub(crate) fn start(program: &Path, arguments: &[String], log: &Path) -> Result<Child> {
    let what = || format!("cannot write {}", log.display());
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(log).with_context(what)?;
    let mut taken = file.try_lock();
    for _ in 0..LOOKS {
        if !matches!(taken, Err(TryLockError::WouldBlock)) {
            break;
        }
        std::thread::sleep(LOOK);
        taken = file.try_lock();
    }
    match taken {
        Ok(()) => file.set_len(0).with_context(what)?,
        Err(TryLockError::WouldBlock) => bail!("another process does this already: wait for it"),
        Err(TryLockError::Error(error)) => return Err(error).with_context(what),
    }
    let spawned = |mut command: Command| -> std::io::Result<Child> {
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(file.try_clone()?);
        apart(&mut command);
        command.spawn()
    };
    let mut polite = Command::new("nice");
    polite.args(["-n", NICE]).arg(program);
    let started = match spawned(polite) {
        // Not every system has the means to be polite.
        Err(error) if error.kind() == ErrorKind::NotFound => spawned(Command::new(program)),
        started => started,
    };
    started.with_context(|| format!("cannot start {}", program.display()))
}

/// What the terminal's Ctrl-C says to the server is not said to it as well: the server says it, once.
#[cfg(unix)]
fn apart(command: &mut Command) {
    std::os::unix::process::CommandExt::process_group(command, 0);
}

#[cfg(not(unix))]
fn apart(_: &mut Command) {}

/// Asks a process to save and stop.
#[cfg(unix)]
pub(super) fn terminate(pid: u32) {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    let _ = pid.map(|pid| rustix::process::kill_process(pid, rustix::process::Signal::TERM));
}

/// Ends a process, which goes on from its last checkpoint.
#[cfg(not(unix))]
pub(super) fn terminate(pid: u32) {
    let _ = Command::new("taskkill").args(["/F", "/PID", &pid.to_string()]).status();
}

/// Whether a process holds `log`.
pub(super) fn lives(log: &Path) -> bool {
    File::open(log).is_ok_and(|log| matches!(log.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

impl Process {
    /// Whether it has ended.
    pub(super) fn is_over(&mut self, log: &Path) -> bool {
        match self {
            Process::Own(child) => !matches!(child.try_wait(), Ok(None)),
            Process::Found => !lives(log),
        }
    }
}

/// What was said last in `log`, for people.
pub(super) fn last_words(log: &Path) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = File::open(log)?;
        let len = file.metadata()?.len();
        file.seek(SeekFrom::Start(len.saturating_sub(BYTES)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let said = read().unwrap_or_default();
    let lines: Vec<&str> = said.lines().filter(|line| !line.trim().is_empty()).collect();
    // From where it tells of an error on; what it told before is no reason.
    let from = lines.iter().rposition(|line| line.starts_with("error"));
    lines[from.unwrap_or(lines.len().saturating_sub(LINES))..].join("\n")
}
