//! Ranks that are threads of one process with one device, in whose memory they exchange bytes: sums over them are those of
//! the host to the bit.

use crate::emulator;
use kernels::{Backend, Precision};
use kernels_cuda::device::{Address, Device, Link, Piece, Product};
use kernels_cuda::{Cuda, CudaTensor};
use ranks::{Ranks, SumOrder, threads};
use std::sync::{Arc, Barrier, Mutex};

/// Where each rank's bytes are.
struct Meeting {
    barrier: Barrier,
    places: Mutex<Vec<Address>>,
}

impl Meeting {
    fn new(size: usize) -> Self {
        Meeting { barrier: Barrier::new(size), places: Mutex::new(vec![0; size]) }
    }
}

/// The device of one of them.
struct Linked {
    device: Arc<dyn Device>,
    rank: usize,
    size: usize,
    meeting: Arc<Meeting>,
}

impl Linked {
    /// Copies what is at `from` of every rank as `copy` says: what is asked of the device has one order.
    fn meet(&self, from: Address, copy: impl Fn(usize, Address)) {
        self.meeting.places.lock().expect("places")[self.rank] = from;
        self.meeting.barrier.wait();
        let places = self.meeting.places.lock().expect("places").clone();
        places.into_iter().enumerate().for_each(|(rank, place)| copy(rank, place));
        self.meeting.barrier.wait();
    }
}

// SAFETY: places are within allocations of one device, from which nothing is freed before all have met again.
unsafe impl Link for Linked {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    unsafe fn all_to_all(&self, to: Address, from: Address, bytes: usize) {
        let piece = |number: usize| (number * bytes) as Address;
        // SAFETY: the caller's.
        self.meet(from, |rank, place| unsafe {
            self.device.copy(to + piece(rank), place + piece(self.rank), bytes);
        });
    }

    unsafe fn all_gather(&self, to: Address, from: Address, bytes: usize) {
        // SAFETY: the caller's.
        self.meet(from, |rank, place| unsafe {
            self.device.copy(to + (rank * bytes) as Address, place, bytes);
        });
    }

    unsafe fn broadcast(&self, pieces: &[Piece], from: usize) {
        for piece in pieces {
            self.meet(piece.at, |rank, place| {
                if rank == from && self.rank != from {
                    // SAFETY: the caller's.
                    unsafe { self.device.copy(piece.at, place, piece.bytes) };
                }
            });
        }
    }
}

// SAFETY: it is the device's own.
unsafe impl Device for Linked {
    fn describe(&self) -> String {
        self.device.describe()
    }

    fn free_bytes(&self) -> Option<u64> {
        self.device.free_bytes()
    }

    fn allocate(&self, bytes: usize) -> Address {
        self.device.allocate(bytes)
    }

    unsafe fn free(&self, at: Address, bytes: usize) {
        // SAFETY: the caller's, here and below.
        unsafe { self.device.free(at, bytes) };
    }

    unsafe fn zero(&self, at: Address, bytes: usize) {
        // SAFETY: as above.
        unsafe { self.device.zero(at, bytes) };
    }

    unsafe fn upload(&self, to: Address, bytes: &[u8]) {
        // SAFETY: as above.
        unsafe { self.device.upload(to, bytes) };
    }

    unsafe fn download(&self, into: &mut [u8], from: Address) {
        // SAFETY: as above.
        unsafe { self.device.download(into, from) };
    }

    unsafe fn copy(&self, to: Address, from: Address, bytes: usize) {
        // SAFETY: as above.
        unsafe { self.device.copy(to, from, bytes) };
    }

    unsafe fn launch(
        &self,
        kernel: &'static str,
        grid: [u32; 3],
        threads: u32,
        shared: u32,
        arguments: &[&[u8]],
    ) {
        // SAFETY: as above.
        unsafe { self.device.launch(kernel, grid, threads, shared, arguments) };
    }

    unsafe fn product(&self, product: &Product) -> bool {
        // SAFETY: as above.
        unsafe { self.device.product(product) }
    }

    fn synchronize(&self) {
        self.device.synchronize();
    }

    fn link(&self) -> Option<&dyn Link> {
        Some(self)
    }
}

/// What `work` returns as each of so many ranks, with a backend each.
fn linked<R: Send>(
    size: usize,
    precision: Precision,
    work: impl Fn(&Ranks, &mut Cuda) -> R + Sync,
) -> Vec<R> {
    let (device, meeting) = (emulator::device().0, Arc::new(Meeting::new(size)));
    threads(size, |ranks| {
        let (device, meeting) = (device.clone(), meeting.clone());
        let linked = Linked { device, rank: ranks.rank(), size, meeting };
        work(&ranks, &mut Cuda::new(Arc::new(linked), precision, 1))
    })
}

/// Values of very different sizes, so that another order of additions is another sum; and −0, which adding 0 would not
/// leave.
fn value(rank: usize, at: usize) -> f32 {
    if at.is_multiple_of(7) {
        return -0.0;
    }
    let step = (rank * 31 + at * 7919) % 101;
    (step as f32 - 50.0) * 10f32.powi(3 * ((rank + at) as i32 % 5) - 6)
}

/// Tensors of these lengths: those of an arena without the second, which is not touched; and one that is alone.
fn tensors(b: &mut Cuda, lens: [usize; 4]) -> ([CudaTensor; 3], CudaTensor) {
    let [a, between, c, alone] = lens;
    let mut arena = b.arena(&[a, between, c]).into_iter();
    let mut next = || arena.next().expect("as many as were asked for");
    let (a, untouched, c) = (next(), next(), next());
    ([a, c, b.zeros(alone)], untouched)
}

fn values(b: &mut Cuda, tensors: &[CudaTensor]) -> Vec<u32> {
    let of = |b: &mut Cuda, x: &CudaTensor| {
        let mut values = vec![0.0; b.len(x)];
        b.download(&mut values, x);
        values
    };
    tensors.iter().flat_map(|x| of(b, x)).map(f32::to_bits).collect()
}

fn fill(b: &mut Cuda, tensors: &mut [CudaTensor], rank: usize) -> Vec<f32> {
    let mut all = Vec::new();
    for x in tensors {
        let own: Vec<f32> = (all.len()..all.len() + b.len(x)).map(|at| value(rank, at)).collect();
        b.upload(x, &own);
        all.extend(own);
    }
    all
}

/// Sizes that are no multiples of anything, none, and more than goes at once.
const LENS: [[usize; 4]; 3] = [[37, 5, 1, 3], [0, 0, 64, 1000], [(4 << 20) + 1, 64, 300, 77]];

pub(crate) fn sums_are_those_of_the_host() -> Result<(), String> {
    for (size, filled) in
        [(1, 1), (2, 0b11), (2, 0b10), (4, 0b1111), (4, 0b0110), (4, 0b1000), (8, 0b1011_0111)]
    {
        for lens in &LENS[..if size == 4 && !emulator::sanitized::is_here() { 3 } else { 2 }] {
            let outcomes = linked(size, Precision::F32, |ranks, b| {
                let present = ranks.present(filled >> ranks.rank() & 1 == 1);
                let (mut tensors, untouched) = tensors(b, *lens);
                let mut own = fill(b, &mut tensors, ranks.rank());
                let order = SumOrder::of(&present).expect("somebody has something");
                let mut all: Vec<&mut CudaTensor> = tensors.iter_mut().collect();
                assert!(b.add_up_ranks(&mut all, &order.additions, order.sum), "it is linked");
                ranks.add_up(&mut own, &present);
                let expected: Vec<u32> = own.into_iter().map(f32::to_bits).collect();
                assert!(values(b, &[untouched]).iter().all(|bits| *bits == 0), "it is nobody's");
                values(b, &tensors) == expected
            });
            assert!(outcomes.into_iter().all(|alike| alike), "{size} ranks, {filled:b} have some, {lens:?}");
        }
    }
    Ok(())
}

/// Products read a copy of a weight in bf16, which has to be made anew where others have updated it.
pub(crate) fn what_one_sends_the_others_have() -> Result<(), String> {
    for precision in [Precision::F32, Precision::Bf16] {
        let outcomes = linked(4, precision, |_, b| {
            let own = b.device().link().map(Link::rank).expect("a link");
            let (mut tensors, untouched) = tensors(b, [16, 3, 70, 9]);
            fill(b, &mut tensors, own);
            let shape = kernels::LinearShape { rows: 1, d_in: 16, d_out: 1 };
            let (mut x, mut out) = (b.activation(16), b.zeros(1));
            b.upload(&mut x, &[0.5; 16]);
            b.linear_forward(&mut out, &x, &tensors[0], None, shape);
            let before = values(b, std::slice::from_ref(&tensors[0]));
            assert!(b.send_to_ranks(&mut tensors.iter_mut().collect::<Vec<_>>(), 2), "it is linked");
            b.linear_forward(&mut out, &x, &tensors[0], None, shape);
            assert!(values(b, &[untouched]).iter().all(|bits| *bits == 0), "it is nobody's");
            (values(b, &tensors), values(b, &[out]), before)
        });
        assert_ne!(outcomes[0].2, outcomes[2].2);
        let (sent, product) = (&outcomes[2].0, &outcomes[2].1);
        assert!(outcomes.iter().all(|(values, out, _)| values == sent && out == product), "{precision:?}");
    }
    Ok(())
}

/// Without a link the host has to do it.
pub(crate) fn who_is_alone_exchanges_nothing() -> Result<(), String> {
    let mut b = Cuda::new(emulator::device().0, Precision::F32, 1);
    let mut x = b.zeros(4);
    assert!(!b.add_up_ranks(&mut [&mut x], &[], 0) && !b.send_to_ranks(&mut [&mut x], 0));
    Ok(())
}
