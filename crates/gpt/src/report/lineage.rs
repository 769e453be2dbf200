//! Where a run comes from: its inputs, and theirs in turn where they are runs themselves.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::headline::stage_title;
use super::html::{Element, paragraph, section};
use super::record::Record;
use super::sections::short_digest;
use super::table::{Table, cell, said};
use super::text::{Text, both};
use crate::train::run::{CONFIG, Recipe};

pub(super) fn lineage(record: &Record) -> Element {
    let mut tree = Tree::default();
    tree.add(&record.recipe, "");
    let rows = tree.rows;
    let section = section(both("Lineage", "来历"));
    if rows.is_empty() {
        return section.child(paragraph(both("This run names no inputs.", "这次训练没有写明输入。")));
    }
    let heads =
        [both("input", "输入"), both("made by", "来自"), both("path", "路径"), both("digest", "摘要")];
    let table = Table::new(
        both("What it was made of, and what that was made of", "由什么得来，它们又由什么得来"),
        heads,
    );
    section.child(table.rows(rows).build()).children(checkpoints(record))
}

/// Rows of inputs, each run's own inputs below it where it is met first: a ring of links ends, and what two
/// inputs come from is told once.
#[derive(Default)]
struct Tree {
    rows: Vec<Vec<Element>>,
    met: BTreeSet<PathBuf>,
}

impl Tree {
    fn add(&mut self, recipe: &Recipe, indent: &str) {
        for (name, input) in &recipe.inputs {
            let parent = run_of(&input.path);
            let stage = parent.as_ref().map_or_else(Text::default, |parent| stage_title(&parent.stage));
            self.rows.push(vec![
                cell(format!("{indent}{name}")),
                said(stage),
                Element::of("div", "value path").data(input.path.display()),
                Element::of("div", "value mono")
                    .attr("title", &input.digest)
                    .data(short_digest(&input.digest)),
            ]);
            if let Some(parent) = parent.filter(|_| self.met.insert(input.path.clone())) {
                self.add(&parent, &format!("{indent}↳ "));
            }
        }
    }
}

/// The recipe of the run that `path` is, or is a checkpoint of.
fn run_of(path: &Path) -> Option<Recipe> {
    let dir =
        [Some(path), path.ancestors().nth(2)].into_iter().flatten().find(|dir| dir.join(CONFIG).exists())?;
    Recipe::load(dir).ok()
}

fn checkpoints(record: &Record) -> Option<Element> {
    let steps: Vec<String> =
        record.checkpoints.iter().map(|checkpoint| checkpoint.step.to_string()).collect();
    let steps = steps.join(", ");
    let text =
        both(format!("Checkpoints kept: after steps {steps}."), format!("保留的检查点：第 {steps} 步之后。"));
    (!steps.is_empty()).then(|| Element::of("p", "pale").say(text))
}
