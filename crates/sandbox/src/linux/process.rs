//! A running sandbox, seen by whoever started it: lines in, lines out, and an end that leaves nothing.
//!
//! Nothing here waits for a program's good will: pipes never block, a line and all output have limits, and a
//! sandbox that is dropped is killed.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::process::{Child, ChildStdin};
use std::time::Instant;

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use super::READY;
use crate::Closed;

/// The longest line that is read (8 MiB).
const MAX_LINE_BYTES: usize = 8 << 20;
/// How much may be written to standard error, which nobody reads, before that is an offence (4 MiB).
const MAX_NOISE_BYTES: usize = 4 << 20;
/// How much of standard error is kept, for the message of a sandbox that could not be set up.
const KEPT_BYTES: usize = 1 << 10;
/// How much of its end is kept, where a program says why it fails.
const LAST_BYTES: usize = 4 << 10;
const CHUNK_BYTES: usize = 64 << 10;

/// A program in its sandbox. Dropped, it is killed, and everything that it started with it.
#[derive(Debug)]
pub struct SandboxProcess {
    child: Child,
    input: Option<ChildStdin>,
    output: Option<Box<dyn Pipe>>,
    errors: Option<Box<dyn Pipe>>,
    to_write: Vec<u8>,
    /// Whether nothing is written after that.
    is_all: bool,
    lines: Vec<u8>,
    /// How much of `lines` is known to have no line end.
    searched: usize,
    noise_bytes: usize,
    said: Vec<u8>,
    /// The end of it.
    last: Vec<u8>,
    flooded: bool,
}

/// A pipe that is read.
trait Pipe: Read + AsFd + Send + std::fmt::Debug {}
impl<T: Read + AsFd + Send + std::fmt::Debug> Pipe for T {}

impl SandboxProcess {
    /// Takes over a child with three pipes.
    pub(super) fn new(mut child: Child) -> Result<Self> {
        let input = child.stdin.take().expect("standard input is a pipe");
        let output = child.stdout.take().expect("standard output is a pipe");
        let errors = child.stderr.take().expect("standard error is a pipe");
        for pipe in [input.as_fd(), output.as_fd(), errors.as_fd()] {
            fcntl_setfl(pipe, fcntl_getfl(pipe)? | OFlags::NONBLOCK).context("cannot set up a pipe")?;
        }
        Ok(SandboxProcess {
            child,
            input: Some(input),
            output: Some(Box::new(output)),
            errors: Some(Box::new(errors)),
            to_write: Vec::new(),
            is_all: false,
            lines: Vec::new(),
            searched: 0,
            noise_bytes: 0,
            said: Vec::new(),
            last: Vec::new(),
            flooded: false,
        })
    }

    /// Whether the sandbox was set up; what is said on standard error after that is the program's.
    pub fn is_set_up(&self) -> bool {
        self.said.starts_with(READY)
    }

    /// Whether it has let go of standard error: it ended, or means to say no more.
    pub fn has_ended(&self) -> bool {
        self.errors.is_none()
    }

    /// The beginning of what was said on standard error.
    pub fn said(&self) -> String {
        let said = self.said.strip_prefix(READY).unwrap_or(&self.said);
        String::from_utf8_lossy(said).trim().to_string()
    }

    /// The end of what was said on standard error.
    pub fn last_said(&self) -> String {
        let last = match self.noise_bytes <= LAST_BYTES {
            true => self.last.strip_prefix(READY).unwrap_or(&self.last),
            false => &self.last,
        };
        String::from_utf8_lossy(last).trim().to_string()
    }

    /// Writes `line` and a line end to the program's standard input, as soon as it reads.
    pub fn send(&mut self, line: &[u8]) {
        self.to_write.extend_from_slice(line);
        self.to_write.push(b'\n');
        self.write();
    }

    /// Ends the program's standard input after what was sent.
    pub fn end_input(&mut self) {
        self.is_all = true;
        self.write();
    }

    /// The next whole line of its standard output, without the line end; `None` if there is none yet.
    ///
    /// # Errors
    /// None will come. A last line without its end is none.
    pub fn line(&mut self) -> Result<Option<Vec<u8>>, Closed> {
        if let Some(end) = self.lines[self.searched..].iter().position(|&byte| byte == b'\n') {
            let mut line: Vec<u8> = self.lines.drain(..=self.searched + end).collect();
            line.pop();
            self.searched = 0;
            return Ok(Some(line));
        }
        self.searched = self.lines.len();
        match (self.flooded, &self.output) {
            (true, _) => Err(Closed::Flooded),
            (false, None) => Err(Closed::Ended),
            (false, Some(_)) => Ok(None),
        }
    }

    fn write(&mut self) {
        while let Some(input) = &mut self.input
            && !self.to_write.is_empty()
        {
            match input.write(&self.to_write) {
                Ok(n) => drop(self.to_write.drain(..n)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // It closed its input: what it does not want to hear, it does not hear.
                Err(_) => self.input = None,
            }
        }
        if self.is_all && self.to_write.is_empty() {
            self.input = None;
        }
    }

    fn read_output(&mut self) {
        let mut chunk = [0; CHUNK_BYTES];
        while let Some(n) = read(&mut self.output, &mut chunk) {
            self.lines.extend_from_slice(&chunk[..n]);
            if self.lines.len() > MAX_LINE_BYTES {
                self.flooded = true;
                return;
            }
        }
    }

    fn read_errors(&mut self) {
        let mut chunk = [0; CHUNK_BYTES];
        while let Some(n) = read(&mut self.errors, &mut chunk) {
            let keep = n.min(KEPT_BYTES.saturating_sub(self.said.len()));
            self.said.extend_from_slice(&chunk[..keep]);
            self.noise_bytes += n;
            self.last.extend_from_slice(&chunk[..n]);
            self.last.drain(..self.last.len().saturating_sub(LAST_BYTES));
            if self.noise_bytes > MAX_NOISE_BYTES {
                self.flooded = true;
                return;
            }
        }
    }
}

/// What can be read now; `None` if nothing, and then the pipe is let go of if it has ended.
fn read(pipe: &mut Option<Box<dyn Pipe>>, chunk: &mut [u8]) -> Option<usize> {
    loop {
        match pipe.as_mut()?.read(chunk) {
            Ok(0) => *pipe = None,
            Ok(n) => return Some(n),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
            Err(_) => *pipe = None,
        }
    }
}

/// Waits until one of `processes` says something, hears something or ends; `false` if nothing happens until
/// `deadline`.
///
/// # Errors
/// The kernel cannot wait.
pub fn wait_any(processes: &mut [&mut SandboxProcess], deadline: Instant) -> Result<bool> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Ok(false);
    }
    let mut pipes = Vec::new();
    for process in processes.iter() {
        let readable = [&process.output, &process.errors].into_iter().flatten();
        pipes.extend(readable.map(|pipe| PollFd::from_borrowed_fd(pipe.as_fd(), PollFlags::IN)));
        let writable = process.input.iter().filter(|_| !process.to_write.is_empty());
        pipes.extend(writable.map(|pipe| PollFd::new(pipe, PollFlags::OUT)));
    }
    let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
    match poll(&mut pipes, Some(&timeout)) {
        Ok(0) => return Ok(false),
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(error) => return Err(error).context("cannot wait for a sandbox"),
    }
    for process in processes {
        process.write();
        process.read_errors();
        process.read_output();
    }
    Ok(true)
}

impl Drop for SandboxProcess {
    fn drop(&mut self) {
        // To let go of its output is to have it killed; once the outer process has ended, all is gone.
        (self.input, self.output, self.errors) = (None, None, None);
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};
    use std::time::Duration;

    /// What is heard of the standard error of a program that is in no sandbox.
    fn heard(script: &str) -> SandboxProcess {
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = SandboxProcess::new(command.spawn().unwrap()).unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        while !process.has_ended() {
            assert!(wait_any(&mut [&mut process], deadline).unwrap(), "{script}");
        }
        process
    }

    #[test]
    fn beginning_and_end_are_kept_of_what_is_said() {
        let ready = String::from_utf8_lossy(READY).trim_end().to_owned();
        let short = heard(&format!("echo '{ready}' >&2; echo why >&2"));
        assert_eq!((short.said(), short.last_said()), ("why".into(), "why".into()));
        let long = heard("i=0; while [ $i -lt 3000 ]; do echo noise $i >&2; i=$((i+1)); done; echo why >&2");
        assert!(long.said().starts_with("noise 0\n") && !long.said().contains("why"));
        assert!(long.last_said().ends_with("noise 2999\nwhy") && long.last_said().len() <= LAST_BYTES);
    }
}
