//! The layers of a sandbox that a machine may lack.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What a kernel, or a container around us, may refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layer {
    /// Own user, process, mount, network, IPC, host-name and cgroup namespaces, and the private tree of
    /// files.
    Namespaces,
    /// Landlock (Linux 5.13): rules on files, from 6.7 on ports, from 6.12 on signals and sockets, which hold
    /// beside permissions.
    Landlock,
    /// Seccomp: an allow list of system calls.
    Seccomp,
}

impl Layer {
    /// All layers.
    pub const ALL: [Layer; 3] = [Layer::Namespaces, Layer::Landlock, Layer::Seccomp];

    /// Its name, as it is typed.
    pub fn name(self) -> &'static str {
        match self {
            Layer::Namespaces => "namespaces",
            Layer::Landlock => "landlock",
            Layer::Seccomp => "seccomp",
        }
    }
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Layer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Layer::ALL.into_iter().find(|layer| layer.name() == text);
        found.ok_or_else(|| format!("no layer {text}: {}", Layer::ALL.map(Layer::name).join(", ")))
    }
}
