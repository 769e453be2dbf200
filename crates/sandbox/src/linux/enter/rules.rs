//! Limits of resources, and Landlock.

use anyhow::{Context, Result, ensure};
use landlock::{
    ABI, Access, AccessFs, AccessNet, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetStatus, Scope,
    path_beneath_rules,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::tree::WORK;
use crate::Limits;
use crate::linux::python::Python;

/// Sets the limits of this process and of what it starts; where it has a smaller one, that stays.
pub(super) fn limit(limits: &Limits) -> Result<()> {
    for (resource, most) in [
        (Resource::Cpu, limits.cpu_secs),
        (Resource::As, limits.memory_bytes),
        (Resource::Fsize, limits.disk_bytes),
        (Resource::Nproc, limits.threads),
        (Resource::Nofile, limits.open_files),
        (Resource::Core, 0),
        (Resource::Memlock, 0),
        (Resource::Msgqueue, 0),
    ] {
        let most = getrlimit(resource).maximum.map_or(most, |maximum| maximum.min(most));
        setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })?;
    }
    Ok(())
}

/// Reading and running the interpreter's files, all but running in the working folder, and nothing else: no
/// other file, no port, no signal or abstract socket to whoever is not under the same rules. What a kernel's
/// Landlock does not know yet, the other layers refuse.
///
/// The working folder exists in a private tree only: without one, nothing can be written.
pub(super) fn landlock(python: &Python, private_tree: bool) -> Result<()> {
    let abi = ABI::V6;
    let read = AccessFs::from_read(abi);
    let work = AccessFs::from_all(abi) & !AccessFs::Execute;
    let status = Ruleset::default()
        .handle_access(AccessFs::from_all(abi))?
        .handle_access(AccessNet::from_all(abi))?
        .scope(Scope::from_all(abi))?
        .create()?
        .add_rules(path_beneath_rules(python.files(), read))?
        .add_rules(path_beneath_rules(private_tree.then_some(WORK), work))?
        .restrict_self()
        .context("cannot be set")?;
    ensure!(status.ruleset != RulesetStatus::NotEnforced, "this kernel has none, or it is switched off");
    Ok(())
}
