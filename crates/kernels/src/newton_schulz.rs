//! Newton–Schulz steps towards the nearest matrix with orthonormal rows or columns, as products that a backend has.

use crate::{Backend, LinearShape, shapes::size_of_shape};

/// Steps of [`Backend::newton_schulz`], and the polynomial's coefficients (Jordan et al. 2024): singular values σ become `aσ +
/// bσ³ + cσ⁵` in each, and those above 0.01 end between 0.68 and 1.14.
const STEPS: usize = 5;
/// See [`STEPS`].
const COEFFICIENTS: [f32; 3] = [3.4445, -4.775, 2.0315];

/// Floating-point operations of [`Backend::newton_schulz`]: its products'.
pub fn newton_schulz_flops(rows: usize, columns: usize) -> f64 {
    let (side, long) = (rows.min(columns) as f64, rows.max(columns) as f64);
    STEPS as f64 * 2.0 * side * side * (2.0 * long + side)
}

/// [`Backend::newton_schulz`] in the precision that the products of `b` have.
pub fn newton_schulz<B: Backend>(
    b: &mut B,
    x: &mut B::Tensor,
    work: [&mut B::Tensor; 3],
    rows: usize,
    columns: usize,
) {
    let len = size_of_shape("newton_schulz", &[rows, columns]);
    assert_eq!(b.len(x), len, "newton_schulz: values of a matrix of {rows} rows and {columns} columns");
    if len == 0 {
        return;
    }
    let [gram, square, product] = work;
    let (side, wide) = (rows.min(columns), rows <= columns);
    for tensor in [&mut *gram, &mut *square] {
        b.resize(tensor, side * side);
    }
    b.resize(product, len);
    let linear = |rows, d_in, d_out| LinearShape { rows, d_in, d_out };
    let of_side = linear(side, side, side);
    let [a, by_gram, by_square] = COEFFICIENTS;
    for _ in 0..STEPS {
        if wide {
            b.linear_forward(gram, x, x, None, linear(rows, columns, rows));
        } else {
            b.fill(gram, 0.0);
            b.linear_backward_weight(gram, None, x, x, linear(rows, columns, columns), &[rows]);
        }
        // Symmetric, so that times its transpose is its square.
        b.linear_forward(square, gram, gram, None, of_side);
        b.scale(square, by_square);
        b.scale(gram, by_gram);
        b.accumulate(square, gram);
        if wide {
            b.linear_backward_input(product, square, x, linear(rows, columns, rows));
        } else {
            b.linear_forward(product, x, square, None, linear(rows, columns, columns));
        }
        b.scale(x, a);
        b.accumulate(x, product);
    }
}
