//! Blocks that are computed again on the way back: the gradients, and all that is learned, to the bit.

#![allow(clippy::unwrap_used)] // A test that finds no value has failed.

use kernels::cpu::{CpuOptions, Level};
use kernels::{Backend, Cpu, NO_TARGET, Precision, rng};
use lm::checkpoint::fresh_adapter;
use lm::model::{self, Config, Keep, Noise, NormPlace, Sequences, Targets};
use lm::train::{Entropies, Lane, Optimizer, TextLoss, Trainer};

/// Sequences of very different lengths, some of one token.
const LENS: [usize; 6] = [7, 1, 12, 3, 12, 5];

/// Models in which blocks keep other things: norms before and after, grouped heads that are normalised and rotated,
/// dropout, and adapters beside all or some of the matrices.
fn models() -> Vec<(&'static str, Config, Option<&'static str>)> {
    let modern = Config { n_kv_head: 1, qk_norm: true, ..Config::modern(29, 12, 3, 2, 16) };
    let dropped = |config| Config { dropout: 0.1, ..config };
    let gpt2 = Config::gpt2(29, 12, 3, 2, 16);
    vec![
        ("gpt1", dropped(Config::gpt1(29, 12, 3, 2, 16)), None),
        ("gpt2", dropped(gpt2.clone()), None),
        ("one block", dropped(Config::gpt2(29, 12, 1, 2, 16)), None),
        ("modern", modern.clone(), None),
        ("modern with dropout", dropped(modern.clone()), None),
        ("modern, post-norm", Config { norm_place: NormPlace::Post, ..modern.clone() }, None),
        ("an adapter", modern.clone(), Some("r=2,dropout=0.2")),
        ("an adapter beside some", dropped(gpt2), Some("r=2,targets=c_attn+c_fc")),
        ("magnitudes", modern, Some("r=2,dora")),
    ]
}

/// Numbers as bits.
fn bits(b: &mut Cpu, tensor: &<Cpu as Backend>::Tensor) -> Vec<u32> {
    let mut values = vec![0.0; Backend::len(b, tensor)];
    b.download(&mut values, tensor);
    values.into_iter().map(f32::to_bits).collect()
}

/// The gradients of every step, and the weights after them.
fn learned(
    config: &Config,
    lora: Option<&str>,
    precision: Precision,
    keep: Keep,
    scores: bool,
) -> Vec<Vec<u32>> {
    let b = &mut Cpu::new(CpuOptions { threads: 2, precision, level: Level::detect() });
    let config = Config { n_label: scores.then_some(2), ..config.clone() };
    let mut weights = model::init(b, &config, 7);
    weights.adapter = lora.map(|lora| {
        let (adapter, mut leaf) = (fresh_adapter(&config, &lora.parse().unwrap()).unwrap(), 900);
        adapter.map(|spec| {
            leaf += 1;
            let values: Vec<f32> =
                (0..spec.len() as u64).map(|i| 0.3 + 0.1 * rng::normal(5, leaf, i) as f32).collect();
            let mut tensor = b.zeros(values.len());
            b.upload(&mut tensor, &values);
            tensor
        })
    });
    let mut trainer = Trainer::new(b, config, weights);
    trainer.keep(b, keep);
    let rows: usize = LENS.iter().sum();
    let of_row = |stream| (0..rows as u64).map(move |row| rng::normal(5, stream, row));
    let token = |stream: u64| (0..rows as u64).map(move |row| rng::below(1, stream, row, 29) as u32);
    let (tokens, derivatives): (Vec<u32>, Vec<f64>) = (token(2).collect(), of_row(1).collect());
    let targets: Vec<u32> =
        token(3).enumerate().map(|(i, t)| if i % 5 == 2 { NO_TARGET } else { t }).collect();
    let mut told = Vec::new();
    for step in 0..3 {
        let noise = Some(Noise { seed: step, first_row: 0 });
        let (batch, lane) = (Sequences { tokens: &tokens, lens: &LENS, noise }, Lane::Number(0));
        if scores {
            let text = Some(TextLoss { targets: &targets, derivatives: &derivatives });
            let scored = [0, 4, 7, 20, 39];
            trainer.accumulate_scores_and_text(b, batch, &scored, None, text, lane, |scores, by| {
                by.copy_from_slice(scores);
            });
        } else {
            trainer.accumulate(b, batch, &targets, &derivatives, lane);
            // Without a gradient, between two that have one.
            trainer.evaluate(b, batch, &targets);
            let asked = Targets { tokens: &targets, temperature: 1.3 };
            trainer.accumulate_loss(b, batch, asked, Entropies::Learned, lane, |outputs, by| {
                by.logprobs.copy_from_slice(outputs.logprobs);
                by.entropies.copy_from_slice(outputs.entropies);
            });
        }
        let gradients = trainer.gradients(b).map(|leaf| bits(b, leaf));
        told.extend(gradients.leaves().into_iter().cloned());
        let optimizer = Optimizer {
            beta1: 0.9,
            beta2: 0.95,
            eps: 1e-8,
            eps_hat: false,
            weight_decay: 0.1,
            grad_clip: 1.0,
        };
        assert!(trainer.update(b, &optimizer, 1e-2, None).applied);
        told.push(trainer.told().iter().map(|x| (*x as f32).to_bits()).collect());
    }
    told.extend(trainer.weights.leaves().into_iter().map(|leaf| bits(b, leaf)));
    told
}

#[test]
fn what_is_learned_has_the_same_bits() {
    for (name, config, lora) in models() {
        for precision in [Precision::F32, Precision::Bf16] {
            for scores in [false, true] {
                let [kept, again] =
                    [Keep::Blocks, Keep::Inputs].map(|keep| learned(&config, lora, precision, keep, scores));
                assert!(kept == again, "{name}, {precision:?}, scores {scores}: other bits");
                // Gradients that are not finite, or all 0, would be equal too.
                let mut values = kept.iter().flatten().map(|x| f32::from_bits(*x));
                assert!(values.clone().all(f32::is_finite) && values.any(|x| x.abs() > 1e-2), "{name}");
            }
        }
    }
}
