//! Operations element by element.

use super::{F64Tensor, assert_len, assert_rows};
use crate::{AdamW, Dropout, Parameter, rng};

/// √(2/π), of the GELU.
const GELU_SCALE: f64 = std::f64::consts::FRAC_2_SQRT_PI * std::f64::consts::FRAC_1_SQRT_2;
const GELU_CUBIC: f64 = 0.044715;

fn gelu_inner(x: f64) -> f64 {
    GELU_SCALE * (x + GELU_CUBIC * x * x * x)
}

pub(super) fn gelu_forward(out: &mut F64Tensor, x: &F64Tensor) {
    assert_len(x, out.0.len(), "x");
    for (out, &x) in out.0.iter_mut().zip(&x.0) {
        *out = 0.5 * x * (1.0 + gelu_inner(x).tanh());
    }
}

pub(super) fn gelu_backward(dx: &mut F64Tensor, dout: &F64Tensor, x: &F64Tensor) {
    assert_len(dout, dx.0.len(), "dout");
    assert_len(x, dx.0.len(), "x");
    for (i, dx) in dx.0.iter_mut().enumerate() {
        let x = x.0[i];
        let tanh = gelu_inner(x).tanh();
        let dinner = GELU_SCALE * (1.0 + 3.0 * GELU_CUBIC * x * x);
        *dx = dout.0[i] * (0.5 * (1.0 + tanh) + 0.5 * x * (1.0 - tanh * tanh) * dinner);
    }
}

pub(super) fn adamw(
    parameters: &mut [Parameter<'_, F64Tensor>],
    settings: &AdamW,
    updates: &mut [f64],
    norms: &mut Vec<f64>,
    finite: &[&Vec<f64>],
) {
    let Some(step) = settings.begin(updates, norms, finite) else { return };
    let [lr, beta1, beta2] = [settings.lr, settings.beta1, settings.beta2].map(f64::from);
    let correction = |beta: f64| 1.0 - beta.powf(step.t);
    for Parameter { weight, m, v, grad, weight_decay } in parameters {
        for (x, name) in [(&**m, "m"), (v, "v"), (grad, "grad")] {
            assert_len(x, weight.0.len(), name);
        }
        let weight_decay = f64::from(*weight_decay);
        for (i, w) in weight.0.iter_mut().enumerate() {
            let g = grad.0[i] * f64::from(step.grad_scale);
            m.0[i] = beta1 * m.0[i] + (1.0 - beta1) * g;
            v.0[i] = beta2 * v.0[i] + (1.0 - beta2) * g * g;
            let (m_hat, v_hat) = (m.0[i] / correction(beta1), v.0[i] / correction(beta2));
            *w -= lr * (m_hat / (v_hat.sqrt() + f64::from(step.eps)) + weight_decay * *w);
        }
    }
}

pub(super) fn scale_columns(x: &mut F64Tensor, factors: &F64Tensor, bias: Option<&F64Tensor>) {
    let width = factors.0.len();
    assert_rows(x, width, "x");
    if let Some(bias) = bias {
        assert_len(bias, width, "bias");
    }
    for row in x.0.chunks_exact_mut(width) {
        for (c, x) in row.iter_mut().enumerate() {
            *x = *x * factors.0[c] + bias.map_or(0.0, |bias| bias.0[c]);
        }
    }
}

pub(super) fn average(mean: &mut F64Tensor, x: &F64Tensor, decay: f32) {
    assert_len(x, mean.0.len(), "x");
    let decay = f64::from(decay);
    for (mean, &x) in mean.0.iter_mut().zip(&x.0) {
        *mean = decay * *mean + (1.0 - decay) * x;
    }
}

pub(super) fn dropout(x: &mut F64Tensor, width: usize, dropout: &Dropout) {
    assert_rows(x, width, "x");
    for (r, row) in x.0.chunks_exact_mut(width).enumerate() {
        for (c, x) in row.iter_mut().enumerate() {
            *x *= keep(dropout, width, r, c);
        }
    }
}

/// What [`Dropout`] multiplies the value in row `r`, column `c` by.
pub(super) fn keep(dropout: &Dropout, width: usize, r: usize, c: usize) -> f64 {
    // Numbers of random numbers may wrap.
    let row = dropout.first_row.wrapping_add(r as u64);
    let index = row.wrapping_mul(width as u64).wrapping_add(c as u64);
    let dropped = rng::uniform(dropout.seed, dropout.stream, index) < dropout.p;
    if dropped { 0.0 } else { 1.0 / (1.0 - f64::from(dropout.p)) }
}
