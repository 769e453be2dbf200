//! The functions of an MPI library, opened when the program runs: the only place of this crate with `unsafe`.
//!
//! Handles are told apart by ABI: pointers to objects that Open MPI exports, numbers in MPICH and its
//! relatives, small constants in the standard ABI of MPI 5. All of them are passed as a word: an `int` is the
//! lower half of its register or slot on every 64-bit little-endian ABI of C.

#![allow(unsafe_code)]

use super::abi::Abi;
use anyhow::{Context, Result, ensure};
use libloading::os::unix::{Library as Handle, RTLD_GLOBAL, RTLD_NOW};
use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr::null_mut;

#[cfg(not(all(target_pointer_width = "64", target_endian = "little")))]
compile_error!("handles of MPI are passed as 64-bit little-endian words");

/// `MPI_MAX_LIBRARY_VERSION_STRING` of the library that has the longest.
const VERSION_BYTES: usize = 8192;
/// `MPI_THREAD_FUNNELED`, the same in every library: only the thread that opened it calls it.
const FUNNELED: c_int = 1;

type AllToAll = unsafe extern "C" fn(*const c_void, c_int, usize, *mut c_void, c_int, usize, usize) -> c_int;

/// An MPI library that is open.
pub(super) struct Library {
    version: unsafe extern "C" fn(*mut c_char, *mut c_int) -> c_int,
    abi_version: Option<unsafe extern "C" fn(*mut c_int, *mut c_int) -> c_int>,
    init: unsafe extern "C" fn(*mut c_int, *mut c_void, c_int, *mut c_int) -> c_int,
    rank: unsafe extern "C" fn(usize, *mut c_int) -> c_int,
    size: unsafe extern "C" fn(usize, *mut c_int) -> c_int,
    barrier: unsafe extern "C" fn(usize) -> c_int,
    broadcast: unsafe extern "C" fn(*mut c_void, c_int, usize, c_int, usize) -> c_int,
    all_to_all: AllToAll,
    all_gather: AllToAll,
    abort: unsafe extern "C" fn(usize, c_int) -> c_int,
    finalize: unsafe extern "C" fn() -> c_int,
    handle: Handle,
}

/// The handles of what is spoken of.
#[derive(Clone, Copy)]
pub(super) struct Handles {
    world: usize,
    byte: usize,
}

impl Library {
    /// Opens the file or the name `name`.
    pub(super) fn open(name: &str) -> Result<Library> {
        // SAFETY: an MPI library's initialisers are made to be run by any program that is linked with it. Its
        // symbols are global because the parts that Open MPI opens in turn look for them.
        let handle = unsafe { Handle::open(Some(name), RTLD_NOW | RTLD_GLOBAL) }?;
        macro_rules! function {
            ($name:literal) => {
                // SAFETY: the type of the field is that of the C function in MPI's standard; handles are words
                // (see above).
                *unsafe { handle.get(concat!($name, "\0").as_bytes()) }
                    .with_context(|| format!("it has no {}", $name))?
            };
        }
        Ok(Library {
            version: function!("MPI_Get_library_version"),
            // SAFETY: as above; only libraries of MPI 5 have it.
            abi_version: unsafe { handle.get(b"MPI_Abi_get_version\0") }.ok().map(|symbol| *symbol),
            init: function!("MPI_Init_thread"),
            rank: function!("MPI_Comm_rank"),
            size: function!("MPI_Comm_size"),
            barrier: function!("MPI_Barrier"),
            broadcast: function!("MPI_Bcast"),
            all_to_all: function!("MPI_Alltoall"),
            all_gather: function!("MPI_Allgather"),
            abort: function!("MPI_Abort"),
            finalize: function!("MPI_Finalize"),
            handle,
        })
    }

    /// What it says that it is, on one line. May be asked before anything else.
    pub(super) fn version(&self) -> String {
        let (mut text, mut len) = ([0 as c_char; VERSION_BYTES], 0);
        // SAFETY: it writes at most its MPI_MAX_LIBRARY_VERSION_STRING bytes, which are not more than there are,
        // and ends them with a zero.
        unsafe {
            (self.version)(text.as_mut_ptr(), &mut len);
            text[VERSION_BYTES - 1] = 0;
            CStr::from_ptr(text.as_ptr()).to_string_lossy().lines().next().unwrap_or_default().to_owned()
        }
    }

    /// Whether its handles are those of the standard ABI. May be asked before anything else.
    pub(super) fn has_standard_abi(&self) -> bool {
        let (mut major, mut minor) = (-1, -1);
        // SAFETY: it writes two numbers; −1 says that it has another ABI.
        self.abi_version.is_some_and(|ask| unsafe { ask(&mut major, &mut minor) } == 0 && major >= 1)
    }

    /// The handles in its ABI.
    pub(super) fn handles(&self, abi: Abi) -> Result<Handles> {
        let object = |name: &[u8]| {
            // SAFETY: only the address is taken.
            let found = unsafe { self.handle.get::<*const c_void>(name) };
            found.map(|at| at.as_raw_ptr() as usize)
        };
        Ok(match abi {
            Abi::OpenMpi => {
                Handles { world: object(b"ompi_mpi_comm_world\0")?, byte: object(b"ompi_mpi_byte\0")? }
            }
            Abi::Mpich => Handles { world: 0x4400_0000, byte: 0x4c00_010d },
            Abi::Standard => Handles { world: 0x101, byte: 0x247 },
        })
    }

    /// Joins the others; returns rank and size.
    pub(super) fn init(&self, of: Handles) -> Result<(usize, usize)> {
        let (mut level, mut rank, mut size) = (0, 0, 0);
        // SAFETY: called once, on one thread; null pointers are allowed where the command line would be.
        let codes = unsafe {
            [
                (self.init)(null_mut(), null_mut(), FUNNELED, &mut level),
                (self.rank)(of.world, &mut rank),
                (self.size)(of.world, &mut size),
            ]
        };
        ensure!(codes == [0; 3] && rank < size, "MPI does not start: it returns {codes:?}");
        Ok((usize::try_from(rank)?, usize::try_from(size)?))
    }

    /// `send` is a piece for each of `size` ranks.
    pub(super) fn all_to_all(&self, of: Handles, size: usize, send: &[u8], receive: &mut [u8]) {
        assert_eq!(send.len(), receive.len());
        assert_eq!(send.len() % size, 0);
        let (len, to) = (count(send.len() / size), receive.as_mut_ptr().cast());
        // SAFETY: both hold `size` pieces of `len` bytes.
        let code =
            unsafe { (self.all_to_all)(send.as_ptr().cast(), len, of.byte, to, len, of.byte, of.world) };
        assert_eq!(code, 0, "MPI_Alltoall");
    }

    /// `receive` has room for what each of `size` ranks sends.
    pub(super) fn all_gather(&self, of: Handles, size: usize, send: &[u8], receive: &mut [u8]) {
        assert_eq!(send.len() * size, receive.len());
        let (len, to) = (count(send.len()), receive.as_mut_ptr().cast());
        // SAFETY: one holds `len` bytes, the other `size` times as many.
        let code =
            unsafe { (self.all_gather)(send.as_ptr().cast(), len, of.byte, to, len, of.byte, of.world) };
        assert_eq!(code, 0, "MPI_Allgather");
    }

    /// From the rank `from` to all.
    pub(super) fn broadcast(&self, of: Handles, bytes: &mut [u8], from: usize) {
        // SAFETY: the bytes may be written, and every rank names as many.
        let code = unsafe {
            (self.broadcast)(bytes.as_mut_ptr().cast(), count(bytes.len()), of.byte, count(from), of.world)
        };
        assert_eq!(code, 0, "MPI_Bcast");
    }

    /// Waits for all ranks and leaves.
    pub(super) fn finish(&self, of: Handles) {
        // SAFETY: nothing is asked afterwards.
        let codes = unsafe { [(self.barrier)(of.world), (self.finalize)()] };
        assert_eq!(codes, [0; 2], "MPI_Finalize");
    }

    /// Ends all ranks.
    pub(super) fn abort(&self, of: Handles, code: i32) -> ! {
        // SAFETY: may be called at any time between start and end.
        unsafe { (self.abort)(of.world, code) };
        end_at_once(code)
    }
}

fn count(len: usize) -> c_int {
    c_int::try_from(len).expect("less than 2 GiB at once")
}

/// Ends this process without running what a library may have registered for its end: that could wait for
/// the others.
pub(super) fn end_at_once(code: i32) -> ! {
    unsafe extern "C" {
        fn _exit(status: c_int) -> !;
    }
    // SAFETY: it takes any number and never returns.
    unsafe { _exit(code) }
}
