//! The order in which a step's gradients, losses and figures are added up.
//!
//! The sequences of a step are cut into *lanes*, runs of them that are as long as each other or nearly so. A
//! lane is summed from its first sequence to its last; the sums of lanes are added in a balanced binary tree:
//! 0 to 1, 2 to 3, then these to each other. So the numbers of the sequences alone decide the order, and not
//! how they are cut into micro-batches; and whoever sums half of the lanes somewhere else has summed a node of
//! the same tree. A lane without sequences is left out.

use super::trainer::zeros_like;
use crate::model::{Gradients, Weights};
use kernels::Backend;
use ranks::Ranks;

/// Which lane a micro-batch belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// The only one there is, in which a whole micro-batch is summed at once: the quickest, and how a step is
    /// cut into micro-batches decides its bits.
    Only,
    /// The one of this number, in which one sequence is added after another. Numbers do not decrease within a
    /// step.
    Number(usize),
}

impl Lane {
    /// Its number.
    pub fn number(self) -> usize {
        match self {
            Lane::Only => 0,
            Lane::Number(number) => number,
        }
    }

    /// The same, summed by sequence in any case.
    pub fn by_sequence(self) -> Self {
        Lane::Number(self.number())
    }

    /// The groups of rows that are summed first: all `rows`, or the sequences of these lengths that they are.
    pub fn groups<'a>(self, lens: &'a [usize], rows: &'a usize) -> &'a [usize] {
        match self {
            Lane::Only => std::slice::from_ref(rows),
            Lane::Number(_) => lens,
        }
    }
}

/// Whether the sum up to the lane `done` is added to the one before it, up to the lane `waiting`, before the
/// lane `next` begins: no further lane is under the lowest node that has both.
fn is_complete(waiting: usize, done: usize, next: usize) -> bool {
    let level = (waiting ^ done).ilog2() + 1;
    next >> level != done >> level
}

/// Several sums in lanes, of numbers that a host has.
#[derive(Clone, Debug)]
pub struct LaneSums<const N: usize> {
    lane: Option<usize>,
    sums: [f64; N],
    waiting: Vec<(usize, [f64; N])>,
}

impl<const N: usize> Default for LaneSums<N> {
    fn default() -> Self {
        LaneSums { lane: None, sums: [0.0; N], waiting: Vec::new() }
    }
}

impl<const N: usize> LaneSums<N> {
    /// Adds to the sums of a lane.
    pub fn add(&mut self, lane: Lane, values: [f64; N]) {
        let next = lane.number();
        if let Some(lane) = self.lane.filter(|lane| *lane != next) {
            self.join(|waiting| is_complete(waiting, lane, next));
            self.waiting.push((lane, std::mem::replace(&mut self.sums, [0.0; N])));
        }
        self.lane = Some(next);
        add(&mut self.sums, &values);
    }

    /// The sums of all lanes, those of other ranks among them.
    pub fn total(mut self, ranks: &Ranks) -> [f64; N] {
        self.join(|_| true);
        ranks.add_up(&mut self.sums, &ranks.present(self.lane.is_some()));
        self.sums
    }

    fn join(&mut self, joins: impl Fn(usize) -> bool) {
        while let Some((_, before)) = self.waiting.pop_if(|(waiting, _)| joins(*waiting)) {
            let after = std::mem::replace(&mut self.sums, before);
            add(&mut self.sums, &after);
        }
    }
}

fn add<const N: usize>(sums: &mut [f64; N], values: &[f64; N]) {
    sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
}

/// Gradients of lanes that wait for others.
pub(super) struct LaneGradients<T> {
    /// The lane whose gradients are being accumulated.
    lane: Option<usize>,
    waiting: Vec<(usize, Weights<T>)>,
    /// Memory of gradients that wait no more.
    free: Vec<Weights<T>>,
}

impl<T> LaneGradients<T> {
    pub(super) fn new() -> Self {
        LaneGradients { lane: None, waiting: Vec::new(), free: Vec::new() }
    }

    /// Forgets what was accumulated: a new sum begins.
    pub(super) fn clear(&mut self) {
        self.lane = None;
        self.free.extend(self.waiting.drain(..).map(|(_, sum)| sum));
    }

    /// Makes `gradients` those of a lane: what it has of the lane before is added to the sums that it
    /// completes, or waits.
    pub(super) fn enter<B: Backend<Tensor = T>>(
        &mut self,
        b: &mut B,
        gradients: &mut Gradients<T>,
        lane: Lane,
    ) {
        let next = lane.number();
        if let Some(lane) = self.lane.filter(|lane| *lane != next) {
            assert!(lane < next, "lane {next} after lane {lane}");
            gradients.finish(b);
            self.join(b, gradients, |waiting| is_complete(waiting, lane, next));
            let mut kept = self.free.pop().unwrap_or_else(|| zeros_like(b, &gradients.weights));
            std::mem::swap(&mut kept, &mut gradients.weights);
            self.waiting.push((lane, kept));
            gradients.clear(b);
        }
        self.lane = Some(next);
    }

    /// Whether something was accumulated in any.
    pub(super) fn has_some(&self) -> bool {
        self.lane.is_some()
    }

    /// Adds up all lanes in `gradients`.
    pub(super) fn finish<B: Backend<Tensor = T>>(&mut self, b: &mut B, gradients: &mut Gradients<T>) {
        gradients.finish(b);
        self.join(b, gradients, |_| true);
    }

    fn join<B: Backend<Tensor = T>>(
        &mut self,
        b: &mut B,
        gradients: &mut Gradients<T>,
        joins: impl Fn(usize) -> bool,
    ) {
        while let Some((_, before)) = self.waiting.pop_if(|(waiting, _)| joins(*waiting)) {
            for (gradient, before) in gradients.weights.leaves_mut().into_iter().zip(before.leaves()) {
                b.accumulate(gradient, before);
            }
            self.free.push(before);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sum of a tree over 2ⁿ lanes, written as a tree; none where no lane has anything.
    fn tree(lanes: &[Vec<f64>]) -> Option<f64> {
        if let [lane] = lanes {
            return (!lane.is_empty()).then(|| lane.iter().fold(0.0, |sum, x| sum + x));
        }
        let (a, b) = lanes.split_at(lanes.len() / 2);
        match (tree(a), tree(b)) {
            (Some(a), Some(b)) => Some(a + b),
            (a, b) => a.or(b),
        }
    }

    /// Every way of leaving some of eight lanes empty. Numbers of very different sizes, so that another order
    /// of additions is another sum.
    #[test]
    fn sums_are_those_of_a_balanced_tree() {
        let value = |i: usize| f64::from(i as u32 * 7919 % 101) * 10f64.powi(3 * (i as i32 % 5) - 6) - 3.3;
        let mut orders = 0;
        for filled in 1..256usize {
            let lane = |lane: usize| match filled >> lane & 1 {
                1 => vec![value(lane), value(lane + 8)],
                _ => Vec::new(),
            };
            let lanes: Vec<Vec<f64>> = (0..8).map(lane).collect();
            let (mut sums, mut left) = (LaneSums::default(), 0.0);
            for (number, value) in lanes.iter().enumerate().flat_map(|(i, v)| v.iter().map(move |v| (i, *v)))
            {
                sums.add(Lane::Number(number), [value, -value]);
                left += value;
                assert!(sums.waiting.len() <= 3, "one for each level at most");
            }
            let [sum, negated] = sums.total(&Ranks::alone());
            assert_eq!((Some(sum), sum), (tree(&lanes), -negated), "{lanes:?}");
            orders += usize::from(sum != left);
        }
        assert!(orders > 100, "the order of additions has to tell: {orders}");
    }

    #[test]
    fn the_only_lane_is_summed_from_left_to_right() {
        let mut sums = LaneSums::default();
        for value in [1e16, 1.0, -1e16] {
            sums.add(Lane::Only, [value]);
        }
        assert_eq!(sums.total(&Ranks::alone()), [1e16 + 1.0 - 1e16]);
        assert_eq!(LaneSums::default().total(&Ranks::alone()), [0.0, 0.0], "nothing was added");
        assert_eq!(
            (Lane::Only.by_sequence(), Lane::Number(3).by_sequence()),
            (Lane::Number(0), Lane::Number(3))
        );
        let groups = [Lane::Only, Lane::Number(0)].map(|lane| lane.groups(&[2, 3], &5));
        assert_eq!(groups, [&[5][..], &[2, 3]]);
    }
}
