//! Tests under the address sanitizer, in a process of their own: its library has to be there before all others.

use super::compiled::{SANITIZED, sanitizer};
use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::Write;
use std::process::{Command, Output};
use std::sync::Mutex;

/// Set in such a process: the file for the names of kernels that it launches.
const HERE: &str = "MYNAH_CUDA_SANITIZED";

/// Whether this process is one.
pub(crate) fn is_here() -> bool {
    std::env::var_os(HERE).is_some()
}

/// What kernels are compiled with in this process.
pub(crate) fn flags() -> &'static [&'static str] {
    if is_here() { SANITIZED } else { &[] }
}

/// Notes that a kernel was launched, for the process that has started this one.
pub(crate) fn launched(kernel: &'static str) {
    static LAUNCHED: Mutex<BTreeSet<&str>> = Mutex::new(BTreeSet::new());
    let Some(list) = std::env::var_os(HERE) else { return };
    if LAUNCHED.lock().expect("nobody panics with it").insert(kernel) {
        let mut list = OpenOptions::new().append(true).open(list).expect("a list");
        list.write_all(format!("{kernel}\n").as_bytes()).expect("a line");
    }
}

/// Runs this program's tests again, those that these arguments name, with the sanitizer: how that ended, and the
/// kernels that were launched.
///
/// # Errors
/// There is no sanitizer.
pub(crate) fn again(arguments: &[&str]) -> Result<(Output, Vec<String>), String> {
    let library = sanitizer().ok_or("the C++ compiler has no address sanitizer (libasan)")?;
    let list = tempfile::NamedTempFile::new().expect("a list");
    let mut command = Command::new(std::env::current_exe().expect("a program"));
    command.args(arguments).env(HERE, list.path()).env("LD_PRELOAD", library);
    // Kernels run on stacks of their own, and whoever ends a process with a failed test frees nothing.
    command.env("ASAN_OPTIONS", "detect_leaks=0:detect_stack_use_after_return=0");
    let ended = command.output().expect("the program starts again");
    let launched = std::fs::read_to_string(list.path()).expect("a list");
    Ok((ended, launched.lines().map(String::from).collect()))
}
