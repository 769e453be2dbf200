//! Where long work tells how far it is, and hears that it should stop. The library never prints: what a
//! person sees is made by whoever implements [`Progress`].

/// What a progress count counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Bytes of input.
    Bytes,
    /// Things: documents, steps, items.
    Count,
}

/// A watcher of long work. Calls may come from several threads.
pub trait Progress: Sync {
    /// A task begins: its name and how many units it has (0: not known).
    fn begin(&self, task: &str, total: u64, unit: Unit);
    /// `n` more units are done.
    fn advance(&self, n: u64);
    /// A line for people, kept above the moving bar.
    fn line(&self, text: &str);
    /// The task is over.
    fn end(&self);
    /// Whether somebody asked to stop (Ctrl-C, SIGTERM): save and return at the next good moment.
    fn should_stop(&self) -> bool;
}

/// The error of work that ended because [`Progress::should_stop`] said so; it tells what became of it.
#[derive(Clone, Copy, Debug)]
pub struct Stopped(pub &'static str);

impl std::fmt::Display for Stopped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "stopped: {}", self.0)
    }
}

impl std::error::Error for Stopped {}

/// Nobody watches.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _: &str, _: u64, _: Unit) {}
    fn advance(&self, _: u64) {}
    fn line(&self, _: &str) {}
    fn end(&self) {}
    fn should_stop(&self) -> bool {
        false
    }
}
