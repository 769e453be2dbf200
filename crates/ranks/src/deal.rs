//! Things that are dealt to ranks by their numbers, as cards are: the first to the first rank, the second to
//! the second. Neighbours are mostly alike, so that shares are. What each rank has found out about its own comes
//! back in the order of the things.

use crate::Ranks;
use bytemuck::Pod;

impl Ranks {
    /// Which of `count` things are this rank's.
    pub fn dealt(&self, count: usize) -> impl Iterator<Item = usize> + use<> {
        (self.rank()..count).step_by(self.size())
    }

    /// The values of all things in their order; there are as many of each as `lens` say. `own` are those of the
    /// things that are [dealt](Self::dealt) to this rank, one thing's after another's.
    ///
    /// # Panics
    /// The values are more or fewer than `lens` say.
    pub fn collect<T: Pod>(&self, own: &[T], lens: &[usize]) -> Vec<T> {
        if self.size() == 1 {
            return own.to_vec();
        }
        let all = self.gather(own);
        let mut starts = Vec::with_capacity(lens.len());
        let total = lens.iter().fold(0, |start, len| {
            starts.push(start);
            start + len
        });
        assert_eq!(all.len(), total, "values of {} things", lens.len());
        let (mut values, mut left) = (vec![T::zeroed(); total], all.as_slice());
        for place in (0..self.size()).flat_map(|rank| (rank..lens.len()).step_by(self.size())) {
            let (of_one, rest) = left.split_at(lens[place]);
            values[starts[place]..][..lens[place]].copy_from_slice(of_one);
            left = rest;
        }
        values
    }

    /// The lists of all of `count` things in their order; `own` are those of the things that are
    /// [dealt](Self::dealt) to this rank. Those that it has none of come last, and are empty.
    pub fn collect_lists<T: Pod>(&self, own: &[Vec<T>], count: usize) -> Vec<Vec<T>> {
        let mut own_lens: Vec<u64> = own.iter().map(|list| list.len() as u64).collect();
        own_lens.resize(self.dealt(count).count(), 0);
        let lens: Vec<usize> =
            self.collect(&own_lens, &vec![1; count]).into_iter().map(|len| len as usize).collect();
        let values = self.collect(&own.concat(), &lens);
        let mut left = values.as_slice();
        let list = |len: usize| {
            let (list, rest) = left.split_at(len);
            left = rest;
            list.to_vec()
        };
        lens.into_iter().map(list).collect()
    }
}

#[cfg(test)]
mod tests {
    use crate::threads;

    #[test]
    fn what_was_dealt_comes_back_in_order() {
        for size in [1, 2, 3, 4] {
            for count in [0, 1, 3, 4, 9] {
                let list = |i: usize| vec![i as u32; i % 3];
                let all: Vec<Vec<u32>> = (0..count).map(list).collect();
                let lens: Vec<usize> = all.iter().map(Vec::len).collect();
                let collected = threads(size, |ranks| {
                    let own: Vec<Vec<u32>> = ranks.dealt(count).map(list).collect();
                    (ranks.collect_lists(&own, count), ranks.collect(&own.concat(), &lens))
                });
                assert_eq!(collected, vec![(all.clone(), all.concat()); size], "{count} of {size} ranks");
            }
        }
    }

    #[test]
    fn what_a_rank_did_not_come_to_is_empty() {
        let lists = threads(2, |ranks| {
            let own = if ranks.is_first() { vec![vec![1u8], vec![3], vec![5]] } else { vec![vec![2]] };
            ranks.collect_lists(&own, 5)
        });
        assert_eq!(lists, vec![vec![vec![1], vec![2], vec![3], vec![], vec![5]]; 2]);
    }
}
