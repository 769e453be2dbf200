//! Byte pair encoding of one word (Sennrich et al. 2016): of the neighbouring pairs that have a merge, the
//! one learned first is merged, the leftmost of equals, until none is left. O(n log n) in the length of the
//! word.

use foldhash::fast::FixedState;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

/// Two neighbouring tokens.
pub(super) type Pair = (u32, u32);

/// The token of each byte. Vocabularies that others trained may lack bytes that their text did not have.
pub(super) type ByteIds = [Option<u32>; 256];

/// Words are cut here, so that no text needs more than some hundred megabytes on the way.
const MAX_WORD_BYTES: usize = 1 << 24;

/// What a pair becomes.
#[derive(Clone, Copy)]
struct Merge {
    /// When it was learned: the smaller goes first.
    rank: u32,
    id: u32,
}

/// The merges of a byte-level vocabulary.
pub(super) struct Bpe {
    byte_ids: ByteIds,
    merges: HashMap<Pair, Merge, FixedState>,
    /// The words that end as one token: most words of a text, which then need no merging.
    whole_words: HashMap<Box<[u8]>, u32, FixedState>,
}

/// Memory for one word after another.
#[derive(Default)]
pub(super) struct Scratch {
    symbols: Vec<Symbol>,
    /// (rank, position of the left symbol); entries go stale when a neighbour is merged first.
    queue: BinaryHeap<Reverse<(u32, u32)>>,
}

/// A token of the word in the making: an entry of a linked list over the word's byte positions.
#[derive(Clone, Copy)]
struct Symbol {
    id: u32,
    prev: u32,
    next: u32,
}

/// No neighbour on this side; as an id: merged into the symbol on the left.
const NONE: u32 = u32::MAX;

impl Bpe {
    /// From the ids of the 256 bytes, the merges `(left, right, result)` in the order they were learned, and
    /// the bytes of every token.
    pub(super) fn new<'a>(
        byte_ids: ByteIds,
        merges: impl IntoIterator<Item = (u32, u32, u32)>,
        tokens: impl IntoIterator<Item = &'a [u8]>,
    ) -> Bpe {
        let merges = merges.into_iter().enumerate();
        let merges = merges.map(|(rank, (left, right, id))| ((left, right), Merge { rank: rank as u32, id }));
        let mut bpe = Bpe { byte_ids, merges: merges.collect(), whole_words: HashMap::default() };
        let (mut scratch, mut ids) = (Scratch::default(), Vec::new());
        for token in tokens {
            ids.clear();
            bpe.merge_word(token, &mut scratch, &mut ids);
            if let [id] = ids[..] {
                bpe.whole_words.insert(token.into(), id);
            }
        }
        bpe
    }

    /// Appends the tokens of `word` to `ids`; a byte without token is left out, as the `tokenizers` library
    /// does.
    pub(super) fn encode_word(&self, word: &[u8], scratch: &mut Scratch, ids: &mut Vec<u32>) {
        match self.whole_words.get(word) {
            Some(&id) => ids.push(id),
            None => word.chunks(MAX_WORD_BYTES).for_each(|chunk| self.merge_word(chunk, scratch, ids)),
        }
    }

    fn merge_word(&self, word: &[u8], scratch: &mut Scratch, ids: &mut Vec<u32>) {
        let Scratch { symbols, queue } = scratch;
        symbols.clear();
        let known = word.iter().filter_map(|&byte| self.byte_ids[usize::from(byte)]);
        symbols.extend((0u32..).zip(known).map(|(at, id)| Symbol {
            id,
            prev: at.wrapping_sub(1),
            next: at + 1,
        }));
        if let Some(last) = symbols.last_mut() {
            last.next = NONE;
        }
        queue.extend((0u32..).zip(symbols.windows(2)).filter_map(|(at, pair)| {
            self.merges.get(&(pair[0].id, pair[1].id)).map(|merge| Reverse((merge.rank, at)))
        }));
        while let Some(Reverse((rank, at))) = queue.pop() {
            let left = symbols[at as usize];
            if left.id == NONE || left.next == NONE {
                continue;
            }
            let right = symbols[left.next as usize];
            let Some(merge) = self.merges.get(&(left.id, right.id)).filter(|merge| merge.rank == rank) else {
                continue;
            };
            symbols[left.next as usize].id = NONE;
            symbols[at as usize] = Symbol { id: merge.id, next: right.next, ..left };
            if right.next != NONE {
                symbols[right.next as usize].prev = at;
                self.consider(symbols, queue, at);
            }
            if left.prev != NONE {
                self.consider(symbols, queue, left.prev);
            }
        }
        ids.extend(symbols.iter().map(|symbol| symbol.id).filter(|&id| id != NONE));
    }

    /// Queues the pair whose left symbol is at `at`, if it has a merge.
    fn consider(&self, symbols: &[Symbol], queue: &mut BinaryHeap<Reverse<(u32, u32)>>, at: u32) {
        let left = symbols[at as usize];
        let right = symbols[left.next as usize];
        if let Some(merge) = self.merges.get(&(left.id, right.id)) {
            queue.push(Reverse((merge.rank, at)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn byte_ids() -> ByteIds {
        std::array::from_fn(|byte| Some(byte as u32))
    }

    fn encode(bpe: &Bpe, word: &str) -> Vec<u32> {
        let mut ids = Vec::new();
        bpe.encode_word(word.as_bytes(), &mut Scratch::default(), &mut ids);
        ids
    }

    /// Sennrich et al.'s example with merges learned by hand: "es", "est", "lo", "low".
    #[test]
    fn textbook() {
        let [e, s, t, l, o, w] = *b"estlow";
        let [e, s, t, l, o, w] = [e, s, t, l, o, w].map(u32::from);
        let merges = [(e, s, 256), (256, t, 257), (l, o, 258), (258, w, 259)];
        let tokens: [&[u8]; 4] = [b"es", b"est", b"lo", b"low"];
        let bpe = Bpe::new(byte_ids(), merges, tokens);
        assert_eq!(encode(&bpe, "low"), [259]);
        assert_eq!(encode(&bpe, "lowest"), [259, 257]);
        assert_eq!(encode(&bpe, "slower"), [s, 259, e, u32::from(b'r')]);
        assert_eq!(encode(&bpe, "lot"), [258, t]);
        assert_eq!(encode(&bpe, ""), [0u32; 0]);
    }

    #[test]
    fn what_stands_around_a_byte_without_token_merges() {
        let (a, b) = (u32::from(b'a'), u32::from(b'b'));
        let mut known = byte_ids();
        known[4] = None;
        let bpe = Bpe::new(known, [(a, b, 256)], []);
        assert_eq!(encode(&bpe, "a\u{4}\u{4}ba\u{4}"), [256, a]);
        assert_eq!(encode(&bpe, "\u{4}"), [0u32; 0]);
    }

    #[test]
    fn equal_pairs_merge_from_the_left() {
        let a = u32::from(b'a');
        let bpe = Bpe::new(byte_ids(), [(a, a, 256), (256, 256, 257)], []);
        assert_eq!(encode(&bpe, "aaaaaaa"), [257, 256, a]);
    }
}
