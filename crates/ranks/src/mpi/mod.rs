//! Ranks that are processes which an MPI launcher started. The library is opened when the program runs, so
//! that one program works with every MPI that a cluster has, and without any.

mod abi;
mod ffi;
mod watchdog;

use crate::launch::LIBRARY_VARIABLE;
use crate::{Communicator, Launch};
use abi::Abi;
use anyhow::{Context, Result, anyhow, ensure};
use ffi::{Handles, Library};
use std::thread::{self, ThreadId};
use std::time::Duration;
use watchdog::Watchdog;

/// The processes of an MPI job.
pub(crate) struct Mpi {
    library: Library,
    handles: Handles,
    version: String,
    rank: usize,
    size: usize,
    watchdog: Watchdog,
    /// The thread that opened it, which alone may call it.
    thread: ThreadId,
}

impl Mpi {
    /// Opens the library of the launcher and joins the others.
    pub(crate) fn open(launch: &Launch, patience: Duration, tell: fn(&str)) -> Result<Mpi> {
        let (name, library) = open(launch)?;
        let version = library.version();
        let abi = Abi::of(&version, library.has_standard_abi())
            .with_context(|| format!("the MPI library {name} cannot be used"))?;
        let handles = library.handles(abi)?;
        let (rank, size) = library.init(handles)?;
        ensure!(
            launch.size.is_none_or(|told| told == size),
            "the launcher has started {} processes, and {name} ({version}) knows of {size}: it is another MPI's than the \
             launcher; start with the mpirun that it belongs to, or name the right library in {LIBRARY_VARIABLE}",
            launch.size.unwrap_or(size)
        );
        let watchdog = Watchdog::new(rank, size, patience, tell);
        Ok(Mpi { library, handles, version, rank, size, watchdog, thread: thread::current().id() })
    }

    /// What `call` does with `bytes`, with somebody watching that it comes back. Where there are none, on all
    /// ranks then, it is not called: the address of an empty slice may be the 1 that is `MPI_IN_PLACE`.
    fn watched(&self, bytes: usize, call: impl FnOnce()) {
        if bytes == 0 {
            return;
        }
        assert_eq!(thread::current().id(), self.thread, "MPI is asked by the thread that opened it");
        self.watchdog.during(call);
    }
}

/// The first library that can be opened.
fn open(launch: &Launch) -> Result<(String, Library)> {
    let mut tried = Vec::new();
    for name in launch.libraries() {
        match Library::open(&name) {
            Ok(library) => return Ok((name, library)),
            Err(error) => tried.push(format!("{name}: {error:#}")),
        }
    }
    Err(anyhow!(
        "a launcher has started this process as rank {} of several, and no MPI library can be opened to speak to the others. \
         Install the library that belongs to the launcher (Debian: libopenmpi3 or libmpich12), put its directory into \
         LD_LIBRARY_PATH, or name its file in {LIBRARY_VARIABLE}. Tried {}",
        launch.rank,
        tried.join("; ")
    ))
}

impl Communicator for Mpi {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn about(&self) -> String {
        self.version.split(',').next().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
    }

    fn all_to_all(&self, send: &[u8], receive: &mut [u8]) {
        self.watched(receive.len(), || self.library.all_to_all(self.handles, self.size, send, receive));
    }

    fn all_gather(&self, send: &[u8], receive: &mut [u8]) {
        self.watched(receive.len(), || self.library.all_gather(self.handles, self.size, send, receive));
    }

    fn broadcast(&self, bytes: &mut [u8], from: usize) {
        self.watched(bytes.len(), || self.library.broadcast(self.handles, bytes, from));
    }

    fn during(&self, wait: &mut dyn FnMut()) {
        self.watchdog.during(wait);
    }

    fn finish(&self) {
        self.watchdog.during(|| self.library.finish(self.handles));
    }

    fn abort(&self, code: i32) -> ! {
        self.library.abort(self.handles, code)
    }
}
