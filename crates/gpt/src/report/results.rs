//! What the whole road ended in: `results.json`, beside the run it tells about.

use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::axis::number;
use super::html::{Element, cell, table};
use crate::eval::Rate;
use crate::numbers::secs;
use crate::train::run::write_atomically;

/// File name of [`Results`] in a run directory.
pub const RESULTS: &str = "results.json";

/// How good the trained model is beside simpler ones, and what it writes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// The stages of the road in order, with the time each took.
    #[serde(default)]
    pub stages: Vec<Stage>,
    /// The trained model first, then what it is to be compared with.
    pub baselines: Vec<Baseline>,
    /// Held-out snippets, continued.
    pub completions: Vec<Completion>,
}

/// One stage of the road.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    /// `corpus`, `tokenizer` …
    pub name: String,
    /// Wall clock.
    pub secs: f64,
    /// What came out, in a few words: `8.2 MB, 1,204 documents`.
    pub note: String,
}

/// A model on the held-out text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    /// `mynah`, `untrained`, `5-gram` …
    pub name: String,
    /// Cross entropy in bits per byte of UTF-8.
    pub bits_per_byte: f64,
    /// Share of lines that are continued exactly as they stand.
    pub next_line: Rate,
}

/// A held-out snippet and two ways to go on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Completion {
    /// Where it is from.
    pub source: String,
    /// What the model was given.
    pub prompt: String,
    /// What the model wrote.
    pub model: String,
    /// What stands there.
    pub truth: String,
}

impl Results {
    /// Writes `results.json` into the run directory.
    pub fn save(&self, run_dir: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self).context("results cannot be written as JSON")?;
        write_atomically(&run_dir.join(RESULTS), text.as_bytes())
    }

    /// How the models compare, and the road that led there.
    pub(super) fn summary(&self) -> Element {
        let heads = ["On held-out text", "bits per byte", "next line exact"];
        Element::of("section", "results")
            .child(table(&heads, self.baseline_rows()))
            .child(road_list(&self.stages))
    }

    /// What the model writes beside what stands there.
    pub(super) fn completions(&self) -> Element {
        let section = Element::new("section").child(Element::new("h2").text("Held-out snippets, completed"));
        section.children(self.completions.iter().map(Completion::card))
    }

    fn baseline_rows(&self) -> Vec<Vec<Element>> {
        let worst = self.baselines.iter().map(|baseline| baseline.bits_per_byte).fold(0.0, f64::max);
        let most = self.baselines.iter().map(|baseline| baseline.next_line.high).fold(0.0, f64::max);
        let row = |(index, baseline): (usize, &Baseline)| {
            let Rate { value, low, high, n } = baseline.next_line;
            let rate = format!("{} %", number(100.0 * value));
            let spread = format!("{} – {} % of {n} lines", number(100.0 * low), number(100.0 * high));
            let name = Element::new(if index == 0 { "strong" } else { "span" }).text(&baseline.name);
            vec![
                Element::new("td").child(name),
                bar(baseline.bits_per_byte / worst, &format!("{:.3}", baseline.bits_per_byte), ""),
                bar(value / most, &rate, &spread),
            ]
        };
        self.baselines.iter().enumerate().map(row).collect()
    }
}

/// The stages of a road, in order.
pub(super) fn road_list(stages: &[Stage]) -> Element {
    let stage = |stage: &Stage| {
        Element::new("li")
            .child(Element::new("strong").text(&stage.name))
            .child(Element::of("span", "pale").text(format!(" {}", secs(stage.secs))))
            .child(Element::of("span", "note").text(&stage.note))
    };
    Element::of("ol", "road").children(stages.iter().map(stage))
}

/// A cell with a bar of the given share of its width.
fn bar(share: f64, label: &str, note: &str) -> Element {
    let width = if share.is_finite() { 100.0 * share.clamp(0.0, 1.0) } else { 0.0 };
    let fill = Element::of("span", "fill").attr("style", format!("width:{width:.1}%"));
    let label =
        Element::of("span", "label").text(label).child(Element::of("span", "pale").text(format!(" {note}")));
    Element::of("td", "bar").child(label).child(Element::of("span", "rail").child(fill))
}

impl Completion {
    fn card(&self) -> Element {
        let same: usize = self
            .model
            .chars()
            .zip(self.truth.chars())
            .take_while(|(a, b)| a == b)
            .map(|(c, _)| c.len_utf8())
            .sum();
        let side = |title: &str, text: &str| {
            let code = Element::new("pre")
                .child(Element::of("mark", "same").text(&text[..same]))
                .text(&text[same..]);
            Element::new("div").child(Element::of("span", "pale").text(title)).child(code)
        };
        Element::of("article", "card completion")
            .child(Element::of("header", "pale").text(&self.source))
            .child(Element::of("pre", "prompt").text(&self.prompt))
            .child(
                Element::of("div", "sides")
                    .child(side("the model goes on", &self.model))
                    .child(side("what stands there", &self.truth)),
            )
    }
}

/// A cell for a digest: its beginning, and the whole of it under the pointer.
pub(super) fn digest_cell(digest: &str) -> Element {
    let short: String = digest.chars().take(20).collect();
    cell(if short.len() < digest.len() { short + "…" } else { short })
        .attr("title", digest)
        .attr("class", "mono")
}
