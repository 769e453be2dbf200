//! DPO: rankings of three and five answers with ties, dropout of the policy and none of the reference.

use crate::fixture::{Fixture, WEIGHTS, recipe};
use crate::golden::Golden;
use crate::rankings::rankings;
use crate::workshop::{machine, settings};
use gpt::progress::Silent;
use gpt::stage::{DpoOptions, DpoOutcome, Init, dpo};
use kernels::{Backend, Reference};
use serde_json::json;

const SEED: u64 = 51;
const RECIPE: &[&str] = &[
    "steps=4",
    "batch_size=6",
    "beta=0.3",
    "lr=5e-3",
    "min_lr_frac=0.1",
    "warmup_steps=2",
    "weight_decay=0.1",
    "beta1=0.9",
    "beta2=0.95",
    "eps=1e-6",
    "grad_clip=1.0",
    "dropout=0.15",
];
/// Several micro-batches a step, and everything measured and kept after each.
const PACE: &[&str] = &["micro_batch_tokens=110", "eval_every=1", "checkpoint_every=1", "sample_every=0"];

#[test]
fn dpo_is_pytorchs() {
    holds("dpo", &[]);
}

#[test]
fn ipo_with_supervised_fine_tuning_is_pytorchs() {
    holds("dpo-ipo", &["loss=ipo", "sft_coef=0.3"]);
}

#[test]
fn simpo_is_pytorchs() {
    holds("dpo-simpo", &["loss=simpo", "gamma=0.4", "label_smoothing=0.1"]);
}

#[test]
fn orpo_is_pytorchs() {
    holds("dpo-orpo", &["loss=orpo", "sft_coef=1.0"]);
}

fn holds(name: &str, loss: &[&str]) {
    let fixture = Fixture::new();
    let init = fixture.base();
    let (_, [train, held_out]) = rankings(&fixture, 9..14);
    let golden = Golden::of(
        name,
        &json!({
            "shape": fixture.shape(),
            "weights": WEIGHTS,
            "recipe": recipe(&[RECIPE, loss].concat()),
            "seed": SEED,
            "train": train,
            "held_out": held_out,
        }),
    );
    let Some(golden) = golden else { return };
    run(Reference, &fixture, &init, &[PACE, loss].concat());
    golden.holds_metrics(&fixture.at("run"));
    golden.holds_checkpoints(&fixture.at("run"));
}

/// The stage with everything switched on.
pub(crate) fn run<B: Backend>(b: B, fixture: &Fixture, init: &Init, pace: &[&str]) -> DpoOutcome {
    let options = DpoOptions {
        init,
        rankings: &rankings(fixture, 9..14).0,
        out: fixture.at("run"),
        settings: settings(&[RECIPE, pace].concat()),
        seed: SEED,
    };
    dpo(b, &machine(), &options, &Silent).unwrap()
}
