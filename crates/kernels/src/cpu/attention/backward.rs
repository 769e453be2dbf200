//! Backward: probabilities are computed again from the logarithm of their denominator, block by block.
//!
//! With `P` the probabilities, `M` the dropout's factors, and `D = Σ dout · out` of every row:
//! `dV += (P∘M)ᵀ dO`, `dP = (dO Vᵀ)∘M`, `dS = scale · P∘(dP - D)`, `dQ += dS K`, `dK += dSᵀ Q`.

use super::super::gemm::{Factor, Kernel, Part};
use super::super::level::{LANES, Level, multiversion, sum_by};
use super::super::math::exp2;
use super::super::pointwise::Mask;
use super::super::scratch::Buffer;
use super::super::tensor::{Sink, Values};
use super::super::{Cpu, CpuTensor};
use super::forward::{assert_lengths, mask};
use super::{
    DROPOUT_COLUMNS, KEYS, Matrix, ROWS, Task, block_of, block_range, column_words, head_rows, pack_columns,
    pack_rows, row_words, task, tasks,
};
use crate::{AttentionShape, Dropout};
use std::f32::consts::LOG2_E;
use std::ops::Range;

#[allow(clippy::too_many_arguments)]
pub(in super::super) fn backward(
    cpu: &mut Cpu,
    dqkv: &mut CpuTensor,
    dout: &CpuTensor,
    out: &CpuTensor,
    lse: &CpuTensor,
    qkv: &CpuTensor,
    lens: &[u32],
    shape: &AttentionShape,
    dropout: Option<&Dropout>,
) {
    let rows = assert_lengths("attention_backward", [out, qkv], lse, lens, shape);
    assert_eq!(dout.len(), out.len(), "values of dout");
    assert_eq!(dqkv.len(), qkv.len(), "values of dqkv");
    let pass = Pass {
        kernel: cpu.kernel,
        level: cpu.options.level,
        dout: dout.values(),
        out: out.values(),
        lse: lse.f32s(),
        qkv: qkv.values(),
        mask: mask("attention_backward", rows, shape, dropout),
    };
    let dqkv = dqkv.sink();
    cpu.pool.run(tasks("attention_backward", rows, lens.len(), shape), &|chunk, scratch| {
        // SAFETY: every task is handed out once.
        unsafe { pass.run(&dqkv, task(shape, lens, chunk), &mut scratch.buffers) };
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
    /// # Safety
    ///
    /// No other thread touches the task's queries, keys and values in `dqkv` meanwhile.
    unsafe fn run(&self, dqkv: &Sink<'_>, task: Task<'_>, buffers: &mut [Buffer]) {
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
        for start in (0..task.rows()).step_by(ROWS) {
            let rows = start..task.rows().min(start + ROWS);
            // SAFETY: the rows are the task's.
            unsafe { self.rows(dqkv, task, rows, &packed, dkeys, dvalues, buffers) };
        }
        // SAFETY: the keys and values are the task's.
        unsafe {
            store(self.level, dqkv, keys.start, stride, dkeys, d);
            store(self.level, dqkv, values.start, stride, dvalues, d);
        }
    }

    /// Adds what some rows contribute to the gradients of keys and values; stores that of their queries.
    ///
    /// # Safety
    ///
    /// No other thread touches the rows' queries in `dqkv` meanwhile.
    #[allow(clippy::too_many_arguments)]
    unsafe fn rows(
        &self,
        dqkv: &Sink<'_>,
        task: Task<'_>,
        rows: Range<usize>,
        packed: &Packed<'_>,
        dkeys: &mut [f32],
        dvalues: &mut [f32],
        buffers: &mut [Buffer],
    ) {
        let (kernel, level, d, m) = (self.kernel, self.level, task.shape.head_dim, rows.len());
        let [plain, lefts, rights, scores, left, ..] = buffers else { panic!("few buffers") };
        let (gathered, rest) = plain.floats((3 * m + 2) * d + m).split_at_mut(2 * m * d);
        let (queries, douts) = gathered.split_at_mut(m * d);
        let (dqueries, rest) = rest.split_at_mut(m * d);
        let (scratch, row_dots) = rest.split_at_mut(2 * d);
        dot_rows(level, row_dots, self.dout, self.out, task, rows.clone(), scratch);
        dqueries.fill(0.0);
        let (qkv_width, q_width) = (task.shape.qkv_width(), task.shape.q_width());
        let (left_words, right_words) = (kernel.left_words(m, d), kernel.right_words(m, d));
        let (query_left, dout_left) = lefts.words(2 * left_words).split_at_mut(left_words);
        let (query_right, dout_right) = rights.words(2 * right_words).split_at_mut(right_words);
        for (buffer, values, width, left, right) in [
            (queries, self.qkv, qkv_width, &mut *query_left, &mut *query_right),
            (douts, self.dout, q_width, dout_left, dout_right),
        ] {
            let (x, stride) = head_rows(level, buffer, values, width, task, rows.clone());
            kernel.pack_left(left, Factor::along_k(x, stride), m, d);
            kernel.pack_right(right, Factor::across_k(x, stride), m, d);
        }
        let (probabilities, dscores) = scores.floats(2 * m * KEYS).split_at_mut(m * KEYS);

        for b in task.blocks(&rows) {
            let block = block_range(b, task.positions);
            let n = block.len();
            let columns = |words| block_of(words, kernel.right_words(d, KEYS), b);
            let seen =
                |panel: Range<usize>| task.seen_in(rows.start + panel.start..rows.start + panel.end, &block);
            let seeing =
                |panel: Range<usize>| task.seeing(block.start + panel.start..block.start + panel.end, &rows);
            let over_columns = |panel| Part { cols: seen(panel), k: 0..d };
            let (keys, values) = (columns(packed.key_columns), columns(packed.value_columns));
            kernel.multiply(probabilities, KEYS, query_left, keys, (m, n, d), false, over_columns);
            kernel.multiply(dscores, KEYS, dout_left, values, (m, n, d), false, over_columns);
            let (these, lse, mask) = (rows.clone(), self.lse, self.mask);
            differentiate(level, probabilities, dscores, lse, row_dots, task, these, block.clone(), mask);

            let transposed = left.words(kernel.left_words(n, m));
            for (x, right, sums) in
                [(&*probabilities, &*dout_right, &mut *dvalues), (dscores, query_right, dkeys)]
            {
                kernel.pack_left(transposed, Factor::across_k(Values::F32(x), KEYS), n, m);
                let sums = &mut sums[block.start * d..block.end * d];
                let over_rows = |panel| Part { cols: 0..d, k: seeing(panel) };
                kernel.multiply(sums, d, transposed, right, (n, d, m), true, over_rows);
            }
            let left = left.words(kernel.left_words(m, n));
            kernel.pack_left(left, Factor::along_k(Values::F32(dscores), KEYS), m, n);
            let keys = block_of(packed.key_rows, kernel.right_words(KEYS, d), b);
            let over_keys = |panel| Part { cols: 0..d, k: seen(panel) };
            kernel.multiply(dqueries, d, left, keys, (m, d, n), true, over_keys);
        }
        // SAFETY: the caller's promise.
        unsafe { scatter(level, dqkv, dqueries, task, rows) };
    }
}

multiversion! {
    /// `dots[r] = Σ a[r] · b[r]` for a task's rows.
    fn dot_rows(dots: &mut [f32], a: Values<'_>, b: Values<'_>, task: Task<'_>, rows: Range<usize>, scratch: &mut [f32]) {
        let head_dim = task.shape.head_dim;
        let (scratch_a, scratch_b) = scratch.split_at_mut(head_dim);
        for (dot, r) in dots.iter_mut().zip(rows) {
            let start = task.offset(r, task.shape.q_width());
            let (a, b) = (a.read(start, head_dim, scratch_a), b.read(start, head_dim, scratch_b));
            *dot = sum_by(a, b, |a, b| a * b);
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
        let scale_log2 = scale * LOG2_E;
        let blocks = scores.chunks_exact_mut(KEYS).zip(dscores.chunks_exact_mut(KEYS));
        for (((scores, dscores), r), &dot) in blocks.zip(rows).zip(dots) {
            let seen = task.seen_in(r..r + 1, &block);
            let lse_log2 = lse[task.query(r)] * LOG2_E;
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
                    let p = exp2(*score * scale_log2 - lse_log2);
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
    ///
    /// # Safety
    ///
    /// No other thread touches these rows of `out` meanwhile.
    unsafe fn store(out: &Sink<'_>, start: usize, stride: usize, x: &[f32], width: usize) {
        for (r, x) in x.chunks_exact(width).enumerate() {
            // SAFETY: the caller's promise.
            unsafe { out.put(start + r * stride, x) };
        }
    }

    /// Stores the gradients of a task's queries.
    ///
    /// # Safety
    ///
    /// No other thread touches these queries in `dqkv` meanwhile.
    unsafe fn scatter(dqkv: &Sink<'_>, x: &[f32], task: Task<'_>, rows: Range<usize>) {
        for (x, r) in x.chunks_exact(task.shape.head_dim).zip(rows) {
            // SAFETY: the caller's promise.
            unsafe { dqkv.put(task.offset(r, task.shape.qkv_width()), x) };
        }
    }
}
