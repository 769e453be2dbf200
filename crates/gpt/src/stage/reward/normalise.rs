//! Moving the scores of a model by changing its weights: `score' = gain · score + shift`.
//!
//! The gain is the head's. The shift goes into the bias of the last norm, along the head's matrix, so that
//! the model remains one that `transformers` computes (its heads have no bias); where norms have none, the
//! head has one of its own.

use crate::model::{Config, NormPlace, Weights};
use kernels::Backend;

/// Changes the weights of a model of one score.
pub(super) fn transform<B: Backend>(
    b: &mut B,
    config: &Config,
    weights: &mut Weights<B::Tensor>,
    gain: f64,
    shift: f64,
) {
    let head = weights.score.as_mut().expect("a model that scores");
    let matrix = map(b, &mut head.weight, |_, x| gain * x);
    if let Some(bias) = &mut head.bias {
        map(b, bias, |_, x| gain * x + shift);
        return;
    }
    // Of a model that stays as it is, a norm is nothing that an adapter's files could tell: scores keep their mean.
    if weights.adapter.is_some() {
        return;
    }
    let norm = match config.norm_place {
        NormPlace::Pre => weights.final_norm.as_mut(),
        NormPlace::Post => weights.blocks.last_mut().map(|block| &mut block.norm2),
    };
    let bias = norm.and_then(|norm| norm.bias.as_mut()).expect("a norm without bias has a head with one");
    let squares: f64 = matrix.iter().map(|x| f64::from(*x).powi(2)).sum();
    // The bias that is there has gone through the head's gain already.
    map(b, bias, |i, x| x + shift * f64::from(matrix[i]) / squares.max(f64::MIN_POSITIVE));
}

/// Changes every value of a tensor, and returns them.
fn map<B: Backend>(b: &mut B, tensor: &mut B::Tensor, f: impl Fn(usize, f64) -> f64) -> Vec<f32> {
    let mut values = vec![0.0; b.len(tensor)];
    b.download(&mut values, tensor);
    values.iter_mut().enumerate().for_each(|(i, x)| *x = f(i, f64::from(*x)) as f32);
    b.upload(tensor, &values);
    values
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{self, Activations, Sequences};
    use kernels::Reference;

    #[test]
    fn scores_move_as_asked() {
        for config in
            [Config::gpt2(11, 8, 2, 2, 8), Config::gpt1(11, 8, 2, 2, 8), Config::modern(11, 8, 2, 2, 8)]
        {
            let config = Config { n_label: Some(1), d_ff: 16, ..config };
            let b = &mut Reference;
            let mut weights = model::init(b, &config, 3);
            let tokens = [1, 5, 2, 9, 4];
            let batch = Sequences { tokens: &tokens, lens: &[5], noise: None };
            let mut a = Activations::new(b, &config);
            let mut scores = |weights: &_, b: &mut Reference| {
                let mut out = Vec::new();
                model::forward(b, &config, weights, &mut a, batch);
                model::scores(b, &config, weights, &mut a, &[1, 4], None, &mut out);
                out
            };
            let before = scores(&weights, b);
            transform(b, &config, &mut weights, 2.5, -0.75);
            for (before, after) in before.iter().zip(scores(&weights, b)) {
                assert!((2.5 * before - 0.75 - after).abs() < 1e-5, "{before} → {after}");
            }
        }
    }
}
