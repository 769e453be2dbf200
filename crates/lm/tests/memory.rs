//! What training takes is what was told before.
//!
//! A program of its own, without the usual test harness: the allocator measures the whole process.

#![allow(clippy::unwrap_used)] // A test that finds no value has failed.

use kernels::cpu::{CpuOptions, Level};
use kernels::{Cpu, HeadShape, Precision};
use lm::model::{self, Config, Noise, NormPlace, Sequences};
use lm::train::{Lane, Optimizer, Trainer};
use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

const SEQ_LEN: usize = 128;
const SEQUENCES: usize = 4;

/// The bytes that one step of a fresh trainer, a micro-batch in each lane, leaves allocated, and those of them
/// that it gives back where an engine is to take the place of its pass.
fn taken(b: &mut Cpu, config: &Config, lanes: usize) -> (usize, usize) {
    let before = MEMORY.current_usage();
    let weights = model::init(b, config, 1);
    let mut trainer = Trainer::new(b, config.clone(), weights);
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
            taken(&mut b, config, 1);
            for lanes in [1, 2, 8] {
                let (taken, given_back) = taken(&mut b, config, lanes);
                let told = config.training_memory(SEQUENCES * SEQ_LEN, activation_bytes, lanes);
                let ratio = taken as f64 / told.bytes() as f64;
                let what = format!("{name}, {precision:?}, {lanes} lanes");
                assert!((0.995..1.02).contains(&ratio), "{what}: took {taken}, told {told:?}");
                let ratio = given_back as f64 / told.pass_bytes as f64;
                assert!((0.5..1.0).contains(&ratio), "{what}: gave {given_back} back, told {told:?}");
            }
        }

        // What the backend works with is what the first step takes and the second does not.
        let config = Config::gpt2(20_000, SEQ_LEN, 1, 4, 128);
        let mut b = Cpu::new(CpuOptions { threads: 2, precision, level: Level::detect() });
        let works_with = taken(&mut b, &config, 1).0 - taken(&mut b, &config, 1).0;
        let rows = SEQUENCES * SEQ_LEN;
        let head = HeadShape { rows, d_model: 128, vocab_size: 20_000, temperature: 1.0 };
        let told = b.working_bytes(&config.products(rows), &head);
        let ratio = works_with as f64 / told as f64;
        assert!((0.95..1.1).contains(&ratio), "{precision:?}: works with {works_with}, told {told}");
    }
}
