//! Muon beside AdamW: a whole model's updates by the formula, with the same bits for any number of threads, and after a
//! checkpoint.

#![allow(clippy::unwrap_used)] // A test that finds no value has failed.

use kernels::cpu::{CpuOptions, Level};
use kernels::{Backend, Cpu, F64Tensor, Precision, Reference};
use lm::checkpoint::{self, About, Dtype};
use lm::model::{self, Config, Method, Sequences, Spec, specs};
use lm::train::{Lane, Optimizer, Trainer};
use text::progress::Silent;
use text::tokenizer::Tokenizer;

const OPTIMIZER: Optimizer =
    Optimizer { beta1: 0.9, beta2: 0.95, eps: 1e-8, eps_hat: false, weight_decay: 0.1, grad_clip: 0.5 };
const LR: f32 = 0.02;
const BATCH: Sequences<'static> = Sequences { tokens: &[1, 2, 3, 4, 5, 6, 7], lens: &[4, 3], noise: None };
const TARGETS: [u32; 7] = [2, 3, 4, 5, 6, 7, 8];

fn configs() -> [Config; 2] {
    [Config::gpt2(9, 8, 2, 2, 16), Config { n_kv_head: 1, ..Config::modern(9, 8, 2, 2, 16) }]
}

fn accumulate<B: Backend>(b: &mut B, trainer: &mut Trainer<B>) {
    trainer.accumulate(b, BATCH, &TARGETS, &[-0.2; 7], Lane::Number(0));
}

/// The rows of arrays that hold several maps, as the layout of a checkpoint has them.
fn parts(config: &Config, spec: &Spec) -> Vec<usize> {
    match (spec.name.split('.').nth(2).unwrap(), spec.shape[0]) {
        ("qkv", rows) => {
            let kv = config.n_kv_head * config.head_dim;
            vec![rows - 2 * kv, kv, kv]
        }
        ("mlp_up", rows) if rows == 2 * config.d_ff => vec![config.d_ff; 2],
        (_, rows) => vec![rows],
    }
}

type Rows = Vec<Vec<f64>>;

fn times(a: &Rows, b: &Rows) -> Rows {
    let cell = |row: &[f64], c: usize| row.iter().zip(b).map(|(x, b)| x * b[c]).sum();
    a.iter().map(|row| (0..b[0].len()).map(|c| cell(row, c)).collect()).collect()
}

fn transposed(a: &Rows) -> Rows {
    (0..a[0].len()).map(|c| a.iter().map(|row| row[c]).collect()).collect()
}

/// `σ → aσ + bσ³ + cσ⁵` five times, as `x (a + b xᵀx + c (xᵀx)²)`.
fn orthogonal(u: &Rows) -> Rows {
    let norm = u.iter().flatten().map(|x| x * x).sum::<f64>().sqrt();
    let mut x: Rows = u.iter().map(|row| row.iter().map(|x| x / (norm + 1e-7)).collect()).collect();
    for _ in 0..5 {
        let gram = times(&transposed(&x), &x);
        let (cubes, fifths) = (times(&x, &gram), times(&times(&x, &gram), &gram));
        for (r, row) in x.iter_mut().enumerate() {
            for (c, x) in row.iter_mut().enumerate() {
                *x = 3.4445 * *x - 4.775 * cubes[r][c] + 2.0315 * fifths[r][c];
            }
        }
    }
    x
}

/// One matrix, its momentum and its gradient after clipping.
fn step(config: &Config, spec: &Spec, w: &[f64], m: &mut [f64], grad: &[f64]) -> Vec<f64> {
    let columns = spec.shape[1];
    m.iter_mut().zip(grad).for_each(|(m, g)| *m = 0.95 * *m + 0.05 * g);
    let u: Vec<f64> = m.iter().zip(grad).map(|(m, g)| 0.05 * g + 0.95 * m).collect();
    let (mut left, mut steps) = (u.chunks(columns).map(<[f64]>::to_vec), Vec::new());
    for rows in parts(config, spec) {
        let part: Rows = left.by_ref().take(rows).collect();
        let size = 0.2 * (rows.max(columns) as f64).sqrt();
        steps.extend(orthogonal(&part).into_iter().flatten().map(|x| size * x));
    }
    let lr = f64::from(LR);
    w.iter().zip(steps).map(|(w, step)| w * (1.0 - lr * f64::from(0.1f32)) - lr * step).collect()
}

#[test]
fn matrices_of_blocks_follow_the_formula_and_the_rest_is_adamws() {
    for config in configs() {
        let b = &mut Reference;
        let weights = model::init(b, &config, 1);
        let mut trainer = Trainer::by(Method::Muon, b, config.clone(), weights.clone());
        let mut adamw = Trainer::new(b, config.clone(), weights);
        let specs = specs(&config);
        let mut momenta: Vec<Vec<f64>> = specs.leaves().iter().map(|spec| vec![0.0; spec.len()]).collect();
        for update in 0..3 {
            accumulate(b, &mut trainer);
            let before = trainer.weights.clone();
            let gradients = trainer.gradients(b).clone();
            let norm = trainer.update(b, &OPTIMIZER, LR, None).grad_norm;
            assert!(norm > 0.5, "clipped: {norm}");
            let leaves = before.leaves().into_iter().zip(trainer.weights.leaves()).zip(gradients.leaves());
            for (((before, after), grad), (spec, m)) in
                leaves.zip(specs.leaves().into_iter().zip(&mut momenta))
            {
                if !Method::Muon.is_muons(spec) {
                    continue;
                }
                let grad: Vec<f64> = grad.0.iter().map(|g| g * 0.5 / norm).collect();
                let expected = step(&config, spec, &before.0, m, &grad);
                let worst = expected.iter().zip(&after.0).map(|(x, y)| (x - y).abs()).fold(0.0, f64::max);
                assert!(worst < 1e-7, "update {update}: {} is off by {worst}", spec.name);
            }
            if update == 0 {
                accumulate(b, &mut adamw);
                adamw.update(b, &OPTIMIZER, LR, None);
                let both = adamw.weights.leaves().into_iter().zip(trainer.weights.leaves());
                for ((adamw, muon), spec) in both.zip(specs.leaves()) {
                    assert_eq!(adamw == muon, !Method::Muon.is_muons(spec), "{}", spec.name);
                }
            }
        }
        let second = trainer.second_moment.leaves().into_iter().zip(specs.leaves());
        for (F64Tensor(v), spec) in second {
            assert_eq!(v.is_empty(), Method::Muon.is_muons(spec), "{}", spec.name);
        }
    }
}

fn values(cpu: &mut Cpu, trainer: &Trainer<Cpu>) -> Vec<f32> {
    let mut all = Vec::new();
    for tree in [&trainer.weights, &trainer.first_moment, &trainer.second_moment] {
        for leaf in tree.leaves() {
            let mut values = vec![0.0; cpu.len(leaf)];
            cpu.download(&mut values, leaf);
            all.extend(values);
        }
    }
    all
}

/// Threads decide no bit; a step that is not finite changes nothing; a checkpoint goes on with the same bits, and is no
/// other optimizer's.
#[test]
fn bits_stay_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let texts = ["some words, and some more words"].iter().map(|text| Ok((*text).to_owned()));
    let tokenizer = Tokenizer::train(texts, 260, &[], &Silent).unwrap();
    for precision in [Precision::F32, Precision::Bf16] {
        for (number, config) in configs().into_iter().enumerate() {
            let config = Config { vocab_size: tokenizer.vocab_size(), ..config };
            let mut of_threads = Vec::new();
            for threads in [1, 2, 3] {
                let cpu = &mut Cpu::new(CpuOptions { threads, precision, level: Level::detect() });
                let weights = model::init(cpu, &config, 1);
                let mut trainer = Trainer::by(Method::Muon, cpu, config.clone(), weights);
                let learn = |cpu: &mut Cpu, trainer: &mut Trainer<Cpu>, loss| {
                    accumulate(cpu, trainer);
                    trainer.update(cpu, &OPTIMIZER, LR, loss).applied
                };
                assert!(learn(cpu, &mut trainer, None));
                let before = values(cpu, &trainer);
                assert!(!learn(cpu, &mut trainer, Some(f64::NAN)));
                assert!(values(cpu, &trainer) == before, "nothing is learned from what is not finite");

                let place = dir.path().join(format!("{precision:?}-{number}-{threads}"));
                trainer.save(cpu, &place, &tokenizer, Dtype::Bf16, About::default()).unwrap();
                assert!(learn(cpu, &mut trainer, None));
                let whole = values(cpu, &trainer);
                let held = checkpoint::open(&place, &Silent).unwrap();
                let fresh = model::init(cpu, &config, 2);
                let mut again = Trainer::by(Method::Muon, cpu, config.clone(), fresh);
                again.restore(cpu, &held).unwrap();
                assert!(learn(cpu, &mut again, None));
                assert!(values(cpu, &again) == whole, "{precision:?}: a checkpoint goes on with other bits");
                of_threads.push(whole);

                let fresh = model::init(cpu, &config, 2);
                let error = Trainer::new(cpu, config.clone(), fresh).restore(cpu, &held).unwrap_err();
                assert!(
                    error.to_string().contains("has moments of muon, which adamw cannot go on with"),
                    "{error}"
                );
            }
            assert!(
                of_threads.windows(2).all(|pair| pair[0] == pair[1]),
                "{precision:?}: threads decide bits"
            );
        }
    }
}
