//! The [`Reference`] where the answer is known without computing it.

use kernels::{
    AdamW, AttentionShape, Backend, Distil, DistilShape, Dropout, F64Tensor, HeadShape, Parameter, Reference,
    StoredShape,
};

fn tensor(values: &[f64]) -> F64Tensor {
    F64Tensor(values.to_vec())
}

fn assert_close(values: &[f64], expected: &[f64]) {
    assert_eq!(values.len(), expected.len());
    for (x, expected) in values.iter().zip(expected) {
        // Settings are f32: 0.1 is 0.1 to 8 digits.
        assert!((x - expected).abs() < 1e-6, "{values:?}, expected {expected:?}");
    }
}

/// 0.841192 and -0.158808 are the tanh form's; the exact GELU has 0.841345 and -0.158655.
#[test]
fn gelu_is_the_tanh_form() {
    let mut out = tensor(&[0.0; 4]);
    Reference.gelu_forward(&mut out, &tensor(&[0.0, 1.0, -1.0, 20.0]));
    assert_close(&out.0, &[0.0, 0.8411919906, -0.1588080094, 20.0]);
}

#[test]
fn layer_norm_has_the_biased_variance() {
    let (mut out, mut stats) = (tensor(&[0.0; 4]), tensor(&[0.0; 2]));
    let (x, weight, bias) =
        (tensor(&[1.0, 2.0, 4.0, 5.0]), tensor(&[1.0, 1.0, 1.0, 2.0]), tensor(&[0.0, 0.0, 0.0, 1.0]));
    Reference.layer_norm_forward(&mut out, &mut stats, &x, &weight, Some(&bias), 0.0);
    let rstd = 1.0 / 2.5f64.sqrt();
    assert_close(&stats.0, &[3.0, rstd]);
    assert_close(&out.0, &[-2.0 * rstd, -rstd, rstd, 1.0 + 4.0 * rstd]);
}

#[test]
fn rms_norm_divides_by_the_root_mean_square() {
    let (mut out, mut stats) = (tensor(&[0.0; 4]), tensor(&[0.0; 2]));
    let (x, weight) = (tensor(&[3.0, -4.0, 0.0, 0.0]), tensor(&[1.0, 2.0]));
    Reference.rms_norm_forward(&mut out, &mut stats, &x, &weight, 0.25);
    let rstd = 1.0 / 12.75f64.sqrt();
    assert_close(&stats.0, &[rstd, 2.0]);
    assert_close(&out.0, &[3.0 * rstd, -8.0 * rstd, 0.0, 0.0]);
}

/// A row: 2 queries, a key, a value of two numbers each.
#[test]
fn head_norm_treats_every_query_and_key_alone_and_no_value() {
    let shape = AttentionShape { n_head: 2, n_kv_head: 1, head_dim: 2, scale: 1.0, window: None };
    let (mut out, mut stats) = (tensor(&[0.0; 8]), tensor(&[0.0; 3]));
    let qkv = tensor(&[1.0, 7.0, 0.0, -2.0, 5.0, 5.0, 9.0, 8.0]);
    let (q_weight, k_weight) = (tensor(&[1.0, 10.0]), tensor(&[3.0, -1.0]));
    Reference.head_norm_forward(&mut out, &mut stats, &qkv, &q_weight, &k_weight, 0.0, &shape);
    assert_close(&stats.0, &[0.2, 0.5f64.sqrt(), 0.2]);
    assert_close(&out.0, &[0.2, 14.0, 0.0, -20.0 * 0.5f64.sqrt(), 3.0, -1.0, 9.0, 8.0]);
}

/// Position 0 stays, position 2 turns the first pair by a right angle and stretches the second one.
#[test]
fn rope_turns_pairs_that_are_half_a_head_apart() {
    let shape = AttentionShape { n_head: 1, n_kv_head: 1, head_dim: 4, scale: 1.0, window: None };
    let table = tensor(&[1.0, 1.0, 0.0, 0.0, 9.0, 9.0, 9.0, 9.0, 0.0, 2.0, 1.0, 0.0]);
    let row = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0];
    let turned = [-3.0, 4.0, 1.0, 8.0, -7.0, 12.0, 5.0, 16.0, 9.0, 10.0, 11.0, 12.0];
    let mut qkv = tensor(&[row, row].concat());
    Reference.rope_forward(&mut qkv, &table, &vec![0, 2], &shape);
    assert_close(&qkv.0, &[row, turned].concat());
}

/// silu(1) = 0.731059 and silu(-1) = -0.268941.
#[test]
fn swiglu_gates_with_the_first_half() {
    let mut out = tensor(&[0.0; 4]);
    Reference.swiglu_forward(&mut out, &tensor(&[1.0, -1.0, 10.0, 2.0, 0.0, -40.0, 5.0, 7.0]), 2);
    assert_close(&out.0, &[7.310585786, -0.5378828427, 0.0, 0.0]);
}

/// Queries of zero see everything equally: the output is the mean of the values they see.
#[test]
fn attention_sees_its_own_sequence_up_to_itself() {
    let shape = AttentionShape { n_head: 4, n_kv_head: 2, head_dim: 1, scale: 1.0, window: None };
    // A row: 4 queries, 2 keys, 2 values.
    let row = |value: f64| vec![0.0, 0.0, 0.0, 0.0, 3.0, -7.0, value, 100.0 * value];
    let qkv = F64Tensor([1.0, 3.0, 8.0, 5.0, 7.0].iter().flat_map(|&value| row(value)).collect());
    let means_of = |window: Option<usize>| {
        let (mut out, mut lse) = (tensor(&[0.0; 5 * 4]), tensor(&[0.0; 5 * 4]));
        let shape = AttentionShape { window, ..shape };
        Reference.attention_forward(&mut out, &mut lse, &qkv, &vec![3, 2], &shape, None);
        let (mut means, mut counts) = (Vec::new(), Vec::new());
        for (out, lse) in out.0.chunks(4).zip(lse.0.chunks(4)) {
            // Two query heads read the first key/value head, two the second.
            assert_close(out, &[out[0], out[0], 100.0 * out[0], 100.0 * out[0]]);
            means.push(out[0]);
            counts.push(lse[0].exp());
        }
        (means, counts)
    };
    let (means, counts) = means_of(None);
    assert_close(&means, &[1.0, 2.0, 4.0, 5.0, 6.0]);
    assert_close(&counts, &[1.0, 2.0, 3.0, 1.0, 2.0]);
    let (means, counts) = means_of(Some(2));
    assert_close(&means, &[1.0, 2.0, 5.5, 5.0, 6.0]);
    assert_close(&counts, &[1.0, 2.0, 2.0, 1.0, 2.0]);
    assert_close(&means_of(Some(1)).0, &[1.0, 3.0, 8.0, 5.0, 7.0]);
}

/// Scores 0 and ln 3 give probabilities ¼ and ¾.
#[test]
fn attention_is_the_softmax_of_scaled_scores() {
    let shape = AttentionShape { n_head: 1, n_kv_head: 1, head_dim: 2, scale: 0.5, window: None };
    let qkv = [[0.0, 0.0, 0.0, 0.0, 8.0, 4.0], [2.0, 0.0, 3f64.ln(), 9.0, 16.0, 0.0]].concat();
    let (mut out, mut lse) = (tensor(&[0.0; 4]), tensor(&[0.0; 2]));
    Reference.attention_forward(&mut out, &mut lse, &F64Tensor(qkv), &vec![2], &shape, None);
    assert_close(&out.0, &[8.0, 4.0, 14.0, 1.0]);
    assert_close(&lse.0, &[0.0, 4f64.ln()]);
}

#[test]
fn a_head_without_opinion_gives_every_token_the_same_chance() {
    let shape = HeadShape { temperature: 0.5, ..HeadShape::new(1, 2, 10) };
    let (mut logprobs, mut entropies) = (Vec::new(), Vec::new());
    let (hidden, weight) = (tensor(&[3.0, 4.0]), tensor(&[0.0; 20]));
    Reference.head_forward(&mut logprobs, Some(&mut entropies), &hidden, &weight, &vec![7], &shape);
    assert_close(&logprobs, &[-(10f64.ln())]);
    assert_close(&entropies, &[10f64.ln()]);
    // Logits 0 and ln 2 at temperature ½ are probabilities 1 : 4.
    let shape = HeadShape { vocab_size: 2, ..shape };
    let (hidden, weight) = (tensor(&[1.0, 0.0]), tensor(&[0.0, 0.0, 2f64.ln(), 0.0]));
    Reference.head_forward(&mut logprobs, Some(&mut entropies), &hidden, &weight, &vec![1], &shape);
    assert_close(&logprobs[1..], &[0.8f64.ln()]);
    assert_close(&entropies[1..], &[-(0.8 * 0.8f64.ln() + 0.2 * 0.2f64.ln())]);
}

/// What TRL 1.12's GKD gives for the same logits; the mean of two tokens, and the gradient of the first one's logits.
#[test]
fn divergences_are_trls() {
    // Hidden states are unit vectors, so that the columns of a head are logits.
    let hidden = tensor(&[1.0, 0.0, 0.0, 1.0]);
    let columns =
        |a: [f64; 4], b: [f64; 4]| F64Tensor(a.into_iter().zip(b).flat_map(|(a, b)| [a, b]).collect());
    let student = columns([1.0, 0.0, -1.0, 0.5], [0.2, 0.1, 0.0, -0.3]);
    let teacher = columns([0.5, 0.3, -0.5, 1.0], [-0.4, 0.6, 0.2, 0.1]);
    let known: [(f32, f32, f64, Option<[f64; 4]>); 6] = [
        (0.0, 1.0, 0.088668780, Some([0.1066286, -0.0195496, -0.0158854, -0.0711936])),
        (0.1, 1.0, 0.008035387, None),
        (0.5, 1.0, 0.023140461, Some([0.0272993, -0.0056987, -0.0039405, -0.0176601])),
        (0.9, 1.0, 0.008781618, None),
        (1.0, 1.0, 0.099206125, Some([0.1163967, -0.0269286, -0.0163213, -0.0731468])),
        (0.5, 2.0, 0.005779257, None),
    ];
    for (beta, temperature, divergence, gradient) in known {
        let shape = DistilShape {
            student: HeadShape { temperature, ..HeadShape::new(2, 2, 4) },
            teacher_d_model: 2,
            beta,
        };
        let heads = [[&hidden, &student], [&hidden, &teacher]];
        let (mut divergences, targets) = (Vec::new(), vec![0, 3]);
        Reference.distil_forward(&mut divergences, heads[0], heads[1], &targets, &shape);
        let mean = divergences.iter().sum::<f64>() / 2.0;
        assert!((mean - divergence).abs() < 2e-8, "β {beta}: {mean}, expected {divergence}");
        let (mut dhidden, mut dweight) = (tensor(&[0.0; 4]), tensor(&[0.0; 8]));
        let mut again = Vec::new();
        let (dh, dw, d) = (&mut dhidden, Some(&mut dweight), vec![0.5; 2]);
        Reference.distil_backward(&mut again, dh, dw, &d, heads[0], heads[1], &targets, &shape, &[2]);
        assert_eq!(again, divergences);
        for (j, expected) in gradient.iter().flatten().enumerate() {
            assert!((dweight.0[2 * j] - expected).abs() < 5e-8, "β {beta}: {:?}", dweight.0);
        }
    }
}

/// Probabilities ½, ⅕ and a tail of 3/10, beside those of a student without opinion: ¼, ¼ and a tail of ½.
#[test]
fn what_is_left_of_a_stored_teacher_is_one_outcome() {
    let student = HeadShape::new(1, 1, 4);
    let (hidden, weight, targets) = (tensor(&[1.0]), tensor(&[0.0; 4]), vec![1]);
    let (tokens, logprobs) = (vec![2, 0], vec![0.5f64.ln(), 0.2f64.ln()]);
    let of = |beta: f32, k: usize| {
        let (shape, mut found) = (StoredShape { student, k, beta }, Vec::new());
        let (tokens, logprobs) = (tokens[..k].to_vec(), logprobs[..k].to_vec());
        Reference.stored_forward(&mut found, [&hidden, &weight], &tokens, &logprobs, &targets, &shape);
        found[0]
    };
    let kl = |p: &[f64], q: &[f64]| p.iter().zip(q).map(|(p, q)| p * (p / q).ln()).sum::<f64>();
    let (p, q) = ([0.5, 0.2, 0.3], [0.25, 0.25, 0.5]);
    assert_close(&[of(0.0, 2), of(1.0, 2)], &[kl(&p, &q), kl(&q, &p)]);
    let m: Vec<f64> = p.iter().zip(&q).map(|(p, q)| 0.25 * p + 0.75 * q).collect();
    assert_close(&[of(0.25, 2)], &[0.25 * kl(&p, &m) + 0.75 * kl(&q, &m)]);
    // One token alone would always be right.
    assert_close(&[of(0.0, 1)], &[kl(&[0.5, 0.5], &[0.25, 0.75])]);
}

#[test]
fn dropout_keeps_the_mean_and_depends_on_the_row_in_the_step() {
    let dropped = |first_row: u64, rows: usize| {
        let mut x = tensor(&vec![1.0; rows * 100]);
        Reference.dropout(&mut x, 100, &Dropout { p: 0.25, seed: 1, stream: 2, first_row });
        x.0
    };
    let all = dropped(0, 1000);
    assert!((all.iter().sum::<f64>() / 1e5 - 1.0).abs() < 0.01);
    let zeros = all.iter().filter(|&&x| x == 0.0).count();
    assert!((zeros as f64 / 1e5 - 0.25).abs() < 0.01);
    assert_eq!(all[300 * 100..302 * 100], dropped(300, 2));
}

/// The first update has the size of the learning rate, whatever the gradient; then the weight decays.
#[test]
fn adamw_corrects_its_bias() {
    let settings = AdamW { lr: 0.1, beta1: 0.9, beta2: 0.99, eps: 0.0, eps_hat: false, grad_clip: 3.0 };
    let [mut weight, mut m, mut v] = [[2.0, 2.0], [0.0; 2], [0.0; 2]].map(|values| tensor(&values));
    let (grad, mut updates) = (tensor(&[8.0, -0.02]), vec![0.0]);
    let mut update = |weight_decay, norms: &[f64], finite: f64| {
        let (weight, m, v, grad) = (&mut weight, &mut m, &mut v, &grad);
        let (mut parameters, mut norms) = ([Parameter { weight, m, v, grad, weight_decay }], norms.to_vec());
        Reference.adamw(&mut parameters, &settings, &mut updates, &mut norms, &[&vec![finite]]);
        (weight.0.clone(), m.0.clone(), v.0.clone(), updates[0], norms[norms.len() - 1])
    };
    // A norm of 6 is clipped to 3.
    let (weight, m, v, t, applied) = update(0.5, &[6.0], 1.0);
    assert_close(&weight, &[2.0 - 0.1 - 0.1, 2.0 + 0.1 - 0.1]);
    assert_close(&m, &[0.4, -0.001]);
    assert_close(&v, &[0.16, 0.000001]);
    assert_eq!((t, applied), (1.0, 1.0));
    // What is not finite changes nothing, and is not counted.
    let same = (weight, m, v, 1.0, 0.0);
    assert_eq!(update(0.5, &[6.0], f64::NAN), same);
    assert_eq!(update(0.5, &[1.0, f64::INFINITY], 1.0), same);
    // A second, equal gradient leaves both corrected moments as they were.
    let (weight, _, _, t, applied) = update(0.0, &[f64::NAN, 6.0], 1.0);
    assert_close(&weight, &[1.7, 2.1]);
    assert_eq!((t, applied), (2.0, 1.0));
}

#[test]
fn a_norm_is_that_of_all_tensors() {
    let mut norms = vec![1.0];
    Reference.norm(&mut norms, &[&tensor(&[3.0]), &tensor(&[]), &tensor(&[0.0, -4.0])]);
    assert_eq!(norms, [1.0, 5.0]);
}

/// Golden values of `tools/golden_muon.py`, in `f64`; the same of the transpose.
#[test]
fn newton_schulz_is_the_papers() {
    let matrix = [1.0, 2.0, 3.0, -1.0, 0.5, 2.0];
    let golden = [0.524892439, 0.480721020, 0.436549602, -0.856846355, -0.140640679, 0.575564997];
    let norm = matrix.iter().map(|x| x * x).sum::<f64>().sqrt() + 1e-7;
    let transposed = |x: &[f64]| [x[0], x[3], x[1], x[4], x[2], x[5]];
    let steps = |values: [f64; 6], rows: usize, columns: usize| {
        let mut x = tensor(&values.map(|x| x / norm));
        let [mut a, mut b, mut c] = [(); 3].map(|()| tensor(&[]));
        Reference.newton_schulz(&mut x, [&mut a, &mut b, &mut c], rows, columns);
        x.0
    };
    let close = |got: &[f64], expected: &[f64]| {
        got.iter().zip(expected).all(|(x, expected)| (x - expected).abs() < 2e-9)
    };
    let wide = steps(matrix, 2, 3);
    assert!(close(&wide, &golden), "{wide:?}");
    let tall = steps(transposed(&matrix), 3, 2);
    assert!(close(&tall, &transposed(&golden)), "{tall:?}");
}
