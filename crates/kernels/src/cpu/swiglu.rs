//! SwiGLU (Shazeer 2020).
//!
//! A row is taken in blocks of columns, so that what is widened from bfloat16 on the way stays in the nearest
//! cache.

use super::Cpu;
use super::level::multiversion;
use super::math::sigmoid;
use super::tensor::{CpuTensor, Values, ValuesMut};
use crate::shapes::size_of_shape;

/// Values of `out` that are worth a chunk of their own.
const CHUNK: usize = 1 << 14;
/// Columns of a block.
const BLOCK: usize = 1 << 10;

/// A block's place: its row and the columns; and scratch of [`BLOCK`] values for each operand.
struct Block<'a> {
    row: usize,
    d_ff: usize,
    start: usize,
    len: usize,
    scratch: [&'a mut [f32]; 5],
}

impl Block<'_> {
    /// Where in `out` it begins.
    #[inline(always)]
    fn out(&self) -> usize {
        self.row * self.d_ff + self.start
    }

    /// Where in `x` its gate values begin; the up values come `d_ff` later.
    #[inline(always)]
    fn gate(&self) -> usize {
        2 * self.row * self.d_ff + self.start
    }
}

/// Calls `work` once for every block of rows of `d_ff` values.
fn for_each_block(cpu: &mut Cpu, rows: usize, d_ff: usize, work: impl Fn(Block<'_>) + Sync) {
    let chunk_rows = (CHUNK / d_ff).max(1);
    cpu.pool.run(rows.div_ceil(chunk_rows), &|chunk, scratch| {
        let [a, b, c, d, e, ..] = &mut scratch.buffers;
        let [a, b, c, d, e] = [a, b, c, d, e].map(|buffer| buffer.floats(BLOCK));
        for row in chunk * chunk_rows..rows.min((chunk + 1) * chunk_rows) {
            for start in (0..d_ff).step_by(BLOCK) {
                let len = BLOCK.min(d_ff - start);
                work(Block { row, d_ff, start, len, scratch: [a, b, c, d, e] });
            }
        }
    });
}

pub(super) fn forward(cpu: &mut Cpu, out: &mut CpuTensor, x: &CpuTensor, d_ff: usize) {
    let rows = assert_rows("swiglu_forward", out, x, d_ff);
    let (level, out, x) = (cpu.options.level, out.sink(), x.values());
    for_each_block(cpu, rows, d_ff, |block| {
        // SAFETY: every block is handed out once, and no two overlap.
        let mut out = unsafe { out.part(block.out(), block.len) };
        forward_block(level, &mut out, x, block);
    });
}

pub(super) fn backward(cpu: &mut Cpu, dx: &mut CpuTensor, dout: &CpuTensor, x: &CpuTensor, d_ff: usize) {
    let rows = assert_rows("swiglu_backward", dout, x, d_ff);
    assert_eq!(dx.len(), x.len(), "values of dx");
    let (level, dx, dout, x) = (cpu.options.level, dx.sink(), dout.values(), x.values());
    for_each_block(cpu, rows, d_ff, |block| {
        // SAFETY: every block is handed out once, no two overlap, and the gate's values are not those of the
        // up projection.
        let dx = unsafe { [block.gate(), block.gate() + d_ff].map(|start| dx.part(start, block.len)) };
        backward_block(level, dx, dout, x, block);
    });
}

/// Rows of `d_ff` values in `out`, of twice as many in `x`.
fn assert_rows(operation: &str, out: &CpuTensor, x: &CpuTensor, d_ff: usize) -> usize {
    let width = size_of_shape(operation, &[2, d_ff]);
    assert!(
        width > 0 && x.len().is_multiple_of(width),
        "{operation}: {} values are not rows of {width}",
        x.len()
    );
    assert_eq!(2 * out.len(), x.len(), "{operation}: values of the output rows");
    x.len() / width
}

multiversion! {
    fn forward_block(out: &mut ValuesMut<'_>, x: Values<'_>, block: Block<'_>) {
        let gate_start = block.gate();
        let Block { d_ff, len, scratch: [scratch, scratch_gate, scratch_up, ..], .. } = block;
        let gate = x.read(gate_start, len, scratch_gate);
        let up = x.read(gate_start + d_ff, len, scratch_up);
        let out = out.overwrite(0, len, scratch);
        for ((out, gate), up) in out.values.iter_mut().zip(gate).zip(up) {
            *out = gate * sigmoid(*gate) * up;
        }
        out.store();
    }

    /// `dx` is the gradient of the block's gate values, then of its up values.
    fn backward_block(dx: [ValuesMut<'_>; 2], dout: Values<'_>, x: Values<'_>, block: Block<'_>) {
        let (out_start, gate_start) = (block.out(), block.gate());
        let Block { d_ff, len, scratch: [scratch_dgate, scratch_dup, scratch_dout, scratch_gate, scratch_up], .. } = block;
        let up_start = gate_start + d_ff;
        let dout = dout.read(out_start, len, scratch_dout);
        let (gate, up) = (x.read(gate_start, len, scratch_gate), x.read(up_start, len, scratch_up));
        let [mut dgate, mut dup] = dx;
        let (dgate, dup) = (dgate.overwrite(0, len, scratch_dgate), dup.overwrite(0, len, scratch_dup));
        let gradients = dgate.values.iter_mut().zip(&mut *dup.values);
        for (((dgate, dup), dout), (gate, up)) in gradients.zip(dout).zip(gate.iter().zip(up)) {
            let s = sigmoid(*gate);
            *dgate = dout * up * (s * (1.0 + gate * (1.0 - s)));
            *dup = dout * (gate * s);
        }
        dgate.store();
        dup.store();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::testing::{for_every_cpu, random};

    #[test]
    fn bits_depend_on_neither_threads_nor_level() {
        // Rows of more than a block and no multiple of anything, and enough of them for several chunks.
        let (rows, d_ff) = (40, BLOCK + 70);
        for_every_cpu(|cpu| {
            let (x, dout) = (random(cpu, 1, rows * 2 * d_ff), random(cpu, 2, rows * d_ff));
            let (mut out, mut dx) = (cpu.activation(rows * d_ff), cpu.activation(rows * 2 * d_ff));
            forward(cpu, &mut out, &x, d_ff);
            backward(cpu, &mut dx, &dout, &x, d_ff);
            vec![out, dx]
        });
    }
}
