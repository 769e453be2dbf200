//! What training takes is what was told before.
//!
//! A program of its own, without the usual test harness: the allocator measures the whole process.

#![allow(clippy::unwrap_used)] // A test that finds no value has failed.

use kernels::cpu::{CpuOptions, Level};
use kernels::{Backend, BlockFormat, Cpu, HeadShape, Precision};
use lm::checkpoint::{self, fresh_adapter};
use lm::model::{
    self, Adapter, BaseStorage, Config, Keep, Leaf, Method, Noise, NormPlace, Pass, Sequences, Spec,
};
use lm::train::{Lane, Optimizer, Trainer};
use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

const SEQ_LEN: usize = 128;
const SEQUENCES: usize = 4;

/// The bytes that one step of a fresh trainer, a micro-batch in each lane, leaves allocated, and those of them
/// that it gives back where an engine is to take the place of its pass.
fn taken(
    b: &mut Cpu,
    config: &Config,
    adapter: Option<&Adapter<Spec>>,
    lanes: usize,
    method: Method,
    keep: Keep,
) -> (usize, usize) {
    let before = MEMORY.current_usage();
    let format = |spec: &Spec| match adapter?.base {
        BaseStorage::In(format) => spec.is_block_matrix().then_some(format),
        BaseStorage::AsItIs { .. } => None,
    };
    let mut upload = checkpoint::to_backend_where(b, config, |spec| format(spec).is_none());
    let mut leaf = 0;
    let mut weights = model::specs(config).map(|spec| {
        leaf += 1;
        let values = model::fresh(spec, 1, leaf);
        upload(match format(spec) {
            Some(format) => Leaf::Blocks(checkpoint::quantised(spec, format, &values).unwrap()),
            None => Leaf::Values(values),
        })
    });
    drop(upload);
    weights.adapter = adapter.map(|adapter| adapter.map(|spec| b.zeros(spec.len())));
    let mut trainer = Trainer::by(method, b, config.clone(), weights);
    trainer.keep(b, keep);
    let (tokens, lens) = (vec![1; SEQUENCES * SEQ_LEN], [SEQ_LEN; SEQUENCES]);
    let rows = Sequences { tokens: &tokens, lens: &lens, noise: Some(Noise { seed: 1, first_row: 0 }) };
    for lane in 0..lanes {
        trainer.accumulate(b, rows, &tokens, &vec![-1e-3; tokens.len()], Lane::Number(lane));
    }
    let optimizer =
        Optimizer { beta1: 0.9, beta2: 0.95, eps: 1e-8, eps_hat: false, weight_decay: 0.1, grad_clip: 1.0 };
    trainer.update(b, &optimizer, 1e-3, None);
    let after = MEMORY.current_usage();
    trainer.release_pass(b);
    (after - before, after - MEMORY.current_usage())
}

fn main() {
    let modern = Config::modern(600, SEQ_LEN, 3, 8, 128);
    let configs = [
        ("gpt1", Config::gpt1(600, SEQ_LEN, 3, 4, 128)),
        ("gpt2", Config::gpt2(600, SEQ_LEN, 3, 4, 128)),
        ("gpt3, untied", Config { tied_head: false, ..Config::gpt3(600, SEQ_LEN, 3, 4, 128) }),
        ("modern", Config { n_kv_head: 2, ..modern.clone() }),
        ("modern, qk_norm", Config { qk_norm: true, ..modern.clone() }),
        ("modern, post-norm", Config { norm_place: NormPlace::Post, ..modern }),
    ];
    for (precision, activation_bytes) in [(Precision::F32, 4), (Precision::Bf16, 2)] {
        for (name, config) in &configs {
            let mut b = Cpu::new(CpuOptions { threads: 2, precision, level: Level::detect() });
            // The first time, the backend's own memory grows with it.
            taken(&mut b, config, None, 1, Method::Muon, Keep::Blocks);
            for (lanes, method, keep) in [
                (1, Method::AdamW, Keep::Blocks),
                (2, Method::AdamW, Keep::Blocks),
                (8, Method::AdamW, Keep::Blocks),
                (2, Method::Muon, Keep::Blocks),
                (1, Method::AdamW, Keep::Inputs),
            ] {
                let (taken, given_back) = taken(&mut b, config, None, lanes, method, keep);
                let pass = Pass::new(SEQUENCES * SEQ_LEN, activation_bytes).keeping(keep);
                let told = config.training_memory(pass, lanes).by(method, config);
                let ratio = taken as f64 / told.bytes() as f64;
                let what = format!("{name}, {precision:?}, {lanes} lanes, {method}, {keep:?}");
                assert!((0.995..1.02).contains(&ratio), "{what}: took {taken}, told {told:?}");
                let ratio = given_back as f64 / told.pass_bytes as f64;
                let least = if keep == Keep::Blocks { 0.5 } else { 0.25 };
                assert!((least..1.0).contains(&ratio), "{what}: gave {given_back} back, told {told:?}");
            }
        }

        // Beside a model that stays as it is.
        for (lora, base) in [
            ("r=8", BaseStorage::NUMBERS),
            ("r=4,dropout=0.1,targets=q_proj+v_proj+down_proj", BaseStorage::NUMBERS),
            ("r=4,dora", BaseStorage::NUMBERS),
            ("r=8", BaseStorage::In(BlockFormat::Q8_0)),
            ("r=4,dora", BaseStorage::In(BlockFormat::Nf4)),
        ] {
            let mut b = Cpu::new(CpuOptions { threads: 2, precision, level: Level::detect() });
            let config = Config { n_kv_head: 2, ..Config::modern(600, SEQ_LEN, 3, 8, 128) };
            let adapter = Adapter { base, ..fresh_adapter(&config, &lora.parse().unwrap()).unwrap() };
            taken(&mut b, &config, Some(&adapter), 1, Method::AdamW, Keep::Blocks);
            for (lanes, keep) in [(1, Keep::Blocks), (4, Keep::Blocks), (1, Keep::Inputs)] {
                let (taken, _) = taken(&mut b, &config, Some(&adapter), lanes, Method::AdamW, keep);
                let pass = Pass::new(SEQUENCES * SEQ_LEN, activation_bytes).keeping(keep);
                let told = config.training_memory_beside(&adapter, pass, lanes);
                let ratio = taken as f64 / told.bytes() as f64;
                let what = format!("{lora}, {base:?}, {precision:?}, {lanes} lanes, {keep:?}");
                assert!((0.98..1.03).contains(&ratio), "{what}: took {taken}, told {told:?}");
            }
        }

        // What the backend works with is what the first step takes and the second does not.
        let config = Config::gpt2(20_000, SEQ_LEN, 1, 4, 128);
        let mut b = Cpu::new(CpuOptions { threads: 2, precision, level: Level::detect() });
        let mut step = || taken(&mut b, &config, None, 1, Method::AdamW, Keep::Blocks).0;
        let works_with = step() - step();
        let rows = SEQUENCES * SEQ_LEN;
        let head = HeadShape::new(rows, 128, 20_000);
        let told = b.working_bytes(&config.products(rows), &head);
        let ratio = works_with as f64 / told as f64;
        assert!((0.95..1.1).contains(&ratio), "{precision:?}: works with {works_with}, told {told}");
    }
}
