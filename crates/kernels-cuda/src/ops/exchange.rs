//! What the GPUs of several processes do together: sums, and weights that one of them has updated.
//!
//! A [`Link`](crate::device::Link) only moves bytes. What is added up is added here, in the order that the caller says,
//! so that a sum has the bits that it has on the host.

use super::{int, launch};
use crate::device::{Address, Piece};
use crate::memory::Buffer;
use crate::{Cuda, CudaTensor};

/// Bytes that are on their way at once: as many as through the hosts.
const BUCKET_BYTES: usize = 16 << 20;
/// Shares of a bucket are multiples of so many values: each begins on a boundary of memory.
const ALIGNMENT: usize = crate::memory::ALIGNMENT / size_of::<f32>();
/// Values that a block goes through.
const BLOCK: usize = 1024;

pub(crate) fn add_up(
    cuda: &Cuda,
    tensors: &mut [&mut CudaTensor],
    additions: &[[usize; 2]],
    sum: usize,
) -> bool {
    let Some(link) = cuda.device().link() else { return false };
    let pieces = pieces(tensors, true);
    let list: Vec<u32> = additions.iter().flatten().map(|&part| int(part) as u32).collect();
    let list = Buffer::of(cuda.device(), &list);
    let total = pieces.iter().map(|piece| piece.bytes).sum::<usize>();
    let share = |bytes: usize| (bytes / size_of::<f32>()).div_ceil(link.size()).next_multiple_of(ALIGNMENT);
    let most = size_of::<f32>() * share(total.min(BUCKET_BYTES)) * link.size();
    let [whole, parts] = [(); 2].map(|()| cuda.scratch(most));
    for bucket in buckets(&pieces) {
        let len = share(bucket.iter().map(|piece| piece.bytes).sum());
        let bytes = size_of::<f32>() * len;
        // What is beyond the values comes back as it went, or as a sum that nobody reads.
        // SAFETY: the pieces are within tensors; both scratches have room for a share of every process.
        unsafe {
            beside(&bucket, whole.at(), |piece, at| cuda.device().copy(at, piece.at, piece.bytes));
            link.all_to_all(parts.at(), whole.at(), bytes);
        }
        let (blocks, count) = (len.div_ceil(BLOCK), int(additions.len()));
        launch!(cuda, "add_parts", [blocks, 1, 1], 256, 0; parts.at(), len as u64, list.at(), count);
        // SAFETY: as above.
        unsafe {
            link.all_gather(whole.at(), parts.at() + (sum * bytes) as Address, bytes);
            beside(&bucket, whole.at(), |piece, at| cuda.device().copy(piece.at, at, piece.bytes));
        }
    }
    true
}

pub(crate) fn send(cuda: &Cuda, tensors: &mut [&mut CudaTensor], from: usize) -> bool {
    let Some(link) = cuda.device().link() else { return false };
    // Where they come from nothing changes, and the copies that products read stay what they are.
    let pieces = pieces(tensors, link.rank() != from);
    if !pieces.is_empty() {
        // SAFETY: they are within tensors.
        unsafe { link.broadcast(&pieces, from) };
    }
    true
}

/// Where the values are; neighbours in an arena, with what is between them, are one piece.
fn pieces(tensors: &mut [&mut CudaTensor], written: bool) -> Vec<Piece> {
    for tensor in tensors.iter_mut() {
        assert!(!tensor.bf16(), "an exchange: a tensor that is not kept exactly");
        if written {
            tensor.at_mut();
        }
    }
    let runs = tensors.chunk_by(|a, b| a.is_beside(b) && a.end() == b.at());
    let piece = |run: &[&mut CudaTensor]| {
        let (first, last) = (run.first()?, run.last()?);
        let bytes = (last.at() - first.at()) as usize + last.bytes();
        (bytes > 0).then_some(Piece { at: first.at(), bytes })
    };
    runs.filter_map(piece).collect()
}

/// Pieces, or parts of them, that are on their way together.
fn buckets(pieces: &[Piece]) -> Vec<Vec<Piece>> {
    let (mut buckets, mut room) = (Vec::<Vec<Piece>>::new(), 0);
    for &Piece { mut at, mut bytes } in pieces {
        while bytes > 0 {
            if room == 0 {
                buckets.push(Vec::new());
                room = BUCKET_BYTES;
            }
            let part = Piece { at, bytes: bytes.min(room) };
            if let Some(bucket) = buckets.last_mut() {
                bucket.push(part);
            }
            (at, bytes, room) = (at + part.bytes as Address, bytes - part.bytes, room - part.bytes);
        }
    }
    buckets
}

/// Calls `copy` with every piece and where it is when they are side by side from `at` on.
fn beside(pieces: &[Piece], mut at: Address, copy: impl Fn(Piece, Address)) {
    for &piece in pieces {
        copy(piece, at);
        at += piece.bytes as Address;
    }
}
