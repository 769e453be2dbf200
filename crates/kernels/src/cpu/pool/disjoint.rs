//! A mutable slice whose parts several threads write at once.

use std::marker::PhantomData;

/// A mutable slice that the chunks of a job share, each taking its own part.
///
/// Whoever owns it may write all of it: a function that takes it by value asks nothing more of its caller.
/// Whoever has a reference shares it: a function that writes through one is `unsafe`, and its caller sees to
/// it that no two parts overlap.
pub(crate) struct Disjoint<'a, T> {
    start: *mut T,
    len: usize,
    lifetime: PhantomData<&'a mut [T]>,
}

// SAFETY: to its owner it is a `&mut [T]`.
unsafe impl<T: Send> Send for Disjoint<'_, T> {}
// SAFETY: references hand out parts to write to several threads, as if the values were sent there, and parts
// to read, the same one to several, as if the values were shared. That no part that is written overlaps
// another one is promised by those who ask for it.
unsafe impl<T: Send + Sync> Sync for Disjoint<'_, T> {}

impl<'a, T> Disjoint<'a, T> {
    /// Takes over the slice.
    pub(crate) fn new(slice: &'a mut [T]) -> Self {
        Self { start: slice.as_mut_ptr(), len: slice.len(), lifetime: PhantomData }
    }

    /// The `len` values from `start` on.
    ///
    /// # Safety
    ///
    /// For `'a` they are there, and nobody else reads or writes them.
    pub(crate) unsafe fn from_raw(start: *mut T, len: usize) -> Self {
        Self { start, len, lifetime: PhantomData }
    }

    /// The same slice for a shorter time.
    pub(crate) fn reborrow(&mut self) -> Disjoint<'_, T> {
        Disjoint { start: self.start, len: self.len, lifetime: PhantomData }
    }

    /// Number of values.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The first value's address, for code that writes through pointers and keeps to its part.
    pub(crate) fn start(&self) -> *mut T {
        self.start
    }

    /// `len` values from `start` on.
    ///
    /// # Safety
    ///
    /// While the part lives, no other part of the same slice overlaps it.
    pub(crate) unsafe fn slice(&self, start: usize, len: usize) -> &'a mut [T] {
        assert!(start <= self.len && len <= self.len - start, "{start} + {len} values of {}", self.len);
        // SAFETY: within the slice by the assertion, not aliased by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(start), len) }
    }

    /// `len` values from `start` on for reading.
    ///
    /// # Safety
    ///
    /// While the part lives, no other part of the same slice that is to be written overlaps it.
    pub(crate) unsafe fn shared(&self, start: usize, len: usize) -> &'a [T] {
        assert!(start <= self.len && len <= self.len - start, "{start} + {len} values of {}", self.len);
        // SAFETY: within the slice by the assertion, not changed by the caller's promise.
        unsafe { std::slice::from_raw_parts(self.start.add(start), len) }
    }
}
