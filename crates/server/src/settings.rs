//! What a server is told when it starts.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use crate::model::Capacity;

/// Where lines for the log go: a JSON object a request.
pub type Log = Arc<dyn Fn(String) + Send + Sync>;

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
    /// What each model may hold.
    pub capacity: Capacity,
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
            capacity: Capacity { slots: 16, cache_bytes: None },
            arithmetic: String::new(),
            bytes_per_value: 4,
            log: Arc::new(|_| {}),
        }
    }
}

impl fmt::Debug for Settings {
    /// Without the keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Settings { host, port, keys, allow_hosts, allow_origins, capacity, .. } = self;
        f.debug_struct("Settings")
            .field("host", host)
            .field("port", port)
            .field("keys", &keys.len())
            .field("allow_hosts", allow_hosts)
            .field("allow_origins", allow_origins)
            .field("capacity", capacity)
            .finish_non_exhaustive()
    }
}
