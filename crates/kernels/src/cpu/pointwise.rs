//! Operations that treat every value alone.
//!
//! They are as fast as memory is: a thread takes a chunk of the values, block by block, so that what is
//! widened from bfloat16 on the way stays in the nearest cache.

use super::Cpu;
use super::level::{Level, multiversion};
use super::math::sigmoid;
use super::tensor::{CpuTensor, Sink, Values, ValuesMut};
use crate::{Dropout, rng};
use std::ops::Range;

/// Values of a chunk.
const CHUNK: usize = 1 << 14;
/// Values of a block.
const BLOCK: usize = 1 << 10;

/// A block of the values that are written, where among all values it begins, and scratch of [`BLOCK`] values
/// for each of up to three operands.
struct Block<'a> {
    out: ValuesMut<'a>,
    start: usize,
    len: usize,
    scratch: [&'a mut [f32]; 3],
}

/// Calls `work` once for every block of `out`.
fn for_each_block(cpu: &mut Cpu, out: Sink<'_>, work: impl Fn(Level, Block<'_>) + Sync) {
    let (level, len) = (cpu.options.level, out.len());
    for_each_range(cpu, len, |range, [a, b, c]| {
        // SAFETY: every range is handed out once, and no two overlap.
        let out = unsafe { out.part(range.start, range.len()) };
        work(level, Block { out, start: range.start, len: range.len(), scratch: [a, b, c] });
    });
}

/// Calls `work` with ranges of at most [`BLOCK`] that make up `0..len`, and three times as much scratch.
fn for_each_range(cpu: &mut Cpu, len: usize, work: impl Fn(Range<usize>, [&mut [f32]; 3]) + Sync) {
    cpu.pool.run(len.div_ceil(CHUNK), &|chunk, scratch| {
        let [a, b, c, ..] = &mut scratch.buffers;
        let (a, b, c) = (a.floats(BLOCK), b.floats(BLOCK), c.floats(BLOCK));
        let end = len.min((chunk + 1) * CHUNK);
        for start in (chunk * CHUNK..end).step_by(BLOCK) {
            work(start..end.min(start + BLOCK), [a, b, c]);
        }
    });
}

pub(super) fn fill(cpu: &mut Cpu, out: &mut CpuTensor, value: f32) {
    for_each_block(cpu, out.sink(), |level, block| fill_block(level, value, block));
}

/// `out = x`, from one storage to another.
pub(super) fn copy(cpu: &mut Cpu, out: Sink<'_>, x: Values<'_>) {
    assert_eq!(x.len(), out.len(), "values to copy");
    for_each_block(cpu, out, |level, block| copy_block(level, x, block));
}

pub(super) fn add(cpu: &mut Cpu, out: &mut CpuTensor, a: &CpuTensor, b: &CpuTensor) {
    assert_same_len(out.len(), [a, b]);
    let (a, b) = (a.values(), b.values());
    for_each_block(cpu, out.sink(), |level, block| add_block(level, a, b, block));
}

pub(super) fn accumulate(cpu: &mut Cpu, sum: &mut CpuTensor, x: &CpuTensor) {
    assert_same_len(sum.len(), [x]);
    let x = x.values();
    for_each_block(cpu, sum.sink(), |level, block| accumulate_block(level, x, block));
}

pub(super) fn scale(cpu: &mut Cpu, x: &mut CpuTensor, factor: f32) {
    for_each_block(cpu, x.sink(), |level, block| scale_block(level, factor, block));
}

pub(super) fn scale_columns(cpu: &mut Cpu, x: &mut CpuTensor, factors: &CpuTensor, bias: Option<&CpuTensor>) {
    let width = factors.len();
    assert!(width > 0 && x.len().is_multiple_of(width), "{} values are not rows of {width}", x.len());
    if let Some(bias) = bias {
        assert_same_len(width, [bias]);
    }
    let (factors, bias) = (factors.values(), bias.map(CpuTensor::values));
    for_each_block(cpu, x.sink(), |level, block| scale_columns_block(level, factors, bias, block));
}

pub(super) fn average(cpu: &mut Cpu, mean: &mut CpuTensor, x: &CpuTensor, decay: f32) {
    assert_same_len(mean.len(), [x]);
    let x = x.values();
    for_each_block(cpu, mean.sink(), |level, block| average_block(level, x, decay, block));
}

pub(super) fn gelu_forward(cpu: &mut Cpu, out: &mut CpuTensor, x: &CpuTensor) {
    assert_same_len(out.len(), [x]);
    let x = x.values();
    for_each_block(cpu, out.sink(), |level, block| gelu_forward_block(level, x, block));
}

pub(super) fn gelu_backward(cpu: &mut Cpu, dx: &mut CpuTensor, dout: &CpuTensor, x: &CpuTensor) {
    assert_same_len(dx.len(), [dout, x]);
    let (dout, x) = (dout.values(), x.values());
    for_each_block(cpu, dx.sink(), |level, block| gelu_backward_block(level, dout, x, block));
}

pub(super) fn dropout(cpu: &mut Cpu, x: &mut CpuTensor, width: usize, dropout: &Dropout) {
    assert!(width > 0 && x.len().is_multiple_of(width), "{} values are not rows of {width}", x.len());
    if dropout.p > 0.0 {
        let mask = Mask::new(dropout, width as u64);
        for_each_block(cpu, x.sink(), |level, block| dropout_block(level, mask, block));
    }
}

/// [`Dropout`] as it is decided for flat indices into rows of some width.
#[derive(Clone, Copy)]
pub(super) struct Mask {
    seed: u64,
    stream: u64,
    /// Index of the batch's first value in the whole step's batch.
    first: u64,
    /// Values are dropped whose 24 random bits are less: the same as comparing `uniform` with `p`, which is
    /// exact.
    threshold: u64,
    factor: f32,
}

impl Mask {
    /// For rows of `width` values.
    pub(super) fn new(dropout: &Dropout, width: u64) -> Self {
        Self {
            seed: dropout.seed,
            stream: dropout.stream,
            first: dropout.first_row.wrapping_mul(width),
            threshold: (f64::from(dropout.p) * f64::from(1 << 24)).ceil() as u64,
            factor: (1.0 / (1.0 - f64::from(dropout.p))) as f32,
        }
    }

    /// What the value at `index` is multiplied by: 0 or `1 / (1 - p)`.
    #[inline(always)]
    pub(super) fn factor(&self, index: u64) -> f32 {
        let bits = rng::bits(self.seed, self.stream, self.first.wrapping_add(index)) >> 40;
        if bits < self.threshold { 0.0 } else { self.factor }
    }
}

/// Of the GELU: √(2/π), and the factor of the cube.
const GELU_SCALE: f32 = 0.797_884_6;
const GELU_CUBIC: f32 = 0.044_715;

/// `0.5 x (1 + tanh u) = x · sigmoid(2u)`, which cancels nothing.
#[inline(always)]
fn gelu(x: f32) -> f32 {
    x * sigmoid(2.0 * GELU_SCALE * (x + GELU_CUBIC * x * x * x))
}

/// The derivative of [`gelu`]: `s + x · s (1 - s) · 2u'`.
#[inline(always)]
fn gelu_derivative(x: f32) -> f32 {
    let s = sigmoid(2.0 * GELU_SCALE * (x + GELU_CUBIC * x * x * x));
    s + x * s * (1.0 - s) * (2.0 * GELU_SCALE * (1.0 + 3.0 * GELU_CUBIC * x * x))
}

multiversion! {
    fn fill_block(value: f32, block: Block<'_>) {
        let Block { mut out, len, scratch: [scratch, ..], .. } = block;
        let out = out.overwrite(0, len, scratch);
        out.values.fill(value);
        out.store();
    }

    fn copy_block(x: Values<'_>, block: Block<'_>) {
        let Block { mut out, start, len, scratch: [scratch, ..] } = block;
        out.put(0, x.read(start, len, scratch));
    }

    fn add_block(a: Values<'_>, b: Values<'_>, block: Block<'_>) {
        let Block { mut out, start, len, scratch: [scratch, scratch_a, scratch_b] } = block;
        let (a, b) = (a.read(start, len, scratch_a), b.read(start, len, scratch_b));
        let out = out.overwrite(0, len, scratch);
        for ((out, a), b) in out.values.iter_mut().zip(a).zip(b) {
            *out = a + b;
        }
        out.store();
    }

    fn accumulate_block(x: Values<'_>, block: Block<'_>) {
        let Block { out: mut sum, start, len, scratch: [scratch, scratch_x, _] } = block;
        let x = x.read(start, len, scratch_x);
        let sum = sum.update(0, len, scratch);
        add_to(sum.values, x);
        sum.store();
    }

    fn scale_block(factor: f32, block: Block<'_>) {
        let Block { mut out, len, scratch: [scratch, ..], .. } = block;
        let x = out.update(0, len, scratch);
        x.values.iter_mut().for_each(|x| *x *= factor);
        x.store();
    }

    fn scale_columns_block(factors: Values<'_>, bias: Option<Values<'_>>, block: Block<'_>) {
        let Block { mut out, start, len, scratch: [scratch, scratch_factors, scratch_bias] } = block;
        let (x, width) = (out.update(0, len, scratch), factors.len());
        let mut done = 0;
        // Row by row, as far as they are in the block.
        while done < len {
            let column = (start + done) % width;
            let end = len.min(done + width - column);
            let factors = factors.read(column, end - done, scratch_factors);
            let row = &mut x.values[done..end];
            row.iter_mut().zip(factors).for_each(|(x, factor)| *x *= factor);
            if let Some(bias) = bias {
                add_to(row, bias.read(column, end - done, scratch_bias));
            }
            done = end;
        }
        x.store();
    }

    fn average_block(x: Values<'_>, decay: f32, block: Block<'_>) {
        let Block { out: mut mean, start, len, scratch: [scratch, scratch_x, _] } = block;
        let x = x.read(start, len, scratch_x);
        let mean = mean.update(0, len, scratch);
        for (mean, &x) in mean.values.iter_mut().zip(x) {
            *mean = decay * *mean + (1.0 - decay) * x;
        }
        mean.store();
    }

    fn gelu_forward_block(x: Values<'_>, block: Block<'_>) {
        let Block { mut out, start, len, scratch: [scratch, scratch_x, _] } = block;
        let x = x.read(start, len, scratch_x);
        let out = out.overwrite(0, len, scratch);
        for (out, &x) in out.values.iter_mut().zip(x) {
            *out = gelu(x);
        }
        out.store();
    }

    fn gelu_backward_block(dout: Values<'_>, x: Values<'_>, block: Block<'_>) {
        let Block { out: mut dx, start, len, scratch: [scratch, scratch_dout, scratch_x] } = block;
        let (dout, x) = (dout.read(start, len, scratch_dout), x.read(start, len, scratch_x));
        let dx = dx.overwrite(0, len, scratch);
        for ((dx, &dout), &x) in dx.values.iter_mut().zip(dout).zip(x) {
            *dx = dout * gelu_derivative(x);
        }
        dx.store();
    }

    fn dropout_block(mask: Mask, block: Block<'_>) {
        let Block { out: mut x, start, len, scratch: [scratch, ..] } = block;
        let x = x.update(0, len, scratch);
        for (i, x) in x.values.iter_mut().enumerate() {
            *x *= mask.factor((start + i) as u64);
        }
        x.store();
    }

}

/// `sum += x`.
#[inline(always)]
pub(super) fn add_to(sum: &mut [f32], x: &[f32]) {
    for (sum, x) in sum.iter_mut().zip(x) {
        *sum += x;
    }
}

fn assert_same_len<const N: usize>(len: usize, operands: [&CpuTensor; N]) {
    for operand in operands {
        assert_eq!(operand.len(), len, "values of an operand, and of the output");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::testing::{for_every_cpu, tensor};

    /// More than a chunk, and no multiple of anything.
    const LEN: usize = CHUNK + BLOCK + 7;

    #[test]
    fn bits_depend_on_neither_threads_nor_level() {
        for_every_cpu(|cpu| {
            let [a, b] = [1, 2].map(|seed| tensor(cpu, seed, LEN));
            let [mut sum, mut activated, mut dx] = [(); 3].map(|()| cpu.activation(LEN));
            add(cpu, &mut sum, &a, &b);
            accumulate(cpu, &mut sum, &b);
            average(cpu, &mut sum, &a, 0.9);
            gelu_forward(cpu, &mut activated, &sum);
            gelu_backward(cpu, &mut dx, &b, &sum);
            vec![sum, activated, dx]
        });
    }

    #[test]
    fn dropout_decides_as_documented() {
        let width = 1031;
        for p in [0.0, 0.1, 1.0 / 3.0, 0.5, 0.9] {
            for_every_cpu(|cpu| {
                let dropout = Dropout { p, seed: 1, stream: 2, first_row: 1 << 40 };
                let mut x = cpu.zeros(20 * width);
                fill(cpu, &mut x, 1.0);
                super::dropout(cpu, &mut x, width, &dropout);
                for (i, &x) in x.f32s().iter().enumerate() {
                    let index = dropout.first_row * width as u64 + i as u64;
                    let dropped = rng::uniform(dropout.seed, dropout.stream, index) < p;
                    assert_eq!(x, if dropped { 0.0 } else { (1.0 / (1.0 - f64::from(p))) as f32 });
                }
                vec![x]
            });
        }
    }

    #[test]
    fn not_a_number_shows() {
        for_every_cpu(|cpu| {
            for (value, at) in [(f32::NAN, 0), (f32::INFINITY, LEN / 2), (f32::NEG_INFINITY, LEN - 1)] {
                let mut x = tensor(cpu, 1, LEN);
                x.f32s_mut()[at] = value;
                let mut out = cpu.activation(LEN);
                gelu_forward(cpu, &mut out, &x);
                let expected = if value == f32::INFINITY { value } else { f32::NAN };
                let mut host = vec![0.0; LEN];
                host.copy_from_slice(out.values().read(0, LEN, &mut vec![0.0; LEN]));
                assert!(host[at] == expected || host[at].is_nan() && value != f32::INFINITY);
            }
            vec![]
        });
    }
}
