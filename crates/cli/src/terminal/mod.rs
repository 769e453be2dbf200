//! What a person sees: a bar with rate and time left where there is a terminal, a line every now and then
//! where there is none, and nothing with `--quiet`.

mod output;
mod signals;
pub(crate) mod text;

use std::io::IsTerminal;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use gpt::progress::{Progress, Unit};
use indicatif::{MultiProgress, ProgressBar, ProgressState, ProgressStyle};

pub(crate) use output::{ClosedPipe, eprint_line, print, print_json};
use signals::Stop;

/// How often a task tells how far it is where nothing can move.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// The terminal as a watcher of long work.
pub(crate) struct Terminal {
    view: View,
    tasks: Mutex<Vec<Task>>,
    stop: OnceLock<Stop>,
}

enum View {
    Bars(MultiProgress),
    Lines,
    Quiet,
}

/// A task in progress; tasks may contain tasks.
struct Task {
    name: String,
    total: u64,
    unit: Unit,
    done: u64,
    started: Instant,
    told: Instant,
    bar: Option<ProgressBar>,
}

impl Terminal {
    pub(crate) fn new(quiet: bool) -> Self {
        let view = match quiet {
            true => View::Quiet,
            false if std::io::stderr().is_terminal() => View::Bars(MultiProgress::new()),
            false => View::Lines,
        };
        Terminal { view, tasks: Mutex::new(Vec::new()), stop: OnceLock::new() }
    }

    /// From now on Ctrl-C does not end the program but asks the work to save and stop.
    pub(crate) fn listen(&self) {
        self.stop.get_or_init(Stop::listen);
    }

    /// Nothing is left to save: from now on Ctrl-C ends the program at once.
    pub(crate) fn stop_at_once(&self) {
        self.stop.get_or_init(Stop::listen).next_is_last();
    }

    /// From now on Ctrl-C asks again, whatever was asked before.
    pub(crate) fn listen_again(&self) {
        self.stop.get_or_init(Stop::listen).forget();
    }

    /// Whether somebody asked to stop, for work that has nothing to save.
    pub(crate) fn is_interrupted(&self) -> bool {
        self.stop.get().is_some_and(Stop::is_asked)
    }

    /// Takes moving bars off the screen.
    pub(crate) fn close(&self) {
        for task in self.tasks().drain(..) {
            task.bar.inspect(ProgressBar::finish_and_clear);
        }
    }

    fn tasks(&self) -> MutexGuard<'_, Vec<Task>> {
        // A panic elsewhere leaves the tasks as good as they were.
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Progress for Terminal {
    fn begin(&self, name: &str, total: u64, unit: Unit) {
        let bar = match &self.view {
            View::Bars(bars) => Some(bars.add(new_bar(name, total, unit))),
            View::Lines | View::Quiet => None,
        };
        let now = Instant::now();
        self.tasks().push(Task { name: name.into(), total, unit, done: 0, started: now, told: now, bar });
    }

    fn advance(&self, n: u64) {
        let mut tasks = self.tasks();
        let Some(task) = tasks.last_mut() else { return };
        task.done += n;
        match (&self.view, &task.bar) {
            (View::Bars(_), Some(bar)) => bar.inc(n),
            (View::Lines, _) if task.told.elapsed() >= TELL_EVERY => {
                task.told = Instant::now();
                eprint_line(&task.describe());
            }
            _ => {}
        }
    }

    fn line(&self, text: &str) {
        match &self.view {
            // What draws bars must also draw what stands above them.
            View::Bars(bars) if !self.tasks().is_empty() => drop(bars.println(text)),
            View::Bars(_) | View::Lines => eprint_line(text),
            View::Quiet => {}
        }
    }

    fn end(&self) {
        let Some(task) = self.tasks().pop() else { return };
        if let Some(bar) = &task.bar {
            bar.finish_and_clear();
        }
        if matches!(self.view, View::Lines) && task.started.elapsed() >= TELL_EVERY {
            eprint_line(&task.describe());
        }
    }

    fn should_stop(&self) -> bool {
        if self.stop.get().is_some_and(Stop::is_news) {
            self.line("saving, press Ctrl-C again to stop at once");
        }
        self.stop.get().is_some_and(Stop::is_asked)
    }
}

impl Task {
    /// `training: 120 of 400, 3.2/s, 1 m 28 s left`.
    fn describe(&self) -> String {
        let secs = self.started.elapsed().as_secs_f64();
        let rate = self.done as f64 / secs.max(1e-9);
        let amount = |n| if self.unit == Unit::Bytes { text::bytes(n) } else { text::count(n) };
        let mut told = format!("{}: {}", self.name, amount(self.done));
        if self.total > 0 {
            told += &format!(" of {}", amount(self.total));
        }
        told += &format!(", {}", text::rate(rate, self.unit));
        if self.done < self.total && self.done > 0 {
            told += &format!(", {} left", text::secs((self.total - self.done) as f64 / rate));
        } else {
            told += &format!(", {}", text::secs(secs));
        }
        told
    }
}

fn new_bar(name: &str, total: u64, unit: Unit) -> ProgressBar {
    let (bar, position) = match (total, unit) {
        (0, Unit::Bytes) => (ProgressBar::new_spinner(), "{decimal_bytes}"),
        (0, Unit::Count) => (ProgressBar::new_spinner(), "{human_pos}"),
        (_, Unit::Bytes) => (ProgressBar::new(total), "{decimal_bytes} of {decimal_total_bytes}"),
        (_, Unit::Count) => (ProgressBar::new(total), "{human_pos} of {human_len}"),
    };
    let template = match total {
        0 => format!("{{spinner}} {{msg}}: {position}, {{rate}}, {{elapsed}}"),
        _ => format!("{{msg}} {{wide_bar:.cyan}} {position}, {{rate}}, {{eta}} left"),
    };
    let style = ProgressStyle::with_template(&template).expect("the template is ours").with_key(
        "rate",
        move |state: &ProgressState, out: &mut dyn std::fmt::Write| {
            // Nowhere to report a failure to draw.
            let _ = out.write_str(&text::rate(state.per_sec(), unit));
        },
    );
    let bar = bar.with_style(style).with_message(name.to_string());
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
