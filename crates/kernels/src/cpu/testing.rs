//! What unit tests of the operations share.

use super::bf16::round_bf16;
use super::{Cpu, CpuOptions, CpuTensor, Level, Precision};
use crate::{F64Tensor, rng};

impl Cpu {
    pub(super) fn zeros(&self, len: usize) -> CpuTensor {
        CpuTensor::zeros_f32(len)
    }

    pub(super) fn activation(&self, len: usize) -> CpuTensor {
        match self.options.precision {
            Precision::F32 => CpuTensor::zeros_f32(len),
            Precision::Bf16 => CpuTensor::zeros_bf16(len),
        }
    }
}

/// Random values in `-2 .. 2`, kept exactly.
pub(super) fn tensor(cpu: &Cpu, seed: u64, len: usize) -> CpuTensor {
    let mut x = cpu.zeros(len);
    x.f32s_mut().iter_mut().enumerate().for_each(|(i, x)| *x = 4.0 * rng::uniform(seed, 0, i as u64) - 2.0);
    x
}

/// Runs `work` at every level and on 1, 2 and 3 threads, and holds its outputs to the same bits in each
/// precision.
pub(super) fn for_every_cpu(work: impl Fn(&mut Cpu) -> Vec<CpuTensor>) {
    for precision in [Precision::F32, Precision::Bf16] {
        let mut expected: Option<Vec<Vec<u32>>> = None;
        for level in Level::available() {
            for threads in 1..=3 {
                let mut cpu = Cpu::new(CpuOptions { threads, precision, level });
                let outputs = work(&mut cpu);
                let bits = outputs.iter().map(bits).collect();
                let expected = expected.get_or_insert_with(|| Vec::clone(&bits));
                assert!(bits == *expected, "{}", cpu.describe());
            }
        }
    }
}

fn bits(x: &CpuTensor) -> Vec<u32> {
    floats(x).into_iter().map(f32::to_bits).collect()
}

/// Random values in `-0.5 .. 0.5` that bfloat16 holds exactly, as an activation or kept in `f32`, and in
/// `f64`.
pub(super) fn with_exact(cpu: &Cpu, seed: u64, len: usize, activation: bool) -> (CpuTensor, F64Tensor) {
    let value = |i| round_bf16(rng::uniform(seed, 0, i as u64) - 0.5);
    let mut x = if activation { cpu.activation(len) } else { cpu.zeros(len) };
    put(&mut x, &(0..len).map(value).collect::<Vec<_>>());
    (x, F64Tensor((0..len).map(|i| f64::from(value(i))).collect()))
}

/// The values as `f32`.
pub(super) fn floats(x: &CpuTensor) -> Vec<f32> {
    let mut widened = vec![0.0; x.len()];
    x.values().read(0, x.len(), &mut widened).to_vec()
}

/// The largest difference from `exact`, in units of its largest value.
pub(super) fn error(x: &CpuTensor, exact: &F64Tensor) -> f64 {
    assert_eq!(x.len(), exact.0.len());
    let largest = exact.0.iter().fold(0.0f64, |max, x| max.max(x.abs()));
    let difference = |(x, exact): (f32, &f64)| (f64::from(x) - exact).abs();
    floats(x).into_iter().zip(&exact.0).map(difference).fold(0.0, f64::max) / largest
}

/// The values of a tensor.
pub(super) fn values_of(x: &CpuTensor) -> Vec<f32> {
    let mut widened = vec![0.0; x.len()];
    x.values().read(0, x.len(), &mut widened).to_vec()
}

/// A random activation, values in `-2 .. 2`.
pub(super) fn random(cpu: &Cpu, seed: u64, len: usize) -> CpuTensor {
    let mut x = cpu.activation(len);
    put(&mut x, tensor(cpu, seed, len).f32s());
    x
}

/// Overwrites all values.
pub(super) fn put(x: &mut CpuTensor, values: &[f32]) {
    assert_eq!(x.len(), values.len());
    x.values_mut().put(0, values);
}
