//! What unit tests of the operations share.

use super::{Cpu, CpuOptions, CpuTensor, Level, Precision};
use crate::rng;

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

/// Runs `work` at every level and on 1, 2 and 3 threads, and holds its outputs to the same bits in each precision.
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
    let mut widened = vec![0.0; x.len()];
    x.values().read(0, x.len(), &mut widened).iter().map(|x| x.to_bits()).collect()
}
