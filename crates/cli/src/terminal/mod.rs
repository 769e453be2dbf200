//! What a person sees: a bar with rate and time left where there is a terminal, a line every now and then
//! where there is none, and nothing with `--quiet`.

mod fit;
mod input;
mod output;
mod signals;
pub(crate) mod style;
pub(crate) mod text;

use std::collections::HashSet;
use std::io::IsTerminal;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use gpt::progress::{Progress, Unit};
use indicatif::{MultiProgress, ProgressBar, ProgressState, ProgressStyle};

pub(crate) use fit::help_width;
pub(crate) use input::{Asking, Input, Typed};
pub(crate) use output::{ClosedPipe, eprint_line, print, print_json};
use signals::Stop;

/// How often a task tells how it is going, at most; of long ones a hundredth of the time they have taken.
const TELL_EVERY: Duration = Duration::from_secs(5);
/// How often a person is shown what a model in training writes, at most.
const SAMPLES_EVERY: Duration = Duration::from_secs(20);

/// The terminal as a watcher of long work.
pub(crate) struct Terminal {
    view: View,
    tasks: Mutex<Vec<Task>>,
    /// What was said that is said once.
    said: Mutex<HashSet<String>>,
    /// When samples were shown last.
    sampled: Mutex<Option<Instant>>,
    stop: OnceLock<Stop>,
    /// What is done when somebody asked to stop, if it is not saving.
    at_stop: OnceLock<&'static str>,
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
    /// Of which before it began.
    before: u64,
    started: Instant,
    told: Instant,
    /// Whether it tells by itself how it is going.
    has_status: bool,
    bar: Option<ProgressBar>,
}

impl Terminal {
    pub(crate) fn new(quiet: bool) -> Self {
        let view = match quiet {
            true => View::Quiet,
            false if std::io::stderr().is_terminal() => View::Bars(MultiProgress::new()),
            false => View::Lines,
        };
        Terminal {
            view,
            tasks: Mutex::new(Vec::new()),
            said: Mutex::new(HashSet::new()),
            sampled: Mutex::new(None),
            stop: OnceLock::new(),
            at_stop: OnceLock::new(),
        }
    }

    /// Says what the work does when somebody asks it to stop.
    pub(crate) fn at_stop(&self, what: &'static str) {
        self.at_stop.get_or_init(|| what);
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
        lock(&self.tasks)
    }

    /// Whether it is time for samples again.
    fn samples_are_due(&self) -> bool {
        let mut sampled = lock(&self.sampled);
        let due = sampled.is_none_or(|at| at.elapsed() >= SAMPLES_EVERY);
        if due {
            *sampled = Some(Instant::now());
        }
        due
    }
}

/// What a mutex guards. A panic elsewhere leaves it as good as it was.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Progress for Terminal {
    fn begin(&self, name: &str, total: u64, unit: Unit) {
        let bar = match &self.view {
            View::Bars(bars) => Some(bars.add(new_bar(name, total, unit))),
            View::Lines | View::Quiet => None,
        };
        let (name, now) = (name.to_owned(), Instant::now());
        let (started, told) = (now, now);
        self.tasks().push(Task {
            name,
            total,
            unit,
            done: 0,
            before: 0,
            started,
            told,
            has_status: false,
            bar,
        });
    }

    fn advance(&self, n: u64) {
        let mut tasks = self.tasks();
        let Some(task) = tasks.last_mut() else { return };
        task.done += n;
        match (&self.view, &task.bar) {
            (View::Bars(_), Some(bar)) => bar.inc(n),
            (View::Lines, _) if !task.has_status && task.is_due() => {
                task.told = Instant::now();
                eprint_line(&task.describe());
            }
            _ => {}
        }
    }

    fn done_before(&self, n: u64) {
        let mut tasks = self.tasks();
        let Some(task) = tasks.last_mut() else { return };
        task.done += n;
        task.before += n;
        if let Some(bar) = &task.bar {
            bar.set_position(task.done);
            bar.reset_eta();
        }
    }

    fn once(&self, text: &str) {
        if lock(&self.said).insert(text.to_owned()) {
            self.line(text);
        }
    }

    fn heading(&self, text: &str) {
        self.line(&style::heading(text));
    }

    fn status(&self, columns: &[String]) {
        let mut tasks = self.tasks();
        let Some(task) = tasks.last_mut() else { return };
        if task.has_status && !task.is_due() {
            return;
        }
        (task.has_status, task.told) = (true, Instant::now());
        let line = match &self.view {
            View::Bars(_) => fit::columns(columns, fit::width()),
            View::Lines => {
                let (place, rest) =
                    columns.split_first().map_or(("", columns), |(first, rest)| (first, rest));
                format!("{place}  {}  {}", task.time(), rest.join("  "))
            }
            View::Quiet => return,
        };
        drop(tasks);
        self.line(&line);
    }

    fn samples(&self, samples: &[(String, String)], last: bool) {
        if matches!(self.view, View::Quiet) || !(self.samples_are_due() || last) {
            return;
        }
        let width = fit::width();
        let mut asked = None;
        for (prompt, answer) in samples {
            if asked != Some(prompt) {
                self.line(&fit::cut(&format!("     {}", fit::one_line(prompt)), width));
            }
            asked = Some(prompt);
            self.line(&fit::cut(&format!("       → {}", fit::one_line(answer)), width));
        }
    }

    fn line(&self, text: &str) {
        let text = &style::line(text);
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
            let what = self.at_stop.get().copied().unwrap_or("saving");
            self.line(&format!("{what}, press Ctrl-C again to stop at once"));
        }
        self.stop.get().is_some_and(Stop::is_asked)
    }
}

impl Task {
    /// Whether it is time to tell how it is going.
    fn is_due(&self) -> bool {
        self.told.elapsed() >= TELL_EVERY.max(self.started.elapsed() / 100)
    }

    /// How much was done in a second, of what was done here.
    fn rate(&self) -> f64 {
        (self.done - self.before) as f64 / self.started.elapsed().as_secs_f64().max(1e-9)
    }

    /// Seconds that are left, where something tells.
    fn left(&self) -> Option<f64> {
        let is_known = self.before < self.done && self.done < self.total;
        is_known.then(|| (self.total - self.done) as f64 / self.rate())
    }

    /// `12 s`, or `12 s, 1 min 28 s left`.
    fn time(&self) -> String {
        let left = self.left().map(|left| format!(", {} left", text::secs(left)));
        text::secs(self.started.elapsed().as_secs_f64()) + &left.unwrap_or_default()
    }

    /// `training: 120 of 400, 3.2/s, 12 s, 1 min 28 s left`.
    fn describe(&self) -> String {
        let amount = |n| if self.unit == Unit::Bytes { text::bytes(n) } else { text::count(n) };
        let mut told = format!("{}: {}", self.name, amount(self.done));
        if self.total > 0 {
            told += &format!(" of {}", amount(self.total));
        }
        told + &format!(", {}, {}", text::rate(self.rate(), self.unit), self.time())
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
        0 => format!("{{spinner}} {{msg}}: {position}{{rate}}, {{elapsed}}"),
        _ => format!("{{msg}} {{wide_bar:.cyan}} {position}{{rate}}{{left}}"),
    };
    // While nothing is done neither speed nor end are known, and nothing is said of them. Nowhere to report a
    // failure to draw.
    let rate = move |state: &ProgressState, out: &mut dyn std::fmt::Write| {
        if state.per_sec() > 0.0 {
            let _ = write!(out, ", {}", text::rate(state.per_sec(), unit));
        }
    };
    let left = |state: &ProgressState, out: &mut dyn std::fmt::Write| {
        if state.per_sec() > 0.0 && Some(state.pos()) != state.len() {
            let _ = write!(out, ", {} left", text::secs(state.eta().as_secs_f64()));
        }
    };
    let style = ProgressStyle::with_template(&template).expect("the template is ours");
    let style = style.with_key("rate", rate).with_key("left", left);
    let bar = bar.with_style(style).with_message(name.to_string());
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_told_by_what_was_done_here() {
        let now = Instant::now();
        let started = now.checked_sub(Duration::from_secs(20)).unwrap();
        let task = |done, before| Task {
            name: "training".into(),
            total: 400,
            unit: Unit::Count,
            done,
            before,
            started,
            told: started,
            has_status: false,
            bar: None,
        };
        assert_eq!(task(0, 0).time(), "20 s", "nothing is done: no end is known");
        assert_eq!(task(200, 200).time(), "20 s", "nothing is done here");
        assert_eq!(task(300, 200).time(), "20 s, 20 s left");
        assert!(task(300, 200).describe().starts_with("training: 300 of 400, 5.0"));
        assert_eq!(task(400, 0).time(), "20 s");
        assert!(task(1, 0).is_due() && !Task { told: now, ..task(1, 0) }.is_due());
    }
}
