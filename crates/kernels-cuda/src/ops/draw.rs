//! Tokens from logits.

use super::{assert_len, int, launch};
use crate::memory::{Buffer, Plain, bytes_of_mut};
use crate::{Cuda, CudaTensor};
use kernels::shapes::size_of_shape;
use kernels::{Draw, Drawn, rng};

/// As the kernel takes it.
#[derive(Clone, Copy)]
#[repr(C)]
struct Row {
    divisor: f32,
    top_p: f32,
    top_k: u32,
    n_tokens: u32,
    added: u32,
    added_len: u32,
    allowed: u32,
    greedy: u32,
    random: u64,
}

// SAFETY: eight numbers of four bytes, then one of eight.
unsafe impl Plain for Row {}

/// No list of allowed tokens; no token.
const NOBODY: u32 = u32::MAX;
const NOT_FINITE: u32 = u32::MAX - 1;

pub(crate) fn draw(
    cuda: &Cuda,
    out: &mut [Drawn],
    logits: &CudaTensor,
    vocab_size: usize,
    draws: &[Draw<'_>],
) {
    let values = size_of_shape("draw", &[draws.len(), vocab_size]);
    assert_len(logits, values, "logits");
    assert_eq!(out.len(), draws.len(), "draw: results");
    if draws.is_empty() {
        return;
    }
    let (mut added, mut allowed) = (Vec::new(), Vec::new());
    let row = |draw: &Draw<'_>| {
        draw.assert_fits(vocab_size);
        let (n_tokens, first) = (draw.n_tokens, added.len());
        added.extend(draw.added.iter().flat_map(|&(id, more)| [id, more.to_bits()]));
        let bits = draw.allowed.map_or(NOBODY, |bits| {
            let first = allowed.len() as u32;
            allowed.extend_from_slice(&bits[..n_tokens.div_ceil(32)]);
            first
        });
        let [seed, stream, index] = draw.random;
        Row {
            divisor: draw.divisor(),
            top_p: draw.top_p,
            top_k: draw.top_k.min(n_tokens) as u32,
            n_tokens: n_tokens as u32,
            added: first as u32,
            added_len: draw.added.len() as u32,
            allowed: bits,
            greedy: u32::from(draw.temperature <= 0.0),
            random: rng::bits(seed, stream, index),
        }
    };
    let rows: Vec<Row> = draws.iter().map(row).collect();
    let device = cuda.device();
    let rows = Buffer::of(device, &rows);
    let (added, allowed) = (Buffer::of(device, &added), Buffer::of(device, &allowed));
    let (keys, weights, drawn) =
        (cuda.scratch(4 * values), cuda.scratch(8 * values), cuda.scratch(4 * draws.len()));
    launch!(cuda, "draw", [draws.len(), 1, 1], 512, 0;
        drawn.at(), keys.at(), weights.at(), logits.at(), rows.at(), added.at(), allowed.at(), int(vocab_size));
    let mut ids = vec![0u32; draws.len()];
    // SAFETY: as many were drawn.
    unsafe { device.download(bytes_of_mut(&mut ids), drawn.at()) };
    for (out, id) in out.iter_mut().zip(ids) {
        *out = match id {
            NOBODY => Drawn::Nothing,
            NOT_FINITE => Drawn::NotFinite,
            id => Drawn::Token(id),
        };
    }
}
