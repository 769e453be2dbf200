//! Linear layers: three products a layer, one forward and two backward.

use super::gemm::{Codes, Factor, PackedWeight, Product, pack_right};
use super::level::multiversion;
use super::pool::Disjoint;
use super::rows::cut_groups;
use super::tensor::Values;
use super::{Cpu, CpuTensor};
use crate::LinearShape;
use crate::shapes::{assert_groups, size_of_shape};

/// Columns of a bias gradient that are summed together: enough of a row that memory is read in runs.
const BIAS_COLUMNS: usize = 512;

pub(super) fn packed(cpu: &mut Cpu, weight: &CpuTensor, d_in: usize, d_out: usize) -> CpuTensor {
    assert_lengths("packed", LinearShape { rows: 0, d_in, d_out }, 0, weight, 0);
    if let Some(matrix) = weight.as_blocks() {
        assert_eq!(matrix.shape(), [d_out, d_in], "packed: the shape of weight");
        if let Some(codes) = Codes::new(&mut cpu.pool, matrix) {
            return CpuTensor::packed(PackedWeight::of_codes(codes));
        }
    }
    let weight = Factor::along_k(weight.values(), d_in);
    CpuTensor::packed(PackedWeight::new(cpu.kernel, &mut cpu.pool, weight, d_in, d_out))
}

pub(super) fn forward(
    cpu: &mut Cpu,
    out: &mut CpuTensor,
    x: &CpuTensor,
    weight: &CpuTensor,
    bias: Option<&CpuTensor>,
    shape: LinearShape,
) {
    let LinearShape { rows, d_in, d_out } = shape;
    assert_lengths("linear_forward", shape, x.len(), weight, out.len());
    let Cpu { kernel, pool, blocks, right, .. } = cpu;
    blocks.clear();
    kernel.push(blocks, d_in);
    let right = match weight.as_packed() {
        Some(weight) => weight.right(d_in, d_out),
        None => {
            let words = right.words(kernel.packed_words(blocks, d_out));
            pack_right(*kernel, pool, words, Factor::along_k(weight.values(), d_in), blocks, d_out)
        }
    };
    let left = Factor::along_k(x.values(), d_in);
    let bias = bias.map(CpuTensor::f32s);
    Product { m: rows, n: d_out, blocks, left, right, bias, add: false }.run(*kernel, pool, out.sink());
}

pub(super) fn backward_input(
    cpu: &mut Cpu,
    dx: &mut CpuTensor,
    dout: &CpuTensor,
    weight: &CpuTensor,
    shape: LinearShape,
) {
    let LinearShape { rows, d_in, d_out } = shape;
    assert_lengths("linear_backward_input", shape, dx.len(), weight, dout.len());
    let Cpu { kernel, pool, blocks, right, .. } = cpu;
    blocks.clear();
    kernel.push(blocks, d_out);
    let words = right.words(kernel.packed_words(blocks, d_in));
    let right = pack_right(*kernel, pool, words, Factor::across_k(weight.values(), d_in), blocks, d_in);
    let left = Factor::along_k(dout.values(), d_out);
    Product { m: rows, n: d_in, blocks, left, right, bias: None, add: false }.run(*kernel, pool, dx.sink());
}

pub(super) fn backward_weight(
    cpu: &mut Cpu,
    dweight: &mut CpuTensor,
    dbias: Option<&mut CpuTensor>,
    dout: &CpuTensor,
    x: &CpuTensor,
    shape: LinearShape,
    groups: &[usize],
) {
    let LinearShape { rows, d_in, d_out } = shape;
    assert_lengths("linear_backward_weight", shape, x.len(), dweight, dout.len());
    assert_groups("linear_backward_weight", groups, rows);
    if let Some(dbias) = dbias {
        assert_eq!(dbias.len(), d_out, "length of dbias");
        sum_rows(cpu, dbias.f32s_mut(), dout.values(), groups);
    }
    let Cpu { kernel, pool, blocks, right, .. } = cpu;
    blocks.clear();
    groups.iter().for_each(|&rows| kernel.push(blocks, rows));
    let words = right.words(kernel.packed_words(blocks, d_in));
    let right = pack_right(*kernel, pool, words, Factor::across_k(x.values(), d_in), blocks, d_in);
    let left = Factor::across_k(dout.values(), d_out);
    Product { m: d_out, n: d_in, blocks, left, right, bias: None, add: true }.run(
        *kernel,
        pool,
        dweight.sink(),
    );
}

/// The shape against the lengths of input rows, weight and output rows.
fn assert_lengths(operation: &str, shape: LinearShape, x: usize, weight: &CpuTensor, out: usize) {
    let LinearShape { rows, d_in, d_out } = shape;
    assert!(d_in > 0 && d_out > 0, "{operation}: an empty layer");
    assert_eq!(x, size_of_shape(operation, &[rows, d_in]), "{operation}: values of the input rows");
    assert_eq!(weight.len(), size_of_shape(operation, &[d_out, d_in]), "{operation}: values of weight");
    assert_eq!(out, size_of_shape(operation, &[rows, d_out]), "{operation}: values of the output rows");
}

/// `sum += Σ rows` of `x`: within groups first, then group after group.
fn sum_rows(cpu: &mut Cpu, sum: &mut [f32], x: Values<'_>, groups: &[usize]) {
    let Cpu { options, pool, partials, runs, .. } = cpu;
    let (level, width) = (options.level, sum.len());
    let parts = width.div_ceil(BIAS_COLUMNS);
    cut_groups(runs, groups, usize::MAX);
    let group_sums = Disjoint::new(partials.floats(runs.len() * width));
    let columns = |part: usize| part * BIAS_COLUMNS..width.min((part + 1) * BIAS_COLUMNS);
    pool.run(runs.len() * parts, &|chunk, scratch| {
        let (group, columns) = (chunk / parts, columns(chunk % parts));
        // SAFETY: every chunk takes its own group and columns.
        let group_sum = unsafe { group_sums.slice(group * width + columns.start, columns.len()) };
        group_sum.fill(0.0);
        let scratch = scratch.buffers[0].floats(columns.len());
        for row in runs[group].clone() {
            add_row(level, group_sum, x, row * width + columns.start, scratch);
        }
    });
    // SAFETY: the only part.
    let group_sums = unsafe { group_sums.slice(0, runs.len() * width) };
    for group_sum in group_sums.chunks_exact(width) {
        sum.iter_mut().zip(group_sum).for_each(|(sum, x)| *sum += x);
    }
}

multiversion! {
    /// Adds the values of `x` from `start` on.
    fn add_row(sum: &mut [f32], x: Values<'_>, start: usize, scratch: &mut [f32]) {
        let x = x.read(start, sum.len(), scratch);
        for (sum, x) in sum.iter_mut().zip(x) {
            *sum += x;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{error, floats, with_exact};
    use super::super::{CpuOptions, Level, Precision};
    use super::*;
    use crate::{Backend, F64Tensor, Reference};

    fn every_cpu(threads: usize) -> impl Iterator<Item = (Cpu, f64)> {
        Level::available().into_iter().flat_map(move |level| {
            // What a result in bfloat16 may be off by.
            [(Precision::F32, 1e-5), (Precision::Bf16, 1.0 / 256.0)]
                .map(|(precision, tolerance)| (Cpu::new(CpuOptions { threads, precision, level }), tolerance))
        })
    }

    #[test]
    fn layers_agree_with_the_reference() {
        for (mut cpu, tolerance) in every_cpu(2) {
            for (rows, d_in, d_out) in [(1, 1, 1), (7, 16, 9), (65, 33, 130), (17, 500, 48)] {
                let shape = LinearShape { rows, d_in, d_out };
                let (x, exact_x) = with_exact(&cpu, 1, rows * d_in, true);
                let (dout, exact_dout) = with_exact(&cpu, 2, rows * d_out, true);
                let (weight, exact_weight) = with_exact(&cpu, 3, d_in * d_out, false);
                let (bias, exact_bias) = with_exact(&cpu, 4, d_out, false);
                let mut out = cpu.activation(rows * d_out);
                let mut exact = F64Tensor(vec![0.0; rows * d_out]);
                Reference.linear_forward(&mut exact, &exact_x, &exact_weight, Some(&exact_bias), shape);
                forward(&mut cpu, &mut out, &x, &weight, Some(&bias), shape);
                assert!(error(&out, &exact) <= tolerance, "forward {shape:?} {}", cpu.describe());

                let weight_packed = packed(&mut cpu, &weight, d_in, d_out);
                let mut again = cpu.activation(rows * d_out);
                forward(&mut cpu, &mut again, &x, &weight_packed, Some(&bias), shape);
                assert_eq!(floats(&again), floats(&out));

                let mut dx = cpu.activation(rows * d_in);
                let mut exact = F64Tensor(vec![0.0; rows * d_in]);
                Reference.linear_backward_input(&mut exact, &exact_dout, &exact_weight, shape);
                backward_input(&mut cpu, &mut dx, &dout, &weight, shape);
                assert!(error(&dx, &exact) <= tolerance, "backward_input {shape:?} {}", cpu.describe());

                let (mut dweight, mut exact_dweight) = with_exact(&cpu, 5, d_in * d_out, false);
                let (mut dbias, mut exact_dbias) = with_exact(&cpu, 6, d_out, false);
                let (exact_dw, exact_db) = (&mut exact_dweight, Some(&mut exact_dbias));
                let groups = [rows.min(6), rows - rows.min(6)];
                Reference.linear_backward_weight(exact_dw, exact_db, &exact_dout, &exact_x, shape, &groups);
                backward_weight(&mut cpu, &mut dweight, Some(&mut dbias), &dout, &x, shape, &groups);
                assert!(error(&dweight, &exact_dweight) <= 1e-5, "dweight {shape:?} {}", cpu.describe());
                assert!(error(&dbias, &exact_dbias) <= 1e-5, "dbias {shape:?} {}", cpu.describe());
            }
        }
    }

    /// Two micro-batches give the same gradients as one, and any number of threads the same as one.
    #[test]
    fn gradients_do_not_depend_on_cuts_between_groups_nor_on_threads() {
        const GROUPS: [usize; 4] = [410, 380, 3, 437];
        let (rows, d_in, d_out) = (1230, 24, 70);
        let shape = LinearShape { rows, d_in, d_out };
        let mut expected = None;
        for threads in 1..=3 {
            // How many of the groups come in the first call.
            for first in [0, 1, 3] {
                let results = every_cpu(threads).map(|(mut cpu, _)| {
                    let (x, _) = with_exact(&cpu, 1, rows * d_in, false);
                    let (dout, _) = with_exact(&cpu, 2, rows * d_out, false);
                    let (mut dweight, mut dbias) = (cpu.zeros(d_in * d_out), cpu.zeros(d_out));
                    let (mut start, (first, second)) = (0, GROUPS.split_at(first));
                    for groups in [first, second] {
                        let part = start..start + groups.iter().sum::<usize>();
                        start = part.end;
                        let slice = |t: &CpuTensor, width: usize| {
                            let mut part_of = CpuTensor::zeros_f32(part.len() * width);
                            part_of
                                .f32s_mut()
                                .copy_from_slice(&t.f32s()[part.start * width..part.end * width]);
                            part_of
                        };
                        let (x, dout) = (slice(&x, d_in), slice(&dout, d_out));
                        let shape = LinearShape { rows: part.len(), ..shape };
                        let dbias = Some(&mut dbias);
                        backward_weight(&mut cpu, &mut dweight, dbias, &dout, &x, shape, groups);
                    }
                    [floats(&dweight), floats(&dbias)]
                });
                let results: Vec<_> = results.collect();
                assert!(
                    *expected.get_or_insert_with(|| results.clone()) == results,
                    "{threads} threads, {first}"
                );
            }
        }
    }
}
