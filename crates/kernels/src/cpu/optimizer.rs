//! The optimizer's passes over all leaves of a model: each one job, however many there are.

use super::level::{LANES, multiversion};
use super::pool::Disjoint;
use super::{Cpu, CpuTensor};
use crate::shapes::Step;
use crate::{AdamW, Parameter};
use std::ops::Range;

/// Values of a chunk: fewer for those who look at every access, such as Miri.
const CHUNK: usize = if cfg!(slow) { 1 << 8 } else { 1 << 14 };
/// Parts of a tensor whose squares are summed apart, whatever the number of threads.
const PARTS: usize = 64;

/// Calls `work` with the number of a tensor and a range of its values, until all of the tensors, which have
/// these lengths, are done.
fn for_each_range(
    cpu: &mut Cpu,
    lens: impl Iterator<Item = usize>,
    work: impl Fn(usize, Range<usize>) + Sync,
) {
    let Cpu { pool, chunks, .. } = cpu;
    chunks.count(lens.map(|len| (len.div_ceil(CHUNK), len)));
    pool.run(chunks.total(), &|chunk, _| {
        let (tensor, chunk, len) = chunks.find(chunk);
        work(tensor, chunk * CHUNK..len.min((chunk + 1) * CHUNK));
    });
}

/// The chunks of several tensors, counted through.
#[derive(Default)]
pub(super) struct Chunks {
    /// After each tensor's last chunk, the number of chunks so far, and the tensor's length.
    ends: Vec<(usize, usize)>,
}

impl Chunks {
    /// Begins again with tensors of so many chunks and so many values.
    fn count(&mut self, tensors: impl Iterator<Item = (usize, usize)>) {
        self.ends.clear();
        self.ends.extend(tensors.scan(0, |end, (chunks, len)| {
            *end += chunks;
            Some((*end, len))
        }));
    }

    fn total(&self) -> usize {
        self.ends.last().map_or(0, |&(end, _)| end)
    }

    /// Number of the tensor, of the chunk in it, and the tensor's length.
    fn find(&self, chunk: usize) -> (usize, usize, usize) {
        let tensor = self.ends.partition_point(|&(end, _)| end <= chunk);
        let first = if tensor == 0 { 0 } else { self.ends[tensor - 1].0 };
        (tensor, chunk - first, self.ends[tensor].1)
    }
}

pub(super) fn clear(cpu: &mut Cpu, tensors: &mut [&mut CpuTensor]) {
    let tensors = &*tensors;
    for_each_range(cpu, tensors.iter().map(|x| x.len()), |i, range| {
        // SAFETY: the tensors are borrowed for this call alone, and no two ranges of one overlap.
        unsafe { tensors[i].shared_f32s().slice(range.start, range.len()) }.fill(0.0);
    });
}

pub(super) fn adamw(
    cpu: &mut Cpu,
    parameters: &mut [Parameter<'_, CpuTensor>],
    settings: &AdamW,
    updates: &mut [f64],
    norms: &mut Vec<f64>,
    finite: &[&Vec<f64>],
) {
    for Parameter { weight, m, v, grad, .. } in &*parameters {
        let same = [&**m, v, grad].iter().all(|x| x.len() == weight.len());
        assert!(same, "adamw: {weight:?} with {m:?}, {v:?} and {grad:?}");
    }
    let Some(step) = settings.begin(updates, norms, finite) else { return };
    let (parameters, level) = (&*parameters, cpu.options.level);
    for_each_range(cpu, parameters.iter().map(|p| p.weight.len()), |i, range| {
        let Parameter { weight, m, v, grad, weight_decay } = &parameters[i];
        // SAFETY: the parameters are borrowed for this call alone, and no two ranges of one overlap.
        let [weight, m, v] =
            unsafe { [weight, m, v].map(|x| x.shared_f32s().slice(range.start, range.len())) };
        adamw_block(level, weight, m, v, &grad.f32s()[range], settings, step, *weight_decay);
    });
}

pub(super) fn norm(cpu: &mut Cpu, out: &mut Vec<f64>, tensors: &[&CpuTensor]) {
    let part_len = |len: usize| len.div_ceil(PARTS).next_multiple_of(LANES);
    // Threads take runs of parts: small tensors are not worth a second one.
    let parts_per_chunk = |len: usize| (CHUNK / part_len(len).max(1)).clamp(1, PARTS);
    let Cpu { options, pool, chunks, sums, .. } = cpu;
    let lens = tensors.iter().map(|x| x.len());
    chunks.count(lens.map(|len| (PARTS.div_ceil(parts_per_chunk(len)), len)));
    sums.clear();
    sums.resize(tensors.len() * PARTS, 0.0);
    let parts = Disjoint::new(sums);
    pool.run(chunks.total(), &|chunk, _| {
        let (tensor, chunk, len) = chunks.find(chunk);
        let (x, per_chunk) = (tensors[tensor].f32s(), parts_per_chunk(len));
        for part in chunk * per_chunk..PARTS.min((chunk + 1) * per_chunk) {
            let start = len.min(part * part_len(len));
            let sum = part_sum_of_squares(options.level, &x[start..len.min(start + part_len(len))]);
            // SAFETY: each part has a sum of its own.
            unsafe { parts.slice(tensor * PARTS + part, 1)[0] = sum };
        }
    });
    let squares: f64 = sums.chunks(PARTS).map(|sums| sums.iter().sum::<f64>()).sum();
    out.push(squares.sqrt());
}

multiversion! {
    fn adamw_block(
        weight: &mut [f32],
        m: &mut [f32],
        v: &mut [f32],
        grad: &[f32],
        settings: &AdamW,
        step: Step,
        weight_decay: f32,
    ) {
        let AdamW { lr, beta1, beta2, .. } = *settings;
        let Step { t, eps, grad_scale } = step;
        let correction = |beta: f32| (1.0 / (1.0 - f64::from(beta).powf(t))) as f32;
        let (m_correction, v_correction) = (correction(beta1), correction(beta2));
        for (((w, m), v), g) in weight.iter_mut().zip(m).zip(v).zip(grad) {
            let g = g * grad_scale;
            *m = beta1 * *m + (1.0 - beta1) * g;
            *v = beta2 * *v + (1.0 - beta2) * (g * g);
            let (m_hat, v_hat) = (*m * m_correction, *v * v_correction);
            *w -= lr * (m_hat / (v_hat.sqrt() + eps) + weight_decay * *w);
        }
    }

    fn part_sum_of_squares(x: &[f32]) -> f64 {
        let mut lanes = [0.0; LANES];
        let (blocks, rest) = x.as_chunks::<LANES>();
        for block in blocks {
            for (lane, &x) in lanes.iter_mut().zip(block) {
                *lane += f64::from(x) * f64::from(x);
            }
        }
        for (lane, &x) in lanes.iter_mut().zip(rest) {
            *lane += f64::from(x) * f64::from(x);
        }
        lanes.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::testing::{for_every_cpu, tensor};

    /// More than a chunk, and no multiple of anything.
    const LEN: usize = CHUNK + CHUNK / 16 + 7;

    #[test]
    fn bits_of_an_update_depend_on_neither_threads_nor_level() {
        for_every_cpu(|cpu| {
            let b = tensor(cpu, 2, LEN);
            let [mut w, mut m, mut v] = [4, 5, 6].map(|seed| tensor(cpu, seed, LEN));
            v.f32s_mut().iter_mut().for_each(|v| *v = v.abs());
            let mut small = [1, 8, 9].map(|seed| tensor(cpu, seed, 3));
            let [small_w, small_m, small_v] = &mut small;
            small_v.f32s_mut().iter_mut().for_each(|v| *v = v.abs());
            let settings =
                AdamW { lr: 0.1, beta1: 0.9, beta2: 0.99, eps: 1e-8, eps_hat: false, grad_clip: 1.0 };
            let of_small = Parameter {
                weight: small_w,
                m: small_m,
                v: small_v,
                grad: &tensor(cpu, 2, 3),
                weight_decay: 0.0,
            };
            let large = Parameter { weight: &mut w, m: &mut m, v: &mut v, grad: &b, weight_decay: 0.1 };
            adamw(cpu, &mut [of_small, large], &settings, &mut [2.0], &mut vec![2.0], &[]);
            let [small_w, small_m, small_v] = small;
            vec![w, m, v, small_w, small_m, small_v]
        });
    }

    #[test]
    fn bits_of_norms_depend_on_neither_threads_nor_level() {
        for_every_cpu(|cpu| {
            // Alone, one after another, and together.
            let lens = [0, 1, 15, 17, 1000, LEN];
            let tensors = lens.map(|len| tensor(cpu, 7, len));
            let square = |x: &CpuTensor| x.f32s().iter().map(|&x| f64::from(x).powi(2)).sum::<f64>();
            let mut norms = Vec::new();
            for x in &tensors {
                norm(cpu, &mut norms, &[x]);
                let (got, exact) = (norms[norms.len() - 1], square(x).sqrt());
                assert!((got - exact).abs() <= 1e-12 * exact, "{got}, not {exact}");
            }
            let all = tensors.each_ref();
            norm(cpu, &mut norms, &all);
            let (got, exact) = (norms[lens.len()], all.map(square).iter().sum::<f64>().sqrt());
            assert!((got - exact).abs() <= 1e-12 * exact, "{got}, not {exact}");
            let bits = norms.iter().map(|norm| norm.to_bits());
            let bits: Vec<f32> =
                bits.flat_map(|bits| [(bits >> 32) as u32, bits as u32].map(f32::from_bits)).collect();
            let mut norms = cpu.zeros(bits.len());
            norms.f32s_mut().copy_from_slice(&bits);
            vec![norms]
        });
    }

    #[test]
    fn not_a_number_shows() {
        for_every_cpu(|cpu| {
            for (value, at) in [(f32::NAN, 0), (f32::INFINITY, LEN / 2), (f32::NEG_INFINITY, LEN - 1)] {
                let (mut x, mut norms) = (tensor(cpu, 1, LEN), Vec::new());
                x.f32s_mut()[at] = value;
                norm(cpu, &mut norms, &[&tensor(cpu, 2, 5), &x]);
                assert!(!norms[0].is_finite());
            }
            vec![]
        });
    }
}
