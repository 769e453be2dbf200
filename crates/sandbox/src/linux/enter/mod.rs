//! What the binary does when it is called to be a sandbox: two steps, then it is the interpreter.
//!
//! Outside, with the rights of whoever asked, then with those of the first user of a new user namespace: give
//! up root, enter namespaces, lay out the tree. Inside, as process 1: only take away, until nothing is left
//! to take.

mod rights;
mod rules;
mod syscalls;
mod tree;

use std::io::Write;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitCode, ExitStatus};

use anyhow::{Context, Error, Result};
use nix::sched::{CloneFlags, unshare};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, getgid, getuid, pidfd_open, set_parent_process_death_signal};

use super::{Layer, Plan, READY, call};

impl Plan {
    fn has(&self, layer: Layer) -> bool {
        !self.without.contains(&layer)
    }
}

/// The outer step; returns how the inner one ended.
pub(super) fn outside(plan: &Plan) -> Result<ExitCode> {
    close_inherited()?;
    rights::give_up_root().context("cannot give up root")?;
    if plan.has(Layer::Namespaces) {
        lay_out_namespaces(plan).context(Layer::Namespaces)?;
    }
    let inner = call("inside", plan)?.spawn().context("cannot start the inner process of a sandbox")?;
    let status = wait_while_heard(inner)?;
    let code = status.code().or(status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    Ok(ExitCode::from(code as u8))
}

/// The inner step: becomes the interpreter, or fails.
pub(super) fn inside(plan: &Plan) -> Result<ExitCode> {
    die_with_parent()?;
    if plan.has(Layer::Namespaces) {
        tree::enter().context(Layer::Namespaces)?;
        rights::drop_all().context("cannot drop capabilities").context(Layer::Namespaces)?;
    } else {
        std::env::set_current_dir("/").context("cannot go to /")?;
    }
    rules::limit(&plan.limits).context("cannot set limits")?;
    rustix::thread::set_no_new_privs(true).context("cannot refuse new privileges")?;
    if plan.has(Layer::Landlock) {
        rules::landlock(&plan.python, plan.has(Layer::Namespaces)).context(Layer::Landlock)?;
    }
    std::io::stderr().write_all(READY).context("nobody listens")?;
    if plan.has(Layer::Seccomp) {
        syscalls::allow_few().context(Layer::Seccomp)?;
    }
    // Safe paths and a fixed hash seed instead of `-I`: sets iterate in the same order every time, so that a
    // verdict is one.
    let error = Command::new(&plan.python.executable)
        .args(["-s", "-S", "-B", "-X", "utf8", "-c", &plan.program])
        .env_clear()
        .envs([("PYTHONHASHSEED", "0"), ("PYTHONSAFEPATH", "1")])
        .exec();
    Err(Error::from(error).context(format!("cannot run {}", plan.python.executable.display())))
}

/// Waits for the inner process, and kills it as soon as nobody listens to it any more: whoever asked for the
/// sandbox has let go of the other end of its output, or is dead. Either way it is reaped here, so that not
/// even a zombie is left.
fn wait_while_heard(mut inner: Child) -> Result<ExitStatus> {
    let ended = pidfd_open(Pid::from_child(&inner), PidfdFlags::empty()).context("cannot watch a process")?;
    let output = std::io::stdout();
    loop {
        let mut pipes = [PollFd::new(&ended, PollFlags::IN), PollFd::new(&output, PollFlags::empty())];
        match poll(&mut pipes, None) {
            Ok(_) if pipes[1].revents().contains(PollFlags::ERR) => {
                inner.kill().context("cannot kill a process")?
            }
            Ok(_) | Err(rustix::io::Errno::INTR) if pipes[0].revents().is_empty() => continue,
            Ok(_) => {}
            Err(error) => return Err(error).context("cannot wait for a process"),
        }
        return inner.wait().context("cannot wait for a process");
    }
}

/// Has the kernel kill this process with the one that started it. Outlives becoming another program.
fn die_with_parent() -> Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL)).context("cannot tie a sandbox to its parent")
}

/// Closes what the shell or a parent left open beyond the three standard streams.
fn close_inherited() -> Result<()> {
    let listed = std::fs::read_dir("/proc/self/fd").context("cannot list open files")?;
    let numbers: Vec<i32> = listed
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|&fd| fd > 2)
        .collect();
    for fd in numbers {
        // The list itself was one of them and is closed already.
        let _ = nix::unistd::close(fd);
    }
    Ok(())
}

fn lay_out_namespaces(plan: &Plan) -> Result<()> {
    enter_namespaces().context("no new ones for this user")?;
    tree::lay_out(&plan.python, plan.limits.disk_bytes)?;
    rights::keep_for_inside().context("cannot keep capabilities")
}

/// Moves this process to namespaces of its own, and its children to a process namespace, in which the first
/// is process 1.
fn enter_namespaces() -> Result<()> {
    let (uid, gid) = (getuid(), getgid());
    let all = CloneFlags::CLONE_NEWUSER
        | CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWCGROUP;
    unshare(all)?;
    let nobody = rights::NOBODY;
    for (file, text) in [
        ("setgroups", "deny".to_string()),
        ("uid_map", format!("{nobody} {uid} 1")),
        ("gid_map", format!("{nobody} {gid} 1")),
    ] {
        std::fs::write(format!("/proc/self/{file}"), text).with_context(|| format!("cannot write {file}"))?;
    }
    rustix::system::sethostname(b"sandbox")?;
    Ok(())
}
