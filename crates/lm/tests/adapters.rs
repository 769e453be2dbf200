//! Adapters against PEFT: its directories, what a model computes with them, how they learn. The values come from
//! `tools/golden_adapters.py`. And every leaf of an adapter by finite differences in `f64`.

#![allow(clippy::unwrap_used)] // A test that finds no value has failed.

#[allow(dead_code)] // What it holds a backend to is not wanted here.
mod families;

use std::fs;
use std::path::{Path, PathBuf};

use families::{LENS, batch, golden_path, logits, worst};
use kernels::{Backend, BlockFormat, BlockMatrix, Cpu, CpuOptions, NO_TARGET, Precision, Reference, rng};
use lm::checkpoint::{self, About, AdapterFiles, Checkpoint, Dtype};
use lm::model::{
    self, Activations, Adapted, Adapter, BaseStorage, Config, Lora, LowRank, Method, Noise, Pair, PairShape,
    Pass, Sequences, Spec, Weights, adapter_specs, specs,
};
use lm::objective::{cross_entropy, cross_entropy_derivatives};
use lm::plan::{BF16_BYTES, Plan};
use lm::train::{Lane, Optimizer, Trainer};
use safetensors::SafeTensors;
use text::progress::Silent;
use text::tokenizer::Tokenizer;

/// The adapters that are compared, and the family of each.
const LOGITS: [&str; 15] = [
    "gpt1-lora",
    "gpt2-lora",
    "gpt2-attention",
    "gpt_neo-lora",
    "llama-lora",
    "llama-rslora",
    "llama-patterns",
    "llama-expression",
    "qwen2-lora",
    "qwen3-lora",
    "gpt1-dora",
    "gpt2-dora",
    "gpt_neo-dora",
    "llama-dora",
    "qwen2-dora",
];

fn adapter_path(name: &str) -> PathBuf {
    golden_path("adapters").join(name)
}

fn base(name: &str) -> Checkpoint {
    let family = name.split('-').next().unwrap();
    checkpoint::open(&golden_path(&format!("{family}-tiny")), &Silent).unwrap()
}

fn value(file: &str, name: &str) -> Vec<[u8; 4]> {
    let bytes = fs::read(golden_path(file)).unwrap();
    SafeTensors::deserialize(&bytes).unwrap().tensor(name).unwrap().data().as_chunks::<4>().0.to_vec()
}

fn floats(name: &str) -> Vec<f32> {
    value("adapters/values.safetensors", name).into_iter().map(f32::from_le_bytes).collect()
}

fn ids(name: &str, key: &str) -> Vec<u32> {
    let family = name.split('-').next().unwrap();
    value(&format!("{family}.safetensors"), key).into_iter().map(u32::from_le_bytes).collect()
}

fn cpu() -> Cpu {
    Cpu::new(CpuOptions { threads: 2, precision: Precision::F32, ..CpuOptions::default() })
}

/// A base's weights with an adapter beside them, not merged.
fn unmerged<B: Backend>(b: &mut B, base: &Checkpoint, files: &AdapterFiles) -> Weights<B::Tensor> {
    let weights = base.weights(checkpoint::to_backend(b, &base.config)).unwrap();
    let adapter = files.adapter.map(|spec| tensor(b, &files.read(spec).unwrap().unwrap()));
    let mut weights = Weights { adapter: Some(adapter), ..weights };
    model::set_magnitudes(b, &mut weights, false);
    weights
}

fn tensor<B: Backend>(b: &mut B, values: &[f32]) -> B::Tensor {
    let mut tensor = b.zeros(values.len());
    b.upload(&mut tensor, values);
    tensor
}

#[test]
fn logits_are_those_of_peft_beside_the_weights_and_merged_into_them() {
    for name in LOGITS {
        let (expected, tokens) = (floats(&format!("{name}.logits")), ids(name, "tokens"));
        let merged = base(name).with_adapter(&adapter_path(name), &Silent).unwrap();
        let b = &mut cpu();
        let weights = merged.weights(checkpoint::to_backend(b, &merged.config)).unwrap();
        let of_merged = logits(b, &merged.config, &weights, batch(&tokens, &LENS));
        let off = worst(&of_merged, &expected);
        assert!(off < 1e-5, "{name}, merged: {off}");

        let (base, files) = merged.apart();
        let weights = unmerged(b, &base, &files.unwrap());
        let off = worst(&logits(b, &base.config, &weights, batch(&tokens, &LENS)), &expected);
        assert!(off < 1e-5, "{name}, beside: {off}");
        let weights = unmerged(&mut Reference, &base, &base_files(name));
        let off = worst(&logits(&mut Reference, &base.config, &weights, batch(&tokens, &LENS)), &expected);
        assert!(off < 3e-6, "{name}, in f64: {off}"); // √head_dim of GPT-Neo is rounded.
    }
}

fn base_files(name: &str) -> AdapterFiles {
    base(name).with_adapter(&adapter_path(name), &Silent).unwrap().apart().1.unwrap()
}

#[test]
fn scores_are_those_of_peft() {
    let name = "llama-score";
    let (expected, tokens) = (floats(&format!("{name}.scores")), ids(name, "tokens"));
    let model = base(name).with_adapter(&adapter_path(name), &Silent).unwrap();
    assert_eq!((model.config.n_label, model.architecture()), (Some(2), "LlamaForCausalLM"));
    let b = &mut cpu();
    let weights = model.weights(checkpoint::to_backend(b, &model.config)).unwrap();
    let (mut activations, mut scores) = (Activations::new(b, &model.config), Vec::new());
    model::forward(b, &model.config, &weights, &mut activations, batch(&tokens, &LENS));
    model::scores(b, &model.config, &weights, &mut activations, &[15, 31], None, &mut scores);
    assert!(worst(&scores, &expected) < 1e-5, "{scores:?} {expected:?}");
}

/// Twenty steps from the same adapter on the same batches.
#[test]
fn it_learns_as_with_peft() {
    let optimizer =
        Optimizer { beta1: 0.9, beta2: 0.95, eps: 1e-8, eps_hat: false, weight_decay: 0.1, grad_clip: 0.0 };
    for name in ["llama-fresh", "gpt2-fresh", "qwen2-lora", "llama-dora", "gpt2-dora", "qwen2-dora"] {
        let expected = floats(&format!("{name}.curve"));
        let (tokens, targets) = (ids(name, "curve.tokens"), ids(name, "curve.targets"));
        let b = &mut cpu();
        let (base, files) = (base(name), base_files(name));
        let weights = unmerged(b, &base, &files);
        let mut trainer = Trainer::new(b, base.config.clone(), weights);
        let rows: usize = LENS.iter().sum();
        let steps = tokens.chunks(rows).zip(targets.chunks(rows)).cycle();
        for (step, (expected, (tokens, targets))) in expected.iter().zip(steps).enumerate() {
            let mut derivatives = Vec::new();
            cross_entropy_derivatives(&mut derivatives, targets, rows);
            trainer.accumulate(b, batch(tokens, &LENS), targets, &derivatives, Lane::Only);
            assert!(trainer.update(b, &optimizer, 1e-2, None).applied);
            let loss = cross_entropy(trainer.told(), rows) as f32;
            assert!((loss - expected).abs() < 1e-3 * expected, "{name}, step {step}: {loss}, not {expected}");
        }
        let first = base.weights(checkpoint::to_backend(b, &base.config)).unwrap();
        for (weight, first) in trainer.weights.leaves().into_iter().zip(first.leaves()) {
            assert_eq!(families::host(b, weight), families::host(b, first), "{name}: what is frozen stays");
        }
    }
}

/// Blocks are a matter of storage: what is learned beside them has the bits that it has beside their values.
#[test]
fn a_base_in_blocks_is_its_values() {
    let config = Config { n_kv_head: 2, d_ff: 80, ..Config::modern(101, 32, 2, 4, 48) };
    let tokens: Vec<u32> = (0..64).map(|i| rng::below(1, 1, i, 101) as u32).collect();
    let (lens, base_of) = ([32; 2], |spec: &Spec, format| {
        let shape = || [spec.shape[0], spec.shape[1]];
        let values = model::fresh(spec, 5, spec.len() as u64);
        let matrix = || match BlockFormat::MADE.contains(&format) {
            true => BlockMatrix::quantise(format, &values, shape()).unwrap(),
            false => BlockMatrix::noise(format, shape(), spec.len() as u64),
        };
        spec.is_block_matrix().then(matrix)
    });
    let optimizer =
        Optimizer { beta1: 0.9, beta2: 0.95, eps: 1e-8, eps_hat: false, weight_decay: 0.1, grad_clip: 1.0 };
    for (format, dora) in BlockFormat::ALL.into_iter().flat_map(|format| [(format, false), (format, true)]) {
        let described = Weights { adapter: Some(adapter(&config, 0.0, dora)), ..specs(&config) };
        let learned = |in_blocks: bool, threads| {
            let b = &mut Cpu::new(CpuOptions { threads, precision: Precision::F32, ..CpuOptions::default() });
            let mut weights = described.map(|spec| match base_of(spec, format) {
                Some(matrix) if in_blocks => b.blocks(matrix),
                Some(matrix) => tensor(b, &matrix.values()),
                None => noise(b, spec.len() as u64, spec),
            });
            model::set_magnitudes(b, &mut weights, true);
            let mut trainer = Trainer::new(b, config.clone(), weights);
            let (mut derivatives, mut told) = (Vec::new(), Vec::new());
            cross_entropy_derivatives(&mut derivatives, &tokens, tokens.len());
            for _ in 0..3 {
                trainer.accumulate(b, batch(&tokens, &lens), &tokens, &derivatives, Lane::Only);
                assert!(trainer.update(b, &optimizer, 1e-2, None).applied);
                told.push(cross_entropy(trainer.told(), tokens.len()));
            }
            assert!(told[2] < told[0], "{format}: {told:?}");
            let leaves = trainer.weights.adapter.as_ref().unwrap().leaves();
            (told, leaves.into_iter().map(|leaf| families::host(b, leaf)).collect::<Vec<_>>())
        };
        assert_eq!(learned(true, 3), learned(false, 1), "{format}, dora {dora}");
    }
}

/// What is written again is what was read: the same tensors, and settings that mean the same.
#[test]
fn directories_of_peft_come_back_as_they_were() {
    for name in LOGITS.into_iter().chain(["llama-fresh"]) {
        let (base, files, b) = (base(name), base_files(name), &mut cpu());
        let weights = unmerged(b, &base, &files);
        let mut trainer = Trainer::new(b, base.config.clone(), weights);
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("again");
        trainer
            .save(b, &place, &tokenizer(), Dtype::F32, About { stage: "sft".into(), ..About::default() })
            .unwrap();
        let read = |dir: &Path| fs::read(dir.join("adapter_model.safetensors")).unwrap();
        let (ours, theirs) = (read(&place), read(&adapter_path(name)));
        let [ours, theirs] = [&ours, &theirs].map(|bytes| SafeTensors::deserialize(bytes).unwrap());
        let mut names = [ours.names(), theirs.names()];
        names.iter_mut().for_each(|names| names.sort());
        assert_eq!(names[0], names[1], "{name}");
        for tensor in theirs.names() {
            let [ours, theirs] = [&ours, &theirs].map(|file| file.tensor(tensor).unwrap());
            assert_eq!(ours.shape(), theirs.shape(), "{name}: {tensor}");
            let [ours, theirs] = [ours, theirs].map(|tensor| floats_of(tensor.data()));
            // Divided by √head_dim and multiplied again, where the family asks for it.
            assert!(worst(&ours, &theirs) < 1e-7, "{name}: {tensor}");
        }
        // And training goes on from it with the same bits.
        let before: Vec<_> =
            trainer.weights.leaves().into_iter().map(|leaf| families::host(b, leaf)).collect();
        let mut again = base.with_adapter(&place, &Silent).unwrap();
        // That of its base, whose training is over.
        again.config.dropout = 0.1;
        trainer.restore(b, &again).unwrap();
        let after: Vec<_> =
            trainer.weights.leaves().into_iter().map(|leaf| families::host(b, leaf)).collect();
        assert_eq!(before, after, "{name}");
    }
}

fn floats_of(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

fn tokenizer() -> Tokenizer {
    let texts = ["some words, and some more words"];
    Tokenizer::train(texts.iter().map(|text| Ok((*text).to_owned())), 260, &[], &Silent).unwrap()
}

// ---- by differences

const SHORT: [usize; 3] = [5, 1, 8];

fn noise<B: Backend>(b: &mut B, stream: u64, spec: &Spec) -> B::Tensor {
    let values: Vec<f32> = (0..spec.len() as u64).map(|i| 0.5 * rng::normal(7, stream, i) as f32).collect();
    tensor(b, &values)
}

/// Two pieces of queries, keys and values, of different ranks; all of the others.
fn adapter(config: &Config, dropout: f32, dora: bool) -> Adapter<Spec> {
    let [qkv, out, up, down] = config.products(1);
    let pair = |shape: kernels::LinearShape, scale, pieces: Vec<LowRank>| {
        Some(Pair {
            shape: PairShape { d_in: shape.d_in, d_out: shape.d_out, scale, pieces },
            a: (),
            b: (),
            magnitude: dora.then_some(()),
        })
    };
    let whole = |shape: kernels::LinearShape, rank| vec![LowRank { rows: 0..shape.d_out, rank }];
    let (q, kv) = (config.q_width(), config.kv_width());
    let parts = vec![LowRank { rows: 0..q, rank: 4 }, LowRank { rows: q + kv..q + 2 * kv, rank: 2 }];
    let block = || {
        [
            pair(qkv, 1.5, parts.clone()),
            pair(out, 0.7, whole(out, 3)),
            pair(up, 2.0, whole(up, 2)),
            pair(down, 0.5, whole(down, 1)),
        ]
    };
    let lora = Lora { dropout, dora, targets: Adapted::All, ..Lora::default() };
    adapter_specs(&Adapter {
        lora,
        base: BaseStorage::NUMBERS,
        blocks: (0..config.n_layer).map(|_| block()).collect(),
    })
}

fn by_differences(config: &Config, dropout: f32, dora: bool, lane: Lane) {
    let b = &mut Reference;
    let described = adapter(config, dropout, dora);
    let described = Weights { adapter: Some(described), ..specs(config) };
    let mut stream = 0;
    let mut weights = described.map(|spec| {
        stream += 1;
        noise(b, stream, spec)
    });
    // Outside of its blocks a B is zero.
    for pair in weights.adapter.iter_mut().flat_map(|adapter| &mut adapter.blocks).flatten().flatten() {
        let rank = pair.shape.rank();
        let mut inside = vec![false; pair.b.0.len()];
        for (rows, columns) in pair.shape.blocks() {
            rows.for_each(|row| inside[row * rank..][columns.clone()].fill(true));
        }
        pair.b.0.iter_mut().zip(inside).filter(|(_, inside)| !inside).for_each(|(b, _)| *b = 0.0);
    }
    let tokens: Vec<u32> = (0..14).map(|i| rng::below(1, 1, i, 13) as u32).collect();
    let targets: Vec<u32> =
        (0..14).map(|i| if i % 5 == 3 { NO_TARGET } else { rng::below(1, 2, i, 13) as u32 }).collect();
    let counted = targets.iter().filter(|&&target| target != NO_TARGET).count();
    let noise = (dropout > 0.0).then_some(Noise { seed: 3, first_row: 20 });
    let batch = Sequences { tokens: &tokens, lens: &SHORT, noise };
    let mut derivatives = Vec::new();
    cross_entropy_derivatives(&mut derivatives, &targets, counted);
    let mut trainer = Trainer::new(b, config.clone(), weights);
    trainer.accumulate(b, batch, &targets, &derivatives, lane);
    trainer.measure_norm(b);
    let gradients = trainer.gradients(b).map(|gradient| gradient.0.clone());
    let mut checked = 0;
    for (leaf, (spec, gradient)) in described.leaves().into_iter().zip(gradients.leaves()).enumerate() {
        if !spec.is_adapter() {
            assert!(gradient.is_empty() || spec.shape.len() == 1, "{} is frozen", spec.name);
            continue;
        }
        for (at, &analytic) in gradient.iter().enumerate() {
            let mut loss = |delta: f64| {
                trainer.weights.leaves_mut()[leaf].0[at] += delta;
                let loss = cross_entropy(trainer.evaluate(b, batch, &targets), counted);
                trainer.weights.leaves_mut()[leaf].0[at] -= delta;
                loss
            };
            let is_magnitude = spec.name.ends_with("lora_magnitude");
            if dora && !is_magnitude {
                // Norms are taken as constants: no differences tell these gradients, and PEFT's curves do.
                continue;
            }
            let is_masked =
                !is_magnitude && spec.name.ends_with("lora_b") && is_outside(&described, spec, at)
                    || is_magnitude && is_of_no_piece(&described, spec, at);
            let step = 1e-5;
            let numeric = if is_masked { 0.0 } else { (loss(step) - loss(-step)) / (2.0 * step) };
            let error = (numeric - analytic).abs() / (1e-3 + analytic.abs());
            assert!(
                error < 1e-6,
                "{}[{at}]: {analytic} by the backward pass, {numeric} by differences",
                spec.name
            );
            checked += 1;
        }
    }
    assert!(checked > if dora { 50 } else { 300 }, "{checked}");
}

/// Whether a value of a `B` is outside of its blocks.
fn is_outside(described: &Weights<Spec>, spec: &Spec, at: usize) -> bool {
    let adapter = described.adapter.as_ref().unwrap();
    let (.., pair) = adapter.pairs().find(|(.., pair)| pair.b.name == spec.name).unwrap();
    let (row, column) = (at / pair.shape.rank(), at % pair.shape.rank());
    !pair.shape.blocks().any(|(rows, columns)| rows.contains(&row) && columns.contains(&column))
}

/// Whether a magnitude is that of a row that is not adapted.
fn is_of_no_piece(described: &Weights<Spec>, spec: &Spec, at: usize) -> bool {
    let adapter = described.adapter.as_ref().unwrap();
    let is_it = |pair: &Pair<Spec>| pair.magnitude.as_ref().is_some_and(|leaf| leaf.name == spec.name);
    let (.., pair) = adapter.pairs().find(|(.., pair)| is_it(pair)).unwrap();
    !pair.shape.pieces.iter().any(|piece| piece.rows.contains(&at))
}

#[test]
fn every_leaf_is_the_finite_difference() {
    let gpt2 = Config { d_ff: 10, ..Config::gpt2(13, 8, 2, 2, 6) };
    by_differences(&gpt2, 0.0, false, Lane::Only);
    by_differences(&Config { d_ff: 10, ..Config::gpt1(13, 8, 2, 2, 6) }, 0.3, false, Lane::Number(0));
    let modern = Config { d_ff: 10, n_kv_head: 1, tied_head: false, ..Config::modern(13, 8, 2, 2, 8) };
    by_differences(&modern, 0.0, false, Lane::Number(0));
    by_differences(&modern, 0.0, true, Lane::Number(0));
    by_differences(&gpt2, 0.0, true, Lane::Only);
    by_differences(&Config { qk_norm: true, ..modern }, 0.4, false, Lane::Only);
}

/// The mean of a step's losses does not move a masked value, nor does weight decay; and a run that was killed goes
/// on: the bits of the adapter are those of one thread and of three, and of any cut into micro-batches.
#[test]
fn bits_depend_on_neither_threads_nor_micro_batches() {
    let config = Config { d_ff: 64, ..Config::modern(101, 32, 2, 4, 64) };
    let described = Weights { adapter: Some(adapter(&config, 0.1, false)), ..specs(&config) };
    let tokens: Vec<u32> = (0..96).map(|i| rng::below(1, 1, i, 101) as u32).collect();
    let lens = [32usize; 3];
    let train = |threads: usize, cuts: &[usize]| {
        let b = &mut Cpu::new(CpuOptions { threads, ..CpuOptions::default() });
        let mut leaf = 0;
        let weights = described.map(|spec| {
            leaf += 1;
            tensor(b, &model::fresh(spec, 5, leaf))
        });
        let mut trainer = Trainer::new(b, config.clone(), weights);
        let optimizer = Optimizer {
            beta1: 0.9,
            beta2: 0.95,
            eps: 1e-8,
            eps_hat: false,
            weight_decay: 0.1,
            grad_clip: 1.0,
        };
        let mut derivatives = Vec::new();
        cross_entropy_derivatives(&mut derivatives, &tokens, tokens.len());
        for step in 0..3 {
            let mut first = 0;
            for &sequences in cuts {
                let rows = first * 32..(first + sequences) * 32;
                let noise = Some(Noise { seed: step, first_row: rows.start as u64 });
                let batch = Sequences { tokens: &tokens[rows.clone()], lens: &lens[..sequences], noise };
                trainer.accumulate(b, batch, &tokens[rows.clone()], &derivatives[rows], Lane::Number(0));
                first += sequences;
            }
            assert!(trainer.update(b, &optimizer, 1e-2, None).applied);
        }
        trainer.weights.leaves().into_iter().flat_map(|leaf| families::host(b, leaf)).collect::<Vec<f32>>()
    };
    let expected = train(1, &[3]);
    assert!(expected.iter().all(|value| value.is_finite()));
    assert_eq!(train(3, &[3]), expected);
    assert_eq!(train(2, &[1, 2]), expected);
}

#[test]
fn an_adapter_has_gradients_and_moments_of_its_own_only() {
    let config = Config::gpt2(50_257, 1024, 12, 12, 768);
    let adapter = checkpoint::fresh_adapter(&config, &"r=8".parse().unwrap()).unwrap();
    let plan =
        Plan::new(&config, Some(&adapter), Some(1000), Pass::new(4096, BF16_BYTES), 1, 0, Method::AdamW);
    // 12 blocks of c_attn, two c_proj and c_fc, each of rank 8.
    let learned = 12 * 8 * ((768 + 2304) + (768 + 768) + (768 + 3072) + (3072 + 768));
    assert_eq!((plan.learned, plan.memory.moments), (learned, 8 * learned));
    // And a few of norms and biases, which nobody reads.
    let gradients = plan.memory.gradients;
    assert!((4 * learned..4 * learned + 1_000_000).contains(&gradients), "{gradients}");
    let whole = Plan::new(&config, None, Some(1000), Pass::new(4096, BF16_BYTES), 1, 0, Method::AdamW);
    assert_eq!(plan.memory.weights, whole.memory.weights + 4 * learned);
    assert!(plan.memory.total < whole.memory.total && plan.memory.activations > whole.memory.activations);
    assert!((plan.flops / whole.flops - 2.0 / 3.0).abs() < 1e-9);
    // Zeros beside the blocks of a B are not learned: three pieces of rank 2, and two.
    let config = Config { d_ff: 64, n_kv_head: 1, ..Config::modern(101, 32, 1, 4, 32) };
    let adapter = checkpoint::fresh_adapter(&config, &"r=2,dora".parse().unwrap()).unwrap();
    let [q, k, out, up, down] =
        [(32, 32), (8, 32), (32, 32), (64, 32), (32, 64)].map(|(rows, d_in)| 2 * (rows + d_in) + rows);
    assert_eq!(adapter.learned(), q + 2 * k + out + 2 * up + down);
}
