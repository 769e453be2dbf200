//! Sandboxed processes for Python programs that nobody has read. Whether a program is right, `eval::code`
//! finds out.
//!
//! One idea: **a program gets a machine of its own, in layers, each of which would do alone for most
//! attacks.** It runs as a user that owns nothing, as process 1 of its own namespaces (no process, network or
//! mount but its own), in a private tree of files (its interpreter, read-only, and a small folder in memory),
//! behind Landlock and an allow list of system calls, with limits on time, memory, threads and files, an
//! empty environment and three pipes. No root is needed; root is given up first.
//!
//! A thread cannot lock itself up without its whole process. So the binary calls itself: `main` begins with
//! [`enter_if_asked`], which in such a call sets up a sandbox from outside (namespaces, the tree), then from
//! inside (everything that only takes away) and then becomes the interpreter. Whoever lets go of the
//! sandbox's pipes, willingly or by dying, has the outer process kill process 1, and the kernel everything in
//! its namespace: nothing outlives a sandbox, and its files were in memory.
//!
//! All of this is made of parts of Linux; elsewhere [`Sandbox::open`] says so, and nothing is run.

#[cfg(not(target_os = "linux"))]
mod elsewhere;
mod hear;
mod layer;
#[cfg(target_os = "linux")]
mod linux;

use std::time::Duration;

use serde::{Deserialize, Serialize};

#[cfg(not(target_os = "linux"))]
pub use elsewhere::{Sandbox, SandboxProcess, enter_if_asked, wait_any};
pub use hear::{End, SETUP_LIMIT, hear, literal};
pub use layer::Layer;
#[cfg(target_os = "linux")]
pub use linux::{Sandbox, SandboxProcess, enter_if_asked, wait_any};

/// How much a program may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Processor time of all threads, in whole seconds.
    pub cpu_secs: u64,
    /// Address space (512 MiB).
    pub memory_bytes: u64,
    /// Files in its folder, and one file (16 MiB).
    pub disk_bytes: u64,
    /// Processes and threads (32).
    pub threads: u64,
    /// Open files (64).
    pub open_files: u64,
}

impl Limits {
    /// The usual limits, for a program that has `time`.
    pub fn new(time: Duration) -> Self {
        let cpu_secs = time.as_secs_f64().ceil() as u64 + 1;
        Limits { cpu_secs, memory_bytes: 512 << 20, disk_bytes: 16 << 20, threads: 32, open_files: 64 }
    }
}

/// Why no further line comes from a sandboxed process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// The program ended, or closed its output.
    Ended,
    /// It wrote a longer line, or more in all, than it may.
    Flooded,
}
