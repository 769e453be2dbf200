//! A file of lines that processes write together: the first of them has it, and alone reads and writes it.

use anyhow::{Context, Result};
use gpt::output::{Lines, Out, Recipe};
use gpt::train::run::refuse_other_recipes;
use ranks::Ranks;

/// See the module.
pub(crate) struct SharedLines {
    ranks: Ranks,
    /// On the first rank.
    lines: Option<Lines>,
    kept: String,
    is_finished: bool,
    stays: bool,
}

impl SharedLines {
    /// Opens what `out` names for the command of `recipe`, which must be that of all ranks.
    ///
    /// # Errors
    /// The ranks have different recipes: the difference is shown. See [`Lines::open`].
    pub(crate) fn open(ranks: &Ranks, out: &Out, recipe: &Recipe) -> Result<Self> {
        refuse_other_recipes(ranks, recipe)?;
        let mut lines = None;
        let (kept, is_finished, stays) = ranks.lead(|| {
            let opened = lines.insert(Lines::open(out, recipe)?);
            Ok((opened.kept().to_owned(), opened.is_finished(), opened.stays()))
        })?;
        Ok(SharedLines { ranks: ranks.clone(), lines, kept, is_finished, stays })
    }

    /// See [`Lines::kept`].
    pub(crate) fn kept(&self) -> &str {
        &self.kept
    }

    /// See [`Lines::is_finished`].
    pub(crate) fn is_finished(&self) -> bool {
        self.is_finished
    }

    /// See [`Lines::stays`].
    pub(crate) fn stays(&self) -> bool {
        self.stays
    }

    /// Appends whole lines, which all ranks have: the first one writes them.
    pub(crate) fn push(&mut self, lines: &str) -> Result<()> {
        self.lines.as_mut().map_or(Ok(()), |own| own.push(lines))
    }

    /// All lines are written.
    pub(crate) fn finish(mut self) -> Result<()> {
        let lines = self.lines.take();
        self.ranks.lead(|| lines.context("the first rank has the file")?.finish())
    }
}
