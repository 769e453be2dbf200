//! A GPU through NVIDIA's driver and cuBLASLt, both opened at run time.

mod work;

use crate::compiled;
use crate::device::{Address, Device, Link, Measured, Product};
use crate::nccl::{Joined, Nccl, Watch};
use crate::pool::Pool;
use crate::products::Lt;
use crate::queue::Operation;
use cudarc::driver::result::{self, DriverError, stream::StreamKind};
use cudarc::driver::sys;
use std::collections::HashMap;
use std::ffi::CString;
use std::fmt;
use std::sync::{Mutex, OnceLock};
use work::{Staging, Work};

/// Host memory from which copies to the card go, so that nobody waits for them.
const STAGING_BYTES: usize = 32 << 20;
/// Where a copy in it begins.
const STAGING_ALIGNMENT: usize = 256;
/// More shared memory than this is asked for before a launch.
const USUAL_SHARED_BYTES: u32 = 48 << 10;
/// The oldest chips whose instructions the kernels use: Ampere.
const OLDEST: (i32, i32) = (8, 0);

/// Why there is no GPU to compute on.
#[derive(Debug)]
pub struct Missing(pub(crate) String);

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Missing {}

/// A GPU.
pub struct Driver {
    context: sys::CUcontext,
    stream: sys::CUstream,
    functions: Mutex<HashMap<&'static str, Function>>,
    module: sys::CUmodule,
    products: Mutex<Lt>,
    work: Mutex<Work>,
    joined: OnceLock<Joined>,
    /// What is measured, if anything is.
    timeline: Mutex<Option<Timeline>>,
    description: String,
}

/// Names, and events before and after.
type Timeline = Vec<(String, [sys::CUevent; 2])>;

#[derive(Clone, Copy)]
struct Function {
    handle: sys::CUfunction,
    shared: u32,
}

// SAFETY: the driver's handles may be used from any thread once the context is current there, which every
// call sees to; what changes is behind mutexes.
unsafe impl Send for Driver {}
// SAFETY: as above.
unsafe impl Sync for Driver {}

impl Driver {
    /// Opens the GPU of this number and loads the kernels.
    ///
    /// # Errors
    ///
    /// A library is missing, the driver is too old, there is no such GPU, or it is too old.
    pub fn open(ordinal: usize) -> Result<Self, Missing> {
        libraries()?;
        let failed = |what: &str| {
            let what = what.to_string();
            move |e: DriverError| Missing(format!("{what}: {}", describe(e)))
        };
        result::init().map_err(failed("the NVIDIA driver does not start; `nvidia-smi` says more"))?;
        let count = result::device::get_count().map_err(failed("cannot count the GPUs"))?;
        let exists = i32::try_from(ordinal).is_ok_and(|ordinal| ordinal < count);
        if !exists {
            return Err(Missing(format!(
                "there is no GPU {ordinal}: the NVIDIA driver sees {count}; `nvidia-smi -L` lists them, CUDA_VISIBLE_DEVICES may hide some"
            )));
        }
        let device = result::device::get(ordinal as i32).map_err(failed("cannot open the GPU"))?;
        let attribute = |attribute| {
            // SAFETY: the device was just opened.
            unsafe { result::device::get_attribute(device, attribute) }
                .map_err(failed("cannot ask the GPU what it is"))
        };
        use sys::CUdevice_attribute_enum::{
            CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR,
        };
        let chip = (
            attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
            attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
        );
        let name = result::device::get_name(device).map_err(failed("cannot ask the GPU's name"))?;
        if chip < OLDEST {
            return Err(Missing(format!(
                "{name} has compute capability {}.{}, and the kernels need 8.0 or newer (Ampere): use --device cpu",
                chip.0, chip.1
            )));
        }
        // SAFETY: the device exists; the context is kept until the program ends, and so is what belongs to
        // it.
        unsafe {
            let context = result::primary_ctx::retain(device).map_err(failed("cannot use the GPU"))?;
            result::ctx::set_current(context).map_err(failed("cannot use the GPU"))?;
            keep_freed_memory(device).map_err(failed("the GPU's memory cannot be pooled"))?;
            let bytes = result::device::total_mem(device).map_err(failed("cannot ask the GPU's memory"))?;
            let stream =
                result::stream::create(StreamKind::NonBlocking).map_err(failed("cannot use the GPU"))?;
            let module =
                load(chip).map_err(failed("the driver does not take the kernels (a newer driver may)"))?;
            let memory =
                result::malloc_host(STAGING_BYTES, 0).map_err(failed("cannot lock memory for copies"))?;
            let products = Lt::new(stream).map_err(Missing)?;
            Ok(Driver {
                context,
                stream,
                module,
                functions: Mutex::default(),
                products: Mutex::new(products),
                work: Mutex::new(Work::new(Staging { memory: memory.cast(), used: 0 })),
                joined: OnceLock::new(),
                timeline: Mutex::default(),
                description: format!("{name}, {} GiB", bytes >> 30),
            })
        }
    }

    /// Connects it with the GPUs of the other processes, all of which do so with the `id` that one of them made:
    /// from then on it has a [`link`](Device::link). This process is the rank `rank` of `size`. What waits for the
    /// others, here and later, is done by `watch`.
    ///
    /// # Errors
    /// NCCL says what.
    pub fn join(&self, nccl: Nccl, id: &[u8], rank: usize, size: usize, watch: Watch) -> Result<(), Missing> {
        self.enter();
        let joined = Joined::new(nccl, id, (rank, size), self.stream, watch)?;
        self.joined.get_or_init(|| joined);
        Ok(())
    }

    /// The other processes, where what was asked of the GPU may be waiting for them.
    fn pending(&self) -> Option<&Joined> {
        self.joined.get().filter(|joined| joined.is_pending())
    }

    /// The other processes.
    pub(crate) fn joined(&self) -> &Joined {
        self.joined.get().expect("it has joined them")
    }

    /// The other processes, to ask for an exchange that comes after all that was asked before.
    pub(crate) fn exchange(&self) -> &Joined {
        self.hand_over(&mut self.work());
        self.enter();
        self.joined()
    }

    /// Makes the context current in this thread.
    fn enter(&self) {
        // SAFETY: the context lives as long as the program.
        check("the GPU is not to be had in this thread", unsafe { result::ctx::set_current(self.context) });
    }

    /// Runs something that is enqueued, between events where time is measured.
    fn timed<R>(&self, name: impl FnOnce() -> String, run: impl FnOnce() -> R) -> R {
        let mut timeline = self.timeline.lock().expect("nobody panics with it");
        let Some(timeline) = timeline.as_mut() else { return run() };
        let now = || {
            let event = check("a measurement", result::event::create(sys::CUevent_flags::CU_EVENT_DEFAULT));
            // SAFETY: both exist.
            check("a measurement", unsafe { result::event::record(event, self.stream) });
            event
        };
        let before = now();
        let result = run();
        timeline.push((name(), [before, now()]));
        result
    }

    fn function(&self, kernel: &'static str, shared: u32) -> sys::CUfunction {
        let mut functions = self.functions.lock().expect("nobody panics with it");
        let function = functions.entry(kernel).or_insert_with(|| {
            let name = CString::new(kernel).expect("a name without zeros");
            self.enter();
            // SAFETY: the module is loaded.
            let handle = unsafe { result::module::get_function(self.module, name) };
            Function { handle: check(kernel, handle), shared: USUAL_SHARED_BYTES }
        });
        if shared > function.shared {
            self.enter();
            use sys::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            // SAFETY: the function is loaded.
            check(kernel, unsafe {
                result::function::set_function_attribute(
                    function.handle,
                    CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
                    shared as i32,
                )
            });
            function.shared = shared;
        }
        function.handle
    }
}

// SAFETY: one stream keeps the order; memory is freed in it too.
unsafe impl Device for Driver {
    fn describe(&self) -> String {
        self.description.clone()
    }

    fn free_bytes(&self) -> Option<u64> {
        self.enter();
        result::mem_get_info().ok().map(|(free, _)| free as u64 + self.work().pool.bytes())
    }

    fn allocate(&self, bytes: usize) -> Address {
        let mut work = self.work();
        if let Some(at) = work.pool.take(bytes) {
            return at;
        }
        self.enter();
        // SAFETY: the stream lives as long as the program.
        let ask = || unsafe { result::malloc_async(self.stream, Pool::size(bytes)) };
        let asked = ask().or_else(|_| {
            self.hand_over(&mut work);
            for at in work.pool.drain() {
                // SAFETY: it was allocated, nobody has its address, and what was done there is handed over.
                check("free", unsafe { result::free_async(at, self.stream) });
            }
            ask()
        });
        asked.unwrap_or_else(|e| {
            let (free, total) = result::mem_get_info().unwrap_or_default();
            panic!(
                "the GPU has no {bytes} bytes more ({}): {free} of {total} are free; with --set recompute=true or a smaller \
                 --set micro_batch_tokens=N training takes less, or take a smaller model",
                describe(e)
            )
        })
    }

    unsafe fn free(&self, at: Address, bytes: usize) {
        self.work().pool.give(at, bytes);
    }

    unsafe fn zero(&self, at: Address, bytes: usize) {
        self.enqueue(&mut self.work(), Operation::Zero { at, bytes });
    }

    unsafe fn upload(&self, to: Address, bytes: &[u8]) {
        let mut work = self.work();
        // A step goes on with an upload: who waits in vain for an exchange before it has to notice.
        if self.pending().is_some() {
            self.wait(&mut work);
        }
        for (i, part) in bytes.chunks(STAGING_BYTES).enumerate() {
            let mut from = work.staging.used.next_multiple_of(STAGING_ALIGNMENT);
            if from + part.len() > STAGING_BYTES {
                self.wait(&mut work);
                from = 0;
            }
            work.staging.used = from + part.len();
            // SAFETY: the part has room in the staging memory, and no copy from there is under way.
            let from = unsafe {
                let from = work.staging.memory.add(from);
                from.copy_from_nonoverlapping(part.as_ptr(), part.len());
                from as usize
            };
            let (to, bytes) = (to + (i * STAGING_BYTES) as u64, part.len());
            self.enqueue(&mut work, Operation::Upload { to, from, bytes });
        }
    }

    unsafe fn download(&self, into: &mut [u8], from: Address) {
        let mut work = self.work();
        self.hand_over(&mut work);
        if self.pending().is_some() {
            self.wait(&mut work);
        }
        self.enter();
        // SAFETY: the caller's; the copy is waited for.
        check("download", unsafe { result::memcpy_dtoh_async(into, from, self.stream) });
        self.wait(&mut work);
    }

    unsafe fn copy(&self, to: Address, from: Address, bytes: usize) {
        self.enqueue(&mut self.work(), Operation::Copy { to, from, bytes });
    }

    unsafe fn launch(
        &self,
        kernel: &'static str,
        grid: [u32; 3],
        threads: u32,
        shared: u32,
        arguments: &[&[u8]],
    ) {
        let function = self.function(kernel, shared) as usize;
        let mut work = self.work();
        let (first, count) = (work.sequence.keep(arguments), arguments.len());
        let operation = Operation::Launch { kernel, function, grid, threads, shared, first, count };
        self.enqueue(&mut work, operation);
    }

    unsafe fn product(&self, product: &Product) -> bool {
        let mut products = self.products.lock().expect("nobody panics with it");
        if !products.has(product) {
            return false;
        }
        drop(products);
        let product = product.with_alpha(product.alpha.to_bits());
        self.enqueue(&mut self.work(), Operation::Product(product));
        true
    }

    fn part(&self) {
        self.hand_over(&mut self.work());
    }

    fn synchronize(&self) {
        self.wait(&mut self.work());
    }

    fn link(&self) -> Option<&dyn Link> {
        self.joined.get().map(|_| self as &dyn Link)
    }

    fn measure(&self) {
        self.hand_over(&mut self.work());
        *self.timeline.lock().expect("nobody panics with it") = Some(Vec::new());
    }

    fn measured(&self) -> Vec<Measured> {
        self.synchronize();
        let timeline = self.timeline.lock().expect("nobody panics with it").take().unwrap_or_default();
        let mut measured: Vec<Measured> = Vec::new();
        for (name, [before, after]) in timeline {
            // SAFETY: both were recorded, and are not used any more.
            let secs = unsafe {
                let secs = check("a measurement", result::event::elapsed(before, after)) / 1e3;
                [before, after]
                    .into_iter()
                    .for_each(|event| check("a measurement", result::event::destroy(event)));
                f64::from(secs)
            };
            match measured.iter_mut().find(|known| known.name == name) {
                Some(known) => (known.count, known.secs) = (known.count + 1, known.secs + secs),
                None => measured.push(Measured { name, count: 1, secs }),
            }
        }
        measured.sort_by(|a, b| b.secs.total_cmp(&a.secs));
        measured
    }
}

fn check<T>(what: &str, result: Result<T, DriverError>) -> T {
    result.unwrap_or_else(|e| panic!("the GPU failed in {what}: {}", describe(e)))
}

fn describe(e: DriverError) -> String {
    e.error_string().map_or_else(|_| format!("{e:?}"), |text| text.to_string_lossy().into_owned())
}

/// The kernels: compiled for the chip, or by the driver where it does not take that.
///
/// # Safety
/// A context of this chip is current.
unsafe fn load(chip: (i32, i32)) -> Result<sys::CUmodule, DriverError> {
    let mut refused = DriverError(sys::cudaError_enum::CUDA_ERROR_NO_BINARY_FOR_GPU);
    for code in compiled::code(chip) {
        // SAFETY: the caller's; the code is a whole image, or a text that ends with a zero.
        match unsafe { result::module::load_data(code.as_ptr().cast()) } {
            Ok(module) => return Ok(module),
            Err(e) => refused = e,
        }
    }
    Err(refused)
}

/// Says which library is missing and where it comes from. Without this a call of one would panic.
fn libraries() -> Result<(), Missing> {
    // SAFETY: opening them runs nothing but their own initialisers.
    let (driver, blaslt) = unsafe { (sys::is_culib_present(), cudarc::cublaslt::sys::is_culib_present()) };
    let missing = |file: &str, from: &str| Err(Missing(format!("cannot open {file}: {from}")));
    let toolkit = |package: &str| {
        format!(
            "install the CUDA toolkit 12 or 13, or `pip install {package}`, and name its folder in LD_LIBRARY_PATH"
        )
    };
    match () {
        () if !driver => missing(
            "libcuda.so.1",
            "there is no NVIDIA driver here; install one for your GPU, or use --device cpu",
        ),
        () if !blaslt => missing("libcublasLt.so.13 (or .12)", &toolkit("nvidia-cublas")),
        () => Ok(()),
    }
}

/// Has the pool keep what is freed: asking the system again is slow.
unsafe fn keep_freed_memory(device: sys::CUdevice) -> Result<(), DriverError> {
    let all = u64::MAX;
    // SAFETY: the device exists, and the attribute is a u64.
    unsafe {
        let pool = result::device::get_default_mem_pool(device)?;
        let attribute = sys::CUmemPool_attribute_enum::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
        result::mem_pool::set_attribute(pool, attribute, (&raw const all).cast_mut().cast())
    }
}
