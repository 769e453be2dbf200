//! Normalisation: of rows ([`layer`], [`rms`]) and of the heads within them ([`heads`]).
//!
//! Forward and towards the rows threads take runs of rows. The gradients of gains and biases are sums over
//! rows: every run of [`PARTIAL_ROWS`] has a partial sum of its own, and the partial sums are added up in
//! order at the end.

pub(super) mod heads;
pub(super) mod layer;
pub(super) mod rms;

use super::level::multiversion;
use super::pointwise::add_to;
use super::pool::Disjoint;
use super::rows::cut_groups;
use super::{Cpu, CpuTensor};
use std::ops::Range;

/// Rows whose share of the gradients of the weights is summed by one thread.
const PARTIAL_ROWS: usize = 64;

/// Calls `work(rows, sums, scratch)` with runs of `0..rows`, their partial sums, `sum_width` zeros to begin
/// with, and three scratch rows of `row_width` values; then `add` with the total of each group of rows, in
/// order.
fn sum_partials(
    cpu: &mut Cpu,
    groups: &[usize],
    [sum_width, row_width]: [usize; 2],
    work: impl Fn(Range<usize>, &mut [f32], [&mut [f32]; 3]) + Sync,
    mut add: impl FnMut(&[f32]),
) {
    let Cpu { options, pool, partials, runs, .. } = cpu;
    // A partial sum begins anew with every group, so that it never depends on another group's rows.
    cut_groups(runs, groups, PARTIAL_ROWS);
    let sums = partials.floats(runs.len() * sum_width);
    let shared_sums = Disjoint::new(sums);
    pool.run(runs.len(), &|partial, scratch| {
        // SAFETY: each partial sum is one chunk's own.
        let sums = unsafe { shared_sums.slice(partial * sum_width, sum_width) };
        sums.fill(0.0);
        let [a, b, c, ..] = &mut scratch.buffers;
        work(runs[partial].clone(), sums, [a.floats(row_width), b.floats(row_width), c.floats(row_width)]);
    });
    let mut sums = sums.chunks_exact_mut(sum_width);
    for partials in groups.iter().map(|rows| rows.div_ceil(PARTIAL_ROWS)).filter(|&partials| partials > 0) {
        let total = sums.next().expect("every group that has rows has a partial sum");
        sums.by_ref().take(partials - 1).for_each(|sum| add_slice(options.level, total, sum));
        add(total);
    }
}

/// `1 / √x` of a mean of squares; NaN where squares of finite values overflowed: 1 / ∞ is 0, and a row of
/// zeros would hide it.
#[inline(always)]
fn inverse_root(x: f32) -> f32 {
    if x < f32::INFINITY { 1.0 / x.sqrt() } else { f32::NAN }
}

multiversion! {
    fn add_slice(sum: &mut [f32], x: &[f32]) {
        add_to(sum, x);
    }
}

/// Rows of `width` values in `x`.
fn assert_rows(x: &CpuTensor, width: usize) -> usize {
    assert!(width > 0 && x.len().is_multiple_of(width), "{} values are not rows of {width}", x.len());
    x.len() / width
}
