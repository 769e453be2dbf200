//! A thread's working memory: aligned buffers that only ever grow, so that nothing is allocated after the
//! first step.

/// The buffers of one thread, to be borrowed apart: `let [a, b, ..] = &mut scratch.buffers;`.
#[derive(Default)]
pub(crate) struct Scratch {
    pub(crate) buffers: [Buffer; Scratch::BUFFERS],
}

impl Scratch {
    /// Number of buffers.
    pub(crate) const BUFFERS: usize = 16;

    /// Whether any buffer has grown since the last call.
    pub(crate) fn take_grown(&mut self) -> bool {
        self.buffers.iter_mut().fold(false, |any, b| std::mem::take(&mut b.grown) | any)
    }

    /// For each buffer the larger of its size, in lines, and the one given.
    pub(crate) fn largest(&self, sizes: [usize; Self::BUFFERS]) -> [usize; Self::BUFFERS] {
        std::array::from_fn(|i| self.buffers[i].lines.len().max(sizes[i]))
    }

    /// Grows the buffers to at least these sizes, in lines.
    pub(crate) fn reserve(&mut self, sizes: [usize; Self::BUFFERS]) {
        self.buffers.iter_mut().zip(sizes).for_each(|(buffer, lines)| buffer.reserve(lines));
    }
}

/// Memory on a cache-line boundary, for numbers of any kind. What it holds before it is written is
/// unspecified.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    lines: Vec<Line>,
    grown: bool,
}

/// A cache line, which is also the widest vector.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Line(#[allow(dead_code, reason = "read through pointers")] [u8; 64]);

impl Buffer {
    /// `len` values of `f32`.
    pub(crate) fn floats(&mut self, len: usize) -> &mut [f32] {
        // SAFETY: every bit pattern is an `f32`.
        unsafe { self.get(len) }
    }

    /// `len` values of 16 bits: bfloat16.
    pub(crate) fn halves(&mut self, len: usize) -> &mut [u16] {
        // SAFETY: every bit pattern is a `u16`.
        unsafe { self.get(len) }
    }

    /// `len` values of 32 bits: pairs of bfloat16.
    pub(crate) fn words(&mut self, len: usize) -> &mut [u32] {
        // SAFETY: every bit pattern is a `u32`.
        unsafe { self.get(len) }
    }

    /// `len` values of 64 bits.
    pub(crate) fn longs(&mut self, len: usize) -> &mut [u64] {
        // SAFETY: every bit pattern is a `u64`.
        unsafe { self.get(len) }
    }

    /// `len` values of `T`, without a promise about what they are.
    ///
    /// # Safety
    ///
    /// Every bit pattern must be a valid `T`, of alignment at most 64.
    unsafe fn get<T>(&mut self, len: usize) -> &mut [T] {
        let bytes = len.checked_mul(size_of::<T>()).expect("scratch of more bytes than any memory has");
        if bytes > size_of_val(&self.lines[..]) {
            self.reserve(bytes.div_ceil(64));
            self.grown = true;
        }
        // SAFETY: initialised memory of at least `bytes` bytes, aligned to 64; `T` by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), len) }
    }

    fn reserve(&mut self, lines: usize) {
        if lines > self.lines.len() {
            self.lines.reserve_exact(lines - self.lines.len());
            self.lines.resize(lines, Line([0; 64]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A length in bytes that wraps around must not pass for a short one.
    #[test]
    #[should_panic(expected = "scratch of more bytes than any memory has")]
    fn a_length_that_no_memory_has_is_refused() {
        Buffer::default().floats(1 << 62);
    }

    #[test]
    fn buffers_are_aligned_and_do_not_move_once_large_enough() {
        let mut scratch = Scratch::default();
        let [a, b, ..] = &mut scratch.buffers;
        let large = a.floats(1000).as_ptr();
        b.words(17).fill(7);
        assert_eq!(large.align_offset(64), 0);
        assert_eq!(b.halves(1).as_ptr().align_offset(64), 0);
        assert_eq!(a.words(1000).as_ptr().cast(), large);
        assert_eq!(a.halves(3).as_ptr().cast(), large);
        assert_eq!(b.words(17), [7; 17]);
        assert!(scratch.take_grown());
        assert!(!scratch.take_grown());
    }
}
