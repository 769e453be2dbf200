//! How fast this machine multiplies: its peak in registers, and the products of training beside it.
//!
//! A utilisation is the ratio of two figures of one run: machines drift, ratios hardly.

use super::{Cpu, CpuTensor, Precision, linear};
use crate::LinearShape;
use crate::shapes::size_of_shape;
use std::hint::black_box;
use std::sync::Barrier;
use std::time::{Duration, Instant};

/// A product of a linear layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinearProduct {
    /// `out = x · weightᵀ`.
    Forward,
    /// `dx = dout · weight`.
    BackwardInput,
    /// `dweight += doutᵀ · x`.
    BackwardWeight,
}

/// Rows of a group in [`LinearProduct::BackwardWeight`].
const GROUP_ROWS: usize = 256;
/// Steps of [`peak`] between two looks at the clock: about a millisecond.
const PEAK_STEPS: usize = 1 << 18;

/// Operations a second (a multiplication and an addition are two) of which the processor is capable in
/// `cpu`'s precision with all its threads: multiply-adds on registers alone, the best of repetitions during
/// `duration`.
///
/// The best, not the median: a neighbour on the machine takes time away and never gives any, and a peak that
/// is too low makes utilisations of more than 1.
pub fn peak(cpu: &mut Cpu, duration: Duration) -> f64 {
    let (kernel, threads) = (cpu.kernel, cpu.options.threads);
    let flops = threads * PEAK_STEPS * kernel.peak_flops();
    let secs = best(&times(duration, || {
        // A thread that waits here cannot take a second chunk, so that every thread takes one.
        let all_present = Barrier::new(threads);
        cpu.pool.run(threads, &|_, _| {
            all_present.wait();
            black_box(kernel.peak(black_box(PEAK_STEPS)));
        });
    }));
    flops as f64 / secs
}

/// Operations a second of a product of a linear layer, the median of repetitions during `duration`. Rows are
/// activations and the weight is `f32`, as in training.
pub fn linear(cpu: &mut Cpu, product: LinearProduct, shape: LinearShape, duration: Duration) -> f64 {
    let LinearShape { rows, d_in, d_out } = shape;
    let [x_len, out_len, weight_len] =
        [[rows, d_in], [rows, d_out], [d_in, d_out]].map(|shape| size_of_shape("bench::linear", &shape));
    let (mut x, mut out) = (activation(cpu, x_len), activation(cpu, out_len));
    let mut weight = CpuTensor::zeros_f32(weight_len);
    weight.f32s_mut().iter_mut().enumerate().for_each(|(i, weight)| *weight = value(i));
    let groups: Vec<usize> =
        (0..rows).step_by(GROUP_ROWS).map(|start| GROUP_ROWS.min(rows - start)).collect();
    let mut run = || match product {
        LinearProduct::Forward => linear::forward(cpu, &mut out, &x, &weight, None, shape),
        LinearProduct::BackwardInput => linear::backward_input(cpu, &mut x, &out, &weight, shape),
        LinearProduct::BackwardWeight => {
            linear::backward_weight(cpu, &mut weight, None, &out, &x, shape, &groups);
        }
    };
    // The first run allocates.
    run();
    2.0 * rows as f64 * weight_len as f64 / median(times(duration, run))
}

/// Rows as they are between operations, filled with some numbers.
fn activation(cpu: &Cpu, len: usize) -> CpuTensor {
    let mut x = match cpu.options.precision {
        Precision::F32 => CpuTensor::zeros_f32(len),
        Precision::Bf16 => CpuTensor::zeros_bf16(len),
    };
    let values: Vec<f32> = (0..len).map(value).collect();
    x.values_mut().put(0, &values);
    x
}

/// Some number that is not 0: a multiplier at rest is quicker than one at work.
fn value(i: usize) -> f32 {
    (i % 61) as f32 / 61.0 - 0.49
}

/// How long `work` takes, in seconds: at least three repetitions, as many as begin within `duration`.
fn times(duration: Duration, mut work: impl FnMut()) -> Vec<f64> {
    let start = Instant::now();
    let mut times = Vec::new();
    while times.len() < 3 || start.elapsed() < duration {
        let begun = Instant::now();
        work();
        times.push(begun.elapsed().as_secs_f64());
    }
    times
}

fn best(times: &[f64]) -> f64 {
    times.iter().copied().fold(f64::INFINITY, f64::min)
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

#[cfg(test)]
mod tests {
    use super::super::{CpuOptions, Level};
    use super::*;

    /// A check of units only, so wide that a busy machine cannot fail it.
    #[test]
    fn products_and_peak_are_of_one_order() {
        for precision in [Precision::F32, Precision::Bf16] {
            let mut cpu = Cpu::new(CpuOptions { threads: 1, precision, level: Level::detect() });
            let peak = peak(&mut cpu, Duration::from_millis(20));
            for product in
                [LinearProduct::Forward, LinearProduct::BackwardInput, LinearProduct::BackwardWeight]
            {
                let shape = LinearShape { rows: 256, d_in: 256, d_out: 192 };
                let share = linear(&mut cpu, product, shape, Duration::from_millis(20)) / peak;
                assert!((0.01..100.0).contains(&share), "{product:?} {precision:?}: {share} of the peak");
            }
        }
    }
}
