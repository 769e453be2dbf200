//! A GPU that is not there: kernels are compiled for the processor and run as `kernels/emu.h` says.

use kernels_cuda::Driver;
use kernels_cuda::device::{Address, Device, Product, Then};
use libtest_mimic::{Arguments, Completion, Trial};
use std::alloc::{Layout, alloc, dealloc};
use std::ffi::{CString, c_char, c_void};
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

mod compiled;
#[allow(dead_code, reason = "not every suite needs it")]
pub(crate) mod sanitized;

use compiled::SMALL_PRODUCT;
#[allow(unused_imports, reason = "not every suite needs both")]
pub(crate) use compiled::{compile, names};

/// What the compiled kernels offer.
pub(crate) struct Emulator {
    launch: Launch,
    product: Multiply,
}

type Launch = unsafe extern "C" fn(*const c_char, *const u32, u32, usize, *mut *mut c_void) -> i32;
type Multiply = unsafe extern "C" fn(*const Flat);

/// A product as C++ takes it.
#[repr(C)]
struct Flat {
    out: u64,
    a: u64,
    b: u64,
    sizes: [u64; 3],
    steps: [u64; 5],
    bias: u64,
    aux: u64,
    alpha: f32,
    out_bf16: i32,
    bf16: i32,
    add: i32,
    then: i32,
}

/// Has the number of the GPU that is tested instead of the emulator.
const REAL: &str = "MYNAH_CUDA_DEVICE";

/// A test, or why it could not be run.
pub(crate) type Test = fn() -> Result<(), String>;

/// Tests by their names.
#[allow(unused_macros, reason = "not every suite has tests that can always be run")]
macro_rules! tests {
    ($($name:ident)*) => {
        [$((stringify!($name), (|| { $name(); Ok(()) }) as crate::emulator::Test)),*]
    };
}

/// Runs tests, unless there is nothing to run them on: they are counted as ignored then, by their names.
pub(crate) fn suite(tests: impl IntoIterator<Item = (&'static str, Test)>) -> ExitCode {
    let missing = if std::env::var_os(REAL).is_some() { None } else { compiled::no_compiler() };
    let trial = |(name, test): (&str, Test)| {
        let missing = missing.clone();
        Trial::ignorable_test(name, move || {
            Ok(match missing.map_or_else(test, Err) {
                Ok(()) => Completion::Completed,
                Err(why) => Completion::ignored_with(why),
            })
        })
    };
    libtest_mimic::run(&Arguments::from_args(), tests.into_iter().map(trial).collect()).exit_code()
}

/// The GPU that `MYNAH_CUDA_DEVICE` has the number of, and that it is a real one; else the emulator.
pub(crate) fn device() -> (Arc<dyn Device>, bool) {
    static DEVICE: OnceLock<(Arc<dyn Device>, bool)> = OnceLock::new();
    let device = DEVICE.get_or_init(|| match std::env::var(REAL) {
        Ok(number) => {
            let number = number.parse().expect("MYNAH_CUDA_DEVICE is the number of a GPU");
            let driver = Driver::open(number).unwrap_or_else(|e| panic!("{e}"));
            (Arc::new(driver), true)
        }
        Err(_) => (open(&compile(&kernels_cuda::source(), sanitized::flags())), false),
    });
    device.clone()
}

/// The emulator of compiled kernels.
pub(crate) fn open(library: &Path) -> Arc<dyn Device> {
    // SAFETY: the library was just compiled from the source beside this file, and is never closed.
    unsafe {
        let library = Box::leak(Box::new(libloading::Library::new(library).expect("a library")));
        let launch = *library.get::<Launch>(b"emu_launch").expect("the emulator's launch");
        let product = *library.get::<Multiply>(b"emu_product").expect("the emulator's product");
        Arc::new(Emulator { launch, product })
    }
}

const BOUNDARY: usize = 256;

// SAFETY: memory is the process's own, and everything is done before a call returns.
unsafe impl Device for Emulator {
    fn describe(&self) -> String {
        "an emulated GPU".into()
    }

    fn free_bytes(&self) -> Option<u64> {
        None
    }

    fn allocate(&self, bytes: usize) -> Address {
        let layout = Layout::from_size_align(bytes, BOUNDARY).expect("a size");
        // SAFETY: it is not 0.
        let at = unsafe { alloc(layout) };
        // SAFETY: it was just allocated. NaN in every kind of value: nothing may depend on what was there.
        unsafe { at.write_bytes(0xff, bytes) };
        at as Address
    }

    unsafe fn free(&self, at: Address, bytes: usize) {
        // SAFETY: the caller's.
        unsafe { dealloc(at as *mut u8, Layout::from_size_align(bytes, BOUNDARY).expect("a size")) };
    }

    unsafe fn zero(&self, at: Address, bytes: usize) {
        // SAFETY: the caller's.
        unsafe { (at as *mut u8).write_bytes(0, bytes) };
    }

    unsafe fn upload(&self, to: Address, bytes: &[u8]) {
        // SAFETY: the caller's.
        unsafe { (to as *mut u8).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
    }

    unsafe fn download(&self, into: &mut [u8], from: Address) {
        // SAFETY: the caller's.
        unsafe { into.as_mut_ptr().copy_from_nonoverlapping(from as *const u8, into.len()) };
    }

    unsafe fn copy(&self, to: Address, from: Address, bytes: usize) {
        // SAFETY: the caller's.
        unsafe { (to as *mut u8).copy_from_nonoverlapping(from as *const u8, bytes) };
    }

    unsafe fn launch(
        &self,
        kernel: &'static str,
        grid: [u32; 3],
        threads: u32,
        shared: u32,
        arguments: &[&[u8]],
    ) {
        sanitized::launched(kernel);
        let mut arguments: Vec<*mut c_void> =
            arguments.iter().map(|argument| argument.as_ptr().cast_mut().cast()).collect();
        let name = CString::new(kernel).expect("a name");
        // SAFETY: the caller's.
        let unknown = unsafe {
            (self.launch)(name.as_ptr(), grid.as_ptr(), threads, shared as usize, arguments.as_mut_ptr())
        };
        assert_eq!(unknown, 0, "there is no kernel {kernel}");
    }

    unsafe fn product(&self, p: &Product) -> bool {
        let (then, bias, aux) = match p.then {
            Then::Nothing => (0, 0, 0),
            Then::Bias(bias) => (1, bias, 0),
            Then::BiasGelu { bias, aux } => (2, bias, aux),
            Then::GeluSlope { aux } => (3, 0, aux),
        };
        let flat = Flat {
            out: p.out.0,
            a: p.a.at,
            b: p.b.at,
            sizes: p.sizes.map(|size| size as u64),
            steps: [p.out_row, p.a.row, p.a.term, p.b.row, p.b.term].map(|step| step as u64),
            bias,
            aux,
            then,
            alpha: p.alpha,
            out_bf16: i32::from(p.out.1),
            bf16: i32::from(p.bf16),
            add: i32::from(p.add),
        };
        if p.sizes.iter().product::<usize>() <= SMALL_PRODUCT {
            return false;
        }
        // SAFETY: the caller's.
        unsafe { (self.product)(&flat) };
        true
    }

    fn synchronize(&self) {}
}
