//! What became of a program.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The kinds of verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Every test passed.
    Passed,
    /// A test failed.
    Wrong,
    /// The program raised an exception, or is no Python.
    Raised,
    /// It was not done in time.
    TimedOut,
    /// It wanted more memory than it may have.
    OutOfMemory,
    /// Its process ended before it had answered.
    Died,
    /// It answered with something that is no plain data.
    Refused,
    /// It wrote more than it may.
    Flooded,
    /// The problem's own prompt or tests do not run: nothing is known of the program.
    Broken,
}

impl Kind {
    const ALL: [(Kind, &'static str); 9] = [
        (Kind::Passed, "passed"),
        (Kind::Wrong, "wrong"),
        (Kind::Raised, "raised"),
        (Kind::TimedOut, "timed_out"),
        (Kind::OutOfMemory, "out_of_memory"),
        (Kind::Died, "died"),
        (Kind::Refused, "refused"),
        (Kind::Flooded, "flooded"),
        (Kind::Broken, "broken"),
    ];

    /// The kind of a name.
    pub(super) fn named(name: &str) -> Option<Kind> {
        Kind::ALL.iter().find(|(_, known)| *known == name).map(|(kind, _)| *kind)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (_, name) = Kind::ALL.iter().find(|(kind, _)| kind == self).expect("every kind has a name");
        f.write_str(name)
    }
}

/// What became of one program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// The kind.
    pub kind: Kind,
    /// What exactly happened, for people; at most 500 characters. Programs have a say in it.
    pub detail: String,
}

impl Verdict {
    /// A verdict.
    pub(super) fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Verdict { kind, detail: detail.into() }
    }

    /// Whether the program is right.
    pub fn passed(&self) -> bool {
        self.kind == Kind::Passed
    }
}
