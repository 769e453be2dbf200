//! Users and capabilities: what a process may do because of who it is.

use anyhow::Result;
use rustix::process::{DumpableBehavior, Gid, Uid, getuid, set_dumpable_behavior};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set,
    configure_capability_in_ambient_set, remove_capability_from_bounding_set, set_capabilities,
    set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};

/// The user and group that own nothing: the kernel's overflow id, `nobody` everywhere. Root becomes it,
/// because limits on processes do not bind root; within its namespace every sandbox's user is called so.
pub(super) const NOBODY: u32 = 65534;

/// What the inner step needs: to change its root, and to shrink what can ever be had again.
const FOR_INSIDE: CapabilitySet = CapabilitySet::SYS_ADMIN.union(CapabilitySet::SETPCAP);

/// Root becomes nobody; everybody else stays who they are. The thread's ids are the process's: there is but
/// one.
pub(super) fn give_up_root() -> Result<()> {
    if !getuid().is_root() || !has_nobody()? {
        return Ok(());
    }
    let (uid, gid) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
    set_thread_groups(&[])?;
    set_thread_res_gid(gid, gid, gid)?;
    set_thread_res_uid(uid, uid, uid)?;
    // Else our own `/proc/self/uid_map` would still belong to root.
    set_dumpable_behavior(DumpableBehavior::Dumpable)?;
    Ok(())
}

/// Whether nobody is anybody here. In a user namespace that knows its own root alone, root is an ordinary
/// user already.
fn has_nobody() -> Result<bool> {
    let map = std::fs::read_to_string("/proc/self/uid_map")?;
    let ranges =
        map.lines().map(|line| line.split_whitespace().map(str::parse::<u64>).collect::<Result<Vec<_>, _>>());
    let holds = |range: &Vec<u64>| (range[0]..range[0] + range[2]).contains(&NOBODY.into());
    Ok(ranges.collect::<Result<Vec<_>, _>>()?.iter().any(holds))
}

/// Lets two capabilities of the new user namespace survive the call of the inner step; they mean nothing
/// outside it.
pub(super) fn keep_for_inside() -> Result<()> {
    let sets = capabilities(None)?;
    set_capabilities(None, CapabilitySets { inheritable: FOR_INSIDE, ..sets })?;
    for capability in FOR_INSIDE.iter() {
        configure_capability_in_ambient_set(capability, true)?;
    }
    Ok(())
}

/// Drops every capability for good.
pub(super) fn drop_all() -> Result<()> {
    clear_ambient_capability_set()?;
    // The kernel may know more than we have names for: up to the first that it does not know.
    for number in 0..64 {
        if remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << number)).is_err() {
            break;
        }
    }
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?;
    Ok(())
}
