//! Conversations of a batch do not see each other.

use kernels::{Cpu, CpuOptions, NO_TARGET, Precision, rng};
use lm::model::{self, Config, Sequences};
use lm::train::Trainer;
use text::data::{Batch, Conversations, Sequence};

const VOCAB_SIZE: usize = 300;

/// A conversation in which every other token is the assistant's.
fn conversation(number: u64, len: u64) -> Sequence {
    let token = |i| rng::below(7, number, i, VOCAB_SIZE as u64) as u32;
    let target = |i| if i % 2 == 0 { token(i + 1) } else { NO_TARGET };
    Sequence { tokens: (0..len).map(token).collect(), targets: (0..len).map(target).collect(), cut_tokens: 0 }
}

#[test]
fn a_conversation_in_a_batch_has_the_loss_that_it_has_alone() {
    let rows: Vec<Sequence> = (0..6).map(|i| conversation(i, 20 + 7 * (i % 5))).collect();
    let data = Conversations::new(&rows, 7);
    for config in [Config::gpt2(VOCAB_SIZE, 200, 2, 4, 64), Config::modern(VOCAB_SIZE, 200, 2, 4, 64)] {
        let mut cpu = Cpu::new(CpuOptions { threads: 2, precision: Precision::F32, ..CpuOptions::default() });
        let weights = model::init(&mut cpu, &config, 5);
        let mut trainer = Trainer::new(&mut cpu, config, weights);
        let mut batch = Batch::default();
        data.batch(1, 6, &mut batch);
        let sequences = Sequences { tokens: &batch.tokens, lens: &batch.lens, noise: None };
        let packed = trainer.evaluate(&mut cpu, sequences, &batch.targets).to_vec();
        assert!(packed.iter().any(|&logprob| logprob < 0.0));
        let mut alone = Vec::new();
        for part in (0..6).map(|i| batch.part(i..i + 1)) {
            let sequences = Sequences { tokens: part.tokens, lens: part.lens, noise: None };
            alone.extend_from_slice(trainer.evaluate(&mut cpu, sequences, part.targets));
        }
        let bits = |logprobs: &[f64]| logprobs.iter().map(|logprob| logprob.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&packed), bits(&alone));
    }
}
