//! What the road of task tokens ended in: `results.json` and the page about it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::html::{Element, cell, table};
use super::results::{RESULTS, Stage, road_list};
use super::{REPORT, document};
use crate::eval::Rate;
use crate::train::run::write_atomically;

/// Everything that the road found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TasksResults {
    /// The stages in order, with the time each took.
    pub stages: Vec<Stage>,
    /// What was asked of inputs that training has never seen, task by task.
    pub tasks: Vec<TaskAccuracy>,
    /// Held-out plain text: the trained model first, then what it is to be compared with.
    pub text: Vec<Predicted>,
    /// What the model makes of some well-known inputs.
    pub examples: Vec<Written>,
}

/// A task, and how well it is done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskAccuracy {
    /// As rows name it.
    pub task: String,
    /// The share of outputs that are exactly the right one.
    pub exact: Rate,
    /// Some of them.
    pub shown: Vec<Written>,
}

/// How well a model predicts held-out text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Predicted {
    /// `mynah`, `untrained`, `5-grams`.
    pub name: String,
    /// Cross entropy in bits per byte of UTF-8.
    pub bits_per_byte: f64,
}

/// What a model wrote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    /// What it was given.
    pub input: String,
    /// What was asked; empty for a text to go on with.
    pub task: String,
    /// What it wrote.
    pub written: String,
    /// What it was to write, where that is known.
    pub wanted: Option<String>,
}

/// Writes `results.json` and `report.html` into the road's directory, and returns the path of the page.
///
/// # Errors
/// Writing fails.
pub fn write_tasks_road(dir: &Path, results: &TasksResults) -> Result<PathBuf> {
    let text = serde_json::to_string_pretty(results).context("results cannot be written as JSON")?;
    write_atomically(&dir.join(RESULTS), text.as_bytes())?;
    let path = dir.join(REPORT);
    write_atomically(&path, document("Task tokens · mynah", page(results)).as_bytes())?;
    Ok(path)
}

fn page(results: &TasksResults) -> Element {
    let heading = Element::new("header")
        .child(Element::of("p", "brand").text("mynah"))
        .child(Element::new("h1").text("Task tokens"))
        .child(Element::of("p", "pale").text(
            "One language model of text and of tasks: what it makes of names and sentences that training has never seen.",
        ));
    let percent = |share: f64| format!("{:.1} %", 100.0 * share);
    let asked = |TaskAccuracy { task, exact, .. }: &TaskAccuracy| {
        let Rate { value, low, high, n } = *exact;
        let spread = format!("{} – {}", percent(low), percent(high));
        Vec::from([task.clone(), percent(value), spread, n.to_string()].map(cell))
    };
    let predicted =
        |Predicted { name, bits_per_byte }: &Predicted| vec![cell(name), cell(format!("{bits_per_byte:.3}"))];
    let shown = results.examples.iter().chain(results.tasks.iter().flat_map(|asked| &asked.shown));
    let written = |Written { input, task, written, wanted }: &Written| {
        let wanted = wanted.clone().unwrap_or_default();
        Vec::from([input.clone(), task.clone(), written.clone(), wanted].map(cell))
    };
    let heads = ["TaskAccuracy of unseen inputs", "exact", "95 % interval", "rows"];
    let link = Element::new("a").attr("href", format!("pretrain/{REPORT}")).text("The page of the training");
    Element::new("main")
        .child(heading)
        .child(Element::of("section", "results").child(table(&heads, results.tasks.iter().map(asked))))
        .child(table(&["Held-out plain text", "bits per byte"], results.text.iter().map(predicted)))
        .child(Element::new("h2").text("What it writes"))
        .child(table(&["input", "task", "it writes", "right is"], shown.map(written)))
        .child(Element::new("h2").text("The stages"))
        .child(road_list(&results.stages))
        .child(Element::new("p").child(link))
}
