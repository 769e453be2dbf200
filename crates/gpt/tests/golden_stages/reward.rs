//! The reward model: rankings of three and five answers with ties, dropout, scores of demonstrations that are
//! normalised before training and after it, and its report on held-out rankings.

use crate::fixture::{Fixture, WEIGHTS, recipe, user};
use crate::golden::{Golden, close};
use crate::rankings::{rankings, with_margins};
use crate::workshop::{machine, settings};
use gpt::data::Prompter;
use gpt::progress::Silent;
use gpt::stage::{Init, Rankings, RewardOptions, RewardOutcome, reward};
use kernels::{Backend, Reference};
use serde_json::{json, to_value};

const SEED: u64 = 41;
const RECIPE: &[&str] = &[
    "steps=4",
    "batch_size=6",
    "lr=1e-2",
    "min_lr_frac=0.1",
    "warmup_steps=2",
    "weight_decay=0.1",
    "beta1=0.9",
    "beta2=0.95",
    // Differences of scores do not see the last norm's bias: its gradient is rounding noise, which a smaller
    // ε would blow up.
    "eps=1e-3",
    "grad_clip=1.0",
    "dropout=0.15",
];
/// Several micro-batches a step, and everything measured and kept after each.
const PACE: &[&str] = &["micro_batch_tokens=110", "eval_every=1", "checkpoint_every=1", "sample_every=0"];

#[test]
fn the_reward_model_is_pytorchs() {
    is_pytorchs("reward", &["normalise_before=true"], 0.0);
}

#[test]
fn a_reward_model_that_begins_as_drawn_is_pytorchs() {
    is_pytorchs("reward-drawn", &["normalise_before=false"], 0.0);
}

#[test]
fn margins_and_centring_are_pytorchs() {
    is_pytorchs("reward-margins", &["normalise_before=false", "centre_coef=0.05"], 0.1);
}

fn is_pytorchs(name: &str, changes: &[&str], margin: f64) {
    let own = [RECIPE, changes].concat();
    let fixture = Fixture::new();
    let init = fixture.base();
    let (rankings, [train, held_out]) = with_margins(&fixture, 11..18, margin);
    let prompter = Prompter::new(&fixture.tokenizer).unwrap();
    let demonstration = |text: &str| (prompter.prompt(&user(text)).unwrap(), prompter.answer(&text[..1]));
    let demonstrations: Vec<_> = ["a", "b", "cab", "c c", "bb a"].map(demonstration).into();
    let golden = Golden::of(
        name,
        &json!({
            "shape": fixture.shape(),
            "weights": WEIGHTS,
            "recipe": recipe(&own),
            "seed": SEED,
            "train": train,
            "held_out": held_out,
            "demonstrations": demonstrations,
        }),
    );
    let Some(golden) = golden else { return };
    let changes = [&own[..], PACE].concat();
    let outcome = run(Reference, &fixture, &init, &rankings, &demonstrations, &changes);
    close(&to_value(outcome.evaluation.unwrap()).unwrap(), golden.at("/judged"), "the report");
    golden.holds_metrics(&fixture.at("run"));
    golden.holds_checkpoints(&fixture.at("run"));
}

fn run<B: Backend>(
    b: B,
    fixture: &Fixture,
    init: &Init,
    rankings: &Rankings,
    demonstrations: &[(Vec<u32>, Vec<u32>)],
    changes: &[&str],
) -> RewardOutcome {
    let options = RewardOptions {
        init,
        rankings,
        demonstrations,
        out: fixture.at("run"),
        settings: settings(changes),
        seed: SEED,
    };
    reward(b, &machine(), &options, &Silent).unwrap()
}

/// The stage with everything switched on but normalising before.
pub(crate) fn run_drawn<B: Backend>(b: B, fixture: &Fixture, init: &Init, pace: &[&str]) -> RewardOutcome {
    run(b, fixture, init, &rankings(fixture, 11..18).0, &[], &[RECIPE, pace].concat())
}
