//! The sequencer: receives judged records in order, deduplicates, samples, splits, writes, counts, and finishes.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use kernels::rng;

use super::clean::source_extension;
use super::dedup::{Key, MAX_SEEN, Repeats, Seen, key};
use super::documents::{Document, Documents, RECORD, ShardWriter, to_line};
use super::files::find;
use super::judge::{Clean, Judged};
use super::reason::Reason;
use super::report::{Example, Report, Shard, Total};
use super::sample::{Sample, Weights};
use super::{Options, OutDir, Split, completed, pipeline};
use crate::hub::Name;
use crate::progress::{Progress, Unit};

/// The stream of random numbers that decides the split.
const SPLIT_STREAM: u64 = 0x5350_4c49;
/// From this many records on, mostly bad ones stop the build at once: the column is wrong.
const EARLY_RECORDS: u64 = 1000;

/// Makes a corpus. When `options.out` holds the complete corpus of the same options already, nothing is done and
/// its report returned; a corpus of other options is refused with the difference.
pub fn build(options: &Options, progress: &dyn Progress) -> Result<Report> {
    build_with(options, progress, MAX_SEEN)
}

/// [`build`] with another number of keys in memory.
pub(super) fn build_with(options: &Options, progress: &dyn Progress, max_seen: usize) -> Result<Report> {
    ensure!((0.0..1.0).contains(&options.val_fraction), "the validation fraction must be in 0 ≤ f < 1");
    ensure!(
        (0.0..=1.0).contains(&options.max_bad_fraction),
        "the fraction of bad records must be in 0 ≤ f ≤ 1"
    );
    let mut options = options.clone();
    for path in options.paths.iter_mut().filter(|path| !Name::is(path)) {
        *path = std::path::absolute(&*path).with_context(|| format!("“{}” is not a path", path.display()))?;
    }
    let identity = serde_json::to_value(&options)?;
    if let Some(found) = completed(&options.out, RECORD, &identity)? {
        progress.line(&format!("{} is complete already: nothing to do", options.out.display()));
        return serde_json::from_value(found)
            .context("the report is of another version: remove the directory");
    }
    let out = OutDir::open(&options.out, RECORD, is_shard)?;
    let mut report = Report { format: 1, options: identity, ..Report::default() };
    let (sample, weights) = Sample::new(options.seed, options.max_bytes);
    let mut inputs = find(&options, &mut report, progress)?;
    if !sample.is_unlimited() {
        // Files of many documents must be read anyhow; then single files by their lot, until the sample is full.
        inputs.sort_by_cached_key(|i| if i.is_single() { 1 + sample.lot(&i.name()) } else { 0 });
    }
    let staged = out.work().join("staged");
    std::fs::create_dir(&staged).context("cannot create a folder in the output directory")?;
    let mut sequencer = Sequencer {
        options: &options,
        sample: &sample,
        weights,
        seen: options.dedup.then(|| Seen::new(out.work().join("keys"), max_seen)),
        train: Side::new(&staged, Split::Train),
        val: Side::new(&staged, Split::Val),
        report,
    };
    progress.begin("reading", sequencer.report.file_bytes, Unit::Bytes);
    pipeline::run(inputs, &options, &sample, progress, &mut |judged| sequencer.receive(judged))?;
    progress.end();
    let (report, from) = sequencer.finish(&out.work(), progress)?;
    out.commit(&from, report.shards.iter().map(|s| s.name.as_str()), &report)?;
    Ok(report)
}

/// Whether a file name is that of a shard.
fn is_shard(name: &str) -> bool {
    name.ends_with(".jsonl") && (name.starts_with("train-") || name.starts_with("val-"))
}

/// One split while it is written.
struct Side {
    writer: ShardWriter,
    total: Total,
}

impl Side {
    fn new(dir: &Path, split: Split) -> Side {
        Side { writer: ShardWriter::new(dir, split.name()), total: Total::default() }
    }

    fn write(&mut self, line: &[u8], text_bytes: u64) -> Result<()> {
        self.total.add(text_bytes);
        self.writer.write(line)
    }
}

struct Sequencer<'a> {
    options: &'a Options,
    sample: &'a Sample,
    weights: Weights,
    seen: Option<Seen>,
    train: Side,
    val: Side,
    report: Report,
}

impl Sequencer<'_> {
    fn receive(&mut self, judged: Judged) -> Result<()> {
        let is_record = judged.is_record();
        let Judged { input, line, mut bytes, source, crlf, verdict } = judged;
        let bad = is_record && matches!(verdict, Err((reason, _)) if reason.is_bad_record());
        // Damage is counted wherever it is met. For the rest, what is not drawn is not judged, since the reader may
        // not even have opened the file.
        let drawn = self.sample.holds(&source);
        if !drawn && input.is_single() {
            bytes = input.size;
        }
        let extension = source_extension(&source);
        let report = &mut self.report;
        report.read.add(bytes);
        report.extension(&extension).read.add(bytes);
        report.records += u64::from(is_record);
        report.bad_records += u64::from(bad);
        report.crlf_normalised += u64::from(crlf && drawn);
        let damaged = bad || matches!(&verdict, Err((reason, _)) if reason.is_damage()) && !input.is_single();
        let (reason, detail) = match verdict {
            _ if !drawn && !damaged => (Reason::NotSampled, String::new()),
            Err(why) => why,
            Ok(clean) if self.is_repeat(clean.key)? => (Reason::Duplicate, String::new()),
            Ok(clean) => return self.keep(clean, &source, &extension),
        };
        let example = || Example { file: input.path.display().to_string(), line, detail };
        self.report.drop(reason, bytes, example);
        if bad && self.report.records >= EARLY_RECORDS {
            self.check_bad(self.options.max_bad_fraction.max(0.5))?;
        }
        Ok(())
    }

    fn is_repeat(&mut self, key: Key) -> Result<bool> {
        let split = self.split(key, self.threshold());
        let number = number(split, self.side(split).total.documents);
        self.seen.as_mut().map_or(Ok(false), |seen| seen.is_repeat(key, number))
    }

    fn keep(&mut self, clean: Clean, source: &str, extension: &str) -> Result<()> {
        self.sample.take(&mut self.weights, source, clean.bytes);
        self.report.extension(extension).kept.add(clean.bytes);
        let split = self.split(clean.key, self.threshold());
        self.side(split).write(&clean.line, clean.bytes)
    }

    fn side(&mut self, split: Split) -> &mut Side {
        match split {
            Split::Train => &mut self.train,
            Split::Val => &mut self.val,
        }
    }

    /// A document's place in `0 .. 2⁶⁴`: what lies below the threshold validates.
    fn place(&self, key: Key) -> u64 {
        rng::bits(self.options.seed, SPLIT_STREAM, key as u64)
    }

    fn threshold(&self) -> u64 {
        (self.options.val_fraction * 2f64.powi(64)) as u64
    }

    fn split(&self, key: Key, threshold: u64) -> Split {
        if self.place(key) < threshold { Split::Val } else { Split::Train }
    }

    fn check_bad(&self, allowed: f64) -> Result<()> {
        let (bad, records) = (self.report.bad_records, self.report.records);
        if bad as f64 <= allowed * records as f64 {
            return Ok(());
        }
        bail!(
            "{bad} of {records} records are bad, more than {} %:{}\nmend them, name the text's column with \
             --text-field, or allow more with --max-bad-fraction",
            100.0 * allowed,
            self.report.reasons(Reason::is_bad_record)
        )
    }

    /// Closes the shards, rewrites them where something must leave or change sides, and seals the report.
    /// Returns it with the folder that holds the shards.
    fn finish(mut self, work: &Path, progress: &dyn Progress) -> Result<(Report, PathBuf)> {
        self.check_bad(self.options.max_bad_fraction)?;
        let late = self.seen.take().map_or(Ok(Repeats::default()), Seen::late_repeats)?;
        let staged = work.join("staged");
        let train = std::mem::replace(&mut self.train, Side::new(work, Split::Train));
        let val = std::mem::replace(&mut self.val, Side::new(work, Split::Val));
        let mut totals = (train.total, val.total);
        let mut shards = (train.writer.finish()?, val.writer.finish()?);
        let missing = |t: &Total| t.documents == 0;
        let one_sided = self.options.val_fraction > 0.0 && (missing(&totals.0) || missing(&totals.1));
        let mut from = staged.clone();
        if !late.is_empty() || !self.sample.is_everything() || one_sided {
            self.rewrite(&staged, &shards, &late, progress)?;
            totals = (self.train.total, self.val.total);
            let done =
                |side: &mut Side| std::mem::replace(&mut side.writer, ShardWriter::new(work, "")).finish();
            shards = (done(&mut self.train)?, done(&mut self.val)?);
            from = work.to_path_buf();
        }
        let mut report = self.report;
        (report.train, report.val) = totals;
        report.kept = Total {
            documents: report.train.documents + report.val.documents,
            bytes: report.train.bytes + report.val.bytes,
        };
        if report.kept.documents == 0 {
            let why = report.reasons(|_| true);
            bail!("the corpus would be empty: of {} files nothing was kept{why}", report.files);
        }
        report.shards = shards.0.into_iter().chain(shards.1).collect();
        report.seal();
        Ok((report, from))
    }

    /// Writes the staged documents again, without those that must leave, with at least one document on either side.
    fn rewrite(
        &mut self,
        staged: &Path,
        shards: &(Vec<Shard>, Vec<Shard>),
        late: &Repeats,
        progress: &dyn Progress,
    ) -> Result<()> {
        let count = self.train.total.documents + self.val.total.documents;
        progress.begin("finishing", count, Unit::Count);
        let (mut lowest, mut highest) = (u64::MAX, 0);
        for_each(staged, shards, &mut |number, document| {
            if !late.contains(number) && self.sample.holds(&document.source) {
                let place = self.place(key(&document.text));
                (lowest, highest) = (lowest.min(place), highest.max(place));
            }
            Ok(())
        })?;
        let mut threshold = self.threshold();
        if self.options.val_fraction > 0.0 && lowest <= highest {
            ensure!(
                lowest < highest,
                "there is only one document, so none can be held out: give more text, or --val-fraction 0"
            );
            threshold = threshold.clamp(lowest + 1, highest);
        }
        for_each(staged, shards, &mut |number, document| {
            progress.advance(1);
            let bytes = document.text.len() as u64;
            let reason = if late.contains(number) {
                Reason::Duplicate
            } else if !self.sample.holds(&document.source) {
                Reason::NotSampled
            } else {
                let split = self.split(key(&document.text), threshold);
                return self.side(split).write(&to_line(&document.text, &document.source), bytes);
            };
            let kept = &mut self.report.extension(&source_extension(&document.source)).kept;
            (kept.documents, kept.bytes) = (kept.documents - 1, kept.bytes - bytes);
            self.report.drop(reason, bytes, || Example {
                file: document.source,
                line: 0,
                detail: String::new(),
            });
            Ok(())
        })?;
        progress.end();
        Ok(())
    }
}

/// What a staged document is called: its place in its split. The same text is always in the same split.
fn number(split: Split, index: u64) -> u64 {
    2 * index + u64::from(split == Split::Val)
}

/// Every staged document with its number, train first.
fn for_each(
    staged: &Path,
    shards: &(Vec<Shard>, Vec<Shard>),
    visit: &mut dyn FnMut(u64, Document) -> Result<()>,
) -> Result<()> {
    for (split, shards) in [(Split::Train, &shards.0), (Split::Val, &shards.1)] {
        for (index, document) in Documents::of_shards(staged, shards.clone()).enumerate() {
            visit(number(split, index as u64), document?)?;
        }
    }
    Ok(())
}
