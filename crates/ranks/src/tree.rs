//! Sums over ranks, in an order that does not depend on how many there are.

use crate::Ranks;
use bytemuck::Pod;
use std::ops::AddAssign;

/// How many numbers are on their way at once: each rank adds up its share of them, so that what a rank sends
/// and receives is what a reduce-scatter and an all-gather would.
const BUCKET: usize = 1 << 22;

/// The order in which the parts that ranks have are added up: a balanced binary tree over the ranks, 0 and 1, 2
/// and 3, then these with each other. Whoever adds them, here or on a GPU, follows this list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SumOrder {
    /// `[into, of]`, one after another: the part `of` is added to the part `into`.
    pub additions: Vec<[usize; 2]>,
    /// Which part is the sum then.
    pub sum: usize,
}

impl SumOrder {
    /// The order over those that are `present`; none where nobody is. Who is not is left out: adding zeros would
    /// make `+0` of `-0`.
    pub fn of(present: &[bool]) -> Option<Self> {
        // The part that has the sum of each subtree, of all that are as large.
        let mut sums: Vec<Option<usize>> =
            present.iter().enumerate().map(|(rank, is_present)| is_present.then_some(rank)).collect();
        let mut additions = Vec::new();
        while sums.len() > 1 {
            let node = |pair: &[Option<usize>]| match *pair {
                [Some(left), Some(right)] => {
                    additions.push([left, right]);
                    Some(left)
                }
                _ => pair.iter().copied().find_map(|part| part),
            };
            sums = sums.chunks(2).map(node).collect();
        }
        Some(SumOrder { additions, sum: sums.into_iter().next()?? })
    }
}

impl Ranks {
    /// Which ranks have something to be added, in order.
    pub fn present(&self, has_some: bool) -> Vec<bool> {
        self.gather(&[u8::from(has_some)]).into_iter().map(|has| has == 1).collect()
    }

    /// Makes `values` the sums of those of all ranks that are `present`, in [their order](SumOrder). Of ranks
    /// that are not, the values are ignored; where none is, they stay.
    ///
    /// # Panics
    /// The number of ranks is no power of two.
    pub fn add_up<T: Pod + AddAssign>(&self, values: &mut [T], present: &[bool]) {
        let size = self.size();
        assert!(size.is_power_of_two(), "{size} ranks are no balanced tree");
        let Some(order) = SumOrder::of(present).filter(|_| size > 1) else { return };
        let (mut sent, mut parts) = (Vec::new(), Vec::new());
        for bucket in values.chunks_mut(BUCKET) {
            let share = bucket.len().div_ceil(size);
            sent.clear();
            sent.extend_from_slice(bucket);
            sent.resize(share * size, T::zeroed());
            parts.resize(share * size, T::zeroed());
            self.0.all_to_all(bytemuck::cast_slice(&sent), bytemuck::cast_slice_mut(&mut parts));
            add_parts(&mut parts, share, &order.additions);
            let sums = &parts[order.sum * share..][..share];
            self.0.all_gather(bytemuck::cast_slice(sums), bytemuck::cast_slice_mut(&mut sent));
            bucket.copy_from_slice(&sent[..bucket.len()]);
        }
    }

    /// Makes `values` those of the rank `from`.
    pub fn send<T: Pod>(&self, values: &mut [T], from: usize) {
        for bucket in values.chunks_mut(BUCKET) {
            self.0.broadcast(bytemuck::cast_slice_mut(bucket), from);
        }
    }

    /// How many all ranks have together of what this one has `own`.
    pub fn count(&self, own: usize) -> usize {
        self.gather(&[own as u64]).iter().sum::<u64>() as usize
    }

    /// The values of all ranks, one rank's after another's; they may have any number of them.
    pub fn gather<T: Pod>(&self, own: &[T]) -> Vec<T> {
        if self.size() == 1 {
            return own.to_vec();
        }
        let mut lens = vec![0u64; self.size()];
        self.0.all_gather(bytemuck::bytes_of(&(own.len() as u64)), bytemuck::cast_slice_mut(&mut lens));
        let longest = lens.iter().copied().max().unwrap_or(0) as usize;
        let mut padded = own.to_vec();
        padded.resize(longest, T::zeroed());
        let mut all = vec![T::zeroed(); longest * self.size()];
        self.0.all_gather(bytemuck::cast_slice(&padded), bytemuck::cast_slice_mut(&mut all));
        let of = |rank: usize| &all[rank * longest..][..lens[rank] as usize];
        (0..self.size()).flat_map(of).copied().collect()
    }
}

/// Adds parts of `len` numbers to others.
fn add_parts<T: Pod + AddAssign>(parts: &mut [T], len: usize, additions: &[[usize; 2]]) {
    for &[into, of] in additions {
        // A part is added to one before it.
        let (before, after) = parts.split_at_mut(of * len);
        let sums = before[into * len..][..len].iter_mut();
        sums.zip(&after[..len]).for_each(|(sum, value)| *sum += *value);
    }
}

#[cfg(test)]
mod tests {
    use crate::threads;

    /// Numbers of very different sizes, so that another order of additions is another sum.
    fn value(leaf: usize, at: usize) -> f32 {
        let step = (leaf * 31 + at * 7919) % 101;
        (step as f32 - 50.0) * 10f32.powi(3 * ((leaf + at) as i32 % 5) - 6)
    }

    /// The sum of a tree over 2ⁿ leaves, written as a tree; none where no leaf has anything.
    fn tree(leaves: &[Option<f32>]) -> Option<f32> {
        if let [leaf] = leaves {
            return *leaf;
        }
        let (a, b) = leaves.split_at(leaves.len() / 2);
        match (tree(a), tree(b)) {
            (Some(a), Some(b)) => Some(a + b),
            (a, b) => a.or(b),
        }
    }

    #[test]
    fn sums_are_those_of_a_balanced_tree_for_any_number_of_ranks() {
        const LEAVES: usize = 8;
        let len = 37;
        let mut orders = 0;
        for filled in [255usize, 254, 127, 0b1010_0110, 0b0001_0000, 1] {
            let leaf = |leaf: usize, at| (filled >> leaf & 1 == 1).then(|| value(leaf, at));
            let of =
                |leaves: std::ops::Range<usize>, at| tree(&leaves.map(|l| leaf(l, at)).collect::<Vec<_>>());
            let expected: Vec<f32> = (0..len).map(|at| of(0..LEAVES, at).unwrap()).collect();
            for size in [1, 2, 4, 8] {
                let sums = threads(size, |ranks| {
                    let own = ranks.share(LEAVES);
                    let mut values: Vec<f32> =
                        (0..len).map(|at| of(own.clone(), at).unwrap_or(9e9)).collect();
                    let present = ranks.present(own.clone().any(|l| leaf(l, 0).is_some()));
                    ranks.add_up(&mut values, &present);
                    values
                });
                let alike =
                    |sum: &Vec<f32>| sum.iter().zip(&expected).all(|(a, b)| a.to_bits() == b.to_bits());
                assert!(sums.iter().all(alike), "{filled:b} by {size}: {sums:?} for {expected:?}");
            }
            let from_left: Vec<f32> =
                (0..len).map(|at| (0..LEAVES).filter_map(|l| leaf(l, at)).sum()).collect();
            orders += usize::from(from_left != expected);
        }
        assert!(orders > 2, "the order of additions has to tell: {orders}");
    }

    #[test]
    fn who_has_nothing_is_left_out_and_many_numbers_go_in_buckets() {
        let long = super::BUCKET + 3;
        let sums = threads(4, |ranks| {
            let own = f64::from(ranks.rank() as u32);
            let mut values = vec![own; long];
            values[0] = -0.0;
            let present = ranks.present(ranks.rank() % 3 == 0);
            ranks.add_up(&mut values, &present);
            let mut untouched = [own];
            ranks.add_up(&mut untouched, &ranks.present(false));
            (values, untouched[0])
        });
        for (rank, (values, untouched)) in sums.into_iter().enumerate() {
            assert_eq!(values[0].to_bits(), (-0.0f64).to_bits());
            assert!(values[1..].iter().all(|value| *value == 3.0), "0 + 3 of ranks 0 and 3");
            assert_eq!((values.len(), untouched), (long, f64::from(rank as u32)));
        }
    }

    #[test]
    fn an_order_is_a_list_of_additions() {
        let of = |present: &[u8]| {
            super::SumOrder::of(&present.iter().map(|present| *present == 1).collect::<Vec<_>>())
                .map(|order| (order.additions, order.sum))
        };
        assert_eq!(of(&[1, 1, 1, 1]), Some((vec![[0, 1], [2, 3], [0, 2]], 0)));
        assert_eq!(of(&[0, 1, 1, 0]), Some((vec![[1, 2]], 1)));
        assert_eq!(of(&[0, 0, 1, 1]), Some((vec![[2, 3]], 2)));
        assert_eq!(of(&[0, 0, 0, 1]), Some((vec![], 3)));
        assert_eq!((of(&[1]), of(&[0, 0]), of(&[])), (Some((vec![], 0)), None, None));
    }

    #[test]
    fn values_are_gathered_in_the_order_of_ranks() {
        let gathered = threads(4, |ranks| ranks.gather(&vec![ranks.rank() as u64; ranks.rank()]));
        assert!(gathered.iter().all(|all| *all == [1, 2, 2, 3, 3, 3]), "{gathered:?}");
        assert_eq!(threads(4, |ranks| ranks.count(ranks.rank())), [6; 4]);
        let sent = threads(4, |ranks| {
            let mut values = [ranks.rank() as u64; 3];
            ranks.send(&mut values, 2);
            values
        });
        assert_eq!(sent, [[2; 3]; 4]);
        assert!(threads(2, |ranks| ranks.gather::<f64>(&[])).concat().is_empty());
    }
}
