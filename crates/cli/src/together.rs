//! Processes that do a run together: what `mpirun` has started, and what has to be the same of all of them.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use gpt::train::run::Recipe;
use kernels::cpu::Level;
use ranks::{Launch, Ranks};

use crate::options::Usage;
use crate::terminal::{eprint_line, style};

/// Lanes of a run that is begun under a launcher, where its recipe says nothing: up to so many processes share
/// them.
pub(crate) const LANES: usize = 8;
/// How many seconds a process waits for the others before it ends the run.
const TIMEOUT_VARIABLE: &str = "MYNAH_MPI_TIMEOUT";
/// A checkpoint of a large model on a slow disk takes minutes, for which the others wait.
const TIMEOUT: Duration = Duration::from_secs(600);

/// Joins the processes that a launcher has started, for `verb`; alone without one.
///
/// # Errors
/// There are several, and the verb knows of one alone; MPI cannot be used; the processes are not alike.
pub(crate) fn join(launch: Option<&Launch>, verb: &str, is_shared: bool) -> Result<Ranks> {
    let Some(launch) = launch.filter(|launch| is_shared || launch.is_one_of_several()) else {
        return Ok(Ranks::alone());
    };
    if !is_shared {
        let several = launch.size.map_or("several".into(), |size| size.to_string());
        return Err(Usage(format!(
            "`mynah {verb}` is done by one process, and a launcher (mpirun, srun) has started {several}: start it without. \
             Several processes share {}",
            crate::verbs::SHARED.join(", ")
        ))
        .into());
    }
    let ranks = Ranks::launched(launch, timeout()?, |text| eprint_line(&style::line(text)))?;
    ranks.refuse_differences(&[
        ("the program", program()?),
        ("the processor's vector instructions", Level::detect().to_string()),
    ])?;
    Ok(ranks)
}

fn timeout() -> Result<Duration> {
    let Ok(asked) = std::env::var(TIMEOUT_VARIABLE) else { return Ok(TIMEOUT) };
    let secs = asked.parse::<u64>().ok().filter(|secs| *secs > 0);
    let wrong = || Usage(format!("{TIMEOUT_VARIABLE} is {asked:?}: it is a number of seconds, such as 600"));
    Ok(Duration::from_secs(secs.ok_or_else(wrong)?))
}

/// What tells this program from another one: its version, and the digest of its file.
fn program() -> Result<String> {
    let path = std::env::current_exe().context("the program's own file is not known")?;
    let bytes = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let digest = blake3::hash(&bytes).to_hex();
    Ok(format!("mynah {} with the digest {}", env!("CARGO_PKG_VERSION"), &digest[..16]))
}

/// How many lanes a training into `out` has where nobody says so: those that it began with; several under a
/// launcher, so that the number of processes decides no bits.
pub(crate) fn lanes(launch: Option<&Launch>, out: &Path) -> Option<usize> {
    match Recipe::load(out) {
        Ok(begun) => usize::try_from(begun.settings.get("lanes")?.as_integer()?).ok(),
        Err(_) => launch.map(|_| LANES),
    }
}
