//! What the whole road ended in: `results.json`, beside the run it tells about.

use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::figures::percent_of;
use super::html::{Element, section};
use super::table::{Table, said};
use super::text::{Text, alike, both};
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
    /// Floating-point operations of models, where they are counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flops: Option<f64>,
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
        let heads = [
            both("on held-out text", "在留出文本上"),
            both("bits per byte", "每字节比特数"),
            both("next line exact", "下一行完全正确"),
        ];
        let table =
            Table::new(both("The model beside simpler ones", "与更简单的模型对照"), heads).class("bars");
        section(both("How well it knows held-out code", "它对留出的代码有多了解"))
            .child(table.rows(self.baseline_rows()).build())
            .child(road_list(&self.stages))
    }

    /// What the model writes beside what stands there.
    pub(super) fn completions(&self) -> Element {
        section(both("Held-out snippets, completed", "留出的代码片段，续写"))
            .children(self.completions.iter().map(Completion::card))
    }

    fn baseline_rows(&self) -> Vec<Vec<Element>> {
        let worst = self.baselines.iter().map(|baseline| baseline.bits_per_byte).fold(0.0, f64::max);
        let most = self.baselines.iter().map(|baseline| baseline.next_line.high).fold(0.0, f64::max);
        let row = |baseline: &Baseline| {
            let rate = baseline.next_line;
            vec![
                said(baseline_name(&baseline.name)),
                bar(baseline.bits_per_byte / worst, &format!("{:.3}", baseline.bits_per_byte)),
                bar(rate.value / most, &percent_of(rate)),
            ]
        };
        self.baselines.iter().map(row).collect()
    }
}

/// What a model is called that others are compared with.
pub(super) fn baseline_name(name: &str) -> Text {
    match (name, name.split_once("-gram")) {
        ("untrained", _) => both("untrained", "未训练"),
        (_, Some((n, _))) => both(format!("{n}-grams, counted"), format!("数出来的 {n}-gram")),
        _ => alike(name),
    }
}

/// What a stage of a road is called.
pub(super) fn road_stage(name: &str) -> Text {
    match name {
        "lessons" => both("Lessons", "课文"),
        "corpus" => both("Corpus", "语料"),
        "tokenizer" => both("Vocabulary", "词表"),
        "tokens" => both("Tokens", "转成 token"),
        "candidates" => both("Candidates", "候选回答"),
        "rankings" => both("Rankings", "排序"),
        "compare" => both("Examination", "考试"),
        "evaluate" => both("Evaluation", "评测"),
        stage => super::headline::stage_title(stage),
    }
}

/// The stages of a road, in order.
pub(super) fn road_list(stages: &[Stage]) -> Element {
    let stage = |stage: &Stage| {
        Element::new("li")
            .child(Element::new("strong").say(road_stage(&stage.name)))
            .child(Element::of("span", "pale").data(secs(stage.secs)))
    };
    Element::of("ol", "road").children(stages.iter().map(stage))
}

/// What stands in a cell with a bar of the given share of its width.
fn bar(share: f64, label: &str) -> Element {
    let width = if share.is_finite() { 100.0 * share.clamp(0.0, 1.0) } else { 0.0 };
    let fill = Element::of("span", "fill").attr("style", format!("width:{width:.1}%"));
    Element::of("div", "value bar")
        .child(Element::new("span").data(label))
        .child(Element::of("span", "rail").child(fill))
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
        let side = |title: Text, text: &str| {
            let code = Element::new("pre")
                .child(Element::of("mark", "same").data(&text[..same]))
                .child(Element::new("span").data(&text[same..]));
            Element::new("div").child(Element::of("span", "pale").say(title)).child(code)
        };
        Element::of("article", "card completion")
            .child(Element::of("p", "pale").data(&self.source))
            .child(Element::of("pre", "prompt").data(&self.prompt))
            .child(
                Element::of("div", "sides")
                    .child(side(both("the model goes on", "模型续写"), &self.model))
                    .child(side(both("what stands there", "原文"), &self.truth)),
            )
    }
}
