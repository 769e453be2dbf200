//! The memory of a tensor: numbers on cache-line boundaries.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

/// Alignment in bytes: a cache line, which is also the widest vector.
const ALIGNMENT: usize = 64;

/// Numbers that memory of zeros holds.
///
/// # Safety
///
/// All-zero bytes are a value of the type, whose alignment is at most 64.
pub(super) unsafe trait Number: Copy + Send + Sync + 'static {}
// SAFETY: any bits are a value.
unsafe impl Number for f32 {}
// SAFETY: any bits are a value.
unsafe impl Number for u16 {}
// SAFETY: any bits are a value.
unsafe impl Number for u32 {}

/// A slice of numbers on a cache-line boundary. Zeroed memory comes straight from the system, untouched.
pub(super) struct Aligned<T: Number> {
    start: NonNull<T>,
    len: usize,
    capacity: usize,
}

// SAFETY: owns its memory like a `Vec<T>`.
unsafe impl<T: Number> Send for Aligned<T> {}
// SAFETY: as above.
unsafe impl<T: Number> Sync for Aligned<T> {}

impl<T: Number> Aligned<T> {
    /// `len` zeros.
    pub(super) fn zeros(len: usize) -> Self {
        let start = if len == 0 {
            NonNull::dangling()
        } else {
            let layout = Self::layout(len);
            // SAFETY: the layout is not empty.
            let start = unsafe { alloc_zeroed(layout) };
            NonNull::new(start.cast()).unwrap_or_else(|| handle_alloc_error(layout))
        };
        Self { start, len, capacity: len }
    }

    /// Changes the number of values, whose contents are lost; allocates only beyond the largest size seen.
    pub(super) fn resize(&mut self, len: usize) {
        if len > self.capacity {
            *self = Self::zeros(len);
        }
        self.len = len;
    }

    fn layout(len: usize) -> Layout {
        let bytes = len.checked_mul(size_of::<T>()).expect("a tensor's size in bytes fits an address");
        Layout::from_size_align(bytes, ALIGNMENT).expect("a tensor's size in bytes fits an address")
    }
}

impl<T: Number> Drop for Aligned<T> {
    fn drop(&mut self) {
        if self.capacity > 0 {
            // SAFETY: allocated with this layout.
            unsafe { dealloc(self.start.as_ptr().cast(), Self::layout(self.capacity)) }
        }
    }
}

impl<T: Number> Deref for Aligned<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        // SAFETY: `len <= capacity` values that were zeroed or written.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl<T: Number> DerefMut for Aligned<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above, and `self` is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resize_keeps_memory() {
        let mut buffer = Aligned::<f32>::zeros(100);
        let start = buffer.as_ptr();
        assert_eq!((start as usize % ALIGNMENT, &buffer[..]), (0, &[0.0; 100][..]));
        for len in [0, 7, 100] {
            buffer.resize(len);
            assert_eq!((buffer.as_ptr(), buffer.len()), (start, len));
        }
        buffer.resize(101);
        assert_eq!(buffer[..], [0.0; 101]);
        assert!(Aligned::<u16>::zeros(0).is_empty());
    }
}
