//! What the road of task tokens ended in: `results.json` and the page about it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::REPORT;
use super::document::document;
use super::figures::percent_of;
use super::html::{Element, paragraph, section};
use super::next::{self, quoted};
use super::record::command_of;
use super::results::{RESULTS, Stage, baseline_name, road_list};
use super::table::{Table, cell, said};
use super::text::both;
use crate::eval::Rate;
use crate::numbers::count;
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
    write_atomically(&path, page(dir, results).as_bytes())?;
    Ok(path)
}

/// The page about such a road.
pub(super) fn page(dir: &Path, results: &TasksResults) -> String {
    let title = both("Task tokens", "任务 token");
    let header = Element::of("div", "opening").child(Element::new("h1").say(title.clone())).child(
        paragraph(both(
            "One language model of text and of tasks: what it makes of names and sentences that training has never seen.",
            "一个既学文本也学任务的语言模型：训练中从未出现过的名字和句子，它怎么处理。",
        )),
    );
    let asked = |TaskAccuracy { task, exact, .. }: &TaskAccuracy| {
        [task.clone(), percent_of(*exact), count(exact.n)].map(cell).into()
    };
    let heads = [both("task", "任务"), both("exactly right", "完全正确"), both("rows", "行数")];
    let asked = Table::new(both("Inputs that training has never seen", "训练中从未出现过的输入"), heads)
        .rows(results.tasks.iter().map(asked));
    let predicted = |Predicted { name, bits_per_byte }: &Predicted| {
        vec![said(baseline_name(name)), cell(format!("{bits_per_byte:.3}"))]
    };
    let heads = [both("model", "模型"), both("bits per byte", "每字节比特数")];
    let predicted = Table::new(both("Held-out plain text", "留出的普通文本"), heads)
        .rows(results.text.iter().map(predicted));
    let shown = results.examples.iter().chain(results.tasks.iter().flat_map(|asked| &asked.shown));
    let written = |Written { input, task, written, wanted }: &Written| {
        let wanted = wanted.clone().unwrap_or_default();
        [input.clone(), task.clone(), written.clone(), wanted].map(cell).into()
    };
    let heads = [
        both("input", "输入"),
        both("task", "任务"),
        both("it writes", "它写"),
        both("right is", "正确的是"),
    ];
    let written = Table::new(both("What it was asked, and what it wrote", "问了什么，它写了什么"), heads)
        .rows(shown.map(written));
    let link = Element::new("a").attr("href", format!("pretrain/{REPORT}"));
    let link = link.say(both("The page of the training", "训练的页面"));
    let model = quoted(&dir.join("pretrain").display().to_string());
    let ask = both("Ask it yourself.", "自己问问它。");
    let sections = [
        section(both("How often it is right", "它多常做对")).child(asked.build()).child(predicted.build()),
        section(both("What it writes", "它写了什么")).child(written.build()),
        section(both("The stages", "各阶段"))
            .child(road_list(&results.stages))
            .child(Element::new("p").child(link)),
        next::steps([(
            ask,
            format!("mynah complete --model {model} '我是小明' --task '[问题] 我是谁 [答案]'"),
        )]),
    ];
    document(title, header, sections.into_iter().chain(next::made_by(command_of(dir).as_deref())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_shows_how_often_and_what() {
        let written = Written {
            input: "我是<小明>".into(),
            task: "[问题]".into(),
            written: "小明".into(),
            wanted: Some("小明".into()),
        };
        let asked =
            TaskAccuracy {
                task: "[问题]".into(), exact: Rate::wilson(9, 20), shown: vec![written.clone()]
            };
        let results = TasksResults {
            stages: vec![Stage { name: "pretrain".into(), secs: 61.0, note: String::new(), flops: None }],
            tasks: vec![asked],
            text: vec![Predicted { name: "5-grams".into(), bits_per_byte: 1.25 }],
            examples: vec![written],
        };
        let page = page(Path::new("runs/tasks"), &results);
        crate::report::tests::check(&page);
        for told in [
            "45.0 % (25.8–65.8)",
            "我是&lt;小明&gt;",
            "5-grams, counted",
            "数出来的 5-gram",
            "1.250",
            "1 min 01 s",
        ] {
            assert!(page.contains(told), "{told}");
        }
    }
}
