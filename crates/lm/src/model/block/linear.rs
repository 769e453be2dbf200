//! A linear layer and the adapter beside it, forward and backward.
//!
//! With DoRA (Liu et al. 2024) the layer's product `z = x Wᵀ + scale · (x Aᵀ) Bᵀ` is scaled column by column to
//! learned magnitudes: `y = bias + m / n ⊙ z`, where `n` is the norm of a row of `W + scale · B A`, taken as a
//! constant.

use super::super::{Linear, Pair};
use kernels::{Backend, Dropout, LinearShape};

/// A linear layer of a pass.
pub(super) struct Layer<'a, T> {
    pub(super) linear: &'a Linear<T>,
    pub(super) shape: LinearShape,
    /// What stands beside it, and where of its input values are dropped.
    pub(super) pair: Option<(&'a Pair<T>, Option<Dropout>)>,
}

/// Gradients of what is learned of a layer.
pub(super) struct Learned<'a, T> {
    /// Of the matrix and its bias, where they are learned.
    pub(super) linear: Option<&'a mut Linear<T>>,
    /// Of its adapter.
    pub(super) pair: Option<&'a mut Pair<T>>,
    /// Rows of the groups within which they are summed first.
    pub(super) groups: &'a [usize],
}

/// What an adapter's forward pass keeps for its backward pass.
pub(super) struct Kept<T> {
    /// `scale · drop(x) Aᵀ`.
    low: T,
    /// Where there are magnitudes: `z`, `m / n` and `1 / n`.
    product: T,
    gain: T,
    inverse: T,
}

impl<T> Kept<T> {
    pub(super) fn new<B: Backend<Tensor = T>>(b: &mut B) -> Self {
        Kept { low: b.activation(0), product: b.activation(0), gain: b.zeros(0), inverse: b.zeros(0) }
    }
}

/// Values between an adapter's operations, used by one layer after another.
pub(in super::super) struct Scratch<T> {
    /// The layer's input after dropout, or its gradient.
    input: T,
    /// What is added to the layer's product.
    product: T,
    /// The gradient of `x Aᵀ`.
    low: T,
    /// Of magnitudes: the gradient of `z`, the merged matrix and what is made of it, and ones.
    dproduct: T,
    merged: T,
    normed: T,
    ones: T,
}

impl<T> Scratch<T> {
    pub(in super::super) fn new<B: Backend<Tensor = T>>(b: &mut B) -> Self {
        let [input, product, low, dproduct, normed] = [(); 5].map(|()| b.activation(0));
        Scratch { input, product, low, dproduct, merged: b.zeros(0), normed, ones: b.zeros(0) }
    }
}

impl<T> Layer<'_, T> {
    /// `out = x Wᵀ + bias + scale · (drop(x) Aᵀ) Bᵀ`, or with magnitudes as above.
    pub(super) fn forward<B: Backend<Tensor = T>>(
        &self,
        b: &mut B,
        out: &mut T,
        kept: &mut Kept<T>,
        scratch: &mut Scratch<T>,
        x: &T,
    ) {
        let Layer { linear: Linear { weight, bias }, shape, pair } = self;
        let Some((pair, dropout)) = pair else {
            return b.linear_forward(out, x, weight, bias.as_ref(), *shape);
        };
        let low_rank = LowRankShapes::of(pair, shape.rows);
        b.resize(&mut kept.low, shape.rows * low_rank.into.d_out);
        b.resize(&mut scratch.product, shape.rows * shape.d_out);
        let dropped = dropped(b, &mut scratch.input, x, shape.d_in, dropout.as_ref());
        b.linear_forward(&mut kept.low, dropped, &pair.a, None, low_rank.into);
        b.scale(&mut kept.low, pair.shape.scale);
        b.linear_forward(&mut scratch.product, &kept.low, &pair.b, None, low_rank.out_of);
        let Some(magnitude) = &pair.magnitude else {
            b.linear_forward(out, x, weight, bias.as_ref(), *shape);
            return b.accumulate(out, &scratch.product);
        };
        b.resize(&mut kept.product, shape.rows * shape.d_out);
        b.linear_forward(&mut kept.product, x, weight, None, *shape);
        b.accumulate(&mut kept.product, &scratch.product);
        norms(b, kept, scratch, weight, pair, magnitude);
        b.copy(out, &kept.product);
        b.scale_columns(out, &kept.gain, bias.as_ref());
    }

    /// `dx` from `dout`, and what is added to the gradients.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn backward<B: Backend<Tensor = T>>(
        &self,
        b: &mut B,
        dx: &mut T,
        learned: Learned<'_, T>,
        scratch: &mut Scratch<T>,
        dout: &T,
        x: &T,
        kept: &Kept<T>,
    ) {
        self.backward_weight(b, learned, scratch, dout, x, kept);
        let Layer { linear, shape, pair } = self;
        let has_magnitude = pair.as_ref().is_some_and(|(pair, _)| pair.magnitude.is_some());
        let dproduct = if has_magnitude { &scratch.dproduct } else { dout };
        b.linear_backward_input(dx, dproduct, &linear.weight, *shape);
        let Some((pair, dropout)) = pair else { return };
        let Scratch { input, low, .. } = scratch;
        b.resize(input, shape.rows * shape.d_in);
        b.linear_backward_input(input, low, &pair.a, LowRankShapes::of(pair, shape.rows).into);
        if let Some(dropout) = dropout {
            b.dropout(input, shape.d_in, dropout);
        }
        b.accumulate(dx, input);
    }

    /// The gradients alone; leaves those of `x Aᵀ` and of `z` in `scratch`.
    pub(super) fn backward_weight<B: Backend<Tensor = T>>(
        &self,
        b: &mut B,
        learned: Learned<'_, T>,
        scratch: &mut Scratch<T>,
        dout: &T,
        x: &T,
        kept: &Kept<T>,
    ) {
        let Learned { linear, pair: dpair, groups } = learned;
        let (shape, rows) = (self.shape, self.shape.rows);
        if let Some(Linear { weight, bias }) = linear {
            b.linear_backward_weight(weight, bias.as_mut(), dout, x, shape, groups);
        }
        let (Some((pair, dropout)), Some(dpair)) = (&self.pair, dpair) else { return };
        let LowRankShapes { into, out_of } = LowRankShapes::of(pair, rows);
        let Scratch { input, product, low, dproduct, ones, .. } = scratch;
        let mut dout = dout;
        if let Some(dmagnitude) = &mut dpair.magnitude {
            for (tensor, len) in
                [(&mut *product, rows * shape.d_out), (dproduct, rows * shape.d_out), (ones, rows)]
            {
                b.resize(tensor, len);
            }
            b.copy(product, dout);
            b.scale_columns(product, &kept.product, None);
            b.scale_columns(product, &kept.inverse, None);
            // The sum of the rows.
            b.fill(ones, 1.0);
            let sum = LinearShape { rows, d_in: 1, d_out: shape.d_out };
            b.linear_backward_weight(dmagnitude, None, product, ones, sum, groups);
            b.copy(dproduct, dout);
            b.scale_columns(dproduct, &kept.gain, None);
            dout = dproduct;
        }
        b.resize(low, rows * into.d_out);
        b.linear_backward_weight(&mut dpair.b, None, dout, &kept.low, out_of, groups);
        b.linear_backward_input(low, dout, &pair.b, out_of);
        b.scale(low, pair.shape.scale);
        let x = dropped(b, input, x, shape.d_in, dropout.as_ref());
        b.linear_backward_weight(&mut dpair.a, None, low, x, into, groups);
    }
}

/// `kept.inverse = 1 / n` and `kept.gain = m / n`, by way of the merged matrix.
fn norms<B: Backend>(
    b: &mut B,
    kept: &mut Kept<B::Tensor>,
    scratch: &mut Scratch<B::Tensor>,
    weight: &B::Tensor,
    pair: &Pair<B::Tensor>,
    magnitude: &B::Tensor,
) {
    let (shape, Scratch { merged, normed, ones, .. }) = (&pair.shape, scratch);
    let (d_in, d_out) = (shape.d_in, shape.d_out);
    for (tensor, len) in [(&mut *merged, d_out * d_in), (normed, d_out * d_in), (ones, d_in)] {
        b.resize(tensor, len);
    }
    for tensor in [&mut kept.inverse, &mut kept.gain] {
        b.resize(tensor, d_out);
    }
    b.linear_backward_input(merged, &pair.b, &pair.a, LinearShape { rows: d_out, d_in, d_out: shape.rank() });
    b.scale(merged, shape.scale);
    b.accumulate(merged, weight);
    b.fill(ones, 1.0);
    // Its statistics are √d_in / n.
    b.rms_norm_forward(normed, &mut kept.inverse, merged, ones, 0.0);
    b.scale(&mut kept.inverse, 1.0 / (d_in as f32).sqrt());
    b.copy(&mut kept.gain, magnitude);
    b.scale_columns(&mut kept.gain, &kept.inverse, None);
}

/// The shapes of the products with `A` and with `B`.
struct LowRankShapes {
    into: LinearShape,
    out_of: LinearShape,
}

impl LowRankShapes {
    fn of<T>(pair: &Pair<T>, rows: usize) -> Self {
        let (rank, shape) = (pair.shape.rank(), &pair.shape);
        LowRankShapes {
            into: LinearShape { rows, d_in: shape.d_in, d_out: rank },
            out_of: LinearShape { rows, d_in: rank, d_out: shape.d_out },
        }
    }
}

/// A layer's input with values dropped, in `kept`; as it is where none are.
fn dropped<'a, B: Backend>(
    b: &mut B,
    kept: &'a mut B::Tensor,
    x: &'a B::Tensor,
    width: usize,
    dropout: Option<&Dropout>,
) -> &'a B::Tensor {
    let Some(dropout) = dropout else { return x };
    b.resize(kept, b.len(x));
    b.copy(kept, x);
    b.dropout(kept, width, dropout);
    kept
}
