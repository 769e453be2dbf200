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
use super::{Cpu, CpuTensor};
use std::ops::Range;

/// Rows whose share of the gradients of the weights is summed by one thread.
const PARTIAL_ROWS: usize = 64;

/// Calls `work(rows, sums, scratch)` with runs of `0..rows`, their partial sums, `sum_width` zeros to begin
/// with, and three scratch rows of `row_width` values; then `add` with the total of each group of
/// `group_rows` rows, in order.
fn sum_partials(
    cpu: &mut Cpu,
    rows: usize,
    group_rows: usize,
    [sum_width, row_width]: [usize; 2],
    work: impl Fn(Range<usize>, &mut [f32], [&mut [f32]; 3]) + Sync,
    mut add: impl FnMut(&[f32]),
) {
    assert!(group_rows > 0, "group_rows is 0");
    let level = cpu.options.level;
    // A partial sum begins anew with every group, so that it never depends on another group's rows.
    let group_partials = group_rows.min(rows).div_ceil(PARTIAL_ROWS).max(1);
    let partials = rows.div_ceil(group_rows) * group_partials;
    let sums = cpu.partials.floats(partials * sum_width);
    let shared_sums = Disjoint::new(sums);
    cpu.pool.run(partials, &|partial, scratch| {
        let group_end = rows.min((partial / group_partials + 1) * group_rows);
        let start = partial / group_partials * group_rows + partial % group_partials * PARTIAL_ROWS;
        let rows = start.min(group_end)..group_end.min(start + PARTIAL_ROWS);
        // SAFETY: each partial sum is one chunk's own.
        let sums = unsafe { shared_sums.slice(partial * sum_width, sum_width) };
        sums.fill(0.0);
        let [a, b, c, ..] = &mut scratch.buffers;
        work(rows, sums, [a.floats(row_width), b.floats(row_width), c.floats(row_width)]);
    });
    for group in sums.chunks_exact_mut(group_partials * sum_width) {
        let (total, others) = group.split_at_mut(sum_width);
        others.chunks_exact(sum_width).for_each(|sum| add_slice(level, total, sum));
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
