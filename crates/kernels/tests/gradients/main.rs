//! Every backward operation of the [`Reference`] against finite differences of its forward operation.
//!
//! A case holds the two sides of one operation. The checked loss is `Σ dout · forward(inputs)` with random
//! `dout`; its derivative by every value of every input must be what `backward` says. Every output starts out
//! full of noise, so that one that is documented as overwritten must be overwritten, and a gradient that is
//! documented as added to must be added to.

mod distil;
#[path = "../harness/mod.rs"]
mod harness;

use Gradient::{Added, Overwritten};
use kernels::{AttentionShape, Backend, Dropout, F64Tensor, HeadShape, LinearShape, NO_TARGET, Reference};

/// Every backward operation and its cases; [`every_backward_operation_is_listed`] holds the list complete.
const OPERATIONS: &[(&str, Cases)] = &[
    ("gelu_backward", gelu),
    ("swiglu_backward", swiglu),
    ("dropout", dropout),
    ("embed_backward", embed),
    ("gather_backward", gather),
    ("layer_norm_backward", layer_norm),
    ("rms_norm_backward", rms_norm),
    ("head_norm_backward", head_norm),
    ("rope_backward", rope),
    ("linear_backward_input", linear_input),
    ("linear_backward_weight", linear_weight),
    ("linear_gelu_backward_input", linear_gelu_input),
    ("attention_backward", attention),
    ("head_backward", head),
    ("distil_backward", distil::distil),
    ("stored_backward", distil::stored),
];

#[test]
fn every_gradient_is_the_finite_difference() {
    for (operation, cases) in OPERATIONS {
        let cases = cases();
        assert!(!cases.is_empty(), "{operation} has no case");
        for (i, case) in cases.iter().enumerate() {
            check(&format!("{operation}, case {i}"), case);
        }
    }
}

#[test]
fn every_backward_operation_is_listed() {
    let mut needed = harness::operations();
    needed.extend(harness::distillations());
    needed.retain(|name| name.contains("_backward") || *name == "dropout");
    let listed: Vec<&str> = OPERATIONS.iter().map(|(name, _)| *name).collect();
    assert_eq!(needed, listed, "backward operations of the trait (left), those with a gradient test (right)");
}

// ---- harness
// ----------------------------------------------------------------------------------------------------

/// What a backward operation does to a gradient.
#[derive(Clone, Copy, PartialEq)]
enum Gradient {
    Overwritten,
    Added,
}

type Cases = fn() -> Vec<Case>;
type Forward = dyn Fn(&mut F64Tensor, &[F64Tensor]);
type Backward = dyn Fn(&mut [F64Tensor], &F64Tensor, &[F64Tensor]);

/// One backward operation in one setting.
struct Case {
    inputs: Vec<(F64Tensor, Gradient)>,
    out_len: usize,
    /// `(out, inputs)`
    forward: Box<Forward>,
    /// `(gradients of the inputs, dout, inputs)`
    backward: Box<Backward>,
}

fn check(name: &str, case: &Case) {
    const H: f64 = 1e-5;
    let (mut inputs, kinds): (Vec<F64Tensor>, Vec<Gradient>) = case.inputs.iter().cloned().unzip();
    let dout = noise(1000, case.out_len);
    let before: Vec<F64Tensor> = inputs.iter().map(|x| noise(1001, x.0.len())).collect();
    let mut gradients = before.clone();
    (case.backward)(&mut gradients, &dout, &inputs);
    let loss = |inputs: &[F64Tensor]| {
        let mut out = noise(1002, case.out_len);
        (case.forward)(&mut out, inputs);
        out.0.iter().zip(&dout.0).map(|(out, dout)| out * dout).sum::<f64>()
    };
    for n in 0..inputs.len() {
        for i in 0..inputs[n].0.len() {
            let x = inputs[n].0[i];
            inputs[n].0[i] = x + H;
            let above = loss(&inputs);
            inputs[n].0[i] = x - H;
            let below = loss(&inputs);
            inputs[n].0[i] = x;
            let difference = (above - below) / (2.0 * H);
            let start = if kinds[n] == Added { before[n].0[i] } else { 0.0 };
            let gradient = gradients[n].0[i] - start;
            assert!(
                (gradient - difference).abs() <= 1e-6 * difference.abs() + 1e-8,
                "{name}: by value {i} of input {n} the gradient is {gradient}, the finite difference {difference}"
            );
        }
    }
}

fn noise(stream: u64, len: usize) -> F64Tensor {
    F64Tensor(harness::noise(stream, len).into_iter().map(f64::from).collect())
}

fn case(
    inputs: Vec<(F64Tensor, Gradient)>,
    out_len: usize,
    forward: impl Fn(&mut F64Tensor, &[F64Tensor]) + 'static,
    backward: impl Fn(&mut [F64Tensor], &F64Tensor, &[F64Tensor]) + 'static,
) -> Case {
    Case { inputs, out_len, forward: Box::new(forward), backward: Box::new(backward) }
}

// ---- operations
// -------------------------------------------------------------------------------------------------

fn gelu() -> Vec<Case> {
    let forward = |out: &mut F64Tensor, x: &[F64Tensor]| Reference.gelu_forward(out, &x[0]);
    vec![case(vec![(noise(1, 40), Overwritten)], 40, forward, |dx, dout, x| {
        Reference.gelu_backward(&mut dx[0], dout, &x[0]);
    })]
}

fn swiglu() -> Vec<Case> {
    let setting = |rows: usize, d_ff: usize| {
        case(
            vec![(noise(1, rows * 2 * d_ff), Overwritten)],
            rows * d_ff,
            move |out, x| Reference.swiglu_forward(out, &x[0], d_ff),
            move |dx, dout, x| Reference.swiglu_backward(&mut dx[0], dout, &x[0], d_ff),
        )
    };
    vec![setting(1, 20), setting(4, 5)]
}

/// Dropout works in place, and is its own backward pass.
fn dropout() -> Vec<Case> {
    let apply = |p: f32, first_row: u64| {
        move |out: &mut F64Tensor, x: &F64Tensor| {
            out.clone_from(x);
            Reference.dropout(out, 5, &Dropout { p, seed: 3, stream: 4, first_row });
        }
    };
    let setting = |p, first_row| {
        let (forward, backward) = (apply(p, first_row), apply(p, first_row));
        let inputs = vec![(noise(1, 40), Overwritten)];
        case(inputs, 40, move |out, x| forward(out, &x[0]), move |dx, dout, _| backward(&mut dx[0], dout))
    };
    vec![setting(0.0, 0), setting(0.4, 0), setting(0.4, 7)]
}

fn embed() -> Vec<Case> {
    const TOKENS: [u32; 5] = [2, 0, 2, 3, 2];
    const POSITIONS: [u32; 5] = [0, 1, 2, 0, 1];
    let (wte, wpe) = ((noise(1, 4 * 3), Added), (noise(2, 6 * 3), Added));
    let without_positions = case(
        vec![wte.clone()],
        5 * 3,
        |out, w| Reference.embed_forward(out, &w[0], None, &TOKENS.to_vec(), &POSITIONS.to_vec(), 3),
        |dw, dout, _| {
            Reference.embed_backward(&mut dw[0], None, dout, &TOKENS.to_vec(), &POSITIONS.to_vec(), 3)
        },
    );
    let with_positions = case(
        vec![wte, wpe],
        5 * 3,
        |out, w| Reference.embed_forward(out, &w[0], Some(&w[1]), &TOKENS.to_vec(), &POSITIONS.to_vec(), 3),
        |dw, dout, _| {
            let [dwte, dwpe] = dw else { unreachable!() };
            Reference.embed_backward(dwte, Some(dwpe), dout, &TOKENS.to_vec(), &POSITIONS.to_vec(), 3);
        },
    );
    vec![without_positions, with_positions]
}

fn gather() -> Vec<Case> {
    const ROWS: [u32; 4] = [4, 1, 1, 0];
    vec![case(
        vec![(noise(1, 5 * 3), Added)],
        4 * 3,
        |out, x| Reference.gather_forward(out, &x[0], &ROWS.to_vec(), 3),
        |dx, dout, _| Reference.gather_backward(&mut dx[0], dout, &ROWS.to_vec(), 3),
    )]
}

fn layer_norm() -> Vec<Case> {
    const EPS: f32 = 1e-5;
    let setting = |rows: usize, width: usize, with_bias: bool, groups: &'static [usize]| {
        let mut inputs = vec![(noise(1, rows * width), Added), (noise(2, width), Added)];
        if with_bias {
            inputs.push((noise(3, width), Added));
        }
        let forward = move |out: &mut F64Tensor, stats: &mut F64Tensor, inputs: &[F64Tensor]| {
            Reference.layer_norm_forward(out, stats, &inputs[0], &inputs[1], inputs.get(2), EPS);
        };
        case(
            inputs,
            rows * width,
            move |out, inputs| forward(out, &mut noise(4, 2 * rows), inputs),
            move |gradients, dout, inputs| {
                let mut stats = noise(4, 2 * rows);
                forward(&mut noise(5, rows * width), &mut stats, inputs);
                let [dx, dweight, dbias @ ..] = gradients else { unreachable!() };
                let (x, weight) = (&inputs[0], &inputs[1]);
                Reference.layer_norm_backward(
                    dx,
                    dweight,
                    dbias.first_mut(),
                    dout,
                    x,
                    &stats,
                    weight,
                    groups,
                );
            },
        )
    };
    vec![setting(5, 7, true, &[2, 1, 2]), setting(5, 7, false, &[5]), setting(3, 2, true, &[0, 3])]
}

fn rms_norm() -> Vec<Case> {
    const EPS: f32 = 1e-5;
    let setting = |rows: usize, width: usize, groups: &'static [usize]| {
        case(
            vec![(noise(1, rows * width), Added), (noise(2, width), Added)],
            rows * width,
            move |out, x| Reference.rms_norm_forward(out, &mut noise(4, rows), &x[0], &x[1], EPS),
            move |gradients, dout, inputs| {
                let ([dx, dweight], [x, weight]) = (gradients, inputs) else { unreachable!() };
                let mut stats = noise(4, rows);
                Reference.rms_norm_forward(&mut noise(5, rows * width), &mut stats, x, weight, EPS);
                Reference.rms_norm_backward(dx, dweight, dout, x, &stats, weight, groups);
            },
        )
    };
    vec![setting(5, 7, &[2, 1, 2]), setting(5, 7, &[5]), setting(3, 2, &[0, 3])]
}

fn head_norm() -> Vec<Case> {
    const EPS: f32 = 1e-5;
    const ROWS: usize = 5;
    let setting = |n_kv_head: usize, groups: &'static [usize]| {
        let shape = AttentionShape { n_head: 4, n_kv_head, head_dim: 3, scale: 1.0, window: None };
        let (len, stats_len) = (ROWS * shape.qkv_width(), ROWS * (shape.n_head + n_kv_head));
        case(
            vec![(noise(1, len), Overwritten), (noise(2, 3), Added), (noise(3, 3), Added)],
            len,
            move |out, x| {
                Reference.head_norm_forward(out, &mut noise(4, stats_len), &x[0], &x[1], &x[2], EPS, &shape);
            },
            move |gradients, dout, inputs| {
                let ([dqkv, dq, dk], [qkv, q, k]) = (gradients, inputs) else { unreachable!() };
                let mut stats = noise(4, stats_len);
                Reference.head_norm_forward(&mut noise(5, len), &mut stats, qkv, q, k, EPS, &shape);
                Reference.head_norm_backward(dqkv, dq, dk, dout, qkv, &stats, q, k, &shape, groups);
            },
        )
    };
    vec![setting(4, &[2, 1, 2]), setting(2, &[5]), setting(1, &[0, 5])]
}

/// Works in place, on any table: also one that is no rotation.
fn rope() -> Vec<Case> {
    const POSITIONS: [u32; 5] = [0, 1, 2, 0, 6];
    let setting = |n_kv_head: usize, head_dim: usize| {
        let shape = AttentionShape { n_head: 4, n_kv_head, head_dim, scale: 1.0, window: None };
        let len = POSITIONS.len() * shape.qkv_width();
        case(
            vec![(noise(1, len), Overwritten)],
            len,
            move |out, x| {
                out.clone_from(&x[0]);
                Reference.rope_forward(out, &noise(2, 7 * head_dim), &POSITIONS.to_vec(), &shape);
            },
            move |dx, dout, _| {
                dx[0].clone_from(dout);
                Reference.rope_backward(&mut dx[0], &noise(2, 7 * head_dim), &POSITIONS.to_vec(), &shape);
            },
        )
    };
    vec![setting(4, 2), setting(2, 6), setting(1, 4)]
}

fn linear_input() -> Vec<Case> {
    let shape = LinearShape { rows: 3, d_in: 4, d_out: 5 };
    vec![case(
        vec![(noise(1, 3 * 4), Overwritten)],
        3 * 5,
        move |out, x| Reference.linear_forward(out, &x[0], &noise(2, 5 * 4), None, shape),
        move |dx, dout, _| Reference.linear_backward_input(&mut dx[0], dout, &noise(2, 5 * 4), shape),
    )]
}

fn linear_weight() -> Vec<Case> {
    let shape = LinearShape { rows: 5, d_in: 4, d_out: 3 };
    let setting = |with_bias: bool, groups: &'static [usize]| {
        let mut inputs = vec![(noise(1, 3 * 4), Added)];
        if with_bias {
            inputs.push((noise(2, 3), Added));
        }
        case(
            inputs,
            5 * 3,
            move |out, w| Reference.linear_forward(out, &noise(3, 5 * 4), &w[0], w.get(1), shape),
            move |gradients, dout, _| {
                let [dweight, dbias @ ..] = gradients else { unreachable!() };
                let dbias = dbias.first_mut();
                Reference.linear_backward_weight(dweight, dbias, dout, &noise(3, 5 * 4), shape, groups);
            },
        )
    };
    vec![setting(true, &[2, 1, 2]), setting(false, &[5]), setting(true, &[0, 5])]
}

/// The layer reads the GELU of its input.
fn linear_gelu_input() -> Vec<Case> {
    let shape = LinearShape { rows: 3, d_in: 4, d_out: 5 };
    vec![case(
        vec![(noise(1, 3 * 4), Overwritten)],
        3 * 5,
        move |out, x| {
            let mut active = noise(3, 3 * 4);
            Reference.gelu_forward(&mut active, &x[0]);
            Reference.linear_forward(out, &active, &noise(2, 5 * 4), None, shape);
        },
        move |dx, dout, x| {
            let (weight, mut between) = (noise(2, 5 * 4), noise(4, 3 * 4));
            Reference.linear_gelu_backward_input(&mut dx[0], &mut between, dout, &weight, &x[0], shape);
        },
    )]
}

fn attention() -> Vec<Case> {
    const LENS: [u32; 3] = [4, 1, 6];
    const ROWS: usize = 11;
    let setting = |n_kv_head: usize, window: Option<usize>, p: Option<f32>| {
        let shape = AttentionShape { n_head: 4, n_kv_head, head_dim: 3, scale: 0.6, window };
        let dropout = p.map(|p| Dropout { p, seed: 3, stream: 4, first_row: 2 });
        let forward = move |out: &mut F64Tensor, lse: &mut F64Tensor, qkv: &F64Tensor| {
            Reference.attention_forward(out, lse, qkv, &LENS.to_vec(), &shape, dropout.as_ref());
        };
        case(
            vec![(noise(1, ROWS * shape.qkv_width()), Overwritten)],
            ROWS * shape.q_width(),
            move |out, qkv| forward(out, &mut noise(2, ROWS * shape.n_head), &qkv[0]),
            move |dqkv, dout, qkv| {
                let (mut out, mut lse) = (noise(3, ROWS * shape.q_width()), noise(2, ROWS * shape.n_head));
                forward(&mut out, &mut lse, &qkv[0]);
                let (dqkv, qkv) = (&mut dqkv[0], &qkv[0]);
                Reference.attention_backward(
                    dqkv,
                    dout,
                    &out,
                    &lse,
                    qkv,
                    &LENS.to_vec(),
                    &shape,
                    dropout.as_ref(),
                );
            },
        )
    };
    vec![
        setting(4, None, None),
        setting(2, None, None),
        setting(1, None, None),
        setting(4, Some(3), None),
        setting(2, Some(1), None),
        setting(4, None, Some(0.4)),
        setting(2, Some(3), Some(0.4)),
    ]
}

/// `dout` is what the head calls `dlogprobs`, followed by `dentropies` in the cases with entropies;
/// `logprobs` falls out of the backward pass too and must be the same.
fn head() -> Vec<Case> {
    const ROWS: usize = 5;
    const TARGETS: [u32; ROWS] = [3, NO_TARGET, 0, 6, 3];
    let setting = |temperature: f32, groups: &'static [usize], with_entropies: bool, z_loss: f32| {
        let shape = HeadShape { temperature, z_loss, ..HeadShape::new(ROWS, 4, 7) };
        let plain = move |out: &mut F64Tensor, inputs: &[F64Tensor]| {
            let (mut logprobs, mut entropies) = (Vec::new(), Vec::new());
            let wanted = with_entropies.then_some(&mut entropies);
            let targets = TARGETS.to_vec();
            Reference.head_forward(&mut logprobs, wanted, &inputs[0], &inputs[1], &targets, &shape);
            out.0 = [logprobs, entropies].concat();
        };
        // What a log-probability is worth where z² has its price.
        let forward = move |out: &mut F64Tensor, inputs: &[F64Tensor]| {
            plain(out, inputs);
            for (row, hidden) in
                inputs[0].0.chunks(4).enumerate().filter(|(row, _)| TARGETS[*row] != NO_TARGET)
            {
                let dot = |w: &[f64]| w.iter().zip(hidden).map(|(w, h)| w * h).sum::<f64>();
                let logit = |w| (dot(w) / f64::from(temperature)).exp();
                let z = inputs[1].0.chunks(4).map(logit).sum::<f64>().ln();
                out.0[row] -= f64::from(z_loss) * z * z;
            }
        };
        let out_len = if with_entropies { 2 * ROWS } else { ROWS };
        case(
            vec![(noise(1, ROWS * 4), Overwritten), (noise(2, 7 * 4), Added)],
            out_len,
            forward,
            move |gradients, dout, inputs| {
                let [dhidden, dweight] = gradients else { unreachable!() };
                let (mut logprobs, mut expected) = (Vec::new(), noise(4, out_len));
                plain(&mut expected, inputs);
                let (dlogprobs, dentropies) = dout.0.split_at(ROWS);
                let (dlogprobs, dentropies) = (dlogprobs.to_vec(), dentropies.to_vec());
                Reference.head_backward(
                    &mut logprobs,
                    dhidden,
                    Some(dweight),
                    &dlogprobs,
                    with_entropies.then_some(&dentropies),
                    &inputs[0],
                    &inputs[1],
                    &TARGETS.to_vec(),
                    &shape,
                    groups,
                );
                let expected = &expected.0;
                assert_eq!(logprobs, expected[..ROWS], "the log-probabilities of backward and forward");
                assert_eq!(logprobs[1], 0.0, "the log-probability of NO_TARGET");
                assert!(expected.get(ROWS + 1).is_none_or(|&entropy| entropy == 0.0), "its entropy");
            },
        )
    };
    let settings: [(f32, &[usize]); 3] = [(1.0, &[2, 1, 2]), (0.7, &[5]), (1.5, &[0, 5])];
    let cases = |(entropies, z_loss)| {
        settings.map(|(temperature, groups)| setting(temperature, groups, entropies, z_loss))
    };
    [(false, 0.0), (true, 0.0), (false, 0.3), (true, 0.3)].into_iter().flat_map(cases).collect()
}
