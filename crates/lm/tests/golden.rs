//! Every family and the optimizer step against PyTorch: logits, every gradient, ten steps, a greedy
//! continuation. The values come from `tools/golden_models.py`.

#![allow(clippy::unwrap_used)] // A test that finds no value has failed.

use std::path::{Path, PathBuf};

use kernels::{Backend, CacheSpan, LinearShape, Reference};
use lm::checkpoint;
use lm::model::{self, Activations, Biases, Cache, Config, Positions, Rope, Sequences, Weights, specs};
use lm::objective::{cross_entropy, cross_entropy_derivatives};
use lm::train::{Decay, Lane, Optimizer, Schedule, Trainer, Update};
use safetensors::SafeTensors;

const SEQ_LEN: usize = 16;
const ROWS: usize = 2 * SEQ_LEN;
const LENS: [usize; 2] = [SEQ_LEN; 2];

/// What PyTorch computed for one family.
struct Golden {
    family: &'static str,
    config: Config,
    file: Vec<u8>,
}

fn golden_path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// All families, in the shapes that the script gives them.
fn families() -> Vec<Golden> {
    let modern = |n_head, n_kv_head, head_dim, d_model| Config {
        n_kv_head,
        head_dim,
        d_ff: 20,
        norm_eps: 1e-6,
        ..Config::modern(41, SEQ_LEN, 2, n_head, d_model)
    };
    let far = Positions::Rotary(Rope { theta: 1e6, ..Rope::default() });
    let configs = [
        ("gpt1", Config::gpt1(41, SEQ_LEN, 2, 3, 12)),
        ("gpt2", Config::gpt2(67, SEQ_LEN, 2, 3, 24)),
        ("gpt_neo", Config { d_ff: 20, band: Some(5), ..Config::gpt3(41, SEQ_LEN, 3, 2, 16) }),
        ("llama", Config { d_ff: 28, tied_head: false, ..modern(4, 2, 8, 16) }),
        ("qwen2", Config { positions: far, biases: Biases::Qkv, ..modern(6, 2, 4, 24) }),
        ("qwen3", Config { qk_norm: true, ..modern(4, 1, 6, 16) }),
    ];
    let read = |(family, config)| {
        let file = std::fs::read(golden_path(&format!("{family}.safetensors"))).unwrap();
        Golden { family, config, file }
    };
    configs.into_iter().map(read).collect()
}

impl Golden {
    fn bytes(&self, name: &str) -> Vec<[u8; 4]> {
        let file = SafeTensors::deserialize(&self.file).unwrap();
        file.tensor(name).unwrap().data().as_chunks::<4>().0.to_vec()
    }
    fn floats(&self, name: &str) -> Vec<f32> {
        self.bytes(name).into_iter().map(f32::from_le_bytes).collect()
    }
    fn ids(&self, name: &str) -> Vec<u32> {
        self.bytes(name).into_iter().map(u32::from_le_bytes).collect()
    }
    fn weights<B: Backend>(&self, b: &mut B) -> Weights<B::Tensor> {
        specs(&self.config).map(|spec| {
            let values = self.floats(&format!("weight.{}", spec.name));
            let mut tensor = b.zeros(values.len());
            b.upload(&mut tensor, &values);
            tensor
        })
    }
    fn trainer<B: Backend>(&self, b: &mut B) -> Trainer<B> {
        let weights = self.weights(b);
        Trainer::new(b, self.config.clone(), weights)
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

/// The logits of every row of a batch.
fn logits<B: Backend>(
    b: &mut B,
    config: &Config,
    weights: &Weights<B::Tensor>,
    batch: Sequences<'_>,
) -> Vec<f32> {
    let mut activations = Activations::new(b, config);
    model::forward(b, config, weights, &mut activations, batch);
    let shape = LinearShape { rows: batch.tokens.len(), d_in: config.d_model, d_out: config.vocab_size };
    let mut logits = b.zeros(shape.rows * shape.d_out);
    b.linear_forward(&mut logits, &activations.hidden, weights.head(), None, shape);
    host(b, &logits)
}

fn logits_agree<B: Backend>(golden: &Golden, mut b: B, tolerance: f32) {
    let weights = golden.weights(&mut b);
    let tokens = golden.ids("tokens");
    let got = logits(&mut b, &golden.config, &weights, batch(&tokens, &LENS));
    let error = worst(&got, &golden.floats("logits"));
    assert!(error < tolerance, "{}: logits differ by {error:e}", golden.family);
}

/// One pass over the golden batch in micro-batches of whole sequences.
fn accumulate<B: Backend>(
    b: &mut B,
    trainer: &mut Trainer<B>,
    tokens: &[u32],
    targets: &[u32],
    micro: &[usize],
) {
    let (mut derivatives, mut first) = (Vec::new(), 0);
    for &sequences in micro {
        let rows = first..first + sequences * SEQ_LEN;
        cross_entropy_derivatives(&mut derivatives, &targets[rows.clone()], ROWS);
        let part = batch(&tokens[rows.clone()], &LENS[..sequences]);
        trainer.accumulate(b, part, &targets[rows.clone()], &derivatives, Lane::Number(0));
        first = rows.end;
    }
}

/// Ends the step; returns what was done, and the loss, summed by sequence.
fn update<B: Backend>(b: &mut B, trainer: &mut Trainer<B>, lr: f32) -> (Update, f64) {
    let optimizer =
        Optimizer { beta1: 0.9, beta2: 0.95, eps: 1e-8, eps_hat: false, weight_decay: 0.1, grad_clip: 1.0 };
    let update = trainer.update(b, &optimizer, lr, None);
    (update, trainer.told().chunks(SEQ_LEN).map(|sequence| cross_entropy(sequence, ROWS)).sum())
}

fn gradients_agree<B: Backend>(golden: &Golden, mut b: B, tolerance: f32) {
    let family = golden.family;
    let b = &mut b;
    let mut trainer = golden.trainer(b);
    accumulate(b, &mut trainer, &golden.ids("tokens"), &golden.ids("targets"), &[2]);
    for (gradient, spec) in trainer.gradients(b).leaves().into_iter().zip(specs(&golden.config).leaves()) {
        let error = worst(&host(b, gradient), &golden.floats(&format!("grad.{}", spec.name)));
        assert!(error < tolerance, "{family}: the gradient of {} differs by {error:e}", spec.name);
    }
    let ((_, loss), expected) = (update(b, &mut trainer, 0.0), golden.floats("loss")[0]);
    assert!(
        (loss as f32 - expected).abs() < tolerance * expected,
        "{family}: loss {loss}, PyTorch {expected}"
    );
}

fn curve_agrees<B: Backend>(golden: &Golden, mut b: B, tolerance: f64) {
    let family = golden.family;
    let b = &mut b;
    let mut trainer = golden.trainer(b);
    let decay = Decay::Cosine;
    let schedule = Schedule { lr: 1e-2, min_lr_frac: 0.1, decay, warmup_steps: 3, steps: 10 };
    let (tokens, targets) = (golden.ids("curve.tokens"), golden.ids("curve.targets"));
    let (losses, norms) = (golden.floats("curve.loss"), golden.floats("curve.grad_norm"));
    for step in 0..10 {
        let rows = step * ROWS..(step + 1) * ROWS;
        accumulate(b, &mut trainer, &tokens[rows.clone()], &targets[rows], &[1, 1]);
        let (update, loss) = update(b, &mut trainer, schedule.at(step as u64 + 1));
        let close = |got: f64, want: f32| (got - f64::from(want)).abs() < tolerance * f64::from(want);
        assert!(close(loss, losses[step]), "{family}, step {step}: loss {loss}, PyTorch {}", losses[step]);
        assert!(close(update.grad_norm, norms[step]), "{family}, step {step}: norm {}", update.grad_norm);
    }
}

fn greedy_agrees<B: Backend>(golden: &Golden, mut b: B) {
    let config = &golden.config;
    let weights = golden.weights(&mut b);
    let mut cache = Cache::new(&mut b, config, 1, SEQ_LEN);
    let mut logits = vec![0.0; config.vocab_size];
    let mut tokens = golden.ids("greedy.prompt");
    let mut start = 0;
    while tokens.len() < SEQ_LEN {
        let new = &tokens[start..];
        let span = CacheSpan { slot: 0, start, len: new.len() };
        let wanted = [new.len() as u32 - 1];
        model::forward_cached(&mut b, config, &weights, &mut cache, new, &[span], &wanted);
        b.download(&mut logits, &cache.logits);
        start = tokens.len();
        let best = (0..logits.len()).max_by(|&i, &j| logits[i].total_cmp(&logits[j])).unwrap();
        tokens.push(best as u32);
    }
    assert_eq!(tokens[4..], golden.ids("greedy.tokens"), "{}", golden.family);
}

/// Rotary positions stretched in every way, beyond the context that they were made for.
fn ropes_agree<B: Backend>(mut make: impl FnMut() -> B, tolerance: f32) {
    let file = std::fs::read(golden_path("rope.safetensors")).unwrap();
    let configs = std::fs::read(golden_path("rope.json")).unwrap();
    let configs: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&configs).unwrap();
    assert!(configs.len() >= 6);
    for (way, json) in configs {
        let dir = tempfile::tempdir().unwrap();
        std::fs::copy(golden_path("llama-tiny/model.safetensors"), dir.path().join("model.safetensors"))
            .unwrap();
        std::fs::write(dir.path().join("config.json"), json.to_string()).unwrap();
        let model = checkpoint::open(dir.path(), &text::progress::Silent).unwrap();
        let golden = Golden { family: "llama", config: model.config.clone(), file: file.clone() };
        let mut b = make();
        let weights = model.weights(checkpoint::to_backend(&mut b, &model.config)).unwrap();
        let tokens = golden.ids("tokens");
        let got = logits(&mut b, &golden.config, &weights, batch(&tokens, &[tokens.len()]));
        let error = worst(&got, &golden.floats(&format!("logits.{way}")));
        assert!(error < tolerance, "{way}: logits differ by {error:e}");
    }
}

mod reference {
    use super::*;

    #[test]
    fn logits() {
        families().iter().for_each(|golden| logits_agree(golden, Reference, 1e-6));
    }
    #[test]
    fn gradients() {
        families().iter().for_each(|golden| gradients_agree(golden, Reference, 1e-6));
    }
    #[test]
    fn ten_steps() {
        families().iter().for_each(|golden| curve_agrees(golden, Reference, 1e-6));
    }
    #[test]
    fn greedy() {
        families().iter().for_each(|golden| greedy_agrees(golden, Reference));
    }
    #[test]
    fn ropes() {
        ropes_agree(|| Reference, 1e-6);
    }
}

mod cpu {
    use super::*;
    use kernels::cpu::{CpuOptions, Level};
    use kernels::{Cpu, Precision};

    fn at_every_level(precision: Precision, check: impl Fn(&Golden, Cpu)) {
        for golden in families() {
            for level in Level::available() {
                check(&golden, Cpu::new(CpuOptions { threads: 2, precision, level }));
            }
        }
    }

    #[test]
    fn logits() {
        at_every_level(Precision::F32, |golden, cpu| logits_agree(golden, cpu, 1e-5));
        at_every_level(Precision::Bf16, |golden, cpu| logits_agree(golden, cpu, 3e-2));
    }
    #[test]
    fn gradients() {
        at_every_level(Precision::F32, |golden, cpu| gradients_agree(golden, cpu, 3e-5));
        at_every_level(Precision::Bf16, |golden, cpu| gradients_agree(golden, cpu, 1e-1));
    }
    #[test]
    fn ten_steps() {
        at_every_level(Precision::F32, |golden, cpu| curve_agrees(golden, cpu, 1e-4));
        at_every_level(Precision::Bf16, |golden, cpu| curve_agrees(golden, cpu, 5e-2));
    }
    #[test]
    fn greedy() {
        at_every_level(Precision::F32, greedy_agrees);
    }
    #[test]
    fn ropes() {
        for level in Level::available() {
            ropes_agree(|| Cpu::new(CpuOptions { threads: 2, precision: Precision::F32, level }), 1e-5);
        }
    }

    /// What the engine promises about bits: token by token with a cache, with packed weights, is what a whole
    /// pass gives.
    #[test]
    fn cached_and_full_passes_give_the_same_bits() {
        at_every_level(Precision::F32, |golden, mut cpu| {
            let (config, tokens) = (&golden.config, &golden.ids("tokens")[..SEQ_LEN]);
            let b = &mut cpu;
            let mut weights = golden.weights(b);
            let full = super::logits(b, config, &weights, batch(tokens, &[SEQ_LEN]));

            weights.lm_head = Some(b.packed(weights.head(), config.d_model, config.vocab_size));
            let mut cache = Cache::new(b, config, 2, SEQ_LEN);
            let mut cached = vec![0.0; config.vocab_size];
            for (start, want) in full.chunks(config.vocab_size).enumerate() {
                let span = CacheSpan { slot: 1, start, len: 1 };
                let new = &tokens[start..=start];
                model::forward_cached(b, config, &weights, &mut cache, new, &[span], &[0]);
                b.download(&mut cached, &cache.logits);
                let same = cached.iter().zip(want).all(|(a, b)| a.to_bits() == b.to_bits());
                assert!(same, "{}, position {start}", golden.family);
            }
        });
    }

    /// What training promises about bits: neither threads nor the cut into micro-batches change them.
    #[test]
    fn threads_and_micro_batches_change_nothing() {
        for golden in families() {
            let (tokens, targets) = (golden.ids("tokens"), golden.ids("targets"));
            for precision in [Precision::F32, Precision::Bf16] {
                let bits = |threads: usize, micro: &[usize]| {
                    let options = CpuOptions { threads, precision, level: Level::detect() };
                    let b = &mut Cpu::new(options);
                    let mut trainer = golden.trainer(b);
                    accumulate(b, &mut trainer, &tokens, &targets, micro);
                    let gradients = trainer.gradients(b).leaves().into_iter();
                    let gradients: Vec<f32> = gradients.flat_map(|g| host(b, g)).collect();
                    let (_, loss) = update(b, &mut trainer, 0.0);
                    (loss.to_bits(), gradients.iter().map(|g| g.to_bits()).collect::<Vec<_>>())
                };
                let once = bits(1, &[2]);
                let same = bits(3, &[2]) == once && bits(2, &[1, 1]) == once;
                assert!(same, "{}, {precision:?}", golden.family);
            }
        }
    }
}
