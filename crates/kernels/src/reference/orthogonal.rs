//! Newton–Schulz steps, in the words of the paper.

use super::{F64Tensor, assert_len};
use crate::shapes::size_of_shape;

/// A matrix, its rows and its columns.
type Matrix = (Vec<f64>, usize, usize);

fn product((a, rows, inner): &Matrix, (b, same, columns): &Matrix) -> Matrix {
    assert_eq!(inner, same, "newton_schulz: a product's inner size");
    let mut out = vec![0.0; rows * columns];
    for r in 0..*rows {
        for k in 0..*inner {
            super::add_scaled(
                &mut out[r * columns..(r + 1) * columns],
                a[r * inner + k],
                &b[k * columns..(k + 1) * columns],
            );
        }
    }
    (out, *rows, *columns)
}

fn transposed((a, rows, columns): &Matrix) -> Matrix {
    let out = (0..rows * columns).map(|i| a[i % rows * columns + i / rows]).collect();
    (out, *columns, *rows)
}

pub(super) fn newton_schulz(x: &mut F64Tensor, rows: usize, columns: usize) {
    assert_len(x, size_of_shape("newton_schulz", &[rows, columns]), "newton_schulz: the matrix");
    let mut matrix = (x.0.clone(), rows, columns);
    if rows > columns {
        matrix = transposed(&matrix);
    }
    for _ in 0..5 {
        let gram = product(&matrix, &transposed(&matrix));
        let square = product(&gram, &gram);
        let both = gram.0.iter().zip(&square.0).map(|(a, a2)| -4.775 * a + 2.0315 * a2).collect();
        let added = product(&(both, gram.1, gram.2), &matrix);
        matrix.0.iter_mut().zip(&added.0).for_each(|(x, added)| *x = 3.4445 * *x + added);
    }
    if rows > columns {
        matrix = transposed(&matrix);
    }
    x.0 = matrix.0;
}
