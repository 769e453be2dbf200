//! Operations that wait to be handed to a GPU together, and graphs of those that come again.
//!
//! A launch costs some microseconds of the host, as long as a small kernel runs. The operations between two moments at
//! which the host waits are therefore collected. A sequence that comes for the second time, the same to the last
//! argument, is recorded as a graph (`cuStreamBeginCapture`), and is one launch from then on. Nothing is changed in a
//! graph: what differs from token to token goes up into memory at the same addresses, from the same place of the memory
//! that copies go from.

use crate::device::{Address, Product};
use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

/// So many operations at most wait for others: the GPU begins while the rest is collected.
pub(crate) const MOST: usize = 1024;
/// A sequence of fewer is not worth a graph.
const LEAST: usize = 8;
/// Graphs that are kept; the one that was not used for the longest time goes first.
const GRAPHS: usize = 32;
/// Sequences of which it is remembered that they came once.
const SEEN: usize = 4096;

/// An operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// Of a kernel, whose arguments are so many, from so-manieth of the sequence on.
    Launch {
        kernel: &'static str,
        /// The driver's handle.
        function: usize,
        grid: [u32; 3],
        threads: u32,
        shared: u32,
        first: usize,
        count: usize,
    },
    /// With the bits of its factor.
    Product(Product<u32>),
    Zero {
        at: Address,
        bytes: usize,
    },
    /// From memory of the host.
    Upload {
        to: Address,
        from: usize,
        bytes: usize,
    },
    Copy {
        to: Address,
        from: Address,
        bytes: usize,
    },
}

/// Operations in order.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Sequence {
    operations: Vec<Operation>,
    /// Where each argument of a kernel begins.
    arguments: Vec<usize>,
    words: Vec<u64>,
}

impl Hash for Sequence {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // What differs elsewhere alone is rare, and is compared.
        (self.operations.len(), self.arguments.len(), &self.words).hash(state);
    }
}

impl Sequence {
    pub(crate) fn push(&mut self, operation: Operation) {
        self.operations.push(operation);
    }

    /// Keeps the arguments of a kernel: the number of the first.
    pub(crate) fn keep(&mut self, arguments: &[&[u8]]) -> usize {
        let first = self.arguments.len();
        for argument in arguments {
            self.arguments.push(self.words.len());
            for part in argument.chunks(8) {
                let mut word = [0; 8];
                word[..part.len()].copy_from_slice(part);
                self.words.push(u64::from_ne_bytes(word));
            }
        }
        first
    }

    /// Where so many arguments are, from this number on, as the driver takes them.
    pub(crate) fn addresses(&self, first: usize, count: usize) -> Vec<*mut std::ffi::c_void> {
        let address = |&word: &usize| (&raw const self.words[word]).cast_mut().cast();
        self.arguments[first..first + count].iter().map(address).collect()
    }

    pub(crate) fn operations(&self) -> &[Operation] {
        &self.operations
    }

    pub(crate) fn len(&self) -> usize {
        self.operations.len()
    }

    pub(crate) fn clear(&mut self) {
        let Self { operations, arguments, words } = self;
        operations.clear();
        arguments.clear();
        words.clear();
    }

    fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
    }
}

/// What is to be done with a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How<G> {
    /// One operation after another.
    Plainly,
    /// It came before: it is to be recorded, and [kept](Graphs::keep).
    Record,
    /// As this graph.
    As(G),
}

/// Graphs of sequences that came again; `None` of one that could not be recorded.
pub(crate) struct Graphs<G> {
    known: HashMap<Sequence, (Option<G>, u64)>,
    seen: HashSet<u64>,
    now: u64,
}

impl<G> Default for Graphs<G> {
    fn default() -> Self {
        Graphs { known: HashMap::new(), seen: HashSet::new(), now: 0 }
    }
}

impl<G: Copy> Graphs<G> {
    /// What is to be done with a sequence that comes now.
    pub(crate) fn how(&mut self, sequence: &Sequence) -> How<G> {
        if sequence.len() < LEAST {
            return How::Plainly;
        }
        self.now += 1;
        if let Some((graph, used)) = self.known.get_mut(sequence) {
            *used = self.now;
            return graph.map_or(How::Plainly, How::As);
        }
        if self.seen.remove(&sequence.digest()) {
            return How::Record;
        }
        if self.seen.len() >= SEEN {
            self.seen.clear();
        }
        self.seen.insert(sequence.digest());
        How::Plainly
    }

    /// Keeps what was recorded of a sequence; returns a graph that has to go for it.
    pub(crate) fn keep(&mut self, sequence: Sequence, graph: Option<G>) -> Option<G> {
        let is_full = self.known.len() >= GRAPHS;
        let oldest = self.known.iter().min_by_key(|(_, (_, used))| *used).filter(|_| is_full);
        let oldest = oldest.map(|(sequence, _)| sequence.clone());
        let gone = oldest.and_then(|oldest| self.known.remove(&oldest)?.0);
        self.known.insert(sequence, (graph, self.now));
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sequence(operations: usize, argument: u32) -> Sequence {
        let mut sequence = Sequence::default();
        for at in 0..operations {
            let first = sequence.keep(&[&argument.to_ne_bytes(), &[1, 2, 3, 4, 5, 6, 7, 8, 9]]);
            let grid = [at as u32, 1, 1];
            let (kernel, function, threads, shared, count) = ("add", 7, 32, 0, 2);
            sequence.push(Operation::Launch { kernel, function, grid, threads, shared, first, count });
        }
        sequence
    }

    #[test]
    fn arguments_are_where_the_driver_reads_them() {
        let mut sequence = sequence(2, 5);
        let first = sequence.keep(&[&7u64.to_ne_bytes()]);
        let read = |at: *mut std::ffi::c_void| {
            // SAFETY: a word is there.
            unsafe { at.cast::<u64>().read() }
        };
        assert_eq!(sequence.addresses(first, 1).into_iter().map(read).collect::<Vec<_>>(), [7]);
        assert_eq!(sequence.addresses(2, 2).into_iter().map(read).next(), Some(5));
        sequence.clear();
        assert!(sequence == Sequence::default());
    }

    #[test]
    fn what_comes_again_becomes_a_graph() {
        let mut graphs = Graphs::default();
        let (one, other) = (sequence(9, 1), sequence(9, 2));
        assert_eq!([&one, &other].map(|it| graphs.how(it)), [How::Plainly, How::Plainly]);
        assert_eq!(graphs.how(&one), How::Record);
        assert_eq!(graphs.keep(one.clone(), Some(1)), None);
        assert_eq!([&one, &one, &other].map(|it| graphs.how(it)), [How::As(1), How::As(1), How::Record]);
        assert_eq!(graphs.keep(other.clone(), None), None);
        assert_eq!(
            [&other, &one].map(|it| graphs.how(it)),
            [How::Plainly, How::As(1)],
            "it cannot be recorded"
        );
        let few = sequence(LEAST - 1, 1);
        assert_eq!([(); 3].map(|()| graphs.how(&few)), [How::Plainly; 3]);
        // Other words, and the same words of other operations.
        let mut also = one.clone();
        also.push(Operation::Zero { at: 0, bytes: 1 });
        assert_eq!(graphs.how(&also), How::Plainly);
        let mut elsewhere = one.clone();
        elsewhere.operations[3] = Operation::Copy { to: 1, from: 2, bytes: 3 };
        assert_ne!(graphs.how(&elsewhere), How::As(1));
    }

    #[test]
    fn the_graph_that_was_not_used_for_the_longest_time_goes() {
        let mut graphs = Graphs::default();
        for number in 0..GRAPHS as u32 {
            let one = sequence(9, number);
            graphs.how(&one);
            assert_eq!(graphs.keep(one, Some(number)), None);
        }
        assert_eq!(graphs.how(&sequence(9, 0)), How::As(0));
        assert_eq!(graphs.keep(sequence(9, 1000), Some(1000)), Some(1));
        assert_eq!(graphs.how(&sequence(9, 1000)), How::As(1000));
    }
}
