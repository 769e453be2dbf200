//! What was typed for every verb, resolved: the machine, the terminal, where results go.

use std::sync::OnceLock;

use anyhow::{Context, Result};
use gpt::progress::Progress;
use kernels::{Cpu, CpuOptions, Precision};
use serde::Serialize;

use crate::args::Global;
use crate::terminal::{self, Terminal};

/// One call of the program.
pub(crate) struct Session {
    global: Global,
    terminal: OnceLock<Terminal>,
}

impl Session {
    pub(crate) fn new(global: Global) -> Self {
        Session { global, terminal: OnceLock::new() }
    }

    pub(crate) fn seed(&self) -> u64 {
        self.global.seed
    }

    pub(crate) fn json(&self) -> bool {
        self.global.json
    }

    pub(crate) fn threads(&self) -> usize {
        self.global.threads.unwrap_or_else(|| CpuOptions::default().threads)
    }

    pub(crate) fn precision(&self) -> Precision {
        self.global.precision.map_or_else(|| CpuOptions::default().precision, Precision::from)
    }

    /// The watcher of work that can be stopped: from the first call on, Ctrl-C asks the work to save and stop.
    pub(crate) fn watcher(&self) -> &Terminal {
        let terminal = self.terminal();
        terminal.listen();
        terminal
    }

    fn terminal(&self) -> &Terminal {
        self.terminal.get_or_init(|| Terminal::new(self.global.quiet))
    }

    #[expect(dead_code, reason = "training lands next")]
    /// The processor as a backend; says what it found.
    pub(crate) fn cpu(&self) -> Cpu {
        let cpu = Cpu::new(CpuOptions {
            threads: self.threads(),
            precision: self.precision(),
            ..CpuOptions::default()
        });
        self.say(&cpu.describe());
        cpu
    }

    /// Gives the library's thread pool the number of threads asked for.
    pub(crate) fn start_threads(&self) -> Result<()> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(self.threads());
        pool.build_global().context("cannot start the threads")
    }

    /// Text for people, on standard error.
    pub(crate) fn say(&self, text: &str) {
        self.terminal().line(text);
    }

    /// The result of a verb: `json` with `--json`, else the text, on standard output.
    pub(crate) fn result(&self, json: &impl Serialize, text: impl FnOnce() -> String) -> Result<()> {
        if self.json() { terminal::print_json(json) } else { terminal::print(text().as_bytes()) }
    }

    /// What a verb did to files: `json` on standard output with `--json`, the text for people else.
    pub(crate) fn summary(&self, json: &impl Serialize, text: impl FnOnce() -> String) -> Result<()> {
        if self.json() {
            return terminal::print_json(json);
        }
        self.say(&text());
        Ok(())
    }

    /// Takes moving bars off the screen.
    pub(crate) fn close(&self) {
        if let Some(terminal) = self.terminal.get() {
            terminal.close();
        }
    }

    /// Whether Ctrl-C was pressed.
    pub(crate) fn was_stopped(&self) -> bool {
        self.terminal.get().is_some_and(Terminal::was_stopped)
    }
}
