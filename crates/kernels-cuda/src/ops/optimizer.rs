//! Norm and AdamW over many tensors at once.

use super::{assert_len, int, launch};
use crate::device::Address;
use crate::memory::Buffer;
use crate::{Cuda, CudaScalars, CudaTensor};
use kernels::{AdamW, Parameter};

/// Values that a block goes through.
const PIECE: usize = 1 << 16;

/// Where `len` values are cut: the offsets and lengths of pieces.
fn pieces(len: usize) -> impl Iterator<Item = (u64, u64)> {
    (0..len).step_by(PIECE).map(move |first| (first as u64, PIECE.min(len - first) as u64))
}

/// Zeros everywhere. Neighbours in an arena, with what is between them, are one piece of memory.
pub(crate) fn clear(cuda: &Cuda, tensors: &mut [&mut CudaTensor]) {
    for tensor in tensors.iter_mut() {
        assert!(!tensor.bf16(), "clear: a tensor that is not kept exactly");
        tensor.at_mut();
    }
    for run in tensors.chunk_by(|a, b| a.is_beside(b) && a.end() == b.at()) {
        let (Some(first), Some(last)) = (run.first(), run.last()) else { continue };
        let bytes = (last.end() - first.at()) as usize;
        if bytes > 0 {
            // SAFETY: all of it belongs to tensors that are cleared, and to gaps between them.
            unsafe { cuda.device().zero(first.at(), bytes) };
        }
    }
}

pub(crate) fn norm(cuda: &Cuda, out: &mut CudaScalars, tensors: &[&CudaTensor]) {
    let list: Vec<u64> = tensors
        .iter()
        .flat_map(|x| {
            assert!(!x.bf16(), "norm: a tensor that is not kept exactly");
            pieces(x.len()).flat_map(move |(first, len)| [x.at() + 4 * first, len])
        })
        .collect();
    let count = list.len() / 2;
    let (list, sums) = (Buffer::of(cuda.device(), &list), cuda.scratch(count * 8));
    launch!(cuda, "square_sums", [count, 1, 1], 256, 0; sums.at(), list.at());
    let to = out.append(cuda.device(), 1);
    launch!(cuda, "root_of_sums", [1, 1, 1], 256, 0; to, sums.at(), int(count));
}

pub(crate) fn adamw(
    cuda: &Cuda,
    parameters: &mut [Parameter<'_, CudaTensor>],
    settings: &AdamW,
    updates: &mut CudaScalars,
    norms: &mut CudaScalars,
    finite: &[&CudaScalars],
) {
    assert_eq!(updates.len(), 1, "adamw: one number of updates");
    assert!(norms.len() > 0, "adamw: a norm");
    assert!(finite.len() <= 2, "adamw: more than two lists that have to be finite");
    let &AdamW { lr, beta1, beta2, eps, eps_hat, grad_clip } = settings;
    // The rate is an argument, and another one at every step.
    cuda.device().part();
    let step = cuda.scratch(5 * 4);
    let applied = norms.append(cuda.device(), 1);
    let list = |i: usize| finite.get(i).map_or((0u64, 0u64), |list| (list.at(), list.len() as u64));
    let ((a, a_len), (b, b_len)) = (list(0), list(1));
    launch!(cuda, "adamw_begin", [1, 1, 1], 256, 0;
        step.at(), updates.at(), applied - 8, applied, a, a_len, b, b_len, beta1, beta2, eps, i32::from(eps_hat), grad_clip);
    let mut list: Vec<u64> = Vec::new();
    for Parameter { weight, m, v, grad, weight_decay } in parameters {
        for (x, name) in [(&**m, "m"), (v, "v"), (grad, "grad")] {
            assert_len(x, weight.len(), name);
            assert!(!x.bf16() && !weight.bf16(), "adamw: a tensor that is not kept exactly");
        }
        // The kernel writes the copy that products read too, so it stays what it was: fresh or not.
        let twin =
            weight.twin().borrow().as_ref().filter(|twin| twin.fresh).map_or(0, |twin| twin.buffer.at());
        let decay = u64::from(weight_decay.to_bits());
        for (first, len) in pieces(weight.len()) {
            let at = |x: Address, value: u64| if x == 0 { 0 } else { x + value * first };
            let [weight, m, v, grad] = [weight.at(), m.at(), v.at(), grad.at()].map(|x| at(x, 4));
            list.extend([weight, m, v, grad, at(twin, 2), len, decay]);
        }
    }
    let (count, list) = (list.len() / 7, Buffer::of(cuda.device(), &list));
    launch!(cuda, "adamw", [count, 1, 1], 256, 0; step.at(), list.at(), lr, beta1, beta2);
}
