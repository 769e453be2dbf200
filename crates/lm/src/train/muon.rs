//! Muon (Jordan et al. 2024): the momentum of a matrix with its singular values brought to about 1, as the step.
//!
//! `m = μm + (1-μ)g`, `u = (1-μ)g + μm` (Nesterov), `O` = five Newton–Schulz steps from `u / (‖u‖ + 10⁻⁷)`, map by map
//! where an array holds several, and `w = w (1 - lr · weight_decay) - lr · 0.2 · √max(rows, columns) · O`. With that factor
//! (Liu et al. 2025, "Moonlight") a step's root mean square is about 0.2 · lr, as AdamW's is, so that both have one rate.

use crate::model::{Config, Method, Spec, Weights, maps};
use kernels::Backend;
use std::ops::Range;

/// μ.
const MOMENTUM: f32 = 0.95;
/// Root mean square of AdamW's steps, in units of its rate.
const STEP: f64 = 0.2;
/// Added to a norm.
const EPS: f64 = 1e-7;

/// What an update of one matrix needs.
pub(super) struct Matrix<'a, T> {
    pub(super) spec: &'a Spec,
    pub(super) weight: &'a mut T,
    pub(super) m: &'a mut T,
    pub(super) grad: &'a T,
    pub(super) weight_decay: f32,
}

/// What updates work with.
pub(super) struct Muon<B: Backend> {
    /// `u` of a whole array, and of a map in it.
    direction: B::Tensor,
    map: B::Tensor,
    work: [B::Tensor; 3],
    norm: B::Scalars,
    told: Vec<f64>,
    /// Rows of maps in arrays that hold several.
    rows: Vec<(Range<usize>, B::Ids)>,
}

impl<B: Backend> Muon<B> {
    /// For what it learns of the model; none where that is nothing.
    pub(super) fn of(b: &mut B, method: Method, config: &Config, specs: &Weights<Spec>) -> Option<Self> {
        let learned = specs.leaves().into_iter().filter(|spec| method.is_muons(spec));
        let mut ranges: Vec<Range<usize>> = learned
            .flat_map(|spec| maps(config, spec).into_iter().filter(|map| map.len() < spec.shape[0]))
            .collect();
        ranges.sort_by_key(|range| (range.start, range.end));
        ranges.dedup();
        let rows = ranges.into_iter().map(|range| {
            let (mut ids, of_range) = (b.ids(), range.clone().map(|row| row as u32).collect::<Vec<_>>());
            b.upload_ids(&mut ids, &of_range);
            (range, ids)
        });
        let rows = rows.collect();
        (method == Method::Muon).then(|| Muon {
            direction: b.zeros(0),
            map: b.zeros(0),
            work: [(); 3].map(|()| b.zeros(0)),
            norm: b.scalars(),
            told: Vec::new(),
            rows,
        })
    }

    /// One update of a matrix, of whose gradient `grad_scale` is taken.
    pub(super) fn update(
        &mut self,
        b: &mut B,
        config: &Config,
        matrix: Matrix<'_, B::Tensor>,
        lr: f32,
        grad_scale: f32,
    ) {
        let Matrix { spec, weight, m, grad, weight_decay } = matrix;
        let (columns, Self { direction, map, work, norm, told, rows }) = (spec.shape[1], self);
        b.resize(direction, spec.len());
        b.copy(direction, grad);
        b.scale(direction, grad_scale);
        b.average(m, direction, MOMENTUM);
        b.average(direction, m, 1.0 - MOMENTUM);
        b.scale(weight, 1.0 - lr * weight_decay);
        for range in maps(config, spec) {
            if range.len() == spec.shape[0] {
                std::mem::swap(direction, map);
            } else {
                b.resize(map, range.len() * columns);
                b.gather_forward(map, direction, rows_of(rows, &range), columns);
            }
            b.upload_scalars(norm, &[]);
            b.norm(norm, &[&*map]);
            b.read(told, &[&*norm]);
            b.scale(map, (1.0 / (told[0] + EPS)) as f32);
            b.newton_schulz(map, work.each_mut(), range.len(), columns);
            let step = f64::from(lr) * STEP * (range.len().max(columns) as f64).sqrt();
            b.scale(map, -step as f32);
            if range.len() == spec.shape[0] {
                b.accumulate(weight, map);
            } else {
                b.gather_backward(weight, map, rows_of(rows, &range), columns);
            }
        }
    }
}

fn rows_of<'a, I>(rows: &'a [(Range<usize>, I)], range: &Range<usize>) -> &'a I {
    let found = rows.iter().find(|(of, _)| of == range);
    &found.expect("rows of every map were uploaded").1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Init;
    use kernels::{F64Tensor, Reference};

    /// Two updates by the formula in `f64`: golden values of `tools/golden_muon.py`.
    #[test]
    fn two_updates_are_the_formulas() {
        let (b, config) = (&mut Reference, Config::gpt2(8, 4, 1, 1, 4));
        let mut muon = Muon::of(b, Method::Muon, &config, &crate::model::specs(&config)).unwrap();
        let (name, init) = ("blocks.0.attn_out.weight".to_owned(), Init::Constant(0.0));
        let spec = Spec { name, shape: vec![2, 3], init, decay: true };
        let tensor = |values: [f64; 6]| F64Tensor(values.to_vec());
        let (mut weight, mut m) = (tensor([0.1, 0.2, 0.3, 0.4, 0.5, 0.6]), tensor([0.0; 6]));
        for (grad, golden) in [
            (
                [1.0, 2.0, 3.0, -1.0, 0.5, 2.0],
                [0.096163438, 0.196269467, 0.296375497, 0.405136407, 0.499974388, 0.594812369],
            ),
            (
                [1.0, -2.0, 1.5, -1.0, -0.5, 1.0],
                [0.092448991, 0.197648460, 0.291750532, 0.409216431, 0.499057084, 0.590107718],
            ),
        ] {
            // Half of a gradient that is twice as long.
            let grad = tensor(grad.map(|x| 2.0 * x));
            let matrix =
                Matrix { spec: &spec, weight: &mut weight, m: &mut m, grad: &grad, weight_decay: 0.1 };
            muon.update(b, &config, matrix, 0.02, 0.5);
            for (x, golden) in weight.0.iter().zip(golden) {
                // Rates and coefficients are of `f32`.
                assert!((x - golden).abs() < 1e-7, "{:?}", weight.0);
            }
        }
    }
}
