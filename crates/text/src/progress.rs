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
    /// `n` units were done before the task began: they say nothing of its speed.
    fn done_before(&self, n: u64) {
        self.advance(n);
    }
    /// A line for people, kept above the moving bar.
    fn line(&self, text: &str);
    /// A line that is told once, however many tasks say it.
    fn once(&self, text: &str) {
        self.line(text);
    }
    /// A line with which a part of the work begins or ends.
    fn heading(&self, text: &str) {
        self.line(text);
    }
    /// How the task is going, in columns from the most to the least needed. There are many of these: a person
    /// sees one now and then, as much of it as there is room for.
    fn status(&self, columns: &[String]) {
        self.line(&columns.join("  "));
    }
    /// Something that a model in training wrote to look at: what it was given, and what it made of it. A
    /// person sees some now and then, and the `last` of a task.
    fn samples(&self, samples: &[(String, String)], last: bool) {
        let _ = (samples, last);
    }
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
