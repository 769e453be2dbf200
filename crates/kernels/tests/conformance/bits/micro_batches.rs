//! Gradients of weights do not depend on how a batch is cut into micro-batches.

use super::{D_IN, D_OUT, ROWS, Tensor, assert_same_bits, in_every_setting};
use crate::lab::Lab;
use kernels::{AttentionShape, Backend, Cpu, Distil, DistilShape, HeadShape, LinearShape, NO_TARGET};
use std::ops::Range;

/// Groups of unequal lengths, as sequences are.
const GROUPS: [usize; 4] = [20, 3, 17, 10];

/// Those that `rows` are made of.
fn groups(rows: &Range<usize>) -> Vec<usize> {
    let mut end = 0;
    let within = GROUPS.into_iter().filter(|len| {
        end += len;
        rows.start < end && end <= rows.end
    });
    within.collect()
}

/// Holds what `add(lab, rows, gradient)` adds in one call for all rows to several calls, cut between groups.
fn assert_cuts_do_not_matter(
    lab: &mut Lab<Cpu>,
    setting: &str,
    gradient_len: usize,
    add: impl Fn(&mut Lab<Cpu>, Range<usize>, &mut Tensor),
) {
    let start = lab.noise(gradient_len);
    let mut gradient = |cuts: &[usize]| {
        let mut gradient = lab.exact_of(&start);
        cuts.windows(2).for_each(|cut| add(lab, cut[0]..cut[1], &mut gradient));
        lab.host(&gradient)
    };
    let whole = gradient(&[0, ROWS]);
    for cuts in [&[0, 20, ROWS][..], &[0, 40, ROWS], &[0, 20, 23, 40, ROWS]] {
        assert_same_bits(&gradient(cuts), &whole, &format!("{setting}, rows cut at {cuts:?}"));
    }
}

/// The rows of a matrix.
fn rows_of<'a, T>(matrix: &'a [T], rows: &Range<usize>, width: usize) -> &'a [T] {
    &matrix[rows.start * width..rows.end * width]
}

#[test]
fn linear_backward_weight_in_micro_batches() {
    in_every_setting(|lab, setting| {
        let (x, dout) = (lab.noise(ROWS * D_IN), lab.noise(ROWS * D_OUT));
        let backward = |lab: &mut Lab<Cpu>, rows: Range<usize>, dweight: &mut Tensor, dbias: &mut Tensor| {
            let shape = LinearShape { rows: rows.len(), d_in: D_IN, d_out: D_OUT };
            let x = lab.activation_of(rows_of(&x, &rows, D_IN));
            let dout = lab.activation_of(rows_of(&dout, &rows, D_OUT));
            lab.backend.linear_backward_weight(dweight, Some(dbias), &dout, &x, shape, &groups(&rows));
        };
        assert_cuts_do_not_matter(lab, setting, D_OUT * D_IN, |lab, rows, dweight| {
            let mut dbias = lab.exact(D_OUT);
            backward(lab, rows, dweight, &mut dbias);
        });
        assert_cuts_do_not_matter(lab, setting, D_OUT, |lab, rows, dbias| {
            let mut dweight = lab.exact(D_OUT * D_IN);
            backward(lab, rows, &mut dweight, dbias);
        });
    });
}

#[test]
fn layer_norm_backward_in_micro_batches() {
    in_every_setting(|lab, setting| {
        let (x, dout, stats) = (lab.noise(ROWS * D_IN), lab.noise(ROWS * D_IN), lab.noise(ROWS * 2));
        let weight = lab.exact(D_IN);
        let backward = |lab: &mut Lab<Cpu>, rows: Range<usize>, dweight: &mut Tensor, dbias: &mut Tensor| {
            let mut dx = lab.exact(rows.len() * D_IN);
            let x = lab.exact_of(rows_of(&x, &rows, D_IN));
            let dout = lab.activation_of(rows_of(&dout, &rows, D_IN));
            let stats = lab.exact_of(rows_of(&stats, &rows, 2));
            let dbias = Some(dbias);
            let groups = groups(&rows);
            lab.backend.layer_norm_backward(&mut dx, dweight, dbias, &dout, &x, &stats, &weight, &groups);
        };
        assert_cuts_do_not_matter(lab, setting, D_IN, |lab, rows, dweight| {
            let mut dbias = lab.exact(D_IN);
            backward(lab, rows, dweight, &mut dbias);
        });
        assert_cuts_do_not_matter(lab, setting, D_IN, |lab, rows, dbias| {
            let mut dweight = lab.exact(D_IN);
            backward(lab, rows, &mut dweight, dbias);
        });
    });
}

#[test]
fn rms_norm_backward_in_micro_batches() {
    in_every_setting(|lab, setting| {
        let (x, dout, stats) = (lab.noise(ROWS * D_IN), lab.noise(ROWS * D_IN), lab.noise(ROWS));
        let weight = lab.exact(D_IN);
        assert_cuts_do_not_matter(lab, setting, D_IN, |lab, rows, dweight| {
            let mut dx = lab.exact(rows.len() * D_IN);
            let x = lab.exact_of(rows_of(&x, &rows, D_IN));
            let dout = lab.activation_of(rows_of(&dout, &rows, D_IN));
            let stats = lab.exact_of(rows_of(&stats, &rows, 1));
            let groups = groups(&rows);
            lab.backend.rms_norm_backward(&mut dx, dweight, &dout, &x, &stats, &weight, &groups);
        });
    });
}

#[test]
fn head_norm_backward_in_micro_batches() {
    let shape = AttentionShape { n_head: 4, n_kv_head: 2, head_dim: 20, scale: 1.0, window: None };
    let (width, heads) = (shape.qkv_width(), shape.n_head + shape.n_kv_head);
    in_every_setting(|lab, setting| {
        let (qkv, dout, stats) = (lab.noise(ROWS * width), lab.noise(ROWS * width), lab.noise(ROWS * heads));
        let weight = lab.exact(shape.head_dim);
        for keys in [false, true] {
            assert_cuts_do_not_matter(lab, setting, shape.head_dim, |lab, rows, dweight| {
                let (mut dqkv, mut other) = (lab.activation(rows.len() * width), lab.exact(shape.head_dim));
                let (dq, dk) = if keys { (&mut other, dweight) } else { (dweight, &mut other) };
                let qkv = lab.activation_of(rows_of(&qkv, &rows, width));
                let dout = lab.activation_of(rows_of(&dout, &rows, width));
                let stats = lab.exact_of(rows_of(&stats, &rows, heads));
                let (backend, groups) = (&mut lab.backend, groups(&rows));
                backend.head_norm_backward(
                    &mut dqkv, dq, dk, &dout, &qkv, &stats, &weight, &weight, &shape, &groups,
                );
            });
        }
    });
}

#[test]
fn head_backward_in_micro_batches() {
    in_every_setting(|lab, setting| {
        let (hidden, mut targets) = (lab.noise(ROWS * D_IN), lab.indices(ROWS, D_OUT));
        targets[17..23].fill(NO_TARGET);
        let [dlogprobs, dentropies]: [Vec<f64>; 2] =
            [(); 2].map(|()| lab.noise(ROWS).into_iter().map(f64::from).collect());
        let weight = lab.exact(D_OUT * D_IN);
        assert_cuts_do_not_matter(lab, setting, D_OUT * D_IN, |lab, rows, dweight| {
            let shape =
                HeadShape { temperature: 7.0, z_loss: 0.01, ..HeadShape::new(rows.len(), D_IN, D_OUT) };
            let hidden = lab.activation_of(rows_of(&hidden, &rows, D_IN));
            let mut dhidden = lab.activation(rows.len() * D_IN);
            lab.backend.head_backward(
                &mut Vec::new(),
                &mut dhidden,
                Some(dweight),
                &rows_of(&dlogprobs, &rows, 1).to_vec(),
                Some(&rows_of(&dentropies, &rows, 1).to_vec()),
                &hidden,
                &weight,
                &rows_of(&targets, &rows, 1).to_vec(),
                &shape,
                &groups(&rows),
            );
        });
    });
}

#[test]
fn distil_backward_in_micro_batches() {
    in_every_setting(|lab, setting| {
        let (hidden, theirs) = (lab.noise(ROWS * D_IN), lab.noise(ROWS * 5));
        let mut targets = lab.indices(ROWS, D_OUT);
        targets[17..23].fill(NO_TARGET);
        let derivatives: Vec<f64> = lab.noise(ROWS).into_iter().map(f64::from).collect();
        let (weight, teacher_weight) = (lab.exact(D_OUT * D_IN), lab.exact(D_OUT * 5));
        assert_cuts_do_not_matter(lab, setting, D_OUT * D_IN, |lab, rows, dweight| {
            let student = HeadShape { temperature: 7.0, ..HeadShape::new(rows.len(), D_IN, D_OUT) };
            let hidden = lab.activation_of(rows_of(&hidden, &rows, D_IN));
            let theirs = lab.activation_of(rows_of(&theirs, &rows, 5));
            let mut dhidden = lab.activation(rows.len() * D_IN);
            lab.backend.distil_backward(
                &mut Vec::new(),
                &mut dhidden,
                Some(dweight),
                &rows_of(&derivatives, &rows, 1).to_vec(),
                [&hidden, &weight],
                [&theirs, &teacher_weight],
                &rows_of(&targets, &rows, 1).to_vec(),
                &DistilShape { student, teacher_d_model: 5, beta: 0.3 },
                &groups(&rows),
            );
        });
    });
}

#[test]
fn embed_backward_in_micro_batches() {
    in_every_setting(|lab, setting| {
        let (dout, tokens) = (lab.noise(ROWS * D_IN), lab.indices(ROWS, 7));
        assert_cuts_do_not_matter(lab, setting, 7 * D_IN, |lab, rows, dwte| {
            let dout = lab.exact_of(rows_of(&dout, &rows, D_IN));
            let tokens = rows_of(&tokens, &rows, 1).to_vec();
            lab.backend.embed_backward(dwte, None, &dout, &tokens, &tokens, D_IN);
        });
    });
}
