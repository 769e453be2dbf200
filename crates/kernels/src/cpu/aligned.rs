//! The memory of a tensor: numbers on cache-line boundaries.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::Arc;

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
unsafe impl Number for u8 {}
// SAFETY: any bits are a value.
unsafe impl Number for u16 {}
// SAFETY: any bits are a value.
unsafe impl Number for u32 {}

/// A slice of numbers on a cache-line boundary, which nobody else has. It may lie beside others in one piece
/// of memory, which is freed when the last of them goes. Zeroed memory comes straight from the system,
/// untouched.
pub(super) struct Aligned<T: Number> {
    start: NonNull<T>,
    len: usize,
    capacity: usize,
    /// Keeps the memory.
    _memory: Arc<Memory>,
}

// SAFETY: owns its values like a `Vec<T>`.
unsafe impl<T: Number> Send for Aligned<T> {}
// SAFETY: as above.
unsafe impl<T: Number> Sync for Aligned<T> {}

impl<T: Number> Aligned<T> {
    /// `len` zeros.
    pub(super) fn zeros(len: usize) -> Self {
        let memory = Arc::new(Memory::zeros(Self::bytes(len)));
        Self { start: memory.start.cast(), len, capacity: len, _memory: memory }
    }

    /// Zeros of these lengths in one piece of memory, one slice after another, each on a boundary of its own.
    pub(super) fn arena(lens: &[usize]) -> Vec<Self> {
        let sum = lens.iter().try_fold(0usize, |sum, &len| sum.checked_add(Self::bytes(len)));
        let memory = Arc::new(Memory::zeros(sum.expect(TOO_LARGE)));
        let mut first = 0;
        let slice = |&len: &usize| {
            // SAFETY: the memory has the bytes of all slices, and those before take the first ones.
            let start = unsafe { memory.start.add(first) }.cast();
            first += Self::bytes(len);
            Self { start, len, capacity: len, _memory: Arc::clone(&memory) }
        };
        lens.iter().map(slice).collect()
    }

    /// Changes the number of values, whose contents are lost; allocates only beyond the largest size seen.
    pub(super) fn resize(&mut self, len: usize) {
        if len > self.capacity {
            *self = Self::zeros(len);
        }
        self.len = len;
    }

    /// Number of values, without a look at them: others may be writing them.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The first value's address, for those who share the writing and keep to their part.
    pub(super) fn start(&self) -> *mut T {
        self.start.as_ptr()
    }

    /// Bytes of `len` values in whole cache lines.
    fn bytes(len: usize) -> usize {
        let bytes =
            len.checked_mul(size_of::<T>()).and_then(|bytes| bytes.checked_next_multiple_of(ALIGNMENT));
        bytes.expect(TOO_LARGE)
    }
}

const TOO_LARGE: &str = "a tensor's size in bytes fits an address";

/// Zeroed memory on a cache-line boundary.
struct Memory {
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: nobody reads or writes through it; that is for those who share it out.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    fn zeros(bytes: usize) -> Self {
        /// What an address on a boundary points to where there is nothing.
        #[repr(align(64))]
        struct Line;
        if bytes == 0 {
            return Self { start: NonNull::<Line>::dangling().cast(), bytes };
        }
        let layout = Self::layout(bytes);
        // SAFETY: the layout is not empty.
        let start = unsafe { alloc_zeroed(layout) };
        Self { start: NonNull::new(start).unwrap_or_else(|| handle_alloc_error(layout)), bytes }
    }

    fn layout(bytes: usize) -> Layout {
        Layout::from_size_align(bytes, ALIGNMENT).expect(TOO_LARGE)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if self.bytes > 0 {
            // SAFETY: allocated with this layout.
            unsafe { dealloc(self.start.as_ptr(), Self::layout(self.bytes)) }
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

    #[test]
    fn an_arena_has_its_slices_one_after_another() {
        let mut slices = Aligned::<f32>::arena(&[100, 0, 3, 16]);
        let starts: Vec<usize> = slices.iter().map(|slice| slice.as_ptr() as usize).collect();
        assert_eq!(starts.iter().map(|start| start - starts[0]).collect::<Vec<_>>(), [0, 448, 448, 512]);
        assert_eq!(starts[0] % ALIGNMENT, 0);
        // Every slice is written whole while its neighbours live, outlives them, and may grow elsewhere.
        for (value, slice) in slices.iter_mut().enumerate() {
            assert!(slice.iter().all(|&x| x == 0.0));
            slice.fill(value as f32);
        }
        let last = slices.remove(3);
        slices[2].resize(1000);
        assert_eq!(slices[2].len(), 1000);
        assert!(slices[0].iter().all(|&x| x == 0.0));
        drop(slices);
        assert_eq!(last[..], [3.0; 16]);
        assert!(Aligned::<u16>::arena(&[]).is_empty());
        assert_eq!(Aligned::<u16>::arena(&[0]).len(), 1);
    }
}
