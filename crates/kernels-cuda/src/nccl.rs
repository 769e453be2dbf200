//! NCCL, which moves bytes between GPUs: opened at run time, by the name that its packages have (`libnccl.so.2`;
//! cudarc looks for others).

use crate::device::{Address, Link, Piece};
use crate::driver::{Driver, Missing};
use cudarc::driver::sys::CUstream;
use libloading::Library;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::mem::ManuallyDrop;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, Ordering};

/// Names the file of the library where it is not found by itself; `off` leaves it closed.
const LIBRARY_VARIABLE: &str = "MYNAH_NCCL";
const OFF: &str = "off";
/// `ncclUint8`: what is moved is bytes.
const BYTES: c_int = 1;

/// What the processes that are to find each other have in common (`ncclUniqueId`).
type Id = [u8; 128];
type Communicator = *mut c_void;
type Stream = CUstream;

/// Functions of `nccl.h`, by their names there.
macro_rules! functions {
    ($($name:ident: fn($($argument:ty),*) -> $returned:ty;)*) => {
        /// The library.
        #[allow(non_snake_case)]
        pub struct Nccl {
            $($name: unsafe extern "C" fn($($argument),*) -> $returned,)*
            /// It stays open until the program ends: it has threads of its own.
            _library: ManuallyDrop<Library>,
        }

        impl Nccl {
            fn of(library: Library) -> Result<Self, libloading::Error> {
                Ok(Nccl {
                    // SAFETY: these are the types of `nccl.h` since version 2.7.
                    $($name: *unsafe { library.get(concat!(stringify!($name), "\0").as_bytes()) }?,)*
                    _library: ManuallyDrop::new(library),
                })
            }
        }
    };
}

functions! {
    ncclGetVersion: fn(*mut c_int) -> c_int;
    ncclGetUniqueId: fn(*mut UniqueId) -> c_int;
    ncclCommInitRank: fn(*mut Communicator, c_int, UniqueId, c_int) -> c_int;
    ncclCommGetAsyncError: fn(Communicator, *mut c_int) -> c_int;
    ncclGetErrorString: fn(c_int) -> *const c_char;
    ncclGroupStart: fn() -> c_int;
    ncclGroupEnd: fn() -> c_int;
    ncclSend: fn(*const c_void, usize, c_int, c_int, Communicator, Stream) -> c_int;
    ncclRecv: fn(*mut c_void, usize, c_int, c_int, Communicator, Stream) -> c_int;
    ncclAllGather: fn(*const c_void, *mut c_void, usize, c_int, Communicator, Stream) -> c_int;
    ncclBroadcast: fn(*const c_void, *mut c_void, usize, c_int, c_int, Communicator, Stream) -> c_int;
}

/// As the library passes it, by value.
#[derive(Clone, Copy)]
#[repr(C)]
struct UniqueId(Id);

impl Nccl {
    /// Opens it.
    ///
    /// # Errors
    /// It is not there, it lacks a function, or it is not wanted.
    pub fn open() -> Result<Self, Missing> {
        let named = std::env::var(LIBRARY_VARIABLE).ok();
        if named.as_deref() == Some(OFF) {
            return Err(Missing(format!("{LIBRARY_VARIABLE} is {OFF}")));
        }
        let names = named.map_or_else(|| vec!["libnccl.so.2".into(), "libnccl.so".into()], |name| vec![name]);
        // SAFETY: its initialisers are made to be run by any program.
        let opened = names.iter().map(|name| unsafe { Library::new(name) }.and_then(Nccl::of));
        let mut refused = Vec::new();
        for opened in opened {
            match opened {
                Ok(nccl) => return Ok(nccl),
                Err(error) => refused.push(error.to_string()),
            }
        }
        let (file, why) = (&names[0], &refused[0]);
        Err(Missing(format!(
            "cannot open {file}, NCCL 2 ({why}): install libnccl2 of NVIDIA's repository, or `pip install nvidia-nccl-cu13` (or -cu12), \
             and name its folder in LD_LIBRARY_PATH or its file in {LIBRARY_VARIABLE}"
        )))
    }

    /// Its version, such as `2.27.3`.
    pub fn version(&self) -> String {
        let mut version = 0;
        // SAFETY: it writes a number.
        unsafe { (self.ncclGetVersion)(&mut version) };
        // 2.7.8 is 2708; since 2.9 it is 20900.
        let (major, rest) = if version < 10_000 {
            (version / 1000, version % 1000)
        } else {
            (version / 10_000, version % 10_000)
        };
        format!("{major}.{}.{}", rest / 100, rest % 100)
    }

    /// What one process makes, by which all of them find each other.
    ///
    /// # Errors
    /// It finds no network.
    pub fn id(&self) -> Result<Vec<u8>, Missing> {
        let mut id = UniqueId([0; 128]);
        // SAFETY: it writes so many bytes.
        let code = unsafe { (self.ncclGetUniqueId)(&mut id) };
        self.result("ncclGetUniqueId", code)?;
        Ok(id.0.to_vec())
    }

    fn result(&self, what: &str, code: c_int) -> Result<(), Missing> {
        if code == 0 {
            return Ok(());
        }
        // SAFETY: it gives a text for any code, which is never freed.
        let text = unsafe { CStr::from_ptr((self.ncclGetErrorString)(code)) };
        Err(Missing(format!(
            "NCCL failed in {what}: {}; {LIBRARY_VARIABLE}={OFF} does without NCCL",
            text.to_string_lossy()
        )))
    }
}

/// Does what waits for other processes, with somebody watching that it comes back.
pub type Watch = Box<dyn Fn(&mut dyn FnMut()) + Send + Sync>;

/// The GPUs of all processes, as one of them sees them.
pub(crate) struct Joined {
    nccl: Nccl,
    communicator: Communicator,
    stream: Stream,
    rank: usize,
    size: usize,
    watch: Watch,
    /// Whether operations on the stream may be waiting for other processes.
    pending: AtomicBool,
}

// SAFETY: its functions may be called from any thread, and a run calls them from one at a time.
unsafe impl Send for Joined {}
// SAFETY: as above.
unsafe impl Sync for Joined {}

impl Joined {
    /// Finds the others, on the GPU whose context is current.
    pub(crate) fn new(
        nccl: Nccl,
        id: &[u8],
        (rank, size): (usize, usize),
        stream: Stream,
        watch: Watch,
    ) -> Result<Self, Missing> {
        let id: Id = id.try_into().map_err(|_| Missing("an id of NCCL has 128 bytes".into()))?;
        let (mut communicator, mut code) = (null_mut(), 0);
        // SAFETY: the id is one of NCCL's; a GPU's context is current.
        let mut join = || unsafe {
            code = (nccl.ncclCommInitRank)(&mut communicator, number(size), UniqueId(id), number(rank));
        };
        watch(&mut join);
        nccl.result("ncclCommInitRank", code)?;
        Ok(Joined { nccl, communicator, stream, rank, size, watch, pending: AtomicBool::new(false) })
    }

    /// Whether somebody has to [watch](Self::wait) that the stream goes on.
    pub(crate) fn is_pending(&self) -> bool {
        self.pending.load(Ordering::Relaxed)
    }

    /// Waits until the stream `is_done`, unless the other processes are heard of no more.
    pub(crate) fn wait(&self, mut is_done: impl FnMut() -> bool) {
        (self.watch)(&mut || {
            while !is_done() {
                let mut failed = 0;
                // SAFETY: the communicator is open.
                let code = unsafe { (self.nccl.ncclCommGetAsyncError)(self.communicator, &mut failed) };
                self.check("ncclCommGetAsyncError", code);
                self.check("an exchange between GPUs", failed);
                std::thread::yield_now();
            }
        });
        self.pending.store(false, Ordering::Relaxed);
    }

    /// There is nothing to go on with, as where MPI fails.
    fn check(&self, what: &str, code: c_int) {
        self.nccl.result(what, code).unwrap_or_else(|error| panic!("{error}"));
    }

    /// Enqueues operations as one, of which none waits for another one. What connects processes may wait here.
    fn grouped(&self, enqueue: impl Fn()) {
        self.pending.store(true, Ordering::Relaxed);
        (self.watch)(&mut || {
            // SAFETY: each beginning has its end.
            self.check("ncclGroupStart", unsafe { (self.nccl.ncclGroupStart)() });
            enqueue();
            // SAFETY: as above.
            self.check("ncclGroupEnd", unsafe { (self.nccl.ncclGroupEnd)() });
        });
    }
}

// SAFETY: an exchange is enqueued on the device's one stream, as everything else is.
unsafe impl Link for Driver {
    fn rank(&self) -> usize {
        self.joined().rank
    }

    fn size(&self) -> usize {
        self.joined().size
    }

    unsafe fn all_to_all(&self, to: Address, from: Address, bytes: usize) {
        let others @ Joined { nccl, communicator, stream, .. } = self.exchange();
        others.grouped(|| {
            for peer in 0..others.size {
                let at = (peer * bytes) as Address;
                let (from, to, peer) = (pointer(from + at), pointer(to + at), number(peer));
                // SAFETY: the caller's.
                let sent = unsafe { (nccl.ncclSend)(from, bytes, BYTES, peer, *communicator, *stream) };
                others.check("ncclSend", sent);
                // SAFETY: the caller's.
                let received = unsafe { (nccl.ncclRecv)(to, bytes, BYTES, peer, *communicator, *stream) };
                others.check("ncclRecv", received);
            }
        });
    }

    unsafe fn all_gather(&self, to: Address, from: Address, bytes: usize) {
        let others @ Joined { nccl, communicator, stream, .. } = self.exchange();
        let (from, to) = (pointer(from), pointer(to));
        others.grouped(|| {
            // SAFETY: the caller's.
            let gathered = unsafe { (nccl.ncclAllGather)(from, to, bytes, BYTES, *communicator, *stream) };
            others.check("ncclAllGather", gathered);
        });
    }

    unsafe fn broadcast(&self, pieces: &[Piece], from: usize) {
        let others @ Joined { nccl, communicator, stream, .. } = self.exchange();
        others.grouped(|| {
            for &Piece { at, bytes } in pieces {
                let (at, root) = (pointer(at), number(from));
                // SAFETY: the caller's; in place is allowed.
                let sent =
                    unsafe { (nccl.ncclBroadcast)(at, at, bytes, BYTES, root, *communicator, *stream) };
                others.check("ncclBroadcast", sent);
            }
        });
    }
}

fn pointer(at: Address) -> *mut c_void {
    at as *mut c_void
}

fn number(of: usize) -> c_int {
    c_int::try_from(of).expect("a number of processes")
}
