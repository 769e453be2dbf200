//! Rotary position embedding, one pair at a time.

use super::{F64Tensor, assert_len, row};
use crate::AttentionShape;
use crate::shapes::{assert_rows_exist, size_of_shape};

/// Turns every pair by its angle times `direction`: 1 forward, -1 back.
pub(super) fn rotate(
    qkv: &mut F64Tensor,
    table: &F64Tensor,
    positions: &[u32],
    shape: &AttentionShape,
    direction: f64,
) {
    let (head_dim, half) = (shape.head_dim, shape.head_dim / 2);
    let operation = if direction > 0.0 { "rope_forward" } else { "rope_backward" };
    shape.assert_valid(operation);
    assert!(head_dim.is_multiple_of(2), "a head of {head_dim} values has no pairs");
    assert_len(qkv, size_of_shape(operation, &[positions.len(), shape.qkv_width()]), "qkv");
    assert_rows_exist(operation, positions, table.0.len(), head_dim);
    for (qkv, &position) in qkv.0.chunks_exact_mut(shape.qkv_width()).zip(positions) {
        let (cos, sin) = row(&table.0, position as usize, head_dim).split_at(half);
        for head in qkv[..shape.q_width() + shape.kv_width()].chunks_exact_mut(head_dim) {
            for i in 0..half {
                let (a, b, sin) = (head[i], head[i + half], direction * sin[i]);
                head[i] = a * cos[i] - b * sin;
                head[i + half] = b * cos[i] + a * sin;
            }
        }
    }
}
