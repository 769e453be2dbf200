//! Moments that each rank has a part of, the first stage of ZeRO (Rajbhandari et al. 2020): the rank that has
//! a leaf's moments updates the leaf and sends it to the others. Checkpoints hold all of them, so that another
//! number of ranks goes on.
//!
//! Leaves are not cut, so that an update is the same call for any number of ranks. Of a model whose embedding is
//! a large part of it, the rank that has the embedding has more than its share.

use super::Trainer;
use super::over_ranks::{download, groups, upload};
use crate::model::{self, Method, Spec, Weights, is_learned};
use kernels::Backend;
use ranks::Ranks;

/// The rank that has the moments of each leaf, in the order of [`Weights::leaves`]: the largest leaf that is
/// left goes to the rank that has the least.
pub(super) fn owners(specs: &Weights<Spec>, ranks: usize) -> Vec<usize> {
    let lens: Vec<usize> =
        specs.leaves().into_iter().map(|spec| if is_learned(specs, spec) { spec.len() } else { 0 }).collect();
    let mut order: Vec<usize> = (0..lens.len()).collect();
    order.sort_by_key(|leaf| std::cmp::Reverse(lens[*leaf]));
    let (mut owners, mut loads) = (vec![0; lens.len()], vec![0; ranks]);
    for leaf in order {
        let least = (0..ranks).min_by_key(|rank| loads[*rank]).unwrap_or(0);
        owners[leaf] = least;
        loads[least] += lens[leaf];
    }
    owners
}

/// Values of a model's learned leaves whose moments one rank has at most, of so many ranks: what its optimizer
/// takes memory for.
pub fn most_owned(specs: &Weights<Spec>, ranks: usize) -> usize {
    let (leaves, owners) = (specs.leaves(), owners(specs, ranks));
    let of = |rank: usize| {
        let own =
            leaves.iter().zip(&owners).filter(|(spec, owner)| **owner == rank && is_learned(specs, spec));
        own.map(|(spec, _)| spec.len()).sum()
    };
    (0..ranks).map(of).max().unwrap_or(0)
}

impl<B: Backend> Trainer<B> {
    /// From now on a step is done by `ranks` together. Each calls [`accumulate`](Self::accumulate) for lanes
    /// of its own, which are a subtree of all lanes, or not at all, and everything else alike. Each has the
    /// moments of some leaves.
    pub fn join(&mut self, b: &mut B, ranks: &Ranks) {
        self.ranks = ranks.clone();
        self.owners = owners(&self.specs, ranks.size());
        self.keep_own_moments(b);
    }

    /// Whether this rank has the moments of the leaf.
    pub(super) fn owns(&self, spec: &Spec) -> bool {
        let leaf = self.specs.leaves().into_iter().position(|other| other.name == spec.name);
        leaf.is_some_and(|leaf| self.owners[leaf] == self.ranks.rank())
    }

    /// Forgets the moments that other ranks have.
    pub(super) fn keep_own_moments(&mut self, b: &mut B) {
        if self.ranks.size() == 1 {
            return;
        }
        let Self { first_moment, second_moment, method, specs, owners, ranks, .. } = self;
        for (moment, second) in [(first_moment, false), (second_moment, true)] {
            let mut leaf_owners = owners.iter();
            let mut own = model::zeros_where(b, specs, |spec| {
                leaf_owners.next() == Some(&ranks.rank()) && has_moment(*method, specs, spec, second)
            });
            for (kept, leaf) in own.leaves_mut().into_iter().zip(moment.leaves()) {
                if b.len(kept) == b.len(leaf) {
                    b.copy(kept, leaf);
                }
            }
            *moment = own;
        }
    }

    /// Sends the leaves that each rank has updated to the others.
    pub(super) fn share_weights(&mut self, b: &mut B) {
        if self.ranks.size() == 1 {
            return;
        }
        let Self { weights, specs, learns, owners, ranks, .. } = self;
        let mut values = Vec::new();
        for owner in 0..ranks.size() {
            let leaves = weights.leaves_mut().into_iter().zip(specs.leaves()).zip(owners.iter());
            let owned = leaves.filter(|((_, spec), by)| **by == owner && learns.any_of(spec));
            let mut owned: Vec<_> = owned.map(|((leaf, _), _)| leaf).collect();
            if b.send_to_ranks(&mut owned, owner) {
                continue;
            }
            for group in groups(b, &mut owned) {
                if owner == ranks.rank() {
                    download(b, group, &mut values);
                } else {
                    values.resize(group.iter().map(|leaf| b.len(leaf)).sum(), 0.0);
                }
                ranks.send(&mut values, owner);
                if owner != ranks.rank() {
                    upload(b, group, &values);
                }
            }
        }
    }

    /// Makes the moments whole on the first rank, until they are [saved](Self::save).
    pub fn gather_moments(&mut self, b: &mut B) {
        if self.ranks.size() == 1 {
            return;
        }
        let Self { first_moment, second_moment, method, specs, owners, ranks, .. } = self;
        let gather = |b: &mut B, moment: &Weights<B::Tensor>, second: bool| {
            let has = |spec: &Spec| has_moment(*method, specs, spec, second);
            let mut whole = ranks.is_first().then(|| model::zeros_where(b, specs, has));
            let mut leaves = whole.as_mut().map(|whole| whole.leaves_mut().into_iter());
            for ((leaf, spec), owner) in moment.leaves().into_iter().zip(specs.leaves()).zip(owners.iter()) {
                let to = leaves.as_mut().and_then(Iterator::next);
                if !has(spec) {
                    continue;
                }
                let mut values = vec![0.0; spec.len()];
                if *owner == ranks.rank() {
                    b.download(&mut values, leaf);
                }
                ranks.send(&mut values, *owner);
                if let Some(to) = to {
                    b.upload(to, &values);
                }
            }
            whole
        };
        let whole = [gather(b, first_moment, false), gather(b, second_moment, true)];
        let [first, second] = whole;
        self.whole_moments = first.zip(second);
    }
}

/// Whether a leaf has a first moment, or a second one.
fn has_moment(method: Method, specs: &Weights<Spec>, spec: &Spec, second: bool) -> bool {
    if second { method.has_second_moment(specs, spec) } else { is_learned(specs, spec) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Config, specs};

    #[test]
    fn every_leaf_has_one_owner_and_loads_are_alike() {
        let config = Config { tied_head: true, ..Config::gpt2(40, 16, 4, 2, 16) };
        let specs = specs(&config);
        let all: usize = specs.leaves().into_iter().map(Spec::len).sum();
        for ranks in [1, 2, 4, 8] {
            let owners = owners(&specs, ranks);
            assert_eq!(owners.len(), specs.leaves().len());
            let load = |rank: usize| {
                let own = specs.leaves().into_iter().zip(&owners).filter(|(_, owner)| **owner == rank);
                own.map(|(spec, _)| spec.len()).sum::<usize>()
            };
            let loads: Vec<usize> = (0..ranks).map(load).collect();
            assert_eq!(loads.iter().sum::<usize>(), all);
            assert_eq!(loads.iter().max().copied(), Some(most_owned(&specs, ranks)));
            assert!(most_owned(&specs, ranks) <= all / ranks + all / 8, "{ranks} ranks: {loads:?} of {all}");
        }
        assert_eq!(most_owned(&specs, 1), all);
    }
}
