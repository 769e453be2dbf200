//! What waits to be handed to the GPU, and how it is: one operation after another, or as a graph.

use super::{Driver, check, describe};
use crate::pool::Pool;
use crate::queue::{self, Graphs, How, Operation, Sequence};
use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys;
use std::sync::{MutexGuard, PoisonError};

/// Has to be `off` for sequences of operations that come again not to become graphs.
const GRAPHS: &str = "MYNAH_CUDA_GRAPHS";

/// What waits to be handed over, and what the next operations take.
pub(super) struct Work {
    pub(super) sequence: Sequence,
    graphs: Graphs<Graph>,
    becomes_graphs: bool,
    pub(super) staging: Staging,
    pub(super) pool: Pool,
}

/// The driver's handle of a graph.
#[derive(Clone, Copy)]
struct Graph(sys::CUgraphExec);

/// Page-locked memory, filled from its beginning to its end; then all copies are waited for.
pub(super) struct Staging {
    pub(super) memory: *mut u8,
    pub(super) used: usize,
}

impl Work {
    /// Nothing yet, with memory that copies go from.
    pub(super) fn new(staging: Staging) -> Self {
        Work {
            sequence: Sequence::default(),
            graphs: Graphs::default(),
            becomes_graphs: std::env::var_os(GRAPHS).is_none_or(|value| value != "off"),
            staging,
            pool: Pool::default(),
        }
    }
}

impl Driver {
    pub(super) fn work(&self) -> MutexGuard<'_, Work> {
        // Memory is freed after a failure as well.
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has an operation wait for others, a while.
    pub(super) fn enqueue(&self, work: &mut Work, operation: Operation) {
        work.sequence.push(operation);
        if work.sequence.len() >= queue::MOST || self.is_measured() {
            self.hand_over(work);
        }
    }

    fn is_measured(&self) -> bool {
        self.timeline.lock().expect("nobody panics with it").is_some()
    }

    /// Hands over all that waits.
    pub(super) fn hand_over(&self, work: &mut Work) {
        let Work { sequence, graphs, becomes_graphs, .. } = work;
        if sequence.len() == 0 {
            return;
        }
        self.enter();
        let graph = match graphs.how(sequence) {
            How::As(graph) if *becomes_graphs => Some(graph),
            How::Record if *becomes_graphs => {
                let graph = self.record(sequence);
                if let Some(Graph(gone)) = graphs.keep(sequence.clone(), graph) {
                    // SAFETY: nobody has it any more; the driver waits for what it still does.
                    check("a graph", unsafe { result::graph::exec_destroy(gone) });
                }
                graph
            }
            _ => None,
        };
        match graph {
            // SAFETY: what it reads and writes is there, as its operations said that have just been asked for.
            Some(Graph(graph)) => check("a graph", unsafe { result::graph::launch(graph, self.stream) }),
            None => {
                // SAFETY: whoever asked for an operation has seen to what it reads and writes.
                let ran = sequence.operations().iter().try_for_each(|one| unsafe { self.run(sequence, one) });
                ran.unwrap_or_else(|e| panic!("the GPU failed in {e}"));
            }
        }
        sequence.clear();
    }

    /// A graph of a sequence, if the driver makes one; nothing is done yet.
    fn record(&self, sequence: &Sequence) -> Option<Graph> {
        use sys::CUstreamCaptureMode_enum::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: the stream lives as long as the program, and what is recorded is not run.
        unsafe {
            result::stream::begin_capture(self.stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL).ok()?;
            let ran = sequence.operations().iter().try_for_each(|one| self.run(sequence, one));
            let graph = result::stream::end_capture(self.stream).ok().filter(|graph| !graph.is_null())?;
            let mut made = std::ptr::null_mut();
            let done = ran.is_ok() && sys::cuGraphInstantiateWithFlags(&mut made, graph, 0).result().is_ok();
            check("a graph", result::graph::destroy(graph));
            done.then_some(Graph(made))
        }
    }

    /// Enqueues an operation on the GPU.
    ///
    /// # Errors
    /// What failed, and why.
    ///
    /// # Safety
    /// What it reads and writes is within allocations.
    unsafe fn run(&self, sequence: &Sequence, operation: &Operation) -> Result<(), String> {
        let failed = |what: &str| {
            let what = what.to_owned();
            move |e: DriverError| format!("{what}: {}", describe(e))
        };
        // SAFETY: the caller's, in all of them; what is uploaded is in memory of the driver's own.
        unsafe {
            match *operation {
                Operation::Launch { kernel, function, grid: [x, y, z], threads, shared, first, count } => {
                    let mut arguments = sequence.addresses(first, count);
                    let (grid, threads) = ((x, y, z), (threads, 1, 1));
                    let function = function as sys::CUfunction;
                    let launch = || {
                        result::launch_kernel(function, grid, threads, shared, self.stream, &mut arguments)
                    };
                    self.timed(|| kernel.into(), launch).map_err(failed(kernel))
                }
                Operation::Product(product) => {
                    let product = product.with_alpha(f32::from_bits(product.alpha));
                    let name = || {
                        let ([m, n, k], accumulated) =
                            (product.sizes, if product.add { " added" } else { "" });
                        format!("product {m} x {n} x {k}{accumulated}")
                    };
                    let run = || self.products.lock().expect("nobody panics with it").run(&product);
                    self.timed(name, run)
                }
                Operation::Zero { at, bytes } => {
                    result::memset_d8_async(at, 0, bytes, self.stream).map_err(failed("zero"))
                }
                Operation::Upload { to, from, bytes } => {
                    let from = std::slice::from_raw_parts(from as *const u8, bytes);
                    result::memcpy_htod_async(to, from, self.stream).map_err(failed("upload"))
                }
                Operation::Copy { to, from, bytes } => {
                    result::memcpy_dtod_async(to, from, bytes, self.stream).map_err(failed("copy"))
                }
            }
        }
    }

    /// Hands over what waits, and waits for all of it.
    pub(super) fn wait(&self, work: &mut Work) {
        self.hand_over(work);
        self.enter();
        let failed = "an operation before this one";
        match self.pending() {
            // SAFETY: the stream lives as long as the program.
            Some(joined) => joined.wait(|| match unsafe { sys::cuStreamQuery(self.stream) } {
                sys::cudaError_enum::CUDA_ERROR_NOT_READY => false,
                code => check(failed, code.result().map(|()| true)),
            }),
            // SAFETY: as above.
            None => check(failed, unsafe { result::stream::synchronize(self.stream) }),
        }
        // Copies go from the same places then as the last time.
        work.staging.used = 0;
    }
}
