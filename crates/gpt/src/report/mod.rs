//! The page of a run, and small curves for the terminal.
//!
//! [`write()`] reads the files of a run directory, finished or not, and writes `report.html` beside them: one
//! page that needs nothing else, no network, no scripts. The one idea: everything on it is drawn from files
//! that a person can read as well, and text reaches the page only through the escaping of `html::Element`.
//!
//! It draws `loss`, `val_loss`, `lr`, `grad_norm` and whatever other numbers `metrics.jsonl` has, the
//! `tokens_per_sec` and `mfu` of `timings.jsonl`, and takes `tokens` as the number seen so far. `report.json`
//! and `meta.json` are read from the inputs that are directories; `machine` and `parameters` from the
//! recipe's `runtime`.

mod axis;
mod chart;
mod curves;
mod html;
mod lineage;
mod record;
mod results;
mod road;
mod sections;
mod sweep;
mod tasks;
mod terminal;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use anyhow::Result;

pub use results::{Baseline, Completion, RESULTS, Results, Stage};
pub use road::{Answer, ChatResults, FrontierPoint, System, Tried, frontier, write_road};
pub use sweep::{Sweep, sweeps_page};
pub use tasks::{Predicted, TaskAccuracy, TasksResults, Written, write_tasks_road};
pub use terminal::{chart, sparkline};

use crate::train::run::write_atomically;
use chart::CLIFF;
use html::Element;
use record::Record;

/// File name of the page in a run directory.
pub const REPORT: &str = "report.html";

/// Writes `report.html` into the run directory from what lies there now, and returns its path.
///
/// # Errors
/// `run_dir` has no recipe, or reading or writing fails. Damaged lines and missing files are told on the
/// page.
pub fn write(run_dir: &Path) -> Result<PathBuf> {
    let path = run_dir.join(REPORT);
    write_atomically(&path, page(Record::read(run_dir)?).as_bytes())?;
    Ok(path)
}

/// The smoothed training loss of a run so far as a picture for the terminal, see [`chart()`]. As on the page,
/// the first steps are left out where they lie above everything that follows.
pub fn loss_chart(run_dir: &Path, columns: usize, rows: usize) -> Result<String> {
    let mut loss = record::smooth(&Record::read(run_dir)?.metric("loss"));
    let late = CLIFF * loss.last().map_or(0.0, |point| point.0);
    let top =
        loss.iter().filter(|point| point.0 >= late).map(|point| point.1).fold(f64::NEG_INFINITY, f64::max);
    loss.retain(|point| point.1 <= top);
    Ok(chart(&loss, columns, rows))
}

fn page(mut record: Record) -> String {
    let corpus = sections::corpus(&mut record);
    let parts = [
        Some(sections::header(&record)),
        record.results.as_ref().map(Results::summary),
        Some(sections::headline(&record)),
        record.results.as_ref().map(Results::completions),
        curves::section(&record),
        sections::samples(&record),
        corpus,
        Some(sections::recipe(&record)),
        Some(lineage::section(&record)),
        sections::events(&record),
        sections::complaints(&record),
    ];
    let title = format!("{} · mynah {}", record.name, record.recipe.stage);
    document(&title, Element::new("main").children(parts.into_iter().flatten()))
}

/// A whole page.
fn document(title: &str, main: Element) -> String {
    let meta = |name: &str, content: &str| Element::new("meta").attr("name", name).attr("content", content);
    // Should text ever slip through unescaped, the browser still runs and loads nothing.
    let policy = Element::new("meta")
        .attr("http-equiv", "Content-Security-Policy")
        .attr("content", "default-src 'none'; style-src 'unsafe-inline'");
    let head = Element::new("head")
        .child(Element::new("meta").attr("charset", "utf-8"))
        .child(policy)
        .child(meta("viewport", "width=device-width, initial-scale=1"))
        .child(meta("color-scheme", "light dark"))
        .child(Element::new("title").text(title))
        .child(Element::style(include_str!("style.css")));
    let html = Element::new("html").attr("lang", "en").child(head).child(Element::new("body").child(main));
    format!("<!doctype html>\n{html}\n")
}
