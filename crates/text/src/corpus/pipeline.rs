//! One thread reads, several classify records and make something of each document, the caller receives in the
//! order of the input.
//!
//! A batch needs a permit to be read and gives it back when it has been received, so the number of batches in
//! flight is bounded, however slow any thread is: that is the bound on memory.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, Sender, channel, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;

use anyhow::{Result, anyhow, bail};

use super::Options;
use super::classify::{Classified, classify_record};
use super::input::Input;
use super::raw::{Payload, Raw};
use super::read::read;
use super::reason::Reason;
use super::record::Wanted;
use super::sample::Sample;
use crate::progress::{Progress, Stopped};

const MAX_THREADS: usize = 16;
/// A batch is handed on when it holds this many bytes or records.
const BATCH_BYTES: u64 = 1 << 20;
const BATCH_RECORDS: usize = 1024;

type Numbered<T> = (u64, Vec<T>);

/// Reads and classifies all inputs, but for the first `skip` records of the first; `receive` gets every
/// record, in order, with what `make` made of its text and source.
pub(super) fn run<T: Send>(
    inputs: impl Iterator<Item = Result<Arc<Input>>> + Send,
    skip: u64,
    options: &Options,
    sample: &Sample,
    progress: &dyn Progress,
    make: &(impl Fn(&str, &str) -> T + Sync),
    receive: &mut dyn FnMut(Classified<T>) -> Result<()>,
) -> Result<()> {
    let threads = options.threads.clamp(1, MAX_THREADS);
    let in_flight = threads + 2;
    let (raw_in, raw_out) = sync_channel::<Numbered<Raw>>(in_flight);
    let raw_out = Mutex::new(raw_out);
    thread::scope(|scope| {
        let (classified_in, classified_out) = channel::<Numbered<Classified<T>>>();
        let (permit_in, permit_out) = sync_channel(in_flight);
        for _ in 0..in_flight {
            permit_in.send(())?;
        }
        let reader = scope.spawn(move || {
            let mut batches =
                Batches { number: 0, raws: Vec::new(), bytes: 0, permits: permit_out, out: raw_in };
            let read = read_all(inputs, skip, options, sample, progress, &mut batches);
            batches.flush();
            read
        });
        for _ in 0..threads {
            let classified_in = PanicSignal(classified_in.clone());
            let raw_out = &raw_out;
            scope.spawn(move || {
                while let Some((number, raws)) = next(raw_out) {
                    let classified =
                        raws.into_iter().map(|raw| classify_record(raw, options, make)).collect();
                    if classified_in.0.send((number, classified)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(classified_in);
        let (mut early, mut expected) = (BTreeMap::new(), 0);
        for (number, classified) in classified_out {
            if number == u64::MAX {
                bail!("a thread of the corpus panicked");
            }
            early.insert(number, classified);
            while let Some(classified) = early.remove(&expected) {
                classified.into_iter().try_for_each(&mut *receive)?;
                expected += 1;
                // The reader may have ended: then nobody waits for permits.
                let _ = permit_in.send(());
            }
            if progress.should_stop() {
                bail!(Stopped("the same command makes the corpus from the beginning"));
            }
        }
        reader.join().map_err(|_| anyhow!("the thread that reads the corpus panicked"))?
    })
}

fn next(raw_out: &Mutex<Receiver<Numbered<Raw>>>) -> Option<Numbered<Raw>> {
    raw_out.lock().ok()?.recv().ok()
}

/// Reads inputs until they end or cannot be had, or nobody listens any more.
fn read_all(
    inputs: impl Iterator<Item = Result<Arc<Input>>>,
    mut skip: u64,
    options: &Options,
    sample: &Sample,
    progress: &dyn Progress,
    batches: &mut Batches,
) -> Result<()> {
    let wanted = Wanted::new(options);
    for input in inputs {
        let input = input?;
        let mut left = std::mem::take(&mut skip);
        let go_on = if input.is_single() && !sample.holds(&input.name()) {
            progress.advance(input.size);
            let payload = Payload::Dropped(Reason::NotSampled, String::new());
            batches.push(Raw { line: 0, payload, bytes: input.size, input })
        } else {
            read(&input, &wanted, progress, &mut |raw| match left.checked_sub(1) {
                Some(rest) => {
                    left = rest;
                    true
                }
                None => batches.push(raw),
            })
        };
        if !go_on {
            break;
        }
    }
    Ok(())
}

/// Gathers records into batches and sends them; `false` when nobody listens any more.
struct Batches {
    number: u64,
    raws: Vec<Raw>,
    bytes: u64,
    permits: Receiver<()>,
    out: std::sync::mpsc::SyncSender<Numbered<Raw>>,
}

impl Batches {
    fn push(&mut self, raw: Raw) -> bool {
        if !matches!(raw.payload, Payload::Dropped(..)) {
            self.bytes += raw.bytes;
        }
        self.raws.push(raw);
        if self.bytes >= BATCH_BYTES || self.raws.len() >= BATCH_RECORDS { self.flush() } else { true }
    }

    fn flush(&mut self) -> bool {
        let raws = std::mem::take(&mut self.raws);
        self.bytes = 0;
        self.number += 1;
        self.permits.recv().is_ok() && self.out.send((self.number - 1, raws)).is_ok()
    }
}

/// Tells the receiver when a worker panics, which would otherwise wait for its batch for ever.
struct PanicSignal<T>(Sender<Numbered<Classified<T>>>);

impl<T> Drop for PanicSignal<T> {
    fn drop(&mut self) {
        if thread::panicking() {
            let _ = self.0.send((u64::MAX, Vec::new()));
        }
    }
}
