use super::super::testing::{put, random, values_of};
use super::super::{Cpu, CpuOptions, Level, Precision};
use super::{backward, cached, forward, rows_of};
use crate::{AttentionShape, CacheSpan, Dropout};

/// Shapes with few and many heads to a key, odd and even widths, with and without a window.
fn shapes() -> Vec<AttentionShape> {
    let shape = |n_head, n_kv_head, head_dim, window| {
        let scale = 1.0 / (head_dim as f32).sqrt();
        AttentionShape { n_head, n_kv_head, head_dim, scale, window }
    };
    vec![
        shape(2, 2, 64, None),
        shape(6, 2, 16, None),
        shape(2, 1, 7, None),
        shape(3, 3, 80, Some(5)),
        shape(4, 2, 32, Some(70)),
        shape(1, 1, 1, Some(1)),
    ]
}

const LENS: [u32; 6] = [1, 17, 130, 64, 0, 70];

/// The forward pass and the backward pass: `out`, `lse`, `dqkv`.
fn both(cpu: &mut Cpu, shape: &AttentionShape, lens: &[u32], dropout: Option<&Dropout>) -> [Vec<f32>; 3] {
    let rows = rows_of(lens).sum::<usize>();
    let qkv = random(cpu, 1, rows * shape.qkv_width());
    let dout = random(cpu, 2, rows * shape.q_width());
    let (mut out, mut lse) = (cpu.activation(rows * shape.q_width()), cpu.zeros(rows * shape.n_head));
    forward(cpu, &mut out, &mut lse, &qkv, lens, shape, dropout);
    let mut dqkv = cpu.activation(rows * shape.qkv_width());
    backward(cpu, &mut dqkv, &dout, &out, &lse, &qkv, lens, shape, dropout);
    [out, lse, dqkv].map(|x| values_of(&x))
}

fn each_cpu(threads: &[usize], mut work: impl FnMut(&mut Cpu)) {
    for level in Level::available() {
        for precision in [Precision::F32, Precision::Bf16] {
            for &threads in threads {
                work(&mut Cpu::new(CpuOptions { threads, precision, level }));
            }
        }
    }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

const DROPOUT: Dropout = Dropout { p: 0.2, seed: 5, stream: 6, first_row: 7 };

#[test]
fn bits_do_not_depend_on_threads() {
    for shape in shapes() {
        let mut expected = Vec::new();
        each_cpu(&[1, 2, 7], |cpu| {
            let results = both(cpu, &shape, &LENS, Some(&DROPOUT)).map(|x| bits(&x));
            if cpu.options().threads == 1 {
                expected = results.to_vec();
            }
            assert!(results[..] == expected, "{} {shape:?}", cpu.describe());
        });
    }
}

#[test]
fn bits_of_a_row_do_not_depend_on_the_other_rows() {
    for shape in shapes() {
        each_cpu(&[2], |cpu| {
            let rows: usize = rows_of(&LENS).sum();
            let qkv = random(cpu, 1, rows * shape.qkv_width());
            let [together, ..] = both(cpu, &shape, &LENS, None);
            // Every sequence alone, and without its last rows.
            let mut first = 0;
            for len in rows_of(&LENS) {
                let kept = len - len / 3;
                let mut part = cpu.activation(kept * shape.qkv_width());
                put(&mut part, &values_of(&qkv)[first * shape.qkv_width()..][..kept * shape.qkv_width()]);
                let (mut out, mut lse) =
                    (cpu.activation(kept * shape.q_width()), cpu.zeros(kept * shape.n_head));
                forward(cpu, &mut out, &mut lse, &part, &[kept as u32], &shape, None);
                let expected = &together[first * shape.q_width()..][..kept * shape.q_width()];
                assert!(bits(&values_of(&out)) == bits(expected), "{} {shape:?} {len}", cpu.describe());
                first += len;
            }
        });
    }
}

/// A whole block and a part of one; whole blocks; no whole block; many.
#[test]
fn cached_attention_is_full_attention() {
    for (capacity, steps) in
        [(140, [1, 124, 3, 9]), (128, [127, 1, 0, 0]), (11, [7, 1, 1, 2]), (300, [1, 1, 250, 9])]
    {
        for shape in shapes() {
            each_cpu(&[1, 3], |cpu| {
                // Two slots at different positions, the first of them used before.
                let [a, b] = [steps.iter().sum::<usize>(), steps[0] + steps[1]];
                let [full_a, full_b] = [(3, a), (4, b)].map(|(seed, len)| {
                    let qkv = random(cpu, seed, len * shape.qkv_width());
                    let (mut out, mut lse) =
                        (cpu.activation(len * shape.q_width()), cpu.zeros(len * shape.n_head));
                    forward(cpu, &mut out, &mut lse, &qkv, &[len as u32], &shape, None);
                    [values_of(&qkv), values_of(&out)]
                });
                let [mut keys, mut values] =
                    [(); 2].map(|()| cpu.activation(3 * capacity * shape.kv_width()));
                let mut run = |parts: &[(&[Vec<f32>; 2], usize, usize, usize)]| {
                    let of = |which: usize, width: usize| -> Vec<f32> {
                        let rows = parts
                            .iter()
                            .map(|(full, _, start, len)| &full[which][start * width..][..len * width]);
                        rows.flatten().copied().collect()
                    };
                    let (qkv, expected) = (of(0, shape.qkv_width()), of(1, shape.q_width()));
                    let spans: Vec<_> =
                        parts.iter().map(|&(_, slot, start, len)| CacheSpan { slot, start, len }).collect();
                    let (mut x, mut out) = (cpu.activation(qkv.len()), cpu.activation(expected.len()));
                    put(&mut x, &qkv);
                    let ids: Vec<u32> = CacheSpan::ids(&spans).collect();
                    cached(cpu, &mut out, &mut keys, &mut values, &x, &ids, capacity, &shape);
                    // In bfloat16 as well, as long as all products are sums in the same order.
                    assert!(
                        bits(&values_of(&out)) == bits(&expected),
                        "{} {shape:?} {spans:?}",
                        cpu.describe()
                    );
                };
                run(&[(&full_b, 2, 0, b)]);
                let [s0, s1, s2, s3] = steps;
                run(&[(&full_a, 2, 0, s0)]);
                run(&[(&full_b, 0, 0, s0), (&full_a, 2, s0, s1)]);
                run(&[(&full_a, 2, s0 + s1, s2), (&full_b, 0, s0, s1)]);
                for i in 0..s3 {
                    run(&[(&full_a, 2, s0 + s1 + s2 + i, 1)]);
                }
            });
        }
    }
}
