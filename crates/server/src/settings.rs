//! What a server is told when it starts.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::model::Capacity;
use lm::checkpoint::Stored;

/// Where lines for the log go: a JSON object a request.
pub type Log = Arc<dyn Fn(String) + Send + Sync>;

/// How many clients a server takes in, and how long it waits for them.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at once.
    pub connections: usize,
    /// Connections of these that are for `/health` alone.
    pub reserve: usize,
    /// Answers that wait for a slot.
    pub queue: usize,
    /// Until a request's head is there, or the next one comes: longer than clients keep connections that they
    /// do not use.
    pub head: Duration,
    /// Until a request's body is there.
    pub body: Duration,
    /// Until a client reads on.
    pub write: Duration,
    /// After so much silence a comment in a stream says that it lives; zero for none.
    pub silence: Duration,
    /// Until the last answers are whole once the server was asked to stop.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: 256,
            reserve: 16,
            queue: 128,
            head: Duration::from_secs(15),
            body: Duration::from_secs(10),
            write: Duration::from_secs(30),
            silence: Duration::from_secs(15),
            drain: Duration::from_secs(30),
        }
    }
}

/// How models of a server learn from its store: by verbs of this program, each a process.
#[derive(Clone, Debug)]
pub struct Learning {
    /// The program.
    pub program: PathBuf,
    /// What is said to each of its verbs besides: threads, device.
    pub arguments: Vec<String>,
    /// The folder of what is learned, which need not be there yet.
    pub folder: PathBuf,
}

impl Learning {
    /// Where what is learned lies: in the folder of runs that are shown, or beside the store.
    pub fn folder(runs: Option<&Path>, store: &Path) -> PathBuf {
        runs.map_or_else(|| store.with_extension("learned"), |runs| runs.join("learned"))
    }
}

/// How a server behaves.
#[derive(Clone)]
pub struct Settings {
    /// The address that it listens at.
    pub host: IpAddr,
    /// The port; 0 for one that is free.
    pub port: u16,
    /// The keys that open it; none where everybody on this machine may ask.
    pub keys: Vec<String>,
    /// Further names under which it is asked, `NAME` or `NAME:PORT`.
    pub allow_hosts: Vec<String>,
    /// Pages of other origins that may ask.
    pub allow_origins: Vec<String>,
    /// Where feedback is kept; none for a server that keeps none.
    pub store: Option<PathBuf>,
    /// The folders whose runs can be looked at; none for a server that shows none.
    pub runs: Vec<PathBuf>,
    /// How models learn from the store; none for a server whose models do not.
    pub learning: Option<Learning>,
    /// What each model may hold.
    pub capacity: Capacity,
    /// How many clients it takes in, and how long it waits for them.
    pub limits: Limits,
    /// What computes: processor, precision, program. Equal ones give equal answers.
    pub arithmetic: String,
    /// Bytes of a value in the cache of keys and values.
    pub bytes_per_value: u64,
    /// Where a line for each request goes.
    pub log: Log,
}

impl Settings {
    /// Whether only this machine can ask.
    pub fn is_local(&self) -> bool {
        self.host.is_loopback()
    }
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            host: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: 8000,
            keys: Vec::new(),
            allow_hosts: Vec::new(),
            allow_origins: Vec::new(),
            store: None,
            runs: Vec::new(),
            learning: None,
            capacity: Capacity { slots: 16, cache_bytes: None, stored: Stored::AsInFile },
            limits: Limits::default(),
            arithmetic: String::new(),
            bytes_per_value: 4,
            log: Arc::new(|_| {}),
        }
    }
}

impl fmt::Debug for Settings {
    /// Without the keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Settings { host, port, keys, allow_hosts, allow_origins, capacity, limits, .. } = self;
        f.debug_struct("Settings")
            .field("host", host)
            .field("port", port)
            .field("keys", &keys.len())
            .field("allow_hosts", allow_hosts)
            .field("allow_origins", allow_origins)
            .field("capacity", capacity)
            .field("limits", limits)
            .finish_non_exhaustive()
    }
}
