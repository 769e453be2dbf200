//! What an operation asks of a GPU.

/// An address in a device's memory.
pub type Address = u64;

/// Memory, launches and products of one GPU, in the order in which they are asked for: what one writes, the
/// next reads.
///
/// # Safety
///
/// Memory that was allocated is at its address until it is freed and the operations before that are done;
/// copies are complete before a later operation reads what they wrote.
pub unsafe trait Device: Send + Sync {
    /// One line for people: the card and its memory.
    fn describe(&self) -> String;

    /// Bytes that may still be had, where it tells.
    fn free_bytes(&self) -> Option<u64>;

    /// Memory of some size above 0, whose contents are unspecified, on a boundary of 256 bytes.
    ///
    /// # Panics
    /// If there is not so much.
    fn allocate(&self, bytes: usize) -> Address;

    /// # Safety
    /// It was allocated with this size and is not used by later operations.
    unsafe fn free(&self, at: Address, bytes: usize);

    /// # Safety
    /// The bytes are within an allocation.
    unsafe fn zero(&self, at: Address, bytes: usize);

    /// Host → device. The slice may change afterwards.
    ///
    /// # Safety
    /// As many bytes are within an allocation.
    unsafe fn upload(&self, to: Address, bytes: &[u8]);

    /// Device → host: waits for the operations before it.
    ///
    /// # Safety
    /// As many bytes are within an allocation.
    unsafe fn download(&self, into: &mut [u8], from: Address);

    /// # Safety
    /// Both are within allocations and do not overlap.
    unsafe fn copy(&self, to: Address, from: Address, bytes: usize);

    /// Runs a kernel of `grid` blocks of `threads` threads with `shared` bytes of shared memory besides its
    /// own. An argument is given by its bytes, which are where a value of its type may be.
    ///
    /// # Safety
    /// The arguments are those of the kernel, and what it reads and writes is within allocations.
    unsafe fn launch(
        &self,
        kernel: &'static str,
        grid: [u32; 3],
        threads: u32,
        shared: u32,
        arguments: &[&[u8]],
    );

    /// Computes a product. Returns whether it did: not every one has an algorithm.
    ///
    /// # Safety
    /// What it reads and writes is within allocations.
    unsafe fn product(&self, product: &Product) -> bool;

    /// What comes next differs from time to time, and what came before may come again as it was.
    fn part(&self) {}

    /// Waits for all operations.
    fn synchronize(&self);

    /// The devices of other processes that it exchanges bytes with, if there are any.
    fn link(&self) -> Option<&dyn Link> {
        None
    }

    /// From here on, how long kernels and products take is measured.
    fn measure(&self) {}

    /// Ends that: what was measured.
    fn measured(&self) -> Vec<Measured> {
        Vec::new()
    }
}

/// Moves bytes between the memory of devices, one of each of several processes, in the order in which each
/// device is asked for operations. All processes make the same calls, with lengths that agree; who waits for another
/// one is told where the host waits for the device. Nothing is added up.
///
/// # Safety
///
/// Copies are complete before a later operation of the device reads what they wrote.
pub unsafe trait Link {
    /// Which of the processes this is, from 0.
    fn rank(&self) -> usize;
    /// How many there are.
    fn size(&self) -> usize;

    /// From `from` on there is a piece of so many bytes for each process, in order; as many pieces, one of each,
    /// arrive from `to` on.
    ///
    /// # Safety
    /// So many pieces are within allocations at both, which do not overlap.
    unsafe fn all_to_all(&self, to: Address, from: Address, bytes: usize);

    /// The bytes at `from` of every process, in order, arrive from `to` on.
    ///
    /// # Safety
    /// They are within an allocation, and `to` has room for a piece of each; they do not overlap.
    unsafe fn all_gather(&self, to: Address, from: Address, bytes: usize);

    /// The pieces become those of the process `from`.
    ///
    /// # Safety
    /// They are within allocations.
    unsafe fn broadcast(&self, pieces: &[Piece], from: usize);
}

/// Bytes in a device's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Where they begin.
    pub at: Address,
    /// How many.
    pub bytes: usize,
}

/// How often a kernel or a product of some size was run, and how long that took together.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// The kernel's name, or the product's sizes.
    pub name: String,
    /// How often.
    pub count: usize,
    /// Seconds on the device.
    pub secs: f64,
}

/// `out[i·out_row + j] = alpha · Σₖ a[i·a_row + k·a_term] · b[j·b_row + k·b_term]`, added to what is there
/// with `add`.
///
/// Of each factor's two steps at least one is 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Product<A = f32> {
    /// Where results go, and whether they are bfloat16.
    pub out: (Address, bool),
    /// From a row of results to the next.
    pub out_row: usize,
    /// The left factor.
    pub a: Factor,
    /// The right factor.
    pub b: Factor,
    /// Whether the factors are bfloat16.
    pub bf16: bool,
    /// Rows and columns of the result, terms of each sum.
    pub sizes: [usize; 3],
    /// What becomes of the sums.
    pub then: Then,
    /// Factor on the sums.
    pub alpha: A,
    /// Whether it is added to what is there.
    pub add: bool,
}

impl<A> Product<A> {
    /// The same with another factor, or another form of it.
    pub fn with_alpha<B>(self, alpha: B) -> Product<B> {
        let Product { out, out_row, a, b, bf16, sizes, then, add, .. } = self;
        Product { out, out_row, a, b, bf16, sizes, then, alpha, add }
    }
}

/// What becomes of the sums of a [`Product`] of bfloat16 before they are stored, where that can be had; rows
/// of `aux` are as those of the result. Vectors and `aux` are bfloat16.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Then {
    /// Nothing.
    Nothing,
    /// A value for each column is added.
    Bias(Address),
    /// That, they go to `aux`, and their GELU is the result.
    BiasGelu {
        /// The vector, or 0.
        bias: Address,
        /// Where what the GELU is of goes.
        aux: Address,
    },
    /// They are multiplied by the slope of the GELU at `aux`.
    GeluSlope {
        /// Where the GELU's input is.
        aux: Address,
    },
}

/// A factor of a [`Product`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Factor {
    /// Where its values begin.
    pub at: Address,
    /// From a row (or a column of the result) to the next.
    pub row: usize,
    /// From a term to the next.
    pub term: usize,
}
