//! A trainer that begins again is a new one: its weights, its moments and its number of updates.

#![allow(clippy::unwrap_used)] // A test that finds no value has failed.

use kernels::cpu::{CpuOptions, Level};
use kernels::{Backend, Cpu, Precision};
use lm::model::{self, Config, Sequences};
use lm::train::{Lane, Optimizer, Trainer};

/// The weights after each of two updates on the same tokens.
fn learn(cpu: &mut Cpu, trainer: &mut Trainer<Cpu>) -> Vec<Vec<f32>> {
    let optimizer =
        Optimizer { beta1: 0.9, beta2: 0.95, eps: 1e-8, eps_hat: false, weight_decay: 0.1, grad_clip: 1.0 };
    let (tokens, targets) = ([1, 2, 3, 4, 5], [2, 3, 4, 5, 6]);
    let batch = Sequences { tokens: &tokens, lens: &[3, 2], noise: None };
    let mut after = Vec::new();
    for _ in 0..2 {
        trainer.accumulate(cpu, batch, &targets, &[-0.2; 5], Lane::Number(0));
        trainer.update(cpu, &optimizer, 1e-2, None);
        for weight in trainer.weights.leaves() {
            let mut values = vec![0.0; cpu.len(weight)];
            cpu.download(&mut values, weight);
            after.push(values);
        }
    }
    after
}

#[test]
fn who_begins_again_learns_the_same_again() {
    let mut cpu = Cpu::new(CpuOptions { threads: 1, precision: Precision::F32, level: Level::detect() });
    let config = Config::gpt2(9, 4, 2, 2, 16);
    let weights = model::init(&mut cpu, &config, 1);
    let mut trainer = Trainer::new(&mut cpu, config.clone(), weights);
    let first = learn(&mut cpu, &mut trainer);
    assert!(first != learn(&mut cpu, &mut trainer), "it goes on learning");
    let weights = model::init(&mut cpu, &config, 1);
    trainer.restart(&mut cpu, weights);
    assert!(first == learn(&mut cpu, &mut trainer));
}
