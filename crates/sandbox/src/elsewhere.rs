//! The sandbox where there is none: it cannot be opened, so nothing that needs one is ever had.

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, bail};

use crate::{Closed, Layer, Limits};

/// The means to run programs. There are none of them here.
#[derive(Clone, Debug)]
pub enum Sandbox {}

impl Sandbox {
    /// Refuses: on Linux it finds an interpreter and tries every layer.
    ///
    /// # Errors
    /// Always.
    pub fn open(_: Limits, _: &[Layer]) -> Result<Self> {
        bail!(
            "programs that nobody has read are run on Linux only: the sandbox is made of its namespaces, Landlock and \
             seccomp, and {} has none of them. `mynah eval` and `mynah grade` run them in a Linux container or in WSL",
            std::env::consts::OS
        )
    }

    /// The interpreter.
    pub fn python(&self) -> &Path {
        match *self {}
    }

    /// Starts the Python source `program`.
    ///
    /// # Errors
    /// No process can be started.
    pub fn start(&self, _program: &str) -> Result<SandboxProcess> {
        match *self {}
    }
}

/// A program in its sandbox.
#[derive(Debug)]
pub enum SandboxProcess {}

impl SandboxProcess {
    /// Whether the sandbox was set up.
    pub fn is_set_up(&self) -> bool {
        match *self {}
    }

    /// Whether it has let go of standard error.
    pub fn has_ended(&self) -> bool {
        match *self {}
    }

    /// The end of what was said on standard error.
    pub fn last_said(&self) -> String {
        match *self {}
    }

    /// The beginning of what was said on standard error.
    pub fn said(&self) -> String {
        match *self {}
    }

    /// Writes a line to the program's standard input.
    pub fn send(&mut self, _line: &[u8]) {
        match *self {}
    }

    /// Ends the program's standard input.
    pub fn end_input(&mut self) {
        match *self {}
    }

    /// The next whole line of its standard output.
    ///
    /// # Errors
    /// None will come.
    pub fn line(&mut self) -> Result<Option<Vec<u8>>, Closed> {
        match *self {}
    }
}

/// Waits until one of `processes` says something, hears something or ends; none can.
///
/// # Errors
/// Never.
pub fn wait_any(_rooms: &mut [&mut SandboxProcess], _deadline: Instant) -> Result<bool> {
    Ok(false)
}

/// Nobody asks this binary to become a sandbox here.
pub fn enter_if_asked() -> Option<ExitCode> {
    None
}
