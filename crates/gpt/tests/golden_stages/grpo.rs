//! GRPO and its kin: rewards of a model and of a pattern, an entropy bonus, a price of KL in the loss and in
//! the reward, ratios of tokens and answers, all reductions, groups that are drawn until they differ, long
//! answers that pay, answers that are cut, a temperature, several epochs and minibatches, selection of the
//! best state.

use crate::fixture::{Fixture, REWARD_WEIGHTS, WEIGHTS, prompts, recipe, tokens};
use crate::golden::{Golden, close, lines};
use crate::workshop::{machine, settings};
use gpt::data::Prompter;
use gpt::progress::Silent;
use gpt::stage::{GrpoOptions, PolicyOutcome, RewardSpec, grpo};
use kernels::{Backend, Reference};
use serde_json::{Map, Value, json};

const SEED: u64 = 41;
const RECIPE: &[&str] = &[
    "steps=3",
    "batch_size=3",
    "group=4",
    "epochs=2",
    "minibatches=2",
    "max_tokens=5",
    "temperature=0.7",
    "clip_low=0.05",
    "clip_high=0.08",
    "entropy_coef=0.05",
    "eval_prompts=5",
    "eval_samples=3",
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
/// What answers get something for.
const BOTH: &[&str] = &["model=reward", "regex=a:0.7"];
const PATTERN: &[&str] = &["regex=a"];

/// The variants by the name of their figures: rewards, and changes of the recipe.
const VARIANTS: [(&str, &[&str], &[&str]); 5] = [
    (
        "grpo",
        BOTH,
        &[
            "advantages=group",
            "ratio=token",
            "reduction=sequence",
            "kl_coef=0.1",
            "kl=k3",
            "kl_in=loss",
            "kl_corrected=true",
            "rounds=1",
            "overlong_frac=0.4",
            "mask_cut=false",
        ],
    ),
    (
        "grpo-dapo",
        PATTERN,
        &[
            "advantages=group",
            "ratio=token",
            "reduction=tokens",
            "kl_coef=0.0",
            "kl=k3",
            "kl_in=loss",
            "kl_corrected=false",
            "rounds=3",
            "overlong_frac=0.0",
            "mask_cut=true",
        ],
    ),
    (
        "grpo-rloo",
        BOTH,
        &[
            "advantages=leave_one_out",
            "ratio=sequence",
            "reduction=sequence",
            "kl_coef=0.05",
            "kl=k1",
            "kl_in=reward",
            "kl_corrected=false",
            "rounds=1",
            "overlong_frac=0.0",
            "mask_cut=false",
        ],
    ),
    (
        "grpo-gspo",
        BOTH,
        &[
            "advantages=mean",
            "ratio=sequence_mean",
            "reduction=max_tokens",
            "kl_coef=0.2",
            "kl=k1",
            "kl_in=loss",
            "kl_corrected=true",
            "rounds=1",
            "overlong_frac=0.0",
            "mask_cut=false",
        ],
    ),
    (
        "grpo-whitened",
        BOTH,
        &[
            "advantages=whitened",
            "ratio=token",
            "reduction=tokens",
            "kl_coef=0.05",
            "kl=k3",
            "kl_in=reward",
            "kl_corrected=false",
            "rounds=1",
            "overlong_frac=0.0",
            "mask_cut=false",
        ],
    ),
];

#[test]
fn grpo_is_pytorchs() {
    VARIANTS.iter().for_each(holds);
}

fn holds((name, rewards, changes): &(&str, &[&str], &[&str])) {
    let fixture = Fixture::new();
    let prompter = Prompter::new(&fixture.tokenizer).unwrap();
    let weighted = rewards.iter().map(|reward| {
        let spec: RewardSpec = reward.parse().unwrap();
        (spec.name().to_owned(), json!(spec.weight))
    });
    let ids = 0..fixture.tokenizer.vocab_size() as u32;
    let marks: Vec<u32> = ids.filter(|id| fixture.tokenizer.decode(&[*id]).unwrap().contains('a')).collect();
    let golden = Golden::of(
        name,
        &json!({
            "shape": fixture.shape(),
            "weights": WEIGHTS,
            "reward_weights": REWARD_WEIGHTS,
            "recipe": recipe(&[RECIPE, changes].concat()),
            "seed": SEED,
            "end_tokens": prompter.end_tokens(),
            "prompts": tokens(&prompter, &prompts(0..11)),
            "held_out": tokens(&prompter, &prompts(11..16)),
            "rewards": weighted.collect::<Map<String, Value>>(),
            "marks": marks,
        }),
    );
    let Some(golden) = golden else { return };
    let outcome = run(Reference, &fixture, rewards, &[changes, PACE].concat());
    let out = fixture.at("run");
    close(&Value::Object(outcome.before.unwrap()), golden.at("/before"), "before");
    golden.holds_metrics(&out);
    let rollouts =
        golden.at("/rollouts").as_array().unwrap().iter().flat_map(|some| some.as_array().unwrap());
    close(&lines(&out.join("rollouts.jsonl")).into(), &rollouts.cloned().collect(), "rollouts");
    golden.holds_checkpoints(&out);

    // What the figures stand on: tokens are clipped, answers end and do not, and groups differ and do not.
    let figure = |name: &str| -> Vec<f64> {
        golden.at("/metrics").as_array().unwrap().iter().map(|line| line[name].as_f64().unwrap()).collect()
    };
    let clipped =
        figure("policy/clip_low").iter().zip(figure("policy/clip_high")).any(|(low, high)| low + high > 0.0);
    assert!(clipped && figure("objective/ended").iter().any(|share| *share > 0.0 && *share < 1.0), "{name}");
    if changes.contains(&"rounds=3") {
        assert!(figure("groups/equal").iter().any(|share| *share > 0.0), "{name}");
    }
}

/// The stage with everything switched on.
pub(crate) fn run<B: Backend>(b: B, fixture: &Fixture, rewards: &[&str], pace: &[&str]) -> PolicyOutcome {
    let models = if rewards == BOTH { vec![fixture.reward()] } else { Vec::new() };
    let rewards: Vec<RewardSpec> = rewards.iter().map(|reward| reward.parse().unwrap()).collect();
    let options = GrpoOptions {
        policy: &fixture.base(),
        rewards: &rewards,
        reward_models: &models,
        sandbox: None,
        tools: None,
        prompts: &prompts(0..11),
        held_out: &prompts(11..16),
        out: fixture.at("run"),
        settings: settings(&[RECIPE, pace].concat()),
        seed: SEED,
    };
    grpo(b, &machine(), &options, &Silent).unwrap()
}

/// The first variant, to be cut into lanes.
pub(crate) fn run_first<B: Backend>(b: B, fixture: &Fixture, pace: &[&str]) {
    let (_, rewards, changes) = VARIANTS[0];
    run(b, fixture, rewards, &[changes, pace].concat());
}
