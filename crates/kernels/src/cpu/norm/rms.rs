//! RMSNorm (Zhang & Sennrich 2019).

use super::super::level::{multiversion, sum_by, sum_by3};
use super::super::pool::Disjoint;
use super::super::rows::for_each_rows;
use super::super::tensor::{Values, ValuesMut};
use super::super::{Cpu, CpuTensor};
use super::{add_slice, assert_rows, inverse_root, sum_partials};
use crate::shapes::assert_groups;
use std::ops::Range;

pub(in super::super) fn forward(
    cpu: &mut Cpu,
    out: &mut CpuTensor,
    stats: &mut CpuTensor,
    x: &CpuTensor,
    weight: &CpuTensor,
    eps: f32,
) {
    let width = weight.len();
    let rows = assert_rows(x, width);
    assert_eq!(out.len(), x.len(), "values of out");
    assert_eq!(stats.len(), rows, "values of stats");
    let (level, out, stats) = (cpu.options.level, out.sink(), Disjoint::new(stats.f32s_mut()));
    let (x, weight) = (x.values(), weight.f32s());
    for_each_rows(&mut cpu.pool, rows, width, |rows, [a, b, _]| {
        let (start, len) = (rows.start * width, rows.len() * width);
        // SAFETY: every row is handed out once.
        let (mut out, stats) = unsafe { (out.part(start, len), stats.slice(rows.start, rows.len())) };
        norm_rows(level, &mut out, stats, x.part(start, len), weight, eps, a, b);
    });
}

#[allow(clippy::too_many_arguments)]
pub(in super::super) fn backward(
    cpu: &mut Cpu,
    dx: &mut CpuTensor,
    dweight: &mut CpuTensor,
    dout: &CpuTensor,
    x: &CpuTensor,
    stats: &CpuTensor,
    weight: &CpuTensor,
    groups: &[usize],
) {
    let width = weight.len();
    let rows = assert_rows(x, width);
    assert_groups("rms_norm_backward", groups, rows);
    for (len, name) in [(dx.len(), "dx"), (dout.len(), "dout")] {
        assert_eq!(len, x.len(), "values of {name}");
    }
    assert_eq!(stats.len(), rows, "values of stats");
    assert_eq!(dweight.len(), width, "values of dweight");

    let level = cpu.options.level;
    let (dx, dout, x) = (Disjoint::new(dx.f32s_mut()), dout.values(), x.values());
    let (stats, weight, dweight) = (stats.f32s(), weight.f32s(), dweight.f32s_mut());
    let work = |rows: Range<usize>, sums: &mut [f32], [a, b, _]: [&mut [f32]; 3]| {
        let (start, len) = (rows.start * width, rows.len() * width);
        // SAFETY: every row is handed out once.
        let dx = unsafe { dx.slice(start, len) };
        norm_backward_rows(
            level,
            dx,
            sums,
            dout.part(start, len),
            x.part(start, len),
            &stats[rows],
            weight,
            a,
            b,
        );
    };
    sum_partials(cpu, groups, [width; 2], work, |sums| add_slice(level, dweight, sums));
}

multiversion! {
    fn norm_rows(
        out: &mut ValuesMut<'_>,
        stats: &mut [f32],
        x: Values<'_>,
        weight: &[f32],
        eps: f32,
        scratch: &mut [f32],
        scratch_x: &mut [f32],
    ) {
        let width = weight.len();
        for (r, rstd) in stats.iter_mut().enumerate() {
            let x = x.read(r * width, width, scratch_x);
            let out = out.overwrite(r * width, width, scratch);
            *rstd = norm_row(out.values, x, weight, eps);
            out.store();
        }
    }

    fn norm_backward_rows(
        dx: &mut [f32],
        dweight: &mut [f32],
        dout: Values<'_>,
        x: Values<'_>,
        stats: &[f32],
        weight: &[f32],
        scratch_dout: &mut [f32],
        scratch_x: &mut [f32],
    ) {
        let width = weight.len();
        for (r, (dx, rstd)) in dx.chunks_exact_mut(width).zip(stats).enumerate() {
            let (dout, x) = (dout.read(r * width, width, scratch_dout), x.read(r * width, width, scratch_x));
            norm_backward_row(dx, dweight, dout, x, *rstd, weight, |dx, value| *dx += value);
        }
    }
}

/// `out = x · rstd · weight`; returns `rstd`.
#[inline(always)]
pub(super) fn norm_row(out: &mut [f32], x: &[f32], weight: &[f32], eps: f32) -> f32 {
    let mean_square = sum_by(x, x, |x, _| x * x) / x.len() as f32;
    let rstd = inverse_root(mean_square + eps);
    for ((out, x), weight) in out.iter_mut().zip(x).zip(weight) {
        *out = x * rstd * weight;
    }
    rstd
}

/// Adds a row's share to `dweight` and calls `put` with its gradient, value by value.
#[inline(always)]
pub(super) fn norm_backward_row(
    dx: &mut [f32],
    dweight: &mut [f32],
    dout: &[f32],
    x: &[f32],
    rstd: f32,
    weight: &[f32],
    put: impl Fn(&mut f32, f32),
) {
    let mean_gx = sum_by3(dout, weight, x, |dout, weight, x| dout * weight * x) * rstd / x.len() as f32;
    let gradients = dx.iter_mut().zip(dweight);
    for (((dx, dweight), (dout, x)), weight) in gradients.zip(dout.iter().zip(x)).zip(weight) {
        let x_hat = x * rstd;
        put(dx, rstd * (dout * weight - x_hat * mean_gx));
        *dweight += dout * x_hat;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::testing::{for_every_cpu, random, tensor};

    #[test]
    fn bits_depend_on_neither_threads_nor_level() {
        // A width that fills no vector, and enough rows for several chunks and partial sums.
        const WIDTH: usize = 130;
        const ROWS: usize = 300;
        for_every_cpu(|cpu| {
            let (x, weight) = (random(cpu, 1, ROWS * WIDTH), tensor(cpu, 2, WIDTH));
            let (mut out, mut stats) = (cpu.activation(ROWS * WIDTH), cpu.zeros(ROWS));
            forward(cpu, &mut out, &mut stats, &x, &weight, 1e-5);
            let (mut dx, mut dweight) = (tensor(cpu, 3, ROWS * WIDTH), cpu.zeros(WIDTH));
            backward(cpu, &mut dx, &mut dweight, &out, &x, &stats, &weight, &[140, 3, 157]);
            vec![out, stats, dx, dweight]
        });
    }
}
