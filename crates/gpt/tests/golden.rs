//! The model and the optimizer step against PyTorch: logits, every gradient, ten steps, a greedy continuation.
//! The values come from `tools/golden_gpt2.py`.

#![allow(clippy::unwrap_used)] // A test that finds no value has failed.

use gpt::model::{self, Activations, Cache, Config, Sequences, Weights, specs};
use gpt::objective::{cross_entropy, cross_entropy_derivatives};
use gpt::train::{Optimizer, Schedule, Trainer};
use kernels::{Backend, CacheSpan, Reference};
use safetensors::SafeTensors;

const SEQ_LEN: usize = 16;
const ROWS: usize = 2 * SEQ_LEN;
const LENS: [usize; 2] = [SEQ_LEN; 2];

fn config() -> Config {
    Config::gpt2(67, SEQ_LEN, 2, 3, 24)
}

struct Golden(Vec<u8>);

impl Golden {
    fn read() -> Self {
        Golden(std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/gpt2.safetensors")).unwrap())
    }
    fn bytes(&self, name: &str) -> Vec<[u8; 4]> {
        let file = SafeTensors::deserialize(&self.0).unwrap();
        file.tensor(name).unwrap().data().as_chunks::<4>().0.to_vec()
    }
    fn floats(&self, name: &str) -> Vec<f32> {
        self.bytes(name).into_iter().map(f32::from_le_bytes).collect()
    }
    fn ids(&self, name: &str) -> Vec<u32> {
        self.bytes(name).into_iter().map(u32::from_le_bytes).collect()
    }
    fn weights<B: Backend>(&self, b: &mut B) -> Weights<B::Tensor> {
        specs(&config()).map(|spec| {
            let values = self.floats(&format!("weight.{}", spec.name));
            let mut tensor = b.zeros(values.len());
            b.upload(&mut tensor, &values);
            tensor
        })
    }
    fn trainer<B: Backend>(&self, mut b: B) -> Trainer<B> {
        let weights = self.weights(&mut b);
        Trainer::new(b, config(), weights)
    }
}

fn host<B: Backend>(b: &mut B, x: &B::Tensor) -> Vec<f32> {
    let mut values = vec![0.0; b.len(x)];
    b.download(&mut values, x);
    values
}

/// Largest difference, relative to the largest expected value.
fn worst(got: &[f32], want: &[f32]) -> f32 {
    assert_eq!(got.len(), want.len());
    let scale = want.iter().fold(1e-6f32, |a, b| a.max(b.abs()));
    got.iter().zip(want).fold(0.0, |a, (g, w)| f32::max(a, (g - w).abs())) / scale
}

fn batch<'a>(tokens: &'a [u32], lens: &'a [usize]) -> Sequences<'a> {
    Sequences { tokens, lens, noise: None }
}

fn logits_agree<B: Backend>(mut b: B, tolerance: f32) {
    let golden = Golden::read();
    let weights = golden.weights(&mut b);
    let mut activations = Activations::new(&mut b, &config());
    let tokens = golden.ids("tokens");
    model::forward(&mut b, &config(), &weights, &mut activations, batch(&tokens, &LENS));
    let mut logits = b.zeros(ROWS * config().vocab_size);
    let shape = kernels::LinearShape { rows: ROWS, d_in: config().d_model, d_out: config().vocab_size };
    b.linear_forward(&mut logits, &activations.hidden, weights.head(), None, shape);
    let error = worst(&host(&mut b, &logits), &golden.floats("logits"));
    assert!(error < tolerance, "logits differ by {error:e}");
}

/// One pass over the golden batch in micro-batches of whole sequences; returns the loss, summed by sequence.
fn accumulate<B: Backend>(trainer: &mut Trainer<B>, tokens: &[u32], targets: &[u32], micro: &[usize]) -> f64 {
    let (mut derivatives, mut loss, mut first) = (Vec::new(), 0.0, 0);
    for &sequences in micro {
        let rows = first..first + sequences * SEQ_LEN;
        cross_entropy_derivatives(&mut derivatives, &targets[rows.clone()], ROWS);
        let part = batch(&tokens[rows.clone()], &LENS[..sequences]);
        let logprobs = trainer.accumulate(part, &targets[rows.clone()], &derivatives, SEQ_LEN);
        loss += logprobs.chunks(SEQ_LEN).map(|sequence| cross_entropy(sequence, ROWS)).sum::<f64>();
        first = rows.end;
    }
    loss
}

fn gradients_agree<B: Backend>(b: B, tolerance: f32) {
    let golden = Golden::read();
    let mut trainer = golden.trainer(b);
    let loss = accumulate(&mut trainer, &golden.ids("tokens"), &golden.ids("targets"), &[2]);
    let expected = golden.floats("loss")[0];
    assert!((loss as f32 - expected).abs() < tolerance * expected, "loss {loss}, PyTorch {expected}");
    let (backend, gradients) = trainer.gradients();
    for (gradient, spec) in gradients.leaves().into_iter().zip(specs(&config()).leaves()) {
        let error = worst(&host(backend, gradient), &golden.floats(&format!("grad.{}", spec.name)));
        assert!(error < tolerance, "the gradient of {} differs by {error:e}", spec.name);
    }
}

fn curve_agrees<B: Backend>(b: B, tolerance: f64) {
    let golden = Golden::read();
    let mut trainer = golden.trainer(b);
    let optimizer = Optimizer { beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.1, grad_clip: 1.0 };
    let schedule = Schedule { lr: 1e-2, min_lr_frac: 0.1, warmup_steps: 3, steps: 10 };
    let (tokens, targets) = (golden.ids("curve.tokens"), golden.ids("curve.targets"));
    let (losses, norms) = (golden.floats("curve.loss"), golden.floats("curve.grad_norm"));
    for step in 0..10 {
        let rows = step * ROWS..(step + 1) * ROWS;
        let loss = accumulate(&mut trainer, &tokens[rows.clone()], &targets[rows], &[1, 1]);
        let update = trainer.update(&optimizer, schedule.at(step as u64 + 1), loss);
        let close = |got: f64, want: f32| (got - f64::from(want)).abs() < tolerance * f64::from(want);
        assert!(close(loss, losses[step]), "step {step}: loss {loss}, PyTorch {}", losses[step]);
        assert!(close(update.grad_norm, norms[step]), "step {step}: norm {}", update.grad_norm);
    }
}

fn greedy_agrees<B: Backend>(mut b: B) {
    let golden = Golden::read();
    let weights = golden.weights(&mut b);
    let mut cache = Cache::new(&mut b, &config(), 1, SEQ_LEN);
    let mut logits = vec![0.0; config().vocab_size];
    let mut tokens = golden.ids("greedy.prompt");
    let mut start = 0;
    while tokens.len() < SEQ_LEN {
        let new = &tokens[start..];
        let span = CacheSpan { slot: 0, start, len: new.len() };
        let wanted = [new.len() as u32 - 1];
        model::forward_cached(&mut b, &config(), &weights, &mut cache, new, &[span], &wanted, &mut logits);
        start = tokens.len();
        let best = (0..logits.len()).max_by(|&i, &j| logits[i].total_cmp(&logits[j])).unwrap();
        tokens.push(best as u32);
    }
    assert_eq!(tokens[4..], golden.ids("greedy.tokens"));
}

mod reference {
    use super::*;

    #[test]
    fn logits() {
        logits_agree(Reference, 1e-6);
    }
    #[test]
    fn gradients() {
        gradients_agree(Reference, 1e-6);
    }
    #[test]
    fn ten_steps() {
        curve_agrees(Reference, 1e-6);
    }
    #[test]
    fn greedy() {
        greedy_agrees(Reference);
    }
}

mod cpu {
    use super::*;
    use kernels::cpu::{CpuOptions, Level};
    use kernels::{Cpu, Precision};

    fn at_every_level(precision: Precision, check: impl Fn(Cpu)) {
        for level in Level::available() {
            check(Cpu::new(CpuOptions { threads: 2, precision, level }));
        }
    }

    #[test]
    fn logits() {
        at_every_level(Precision::F32, |cpu| logits_agree(cpu, 1e-5));
        at_every_level(Precision::Bf16, |cpu| logits_agree(cpu, 3e-2));
    }
    #[test]
    fn gradients() {
        at_every_level(Precision::F32, |cpu| gradients_agree(cpu, 3e-5));
        at_every_level(Precision::Bf16, |cpu| gradients_agree(cpu, 6e-2));
    }
    #[test]
    fn ten_steps() {
        at_every_level(Precision::F32, |cpu| curve_agrees(cpu, 1e-4));
        at_every_level(Precision::Bf16, |cpu| curve_agrees(cpu, 3e-2));
    }
    #[test]
    fn greedy() {
        at_every_level(Precision::F32, greedy_agrees);
    }

    /// What the engine promises about bits: token by token with a cache, with packed weights, is what a whole pass gives.
    #[test]
    fn cached_and_full_passes_give_the_same_bits() {
        let golden = Golden::read();
        let tokens = &golden.ids("tokens")[..SEQ_LEN];
        at_every_level(Precision::F32, |mut cpu| {
            let b = &mut cpu;
            let mut weights = golden.weights(b);
            let mut activations = Activations::new(b, &config());
            model::forward(b, &config(), &weights, &mut activations, batch(tokens, &[SEQ_LEN]));
            let mut logits = b.zeros(SEQ_LEN * config().vocab_size);
            let (d_in, d_out) = (config().d_model, config().vocab_size);
            let shape = kernels::LinearShape { rows: SEQ_LEN, d_in, d_out };
            b.linear_forward(&mut logits, &activations.hidden, weights.head(), None, shape);
            let full = host(b, &logits);

            weights.lm_head = Some(b.packed(&weights.wte, d_in, d_out));
            let mut cache = Cache::new(b, &config(), 2, SEQ_LEN);
            let mut cached = vec![0.0; config().vocab_size];
            for (start, want) in full.chunks(config().vocab_size).enumerate() {
                let span = CacheSpan { slot: 1, start, len: 1 };
                let new = &tokens[start..=start];
                model::forward_cached(b, &config(), &weights, &mut cache, new, &[span], &[0], &mut cached);
                assert!(cached.iter().zip(want).all(|(a, b)| a.to_bits() == b.to_bits()), "position {start}");
            }
        });
    }

    /// What training promises about bits: neither threads nor the cut into micro-batches change them.
    #[test]
    fn threads_and_micro_batches_change_nothing() {
        let golden = Golden::read();
        let (tokens, targets) = (golden.ids("tokens"), golden.ids("targets"));
        for precision in [Precision::F32, Precision::Bf16] {
            let bits = |threads: usize, micro: &[usize]| {
                let options = CpuOptions { threads, precision, level: Level::detect() };
                let mut trainer = golden.trainer(Cpu::new(options));
                let loss = accumulate(&mut trainer, &tokens, &targets, micro);
                let (backend, gradients) = trainer.gradients();
                let gradients: Vec<f32> =
                    gradients.leaves().into_iter().flat_map(|g| host(backend, g)).collect();
                (loss.to_bits(), gradients.iter().map(|g| g.to_bits()).collect::<Vec<_>>())
            };
            let once = bits(1, &[2]);
            assert!(bits(3, &[2]) == once && bits(2, &[1, 1]) == once, "{precision:?}");
        }
    }
}
