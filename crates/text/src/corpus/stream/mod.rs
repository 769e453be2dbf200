//! Documents as they come from their files, for data that no corpus is made of because it would not fit on
//! the disk.
//!
//! The one idea: **a place names all that follows.** Files are listed once; an epoch visits them in an order
//! of its own, drawn by seed; a [`StreamPosition`] is a file and a record of it. Reading from a place on
//! gives the same documents every time, whatever the number of threads, so whoever notes a place can go on
//! there.
//!
//! What a document is, what is cleaned and what is dropped for which reason is as in [`build`](super::build),
//! and so is which documents are held out. Duplicates are not looked for: that takes memory of all that came
//! before.

mod list;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use kernels::rng;
use serde::{Deserialize, Serialize};

use self::list::{Entry, Visit};
use super::classify::Classified;
use super::report::{Example, Report};
use super::sample::Sample;
use super::{Options, Split, pipeline};
use crate::progress::{Progress, Stopped, Unit};
use crate::streams;

/// Classified records that wait to be taken.
const WAITING: usize = 16;
/// How often somebody who waits for a document looks whether to stop.
const GLANCE: Duration = Duration::from_millis(100);

/// Where reading goes on: the first record that is still to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamPosition {
    /// The file's number in the list of files.
    pub file: usize,
    /// The record's number in the file, from 0, good and bad ones counted.
    pub record: u64,
}

/// The files that documents stream from.
pub(crate) struct Sources {
    options: Arc<Options>,
    entries: Arc<[Entry]>,
    digest: String,
    /// What was found, and what was dropped before it was opened.
    found: Report,
}

/// A document of a stream.
pub(crate) struct Streamed<T> {
    /// Whether to learn from it.
    pub(crate) split: Split,
    /// What was made of its text.
    pub(crate) content: T,
    /// Where what follows it begins.
    pub(crate) next: StreamPosition,
}

impl Sources {
    /// Lists the files of `options.paths`. Files of the hub are fetched when their turn comes. `out`,
    /// duplicates and `max_bytes` are no matter of streams.
    ///
    /// # Errors
    /// A path cannot be read; nothing is there to be read.
    pub(crate) fn find(options: &Options, progress: &dyn Progress) -> Result<Sources> {
        let options = Options { near_dedup: None, max_bytes: None, ..options.clone() };
        let mut found = Report::default();
        let entries = list::find(&options, &mut found, progress)?;
        found.report_recognised(progress);
        let mut hasher = blake3::Hasher::new();
        for entry in &entries {
            hasher.update(entry.identity().as_bytes()).update(b"\n");
        }
        let digest = hasher.finalize().to_hex().to_string();
        Ok(Sources { options: Arc::new(options), entries: entries.into(), digest, found })
    }

    /// What tells these files from others: their names and sizes, of the hub's also the commit. Their
    /// contents are not read for it.
    pub(crate) fn digest(&self) -> &str {
        &self.digest
    }

    /// How many files there are, their bytes, and what was found beside them.
    pub(crate) fn found(&self) -> &Report {
        &self.found
    }

    /// The name of a file.
    pub(crate) fn name(&self, file: usize) -> String {
        self.entries[file].name()
    }

    /// The numbers of the files in the order of an epoch.
    pub(crate) fn order(&self, epoch: u64) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.entries.len()).collect();
        order.sort_by_cached_key(|&file| {
            rng::bits(self.options.seed, streams::CORPUS_FILES.at(epoch), file as u64)
        });
        order
    }

    /// Where an epoch begins.
    pub(crate) fn beginning(&self, epoch: u64) -> StreamPosition {
        StreamPosition { file: self.order(epoch)[0], record: 0 }
    }

    /// The files of an epoch from the one of `place` on.
    ///
    /// # Panics
    /// There is no such file.
    pub(crate) fn rest(&self, epoch: u64, place: StreamPosition) -> Vec<usize> {
        let mut order = self.order(epoch);
        let at = order.iter().position(|&file| file == place.file).expect("a file of the list");
        order.split_off(at)
    }

    /// Whether some files are not on this machine, or may not be.
    pub(crate) fn are_remote(&self) -> bool {
        self.entries.iter().any(|entry| matches!(entry, Entry::Hub(_)))
    }

    /// Reads files one after the other, the first of them from record `skip` on, ahead of whoever takes what
    /// `make` made of each text, by a few megabytes.
    pub(crate) fn read<T: Send + 'static>(
        &self,
        files: Vec<usize>,
        skip: u64,
        make: impl Fn(&str) -> T + Send + Sync + 'static,
    ) -> Reading<T> {
        let next = StreamPosition { file: files[0], record: skip };
        let stop = Arc::new(Flag(AtomicBool::new(false)));
        let visit = Visit::new(self.entries.clone(), files, stop.clone());
        let (options, told_to_stop) = (self.options.clone(), stop.clone());
        let (sender, classified) = sync_channel(WAITING);
        let thread = thread::spawn(move || {
            let (sample, _) = Sample::new(options.seed, None);
            let make = |text: &str, _: &str| make(text);
            let mut receive =
                |classified| sender.send(classified).map_err(|_| anyhow!("nobody takes the documents"));
            pipeline::run(visit, skip, &options, &sample, &*told_to_stop, &make, &mut receive)
        });
        Reading {
            options: self.options.clone(),
            threshold: self.options.threshold(),
            classified: Some(classified),
            thread: Some(thread),
            stop,
            next,
        }
    }
}

/// Files while they are read.
pub(crate) struct Reading<T> {
    options: Arc<Options>,
    threshold: u64,
    /// None when the reading is given up.
    classified: Option<Receiver<Classified<T>>>,
    /// None when it has ended.
    thread: Option<JoinHandle<Result<()>>>,
    stop: Arc<Flag>,
    next: StreamPosition,
}

impl<T> Reading<T> {
    /// The place after the last record that was taken.
    pub(crate) fn next_place(&self) -> StreamPosition {
        self.next
    }

    /// The next document; `None` at the end of the last file. What became no document is counted in `report`.
    ///
    /// # Errors
    /// A file of the hub cannot be fetched; somebody asked to stop.
    pub(crate) fn next(
        &mut self,
        report: &mut Report,
        progress: &dyn Progress,
    ) -> Result<Option<Streamed<T>>> {
        while let Some(Classified { input, line, bytes, verdict, .. }) = self.receive(report, progress)? {
            if self.next.file != input.number {
                self.next = StreamPosition { file: input.number, record: 0 };
            }
            self.next.record += 1;
            match verdict {
                Ok(clean) => {
                    report.kept.add(clean.bytes);
                    let split = self.options.split(clean.key, self.threshold);
                    return Ok(Some(Streamed { split, content: clean.content, next: self.next }));
                }
                Err((reason, detail)) => {
                    let file = input.path.display().to_string();
                    report.drop(reason, bytes, || Example { file, line, detail });
                }
            }
        }
        Ok(None)
    }

    fn receive(&mut self, report: &mut Report, progress: &dyn Progress) -> Result<Option<Classified<T>>> {
        while let Some(classified) = &self.classified {
            match classified.recv_timeout(GLANCE) {
                Ok(classified) => {
                    report.met(&classified);
                    return Ok(Some(classified));
                }
                Err(RecvTimeoutError::Timeout) if progress.should_stop() => {
                    bail!(Stopped("the same command goes on from the last checkpoint"))
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => self.classified = None,
            }
        }
        let ended = self.thread.take().map(JoinHandle::join);
        ended.transpose().map_err(|_| anyhow!("the thread that reads the data panicked"))?.transpose()?;
        Ok(None)
    }
}

impl<T> Drop for Reading<T> {
    fn drop(&mut self) {
        self.stop.0.store(true, Ordering::Relaxed);
        self.classified = None;
        // What it has to say is said to nobody: what it read is not wanted any more.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Tells a thread to give up.
struct Flag(AtomicBool);

impl Progress for Flag {
    fn begin(&self, _: &str, _: u64, _: Unit) {}
    fn advance(&self, _: u64) {}
    fn line(&self, _: &str) {}
    fn end(&self) {}
    fn should_stop(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
