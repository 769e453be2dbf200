//! `mpirun`, and what it has started.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long a job may take; one that does not end is a failure of what is tested.
const PATIENCE: Duration = Duration::from_secs(240);

/// Whose launcher it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    OpenMpi,
    Mpich,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::OpenMpi => "Open MPI",
            Kind::Mpich => "MPICH",
        }
    }
}

/// A launcher that is there.
#[derive(Clone, Debug)]
pub(crate) struct Launcher {
    program: &'static str,
    kind: Kind,
}

impl Launcher {
    /// # Errors
    /// There is none of that kind: what to do.
    pub(crate) fn find(kind: Kind) -> Result<Launcher, String> {
        // What PATH names first; Debian has both side by side.
        for program in ["mpirun", "mpirun.openmpi", "mpirun.mpich"] {
            let Ok(said) = Command::new(program).arg("--version").output() else { continue };
            let said = String::from_utf8_lossy(&said.stdout).into_owned();
            if (kind == Kind::OpenMpi && said.contains("Open MPI"))
                || (kind == Kind::Mpich && said.contains("HYDRA"))
            {
                return Ok(Launcher { program, kind });
            }
        }
        Err(format!("there is no mpirun of {}: tools/mpi.sh", kind.name()))
    }

    /// What begins a command for `size` processes, which may be more than there are cores.
    fn command(&self) -> Command {
        let mut command = Command::new(self.program);
        if self.kind == Kind::OpenMpi {
            command.args(["--allow-run-as-root", "--oversubscribe", "--bind-to", "none"]);
        }
        command
    }

    /// Starts `size` processes of the program with `arguments`.
    pub(crate) fn start(&self, size: usize, arguments: &[String]) -> Job {
        self.start_each(&[(size, env!("CARGO_BIN_EXE_mynah").into(), arguments.to_vec())], &[])
    }

    /// Starts so many processes of each of some programs with arguments of their own, in an environment that
    /// has `variables` besides.
    pub(crate) fn start_each(
        &self,
        parts: &[(usize, String, Vec<String>)],
        variables: &[(&str, &str)],
    ) -> Job {
        let mut command = self.command();
        for (number, (size, program, arguments)) in parts.iter().enumerate() {
            command
                .args((number > 0).then_some(":"))
                .args(["-n", &size.to_string(), program])
                .args(arguments);
        }
        command
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Job { child: command.spawn().expect("the launcher starts"), began: Instant::now() }
    }

    /// Runs `size` processes to their end, which is a success; returns what they say.
    pub(crate) fn run(&self, size: usize, arguments: &[String]) -> String {
        let ended = self.start(size, arguments).end();
        assert_eq!(ended.code, Some(0), "{size} processes of {arguments:?}: {}", ended.said);
        ended.said
    }
}

/// Processes that were started together.
pub(crate) struct Job {
    child: Child,
    began: Instant,
}

/// How a job ended.
#[derive(Debug)]
pub(crate) struct JobEnded {
    pub(crate) code: Option<i32>,
    pub(crate) said: String,
}

impl Job {
    /// Waits for the end.
    pub(crate) fn end(mut self) -> JobEnded {
        while self.child.try_wait().expect("a child can be waited for").is_none() {
            if self.began.elapsed() > PATIENCE {
                let _ = self.child.kill();
                panic!("the job does not end");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let Output { status, stdout, stderr } = self.child.wait_with_output().expect("its output is read");
        let said = String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned();
        JobEnded { code: status.code(), said }
    }

    /// Waits until `metrics` has `lines` lines.
    pub(crate) fn wait_for_steps(&mut self, metrics: &Path, lines: usize) {
        let there = || fs::read_to_string(metrics).map_or(0, |text| text.lines().count());
        while there() < lines {
            assert!(self.began.elapsed() < PATIENCE, "the run does not come to step {lines}");
            assert!(self.child.try_wait().expect("a child can be asked").is_none(), "the run has ended");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// The process of a job that is the rank `rank` of the run `out`.
pub(crate) fn process(rank: usize, out: &str) -> Pid {
    let ranks = ["OMPI_COMM_WORLD_RANK", "PMI_RANK"].map(|name| format!("{name}={rank}"));
    let is_it = |pid: &str| {
        let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
        let (command, environment) = (read("cmdline"), read("environ"));
        let mut words = command.split('\0');
        words.next().is_some_and(|program| program.ends_with("/mynah"))
            && words.any(|word| word == out)
            && environment.split('\0').any(|variable| ranks.contains(&variable.to_owned()))
    };
    let mut pids = fs::read_dir("/proc").expect("processes are listed").filter_map(|entry| {
        let name = entry.ok()?.file_name().into_string().ok()?;
        name.bytes().all(|byte| byte.is_ascii_digit()).then_some(name)
    });
    let pid = pids.find(|pid| is_it(pid)).unwrap_or_else(|| panic!("no rank {rank} of {out}"));
    Pid::from_raw(pid.parse().expect("a number")).expect("a process")
}

/// Sends a signal to the rank `rank` of the run `out`.
pub(crate) fn signal(rank: usize, out: &str, signal: Signal) {
    kill_process(process(rank, out), signal).expect("it can be sent a signal");
}
