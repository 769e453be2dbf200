//! The cache on the disk, in the layout of `huggingface_hub`, which shares it:
//!
//! ```text
//! models--OWNER--NAME/
//!   refs/main                    the commit that a branch or tag last was
//!   trees/COMMIT.json            the files of a commit
//!   blobs/ETAG                   contents by name; ETAG.incomplete while they are fetched
//!   snapshots/COMMIT/PATH        → ../../blobs/ETAG
//! .locks/models--OWNER--NAME/ETAG.lock
//! ```

use std::fs::{self, File, TryLockError};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::listing::{Listing, Remote};
use super::name::{is_commit, is_file};
use super::{Kind, Name};
use crate::progress::{Progress, Stopped};
use crate::system;

/// How often a lock that somebody else holds is tried again.
const LOCK_WAIT: Duration = Duration::from_millis(200);

/// What becomes of a download that somebody stopped.
pub(super) const STOPPED: &str = "the same command goes on with the download";

/// What a message says about a place that cannot be written to.
const WRITABLE: &str = "set HF_HOME or HF_HUB_CACHE to a directory that you may write to";

/// The part of the cache that belongs to one repository.
pub(super) struct Cache {
    root: PathBuf,
    locks: PathBuf,
}

impl Cache {
    pub(super) fn new(cache: &Path, kind: Kind, name: &Name) -> Cache {
        let folder = format!("{}--{}", kind.plural(), name.repository().replace('/', "--"));
        Cache { root: cache.join(&folder), locks: cache.join(".locks").join(folder) }
    }

    /// The directory of a commit's files.
    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        self.root.join("snapshots").join(commit)
    }

    /// Where contents lie.
    pub(super) fn blob(&self, etag: &str) -> PathBuf {
        self.root.join("blobs").join(etag)
    }

    /// Where they lie until they are whole.
    pub(super) fn incomplete(&self, etag: &str) -> PathBuf {
        self.root.join("blobs").join(format!("{etag}.incomplete"))
    }

    /// The commit that a branch or tag was when the hub was last asked.
    pub(super) fn commit_of(&self, revision: &str) -> Option<String> {
        let text = fs::read_to_string(self.root.join("refs").join(revision)).ok()?;
        Some(text.trim().to_owned()).filter(|commit| is_commit(commit))
    }

    /// The listing of a commit, where it was kept.
    pub(super) fn listing(&self, commit: &str) -> Option<Listing> {
        Listing::from_cache(commit, &fs::read(self.tree(commit)).ok()?)
    }

    fn tree(&self, commit: &str) -> PathBuf {
        self.root.join("trees").join(format!("{commit}.json"))
    }

    /// Keeps what the hub answered. A cache that only others may write to still serves what is in it.
    pub(super) fn remember(&self, revision: &str, commit: &str, listing: Option<&str>) {
        if revision != commit && self.commit_of(revision).as_deref() != Some(commit) {
            let _ = replace(&self.root.join("refs").join(revision), commit);
        }
        if let Some(listing) = listing.filter(|_| !self.tree(commit).exists()) {
            let _ = replace(&self.tree(commit), listing);
        }
    }

    /// What there is of a commit, where its listing is not known; none where there is nothing.
    pub(super) fn present(&self, commit: &str) -> Option<Listing> {
        let mut listing = Listing { commit: commit.to_owned(), files: Default::default() };
        let snapshot = self.snapshot(commit);
        let mut folders = vec![snapshot.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).ok()?.flatten() {
                let path = entry.path();
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    folders.push(path);
                } else if let Some(path) = path.strip_prefix(&snapshot).ok().and_then(Path::to_str) {
                    listing.files.insert(path.to_owned(), Remote::default());
                }
            }
        }
        Some(listing)
    }

    /// Gives contents a path in a commit's directory.
    pub(super) fn link(&self, etag: &str, commit: &str, path: &str) -> Result<()> {
        debug_assert!(is_file(path), "paths are checked when they are heard of");
        let pointer = self.snapshot(commit).join(path);
        let up = "../".repeat(2 + path.matches('/').count());
        create_parent(&pointer)?;
        let target = format!("{up}blobs/{etag}");
        let link = || system::link_file(&target, &self.blob(etag), &pointer);
        match link() {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                fs::remove_file(&pointer).and_then(|()| link())
            }
            linked => linked,
        }
        .with_context(|| format!("cannot link {}: {WRITABLE}", pointer.display()))
    }

    /// Waits until nobody else fetches the same contents; the lock is held as long as the file is. Where a
    /// file system has no locks, two may fetch at once: the digest of the contents decides then.
    pub(super) fn lock(&self, etag: &str, progress: &dyn Progress) -> Result<Option<File>> {
        let path = self.locks.join(format!("{etag}.lock"));
        create_parent(&path)?;
        let file = File::create(&path).with_context(|| cannot_write(&path))?;
        let mut told = false;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Some(file)),
                Err(TryLockError::Error(_)) => return Ok(None),
                Err(TryLockError::WouldBlock) if !told => {
                    progress.line("another process downloads the same file: waiting for it");
                    told = true;
                }
                Err(TryLockError::WouldBlock) => {}
            }
            if progress.should_stop() {
                bail!(Stopped(STOPPED));
            }
            thread::sleep(LOCK_WAIT);
        }
    }
}

pub(super) fn cannot_write(path: &Path) -> String {
    format!("cannot write {}: {WRITABLE}", path.display())
}

/// Makes the directory that a file is to lie in.
pub(super) fn create_parent(path: &Path) -> Result<()> {
    let parent = path.parent().unwrap_or(path);
    fs::create_dir_all(parent).with_context(|| cannot_write(parent))
}

/// Writes a small file so that whoever reads it meanwhile sees the old text or the new one.
fn replace(path: &Path, text: &str) -> Result<()> {
    create_parent(path)?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = path.with_file_name(name);
    let written = File::create(&temporary).and_then(|mut file| file.write_all(text.as_bytes()));
    written.and_then(|()| fs::rename(&temporary, path)).inspect_err(|_| {
        let _ = fs::remove_file(&temporary);
    })?;
    Ok(())
}
