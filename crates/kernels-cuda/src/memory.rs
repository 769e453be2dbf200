//! Tensors and lists in a GPU's memory.

use crate::device::{Address, Device};
use std::cell::{OnceCell, RefCell};
use std::sync::Arc;

/// Boundaries of tensors in an arena, in bytes: those of allocations.
pub(crate) const ALIGNMENT: usize = 256;

/// Bytes that are freed with it.
pub(crate) struct Buffer {
    device: Arc<dyn Device>,
    at: Address,
    bytes: usize,
}

impl Buffer {
    /// Memory with unspecified contents.
    pub(crate) fn new(device: &Arc<dyn Device>, bytes: usize) -> Self {
        let at = if bytes == 0 { 0 } else { device.allocate(bytes) };
        Buffer { device: device.clone(), at, bytes }
    }

    pub(crate) fn zeroed(device: &Arc<dyn Device>, bytes: usize) -> Self {
        let buffer = Self::new(device, bytes);
        if bytes > 0 {
            // SAFETY: it was just allocated with this size.
            unsafe { device.zero(buffer.at, bytes) };
        }
        buffer
    }

    /// A copy of the host's values.
    pub(crate) fn of<T: Plain>(device: &Arc<dyn Device>, values: &[T]) -> Self {
        let bytes = bytes_of(values);
        let buffer = Self::new(device, bytes.len());
        if !bytes.is_empty() {
            // SAFETY: it was just allocated with this size.
            unsafe { device.upload(buffer.at, bytes) };
        }
        buffer
    }

    pub(crate) fn at(&self) -> Address {
        self.at
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if self.bytes > 0 {
            // SAFETY: it was allocated with this size, and nobody has its address any more.
            unsafe { self.device.free(self.at, self.bytes) };
        }
    }
}

/// Numbers without padding, of which any bytes are some.
///
/// # Safety
/// They are.
pub(crate) unsafe trait Plain: Copy {}
// SAFETY: primitive numbers.
unsafe impl Plain for u32 {}
// SAFETY: as above.
unsafe impl Plain for i32 {}
// SAFETY: as above.
unsafe impl Plain for u64 {}
// SAFETY: as above.
unsafe impl Plain for f32 {}
// SAFETY: as above.
unsafe impl Plain for f64 {}

pub(crate) fn bytes_of<T: Plain>(values: &[T]) -> &[u8] {
    // SAFETY: they have no padding.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values)) }
}

pub(crate) fn bytes_of_mut<T: Plain>(values: &mut [T]) -> &mut [u8] {
    // SAFETY: they have no padding, and any bytes are such values.
    unsafe { std::slice::from_raw_parts_mut(values.as_mut_ptr().cast(), size_of_val(values)) }
}

/// An array of numbers: 32-bit floats, or bfloat16.
pub struct CudaTensor {
    memory: Arc<Buffer>,
    at: Address,
    len: usize,
    capacity: usize,
    bf16: bool,
    twin: RefCell<Option<Twin>>,
}

/// The copy in bfloat16 of a tensor that is kept exactly, which products read.
pub(crate) struct Twin {
    pub(crate) buffer: Buffer,
    /// Whether it has what the tensor has.
    pub(crate) fresh: bool,
}

impl CudaTensor {
    pub(crate) fn new(device: &Arc<dyn Device>, len: usize, bf16: bool) -> Self {
        let memory = Arc::new(Buffer::zeroed(device, len * value_bytes(bf16)));
        let at = memory.at();
        CudaTensor { memory, at, len, capacity: len, bf16, twin: RefCell::default() }
    }

    /// Zeros that are kept exactly, in one piece of memory.
    pub(crate) fn arena(device: &Arc<dyn Device>, lens: &[usize]) -> Vec<Self> {
        let bytes = |len: &usize| (len * size_of::<f32>()).next_multiple_of(ALIGNMENT);
        let memory = Arc::new(Buffer::zeroed(device, lens.iter().map(bytes).sum()));
        let mut at = memory.at();
        let tensor = |len: &usize| {
            let here = at;
            at += bytes(len) as Address;
            CudaTensor {
                memory: memory.clone(),
                at: here,
                len: *len,
                capacity: *len,
                bf16: false,
                twin: RefCell::default(),
            }
        };
        lens.iter().map(tensor).collect()
    }

    /// Another handle of the same values, which are only read from then on. What products read of it is made anew.
    pub(crate) fn share(&self) -> Self {
        let Self { memory, at, len, bf16, .. } = self;
        CudaTensor {
            memory: memory.clone(),
            at: *at,
            len: *len,
            capacity: *len,
            bf16: *bf16,
            twin: RefCell::default(),
        }
    }

    /// Changes the length; contents are lost, memory is kept when it shrinks.
    pub(crate) fn resize(&mut self, device: &Arc<dyn Device>, len: usize) {
        *self.twin.get_mut() = None;
        if len > self.capacity {
            // First the old memory goes, so that there is room.
            *self = CudaTensor::new(device, 0, self.bf16);
            *self = CudaTensor::new(device, len, self.bf16);
        }
        self.len = len;
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Whether values are bfloat16.
    pub(crate) fn bf16(&self) -> bool {
        self.bf16
    }

    /// Where the values are, to be read.
    pub(crate) fn at(&self) -> Address {
        self.at
    }

    /// Where the values are, to be written: its twin is out of date.
    pub(crate) fn at_mut(&mut self) -> Address {
        if let Some(twin) = self.twin.get_mut() {
            twin.fresh = false;
        }
        self.at
    }

    pub(crate) fn twin(&self) -> &RefCell<Option<Twin>> {
        &self.twin
    }

    /// The bytes of the values.
    pub(crate) fn bytes(&self) -> usize {
        self.len * value_bytes(self.bf16)
    }

    /// Whether both are in one piece of memory.
    pub(crate) fn is_beside(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.memory, &other.memory)
    }

    /// Where the next tensor of the arena would begin, if there is one.
    pub(crate) fn end(&self) -> Address {
        self.at + (self.bytes().next_multiple_of(ALIGNMENT) as Address).min(self.bytes_to_end())
    }

    fn bytes_to_end(&self) -> Address {
        self.memory.at() + self.memory.bytes() as Address - self.at
    }
}

fn value_bytes(bf16: bool) -> usize {
    if bf16 { 2 } else { 4 }
}

/// A list of whole numbers, on the GPU and on the host, which decides how operations go through them.
pub struct CudaIds {
    host: Vec<u32>,
    buffer: Buffer,
    /// What operations make of the list, until it changes.
    pub(crate) tiles: [OnceCell<(Buffer, usize)>; 2],
    pub(crate) sorted: OnceCell<Sorted>,
    /// Of spans of a cache: where each row goes.
    pub(crate) places: OnceCell<Buffer>,
}

/// Which rows look the same id up.
pub(crate) struct Sorted {
    /// Ids, where the rows of each begin and one end, rows.
    pub(crate) buffer: Buffer,
    pub(crate) ids: usize,
}

impl CudaIds {
    pub(crate) fn new(device: &Arc<dyn Device>, values: &[u32]) -> Self {
        CudaIds {
            host: values.to_vec(),
            buffer: Buffer::of(device, values),
            tiles: Default::default(),
            sorted: OnceCell::new(),
            places: OnceCell::new(),
        }
    }

    /// Takes other values.
    pub(crate) fn set(&mut self, device: &Arc<dyn Device>, values: &[u32]) {
        let bytes = bytes_of(values);
        if bytes.len() > self.buffer.bytes() {
            self.buffer = Buffer::new(device, bytes.len());
        }
        if !bytes.is_empty() {
            // SAFETY: there is room for them.
            unsafe { device.upload(self.buffer.at(), bytes) };
        }
        values.clone_into(&mut self.host);
        self.tiles = Default::default();
        self.sorted.take();
        self.places.take();
    }

    pub(crate) fn host(&self) -> &[u32] {
        &self.host
    }

    pub(crate) fn at(&self) -> Address {
        self.buffer.at()
    }
}

/// A list of `f64`.
pub struct CudaScalars {
    buffer: Buffer,
    len: usize,
}

impl CudaScalars {
    pub(crate) fn new(device: &Arc<dyn Device>) -> Self {
        CudaScalars { buffer: Buffer::new(device, 0), len: 0 }
    }

    /// Takes other values.
    pub(crate) fn set(&mut self, device: &Arc<dyn Device>, values: &[f64]) {
        self.len = 0;
        let at = self.append(device, values.len());
        if !values.is_empty() {
            // SAFETY: there is room for them.
            unsafe { device.upload(at, bytes_of(values)) };
        }
    }

    /// Makes room for `more` values at the end: where they go.
    pub(crate) fn append(&mut self, device: &Arc<dyn Device>, more: usize) -> Address {
        let (old, len) = (self.len * size_of::<f64>(), self.len + more);
        if len * size_of::<f64>() > self.buffer.bytes() {
            let larger = Buffer::new(device, len.next_power_of_two() * size_of::<f64>());
            if old > 0 {
                // SAFETY: the old values are there, and the new memory has room for them.
                unsafe { device.copy(larger.at(), self.buffer.at(), old) };
            }
            self.buffer = larger;
        }
        self.len = len;
        self.buffer.at() + old as Address
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn at(&self) -> Address {
        self.buffer.at()
    }
}
