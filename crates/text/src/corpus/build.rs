//! The sequencer: receives classified records in order, deduplicates, samples, splits, writes and counts.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};

use super::classify::{Classified, Clean};
use super::dedup::{Key, MAX_SEEN, Seen};
use super::documents::{RECORD, ShardWriter, to_line};
use super::files::find;
use super::name::source_extension;
use super::near::{MAX_NEAR, NEAR_THRESHOLDS, Near, Resemblance};
use super::reason::Reason;
use super::report::{Example, Report, Total};
use super::sample::{Sample, Weights};
use super::{Options, Split, pipeline};
use crate::hub::Name;
use crate::output::{OutDir, completed};
use crate::progress::{Progress, Unit};

/// From this many records on, mostly bad ones stop the build at once: the column is wrong.
const EARLY_RECORDS: u64 = 1000;

/// Makes a corpus. When `options.out` holds the complete corpus of the same options already, nothing is done
/// and its report returned; a corpus of other options is refused with the difference.
pub fn build(options: &Options, progress: &dyn Progress) -> Result<Report> {
    build_with(options, progress, Limits { seen: MAX_SEEN, near: MAX_NEAR })
}

/// How much is kept in memory.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    /// Keys of documents.
    pub(super) seen: usize,
    /// Signatures of documents.
    pub(super) near: usize,
}

/// [`build`] with other limits.
pub(super) fn build_with(options: &Options, progress: &dyn Progress, limits: Limits) -> Result<Report> {
    ensure!((0.0..1.0).contains(&options.val_fraction), "the validation fraction must be in 0 ≤ f < 1");
    ensure!(
        (0.0..=1.0).contains(&options.max_bad_fraction),
        "the fraction of bad records must be in 0 ≤ f ≤ 1"
    );
    ensure!(
        options.near_dedup.is_none_or(|t| NEAR_THRESHOLDS.contains(&t)),
        "the similarity of near duplicates must be from {} to {}",
        NEAR_THRESHOLDS.start(),
        NEAR_THRESHOLDS.end()
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
    let inputs: Vec<&Path> = options.paths.iter().map(PathBuf::as_path).collect();
    let out = OutDir::open(&options.out, RECORD, &inputs)?;
    let mut report = Report { format: 1, options: identity, ..Report::default() };
    let (sample, weights) = Sample::new(options.seed, options.max_bytes);
    let mut inputs = find(&options, &mut report, progress)?;
    report.report_recognised(progress);
    if !sample.is_unlimited() {
        // Files of many documents must be read anyhow; then single files by their lot, until the sample is
        // full.
        inputs.sort_by_cached_key(|i| if i.is_single() { 1 + sample.lot(&i.name()) } else { 0 });
    }
    let staged = out.work().join("staged");
    std::fs::create_dir(&staged).context("cannot create a folder in the output directory")?;
    let mut sequencer = Sequencer {
        options: &options,
        sample: &sample,
        weights,
        seen: options.dedup.then(|| Seen::new(out.work().join("keys"), limits.seen)),
        near: options.near_dedup.map(|t| Near::new(t, out.work().join("signatures"), limits.near)),
        resembled: Vec::new(),
        train: Side::new(&staged, Split::Train),
        val: Side::new(&staged, Split::Val),
        report,
        of_named: [0; 2],
    };
    progress.begin("reading", sequencer.report.file_bytes, Unit::Bytes);
    let inputs = inputs.into_iter().map(|input| Ok(Arc::new(input)));
    let receive = &mut |classified| sequencer.receive(classified);
    pipeline::run(inputs, 0, &options, &sample, progress, &to_line, receive)?;
    progress.end();
    let (report, from) = sequencer.finish(&out.work(), progress)?;
    out.commit(&from, report.shards.iter().map(|s| s.name.as_str()), &report)?;
    Ok(report)
}

/// One split while it is written.
pub(super) struct Side {
    pub(super) writer: ShardWriter,
    pub(super) total: Total,
}

impl Side {
    pub(super) fn new(dir: &Path, split: Split) -> Side {
        Side { writer: ShardWriter::new(dir, split.name()), total: Total::default() }
    }

    pub(super) fn write(&mut self, line: &[u8], text_bytes: u64) -> Result<()> {
        self.total.add(text_bytes);
        self.writer.write(line)
    }
}

/// Receives what was classified, in order.
pub(super) struct Sequencer<'a> {
    pub(super) options: &'a Options,
    pub(super) sample: &'a Sample,
    weights: Weights,
    pub(super) seen: Option<Seen>,
    pub(super) near: Option<Near>,
    /// Examples of near duplicates, by their place in the report, that are not named yet.
    pub(super) resembled: Vec<(usize, Resemblance)>,
    pub(super) train: Side,
    pub(super) val: Side,
    pub(super) report: Report,
    /// Records of the files that somebody named, and how many of them are bad. What lies in a folder may be
    /// anything: there bad records are counted, and no reason to stop.
    pub(super) of_named: [u64; 2],
}

impl Sequencer<'_> {
    fn receive(&mut self, classified: Classified<Vec<u8>>) -> Result<()> {
        let (is_record, bad) = (classified.is_record(), classified.is_bad());
        let Classified { input, line, mut bytes, source, crlf, verdict } = classified;
        // Damage is counted wherever it is met. For the rest, what is not drawn is not classified, since the
        // reader may not even have opened the file.
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
        if input.named {
            self.of_named[0] += u64::from(is_record);
            self.of_named[1] += u64::from(bad);
        }
        report.crlf_normalised += u64::from(crlf && drawn);
        let damaged = bad || matches!(&verdict, Err((reason, _)) if reason.is_damage()) && !input.is_single();
        let (reason, detail) = match verdict {
            _ if !drawn && !damaged => (Reason::NotSampled, String::new()),
            Err(why) => why,
            Ok(clean) if self.is_repeat(clean.key)? => (Reason::Duplicate, String::new()),
            Ok(clean) if self.is_near(&clean)? => (Reason::NearDuplicate, String::new()),
            Ok(clean) => return self.keep(clean, &source, &extension),
        };
        let example = || Example { file: input.path.display().to_string(), line, detail };
        self.report.drop(reason, bytes, example);
        if bad && self.of_named[0] >= EARLY_RECORDS {
            self.check_bad(self.options.max_bad_fraction.max(0.5))?;
        }
        Ok(())
    }

    fn is_repeat(&mut self, key: Key) -> Result<bool> {
        let split = self.split(key);
        let number = number(split, self.side(split).total.documents);
        self.seen.as_mut().map_or(Ok(false), |seen| seen.is_repeat(key, number))
    }

    fn is_near(&mut self, clean: &Clean<Vec<u8>>) -> Result<bool> {
        let split = self.split(clean.key);
        let number = number(split, self.side(split).total.documents);
        let (Some(near), Some(signature)) = (&mut self.near, &clean.signature) else { return Ok(false) };
        let Some(resemblance) = near.resembles(signature, number)? else { return Ok(false) };
        if self.report.wants_example(Reason::NearDuplicate) {
            self.resembled.push((self.report.examples(Reason::NearDuplicate), resemblance));
        }
        Ok(true)
    }

    fn keep(&mut self, clean: Clean<Vec<u8>>, source: &str, extension: &str) -> Result<()> {
        self.sample.take(&mut self.weights, source, clean.bytes);
        self.report.extension(extension).kept.add(clean.bytes);
        let split = self.split(clean.key);
        self.side(split).write(&clean.content, clean.bytes)
    }

    pub(super) fn side(&mut self, split: Split) -> &mut Side {
        match split {
            Split::Train => &mut self.train,
            Split::Val => &mut self.val,
        }
    }

    fn split(&self, key: Key) -> Split {
        self.options.split(key, self.options.threshold())
    }

    /// Refuses files that were named for their records and have too many bad ones.
    pub(super) fn check_bad(&self, allowed: f64) -> Result<()> {
        let [records, bad] = self.of_named;
        if bad as f64 <= allowed * records as f64 {
            return Ok(());
        }
        bail!(
            "{bad} of {records} records are bad, more than {} %:{}\nmend them, name the text's column with \
             --text-field, or allow more with --max-bad-fraction; conversations are for `mynah sft`",
            100.0 * allowed,
            self.report.reasons(Reason::is_bad_record)
        )
    }
}

/// What a staged document is called: its place in its split. The same text is always in the same split.
pub(super) fn number(split: Split, index: u64) -> u64 {
    2 * index + u64::from(split == Split::Val)
}
