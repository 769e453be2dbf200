//! The language-model head, in chunks of rows: all logits at once would be larger than all else.

use super::linear::product;
use super::{assert_len, int, launch};
use crate::device::{Factor, Product, Then};
use crate::{Cuda, CudaIds, CudaScalars, CudaTensor};
use kernels::HeadShape;
use kernels::shapes::{assert_groups, size_of_shape};

/// Rows of a chunk.
const CHUNK: usize = 8192;
/// Rows of it whose logits are made and used up while they are in the chip's cache.
const PART: usize = 512;
/// Rows of logits, and of the matrix's copy in bfloat16, are as many as a multiple of this: products of odd
/// sizes are slow.
const PADDED: usize = 64;

fn assert_shapes(
    operation: &str,
    hidden: &CudaTensor,
    weight: &CudaTensor,
    targets: &CudaIds,
    shape: &HeadShape,
) {
    assert_len(hidden, size_of_shape(operation, &[shape.rows, shape.d_model]), "hidden");
    assert_len(weight, size_of_shape(operation, &[shape.vocab_size, shape.d_model]), "weight");
    size_of_shape(operation, &[shape.rows, shape.vocab_size]);
    assert_eq!(targets.host().len(), shape.rows, "targets");
    let known = |&target: &u32| target == kernels::NO_TARGET || (target as usize) < shape.vocab_size;
    assert!(targets.host().iter().all(known), "{operation}: a target beyond the vocabulary");
}

/// What chunks of a head have in common.
struct Head<'a> {
    cuda: &'a Cuda,
    hidden: u64,
    weight: u64,
    bf16: bool,
    /// Rows of the matrix, as products have them.
    vocab: usize,
    /// From a row of logits to the next.
    ld: usize,
    shape: &'a HeadShape,
}

impl<'a> Head<'a> {
    fn new(cuda: &'a Cuda, hidden: &CudaTensor, weight: &CudaTensor, shape: &'a HeadShape) -> Self {
        let ld = shape.vocab_size.next_multiple_of(PADDED);
        let (hidden, bf16) = cuda.operand(hidden, 0);
        let vocab = if bf16 { ld } else { shape.vocab_size };
        let (weight, _) = cuda.operand(weight, vocab * shape.d_model);
        Head { cuda, hidden, weight, bf16, vocab, ld, shape }
    }

    fn hidden_at(&self, row: usize) -> u64 {
        self.hidden + (row * self.shape.d_model * if self.bf16 { 2 } else { 4 }) as u64
    }

    /// `logits = hidden · weightᵀ / temperature` of some rows.
    fn logits(&self, logits: (u64, bool), first: usize, rows: usize) {
        let by_row = |at| Factor { at, row: self.shape.d_model, term: 1 };
        product(
            self.cuda,
            &Product {
                out: logits,
                out_row: self.ld,
                a: by_row(self.hidden_at(first)),
                b: by_row(self.weight),
                bf16: self.bf16,
                sizes: [rows, self.vocab, self.shape.d_model],
                then: Then::Nothing,
                alpha: 1.0 / self.shape.temperature,
                add: false,
            },
        );
    }
}

pub(crate) fn forward(
    cuda: &Cuda,
    logprobs: &mut CudaScalars,
    entropies: Option<&mut CudaScalars>,
    hidden: &CudaTensor,
    weight: &CudaTensor,
    targets: &CudaIds,
    shape: &HeadShape,
) {
    assert_shapes("head_forward", hidden, weight, targets, shape);
    let logprobs = logprobs.append(cuda.device(), shape.rows);
    let entropies = entropies.map_or(0, |entropies| entropies.append(cuda.device(), shape.rows));
    if shape.rows == 0 {
        return;
    }
    let head = Head::new(cuda, hidden, weight, shape);
    let logits = cuda.scratch(shape.rows.min(PART) * head.ld * 4);
    let (vocab, ld, temperature) = (int(shape.vocab_size), int(head.ld), shape.temperature);
    for first in (0..shape.rows).step_by(PART) {
        let rows = PART.min(shape.rows - first);
        head.logits((logits.at(), false), first, rows);
        let targets = targets.at() + 4 * first as u64;
        let doubles = |list: u64| if list == 0 { 0 } else { list + 8 * first as u64 };
        launch!(cuda, "head_rows", [rows, 1, 1], 512, 0;
            0u64, 0i32, logits.at(), 0i32, doubles(logprobs), doubles(entropies), 0u64, 0u64, targets,
            vocab, ld, temperature, 0f32);
    }
}

#[allow(clippy::too_many_arguments)]
pub(crate) fn backward(
    cuda: &Cuda,
    logprobs: &mut CudaScalars,
    dhidden: &mut CudaTensor,
    dweight: Option<&mut CudaTensor>,
    dlogprobs: &CudaScalars,
    dentropies: Option<&CudaScalars>,
    hidden: &CudaTensor,
    weight: &CudaTensor,
    targets: &CudaIds,
    shape: &HeadShape,
    groups: &[usize],
) {
    assert_shapes("head_backward", hidden, weight, targets, shape);
    assert_groups("head_backward", groups, shape.rows);
    assert_len(dhidden, hidden.len(), "dhidden");
    if let Some(dweight) = &dweight {
        assert_len(dweight, weight.len(), "dweight");
    }
    for list in [Some(dlogprobs), dentropies].into_iter().flatten() {
        assert_eq!(list.len(), shape.rows, "derivatives");
    }
    let logprobs = logprobs.append(cuda.device(), shape.rows);
    if shape.rows == 0 {
        return;
    }
    let head = Head::new(cuda, hidden, weight, shape);
    let (bf16, d_model, ld) = (head.bf16, shape.d_model, head.ld);
    // Logits become their gradients where they are.
    let value = if bf16 { 2 } else { 4 };
    let dlogits = cuda.scratch(shape.rows.min(CHUNK) * ld * value);
    let (derivatives, by_entropies) = (dlogprobs.at(), dentropies.map_or(0, CudaScalars::at));
    let (dhidden_at, dhidden_bf) = (dhidden.at_mut(), dhidden.bf16());
    let dweight_at = dweight.map(CudaTensor::at_mut);
    let (kind, vocab, ld_int, temperature) =
        (i32::from(bf16), int(shape.vocab_size), int(ld), shape.temperature);
    for first in (0..shape.rows).step_by(CHUNK) {
        let rows = CHUNK.min(shape.rows - first);
        for part in (0..rows).step_by(PART) {
            let (at, from) = (dlogits.at() + (part * ld * value) as u64, first + part);
            let rows = PART.min(rows - part);
            head.logits((at, bf16), from, rows);
            let targets = targets.at() + 4 * from as u64;
            let doubles = |list: u64| if list == 0 { 0 } else { list + 8 * from as u64 };
            launch!(cuda, "head_rows", [rows, 1, 1], 512, 0;
                at, kind, at, kind, doubles(logprobs), 0u64, doubles(derivatives), doubles(by_entropies),
                targets, vocab, ld_int, temperature, shape.z_loss);
        }
        let out = (dhidden_at + (first * d_model * if dhidden_bf { 2 } else { 4 }) as u64, dhidden_bf);
        product(
            cuda,
            &Product {
                out,
                out_row: d_model,
                a: Factor { at: dlogits.at(), row: ld, term: 1 },
                b: Factor { at: head.weight, row: 1, term: d_model },
                bf16,
                sizes: [rows, d_model, head.vocab],
                then: Then::Nothing,
                alpha: 1.0,
                add: false,
            },
        );
        let Some(dweight_at) = dweight_at else { continue };
        product(
            cuda,
            &Product {
                out: (dweight_at, false),
                out_row: d_model,
                a: Factor { at: dlogits.at(), row: 1, term: ld },
                b: Factor { at: head.hidden_at(first), row: 1, term: d_model },
                bf16,
                sizes: [shape.vocab_size, d_model, rows],
                then: Then::Nothing,
                alpha: 1.0,
                add: true,
            },
        );
    }
}
