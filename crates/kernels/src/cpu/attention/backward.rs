//! Backward: probabilities are computed again from the logarithm of their denominator, block by block.
//!
//! With `P` the probabilities, `M` the dropout's factors, and `D = Σ dout · out` of every row:
//! `dV += (P∘M)ᵀ dO`, `dP = (dO Vᵀ)∘M`, `dS = scale · P∘(dP - D)`, `dQ += dS K`, `dK += dSᵀ Q`.

use super::super::gemm::{Factor, Kernel, Part};
use super::super::level::{LANES, Level, multiversion, sum_lanes};
use super::super::math::exp;
use super::super::pointwise::Mask;
use super::super::scratch::Buffer;
use super::super::tensor::{Sink, Values};
use super::super::{Cpu, CpuTensor};
use super::forward::mask;
use super::{
    BLOCK, DROPOUT_COLUMNS, Matrix, Task, assert_shape, block_of, block_range, column_words, for_each_part,
    gather, pack_columns, pack_rows, row_words, task,
};
use crate::{AttentionShape, Dropout};
use std::ops::Range;

#[allow(clippy::too_many_arguments)]
pub(in super::super) fn backward(
    cpu: &mut Cpu,
    dqkv: &mut CpuTensor,
    dout: &CpuTensor,
    out: &CpuTensor,
    lse: &CpuTensor,
    qkv: &CpuTensor,
    lens: &[usize],
    shape: &AttentionShape,
    dropout: Option<&Dropout>,
) {
    assert_shape(shape);
    let rows: usize = lens.iter().sum();
    for (x, name) in [(dout, "dout"), (out, "out")] {
        assert_eq!(x.len(), rows * shape.q_width(), "values of {name}");
    }
    for (len, name) in [(qkv.len(), "qkv"), (dqkv.len(), "dqkv")] {
        assert_eq!(len, rows * shape.qkv_width(), "values of {name}");
    }
    assert_eq!(lse.len(), rows * shape.n_head, "values of lse");
    let pass = Pass {
        kernel: cpu.kernel,
        level: cpu.options.level,
        dout: dout.values(),
        out: out.values(),
        lse: lse.f32s(),
        qkv: qkv.values(),
        mask: mask(shape, dropout),
    };
    let dqkv = dqkv.sink();
    cpu.pool.run(lens.len() * shape.n_kv_head, &|chunk, scratch| {
        pass.run(dqkv, task(shape, lens, chunk), &mut scratch.buffers);
    });
}

/// What the tasks of a backward pass share.
struct Pass<'a> {
    kernel: Kernel,
    level: Level,
    dout: Values<'a>,
    out: Values<'a>,
    lse: &'a [f32],
    qkv: Values<'a>,
    mask: Option<Mask>,
}

/// A task's keys and values, packed block by block.
struct Packed<'a> {
    /// Right factors of `Q Kᵀ`, of `dO Vᵀ`, and of `dS K`.
    key_columns: &'a [u32],
    value_columns: &'a [u32],
    key_rows: &'a [u32],
}

impl Pass<'_> {
    fn run(&self, dqkv: Sink<'_>, task: Task<'_>, buffers: &mut [Buffer]) {
        let (kernel, d, positions) = (self.kernel, task.shape.head_dim, task.positions);
        let [key_columns, value_columns, key_rows, gradients, buffers @ ..] = buffers else {
            panic!("few buffers")
        };
        let stride = task.shape.qkv_width();
        let start = task.first_row * stride + task.key_column();
        let keys = Matrix { values: self.qkv, start, stride };
        let values = Matrix { start: start + task.shape.kv_width(), ..keys };
        let (columns, rows) = (column_words(kernel, positions, d), row_words(kernel, positions, d));
        let key_columns = key_columns.words(columns);
        let value_columns = value_columns.words(columns);
        let key_rows = key_rows.words(rows);
        pack_columns(kernel, key_columns, keys, positions, d);
        pack_columns(kernel, value_columns, values, positions, d);
        pack_rows(kernel, key_rows, keys, positions, d);
        let packed = Packed { key_columns, value_columns, key_rows };

        let (dkeys, dvalues) = gradients.floats(2 * positions * d).split_at_mut(positions * d);
        dkeys.fill(0.0);
        dvalues.fill(0.0);
        for start in (0..task.rows()).step_by(BLOCK) {
            let rows = start..task.rows().min(start + BLOCK);
            self.rows(dqkv, task, rows, &packed, dkeys, dvalues, buffers);
        }
        let [scratch, ..] = buffers else { panic!("few buffers") };
        store(self.level, dqkv, keys.start, stride, dkeys, d, scratch.floats(d));
        store(self.level, dqkv, values.start, stride, dvalues, d, scratch.floats(d));
    }

    /// Adds what some rows contribute to the gradients of keys and values; stores that of their queries.
    #[allow(clippy::too_many_arguments)]
    fn rows(
        &self,
        dqkv: Sink<'_>,
        task: Task<'_>,
        rows: Range<usize>,
        packed: &Packed<'_>,
        dkeys: &mut [f32],
        dvalues: &mut [f32],
        buffers: &mut [Buffer],
    ) {
        let (kernel, level, d, m) = (self.kernel, self.level, task.shape.head_dim, rows.len());
        let [plain, lefts, rights, scores, left, ..] = buffers else { panic!("few buffers") };
        let plain = plain.floats(3 * m * d + m);
        let (queries, plain) = plain.split_at_mut(m * d);
        let (douts, plain) = plain.split_at_mut(m * d);
        let (outs, row_dots) = plain.split_at_mut(m * d);
        gather(level, queries, self.qkv, task.shape.qkv_width(), task, rows.clone());
        gather(level, douts, self.dout, task.shape.q_width(), task, rows.clone());
        gather(level, outs, self.out, task.shape.q_width(), task, rows.clone());
        dot_rows(level, row_dots, douts, outs, d);
        let (query_left, dout_left) =
            lefts.words(2 * kernel.left_words(m, d)).split_at_mut(kernel.left_words(m, d));
        let (query_right, dout_right) =
            rights.words(2 * kernel.right_words(m, d)).split_at_mut(kernel.right_words(m, d));
        for (x, left, right) in
            [(&*queries, &mut *query_left, &mut *query_right), (douts, dout_left, dout_right)]
        {
            kernel.pack_left(left, Factor::along_k(Values::F32(x), d), m, d);
            kernel.pack_right(right, Factor::across_k(Values::F32(x), d), m, d);
        }
        let (probabilities, dscores) = scores.floats(2 * m * BLOCK).split_at_mut(m * BLOCK);
        // The outputs are done with: their place takes the gradients of the queries.
        let dqueries = outs;
        dqueries.fill(0.0);

        for b in task.blocks(&rows) {
            let block = block_range(b, task.positions);
            let n = block.len();
            let columns = |words| block_of(words, kernel.right_words(d, BLOCK), b);
            for_each_part(kernel, task, &rows, &block, |rows, seen| {
                let part = || Part { rows: rows.clone(), cols: seen.clone(), k: 0..d };
                let (keys, values) = (columns(packed.key_columns), columns(packed.value_columns));
                kernel.multiply_part(probabilities, BLOCK, query_left, keys, (m, n, d), part(), false);
                kernel.multiply_part(dscores, BLOCK, dout_left, values, (m, n, d), part(), false);
            });
            let (rows, lse, mask) = (rows.clone(), self.lse, self.mask);
            differentiate(
                level,
                probabilities,
                dscores,
                lse,
                row_dots,
                task,
                rows.clone(),
                block.clone(),
                mask,
            );

            let transposed = left.words(kernel.left_words(n, m));
            let here = block.start * d..block.end * d;
            for (x, right, sums) in
                [(&*probabilities, &*dout_right, &mut *dvalues), (dscores, query_right, dkeys)]
            {
                kernel.pack_left(transposed, Factor::across_k(Values::F32(x), BLOCK), n, m);
                let sums = &mut sums[here.clone()];
                for_each_key_part(kernel, task, &rows, &block, |keys, rows| {
                    let part = Part { rows: keys, cols: 0..d, k: rows };
                    kernel.multiply_part(sums, d, transposed, right, (n, d, m), part, true);
                });
            }
            let left = left.words(kernel.left_words(m, n));
            kernel.pack_left(left, Factor::along_k(Values::F32(dscores), BLOCK), m, n);
            let keys = block_of(packed.key_rows, kernel.right_words(BLOCK, d), b);
            for_each_part(kernel, task, &rows, &block, |rows, seen| {
                let part = Part { rows, cols: 0..d, k: seen };
                kernel.multiply_part(dqueries, d, left, keys, (m, d, n), part, true);
            });
        }
        scatter(level, dqkv, dqueries, task, rows, queries);
    }
}

/// Calls `work` with the parts of a transposed block of scores that are worth computing: keys of the block, and those
/// of the rows that see them. One part where all see all, else panel by panel.
fn for_each_key_part(
    kernel: Kernel,
    task: Task<'_>,
    rows: &Range<usize>,
    block: &Range<usize>,
    mut work: impl FnMut(Range<usize>, Range<usize>),
) {
    for start in block.clone().step_by(kernel.mr()) {
        let panel = start..block.end.min(start + kernel.mr());
        let seeing = task.seeing(&panel, rows);
        if !seeing.is_empty() {
            let panel = panel.start - block.start..panel.end - block.start;
            work(panel, seeing.start - rows.start..seeing.end - rows.start);
        }
    }
}

multiversion! {
    /// `dots[r] = Σ a[r] · b[r]`.
    fn dot_rows(dots: &mut [f32], a: &[f32], b: &[f32], width: usize) {
        for (dot, (a, b)) in dots.iter_mut().zip(a.chunks_exact(width).zip(b.chunks_exact(width))) {
            let mut lanes = [0.0; LANES];
            for (a, b) in a.chunks(LANES).zip(b.chunks(LANES)) {
                for (lane, (a, b)) in lanes.iter_mut().zip(a.iter().zip(b)) {
                    *lane += a * b;
                }
            }
            *dot = sum_lanes(lanes);
        }
    }

    /// From `Q Kᵀ` and `dO Vᵀ` to `P∘M` and `dS`, in place; zeros where nothing is seen.
    fn differentiate(
        scores: &mut [f32],
        dscores: &mut [f32],
        lse: &[f32],
        dots: &[f32],
        task: Task<'_>,
        rows: Range<usize>,
        block: Range<usize>,
        mask: Option<Mask>,
    ) {
        let scale = task.shape.scale;
        let blocks = scores.chunks_exact_mut(BLOCK).zip(dscores.chunks_exact_mut(BLOCK));
        for (((scores, dscores), r), &dot) in blocks.zip(rows).zip(dots) {
            let seen = task.seen_in(&(r..r + 1), &block);
            let lse = lse[task.query(r)];
            let index = task.query(r) * DROPOUT_COLUMNS + block.start;
            let vectors = seen.start / LANES..seen.end.div_ceil(LANES);
            let (score_vectors, _) = scores.as_chunks_mut::<LANES>();
            let (dscore_vectors, _) = dscores.as_chunks_mut::<LANES>();
            for v in vectors {
                let mut factors = [1.0; LANES];
                if let Some(mask) = mask {
                    for (c, factor) in factors.iter_mut().enumerate() {
                        *factor = mask.factor((index + v * LANES + c) as u64);
                    }
                }
                let pairs = score_vectors[v].iter_mut().zip(&mut dscore_vectors[v]);
                for ((score, dscore), factor) in pairs.zip(factors) {
                    let p = exp(*score * scale - lse);
                    *score = p * factor;
                    *dscore = scale * p * (*dscore * factor - dot);
                }
            }
            for x in [scores, dscores] {
                x[..seen.start].fill(0.0);
                x[seen.end..].fill(0.0);
            }
        }
    }

    /// Stores the rows of `x` from `start` on, `stride` apart.
    fn store(out: Sink<'_>, start: usize, stride: usize, x: &[f32], width: usize, scratch: &mut [f32]) {
        for (r, x) in x.chunks_exact(width).enumerate() {
            // SAFETY: a task's gradients are its own.
            unsafe { out.write(start + r * stride, width, scratch, |out| out.copy_from_slice(x)) };
        }
    }

    /// Stores the gradients of a task's queries.
    fn scatter(dqkv: Sink<'_>, x: &[f32], task: Task<'_>, rows: Range<usize>, scratch: &mut [f32]) {
        let head_dim = task.shape.head_dim;
        for (x, r) in x.chunks_exact(head_dim).zip(rows) {
            let start = task.offset(r, task.shape.qkv_width());
            // SAFETY: a task's gradients are its own.
            unsafe { dqkv.write(start, head_dim, scratch, |out| out.copy_from_slice(x)) };
        }
    }
}
