//! What the conventions of the trait promise about the bits of results: an output row depends on that row's
//! inputs only, and gradients of weights do not depend on how a batch is cut into micro-batches.

mod micro_batches;

use crate::lab::{self, Lab};
use kernels::{
    AttentionShape, Backend, BlockFormat, BlockMatrix, CacheSpan, Cpu, HeadShape, Level, LinearShape,
};

type Tensor = <Cpu as Backend>::Tensor;

const ROWS: usize = 50;
const D_IN: usize = 65;
const D_OUT: usize = 130;

/// Calls `test` for every level, precision and storage.
fn in_every_setting(test: impl Fn(&mut Lab<Cpu>, &str)) {
    for (precision, storage) in lab::SETTINGS {
        for level in Level::available() {
            let mut lab = crate::cpu_lab(level, 2, precision, storage);
            test(&mut lab, &format!("{level}, {precision:?}, {storage:?} activations"));
        }
    }
}

fn assert_same_bits(a: &[f64], b: &[f64], what: &str) {
    assert_eq!(a.len(), b.len(), "{what}");
    let differs = a.iter().zip(b).position(|(a, b)| a.to_bits() != b.to_bits());
    assert_eq!(differs, None, "{what}: the first value whose bits differ, of {}", a.len());
}

// ---- rows
// -------------------------------------------------------------------------------------------------------

/// Holds the values of `rows(lab, x)` for all rows of `x` to those for some rows at a time.
fn assert_rows_are_independent(
    lab: &mut Lab<Cpu>,
    setting: &str,
    width: usize,
    rows: impl Fn(&mut Lab<Cpu>, &[f32]) -> Vec<f64>,
) {
    let x = lab.noise(ROWS * width);
    let together = rows(lab, &x);
    for count in [1, 2, 7, 16, 17] {
        let apart: Vec<f64> = x.chunks(count * width).flat_map(|x| rows(lab, x)).collect();
        assert_same_bits(&together, &apart, &format!("{setting}, {ROWS} rows or {count} at a time"));
    }
}

#[test]
fn linear_forward_row_by_row_and_packed() {
    in_every_setting(|lab, setting| {
        let (weight, bias) = (lab.exact(D_OUT * D_IN), lab.exact(D_OUT));
        let packed = lab.backend.packed(&weight, D_IN, D_OUT);
        let forward = |lab: &mut Lab<Cpu>, x: &[f32], weight: &Tensor| {
            let shape = LinearShape { rows: x.len() / D_IN, d_in: D_IN, d_out: D_OUT };
            let (x, mut out) = (lab.activation_of(x), lab.activation(shape.rows * D_OUT));
            lab.backend.linear_forward(&mut out, &x, weight, Some(&bias), shape);
            lab.host(&out)
        };
        assert_rows_are_independent(lab, setting, D_IN, |lab, x| forward(lab, x, &weight));
        assert_rows_are_independent(lab, setting, D_IN, |lab, x| forward(lab, x, &packed));
        let x = lab.noise(ROWS * D_IN);
        let (plain, packed) = (forward(lab, &x, &weight), forward(lab, &x, &packed));
        assert_same_bits(&plain, &packed, &format!("{setting}, plain or packed"));
    });
}

/// Whichever handle is read, and whichever goes first.
#[test]
fn linear_layers_of_shared_weights() {
    in_every_setting(|lab, setting| {
        let values = lab.noise(D_OUT * D_IN);
        let matrix = BlockMatrix::quantise(BlockFormat::Q8_0, &values, [D_OUT, D_IN]).expect("small values");
        let x = lab.noise(ROWS * D_IN);
        let x = lab.activation_of(&x);
        let forward = |lab: &mut Lab<Cpu>, weight: &Tensor| {
            let shape = LinearShape { rows: ROWS, d_in: D_IN, d_out: D_OUT };
            let mut out = lab.activation(ROWS * D_OUT);
            lab.backend.linear_forward(&mut out, &x, weight, None, shape);
            lab.host(&out)
        };
        let exact = lab.exact_of(&values);
        let weights = [lab.backend.packed(&exact, D_IN, D_OUT), exact, lab.backend.blocks(matrix)];
        for mut weight in weights {
            let expected = forward(lab, &weight);
            let second = lab.backend.share(&mut weight);
            let mut third = lab.backend.share(&mut weight);
            assert_same_bits(&expected, &forward(lab, &weight), &format!("{setting}, the first handle"));
            drop(weight);
            assert_same_bits(&expected, &forward(lab, &second), &format!("{setting}, the second handle"));
            drop(second);
            let last = lab.backend.share(&mut third);
            drop(third);
            assert_same_bits(&expected, &forward(lab, &last), &format!("{setting}, the last handle"));
        }
    });
}

/// Values in blocks give the bits that they give elsewhere, in rows of whole blocks and in others.
#[test]
fn linear_layers_in_blocks_plain_and_packed() {
    in_every_setting(|lab, setting| {
        let of_one = |format, d_in| BlockMatrix::noise(format, [D_OUT, d_in], 1);
        let of_two = |rows: usize, first, second| {
            let rows = [(first, rows), (second, D_OUT - rows)];
            let bands =
                rows.map(|(format, rows)| BlockMatrix::noise(format, [rows, 512], 2).bands()[0].clone());
            BlockMatrix::of_bands(512, bands.into())
        };
        let matrices = BlockFormat::ALL
            .into_iter()
            .flat_map(|format| {
                [of_one(format, D_IN), of_one(format, if format.block_len() > 64 { 512 } else { 448 })]
            })
            .chain([
                of_two(80, BlockFormat::Q4K, BlockFormat::Q6K),
                of_two(57, BlockFormat::Q5_0, BlockFormat::Q8_0),
                of_two(64, BlockFormat::Nf4, BlockFormat::Q4_1),
            ]);
        for matrix in matrices {
            let ([_, d_in], format) = (matrix.shape(), matrix.bands()[0].format);
            let plain = lab.exact_of(&matrix.values());
            let blocks = lab.backend.blocks(matrix);
            let packed = lab.backend.packed(&blocks, d_in, D_OUT);
            let forward = |lab: &mut Lab<Cpu>, x: &[f32], weight: &Tensor| {
                let shape = LinearShape { rows: x.len() / d_in, d_in, d_out: D_OUT };
                let (x, mut out) = (lab.activation_of(x), lab.activation(shape.rows * D_OUT));
                lab.backend.linear_forward(&mut out, &x, weight, None, shape);
                lab.host(&out)
            };
            assert_rows_are_independent(lab, setting, d_in, |lab, x| forward(lab, x, &packed));
            let x = lab.noise(ROWS * d_in);
            let expected = forward(lab, &x, &plain);
            for weight in [&blocks, &packed] {
                let what = format!("{setting}, {format}, rows of {d_in}, plain or in blocks");
                assert_same_bits(&expected, &forward(lab, &x, weight), &what);
            }
            let dout = lab.activation(ROWS * D_OUT);
            let shape = LinearShape { rows: ROWS, d_in, d_out: D_OUT };
            let [dx, again] = [&plain, &blocks].map(|weight| {
                let mut dx = lab.activation(ROWS * d_in);
                lab.backend.linear_backward_input(&mut dx, &dout, weight, shape);
                lab.host(&dx)
            });
            assert_same_bits(&dx, &again, &format!("{setting}, {format}, rows of {d_in}, backward"));
        }
    });
}

#[test]
fn linear_backward_input_row_by_row() {
    in_every_setting(|lab, setting| {
        let weight = lab.exact(D_OUT * D_IN);
        assert_rows_are_independent(lab, setting, D_OUT, |lab, dout| {
            let shape = LinearShape { rows: dout.len() / D_OUT, d_in: D_IN, d_out: D_OUT };
            let (dout, mut dx) = (lab.activation_of(dout), lab.activation(shape.rows * D_IN));
            lab.backend.linear_backward_input(&mut dx, &dout, &weight, shape);
            lab.host(&dx)
        });
    });
}

#[test]
fn layer_norm_forward_row_by_row() {
    in_every_setting(|lab, setting| {
        let (weight, bias) = (lab.exact(D_IN), lab.exact(D_IN));
        assert_rows_are_independent(lab, setting, D_IN, |lab, x| {
            let mut stats = lab.exact(x.len() / D_IN * 2);
            let (x, mut out) = (lab.exact_of(x), lab.activation(x.len()));
            lab.backend.layer_norm_forward(&mut out, &mut stats, &x, &weight, Some(&bias), 1e-5);
            lab.host(&out)
        });
    });
}

#[test]
fn rms_norm_forward_row_by_row() {
    in_every_setting(|lab, setting| {
        let weight = lab.exact(D_IN);
        assert_rows_are_independent(lab, setting, D_IN, |lab, x| {
            let mut stats = lab.exact(x.len() / D_IN);
            let (x, mut out) = (lab.exact_of(x), lab.activation(x.len()));
            lab.backend.rms_norm_forward(&mut out, &mut stats, &x, &weight, 1e-5);
            lab.host(&out)
        });
    });
}

/// The squares of finite numbers may be infinite. 1 / ∞ is 0, and a row of zeros would hide it.
#[test]
fn norms_that_overflow_show() {
    in_every_setting(|lab, setting| {
        let weight = lab.exact(D_IN);
        let mut x = lab.noise(2 * D_IN);
        x[D_IN + 7] = 1e30;
        let x = lab.exact_of(&x);
        let (mut layer, mut layer_stats) = (lab.activation(2 * D_IN), lab.exact(4));
        lab.backend.layer_norm_forward(&mut layer, &mut layer_stats, &x, &weight, None, 1e-5);
        let (mut rms, mut rms_stats) = (lab.activation(2 * D_IN), lab.exact(2));
        lab.backend.rms_norm_forward(&mut rms, &mut rms_stats, &x, &weight, 1e-5);
        for out in [lab.host(&layer), lab.host(&rms)] {
            let (sound, overflown) = out.split_at(D_IN);
            assert!(sound.iter().all(|x| x.is_finite()) && overflown.iter().all(|x| x.is_nan()), "{setting}");
        }
    });
}

/// Norm of the heads, then rotation, all rows at one position.
#[test]
fn heads_row_by_row() {
    in_every_setting(|lab, setting| {
        let shape = AttentionShape { n_head: 4, n_kv_head: 2, head_dim: 22, scale: 1.0, window: None };
        let [q_weight, k_weight] = [(); 2].map(|()| lab.exact(shape.head_dim));
        let table = lab.exact(6 * shape.head_dim);
        assert_rows_are_independent(lab, setting, shape.qkv_width(), |lab, qkv| {
            let rows = qkv.len() / shape.qkv_width();
            let mut stats = lab.exact(rows * (shape.n_head + shape.n_kv_head));
            let (qkv, mut out) = (lab.activation_of(qkv), lab.activation(qkv.len()));
            lab.backend.head_norm_forward(&mut out, &mut stats, &qkv, &q_weight, &k_weight, 1e-5, &shape);
            lab.backend.rope_forward(&mut out, &table, &vec![5; rows], &shape);
            lab.host(&out)
        });
    });
}

#[test]
fn swiglu_row_by_row() {
    in_every_setting(|lab, setting| {
        assert_rows_are_independent(lab, setting, 2 * D_IN, |lab, x| {
            let (x, mut out) = (lab.activation_of(x), lab.activation(x.len() / 2));
            lab.backend.swiglu_forward(&mut out, &x, D_IN);
            lab.host(&out)
        });
    });
}

#[test]
fn head_row_by_row() {
    in_every_setting(|lab, setting| {
        let weight = lab.exact(D_OUT * D_IN);
        assert_rows_are_independent(lab, setting, D_IN, |lab, hidden| {
            let rows = hidden.len() / D_IN;
            let shape = HeadShape { temperature: 7.0, z_loss: 0.01, ..HeadShape::new(rows, D_IN, D_OUT) };
            let (hidden, targets) = (lab.activation_of(hidden), vec![5; rows]);
            let (mut logprobs, mut entropies) = (Vec::new(), Vec::new());
            lab.backend.head_forward(&mut logprobs, Some(&mut entropies), &hidden, &weight, &targets, &shape);
            // The two of a row side by side, so that rows at a time are rows of the whole.
            logprobs.into_iter().zip(entropies).flat_map(<[f64; 2]>::from).collect()
        });
        assert_rows_are_independent(lab, setting, D_IN, |lab, hidden| {
            let rows = hidden.len() / D_IN;
            let shape = HeadShape { temperature: 7.0, z_loss: 0.01, ..HeadShape::new(rows, D_IN, D_OUT) };
            let (hidden, mut dhidden) = (lab.activation_of(hidden), lab.activation(hidden.len()));
            let mut dweight = lab.exact(D_OUT * D_IN);
            lab.backend.head_backward(
                &mut Vec::new(),
                &mut dhidden,
                Some(&mut dweight),
                &vec![0.3; rows],
                Some(&vec![0.2; rows]),
                &hidden,
                &weight,
                &vec![5; rows],
                &shape,
                &[rows],
            );
            lab.host(&dhidden)
        });
    });
}

/// An operation that stands for two gives what the two give one after the other.
#[test]
fn fused_operations_are_their_pairs() {
    in_every_setting(|lab, setting| {
        let shape = LinearShape { rows: ROWS, d_in: D_IN, d_out: D_OUT };
        let (x, weight, bias) = (lab.activation(ROWS * D_IN), lab.exact(D_OUT * D_IN), lab.exact(D_OUT));
        let [branch, before] = [(); 2].map(|()| lab.activation(ROWS * D_OUT));
        let (residual, gain, shift) = (lab.exact(ROWS * D_OUT), lab.exact(D_OUT), lab.exact(D_OUT));
        let mut both = |fused: bool| {
            let [mut sum, mut out, mut stats] =
                [ROWS * D_OUT, ROWS * D_OUT, ROWS * 2].map(|len| lab.exact(len));
            let mut results = Vec::new();
            let (b, a) = (&mut lab.backend, (&residual, &branch));
            if fused {
                b.add_layer_norm_forward(&mut sum, &mut out, &mut stats, a.0, a.1, &gain, Some(&shift), 1e-5);
            } else {
                b.add(&mut sum, a.0, a.1);
                b.layer_norm_forward(&mut out, &mut stats, &sum, &gain, Some(&shift), 1e-5);
            }
            [&sum, &out, &stats].into_iter().for_each(|x| results.extend(lab.host(x)));
            let mut stats = lab.exact(ROWS);
            let b = &mut lab.backend;
            if fused {
                b.add_rms_norm_forward(&mut sum, &mut out, &mut stats, a.0, a.1, &gain, 1e-5);
            } else {
                b.add(&mut sum, a.0, a.1);
                b.rms_norm_forward(&mut out, &mut stats, &sum, &gain, 1e-5);
            }
            [&sum, &out, &stats].into_iter().for_each(|x| results.extend(lab.host(x)));
            let [mut product, mut active] = [(); 2].map(|()| lab.activation(ROWS * D_OUT));
            let b = &mut lab.backend;
            if fused {
                b.linear_gelu_forward(&mut active, &mut product, &x, &weight, Some(&bias), shape);
                b.linear_add_forward(&mut sum, &mut product, &residual, &x, &weight, Some(&bias), shape);
            } else {
                b.linear_forward(&mut product, &x, &weight, Some(&bias), shape);
                b.gelu_forward(&mut active, &product);
                b.add(&mut sum, &residual, &product);
            }
            [&active, &sum].into_iter().for_each(|x| results.extend(lab.host(x)));
            let [mut dx, mut between] = [(); 2].map(|()| lab.activation(ROWS * D_IN));
            let b = &mut lab.backend;
            if fused {
                b.linear_gelu_backward_input(&mut dx, &mut between, &before, &weight, &x, shape);
            } else {
                b.linear_backward_input(&mut between, &before, &weight, shape);
                b.gelu_backward(&mut dx, &between, &x);
            }
            results.extend(lab.host(&dx));
            results
        };
        assert_same_bits(&both(true), &both(false), setting);
    });
}

// ---- attention
// --------------------------------------------------------------------------------------------------

fn attention_shapes() -> [AttentionShape; 4] {
    let shape = AttentionShape { n_head: 2, n_kv_head: 2, head_dim: 17, scale: 0.25, window: None };
    let shared = AttentionShape { n_kv_head: 1, head_dim: 32, ..shape };
    [
        shape,
        shared,
        AttentionShape { window: Some(20), ..shape },
        AttentionShape { window: Some(70), ..shared },
    ]
}

fn attention(lab: &mut Lab<Cpu>, qkv: &[f32], lens: &[usize], shape: &AttentionShape) -> Vec<f64> {
    let rows = qkv.len() / shape.qkv_width();
    let (qkv, mut out) = (lab.activation_of(qkv), lab.activation(rows * shape.q_width()));
    let mut lse = lab.exact(rows * shape.n_head);
    let lens = lens.iter().map(|&len| len as u32).collect();
    lab.backend.attention_forward(&mut out, &mut lse, &qkv, &lens, shape, None);
    lab.host(&out)
}

/// A sequence in a batch, alone, and cut off after some rows.
#[test]
fn attention_rows_depend_on_what_they_see() {
    const LENS: [usize; 3] = [5, 131, 66];
    in_every_setting(|lab, setting| {
        for shape in attention_shapes() {
            let qkv = lab.noise(LENS.iter().sum::<usize>() * shape.qkv_width());
            let batch = attention(lab, &qkv, &LENS, &shape);
            let mut start = 0;
            for len in LENS {
                for prefix in [1, 2, 16, 17, 64, 65, len].into_iter().filter(|&prefix| prefix <= len) {
                    let qkv = &qkv[start * shape.qkv_width()..][..prefix * shape.qkv_width()];
                    let out = &batch[start * shape.q_width()..][..prefix * shape.q_width()];
                    let alone = attention(lab, qkv, &[prefix], &shape);
                    assert_same_bits(
                        &alone,
                        out,
                        &format!("{setting}, {prefix} rows of {LENS:?}, {shape:?}"),
                    );
                }
                start += len;
            }
        }
    });
}

/// With a cache at once, token by token or in pieces, beside other sequences, after a fork, whatever the cache's
/// capacity: the same in every setting, and in `f32` what it is without a cache.
#[test]
fn cached_attention_is_attention() {
    const LEN: usize = 131;
    in_every_setting(|lab, setting| {
        for shape in attention_shapes() {
            let qkv = lab.noise(LEN * shape.qkv_width());
            let cached = in_pieces(lab, &qkv, LEN, None, LEN + 3, &shape);
            for (piece, fork, capacity) in [
                (1, None, 300),
                (7, Some(70), LEN + 3),
                (16, Some(32), 200),
                (63, Some(63), 400),
                (64, Some(128), 131),
                (65, None, 257),
                (129, Some(129), LEN + 3),
            ] {
                let what = format!("{setting}, {piece} at a time, fork at {fork:?} of {capacity}, {shape:?}");
                let pieces = in_pieces(lab, &qkv, piece, fork, capacity, &shape);
                assert_same_bits(&pieces, &cached, &what);
            }
            if setting.contains("F32") {
                let at_once = attention(lab, &qkv, &[LEN], &shape);
                assert_same_bits(&cached, &at_once, &format!("{setting}, without a cache, {shape:?}"));
            }
        }
    });
}

/// The sequence in slot 1 of a cache, `piece` rows at a time, while slot 0 gets a row of another one each
/// time. It moves to slot 2 once that many positions are read.
fn in_pieces(
    lab: &mut Lab<Cpu>,
    qkv: &[f32],
    piece: usize,
    fork: Option<usize>,
    capacity: usize,
    shape: &AttentionShape,
) -> Vec<f64> {
    let cache_len = 3 * capacity * shape.kv_width();
    let (mut keys, mut values) = (lab.activation(cache_len), lab.activation(cache_len));
    let (mut outs, mut slot) = (Vec::new(), 1);
    for (i, new) in qkv.chunks(piece * shape.qkv_width()).enumerate() {
        let (start, len) = (i * piece, new.len() / shape.qkv_width());
        if slot == 1 && fork.is_some_and(|fork| fork <= start) {
            slot = 2;
            for cache in [&mut keys, &mut values] {
                lab.backend.cache_fork(cache, 1, 2..3, start, capacity, shape);
            }
        }
        let spans = [CacheSpan { slot: 0, start: i, len: 1 }, CacheSpan { slot, start, len }];
        let spans = lab.spans_of(&spans);
        let rows = [&lab.noise(shape.qkv_width()), new].concat();
        let (rows, mut out) = (lab.activation_of(&rows), lab.activation((1 + len) * shape.q_width()));
        lab.backend.attention_cached(&mut out, &mut keys, &mut values, &rows, &spans, capacity, shape);
        outs.extend_from_slice(&lab.host(&out)[shape.q_width()..]);
    }
    outs
}
