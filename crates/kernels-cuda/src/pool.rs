//! Memory of a GPU that was freed and is given out again.
//!
//! Everything happens in one stream, in order: what is freed may be written to by the next operation. Asking the driver
//! takes a microsecond, and the same requests in the same order get the same addresses here, so that what is done
//! again is the same to the last argument ([graphs](crate::queue) need that).

use crate::device::Address;
use std::collections::{BTreeMap, BTreeSet};

/// Below this, sizes are rounded up to an eighth of a power of two, above to multiples of [`STEP`].
const SMALL: usize = 4 << 20;
const STEP: usize = 512 << 10;
/// Boundaries and the smallest size.
const LEAST: usize = 256;

/// Pieces that are free, by their size. The lowest address comes first, so that it does not matter in which order they
/// were freed.
#[derive(Default)]
pub(crate) struct Pool {
    free: BTreeMap<usize, BTreeSet<Address>>,
    bytes: u64,
}

impl Pool {
    /// What is asked of the driver for so many bytes.
    pub(crate) fn size(bytes: usize) -> usize {
        let step = if bytes < SMALL { (bytes.next_power_of_two() / 16).max(LEAST) } else { STEP };
        bytes.next_multiple_of(step)
    }

    /// A piece for so many bytes, if one is free.
    pub(crate) fn take(&mut self, bytes: usize) -> Option<Address> {
        let size = Self::size(bytes);
        let at = self.free.get_mut(&size)?.pop_first()?;
        self.bytes -= size as u64;
        Some(at)
    }

    /// A piece for so many bytes that is free from now on.
    pub(crate) fn give(&mut self, at: Address, bytes: usize) {
        let size = Self::size(bytes);
        self.free.entry(size).or_default().insert(at);
        self.bytes += size as u64;
    }

    /// All that is free, to be given back to the driver.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Address> {
        self.bytes = 0;
        std::mem::take(&mut self.free).into_values().flatten()
    }

    /// Bytes that are free.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_requests_get_the_same_pieces() {
        let mut pool = Pool::default();
        assert_eq!(pool.take(1000), None);
        [(8192, 1000), (4096, 1000), (1 << 20, 70_000)].iter().for_each(|&(at, bytes)| pool.give(at, bytes));
        assert_eq!(pool.bytes(), 2 * 1024 + 73_728);
        // None comes that is of another size.
        let taken = [1000, 1001, 70_000, 1000].map(|bytes| pool.take(bytes));
        assert_eq!(taken, [Some(4096), Some(8192), Some(1 << 20), None]);
        assert_eq!((pool.bytes(), pool.take(1)), (0, None));
        pool.give(4096, 1);
        assert_eq!((pool.drain().collect::<Vec<_>>(), pool.bytes(), pool.take(1)), (vec![4096], 0, None));
    }

    #[test]
    fn little_is_given_away() {
        for bytes in (1..200).chain((200..1 << 26).step_by(77_777)) {
            let size = Pool::size(bytes);
            let most = (bytes + bytes / 8).max(bytes.next_multiple_of(LEAST));
            assert!(size >= bytes && size <= most && size.is_multiple_of(LEAST), "{bytes}: {size}");
            assert_eq!(Pool::size(size), size, "{bytes}");
        }
    }
}
