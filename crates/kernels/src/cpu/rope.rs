//! Rotary position embedding (Su et al. 2021).

use super::Cpu;
use super::level::multiversion;
use super::rows::for_each_rows;
use super::tensor::{CpuTensor, ValuesMut};
use crate::AttentionShape;
use crate::shapes::{assert_rows_exist, size_of_shape};

/// Turns every pair by its angle times `direction`: 1 forward, -1 back.
pub(super) fn rotate(
    cpu: &mut Cpu,
    qkv: &mut CpuTensor,
    table: &CpuTensor,
    positions: &[u32],
    shape: &AttentionShape,
    direction: f32,
) {
    let operation = if direction > 0.0 { "rope_forward" } else { "rope_backward" };
    shape.assert_valid(operation);
    assert!(shape.head_dim.is_multiple_of(2), "a head of {} values has no pairs", shape.head_dim);
    assert_eq!(qkv.len(), size_of_shape(operation, &[positions.len(), shape.qkv_width()]), "values of qkv");
    assert_rows_exist(operation, positions, table.len(), shape.head_dim);
    let (level, qkv, table) = (cpu.options.level, qkv.sink(), table.f32s());
    let width = shape.qkv_width();
    for_each_rows(&mut cpu.pool, positions.len(), width, |rows, [scratch, ..]| {
        // SAFETY: every row is handed out once.
        let mut qkv = unsafe { qkv.part(rows.start * width, rows.len() * width) };
        rotate_rows(level, &mut qkv, table, &positions[rows], shape, direction, scratch);
    });
}

multiversion! {
    fn rotate_rows(
        qkv: &mut ValuesMut<'_>,
        table: &[f32],
        positions: &[u32],
        shape: &AttentionShape,
        direction: f32,
        scratch: &mut [f32],
    ) {
        let (head_dim, half) = (shape.head_dim, shape.head_dim / 2);
        for (r, &position) in positions.iter().enumerate() {
            let (cos, sin) = table[position as usize * head_dim..][..head_dim].split_at(half);
            let heads = qkv.update(r * shape.qkv_width(), shape.q_width() + shape.kv_width(), scratch);
            for head in heads.values.chunks_exact_mut(head_dim) {
                let (a, b) = head.split_at_mut(half);
                for (((a, b), cos), sin) in a.iter_mut().zip(b).zip(cos).zip(sin) {
                    let sin = direction * sin;
                    (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
                }
            }
            heads.store();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::testing::{for_every_cpu, random, tensor};

    #[test]
    fn bits_depend_on_neither_threads_nor_level() {
        let positions: Vec<u32> = (0..150).map(|i| i * i % 37).collect();
        // Halves that fill no vector.
        let shape = AttentionShape { n_head: 6, n_kv_head: 2, head_dim: 22, scale: 1.0, window: None };
        for_every_cpu(|cpu| {
            let table = tensor(cpu, 1, 37 * shape.head_dim);
            let [mut there, mut back] = [2, 3].map(|seed| random(cpu, seed, 150 * shape.qkv_width()));
            rotate(cpu, &mut there, &table, &positions, &shape, 1.0);
            rotate(cpu, &mut back, &table, &positions, &shape, -1.0);
            vec![there, back]
        });
    }
}
