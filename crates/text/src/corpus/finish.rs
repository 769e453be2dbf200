//! The end of a build: documents that must still be dropped are dropped, examples get the names that they
//! lack, and the report is written.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail, ensure};

use super::Split;
use super::build::{Sequencer, Side, number};
use super::dedup::{Repeats, Seen, key};
use super::documents::{Document, Documents, ShardWriter, to_line};
use super::name::source_extension;
use super::near::{Near, Resemblance};
use super::reason::Reason;
use super::report::{Example, Report, Shard, Total};
use crate::progress::{Progress, Unit};

/// The documents as they were written first: train, then val.
struct Staged {
    dir: PathBuf,
    shards: [Vec<Shard>; 2],
}

/// What was let through and has to leave again.
struct Late {
    repeats: Repeats,
    /// By number.
    near: Vec<(u64, Resemblance)>,
}

impl Sequencer<'_> {
    /// Closes the shards, rewrites them where something must leave or change sides, and seals the report.
    /// Returns it with the folder that holds the shards.
    pub(super) fn finish(mut self, work: &Path, progress: &dyn Progress) -> Result<(Report, PathBuf)> {
        self.check_bad(self.options.max_bad_fraction)?;
        let late = Late {
            repeats: self.seen.take().map_or(Ok(Repeats::default()), Seen::late_repeats)?,
            near: self.near.take().map_or(Ok(Vec::new()), Near::late)?,
        };
        let train = std::mem::replace(&mut self.train, Side::new(work, Split::Train));
        let val = std::mem::replace(&mut self.val, Side::new(work, Split::Val));
        let mut totals = [train.total, val.total];
        let shards = [train.writer.finish()?, val.writer.finish()?];
        let mut staged = Staged { dir: work.join("staged"), shards };
        for (index, resemblance) in std::mem::take(&mut self.resembled) {
            let detail = staged.describe(&resemblance)?;
            if let Some(dropped) = self.report.dropped.get_mut(&Reason::NearDuplicate) {
                dropped.examples[index].detail = detail;
            }
        }
        let one_sided = self.options.val_fraction > 0.0 && totals.iter().any(|t| t.documents == 0);
        let mut from = staged.dir.clone();
        if !late.is_empty() || !self.sample.is_everything() || one_sided {
            self.rewrite(&staged, &late, progress)?;
            totals = [self.train.total, self.val.total];
            let done =
                |side: &mut Side| std::mem::replace(&mut side.writer, ShardWriter::new(work, "")).finish();
            staged.shards = [done(&mut self.train)?, done(&mut self.val)?];
            from = work.to_path_buf();
        }
        let mut report = self.report;
        [report.train, report.val] = totals;
        report.kept = Total {
            documents: report.train.documents + report.val.documents,
            bytes: report.train.bytes + report.val.bytes,
        };
        if report.kept.documents == 0 {
            let why = report.reasons(|_| true);
            bail!(
                "the corpus would be empty: of {} files nothing was kept{why}\nname files or folders with text: plain text, source code, \
                 JSON, CSV, TSV, Parquet; and gzip or zstd of these",
                report.files
            );
        }
        report.shards = staged.shards.into_iter().flatten().collect();
        report.seal();
        Ok((report, from))
    }

    /// Writes the staged documents again, without those that must leave, with at least one document on either
    /// side.
    fn rewrite(&mut self, staged: &Staged, late: &Late, progress: &dyn Progress) -> Result<()> {
        let count = staged.shards.iter().flatten().map(|shard| shard.documents).sum();
        progress.begin("finishing", count, Unit::Count);
        let (mut lowest, mut highest) = (u64::MAX, 0);
        staged.for_each(&mut |number, document| {
            if late.reason(number).is_none() && self.sample.holds(&document.source) {
                let place = self.options.place(key(&document.text));
                (lowest, highest) = (lowest.min(place), highest.max(place));
            }
            Ok(())
        })?;
        let mut threshold = self.options.threshold();
        if self.options.val_fraction > 0.0 && lowest <= highest {
            ensure!(
                lowest < highest,
                "there is only one document, so none can be held out: give more text, or --val-fraction 0"
            );
            threshold = threshold.clamp(lowest + 1, highest);
        }
        staged.for_each(&mut |number, document| {
            progress.advance(1);
            let bytes = document.text.len() as u64;
            let Some(reason) = late
                .reason(number)
                .or_else(|| (!self.sample.holds(&document.source)).then_some(Reason::NotSampled))
            else {
                let split = self.options.split(key(&document.text), threshold);
                return self.side(split).write(&to_line(&document.text, &document.source), bytes);
            };
            let kept = &mut self.report.extension(&source_extension(&document.source)).kept;
            (kept.documents, kept.bytes) = (kept.documents - 1, kept.bytes - bytes);
            let wants_example = self.report.wants_example(reason);
            let detail = match late.resemblance(number).filter(|_| wants_example) {
                Some(resemblance) => staged.describe(resemblance)?,
                None => String::new(),
            };
            self.report.drop(reason, bytes, || Example { file: document.source, line: 0, detail });
            Ok(())
        })?;
        progress.end();
        Ok(())
    }
}

impl Late {
    fn is_empty(&self) -> bool {
        self.repeats.is_empty() && self.near.is_empty()
    }

    fn resemblance(&self, number: u64) -> Option<&Resemblance> {
        let place = self.near.binary_search_by_key(&number, |(number, _)| *number).ok()?;
        Some(&self.near[place].1)
    }

    fn reason(&self, number: u64) -> Option<Reason> {
        match self.repeats.contains(number) {
            true => Some(Reason::Duplicate),
            false => self.resemblance(number).map(|_| Reason::NearDuplicate),
        }
    }
}

impl Staged {
    /// Every document with its number, train first.
    fn for_each(&self, visit: &mut dyn FnMut(u64, Document) -> Result<()>) -> Result<()> {
        for (split, shards) in [Split::Train, Split::Val].into_iter().zip(&self.shards) {
            for (index, document) in Documents::of_shards(&self.dir, shards.clone()).enumerate() {
                visit(number(split, index as u64), document?)?;
            }
        }
        Ok(())
    }

    /// Names the document that another one resembles: its shard is read up to it.
    fn describe(&self, resemblance: &Resemblance) -> Result<String> {
        let (side, mut index) = ((resemblance.number % 2) as usize, resemblance.number / 2);
        for shard in &self.shards[side] {
            if index < shard.documents {
                let mut documents = Documents::of_shards(&self.dir, vec![shard.clone()]);
                if let Some(document) = documents.nth(index as usize) {
                    return Ok(format!("resembles {} ({:.2})", document?.source, resemblance.similarity));
                }
            }
            index -= shard.documents.min(index);
        }
        bail!("document {} is in no shard", resemblance.number)
    }
}
