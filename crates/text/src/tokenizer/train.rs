//! Learning the merges (Sennrich et al. 2016): count the words of the corpus once, then merge the most
//! frequent pair of neighbouring tokens again and again. Ties go to the smaller pair of ids, so that merges
//! are those of the `tokenizers` library and do not depend on the number of threads.

use super::bpe::Pair;
use super::split;
use crate::progress::{Progress, Stopped, Unit};
use anyhow::{Result, bail};
use foldhash::fast::FixedState;
use rayon::prelude::*;
use std::cmp::Reverse;
use std::collections::hash_map::Entry;
use std::collections::{BinaryHeap, HashMap};

/// Documents are read and counted in batches of at least this much text: the memory that reading takes.
const BATCH_BYTES: usize = 16 << 20;

/// How many words are kept apart, and of how many bytes in all. Beyond that the rarest are dropped: below 1
/// GB at the height of merging, whatever the size of the corpus.
#[derive(Clone, Copy)]
struct Limits {
    words: usize,
    bytes: usize,
}

const LIMITS: Limits = Limits { words: 1_500_000, bytes: 16_000_000 };

/// The words of a corpus and how often they occur.
#[derive(Default)]
pub(super) struct WordCounts {
    counts: HashMap<Box<[u8]>, u64, FixedState>,
    /// The length of all the different words.
    bytes: usize,
    /// How many words were dropped for being rare.
    dropped: usize,
}

/// The words of all `documents` with their counts. Reads the next documents while it counts the last ones.
pub(super) fn count_words<D>(mut documents: D, progress: &dyn Progress) -> Result<WordCounts>
where
    D: Iterator<Item = Result<String>> + Send,
{
    progress.begin("counting words", 0, Unit::Bytes);
    let mut words = WordCounts::default();
    let mut batch = next_batch(&mut documents)?;
    while !batch.is_empty() {
        let (counted, next) = rayon::join(|| count_batch(&batch), || next_batch(&mut documents));
        counted.into_iter().for_each(|(word, count)| words.add(word, count));
        words.keep_within(LIMITS);
        progress.advance(batch.iter().map(|text| text.len() as u64).sum());
        stop_if_asked(progress)?;
        batch = next?;
    }
    progress.end();
    if words.dropped > 0 {
        progress.line(&format!("left out {} rare words, to stay within memory", words.dropped));
    }
    Ok(words)
}

impl WordCounts {
    /// Whether there was no text.
    pub(super) fn is_empty(&self) -> bool {
        self.counts.is_empty() && self.dropped == 0
    }

    fn add(&mut self, word: &[u8], count: u64) {
        match self.counts.get_mut(word) {
            Some(total) => *total += count,
            None => {
                self.bytes += word.len();
                self.counts.insert(word.into(), count);
            }
        }
    }

    /// Beyond the limits, drops the words that were counted once, then twice and so on, until half of them is
    /// free.
    fn keep_within(&mut self, limits: Limits) {
        if self.counts.len() <= limits.words && self.bytes <= limits.bytes {
            return;
        }
        let before = self.counts.len();
        let mut rare = 1;
        while self.counts.len() > limits.words / 2 || self.bytes > limits.bytes / 2 {
            self.counts.retain(|_, &mut count| count > rare);
            self.bytes = self.counts.keys().map(|word| word.len()).sum();
            rare += 1;
        }
        self.dropped += before - self.counts.len();
    }
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

fn stop_if_asked(progress: &dyn Progress) -> Result<()> {
    if progress.should_stop() {
        bail!(Stopped("no tokenizer was written, the same command trains it from the beginning"));
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

/// Learns up to `n_merges` merges; the first makes token `first_id`. `add` is told of each pair about to
/// become a token, and may refuse.
pub(super) fn learn_merges(
    words: WordCounts,
    byte_ids: &[u32; 256],
    first_id: u32,
    n_merges: usize,
    progress: &dyn Progress,
    mut add: impl FnMut(Pair) -> bool,
) -> Result<Vec<Pair>> {
    progress.begin("learning merges", n_merges as u64, Unit::Count);
    let mut words = Words::new(words, byte_ids);
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
        // Counts only fall while a pair waits in the queue: a stale one goes back to its place, or is gone.
        let now = pairs.get(&pair).map_or(0, |seen| seen.count);
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
    fn new(counted: WordCounts, byte_ids: &[u32; 256]) -> Words {
        let mut words = Words { tokens: Vec::new(), spans: Vec::new() };
        for (word, count) in counted.counts.into_iter().filter(|(word, _)| word.len() > 1) {
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
            if let Entry::Occupied(mut seen) = pairs.entry(pair) {
                seen.get_mut().count -= span.count;
                if seen.get().count == 0 {
                    seen.remove();
                }
            }
        };
        let mut kept = 0;
        let mut at = 0;
        // This pass takes the old pairs away, the one below counts the new ones: so a pair between two merges
        // in a row is counted once, as it ends.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Silent;

    fn counted(words: &[(&str, u64)]) -> WordCounts {
        let mut counts = WordCounts::default();
        words.iter().for_each(|(word, count)| counts.add(word.as_bytes(), *count));
        counts
    }

    /// Sennrich et al.'s corpus: "low" 5, "lower" 2, "newest" 6, "widest" 3. By hand: "es" and "st" 9, the
    /// first by order; "est" 9; "lo" 7; "low" 7; "ne", "ew" and "w" before "est" 6, of which "e" is the
    /// smallest to begin with; "new" 6 likewise.
    #[test]
    fn textbook() {
        let words = counted(&[("low", 5), ("lower", 2), ("newest", 6), ("widest", 3)]);
        let byte_ids = std::array::from_fn(|byte| byte as u32);
        let mut tokens: Vec<String> = (0..=255).map(|byte: u8| char::from(byte).to_string()).collect();
        let merges = learn_merges(words, &byte_ids, 256, 6, &Silent, |(left, right)| {
            tokens.push(format!("{}{}", tokens[left as usize], tokens[right as usize]));
            true
        });
        assert_eq!(merges.expect("nobody stops it").len(), 6);
        assert_eq!(tokens[256..], ["es", "est", "lo", "low", "ew", "new"]);
    }

    #[test]
    fn counts_words_across_documents() {
        let documents = ["a b a", "b a", " a"].map(|text| Ok(text.to_owned()));
        let words = count_words(documents.into_iter(), &Silent).expect("readable documents");
        let mut counts: Vec<_> = words.counts.iter().map(|(word, &count)| (&**word, count)).collect();
        counts.sort_unstable();
        assert_eq!(counts, [(b" a".as_slice(), 3), (b" b", 1), (b"a", 1), (b"b", 1)]);
        assert_eq!(words.bytes, 6);
    }

    #[test]
    fn memory_is_bounded_by_dropping_the_rarest() {
        let mut words = counted(&[("a", 9), ("bb", 1), ("ccc", 2), ("d", 3)]);
        words.keep_within(Limits { words: 4, bytes: 7 });
        assert_eq!((words.counts.len(), words.dropped), (4, 0));
        words.keep_within(Limits { words: 4, bytes: 6 });
        assert_eq!((words.counts.len(), words.bytes, words.dropped), (2, 2, 2));
        words.keep_within(Limits { words: 1, bytes: 6 });
        assert_eq!((words.counts.len(), words.dropped), (0, 4));
        assert!(!words.is_empty());
    }
}
