//! Normalisation: of whole rows, and of the heads within them.

use super::{F64Tensor, add_scaled, assert_len, assert_rows, dot, row, row_mut, rows_of_groups};
use crate::AttentionShape;

pub(super) fn layer_forward(
    out: &mut F64Tensor,
    stats: &mut F64Tensor,
    x: &F64Tensor,
    weight: &F64Tensor,
    bias: Option<&F64Tensor>,
    eps: f32,
) {
    let width = weight.0.len();
    let rows = assert_rows(x, width, "x");
    assert_len(out, rows * width, "out");
    assert_len(stats, rows * 2, "stats");
    if let Some(bias) = bias {
        assert_len(bias, width, "bias");
    }
    for r in 0..rows {
        let x = row(&x.0, r, width);
        let mean = x.iter().sum::<f64>() / width as f64;
        let variance = x.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / width as f64;
        let rstd = 1.0 / (variance + f64::from(eps)).sqrt();
        row_mut(&mut stats.0, r, 2).copy_from_slice(&[mean, rstd]);
        for (c, out) in row_mut(&mut out.0, r, width).iter_mut().enumerate() {
            *out = (x[c] - mean) * rstd * weight.0[c] + bias.map_or(0.0, |bias| bias.0[c]);
        }
    }
}

#[allow(clippy::too_many_arguments)]
pub(super) fn layer_backward(
    dx: &mut F64Tensor,
    dweight: &mut F64Tensor,
    mut dbias: Option<&mut F64Tensor>,
    dout: &F64Tensor,
    x: &F64Tensor,
    stats: &F64Tensor,
    weight: &F64Tensor,
    groups: &[usize],
) {
    let width = weight.0.len();
    let rows = assert_rows(x, width, "x");
    assert_len(dx, rows * width, "dx");
    assert_len(dout, rows * width, "dout");
    assert_len(stats, rows * 2, "stats");
    assert_len(dweight, width, "dweight");
    for group in rows_of_groups("layer_norm_backward", groups, rows) {
        let (mut dweight_sum, mut dbias_sum) = (vec![0.0; width], vec![0.0; width]);
        for r in group {
            let (x, dout) = (row(&x.0, r, width), row(&dout.0, r, width));
            let (mean, rstd) = (stats.0[2 * r], stats.0[2 * r + 1]);
            let x_hat: Vec<f64> = x.iter().map(|x| (x - mean) * rstd).collect();
            let g: Vec<f64> = dout.iter().zip(&weight.0).map(|(dout, weight)| dout * weight).collect();
            let mean_g = g.iter().sum::<f64>() / width as f64;
            let mean_gx = dot(&g, &x_hat) / width as f64;
            for (c, dx) in row_mut(&mut dx.0, r, width).iter_mut().enumerate() {
                *dx += rstd * (g[c] - mean_g - x_hat[c] * mean_gx);
                dweight_sum[c] += dout[c] * x_hat[c];
                dbias_sum[c] += dout[c];
            }
        }
        add_scaled(&mut dweight.0, 1.0, &dweight_sum);
        if let Some(dbias) = &mut dbias {
            add_scaled(&mut dbias.0, 1.0, &dbias_sum);
        }
    }
}

pub(super) fn rms_forward(
    out: &mut F64Tensor,
    stats: &mut F64Tensor,
    x: &F64Tensor,
    weight: &F64Tensor,
    eps: f32,
) {
    let width = weight.0.len();
    let rows = assert_rows(x, width, "x");
    assert_len(out, rows * width, "out");
    assert_len(stats, rows, "stats");
    for r in 0..rows {
        stats.0[r] = rms_row(row_mut(&mut out.0, r, width), row(&x.0, r, width), &weight.0, eps);
    }
}

pub(super) fn rms_backward(
    dx: &mut F64Tensor,
    dweight: &mut F64Tensor,
    dout: &F64Tensor,
    x: &F64Tensor,
    stats: &F64Tensor,
    weight: &F64Tensor,
    groups: &[usize],
) {
    let width = weight.0.len();
    let rows = assert_rows(x, width, "x");
    assert_len(dx, rows * width, "dx");
    assert_len(dout, rows * width, "dout");
    assert_len(stats, rows, "stats");
    assert_len(dweight, width, "dweight");
    for group in rows_of_groups("rms_norm_backward", groups, rows) {
        let mut dweight_sum = vec![0.0; width];
        for r in group {
            let (dx, dout, x) = (row_mut(&mut dx.0, r, width), row(&dout.0, r, width), row(&x.0, r, width));
            rms_backward_row(dx, &mut dweight_sum, dout, x, stats.0[r], &weight.0);
        }
        add_scaled(&mut dweight.0, 1.0, &dweight_sum);
    }
}

pub(super) fn head_forward(
    out: &mut F64Tensor,
    stats: &mut F64Tensor,
    qkv: &F64Tensor,
    q_weight: &F64Tensor,
    k_weight: &F64Tensor,
    eps: f32,
    shape: &AttentionShape,
) {
    let rows = assert_heads("head_norm_forward", qkv, stats, [q_weight, k_weight], shape);
    assert_len(out, qkv.0.len(), "out");
    out.0.copy_from_slice(&qkv.0);
    for r in 0..rows {
        for head in 0..shape.n_head + shape.n_kv_head {
            let start = r * shape.qkv_width() + head * shape.head_dim;
            let heads = start..start + shape.head_dim;
            let weight = if head < shape.n_head { q_weight } else { k_weight };
            let rstd = rms_row(&mut out.0[heads.clone()], &qkv.0[heads], &weight.0, eps);
            stats.0[r * (shape.n_head + shape.n_kv_head) + head] = rstd;
        }
    }
}

#[allow(clippy::too_many_arguments)]
pub(super) fn head_backward(
    dqkv: &mut F64Tensor,
    dweights: [&mut F64Tensor; 2],
    dout: &F64Tensor,
    qkv: &F64Tensor,
    stats: &F64Tensor,
    weights: [&F64Tensor; 2],
    shape: &AttentionShape,
    groups: &[usize],
) {
    let rows = assert_heads("head_norm_backward", qkv, stats, weights, shape);
    assert_len(dqkv, qkv.0.len(), "dqkv");
    assert_len(dout, qkv.0.len(), "dout");
    for (r, dqkv) in dqkv.0.chunks_exact_mut(shape.qkv_width()).enumerate() {
        dqkv.fill(0.0);
        let values = shape.q_width() + shape.kv_width()..shape.qkv_width();
        dqkv[values.clone()].copy_from_slice(&row(&dout.0, r, shape.qkv_width())[values]);
    }
    for (part, dweight) in dweights.into_iter().enumerate() {
        assert_len(dweight, shape.head_dim, "the gradient of a gain");
        let heads = [0..shape.n_head, shape.n_head..shape.n_head + shape.n_kv_head][part].clone();
        for group in rows_of_groups("head_norm_backward", groups, rows) {
            let mut dweight_sum = vec![0.0; shape.head_dim];
            for (r, head) in group.flat_map(|r| heads.clone().map(move |head| (r, head))) {
                let start = r * shape.qkv_width() + head * shape.head_dim;
                let at = start..start + shape.head_dim;
                let (dx, dout, x) = (&mut dqkv.0[at.clone()], &dout.0[at.clone()], &qkv.0[at]);
                let rstd = stats.0[r * (shape.n_head + shape.n_kv_head) + head];
                rms_backward_row(dx, &mut dweight_sum, dout, x, rstd, &weights[part].0);
            }
            add_scaled(&mut dweight.0, 1.0, &dweight_sum);
        }
    }
}

/// `out = x · rstd · weight`; returns `rstd`.
fn rms_row(out: &mut [f64], x: &[f64], weight: &[f64], eps: f32) -> f64 {
    let rstd = 1.0 / (dot(x, x) / x.len() as f64 + f64::from(eps)).sqrt();
    for (c, out) in out.iter_mut().enumerate() {
        *out = x[c] * rstd * weight[c];
    }
    rstd
}

/// `dx += rstd · (g - x̂ · mean(g·x̂))`, `dweight += dout·x̂`.
fn rms_backward_row(dx: &mut [f64], dweight: &mut [f64], dout: &[f64], x: &[f64], rstd: f64, weight: &[f64]) {
    let x_hat: Vec<f64> = x.iter().map(|x| x * rstd).collect();
    let g: Vec<f64> = dout.iter().zip(weight).map(|(dout, weight)| dout * weight).collect();
    let mean_gx = dot(&g, &x_hat) / x.len() as f64;
    for (c, dx) in dx.iter_mut().enumerate() {
        *dx += rstd * (g[c] - x_hat[c] * mean_gx);
        dweight[c] += dout[c] * x_hat[c];
    }
}

/// Rows of `qkv`.
fn assert_heads(
    operation: &str,
    qkv: &F64Tensor,
    stats: &F64Tensor,
    weights: [&F64Tensor; 2],
    shape: &AttentionShape,
) -> usize {
    shape.assert_valid(operation);
    let rows = assert_rows(qkv, shape.qkv_width(), "qkv");
    assert_len(stats, rows * (shape.n_head + shape.n_kv_head), "stats");
    weights.iter().for_each(|weight| assert_len(weight, shape.head_dim, "a gain"));
    rows
}
