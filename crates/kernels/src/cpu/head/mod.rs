//! The language-model head: logits exist for a chunk of rows at a time, and turn into their gradients in
//! place.
//!
//! Here are the products and what surrounds them; what happens to a row of logits is in [`softmax`], and where a teacher's
//! stand beside them in [`distil`].
//!
//! Rows without a target are left out of the products. A chunk holds whole groups of rows (or an even part of
//! one that is too large), whose rows are blocks of their own in the weight's gradient: what a group
//! contributes does not depend on its neighbours.

mod distil;
mod softmax;

use super::gemm::{Blocks, Factor, Kernel, Product, Right, pack_right};
use super::level::Level;
use super::pool::{Disjoint, Pool};
use super::scratch::Buffer;
use super::tensor::{Sink, Values};
use super::{Cpu, CpuTensor, Precision};
use crate::shapes::{assert_groups, size_of_shape};
use crate::{HeadShape, NO_TARGET};
use std::ops::Range;

/// Logits that exist at once, within the limits of [`CHUNK_ROWS`]: 8 MB, which a shared cache can hold.
const CHUNK_LOGITS: usize = 1 << 21;
/// Fewest and most rows of a chunk. With fewer the weight's gradient is read and written too often.
const CHUNK_ROWS: Range<usize> = 256..1024;
/// Rows that a thread copies at a time.
const COPY_ROWS: usize = 32;

/// What the head keeps from call to call, so that it allocates only once.
#[derive(Default)]
pub(super) struct HeadMemory {
    /// The rows with a target.
    rows: Vec<u32>,
    /// `rows` cut into stretches within a group, each short enough for a chunk.
    pieces: Vec<Range<usize>>,
    depth: Blocks,
    vocab: Blocks,
    chunk: Blocks,
    weight_for_logits: Buffer,
    weight_for_dhidden: Buffer,
    hidden: Buffer,
    hidden_packed: Buffer,
    logits: Buffer,
    dhidden: Buffer,
    teacher: distil::TeacherMemory,
}

pub(super) fn forward(
    cpu: &mut Cpu,
    logprobs: &mut [f64],
    entropies: Option<&mut [f64]>,
    hidden: &CpuTensor,
    weight: &CpuTensor,
    targets: &[u32],
    shape: &HeadShape,
) {
    let outputs = Outputs { logprobs, entropies };
    run(cpu, outputs, None, hidden, weight, None, targets, shape, &[shape.rows]);
}

/// `derivatives` are those of the loss by each log-probability, and by each entropy if the loss has them.
#[allow(clippy::too_many_arguments)]
pub(super) fn backward(
    cpu: &mut Cpu,
    logprobs: &mut [f64],
    dhidden: &mut CpuTensor,
    dweight: Option<&mut CpuTensor>,
    (dlogprobs, dentropies): (&[f64], Option<&[f64]>),
    hidden: &CpuTensor,
    weight: &CpuTensor,
    targets: &[u32],
    shape: &HeadShape,
    groups: &[usize],
) {
    assert_eq!(dhidden.len(), hidden.len(), "values of dhidden");
    let learned = dweight.as_ref().map_or(weight.len(), |dweight| dweight.len());
    assert_eq!(learned, weight.len(), "values of dweight");
    assert_eq!(dlogprobs.len(), shape.rows, "values of dlogprobs");
    if let Some(dentropies) = dentropies {
        assert_eq!(dentropies.len(), shape.rows, "values of dentropies");
    }
    assert_groups("head_backward", groups, shape.rows);
    let dweight = dweight.map(CpuTensor::sink);
    let gradients = Gradients { dlogprobs, dentropies, dhidden: dhidden.sink(), dweight };
    let outputs = Outputs { logprobs, entropies: None };
    run(cpu, outputs, Some(gradients), hidden, weight, None, targets, shape, groups);
}

/// What is told of every row: the log-probability of its target, or the divergence from a teacher.
struct Outputs<'a> {
    logprobs: &'a mut [f64],
    entropies: Option<&'a mut [f64]>,
}

/// What the backward pass adds to the forward pass.
struct Gradients<'a> {
    dlogprobs: &'a [f64],
    dentropies: Option<&'a [f64]>,
    dhidden: Sink<'a>,
    dweight: Option<Sink<'a>>,
}

/// Rows of a chunk at most.
fn chunk_rows(vocab_size: usize) -> usize {
    (CHUNK_LOGITS / vocab_size.max(1)).clamp(CHUNK_ROWS.start, CHUNK_ROWS.end)
}

/// The bytes of [`HeadMemory`] in training, where factors are packed in so many bytes a value: the weight
/// twice, and the logits of a chunk.
pub(super) fn working_bytes(shape: &HeadShape, bytes: usize) -> u64 {
    let &HeadShape { rows, d_model, vocab_size, .. } = shape;
    let weights = size_of_shape("working_bytes", &[2, bytes, vocab_size, d_model]);
    let logits = size_of_shape("working_bytes", &[4, vocab_size, chunk_rows(vocab_size).min(rows)]);
    weights as u64 + logits as u64
}

#[allow(clippy::too_many_arguments)]
fn run(
    cpu: &mut Cpu,
    mut outputs: Outputs<'_>,
    mut gradients: Option<Gradients<'_>>,
    hidden: &CpuTensor,
    weight: &CpuTensor,
    teacher: Option<distil::Teacher<'_>>,
    targets: &[u32],
    shape: &HeadShape,
    groups: &[usize],
) {
    let &HeadShape { rows, d_model, vocab_size, temperature, .. } = shape;
    for (values, name) in
        [(Some(&*outputs.logprobs), "logprobs"), (outputs.entropies.as_deref(), "entropies")]
    {
        assert_eq!(values.map_or(rows, <[f64]>::len), rows, "values of {name}");
    }
    assert_eq!(targets.len(), rows, "targets");
    let operation = match &teacher {
        Some(teacher) => teacher.operation,
        None if gradients.is_some() => "head_backward",
        None => "head_forward",
    };
    assert!(vocab_size > 0 && d_model > 0, "{operation}: an empty head");
    assert!(u32::try_from(rows).is_ok(), "{operation}: {rows} rows are more than 32 bits count");
    assert_eq!(hidden.len(), size_of_shape(operation, &[rows, d_model]), "values of hidden");
    assert_eq!(weight.len(), size_of_shape(operation, &[vocab_size, d_model]), "values of weight");
    assert!(temperature > 0.0, "temperature {temperature}");
    for &target in targets.iter().filter(|&&target| target != NO_TARGET) {
        assert!((target as usize) < vocab_size, "target {target} of {vocab_size} tokens");
    }

    let Cpu { options, kernel, pool, head: memory, .. } = cpu;
    let max_rows = chunk_rows(vocab_size);
    memory.plan(targets, groups, max_rows);
    outputs.clear();
    if memory.rows.len() < rows
        && let Some(gradients) = &mut gradients
    {
        fill_zeros(pool, gradients.dhidden.reborrow());
    }
    if memory.rows.is_empty() {
        return;
    }

    let HeadMemory { rows, pieces, depth, vocab, chunk, .. } = memory;
    for (blocks, len) in [(&mut *depth, d_model), (&mut *vocab, vocab_size)] {
        blocks.clear();
        kernel.push(blocks, len);
    }
    let words = memory.weight_for_logits.words(kernel.packed_words(depth, vocab_size));
    let factor = Factor::along_k(weight.values(), d_model);
    let for_logits = pack_right(*kernel, pool, words, factor, depth, vocab_size);
    let for_dhidden = gradients.as_ref().map(|_| {
        let words = memory.weight_for_dhidden.words(kernel.packed_words(vocab, d_model));
        pack_right(*kernel, pool, words, Factor::across_k(weight.values(), d_model), vocab, d_model)
    });

    let mut teacher = teacher.map(|teacher| teacher.begin(*kernel, pool, &mut memory.teacher, shape));

    let mut pieces = pieces.iter().peekable();
    while let Some(first) = pieces.next() {
        let mut range = first.clone();
        chunk.clear();
        kernel.push(chunk, first.len());
        while let Some(piece) = pieces.next_if(|piece| piece.end - range.start <= max_rows) {
            range.end = piece.end;
            kernel.push(chunk, piece.len());
        }
        let mut step = Step {
            kernel: *kernel,
            level: options.level,
            precision: options.precision,
            pool,
            rows: &rows[range],
            shape,
        };
        let gathered = step.gather(hidden.values(), d_model, &mut memory.hidden);
        let logits = memory.logits.floats(step.rows.len() * vocab_size);
        step.logits(logits, (gathered, d_model), for_logits, depth);
        let logits = memory.logits.floats(step.rows.len() * vocab_size);
        match &mut teacher {
            None => step.softmax(logits, &mut outputs, targets, gradients.as_ref()),
            Some(teacher) => teacher.diverge(&mut step, logits, outputs.logprobs, gradients.as_ref()),
        }
        if let (Some(gradients), Some(for_dhidden)) = (&mut gradients, for_dhidden) {
            let dlogits = step.dlogits(&mut memory.logits);
            step.dhidden(gradients.dhidden.reborrow(), &mut memory.dhidden, dlogits, for_dhidden, vocab);
            if let Some(dweight) = &mut gradients.dweight {
                step.dweight(dweight.reborrow(), &mut memory.hidden_packed, dlogits, gathered, chunk);
            }
        }
    }
}

impl Outputs<'_> {
    fn clear(&mut self) {
        self.logprobs.fill(0.0);
        self.entropies.iter_mut().for_each(|entropies| entropies.fill(0.0));
    }
}

impl HeadMemory {
    /// Lists the rows with a target, and cuts those of each group into pieces of at most `max_rows`.
    fn plan(&mut self, targets: &[u32], groups: &[usize], max_rows: usize) {
        self.rows.clear();
        self.pieces.clear();
        let mut first = 0;
        for &rows in groups {
            let start = self.rows.len();
            let with_target = (first..first + rows).filter(|&row| targets[row] != NO_TARGET);
            self.rows.extend(with_target.map(|row| row as u32));
            first += rows;
            let len = self.rows.len() - start;
            let pieces = len.div_ceil(max_rows);
            let piece = |i: usize| start + i * len / pieces;
            self.pieces.extend((0..pieces).map(|i| piece(i)..piece(i + 1)));
        }
    }
}

/// The work on one chunk of rows.
struct Step<'a> {
    kernel: Kernel,
    level: Level,
    precision: Precision,
    pool: &'a mut Pool,
    rows: &'a [u32],
    shape: &'a HeadShape,
}

impl Step<'_> {
    /// Copies the chunk's rows of `hidden`, `width` values each, together.
    fn gather<'b>(&mut self, hidden: Values<'_>, width: usize, buffer: &'b mut Buffer) -> Values<'b> {
        let rows = self.rows;
        match hidden {
            Values::F32(hidden) => {
                let to = buffer.floats(rows.len() * width);
                copy_rows(self.pool, to, hidden, rows, width);
                Values::F32(to)
            }
            Values::Bf16(hidden) => {
                let to = buffer.halves(rows.len() * width);
                copy_rows(self.pool, to, hidden, rows, width);
                Values::Bf16(to)
            }
            Values::Blocks(_) => panic!("only weights are in blocks"),
        }
    }

    fn logits(
        &mut self,
        logits: &mut [f32],
        (hidden, d_model): (Values<'_>, usize),
        weight: Right<'_>,
        depth: &Blocks,
    ) {
        let product = Product {
            m: self.rows.len(),
            n: self.shape.vocab_size,
            blocks: depth,
            left: Factor::along_k(hidden, d_model),
            right: weight,
            bias: None,
            add: false,
        };
        product.run(self.kernel, self.pool, Sink::F32(Disjoint::new(logits)));
    }

    /// What [`softmax`](Self::softmax) left: a matrix and its stride.
    fn dlogits<'b>(&self, logits: &'b mut Buffer) -> (Values<'b>, usize) {
        let (rows, width) = (self.rows.len(), self.shape.vocab_size);
        match self.precision {
            Precision::F32 => (Values::F32(logits.floats(rows * width)), width),
            Precision::Bf16 => (Values::Bf16(logits.halves(rows * 2 * width)), 2 * width),
        }
    }

    fn dhidden(
        &mut self,
        dhidden: Sink<'_>,
        buffer: &mut Buffer,
        (dlogits, stride): (Values<'_>, usize),
        weight: Right<'_>,
        vocab: &Blocks,
    ) {
        let (rows, width) = (self.rows, self.shape.d_model);
        let product = Product {
            m: rows.len(),
            n: width,
            blocks: vocab,
            left: Factor::along_k(dlogits, stride),
            right: weight,
            bias: None,
            add: false,
        };
        let sums = buffer.floats(rows.len() * width);
        product.run(self.kernel, self.pool, Sink::F32(Disjoint::new(sums)));
        let (level, sums) = (self.level, &*sums);
        self.pool.run(rows.len().div_ceil(COPY_ROWS), &|chunk, _| {
            let part = chunk * COPY_ROWS..rows.len().min((chunk + 1) * COPY_ROWS);
            for (sums, &row) in sums[part.start * width..].chunks(width).zip(&rows[part]) {
                // SAFETY: no row is listed twice.
                unsafe { store_row(level, &dhidden, row as usize * width, sums) };
            }
        });
    }

    fn dweight(
        &mut self,
        dweight: Sink<'_>,
        packed: &mut Buffer,
        (dlogits, stride): (Values<'_>, usize),
        hidden: Values<'_>,
        chunk: &Blocks,
    ) {
        let &HeadShape { d_model, vocab_size, .. } = self.shape;
        let words = packed.words(self.kernel.packed_words(chunk, d_model));
        let hidden = Factor::across_k(hidden, d_model);
        let product = Product {
            m: vocab_size,
            n: d_model,
            blocks: chunk,
            left: Factor::across_k(dlogits, stride),
            right: pack_right(self.kernel, self.pool, words, hidden, chunk, d_model),
            bias: None,
            add: true,
        };
        product.run(self.kernel, self.pool, dweight);
    }
}

/// `to[i] = from[rows[i]]`.
fn copy_rows<T: Copy + Send + Sync>(pool: &mut Pool, to: &mut [T], from: &[T], rows: &[u32], width: usize) {
    let to = Disjoint::new(to);
    pool.run(rows.len().div_ceil(COPY_ROWS), &|chunk, _| {
        for i in chunk * COPY_ROWS..rows.len().min((chunk + 1) * COPY_ROWS) {
            // SAFETY: every chunk takes its own rows.
            let to = unsafe { to.slice(i * width, width) };
            to.copy_from_slice(&from[rows[i] as usize * width..][..width]);
        }
    });
}

fn fill_zeros(pool: &mut Pool, out: Sink<'_>) {
    const CHUNK: usize = 1 << 14;
    pool.run(out.len().div_ceil(CHUNK), &|chunk, scratch| {
        let len = CHUNK.min(out.len() - chunk * CHUNK);
        let scratch = scratch.buffers[0].floats(len);
        // SAFETY: every chunk takes its own values.
        let mut out = unsafe { out.part(chunk * CHUNK, len) };
        let out = out.overwrite(0, len, scratch);
        out.values.fill(0.0);
        out.store();
    });
}

/// Overwrites the values from `start` on by a row.
///
/// # Safety
///
/// No other thread touches these values meanwhile.
unsafe fn store_row(level: Level, out: &Sink<'_>, start: usize, row: &[f32]) {
    // SAFETY: the caller's promise.
    unsafe {
        match out {
            Sink::F32(out) => out.slice(start, row.len()).copy_from_slice(row),
            Sink::Bf16(out) => softmax::scale_row_bf16(level, out.slice(start, row.len()), row, 1.0),
        }
    }
}

#[cfg(test)]
mod tests;
