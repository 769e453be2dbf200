//! The sandbox: how a sandbox is started, and how this binary becomes one.

mod enter;
mod process;
mod python;

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::{Layer, Limits, SETUP_LIMIT};
pub use process::{SandboxProcess, wait_any};
use python::Python;

/// The first argument of a call of the binary by itself.
const CALL: &str = "sandbox-process";
/// What a sandbox says on standard error when it is set up, before the program in it can say anything.
const READY: &[u8] = b"ready\n";

/// What a sandbox is made of, as it is handed from call to call of the binary.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Plan {
    python: Python,
    limits: Limits,
    without: Vec<Layer>,
    /// Python source.
    program: String,
}

/// The means to run programs: an interpreter, and layers that were found to work.
#[derive(Clone, Debug)]
pub struct Sandbox {
    plan: Plan,
}

impl Sandbox {
    /// Finds `python3` on the path and tries every layer but those in `without`.
    ///
    /// # Errors
    /// There is no `python3`, or it does not run in the sandbox; a layer does not work here: the message
    /// names all such layers and says why.
    pub fn open(limits: Limits, without: &[Layer]) -> Result<Self> {
        let (python, without) = (Python::find()?, without.to_vec());
        let plan = Plan { python, limits, without, program: String::new() };
        let sandbox = Sandbox { plan };
        let mut missing = Vec::new();
        let mut trial = sandbox.clone();
        while let Err(error) = trial.probe() {
            // A layer that fails is the first word of its message; without it, the next may fail.
            let said = format!("{error:#}");
            let layer = said.split_once(": ").and_then(|(name, _)| name.parse::<Layer>().ok());
            let Some(layer) = layer.filter(|layer| !trial.plan.without.contains(layer)) else {
                return Err(error);
            };
            trial.plan.without.push(layer);
            missing.push(said);
        }
        ensure!(
            missing.is_empty(),
            "the sandbox lacks a layer here, and programs that nobody has read are not run without it\n  {}\n\
             `--unsafe-without LAYER` runs them all the same",
            missing.join("\n  ")
        );
        Ok(sandbox)
    }

    /// The interpreter.
    pub fn python(&self) -> &std::path::Path {
        &self.plan.python.executable
    }

    /// Starts the Python source `program` in a new sandbox. [`SandboxProcess::is_set_up`] says when the
    /// sandbox was ready for it.
    ///
    /// # Errors
    /// No process can be started.
    pub fn start(&self, program: &str) -> Result<SandboxProcess> {
        let plan = Plan { program: program.into(), ..self.plan.clone() };
        let child = call("outside", &plan)?
            // The interpreter's folder, though its parents be closed to the user that the sandbox will be:
            // see `enter::tree`.
            .current_dir(&plan.python.prefix)
            // Ctrl-C is for whoever asked for the sandbox, who then lets go of it.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start a process for a sandbox")?;
        SandboxProcess::new(child)
    }

    /// Runs a program that only says a word.
    fn probe(&self) -> Result<()> {
        let mut process = self.start("print('up')")?;
        let deadline = Instant::now() + SETUP_LIMIT;
        loop {
            match process.line() {
                Ok(Some(line)) if line == b"up" => return Ok(()),
                Ok(Some(line)) => bail!("python3 said {:?} in the sandbox", String::from_utf8_lossy(&line)),
                Ok(None) => {
                    ensure!(wait_any(&mut [&mut process], deadline)?, "nothing happened for {SETUP_LIMIT:?}")
                }
                Err(_) => bail!("{}", process.said()),
            }
        }
    }
}

/// A call of this very binary for one step of setting up a sandbox, with an empty environment.
fn call(step: &str, plan: &Plan) -> Result<Command> {
    let mut command = Command::new("/proc/self/exe");
    command.args([CALL, step, &serde_json::to_string(plan)?]).env_clear();
    Ok(command)
}

/// In a call of the binary by itself: sets up the sandbox, runs the program in it and returns how it ended.
/// Else `None`, and `main` goes on. To be called before anything else, while there is but one thread and no
/// open file.
pub fn enter_if_asked() -> Option<ExitCode> {
    let mut args = std::env::args_os().skip(1);
    if args.next()? != CALL {
        return None;
    }
    let args: Vec<String> = args.filter_map(|arg| arg.into_string().ok()).collect();
    Some(enter(&args).unwrap_or_else(|error| {
        // Nobody is left to hear that standard error is closed.
        let _ = writeln!(std::io::stderr(), "{error:#}");
        ExitCode::FAILURE
    }))
}

fn enter(args: &[String]) -> Result<ExitCode> {
    let [step, plan] = args else { bail!("{CALL} is how this program calls itself: it is nothing to type") };
    let plan: Plan = serde_json::from_str(plan).context("cannot read the plan of a sandbox")?;
    match step.as_str() {
        "outside" => enter::outside(&plan),
        "inside" => enter::inside(&plan),
        other => bail!("a sandbox has no step {other}"),
    }
}
