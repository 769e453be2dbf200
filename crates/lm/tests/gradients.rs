//! The whole model by finite differences in `f64`: every leaf, with dropout, several sequences, masked
//! targets, and a tied and an untied head. And what training promises about bits: micro-batches do not change
//! them.

#![allow(clippy::unwrap_used)] // A test that finds no value has failed.

use kernels::{Backend, Dropout, NO_TARGET, Reference, rng};
use lm::model::{self, Activations, Biases, Config, Noise, Sequences, Targets, specs};
use lm::objective::{cross_entropy, cross_entropy_derivatives};
use lm::train::{Lane, Optimizer, TextLoss, Trainer};

fn config(tied_head: bool, dropout: f32) -> Config {
    Config { d_ff: 10, dropout, tied_head, ..Config::gpt2(13, 8, 2, 2, 6) }
}

const LENS: [usize; 3] = [5, 1, 8];

fn tokens() -> Vec<u32> {
    (0..14).map(|i| rng::below(1, 1, i, 13) as u32).collect()
}

fn targets() -> Vec<u32> {
    (0..14).map(|i| if i % 5 == 3 { NO_TARGET } else { rng::below(1, 2, i, 13) as u32 }).collect()
}

/// Weights far from their first values, so that a wrong bias or gain shows.
fn trainer<B: Backend>(backend: &mut B, config: &Config) -> Trainer<B> {
    let mut stream = 0;
    let weights = specs(config).map(|spec| {
        stream += 1;
        let values: Vec<f32> =
            (0..spec.len() as u64).map(|i| 0.5 * rng::normal(7, stream, i) as f32).collect();
        let mut tensor = backend.zeros(values.len());
        backend.upload(&mut tensor, &values);
        tensor
    });
    Trainer::new(backend, config.clone(), weights)
}

fn every_leaf(config: &Config) {
    let (tokens, targets) = (tokens(), targets());
    let noise = (config.dropout > 0.0).then_some(Noise { seed: 3, first_row: 20 });
    let batch = Sequences { tokens: &tokens, lens: &LENS, noise };
    let counted = targets.iter().filter(|&&t| t != NO_TARGET).count();
    let mut trainer = trainer(&mut Reference, config);
    let mut derivatives = Vec::new();
    cross_entropy_derivatives(&mut derivatives, &targets, counted);
    trainer.accumulate(&mut Reference, batch, &targets, &derivatives, Lane::Number(0));
    compare(&mut trainer, |trainer| {
        cross_entropy(trainer.evaluate(&mut Reference, batch, &targets), counted)
    });
}

/// Holds the gradients that were accumulated against differences of `loss`.
fn compare(trainer: &mut Trainer<Reference>, loss: impl Fn(&mut Trainer<Reference>) -> f64) {
    let gradients = trainer.gradients(&mut Reference).map(|g| g.0.clone());
    let specs = specs(&trainer.config);
    for (leaf, (spec, gradient)) in specs.leaves().into_iter().zip(gradients.leaves()).enumerate() {
        for probe in 0..6 {
            let at = rng::below(5, leaf as u64, probe, spec.len() as u64) as usize;
            let mut loss_at = |delta: f64| {
                trainer.weights.leaves_mut()[leaf].0[at] += delta;
                let loss = loss(trainer);
                trainer.weights.leaves_mut()[leaf].0[at] -= delta;
                loss
            };
            let step = 1e-5;
            let numeric = (loss_at(step) - loss_at(-step)) / (2.0 * step);
            let analytic = gradient[at];
            let error = (numeric - analytic).abs() / (1e-3 + analytic.abs());
            assert!(
                error < 1e-6,
                "{}[{at}]: {analytic} by the backward pass, {numeric} by differences",
                spec.name
            );
        }
    }
}

/// Scores of some rows, weighted by random numbers: the loss is taken in `f64` from the hidden state.
fn every_leaf_behind_scores(config: &Config) {
    const ROWS: [u32; 4] = [4, 0, 13, 7];
    let tokens = tokens();
    let batch = Sequences { tokens: &tokens, lens: &LENS, noise: None };
    let n_label = config.n_label.unwrap();
    let by_score = |i: usize| rng::normal(9, 1, i as u64);
    let mut trainer = trainer(&mut Reference, config);
    trainer.accumulate_scores(&mut Reference, batch, &ROWS, Lane::Only, |scores, derivatives| {
        assert_eq!(scores.len(), ROWS.len() * n_label);
        derivatives.iter_mut().enumerate().for_each(|(i, d)| *d = by_score(i) as f32);
    });
    compare(&mut trainer, |trainer| {
        let mut a = Activations::new(&mut Reference, &trainer.config);
        model::forward(&mut Reference, &trainer.config, &trainer.weights, &mut a, batch);
        let (d, head) = (trainer.config.d_model, trainer.weights.score.as_ref().unwrap());
        let score = |i: usize| {
            let (row, label) = (ROWS[i / n_label] as usize, i % n_label);
            let product = (0..d).map(|k| a.hidden.0[row * d + k] * head.weight.0[label * d + k]);
            product.sum::<f64>() + head.bias.as_ref().map_or(0.0, |bias| bias.0[label])
        };
        (0..ROWS.len() * n_label).map(|i| f64::from(by_score(i) as f32) * score(i)).sum()
    });
}

/// Scores as above with language modelling beside them (GPT-1's L3 = L2 + λ L1), and dropout of what the head
/// reads.
#[test]
fn every_leaf_of_a_model_that_scores_and_predicts() {
    const ROWS: [u32; 3] = [4, 0, 13];
    let tokens = tokens();
    let batch = Sequences { tokens: &tokens, lens: &LENS, noise: None };
    let config = Config { n_label: Some(2), ..config(true, 0.0) };
    let targets: Vec<u32> = (0..tokens.len()).map(|row| tokens[(row + 3) % tokens.len()]).collect();
    let by_logprob: Vec<f64> = (0..tokens.len()).map(|row| rng::normal(9, 2, row as u64)).collect();
    let by_score = |i: usize| rng::normal(9, 1, i as u64) as f32;
    let dropout = Dropout { p: 0.4, seed: 3, stream: 7, first_row: 5 };
    let text = TextLoss { targets: &targets, derivatives: &by_logprob };
    let mut trainer = trainer(&mut Reference, &config);
    trainer.accumulate_scores_and_text(
        &mut Reference,
        batch,
        &ROWS,
        Some(&dropout),
        Some(text),
        Lane::Only,
        |_, derivatives| derivatives.iter_mut().enumerate().for_each(|(i, d)| *d = by_score(i)),
    );
    compare(&mut trainer, |trainer| {
        let (c, w) = (&trainer.config, &trainer.weights);
        let mut a = Activations::new(&mut Reference, c);
        model::forward(&mut Reference, c, w, &mut a, batch);
        let mut logprobs = Vec::new();
        a.ask(&mut Reference, Targets::new(&targets));
        model::logprobs(&mut Reference, w, &a, &mut logprobs, None);
        let (d, head) = (c.d_model, w.score.as_ref().unwrap());
        let mut read = Reference.zeros(ROWS.len() * d);
        Reference.gather_forward(&mut read, &a.hidden, &ROWS.to_vec(), d);
        Reference.dropout(&mut read, d, &dropout);
        let score = |i: usize| {
            (0..d).map(|k| read.0[i / 2 * d + k] * head.weight.0[i % 2 * d + k]).sum::<f64>()
                + head.bias.as_ref().map_or(0.0, |bias| bias.0[i % 2])
        };
        let text: f64 = logprobs.iter().zip(&by_logprob).map(|(l, by)| l * by).sum();
        text + (0..ROWS.len() * 2).map(|i| f64::from(by_score(i)) * score(i)).sum::<f64>()
    });
}

/// A trunk that is frozen keeps its bits, whatever decays; the head and the embeddings of the tokens named
/// learn.
#[test]
fn a_frozen_trunk_stays_as_it_is() {
    let config = Config { n_label: Some(2), ..config(true, 0.0) };
    let tokens = tokens();
    let batch = Sequences { tokens: &tokens, lens: &LENS, noise: None };
    let mut trainer = trainer(&mut Reference, &config);
    let before = trainer.weights.clone();
    let learned = tokens[1];
    trainer.freeze_trunk(&mut Reference, &[learned]);
    let optimizer =
        Optimizer { beta1: 0.9, beta2: 0.999, eps: 1e-8, eps_hat: false, weight_decay: 0.1, grad_clip: 1.0 };
    for _ in 0..2 {
        trainer.accumulate_scores(&mut Reference, batch, &[4], Lane::Only, |_, by| by.fill(1.0));
        assert!(trainer.update(&mut Reference, &optimizer, 0.1, Some(0.0)).applied);
    }
    for ((old, new), spec) in
        before.leaves().into_iter().zip(trainer.weights.leaves()).zip(model::specs(&config).leaves())
    {
        let changed = |at: usize| old.0[at] != new.0[at];
        match spec.name.as_str() {
            "wte" => {
                let row = learned as usize * config.d_model;
                let row = row..row + config.d_model;
                (0..old.0.len()).for_each(|at| assert_eq!(changed(at), row.contains(&at), "wte[{at}]"));
            }
            name if name.starts_with("score") => assert!((0..old.0.len()).all(changed), "{name}"),
            name => assert!(!(0..old.0.len()).any(changed), "{name}"),
        }
    }
}

#[test]
fn every_leaf_of_models_that_score() {
    every_leaf_behind_scores(&Config { n_label: Some(1), ..config(true, 0.0) });
    let llama = Config { d_ff: 10, n_kv_head: 1, tied_head: false, ..Config::modern(13, 8, 2, 2, 8) };
    every_leaf_behind_scores(&Config { n_label: Some(3), ..llama });
}

#[test]
fn every_leaf_of_a_tied_model() {
    every_leaf(&config(true, 0.0));
}

#[test]
fn every_leaf_of_an_untied_model_with_dropout() {
    every_leaf(&config(false, 0.3));
}

#[test]
fn every_leaf_of_a_post_norm_model() {
    every_leaf(&Config { d_ff: 10, dropout: 0.3, ..Config::gpt1(13, 8, 2, 2, 6) });
}

#[test]
fn every_leaf_of_a_banded_model() {
    every_leaf(&Config { d_ff: 10, band: Some(3), ..Config::gpt3(13, 8, 2, 2, 6) });
}

#[test]
fn every_leaf_of_a_rotary_model_with_grouped_queries() {
    let llama = Config { d_ff: 10, n_kv_head: 1, tied_head: false, ..Config::modern(13, 8, 2, 2, 8) };
    every_leaf(&llama);
    every_leaf(&Config { biases: Biases::Qkv, dropout: 0.2, ..llama });
}

#[test]
fn every_leaf_of_a_rotary_model_with_normed_heads_wider_than_the_stream() {
    every_leaf(&Config {
        d_ff: 10,
        n_kv_head: 2,
        head_dim: 4,
        qk_norm: true,
        ..Config::modern(13, 8, 2, 4, 6)
    });
}

#[test]
fn a_bad_step_changes_nothing() {
    let config = config(true, 0.0);
    let (tokens, targets) = (tokens(), targets());
    let batch = Sequences { tokens: &tokens, lens: &LENS, noise: None };
    let optimizer =
        Optimizer { beta1: 0.9, beta2: 0.95, eps: 1e-8, eps_hat: false, weight_decay: 0.1, grad_clip: 1.0 };
    let b = &mut Reference;
    let mut trainer = trainer(b, &config);
    let before = trainer.weights.clone();
    for (derivative, loss) in [(f64::NAN, 1.0), (f64::INFINITY, 1.0), (-1.0, f64::NAN)] {
        trainer.accumulate(b, batch, &targets, &[derivative; 14], Lane::Number(0));
        let update = trainer.update(b, &optimizer, 0.1, Some(loss));
        assert!(!update.applied);
        assert_eq!((trainer.updates(b), &trainer.weights), (0, &before));
        assert!(trainer.first_moment.leaves().iter().all(|m| m.0.iter().all(|&x| x == 0.0)));
    }
    trainer.accumulate(b, batch, &targets, &[-0.1; 14], Lane::Number(0));
    assert!(trainer.update(b, &optimizer, 0.1, None).applied, "the next step is a good one again");
    assert_ne!(trainer.weights, before);
    assert!(trainer.weights.leaves().iter().all(|w| w.0.iter().all(|x| x.is_finite())));
}

/// Two updates with ε̂ by the formula at the end of section 2 of Kingma & Ba (2015): α √(1 − β₂ᵗ)/(1 − β₁ᵗ) ·
/// m / (√v + ε̂).
#[test]
fn epsilon_may_stand_before_the_correction() {
    let config = config(true, 0.0);
    let (tokens, targets) = (tokens(), targets());
    let batch = Sequences { tokens: &tokens, lens: &LENS, noise: None };
    let (beta1, beta2, eps, lr) = (0.9f32, 0.95f32, 1e-3f32, 0.1f32);
    let optimizer = Optimizer { beta1, beta2, eps, eps_hat: true, weight_decay: 0.0, grad_clip: 0.0 };
    let b = &mut Reference;
    let mut trainer = trainer(b, &config);
    for t in 1..=2 {
        let before = trainer.weights.clone();
        trainer.accumulate(b, batch, &targets, &[-0.1; 14], Lane::Number(0));
        assert!(trainer.update(b, &optimizer, lr, None).applied);
        let correction = |beta: f32| 1.0 - f64::from(beta).powi(t);
        let rate = f64::from(lr) * correction(beta2).sqrt() / correction(beta1);
        let moments = trainer.first_moment.leaves().into_iter().zip(trainer.second_moment.leaves());
        let weights = before.leaves().into_iter().zip(trainer.weights.leaves());
        for ((before, after), (m, v)) in weights.zip(moments) {
            for (i, before) in before.0.iter().enumerate() {
                let expected = before - rate * m.0[i] / (v.0[i].sqrt() + f64::from(eps));
                assert!((after.0[i] - expected).abs() < 1e-7, "{} {expected}", after.0[i]);
            }
        }
    }
}

#[test]
fn parameters_start_as_the_paper_says() {
    let config = Config::gpt2(500, 8, 2, 2, 48);
    let weights = model::init(&mut Reference, &config, 1);
    let std = |x: &[f64]| (x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64).sqrt();
    assert!((std(&weights.wte.0) - 0.02).abs() < 4e-4);
    assert!((std(&weights.blocks[1].mlp_up.weight.0) - 0.02).abs() < 6e-4);
    assert!((std(&weights.blocks[1].mlp_down.weight.0) - 0.01).abs() < 3e-4, "0.02 / √(2 · 2 layers)");
    assert!(weights.blocks[0].norm1.weight.0.iter().all(|&x| x == 1.0));
    assert!(weights.blocks[0].qkv.bias.as_ref().unwrap().0.iter().all(|&x| x == 0.0));
}
