//! Rows that are looked up in a table.

use super::{assert_len, int, kind, launch};
use crate::memory::{Buffer, Sorted};
use crate::{Cuda, CudaIds, CudaTensor};
use kernels::shapes::{assert_rows_exist, size_of_shape};

/// Panics unless `values` are as many rows of `width` as are looked up, all of them in the table.
fn assert_looked_up(operation: &str, values: &CudaTensor, table: &CudaTensor, rows: &CudaIds, width: usize) {
    let len = size_of_shape(operation, &[rows.host().len(), width]);
    assert_len(values, len, "the rows that are looked up");
    assert_rows_exist(operation, rows.host(), table.len(), width);
}

pub(crate) fn embed_forward(
    cuda: &Cuda,
    out: &mut CudaTensor,
    wte: &CudaTensor,
    wpe: Option<&CudaTensor>,
    tokens: &CudaIds,
    positions: &CudaIds,
    d_model: usize,
) {
    assert_looked_up("embed_forward", out, wte, tokens, d_model);
    if let Some(wpe) = wpe {
        assert_looked_up("embed_forward", out, wpe, positions, d_model);
    }
    let (rows, width, to) = (tokens.host().len(), int(d_model), out.at_mut());
    let (second, second_kind) = wpe.map_or((0, 0), |wpe| (wpe.at(), kind(wpe)));
    let (first, tokens, positions) = (wte.at(), tokens.at(), positions.at());
    launch!(cuda, "gather_rows", [rows, 1, 1], 256, 0;
        to, kind(out), first, kind(wte), tokens, second, second_kind, positions, width);
}

pub(crate) fn embed_backward(
    cuda: &Cuda,
    dwte: &mut CudaTensor,
    dwpe: Option<&mut CudaTensor>,
    dout: &CudaTensor,
    tokens: &CudaIds,
    positions: &CudaIds,
    d_model: usize,
) {
    assert_looked_up("embed_backward", dout, dwte, tokens, d_model);
    if let Some(dwpe) = dwpe {
        assert_looked_up("embed_backward", dout, dwpe, positions, d_model);
        scatter(cuda, dwpe, dout, positions, d_model);
    }
    scatter(cuda, dwte, dout, tokens, d_model);
}

pub(crate) fn gather_forward(
    cuda: &Cuda,
    out: &mut CudaTensor,
    x: &CudaTensor,
    rows: &CudaIds,
    width: usize,
) {
    assert_looked_up("gather_forward", out, x, rows, width);
    let (count, width, to, from, rows) = (rows.host().len(), int(width), out.at_mut(), x.at(), rows.at());
    launch!(cuda, "gather_rows", [count, 1, 1], 256, 0;
        to, kind(out), from, kind(x), rows, 0u64, 0i32, rows, width);
}

pub(crate) fn gather_backward(
    cuda: &Cuda,
    dx: &mut CudaTensor,
    dout: &CudaTensor,
    rows: &CudaIds,
    width: usize,
) {
    assert_looked_up("gather_backward", dout, dx, rows, width);
    scatter(cuda, dx, dout, rows, width);
}

/// `table[rows[i]] += x[i]`, in order.
fn scatter(cuda: &Cuda, table: &mut CudaTensor, x: &CudaTensor, rows: &CudaIds, width: usize) {
    let sorted = rows.sorted.get_or_init(|| sort(cuda, rows.host()));
    let (ids, width) = (sorted.buffer.at(), int(width));
    let starts = ids + 4 * sorted.ids as u64;
    let order = starts + 4 * (sorted.ids as u64 + 1);
    let (to, from) = (table.at_mut(), x.at());
    // Every batch has another number of ids.
    cuda.device().part();
    launch!(cuda, "scatter_rows", [sorted.ids, 1, 1], 256, 0;
        to, kind(table), from, kind(x), ids, starts, order, width);
    cuda.device().part();
}

/// Ids once each, and which rows have them.
fn sort(cuda: &Cuda, rows: &[u32]) -> Sorted {
    let mut pairs: Vec<u64> = rows.iter().zip(0u64..).map(|(&id, row)| u64::from(id) << 32 | row).collect();
    pairs.sort_unstable();
    let (mut ids, mut starts) = (Vec::new(), Vec::new());
    for (i, pair) in pairs.iter().enumerate() {
        let id = (pair >> 32) as u32;
        if ids.last() != Some(&id) {
            ids.push(id);
            starts.push(i as u32);
        }
    }
    starts.push(pairs.len() as u32);
    let count = ids.len();
    let mut list: Vec<u32> =
        ids.into_iter().chain(starts).chain(pairs.iter().map(|&pair| pair as u32)).collect();
    // As long as the longest, so that what goes up after it does so from the same place.
    list.resize(3 * rows.len() + 1, 0);
    Sorted { buffer: Buffer::of(cuda.device(), &list), ids: count }
}
