//! The page of a run, and small curves for the terminal.
//!
//! [`write()`] reads the files of a run directory, finished or not, and writes `report.html` beside them: one
//! page in two languages that needs nothing else, no network, and no script but the one that remembers the
//! language. The one idea: everything on it is drawn from files that a person can read as well, and text
//! reaches the page only through the escaping of `html::Element`, in both languages or as data.
//!
//! It draws `loss`, `val_loss`, `lr`, `grad_norm` and whatever other numbers `metrics.jsonl` has, the
//! `tokens_per_sec` and `mfu` of `timings.jsonl`, and takes `tokens` as the number seen so far. `report.json`
//! and `meta.json` are read from the inputs that are directories; `machine` and `parameters` from the
//! recipe's `runtime`.

mod axis;
mod chart;
mod curves;
mod document;
mod figures;
mod headline;
mod html;
mod lineage;
mod metrics;
mod next;
mod record;
mod results;
mod road;
mod sections;
mod sweep;
mod table;
mod tasks;
mod terminal;
#[cfg(test)]
mod tests;
mod text;
mod trials;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::de::DeserializeOwned;

pub use figures::{percent, percent_of, points_of, score_of};
pub use next::quoted;
pub use results::{Baseline, Completion, RESULTS, Results, Stage};
pub use road::{
    Answer, ChatResults, Compared, FrontierPoint, Outcome, System, Tried, Turn, frontier, system_name,
    write_road,
};
pub use sweep::{Sweep, sweeps_page};
pub use tasks::{Predicted, TaskAccuracy, TasksResults, Written, write_tasks_road};
pub use terminal::{chart, sparkline};
pub use text::Text;
pub use trials::{TrialResult, Trials};

use crate::train::run::{Recipe, write_atomically};
use chart::CLIFF;
use document::document;
use record::Record;

/// File name of the page in a run directory.
pub const REPORT: &str = "report.html";
/// What the recipe of the road to a chat is called.
pub const CHAT_ROAD: &str = "speedrun";
/// What that of a sweep is.
pub const SWEEP: &str = "sweep";
/// What that of the road of task tokens is.
pub const TASKS_ROAD: &str = "speedrun --task-tokens";

/// Writes `report.html` into the directory of a run or of a road from what lies there now, and returns its
/// path.
///
/// # Errors
/// There is no recipe, or a road's results are not there or are another version's, or reading or writing
/// fails. Damaged lines and missing files of a run are told on the page.
pub fn write(dir: &Path) -> Result<PathBuf> {
    let path = dir.join(REPORT);
    let page = match Recipe::load(dir)?.stage.as_str() {
        CHAT_ROAD => road::page(dir, &results_of(dir)?),
        SWEEP => trials::page(&results_of(dir)?),
        TASKS_ROAD => tasks::page(dir, &results_of(dir)?),
        _ => page(Record::read(dir)?),
    };
    write_atomically(&path, page.as_bytes())?;
    Ok(path)
}

/// What a road ended in.
fn results_of<T: DeserializeOwned>(dir: &Path) -> Result<T> {
    let path = dir.join(RESULTS);
    let again = "walk the road again: the same command passes what is finished, and measures its models anew";
    let read = fs::read(&path).with_context(|| format!("cannot read {}: {again}", path.display()))?;
    serde_json::from_slice(&read).with_context(|| format!("{} cannot be used: {again}", path.display()))
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
        record.results.as_ref().map(Results::summary),
        Some(headline::headline(&record)),
        record.results.as_ref().map(Results::completions),
        curves::curves(&record),
        sections::samples(&record),
        Some(next::after(&record)),
        corpus,
        Some(sections::recipe(&record)),
        next::made_by(record.command()),
        Some(lineage::lineage(&record)),
        sections::events(&record),
        sections::complaints(&record),
    ];
    let stage = headline::stage_title(&record.recipe.stage);
    let title = Text {
        en: format!("{} · {}", record.name, stage.en),
        zh: format!("{} · {}", record.name, stage.zh),
    };
    let header = headline::header(&record).children(headline::purpose(&record));
    document(title, header, parts.into_iter().flatten())
}
