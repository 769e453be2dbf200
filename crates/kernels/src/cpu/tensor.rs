//! The tensors of [`Cpu`](super::Cpu), and how operations see their numbers.
//!
//! Operations compute in `f32`. What is stored in bfloat16 is widened into a scratch row when it is read and
//! rounded when it is written; what is stored in `f32` is used in place. Matrices in blocks are read by products, and
//! otherwise as bfloat16 is.

use super::aligned::Aligned;
use super::bf16::{narrow, widen};
use super::blocks::Blocks;
use super::gemm::PackedWeight;
use super::pool::Disjoint;
use crate::BlockMatrix;
use std::sync::Arc;

/// An array of numbers in main memory. See [`Backend`](crate::Backend) for how to make one.
pub struct CpuTensor(Storage);

enum Storage {
    F32(Aligned<f32>),
    Bf16(Aligned<u16>),
    /// A weight that several tensors are, and nobody writes.
    Shared(Arc<Aligned<f32>>),
    Packed(Arc<PackedWeight>),
    Blocks(Arc<BlockMatrix>),
}

impl CpuTensor {
    pub(super) fn zeros_f32(len: usize) -> Self {
        Self(Storage::F32(Aligned::zeros(len)))
    }
    pub(super) fn zeros_bf16(len: usize) -> Self {
        Self(Storage::Bf16(Aligned::zeros(len)))
    }
    pub(super) fn arena(lens: &[usize]) -> Vec<Self> {
        Aligned::arena(lens).into_iter().map(|values| Self(Storage::F32(values))).collect()
    }
    pub(super) fn packed(weight: PackedWeight) -> Self {
        Self(Storage::Packed(Arc::new(weight)))
    }
    pub(super) fn blocks(matrix: BlockMatrix) -> Self {
        Self(Storage::Blocks(Arc::new(matrix)))
    }

    /// Another handle of the same values, which are only read from then on.
    pub(super) fn share(&mut self) -> Self {
        if let Storage::F32(values) = &mut self.0 {
            let values = std::mem::replace(values, Aligned::zeros(0));
            self.0 = Storage::Shared(Arc::new(values));
        }
        Self(match &self.0 {
            Storage::Shared(values) => Storage::Shared(Arc::clone(values)),
            Storage::Packed(weight) => Storage::Packed(Arc::clone(weight)),
            Storage::Blocks(matrix) => Storage::Blocks(Arc::clone(matrix)),
            Storage::F32(_) | Storage::Bf16(_) => panic!("an activation is no weight"),
        })
    }

    /// Number of values.
    pub(super) fn len(&self) -> usize {
        match &self.0 {
            Storage::F32(values) => values.len(),
            Storage::Shared(values) => values.len(),
            Storage::Bf16(values) => values.len(),
            Storage::Packed(weight) => weight.len(),
            Storage::Blocks(matrix) => matrix.len(),
        }
    }

    /// The values for reading.
    pub(super) fn values(&self) -> Values<'_> {
        match &self.0 {
            Storage::F32(values) => Values::F32(values),
            Storage::Shared(values) => Values::F32(values),
            Storage::Bf16(values) => Values::Bf16(values),
            Storage::Blocks(matrix) => Values::Blocks(Blocks::of(matrix)),
            Storage::Packed(_) => panic!("a packed weight is for linear_forward only"),
        }
    }

    /// The values for writing.
    pub(super) fn values_mut(&mut self) -> ValuesMut<'_> {
        match &mut self.0 {
            Storage::F32(values) => ValuesMut::F32(values),
            Storage::Bf16(values) => ValuesMut::Bf16(values),
            Storage::Shared(_) | Storage::Packed(_) | Storage::Blocks(_) => {
                panic!("a weight that is shared, packed or in blocks stays as it is")
            }
        }
    }

    /// The values for writing, by several threads.
    pub(super) fn sink(&mut self) -> Sink<'_> {
        match self.values_mut() {
            ValuesMut::F32(values) => Sink::F32(Disjoint::new(values)),
            ValuesMut::Bf16(values) => Sink::Bf16(Disjoint::new(values)),
        }
    }

    /// The values of a tensor that is always `f32`: weights, gradients, statistics, the residual stream.
    pub(super) fn f32s(&self) -> &[f32] {
        match &self.0 {
            Storage::F32(values) => values,
            Storage::Shared(values) => values,
            _ => not_exact(),
        }
    }

    /// Mutable [`f32s`](Self::f32s).
    pub(super) fn f32s_mut(&mut self) -> &mut [f32] {
        match &mut self.0 {
            Storage::F32(values) => values,
            _ => not_exact(),
        }
    }

    /// [`f32s_mut`](Self::f32s_mut) for threads that find the tensor in a list which they share.
    ///
    /// # Safety
    ///
    /// Whoever shares the list has it alone, and every value is in one thread's part at most.
    pub(super) unsafe fn shared_f32s(&self) -> Disjoint<'_, f32> {
        match &self.0 {
            // SAFETY: the caller's promise.
            Storage::F32(values) => unsafe { Disjoint::from_raw(values.start(), values.len()) },
            _ => not_exact(),
        }
    }

    /// The packed matrix, if it is one.
    pub(super) fn as_packed(&self) -> Option<&PackedWeight> {
        match &self.0 {
            Storage::Packed(weight) => Some(weight),
            _ => None,
        }
    }

    /// The matrix in blocks, if it is one.
    pub(super) fn as_blocks(&self) -> Option<&BlockMatrix> {
        match &self.0 {
            Storage::Blocks(matrix) => Some(matrix),
            _ => None,
        }
    }

    /// Changes the number of values, whose contents are lost.
    pub(super) fn resize(&mut self, len: usize) {
        match &mut self.0 {
            Storage::F32(values) => values.resize(len),
            Storage::Bf16(values) => values.resize(len),
            Storage::Shared(_) | Storage::Packed(_) | Storage::Blocks(_) => {
                panic!("a weight that is shared, packed or in blocks has a fixed size")
            }
        }
    }
}

fn not_exact() -> ! {
    panic!("this operand must be kept exactly: make it with zeros(), not activation() or packed()")
}

impl std::fmt::Debug for CpuTensor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match &self.0 {
            Storage::F32(_) => "f32",
            Storage::Shared(_) => "shared f32",
            Storage::Bf16(_) => "bf16",
            Storage::Packed(_) => "packed",
            Storage::Blocks(_) => "in blocks",
        };
        write!(f, "CpuTensor({} {kind})", self.len())
    }
}

/// Numbers to read.
#[derive(Clone, Copy)]
pub(super) enum Values<'a> {
    F32(&'a [f32]),
    Bf16(&'a [u16]),
    Blocks(Blocks<'a>),
}

impl<'a> Values<'a> {
    /// Number of values.
    #[inline(always)]
    pub(super) fn len(self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::Bf16(values) => values.len(),
            Self::Blocks(values) => values.len(),
        }
    }

    /// `len` values from `start` on.
    #[inline(always)]
    pub(super) fn part(self, start: usize, len: usize) -> Self {
        match self {
            Self::F32(values) => Self::F32(&values[start..start + len]),
            Self::Bf16(values) => Self::Bf16(&values[start..start + len]),
            Self::Blocks(values) => Self::Blocks(values.part(start, len)),
        }
    }

    /// `len` values from `start` on as `f32`: the stored ones, or widened into `scratch` (of at least `len`).
    #[inline(always)]
    pub(super) fn read<'s>(self, start: usize, len: usize, scratch: &'s mut [f32]) -> &'s [f32]
    where
        'a: 's,
    {
        match self {
            Self::F32(values) => &values[start..start + len],
            Self::Bf16(values) => {
                let scratch = &mut scratch[..len];
                widen(scratch, &values[start..start + len]);
                scratch
            }
            Self::Blocks(values) => {
                let scratch = &mut scratch[..len];
                values.unpack(scratch, start);
                scratch
            }
        }
    }
}

/// Numbers to write.
pub(super) enum ValuesMut<'a> {
    F32(&'a mut [f32]),
    Bf16(&'a mut [u16]),
}

impl ValuesMut<'_> {
    /// `len` values from `start` on to be overwritten: those stored, or `scratch[..len]`. What they are at
    /// first is unspecified.
    #[inline(always)]
    pub(super) fn overwrite<'s>(&'s mut self, start: usize, len: usize, scratch: &'s mut [f32]) -> Part<'s> {
        match self {
            Self::F32(values) => Part { values: &mut values[start..start + len], stored: None },
            Self::Bf16(values) => {
                Part { values: &mut scratch[..len], stored: Some(&mut values[start..start + len]) }
            }
        }
    }

    /// `len` values from `start` on to be changed.
    #[inline(always)]
    pub(super) fn update<'s>(&'s mut self, start: usize, len: usize, scratch: &'s mut [f32]) -> Part<'s> {
        let part = self.overwrite(start, len, scratch);
        if let Some(stored) = &part.stored {
            widen(part.values, stored);
        }
        part
    }

    /// Overwrites the values from `start` on with those of `x`.
    #[inline(always)]
    pub(super) fn put(&mut self, start: usize, x: &[f32]) {
        match self {
            Self::F32(values) => values[start..start + x.len()].copy_from_slice(x),
            Self::Bf16(values) => narrow(&mut values[start..start + x.len()], x),
        }
    }
}

/// Numbers to write, by several threads that each write parts of their own. Like a [`Disjoint`], whoever owns
/// it may write all of it.
pub(super) enum Sink<'a> {
    F32(Disjoint<'a, f32>),
    Bf16(Disjoint<'a, u16>),
}

impl<'a> Sink<'a> {
    /// The same numbers for a shorter time.
    pub(super) fn reborrow(&mut self) -> Sink<'_> {
        match self {
            Self::F32(values) => Sink::F32(values.reborrow()),
            Self::Bf16(values) => Sink::Bf16(values.reborrow()),
        }
    }

    /// Number of values.
    #[inline(always)]
    pub(super) fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::Bf16(values) => values.len(),
        }
    }

    /// `len` values from `start` on.
    ///
    /// # Safety
    ///
    /// While the part lives, no other thread touches these values.
    #[inline(always)]
    pub(super) unsafe fn part(&self, start: usize, len: usize) -> ValuesMut<'a> {
        // SAFETY: the caller's promise.
        unsafe {
            match self {
                Self::F32(values) => ValuesMut::F32(values.slice(start, len)),
                Self::Bf16(values) => ValuesMut::Bf16(values.slice(start, len)),
            }
        }
    }

    /// `len` values from `start` on for reading.
    ///
    /// # Safety
    ///
    /// While they live, nobody changes these values.
    #[inline(always)]
    pub(super) unsafe fn values(&self, start: usize, len: usize) -> Values<'a> {
        // SAFETY: the caller's promise.
        unsafe {
            match self {
                Self::F32(values) => Values::F32(values.shared(start, len)),
                Self::Bf16(values) => Values::Bf16(values.shared(start, len)),
            }
        }
    }

    /// Overwrites the values from `start` on with those of `x`.
    ///
    /// # Safety
    ///
    /// No other thread touches these values meanwhile.
    #[inline(always)]
    pub(super) unsafe fn put(&self, start: usize, x: &[f32]) {
        // SAFETY: the caller's promise.
        unsafe { self.part(start, x.len()) }.put(0, x);
    }

    /// Overwrites `len` values from `to` on with those from `from` on.
    ///
    /// # Safety
    ///
    /// The two parts do not overlap; no other thread touches the second, or writes to the first, meanwhile.
    pub(super) unsafe fn copy(&self, from: usize, to: usize, len: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            match self {
                Self::F32(values) => values.slice(to, len).copy_from_slice(values.shared(from, len)),
                Self::Bf16(values) => values.slice(to, len).copy_from_slice(values.shared(from, len)),
            }
        }
    }
}

/// Numbers that are being written; [`store`](Self::store) ends it.
pub(super) struct Part<'a> {
    /// The stored numbers, or scratch for them.
    pub(super) values: &'a mut [f32],
    /// Where the numbers in scratch go.
    stored: Option<&'a mut [u16]>,
}

impl Part<'_> {
    /// Rounds what is in scratch to where it belongs.
    #[inline(always)]
    pub(super) fn store(self) {
        if let Some(stored) = self.stored {
            narrow(stored, self.values);
        }
    }
}
