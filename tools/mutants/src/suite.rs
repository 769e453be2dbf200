//! The tests: which there are, what they take, which mutants each of them reaches, and one of them run with a mutant on.
//!
//! Each runs in a process of its own, with limits, since a fault may loop, allocate or write without end.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use crate::tree::Binary;

/// Tests that say nothing about mutants: with the reason.
const NOT_RUN: [(&str, &str); 2] = [
    ("gpt house", "reads the source, which is woven here"),
    ("cli pages", "drives a browser, which reserves more memory than a test may"),
];
/// Programs whose tests share what takes long to make, a trained model: those of one module run in one process.
const SHARING: [&str; 1] = ["cli cli"];
/// What one process may allocate, in KiB (8 GiB), and write to one file, in blocks of 512 bytes (2 GiB).
const LIMITS: &str = "ulimit -v 8388608 && ulimit -f 4194304 && exec \"$@\"";
/// The end of the line that a program writes of a test that failed.
const FAILED: &str = " ... FAILED";
/// A test may take five times as long as without a mutant, and these seconds more.
const EXTRA: Duration = Duration::from_secs(5);
/// How long a test may take that was not measured yet.
const LONGEST: Duration = Duration::from_secs(600);

/// One test, or those of a module that run together, without a mutant.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Test {
    /// Its program, as [`Binary::name`].
    pub binary: String,
    /// Its path in the program, with `::` at its end if it is a module; empty if the program is one test.
    pub path: String,
    pub secs: f64,
    /// The mutants that it asked for; 0 if it starts processes whose trace may be lost.
    pub reached: BTreeSet<usize>,
}

impl Test {
    /// `gpt lib stage::ppo::tests::clips`.
    pub fn name(&self) -> String {
        format!("{} {}", self.binary, self.path).trim_end().to_string()
    }

    /// Whether it runs in one process with others of its program.
    pub fn shares(&self) -> bool {
        SHARING.contains(&self.binary.as_str())
    }

    fn limit(&self) -> Duration {
        Duration::from_secs_f64(5.0 * self.secs) + EXTRA
    }
}

/// How a test ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    Passed,
    Failed,
    TimedOut,
}

/// All tests of `binaries` with names that contain `filter`, not run yet.
///
/// # Errors
/// A program does not list its tests.
pub fn list(binaries: &[Binary], filter: &str) -> Result<Vec<Test>> {
    let mut tests = Vec::new();
    for binary in binaries.iter().filter(|binary| NOT_RUN.iter().all(|(name, _)| *name != binary.name)) {
        let mut paths = vec![String::new()];
        if binary.harness {
            let mut command = Command::new(&binary.executable);
            let output = command.args(["--list", "--format", "terse"]).current_dir(&binary.dir).output();
            let output = output.with_context(|| format!("cannot start {}", binary.name))?;
            ensure!(output.status.success(), "{} does not list its tests", binary.name);
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            paths = text.lines().filter_map(|line| line.strip_suffix(": test").map(String::from)).collect();
            if SHARING.contains(&binary.name.as_str()) {
                let module = |path: &String| path.split_once("::").map(|(module, _)| format!("{module}::"));
                paths = paths.iter().filter_map(module).collect::<BTreeSet<_>>().into_iter().collect();
            }
        }
        tests.extend(paths.into_iter().map(|path| Test {
            binary: binary.name.clone(),
            path,
            secs: LONGEST.as_secs_f64() / 5.0,
            reached: BTreeSet::new(),
        }));
    }
    tests.retain(|test| test.name().contains(filter));
    ensure!(!tests.is_empty(), "no test has {filter:?} in its name");
    Ok(tests)
}

/// Runs tests in a folder of its own, which is emptied each time.
pub struct Runner<'a> {
    pub binaries: &'a [Binary],
    pub dir: std::path::PathBuf,
}

impl Runner<'_> {
    /// Runs `test` without a mutant and notes its time and what it reaches.
    ///
    /// # Errors
    /// It fails, twice.
    pub fn trace(&self, test: &mut Test) -> Result<()> {
        let trace = self.dir.with_extension("trace");
        for attempt in 0..2 {
            fs::write(&trace, "")?;
            // The sandbox gives root up, and its processes say what they reach, too.
            fs::set_permissions(&trace, fs::Permissions::from_mode(0o666))?;
            let start = Instant::now();
            let path = trace.to_str().context("a path that is no UTF-8")?;
            let ending = self.run(&[test], &[("MUTANT_TRACE", path)])?;
            if ending == Ending::Passed {
                test.secs = start.elapsed().as_secs_f64();
                let text = fs::read_to_string(&trace)?;
                test.reached = text.lines().filter_map(|line| line.parse().ok()).collect();
                return Ok(());
            }
            ensure!(attempt == 0, "{} {ending:?} without a mutant:\n{}", test.name(), self.said());
        }
        Ok(())
    }

    /// Runs `tests`, all of one program, with the mutant `number` on, or with none if that is 0; ends with the first that fails.
    ///
    /// # Errors
    /// They cannot be started.
    pub fn mutated(&self, tests: &[&Test], number: usize) -> Result<Ending> {
        self.run(tests, &[("MUTANT", &number.to_string())])
    }

    /// Of `tests`, which were run last, the one that failed or did not end, alone.
    pub fn failed(&self, tests: &[&Test]) -> Option<Test> {
        let test = (*tests.first()?).clone();
        Some(Test { path: failed_path(&self.said()).unwrap_or(test.path), ..test })
    }

    fn said(&self) -> String {
        let bytes = fs::read(self.dir.join("said")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn run(&self, tests: &[&Test], variables: &[(&str, &str)]) -> Result<Ending> {
        let name = tests.first().map(|test| test.binary.as_str()).unwrap_or_default();
        let binary = self.binaries.iter().find(|binary| binary.name == name);
        let binary = binary.with_context(|| format!("no program {name}"))?;
        let modules = tests.iter().any(|test| test.path.ends_with("::"));
        let limit: Duration = tests.iter().map(|test| test.limit()).sum();
        // A test that was killed may leave what cannot be removed; the next one does not mind.
        let _ = fs::remove_dir_all(&self.dir);
        fs::create_dir_all(&self.dir)?;
        let said = File::create(self.dir.join("said"))?;
        // A session of its own: whatever a test starts is in it, and can be ended with it.
        let mut command = Command::new("setsid");
        command.args(["sh", "-c", LIMITS, "sh"]).arg(&binary.executable);
        if binary.harness {
            command.args(tests.iter().map(|test| &test.path)).args(["--test-threads", "1"]);
            if !modules {
                command.arg("--exact");
            }
        }
        let mut child = command
            .current_dir(&binary.dir)
            .env("CARGO_MANIFEST_DIR", &binary.dir)
            .env("TMPDIR", &self.dir)
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(said.try_clone()?)
            .stderr(said)
            .spawn()
            .context("cannot start setsid")?;
        let start = Instant::now();
        let ending = loop {
            match child.try_wait()? {
                Some(status) if status.success() => break Ending::Passed,
                Some(_) => break Ending::Failed,
                None if start.elapsed() > limit => break Ending::TimedOut,
                None if modules && self.said().contains(FAILED) => break Ending::Failed,
                None => std::thread::sleep(Duration::from_millis(if modules { 50 } else { 3 })),
            }
        };
        end_session(child.id())?;
        child.wait()?;
        Ok(ending)
    }
}

/// The first test that failed, by what a program of tests wrote; else the one that it is at.
fn failed_path(said: &str) -> Option<String> {
    let ends = || said.lines().filter_map(|line| line.strip_prefix("test ")?.split_once(" ..."));
    let with = |wanted: &str| ends().find(|(_, end)| end.trim() == wanted).map(|(path, _)| path.to_string());
    with("FAILED").or_else(|| with(""))
}

/// Kills every process of a session, by its number.
fn end_session(session: u32) -> Result<()> {
    for entry in fs::read_dir("/proc").context("processes are listed in /proc")? {
        let path = entry?.path();
        let Ok(stat) = fs::read_to_string(path.join("stat")) else { continue };
        // "pid (name) state parent group session …", and a name may hold anything.
        let fields = stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().collect::<Vec<_>>());
        let (Some(fields), Some(pid)) = (fields, pid(&path)) else { continue };
        if fields.get(3) == Some(&session.to_string().as_str()) && fields[0] != "Z" {
            // It may have ended by itself in between.
            let _ = kill_process(pid, Signal::KILL);
        }
    }
    Ok(())
}

fn pid(path: &Path) -> Option<Pid> {
    Pid::from_raw(path.file_name()?.to_str()?.parse().ok()?)
}

/// Appends a line to a file.
///
/// # Errors
/// It cannot be written.
pub fn append(path: &Path, line: &str) -> Result<()> {
    let file = File::options().create(true).append(true).open(path);
    let mut file = file.with_context(|| path.display().to_string())?;
    writeln!(file, "{line}").with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::failed_path;

    #[test]
    fn the_test_that_failed_is_named_and_not_the_next() {
        let said = "running 4 tests\ntest a::x ... ok\ntest a::y ... FAILED\ntest a::z ... ";
        assert_eq!(failed_path(said).as_deref(), Some("a::y"));
        assert_eq!(failed_path("running 4 tests\ntest a::x ... ok\ntest a::z ... ").as_deref(), Some("a::z"));
        assert_eq!(failed_path("test a::x ... ok\ntest result: ok. 1 passed;\n"), None);
    }
}
