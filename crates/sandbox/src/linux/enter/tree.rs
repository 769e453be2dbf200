//! The private tree of files: the interpreter and the system's libraries, read-only, and one small folder in
//! memory.
//!
//! It is laid out over `/tmp` of our own mount namespace, which nobody else sees, and becomes the root from
//! inside.

use std::ffi::CString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::fs::{StatVfsMountFlags, statvfs};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind_recursive, mount_change,
    mount_remount, unmount,
};
use rustix::process::pivot_root;

use crate::linux::python::Python;

const TREE: &str = "/tmp";
/// The folder in which a program works, and the only one in which it can write.
pub(super) const WORK: &str = "/tmp";

/// Lays the tree out; the working folder holds `disk_bytes`.
pub(super) fn lay_out(python: &Python, disk_bytes: u64) -> Result<()> {
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .context("cannot make mounts private")?;
    memory(TREE, "size=256k,nr_inodes=256,mode=755")?;
    for path in python.files() {
        show(python, &path).with_context(|| format!("cannot show {} to the sandbox", path.display()))?;
    }
    let work = within(Path::new(WORK));
    fs::create_dir(&work).context("cannot make the working folder")?;
    memory(&work, &format!("size={disk_bytes},nr_inodes=1024,mode=700"))?;
    let flags = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
    mount_remount(TREE, flags, "").context("cannot make the tree read-only")
}

/// Makes the tree the root and lets go of the old one.
pub(super) fn enter() -> Result<()> {
    std::env::set_current_dir(TREE)?;
    // The old root comes to lie over the new one, and is taken off: no folder is needed to hold it.
    pivot_root(".", ".").context("cannot change the root")?;
    unmount(".", UnmountFlags::DETACH).context("cannot let go of the old root")?;
    std::env::set_current_dir(WORK).context("cannot go to the working folder")
}

fn memory(target: impl AsRef<Path>, options: &str) -> Result<()> {
    let options = CString::new(options).expect("options have no NUL");
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    mount("tmpfs", target.as_ref(), "tmpfs", flags, options.as_c_str())
        .with_context(|| format!("cannot mount memory at {}", target.as_ref().display()))
}

/// `/usr/lib` → `/tmp/usr/lib`.
fn within(path: &Path) -> PathBuf {
    Path::new(TREE).join(path.strip_prefix("/").unwrap_or(path))
}

/// Shows `path` read-only at the same place of the tree, a link as a link. What does not exist is not shown.
fn show(python: &Python, path: &Path) -> Result<()> {
    // The interpreter's folder is where we stand: that way it is found even if it lies in the home of root,
    // who we are no more.
    let own = path.strip_prefix(&python.prefix).ok();
    let source = own.map_or_else(|| path.to_path_buf(), |own| Path::new(".").join(own));
    let target = within(path);
    let Ok(meta) = fs::symlink_metadata(&source) else { return Ok(()) };
    if target.symlink_metadata().is_ok() {
        return Ok(());
    }
    fs::create_dir_all(target.parent().context("the root itself")?)?;
    if meta.is_symlink() {
        return Ok(symlink(fs::read_link(&source)?, &target)?);
    }
    if meta.is_dir() {
        fs::create_dir(&target)?
    } else {
        drop(fs::File::create(&target)?)
    }
    mount_bind_recursive(&source, &target)?;
    // A mount from outside keeps its flags, and whoever changes others has to repeat them.
    let kept = statvfs(&target)?.f_flag;
    let flags = [
        (StatVfsMountFlags::NOEXEC, MountFlags::NOEXEC),
        (StatVfsMountFlags::NOATIME, MountFlags::NOATIME),
        (StatVfsMountFlags::NODIRATIME, MountFlags::NODIRATIME),
        (StatVfsMountFlags::RELATIME, MountFlags::RELATIME),
    ];
    let kept = flags.into_iter().filter(|(is, _)| kept.contains(*is)).map(|(_, flag)| flag);
    let ours = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
    Ok(mount_remount(&target, kept.fold(ours, MountFlags::union), "")?)
}
