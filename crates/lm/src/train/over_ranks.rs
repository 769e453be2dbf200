//! A step that several ranks do together: each accumulates lanes of its own, and all make the same update of
//! their sum.

use super::Trainer;
use kernels::Backend;
use ranks::{Ranks, SumOrder};

/// Values of leaves that are on their way at once; a larger leaf goes alone.
const AT_ONCE: usize = 1 << 22;

impl<B: Backend> Trainer<B> {
    /// Who does a step together.
    pub fn ranks(&self) -> &Ranks {
        &self.ranks
    }

    /// Makes the gradients of this rank's lanes those of all ranks.
    pub(super) fn add_up_ranks(&mut self, b: &mut B) {
        if self.ranks.size() == 1 || self.whole {
            return;
        }
        self.whole = true;
        let Self { ranks, gradients, specs, learns, lanes, .. } = self;
        let present = ranks.present(lanes.has_some());
        let leaves = gradients.weights.leaves_mut().into_iter().zip(specs.leaves());
        let mut leaves: Vec<_> =
            leaves.filter(|(_, spec)| learns.any_of(spec)).map(|(leaf, _)| leaf).collect();
        let Some(order) = SumOrder::of(&present) else { return };
        if b.add_up_ranks(&mut leaves, &order.additions, order.sum) {
            return;
        }
        let mut values = Vec::new();
        for group in groups(b, &mut leaves) {
            download(b, group, &mut values);
            ranks.add_up(&mut values, &present);
            upload(b, group, &values);
        }
    }

    /// The loss as far as it is known before the update: not finite where it, or a log-probability of the
    /// step, is not on any rank, so that all leave out the same updates.
    pub(super) fn loss_of_all(&self, b: &mut B, loss: Option<f64>) -> Option<f64> {
        if self.ranks.size() == 1 {
            return loss;
        }
        let mut results = Vec::new();
        b.read(&mut results, &[&self.results]);
        let finite = results.iter().chain(&loss).all(|value| value.is_finite());
        if self.ranks.any(!finite) { Some(f64::NAN) } else { loss }
    }
}

/// Leaves that are on their way together.
pub(super) fn groups<'g, 'l, B: Backend>(
    b: &B,
    leaves: &'g mut [&'l mut B::Tensor],
) -> Vec<&'g mut [&'l mut B::Tensor]> {
    let (mut left, mut groups) = (leaves, Vec::new());
    while !left.is_empty() {
        let mut len = 0;
        let fitting = left.iter().take_while(|leaf| {
            len += b.len(leaf);
            len <= AT_ONCE
        });
        let (group, rest) = left.split_at_mut(fitting.count().max(1));
        groups.push(group);
        left = rest;
    }
    groups
}

/// Makes `values` those of some leaves, one after another.
pub(super) fn download<B: Backend>(b: &mut B, leaves: &[&mut B::Tensor], values: &mut Vec<f32>) {
    values.resize(leaves.iter().map(|leaf| b.len(leaf)).sum(), 0.0);
    let mut left = values.as_mut_slice();
    for leaf in leaves {
        let (part, rest) = left.split_at_mut(b.len(leaf));
        b.download(part, leaf);
        left = rest;
    }
}

/// The reverse.
pub(super) fn upload<B: Backend>(b: &mut B, leaves: &mut [&mut B::Tensor], values: &[f32]) {
    let mut left = values;
    for leaf in leaves {
        let (part, rest) = left.split_at(b.len(leaf));
        b.upload(leaf, part);
        left = rest;
    }
}
