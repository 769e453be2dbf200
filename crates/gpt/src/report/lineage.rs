//! Where a run comes from: its inputs, and theirs in turn where they are runs themselves.

use std::path::Path;

use super::html::{Element, table};
use super::record::Record;
use super::results::digest_cell;
use crate::train::run::{CONFIG, Recipe};

/// Runs that come from runs are followed this far: a ring of links ends too.
const GENERATIONS: usize = 16;

pub(super) fn section(record: &Record) -> Element {
    let mut rows = Vec::new();
    ancestors(&record.recipe, "", 0, &mut rows);
    let section = Element::new("section").child(Element::new("h2").text("Lineage"));
    let section = if rows.is_empty() {
        section.child(Element::new("p").text("This run names no inputs."))
    } else {
        section.child(table(&["Input", "Made by", "Path", "Digest"], rows)).children(checkpoints(record))
    };
    Element::of("section", "lineage").child(section)
}

fn ancestors(recipe: &Recipe, indent: &str, generation: usize, rows: &mut Vec<Vec<Element>>) {
    for (name, input) in &recipe.inputs {
        let parent = run_of(&input.path);
        let stage = parent.as_ref().map_or(String::new(), |parent| parent.stage.clone());
        rows.push(vec![
            Element::new("td").text(format!("{indent}{name}")),
            Element::new("td").text(stage),
            Element::of("td", "path").text(input.path.display()),
            digest_cell(&input.digest),
        ]);
        if let Some(parent) = parent.filter(|_| generation < GENERATIONS) {
            ancestors(&parent, &format!("{indent}↳ "), generation + 1, rows);
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
    let text = format!("Checkpoints kept: after steps {}.", steps.join(", "));
    (!steps.is_empty()).then(|| Element::of("p", "pale").text(text))
}
