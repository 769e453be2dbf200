//! Sums over ranks, in an order that does not depend on how many there are.

use crate::Ranks;
use bytemuck::Pod;
use std::ops::AddAssign;

/// How many numbers are on their way at once: each rank adds up its share of them, so that what a rank sends
/// and receives is what a reduce-scatter and an all-gather would.
const BUCKET: usize = 1 << 22;

impl Ranks {
    /// Which ranks have something to be added, in order. Whoever has nothing is left out of a tree: adding
    /// zeros would make `+0` of `-0`.
    pub fn present(&self, has_some: bool) -> Vec<bool> {
        self.gather(&[u8::from(has_some)]).into_iter().map(|has| has == 1).collect()
    }

    /// Makes `values` the sums of those of all ranks that are `present`, which are the leaves of a balanced
    /// binary tree: 0 and 1, 2 and 3, then these with each other. Of ranks that are not, the values are
    /// ignored; where none is, they stay.
    ///
    /// # Panics
    /// The number of ranks is no power of two.
    pub fn add_up<T: Pod + AddAssign>(&self, values: &mut [T], present: &[bool]) {
        let size = self.size();
        assert!(size.is_power_of_two(), "{size} ranks are no balanced tree");
        if size == 1 || !present.contains(&true) {
            return;
        }
        let (mut sent, mut parts) = (Vec::new(), Vec::new());
        for bucket in values.chunks_mut(BUCKET) {
            let share = bucket.len().div_ceil(size);
            sent.clear();
            sent.extend_from_slice(bucket);
            sent.resize(share * size, T::zeroed());
            parts.resize(share * size, T::zeroed());
            self.0.all_to_all(bytemuck::cast_slice(&sent), bytemuck::cast_slice_mut(&mut parts));
            add_parts(&mut parts, share, present);
            self.0.all_gather(bytemuck::cast_slice(&parts[..share]), bytemuck::cast_slice_mut(&mut sent));
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

/// Adds up the parts of `len` numbers in a balanced tree; the first part becomes the sum.
fn add_parts<T: Pod + AddAssign>(parts: &mut [T], len: usize, present: &[bool]) {
    let mut present = present.to_vec();
    let mut stride = 1;
    while stride < present.len() {
        for left in (0..present.len()).step_by(2 * stride) {
            let right = left + stride;
            if !present[right] {
                continue;
            }
            let (before, after) = parts.split_at_mut(right * len);
            let (sums, values) = (&mut before[left * len..][..len], &after[..len]);
            match present[left] {
                true => sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += *value),
                false => sums.copy_from_slice(values),
            }
            present[left] = true;
        }
        stride *= 2;
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
