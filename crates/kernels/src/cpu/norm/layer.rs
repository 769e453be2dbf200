//! Layer normalisation (Ba et al. 2016).

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
    bias: Option<&CpuTensor>,
    eps: f32,
) {
    let width = weight.len();
    let rows = assert_rows(x, width);
    assert_eq!(out.len(), x.len(), "values of out");
    assert_eq!(stats.len(), 2 * rows, "values of stats");
    assert!(bias.is_none_or(|bias| bias.len() == width), "values of bias");
    let (level, out, stats) = (cpu.options.level, out.sink(), Disjoint::new(stats.f32s_mut()));
    let (x, weight, bias) = (x.values(), weight.f32s(), bias.map(CpuTensor::f32s));
    for_each_rows(&mut cpu.pool, rows, width, |rows, [a, b, _]| {
        let (start, len) = (rows.start, rows.len());
        // SAFETY: every row is handed out once.
        let (mut out, stats) =
            unsafe { (out.part(start * width, len * width), stats.slice(2 * start, 2 * len)) };
        norm_rows(level, &mut out, stats, x.part(start * width, len * width), weight, bias, eps, a, b);
    });
}

#[allow(clippy::too_many_arguments)]
pub(in super::super) fn backward(
    cpu: &mut Cpu,
    dx: &mut CpuTensor,
    dweight: &mut CpuTensor,
    dbias: Option<&mut CpuTensor>,
    dout: &CpuTensor,
    x: &CpuTensor,
    stats: &CpuTensor,
    weight: &CpuTensor,
    groups: &[usize],
) {
    let width = weight.len();
    let rows = assert_rows(x, width);
    assert_groups("layer_norm_backward", groups, rows);
    for (len, name) in [(dx.len(), "dx"), (dout.len(), "dout")] {
        assert_eq!(len, x.len(), "values of {name}");
    }
    assert_eq!(stats.len(), 2 * rows, "values of stats");
    assert_eq!(dweight.len(), width, "values of dweight");
    assert!(dbias.as_ref().is_none_or(|dbias| dbias.len() == width), "values of dbias");

    let level = cpu.options.level;
    let (dx, dout, x) = (Disjoint::new(dx.f32s_mut()), dout.values(), x.values());
    let (stats, weight) = (stats.f32s(), weight.f32s());
    let mut dbias = dbias.map(CpuTensor::f32s_mut);
    let work = |rows: Range<usize>, sums: &mut [f32], [a, b, _]: [&mut [f32]; 3]| {
        let (start, len) = (rows.start * width, rows.len() * width);
        // SAFETY: every row is handed out once.
        let dx = unsafe { dx.slice(start, len) };
        let stats = &stats[2 * rows.start..2 * rows.end];
        norm_backward_rows(level, dx, sums, dout.part(start, len), x.part(start, len), stats, weight, a, b);
    };
    sum_partials(cpu, groups, [2 * width, width], work, |sums| {
        add_slice(level, dweight.f32s_mut(), &sums[..width]);
        if let Some(dbias) = &mut dbias {
            add_slice(level, dbias, &sums[width..]);
        }
    });
}

multiversion! {
    fn norm_rows(
        out: &mut ValuesMut<'_>,
        stats: &mut [f32],
        x: Values<'_>,
        weight: &[f32],
        bias: Option<&[f32]>,
        eps: f32,
        scratch: &mut [f32],
        scratch_x: &mut [f32],
    ) {
        let width = weight.len();
        for (r, stats) in stats.as_chunks_mut::<2>().0.iter_mut().enumerate() {
            let x = x.read(r * width, width, scratch_x);
            let mean = sum_by(x, x, |x, _| x) / width as f32;
            let variance = sum_by(x, x, |x, _| (x - mean) * (x - mean)) / width as f32;
            let rstd = inverse_root(variance + eps);
            *stats = [mean, rstd];
            let out = out.overwrite(r * width, width, scratch);
            match bias {
                None => {
                    for ((out, x), weight) in out.values.iter_mut().zip(x).zip(weight) {
                        *out = (x - mean) * rstd * weight;
                    }
                }
                Some(bias) => {
                    for (((out, x), weight), bias) in out.values.iter_mut().zip(x).zip(weight).zip(bias) {
                        *out = (x - mean) * rstd * weight + bias;
                    }
                }
            }
            out.store();
        }
    }

    /// `sums` gets the rows' share of `dweight`, then of `dbias`.
    fn norm_backward_rows(
        dx: &mut [f32],
        sums: &mut [f32],
        dout: Values<'_>,
        x: Values<'_>,
        stats: &[f32],
        weight: &[f32],
        scratch_dout: &mut [f32],
        scratch_x: &mut [f32],
    ) {
        let width = weight.len();
        let (dweight, dbias) = sums.split_at_mut(width);
        for (r, (dx, stats)) in dx.chunks_exact_mut(width).zip(stats.as_chunks::<2>().0).enumerate() {
            let (dout, x) = (dout.read(r * width, width, scratch_dout), x.read(r * width, width, scratch_x));
            norm_backward_row(dx, dweight, dbias, dout, x, *stats, weight);
        }
    }
}

#[inline(always)]
fn norm_backward_row(
    dx: &mut [f32],
    dweight: &mut [f32],
    dbias: &mut [f32],
    dout: &[f32],
    x: &[f32],
    [mean, rstd]: [f32; 2],
    weight: &[f32],
) {
    let width = x.len() as f32;
    let mean_g = sum_by(dout, weight, |dout, weight| dout * weight) / width;
    let gx = |dout: f32, weight: f32, x: f32| dout * weight * ((x - mean) * rstd);
    let mean_gx = sum_by3(dout, weight, x, gx) / width;

    let gradients = dx.iter_mut().zip(dweight).zip(dbias);
    for ((((dx, dweight), dbias), (dout, x)), weight) in gradients.zip(dout.iter().zip(x)).zip(weight) {
        let x_hat = (x - mean) * rstd;
        *dx += rstd * (dout * weight - mean_g - x_hat * mean_gx);
        *dweight += dout * x_hat;
        *dbias += dout;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::testing::{for_every_cpu, tensor};

    /// A width that fills no vector, and enough rows for several chunks and partial sums.
    const WIDTH: usize = 130;
    const ROWS: usize = 300;

    #[test]
    fn bits_depend_on_neither_threads_nor_level() {
        for_every_cpu(|cpu| {
            let (x, weight) = (tensor(cpu, 1, ROWS * WIDTH), tensor(cpu, 4, WIDTH));
            let (mut out, mut stats) = (cpu.activation(ROWS * WIDTH), cpu.zeros(2 * ROWS));
            forward(cpu, &mut out, &mut stats, &x, &weight, Some(&weight), 1e-5);
            let mut dx = tensor(cpu, 5, ROWS * WIDTH);
            let [mut dweight, mut dbias] = [(); 2].map(|()| cpu.zeros(WIDTH));
            backward(
                cpu,
                &mut dx,
                &mut dweight,
                Some(&mut dbias),
                &out,
                &x,
                &stats,
                &weight,
                &[140, 140, 20],
            );
            vec![out, stats, dx, dweight, dbias]
        });
    }

    #[test]
    fn gradients_do_not_depend_on_how_groups_are_batched() {
        for_every_cpu(|cpu| {
            let (x, dout) = (tensor(cpu, 1, ROWS * WIDTH), tensor(cpu, 2, ROWS * WIDTH));
            let weight = tensor(cpu, 3, WIDTH);
            let mut gradients = |batches: &[(Range<usize>, &[usize])]| {
                let (mut dweight, mut dbias) = (cpu.zeros(WIDTH), cpu.zeros(WIDTH));
                for (rows, groups) in batches {
                    let len = rows.len() * WIDTH;
                    let part = |x: &CpuTensor| {
                        let mut part = cpu.zeros(len);
                        part.f32s_mut().copy_from_slice(&x.f32s()[rows.start * WIDTH..][..len]);
                        part
                    };
                    let (x, dout) = (part(&x), part(&dout));
                    let (mut out, mut stats, mut dx) =
                        (cpu.zeros(len), cpu.zeros(2 * rows.len()), cpu.zeros(len));
                    forward(cpu, &mut out, &mut stats, &x, &weight, None, 1e-5);
                    let dbias = Some(&mut dbias);
                    backward(cpu, &mut dx, &mut dweight, dbias, &dout, &x, &stats, &weight, groups);
                }
                [dweight, dbias].map(|x| x.f32s().to_vec())
            };
            let at_once = gradients(&[(0..300, &[100, 3, 197]), (300..300, &[])]);
            let in_parts = gradients(&[(0..100, &[100]), (100..300, &[3, 197])]);
            assert_eq!(at_once, in_parts);
            vec![]
        });
    }
}
