//! What holds a backend to PyTorch, of every family: logits, every gradient, ten steps of the optimizer, a
//! greedy continuation. The values come from `tools/golden_models.py`.

use std::path::{Path, PathBuf};

use kernels::{Backend, CacheSpan, LinearShape};
use lm::checkpoint;
use lm::model::{self, Activations, Biases, Cache, Config, Positions, Rope, Sequences, Weights, specs};
use lm::objective::{cross_entropy, cross_entropy_derivatives};
use lm::train::{Decay, Lane, Optimizer, Schedule, Trainer, Update};
use safetensors::SafeTensors;

pub(crate) const SEQ_LEN: usize = 16;
pub(crate) const ROWS: usize = 2 * SEQ_LEN;
pub(crate) const LENS: [usize; 2] = [SEQ_LEN; 2];

/// What PyTorch computed for one family.
pub(crate) struct Golden {
    pub(crate) family: &'static str,
    pub(crate) config: Config,
    file: Vec<u8>,
}

pub(crate) fn golden_path(name: &str) -> PathBuf {
    // Of the test that runs, which may be another crate's, and elsewhere than where it was built.
    let here = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_else(|_| env!("CARGO_MANIFEST_DIR").into());
    Path::new(&here).join("../lm/tests/golden").join(name)
}

/// All families, in the shapes that the script gives them.
pub(crate) fn families() -> Vec<Golden> {
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
    pub(crate) fn bytes(&self, name: &str) -> Vec<[u8; 4]> {
        let file = SafeTensors::deserialize(&self.file).unwrap();
        file.tensor(name).unwrap().data().as_chunks::<4>().0.to_vec()
    }
    pub(crate) fn floats(&self, name: &str) -> Vec<f32> {
        self.bytes(name).into_iter().map(f32::from_le_bytes).collect()
    }
    pub(crate) fn ids(&self, name: &str) -> Vec<u32> {
        self.bytes(name).into_iter().map(u32::from_le_bytes).collect()
    }
    pub(crate) fn weights<B: Backend>(&self, b: &mut B) -> Weights<B::Tensor> {
        specs(&self.config).map(|spec| {
            let values = self.floats(&format!("weight.{}", spec.name));
            let mut tensor = b.zeros(values.len());
            b.upload(&mut tensor, &values);
            tensor
        })
    }
    pub(crate) fn trainer<B: Backend>(&self, b: &mut B) -> Trainer<B> {
        let weights = self.weights(b);
        Trainer::new(b, self.config.clone(), weights)
    }
}

pub(crate) fn host<B: Backend>(b: &mut B, x: &B::Tensor) -> Vec<f32> {
    let mut values = vec![0.0; b.len(x)];
    b.download(&mut values, x);
    values
}

/// Largest difference, relative to the largest expected value.
pub(crate) fn worst(got: &[f32], want: &[f32]) -> f32 {
    assert_eq!(got.len(), want.len());
    let scale = want.iter().fold(1e-6f32, |a, b| a.max(b.abs()));
    got.iter().zip(want).fold(0.0, |a, (g, w)| f32::max(a, (g - w).abs())) / scale
}

pub(crate) fn batch<'a>(tokens: &'a [u32], lens: &'a [usize]) -> Sequences<'a> {
    Sequences { tokens, lens, noise: None }
}

/// The logits of every row of a batch.
pub(crate) fn logits<B: Backend>(
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

pub(crate) fn logits_agree<B: Backend>(golden: &Golden, mut b: B, tolerance: f32) {
    let weights = golden.weights(&mut b);
    let tokens = golden.ids("tokens");
    let got = logits(&mut b, &golden.config, &weights, batch(&tokens, &LENS));
    let error = worst(&got, &golden.floats("logits"));
    assert!(error < tolerance, "{}: logits differ by {error:e}", golden.family);
}

/// One pass over the golden batch in micro-batches of whole sequences.
pub(crate) fn accumulate<B: Backend>(
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
pub(crate) fn update<B: Backend>(b: &mut B, trainer: &mut Trainer<B>, lr: f32) -> (Update, f64) {
    let optimizer =
        Optimizer { beta1: 0.9, beta2: 0.95, eps: 1e-8, eps_hat: false, weight_decay: 0.1, grad_clip: 1.0 };
    let update = trainer.update(b, &optimizer, lr, None);
    (update, trainer.told().chunks(SEQ_LEN).map(|sequence| cross_entropy(sequence, ROWS)).sum())
}

pub(crate) fn gradients_agree<B: Backend>(golden: &Golden, mut b: B, tolerance: f32) {
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

pub(crate) fn curve_agrees<B: Backend>(golden: &Golden, mut b: B, tolerance: f64) {
    let family = golden.family;
    let b = &mut b;
    let mut trainer = golden.trainer(b);
    let decay = Decay::Cosine;
    let schedule =
        Schedule { lr: 1e-2, min_lr_frac: 0.1, decay, warmup_steps: 3, decay_steps: None, steps: 10 };
    let (tokens, targets) = (golden.ids("curve.tokens"), golden.ids("curve.targets"));
    let (losses, norms) = (golden.floats("curve.loss"), golden.floats("curve.grad_norm"));
    for step in 0..10 {
        let rows = step * ROWS..(step + 1) * ROWS;
        accumulate(b, &mut trainer, &tokens[rows.clone()], &targets[rows], &[1, 1]);
        let (update, loss) = update(b, &mut trainer, schedule.at(step as u64 + 1));
        let close = |got: f64, want: f32| (got - f64::from(want)).abs() < tolerance * f64::from(want);
        assert!(close(loss, losses[step]), "{family}, step {step}: loss {loss}, PyTorch {}", losses[step]);
        assert!(
            close(update.grad_norm, norms[step]),
            "{family}, step {step}: norm {}, PyTorch {}",
            update.grad_norm,
            norms[step]
        );
    }
}

pub(crate) fn greedy_agrees<B: Backend>(golden: &Golden, mut b: B) {
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
pub(crate) fn ropes_agree<B: Backend>(mut make: impl FnMut() -> B, tolerance: f32) {
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
