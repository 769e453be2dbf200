//! Learning the merges (Sennrich et al. 2016): count the words of the corpus once, then merge the most frequent pair of
//! neighbouring tokens again and again. Ties go to the smaller pair of ids, so that merges are those of the
//! `tokenizers` library and do not depend on the number of threads.

use super::bpe::Pair;
use super::split;
use crate::progress::{Progress, Unit};
use anyhow::{Result, bail};
use foldhash::fast::FixedState;
use rayon::prelude::*;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

/// Documents are read and counted in batches of at least this much text: the memory that reading takes.
const BATCH_BYTES: usize = 16 << 20;

/// A count of words, keyed by their bytes.
pub(super) type WordCounts = HashMap<Box<[u8]>, u64, FixedState>;

/// How many words are kept apart, and of how many bytes in all. Beyond that the rarest are dropped: about 800 MB at the
/// height of merging, whatever the size of the corpus.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    pub(super) words: usize,
    pub(super) bytes: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { words: 3_500_000, bytes: 40_000_000 }
    }
}

/// The words of all `documents` with their counts. Reads the next documents while it counts the last ones.
pub(super) fn count_words<D>(mut documents: D, limits: Limits, progress: &dyn Progress) -> Result<WordCounts>
where
    D: Iterator<Item = Result<String>> + Send,
{
    progress.begin("counting words", 0, Unit::Bytes);
    let mut counts = WordCounts::default();
    let mut dropped = 0;
    let mut batch = next_batch(&mut documents)?;
    while !batch.is_empty() {
        let (counted, next) = rayon::join(|| count_batch(&batch), || next_batch(&mut documents));
        for (word, count) in counted {
            match counts.get_mut(word) {
                Some(total) => *total += count,
                None => drop(counts.insert(word.into(), count)),
            }
        }
        dropped += drop_rarest(&mut counts, limits);
        progress.advance(batch.iter().map(|text| text.len() as u64).sum());
        stop_if_asked(progress)?;
        batch = next?;
    }
    progress.end();
    if dropped > 0 {
        progress.line(&format!("left out {dropped} rare words, to stay within memory"));
    }
    Ok(counts)
}

/// The next documents; none at the end.
fn next_batch(documents: &mut impl Iterator<Item = Result<String>>) -> Result<Vec<String>> {
    let (mut batch, mut bytes) = (Vec::new(), 0);
    while bytes < BATCH_BYTES
        && let Some(text) = documents.next().transpose()?
    {
        bytes += text.len();
        batch.push(text);
    }
    Ok(batch)
}

fn count_batch(batch: &[String]) -> HashMap<&[u8], u64, FixedState> {
    let count = |mut counts: HashMap<_, _, _>, text| {
        split::words(text).for_each(|word| *counts.entry(word.as_bytes()).or_default() += 1);
        counts
    };
    let add = |mut a: HashMap<_, _, _>, mut b: HashMap<_, _, _>| {
        if a.len() < b.len() {
            std::mem::swap(&mut a, &mut b);
        }
        b.into_iter().for_each(|(word, n)| *a.entry(word).or_default() += n);
        a
    };
    let pieces = batch.par_iter().flat_map_iter(|text| split::independent(text));
    pieces.fold(HashMap::default, count).reduce(HashMap::default, add)
}

/// Drops the words that were counted once, then twice and so on, until half of the limits is free; how many words.
fn drop_rarest(counts: &mut WordCounts, limits: Limits) -> usize {
    let bytes = |counts: &WordCounts| counts.keys().map(|word| word.len()).sum::<usize>();
    let before = counts.len();
    if before <= limits.words && bytes(counts) <= limits.bytes {
        return 0;
    }
    let mut rare = 1;
    while counts.len() > limits.words / 2 || bytes(counts) > limits.bytes / 2 {
        counts.retain(|_, &mut count| count > rare);
        rare += 1;
    }
    before - counts.len()
}

fn stop_if_asked(progress: &dyn Progress) -> Result<()> {
    if progress.should_stop() {
        bail!("stopped while training the tokenizer; nothing was written");
    }
    Ok(())
}

/// The words of the corpus as tokens, while they are merged.
struct Words {
    tokens: Vec<u32>,
    /// Where each word lies in `tokens`, and how often it occurs.
    spans: Vec<Span>,
}

struct Span {
    start: usize,
    len: usize,
    count: i64,
}

/// A pair that occurs.
#[derive(Default)]
struct Occurrences {
    count: i64,
    /// The words in which it was seen, in order; it may be gone from some.
    words: Vec<u32>,
}

/// Learns up to `n_merges` merges; the first makes token `first_id`. `add` is told of each pair about to become a
/// token, and may refuse.
pub(super) fn learn_merges(
    counts: WordCounts,
    byte_ids: &[u32; 256],
    first_id: u32,
    n_merges: usize,
    progress: &dyn Progress,
    mut add: impl FnMut(Pair) -> bool,
) -> Result<Vec<Pair>> {
    progress.begin("learning merges", n_merges as u64, Unit::Count);
    let mut words = Words::new(counts, byte_ids);
    let mut pairs: HashMap<Pair, Occurrences, FixedState> = HashMap::default();
    for (index, span) in words.spans.iter().enumerate() {
        for pair in words.tokens[span.start..span.start + span.len].windows(2) {
            pairs.entry((pair[0], pair[1])).or_default().add(index as u32, span.count);
        }
    }
    let mut queue: BinaryHeap<_> = pairs.iter().map(|(&pair, seen)| (seen.count, Reverse(pair))).collect();
    let mut merges = Vec::new();
    while merges.len() < n_merges
        && let Some((count, Reverse(pair))) = queue.pop()
    {
        // Counts only fall while a pair waits in the queue: a stale one goes back to its place.
        let now = pairs[&pair].count;
        if now < count {
            if now > 0 {
                queue.push((now, Reverse(pair)));
            }
            continue;
        }
        if !add(pair) {
            continue;
        }
        let seen = pairs.remove(&pair).expect("just looked up");
        let new_id = first_id + merges.len() as u32;
        let mut born = Vec::new();
        for index in seen.words {
            words.merge(index, pair, new_id, &mut pairs, &mut born);
        }
        queue.extend(born.into_iter().map(|pair| (pairs[&pair].count, Reverse(pair))));
        merges.push(pair);
        progress.advance(1);
        stop_if_asked(progress)?;
    }
    progress.end();
    Ok(merges)
}

impl Occurrences {
    fn add(&mut self, word: u32, count: i64) {
        self.count += count;
        if self.words.last() != Some(&word) {
            self.words.push(word);
        }
    }
}

impl Words {
    fn new(counts: WordCounts, byte_ids: &[u32; 256]) -> Words {
        let mut words = Words { tokens: Vec::new(), spans: Vec::new() };
        for (word, count) in counts.into_iter().filter(|(word, _)| word.len() > 1) {
            words.spans.push(Span { start: words.tokens.len(), len: word.len(), count: count as i64 });
            words.tokens.extend(word.iter().map(|&byte| byte_ids[usize::from(byte)]));
        }
        words
    }

    /// Merges `pair` into `id` in one word, from the left, and moves the counts of the neighbouring pairs.
    fn merge(
        &mut self,
        index: u32,
        pair: Pair,
        id: u32,
        pairs: &mut HashMap<Pair, Occurrences, FixedState>,
        born: &mut Vec<Pair>,
    ) {
        let span = &mut self.spans[index as usize];
        let tokens = &mut self.tokens[span.start..span.start + span.len];
        let mut forget = |pair| {
            if let Some(seen) = pairs.get_mut(&pair) {
                seen.count -= span.count;
            }
        };
        let mut kept = 0;
        let mut at = 0;
        // A first pass takes the old pairs away, compacts the word, and a second one below counts the new pairs: the
        // pairs next to two merges in a row are then seen once, as they end.
        while at < tokens.len() {
            if at + 1 < tokens.len() && (tokens[at], tokens[at + 1]) == pair {
                if kept > 0 && tokens[kept - 1] != id {
                    forget((tokens[kept - 1], pair.0));
                }
                if at + 2 < tokens.len() {
                    forget((pair.1, tokens[at + 2]));
                }
                tokens[kept] = id;
                at += 2;
            } else {
                tokens[kept] = tokens[at];
                at += 1;
            }
            kept += 1;
        }
        span.len = kept;
        for new in tokens[..kept].windows(2).filter(|new| new[0] == id || new[1] == id) {
            let new = (new[0], new[1]);
            let seen = pairs.entry(new).or_insert_with(|| {
                born.push(new);
                Occurrences::default()
            });
            seen.add(index, span.count);
        }
    }
}
