//! PPO: entropy bonus, penalty for answers without end, whitened rewards, a KL coefficient that adapts, a
//! pretraining mix, a value model with its own rate, a temperature, several epochs and minibatches, a moving
//! average, selection of the best state.

use crate::fixture::{Fixture, REWARD_WEIGHTS, WEIGHTS, mixture_inputs, prompts, recipe, tokens};
use crate::golden::{Golden, close, lines};
use crate::workshop::{machine, settings};
use gpt::data::Prompter;
use gpt::progress::Silent;
use gpt::stage::{Init, PolicyOutcome, PpoOptions, ppo};
use kernels::{Backend, Reference};
use serde_json::{Value, json};
use std::path::PathBuf;

const SEED: u64 = 31;
const RECIPE: &[&str] = &[
    "steps=4",
    "batch_size=8",
    "epochs=2",
    "minibatches=2",
    "max_tokens=5",
    "temperature=0.7",
    "kl_coef=0.1",
    "kl_target=0.5",
    "kl_horizon=50.0",
    "clip_range=0.1",
    "value_clip=0.15",
    "value_lr=1e-2",
    "gamma=0.97",
    "gae_lambda=0.9",
    "entropy_coef=0.05",
    "whiten_rewards=true",
    "missing_end_penalty=0.7",
    "ptx_coef=0.3",
    "ptx_tokens=96",
    "ema=0.9",
    "eval_prompts=5",
    "lr=4e-3",
    "min_lr_frac=0.5",
    "warmup_steps=1",
    "weight_decay=0.1",
    "beta1=0.9",
    "beta2=0.95",
    "eps=1e-6",
    "grad_clip=0.5",
];
/// Several micro-batches a minibatch, and everything measured and kept after each iteration.
const PACE: &[&str] = &["micro_batch_tokens=40", "eval_every=1", "checkpoint_every=1", "sample_every=0"];

#[test]
fn ppo_is_pytorchs() {
    let fixture = Fixture::new();
    let (policy, reward, ptx) = (fixture.base(), fixture.reward(), fixture.mixture());
    let (train, held_out) = (prompts(0..11), prompts(11..16));
    let prompter = Prompter::new(&fixture.tokenizer).unwrap();
    let golden = Golden::of(
        "ppo",
        &json!({
            "shape": fixture.shape(),
            "weights": WEIGHTS,
            "reward_weights": REWARD_WEIGHTS,
            "recipe": recipe(RECIPE),
            "seed": SEED,
            "end_tokens": prompter.end_tokens(),
            "prompts": tokens(&prompter, &train),
            "held_out": tokens(&prompter, &held_out),
            "ptx": mixture_inputs(&ptx),
        }),
    );
    let Some(golden) = golden else { return };
    let outcome = run(Reference, &fixture, [&policy, &reward], ptx, PACE);
    let out = fixture.at("run");
    close(&Value::Object(outcome.before.unwrap()), golden.at("/before"), "before");
    golden.holds_metrics(&out);
    let rollouts =
        golden.at("/rollouts").as_array().unwrap().iter().flat_map(|some| some.as_array().unwrap());
    close(&lines(&out.join("rollouts.jsonl")).into(), &rollouts.cloned().collect(), "rollouts");
    golden.holds_checkpoints(&out);

    // What the figures stand on: tokens are clipped, answers end and do not.
    let figure = |name: &str| -> Vec<f64> {
        golden.at("/metrics").as_array().unwrap().iter().map(|line| line[name].as_f64().unwrap()).collect()
    };
    for name in ["policy/clipfrac", "value/clipfrac"] {
        assert!(figure(name).iter().all(|share| *share > 0.0), "{name}: {:?}", figure(name));
    }
    assert!(figure("objective/ended").iter().any(|share| *share > 0.0 && *share < 1.0));
    let after = &figure("eval/objective")[golden.at("/selected").as_u64().unwrap() as usize - 1];
    close(&outcome.after.unwrap()["eval/objective"], &json!(after), "the state that the run ended with");
}

/// The stage with everything switched on.
pub(crate) fn run<B: Backend>(
    b: B,
    fixture: &Fixture,
    [policy, reward]: [&Init; 2],
    ptx: Vec<(PathBuf, f64)>,
    pace: &[&str],
) -> PolicyOutcome {
    let options = PpoOptions {
        policy,
        reward,
        prompts: &prompts(0..11),
        held_out: &prompts(11..16),
        ptx,
        gold: None,
        out: fixture.at("run"),
        settings: settings(&[RECIPE, pace].concat()),
        seed: SEED,
    };
    ppo(b, &machine(), &options, &Silent).unwrap()
}
