//! Rows that are looked up: embedding and gathering.
//!
//! Where rows are independent, threads take runs of rows. Where several rows are added to the same one,
//! threads take columns instead and go through the rows in order, so that the sums do not depend on chance.

use super::Cpu;
use super::level::multiversion;
use super::pointwise::add_to;
use super::pool::{Disjoint, Pool};
use super::tensor::{CpuTensor, Values, ValuesMut};
use crate::shapes::{assert_rows_exist, size_of_shape};
use std::ops::Range;

/// Values that are worth a chunk of their own.
const CHUNK: usize = 1 << 14;
/// Columns of a chunk where threads take columns: whole cache lines in either precision.
const COLUMNS: usize = 64;

pub(super) fn embed_forward(
    cpu: &mut Cpu,
    out: &mut CpuTensor,
    wte: &CpuTensor,
    wpe: Option<&CpuTensor>,
    tokens: &[u32],
    positions: &[u32],
    d_model: usize,
) {
    assert_looked_up("embed_forward", out, wte, tokens, d_model);
    if let Some(wpe) = wpe {
        assert_looked_up("embed_forward", out, wpe, positions, d_model);
    }
    look_up(cpu, out, wte, wpe, tokens, positions, d_model);
}

/// What embedding and gathering do once their shapes are known to be right.
fn look_up(
    cpu: &mut Cpu,
    out: &mut CpuTensor,
    wte: &CpuTensor,
    wpe: Option<&CpuTensor>,
    tokens: &[u32],
    positions: &[u32],
    d_model: usize,
) {
    let (level, out, wte, wpe) = (cpu.options.level, out.sink(), wte.values(), wpe.map(CpuTensor::values));
    for_each_rows(&mut cpu.pool, tokens.len(), d_model, |rows, [a, b, c]| {
        for r in rows {
            let wte = wte.part(tokens[r] as usize * d_model, d_model);
            let wpe = wpe.map(|wpe| wpe.part(positions[r] as usize * d_model, d_model));
            // SAFETY: every row is handed out once.
            let mut out = unsafe { out.part(r * d_model, d_model) };
            embed_row(level, &mut out, wte, wpe, a, b, c);
        }
    });
}

pub(super) fn embed_backward(
    cpu: &mut Cpu,
    dwte: &mut CpuTensor,
    dwpe: Option<&mut CpuTensor>,
    dout: &CpuTensor,
    tokens: &[u32],
    positions: &[u32],
    d_model: usize,
) {
    assert_looked_up("embed_backward", dout, dwte, tokens, d_model);
    if let Some(dwpe) = &dwpe {
        assert_looked_up("embed_backward", dout, dwpe, positions, d_model);
    }
    add_rows(cpu, dwte, dout, tokens, d_model);
    if let Some(dwpe) = dwpe {
        add_rows(cpu, dwpe, dout, positions, d_model);
    }
}

pub(super) fn gather_forward(cpu: &mut Cpu, out: &mut CpuTensor, x: &CpuTensor, rows: &[u32], width: usize) {
    assert_looked_up("gather_forward", out, x, rows, width);
    look_up(cpu, out, x, None, rows, &[], width);
}

pub(super) fn gather_backward(
    cpu: &mut Cpu,
    dx: &mut CpuTensor,
    dout: &CpuTensor,
    rows: &[u32],
    width: usize,
) {
    assert_looked_up("gather_backward", dout, dx, rows, width);
    add_rows(cpu, dx, dout, rows, width);
}

/// What the backward passes do once their shapes are known to be right.
fn add_rows(cpu: &mut Cpu, dx: &mut CpuTensor, dout: &CpuTensor, rows: &[u32], width: usize) {
    if rows.is_empty() {
        return;
    }
    let (level, dx, dout) = (cpu.options.level, Disjoint::new(dx.f32s_mut()), dout.values());
    // Few rows are one thread's work.
    let columns = if rows.len() * width <= CHUNK { width.max(1) } else { COLUMNS };
    cpu.pool.run(width.div_ceil(columns), &|chunk, scratch| {
        let columns = chunk * columns..width.min((chunk + 1) * columns);
        let scratch = scratch.buffers[0].floats(columns.len());
        // SAFETY: every column is handed out once.
        unsafe { add_columns(level, &dx, dout, rows, width, columns, scratch) };
    });
}

/// Rows of `width` values, as many as are looked up, all of them in the table.
fn assert_looked_up(operation: &str, values: &CpuTensor, table: &CpuTensor, rows: &[u32], width: usize) {
    let expected = size_of_shape(operation, &[rows.len(), width]);
    assert_eq!(values.len(), expected, "{operation}: values of the rows that are looked up");
    assert_rows_exist(operation, rows, table.len(), width);
}

/// Cuts the rows of each group into runs of at most `most` rows.
pub(super) fn cut_groups(runs: &mut Vec<Range<usize>>, groups: &[usize], most: usize) {
    runs.clear();
    let mut start = 0;
    for &rows in groups {
        let end = start + rows;
        runs.extend((start..end).step_by(most).map(|start| start..end.min(start.saturating_add(most))));
        start = end;
    }
}

/// Calls `work` with runs of `0..rows`, and three scratch rows of `width` values.
pub(super) fn for_each_rows(
    pool: &mut Pool,
    rows: usize,
    width: usize,
    work: impl Fn(Range<usize>, [&mut [f32]; 3]) + Sync,
) {
    let chunk_rows = (CHUNK / width.max(1)).max(1);
    pool.run(rows.div_ceil(chunk_rows), &|chunk, scratch| {
        let [a, b, c, ..] = &mut scratch.buffers;
        let scratch = [a.floats(width), b.floats(width), c.floats(width)];
        work(chunk * chunk_rows..rows.min((chunk + 1) * chunk_rows), scratch);
    });
}

multiversion! {
    /// `out` becomes `wte + wpe`.
    fn embed_row(
        out: &mut ValuesMut<'_>,
        wte: Values<'_>,
        wpe: Option<Values<'_>>,
        scratch: &mut [f32],
        scratch_wte: &mut [f32],
        scratch_wpe: &mut [f32],
    ) {
        let len = wte.len();
        let wte = wte.read(0, len, scratch_wte);
        let wpe = wpe.as_ref().map(|wpe| wpe.read(0, len, scratch_wpe));
        let out = out.overwrite(0, len, scratch);
        match wpe {
            None => out.values.copy_from_slice(wte),
            Some(wpe) => {
                for ((out, a), b) in out.values.iter_mut().zip(wte).zip(wpe) {
                    *out = a + b;
                }
            }
        }
        out.store();
    }

    /// `dx[rows[i]] += dout[i]` in some columns.
    ///
    /// # Safety
    ///
    /// No other thread touches these columns of `dx` meanwhile.
    unsafe fn add_columns(
        dx: &Disjoint<'_, f32>,
        dout: Values<'_>,
        rows: &[u32],
        width: usize,
        columns: Range<usize>,
        scratch: &mut [f32],
    ) {
        for (i, &row) in rows.iter().enumerate() {
            let dout = dout.read(i * width + columns.start, columns.len(), scratch);
            // SAFETY: the caller's promise.
            let dx = unsafe { dx.slice(row as usize * width + columns.start, columns.len()) };
            add_to(dx, dout);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::testing::{for_every_cpu, tensor};

    #[test]
    fn bits_depend_on_neither_threads_nor_level() {
        // A width that fills no vector, enough rows for several chunks, and tokens that come again.
        let (width, ids): (usize, Vec<u32>) = (130, (0..300).map(|i| i * i % 37).collect());
        for_every_cpu(|cpu| {
            let [wte, wpe] = [2, 3].map(|seed| tensor(cpu, seed, 37 * width));
            let (mut out, [mut dwte, mut dwpe]) =
                (cpu.activation(300 * width), [(); 2].map(|()| cpu.zeros(37 * width)));
            embed_forward(cpu, &mut out, &wte, Some(&wpe), &ids, &ids, width);
            embed_backward(cpu, &mut dwte, Some(&mut dwpe), &out, &ids, &ids, width);
            vec![out, dwte, dwpe]
        });
    }

    #[test]
    fn no_rows_are_no_work() {
        for_every_cpu(|cpu| {
            let (x, mut none) = (tensor(cpu, 1, 8), cpu.zeros(0));
            gather_forward(cpu, &mut none, &x, &[], 4);
            let mut dx = tensor(cpu, 1, 8);
            gather_backward(cpu, &mut dx, &none, &[], 4);
            assert_eq!(dx.f32s(), x.f32s());
            vec![]
        });
    }
}
