use super::super::bf16::{from_bf16, round_bf16, to_bf16};
use super::super::pool::{Disjoint, Pool};
use super::super::tensor::{Sink, Values};
use super::super::{Level, Precision};
use super::*;
use crate::rng;

const SIZES: [usize; 12] = [1, 2, 7, 8, 9, 15, 16, 17, 63, 65, 130, 500];

/// A matrix in both storages, and as its precision sees it.
struct Matrix {
    f32s: Vec<f32>,
    bf16s: Vec<u16>,
}

impl Matrix {
    fn new(len: usize, stream: u64) -> Self {
        let f32s: Vec<f32> = (0..len).map(|i| rng::uniform(1, stream, i as u64) - 0.5).collect();
        let bf16s = f32s.iter().map(|&x| to_bf16(x)).collect();
        Self { f32s, bf16s }
    }
    fn values(&self, bf16: bool) -> Values<'_> {
        if bf16 { Values::Bf16(&self.bf16s) } else { Values::F32(&self.f32s) }
    }
    fn exact(&self, bf16: bool, precision: Precision, index: usize) -> f64 {
        let x = if bf16 { from_bf16(self.bf16s[index]) } else { self.f32s[index] };
        f64::from(if precision == Precision::Bf16 { round_bf16(x) } else { x })
    }
}

fn factor(values: Values<'_>, along_k: bool, lines: usize, k: usize) -> Factor<'_> {
    if along_k { Factor::along_k(values, k) } else { Factor::across_k(values, lines) }
}

fn every_kernel() -> impl Iterator<Item = (Kernel, Precision)> {
    let precisions = [Precision::F32, Precision::Bf16];
    Level::available().into_iter().flat_map(move |level| precisions.map(|p| (Kernel::new(level, p), p)))
}

/// Choices number `seed` of the sizes and forms of a product.
struct Case {
    m: usize,
    n: usize,
    k: usize,
    left_along_k: bool,
    right_along_k: bool,
    left_bf16: bool,
    right_bf16: bool,
    out_bf16: bool,
    add: bool,
    bias: bool,
    group: usize,
}

impl Case {
    fn new(seed: u64) -> Self {
        let size = |i| SIZES[rng::below(2, seed, i, SIZES.len() as u64) as usize];
        let coin = |i| rng::below(3, seed, i, 2) == 1;
        let k = if coin(9) { size(2) } else { 400 + size(2) };
        let out_bf16 = coin(4);
        Self {
            m: size(0),
            n: size(1),
            k,
            left_along_k: coin(0),
            right_along_k: coin(1),
            left_bf16: coin(2),
            right_bf16: coin(3),
            out_bf16,
            add: !out_bf16 && coin(5),
            bias: coin(6),
            group: if coin(7) { size(3) } else { k },
        }
    }

    fn left(&self) -> Matrix {
        Matrix::new(self.m * self.k, 1)
    }
    fn right(&self) -> Matrix {
        Matrix::new(self.k * self.n, 2)
    }
    fn before(&self) -> Vec<f32> {
        Matrix::new(self.m * self.n, 3).f32s
    }
    fn bias(&self) -> Vec<f32> {
        Matrix::new(self.n, 4).f32s
    }

    fn run(&self, kernel: Kernel, threads: usize) -> Vec<f32> {
        let &Self { m, n, k, .. } = self;
        let (left, right, bias) = (self.left(), self.right(), self.bias());
        let mut pool = Pool::new(threads);
        let mut blocks = Blocks::default();
        for start in (0..k).step_by(self.group) {
            kernel.push(&mut blocks, self.group.min(k - start));
        }
        let mut words = super::super::aligned::Aligned::zeros(kernel.packed_words(&blocks, n));
        let right_factor = factor(right.values(self.right_bf16), self.right_along_k, n, k);
        let packed = pack_right(kernel, &mut pool, &mut words, right_factor, &blocks, n);
        let product = Product {
            m,
            n,
            blocks: &blocks,
            left: factor(left.values(self.left_bf16), self.left_along_k, m, k),
            right: packed,
            bias: self.bias.then_some(&bias[..]),
            add: self.add,
        };
        if self.out_bf16 {
            let mut out = vec![0; m * n];
            product.run(kernel, &mut pool, Sink::Bf16(Disjoint::new(&mut out)));
            out.into_iter().map(from_bf16).collect()
        } else {
            let mut out = self.before();
            product.run(kernel, &mut pool, Sink::F32(Disjoint::new(&mut out)));
            out
        }
    }

    /// The largest error beyond the rounding of the result's storage.
    fn error(&self, out: &[f32], precision: Precision) -> f64 {
        let &Self { m, n, k, .. } = self;
        let (left, right, before, bias) = (self.left(), self.right(), self.before(), self.bias());
        let index = |along_k, line, lines, p| if along_k { line * k + p } else { p * lines + line };
        let error = |(at, &got): (usize, &f32)| {
            let (i, j) = (at / n, at % n);
            let mut exact = if self.add { f64::from(before[at]) } else { 0.0 };
            exact += if self.bias { f64::from(bias[j]) } else { 0.0 };
            for p in 0..k {
                exact += left.exact(self.left_bf16, precision, index(self.left_along_k, i, m, p))
                    * right.exact(self.right_bf16, precision, index(self.right_along_k, j, n, p));
            }
            let rounding = if self.out_bf16 { exact.abs() / 256.0 } else { 0.0 };
            (f64::from(got) - exact).abs() - rounding
        };
        out.iter().enumerate().map(error).fold(0.0, f64::max)
    }
}

#[test]
fn products_agree_with_f64_in_every_form() {
    for (kernel, precision) in every_kernel() {
        for seed in 0..40 {
            let case = Case::new(seed);
            let one = case.run(kernel, 1);
            let error = case.error(&one, precision);
            let (m, n, k) = (case.m, case.n, case.k);
            assert!(error < 1e-5 * (k as f64).sqrt(), "{kernel:?} {m}x{n}x{k} case {seed}: {error}");
            for threads in [2, 3] {
                assert!(case.run(kernel, threads) == one, "{kernel:?} case {seed} {threads} threads");
            }
        }
    }
}

/// The first rows and columns of a product are the product of the first rows and columns.
#[test]
fn bits_do_not_depend_on_the_number_of_rows_or_columns() {
    let (m, n, k) = (37, 101, 777);
    let (left, right) = (Matrix::new(m * k, 5), Matrix::new(n * k, 6));
    for (kernel, _) in every_kernel() {
        let run = |m: usize, n: usize| {
            let mut pool = Pool::new(2);
            let mut blocks = Blocks::default();
            kernel.push(&mut blocks, k);
            let mut words = super::super::aligned::Aligned::zeros(kernel.packed_words(&blocks, n));
            let right = Factor::along_k(Values::F32(&right.f32s), k);
            let right = pack_right(kernel, &mut pool, &mut words, right, &blocks, n);
            let left = Factor::along_k(Values::F32(&left.f32s), k);
            let mut out = vec![0.0; m * n];
            let product = Product { m, n, blocks: &blocks, left, right, bias: None, add: false };
            product.run(kernel, &mut pool, Sink::F32(Disjoint::new(&mut out)));
            out
        };
        let whole = run(m, n);
        for (few, fewer) in [(1, n), (2, n), (3, n), (5, 50), (6, 17), (8, 1), (36, 64), (13, 100)] {
            for (i, row) in run(few, fewer).chunks(fewer).enumerate() {
                assert_eq!(row, &whole[i * n..][..fewer], "{kernel:?} {few} {fewer}");
            }
        }
    }
}

#[test]
fn tiles_agree_with_f64() {
    for (kernel, precision) in every_kernel() {
        for (m, n, k) in [(1, 1, 1), (5, 48, 64), (8, 64, 7), (33, 80, 128), (64, 17, 48), (6, 16, 1)] {
            let (left, right) = (Matrix::new(m * k, 7), Matrix::new(k * n, 8));
            let stride = n + 3;
            for (left_along_k, right_along_k) in [(true, true), (true, false), (false, true), (false, false)]
            {
                let mut packed_left = super::super::aligned::Aligned::zeros(kernel.left_words(m, k));
                let mut packed_right = super::super::aligned::Aligned::zeros(kernel.right_words(k, n));
                let left_factor = factor(left.values(true), left_along_k, m, k);
                let right_factor = factor(right.values(false), right_along_k, n, k);
                kernel.pack_left(&mut packed_left, left_factor, m, k);
                kernel.pack_right(&mut packed_right, right_factor, k, n);
                let mut out = vec![1.0; m * stride];
                let all = |_| Part { cols: 0..n, k: 0..k };
                kernel.multiply(&mut out, stride, &packed_left, &packed_right, (m, n, k), true, all);
                for (at, &got) in out.iter().enumerate() {
                    let (i, j) = (at / stride, at % stride);

                    let element = |p| {
                        let l = if left_along_k { i * k + p } else { p * m + i };
                        let r = if right_along_k { j * k + p } else { p * n + j };
                        left.exact(true, precision, l) * right.exact(false, precision, r)
                    };
                    let exact = 1.0 + if j < n { (0..k).map(element).sum::<f64>() } else { 0.0 };
                    assert!((f64::from(got) - exact).abs() < 1e-4, "{kernel:?} {m}x{n}x{k} {got} {exact}");
                }
            }
        }
    }
}

/// However a weight is stored, products have the bits that they have where it is packed for each.
#[test]
fn a_packed_weight_has_the_bits_of_a_packed_factor() {
    for (kernel, _) in every_kernel() {
        for (m, n, k) in [(1, 33, 70), (2, 16, 1), (3, 500, 130), (7, 17, 900), (40, 65, 333)] {
            let mut pool = Pool::new(2);
            let mut blocks = Blocks::default();
            kernel.push(&mut blocks, k);
            let (left, right) = (Matrix::new(m * k, 4), Matrix::new(n * k, 5));
            let factor = Factor::along_k(Values::F32(&right.f32s), k);
            let weight = PackedWeight::new(kernel, &mut pool, factor, k, n);
            let mut words = super::super::aligned::Aligned::zeros(kernel.packed_words(&blocks, n));
            let packed = pack_right(kernel, &mut pool, &mut words, factor, &blocks, n);
            let [of_weight, of_factor] = [weight.right(k, n), packed].map(|right| {
                let left = Factor::along_k(Values::F32(&left.f32s), k);
                let product = Product { m, n, blocks: &blocks, left, right, bias: None, add: false };
                let mut out = vec![0.0; m * n];
                product.run(kernel, &mut pool, Sink::F32(Disjoint::new(&mut out)));
                out
            });
            assert!(of_weight == of_factor, "{kernel:?}: {m} × {n} × {k}");
        }
    }
}
