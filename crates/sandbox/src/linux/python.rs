//! The interpreter and its files.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

/// Where an interpreter says that it is, without links and without a virtual environment.
const WHERE: &str = "import os, sys; print(os.path.realpath(getattr(sys, '_base_executable', sys.executable))); \
                     print(os.path.realpath(sys.base_prefix))";

/// Where systems keep shared libraries and where to look for them.
const LIBRARIES: [&str; 6] = ["/usr/lib", "/usr/lib64", "/lib", "/lib64", "/nix/store", "/etc/ld.so.cache"];

/// A Python interpreter.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Python {
    /// The program.
    pub(super) executable: PathBuf,
    /// The folder above its own `lib`.
    pub(super) prefix: PathBuf,
}

impl Python {
    /// The `python3` of the search path.
    pub(super) fn find() -> Result<Self> {
        let output = Command::new("python3").args(["-I", "-S", "-c", WHERE]).output().context(
            "there is no python3 on this machine, which runs the programs: install it, or put it on the path",
        )?;
        let text = String::from_utf8(output.stdout).context("python3 is at a path that is no UTF-8")?;
        let lines: Vec<&str> = text.lines().collect();
        ensure!(
            output.status.success() && lines.len() == 2,
            "python3 does not run: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(Python { executable: lines[0].into(), prefix: lines[1].into() })
    }

    /// The files that it needs and that a program may read: its own, then the system's libraries. Some may
    /// not exist.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        let own = [self.executable.clone(), self.prefix.join("lib"), self.prefix.join("lib64")];
        own.into_iter().chain(LIBRARIES.map(|path| Path::new(path).to_path_buf())).collect()
    }
}
