//! Disk space: what fits, and eviction from the cache.

use std::fs;

use anyhow::{Context, Result, ensure};

use super::Repository;

impl Repository<'_> {
    /// Takes a file out of the cache again.
    pub fn forget(&self, file: &str) -> Result<()> {
        let pointer = self.dir().join(file);
        let removed = pointer.canonicalize().and_then(|contents| {
            fs::remove_file(&pointer)?;
            if contents == pointer { Ok(()) } else { fs::remove_file(contents) }
        });
        removed.with_context(|| format!("cannot remove {}", pointer.display()))
    }

    /// Whether the disk has room for those of `files` that are not in the cache, as far as sizes are told.
    pub fn fits(&self, files: &[&str]) -> bool {
        let missing = files.iter().filter(|file| !self.is_there(file));
        let bytes: u64 = missing.filter_map(|file| self.size(file)).sum();
        self.free_bytes().is_none_or(|free| bytes <= free)
    }

    /// What the disk of the cache has left, where that can be told.
    fn free_bytes(&self) -> Option<u64> {
        // The cache may not exist yet; it will lie where the directory above it lies.
        let mut above = self.hub.settings.cache.ancestors();
        above.find_map(|dir| fs4::available_space(dir).ok())
    }

    /// Refuses what the disk has no room for.
    pub(super) fn check_room(&self, bytes: u64) -> Result<()> {
        let cache = &self.hub.settings.cache;
        let Some(free) = self.free_bytes() else { return Ok(()) };
        ensure!(
            bytes <= free,
            "{} needs {} MB and the disk of {} has {} MB left: free some space, or set HF_HOME to a directory on a \
             larger disk",
            self.name,
            bytes.div_ceil(1_000_000),
            cache.display(),
            free / 1_000_000
        );
        Ok(())
    }
}
