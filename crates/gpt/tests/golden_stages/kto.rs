//! KTO: good and bad answers, several to a prompt, some that do not fit beside each other's prompts; dropout of the policy and
//! none of the reference nor of what measures the distance.

use crate::fixture::{Fixture, WEIGHTS, recipe, user};
use crate::golden::Golden;
use crate::workshop::{machine, settings};
use gpt::data::{Judged, Prompter};
use gpt::progress::Silent;
use gpt::stage::{Init, Judgements, KtoOptions, KtoOutcome, kto};
use kernels::{Backend, Reference};
use serde_json::{Value, json};

const SEED: u64 = 61;
const RECIPE: &[&str] = &[
    "steps=4",
    "batch_size=7",
    "beta=0.3",
    "desirable_weight=1.3",
    "undesirable_weight=0.8",
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
const PACE: &[&str] = &["micro_batch_tokens=60", "eval_every=1", "checkpoint_every=1", "sample_every=0"];
const KTO: &[&str] = &["loss=kto"];
const APO: &[&str] = &["loss=apo_zero_unpaired"];

#[test]
fn kto_is_pytorchs() {
    holds("kto", KTO);
}

#[test]
fn apo_zero_of_single_answers_is_pytorchs() {
    holds("kto-apo-zero", APO);
}

fn holds(name: &str, loss: &[&str]) {
    let fixture = Fixture::new();
    let init = fixture.base();
    let (_, [train, held_out]) = judgements(&fixture);
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
    if name == "kto" {
        let zs = golden.at("/metrics").as_array().unwrap().iter().map(|line| line["kl"].as_f64().unwrap());
        assert!(golden.at("/cut").as_u64() > Some(0), "some do not fit beside each other");
        assert!(
            zs.clone().any(|z| z > 0.01),
            "the point is away from 0 in some step: {:?}",
            zs.collect::<Vec<_>>()
        );
    }
    golden.holds_metrics(&fixture.at("run"));
    golden.holds_checkpoints(&fixture.at("run"));
}

/// The stage with everything switched on.
pub(crate) fn run<B: Backend>(b: B, fixture: &Fixture, init: &Init, pace: &[&str]) -> KtoOutcome {
    let options = KtoOptions {
        init,
        judgements: &judgements(fixture).0,
        out: fixture.at("run"),
        settings: settings(&[RECIPE, pace].concat()),
        seed: SEED,
    };
    kto(b, &machine(), &options, &Silent).unwrap()
}

/// Answers to prompts that follow one another two by two, every third of which is bad.
fn judged(i: usize) -> Judged {
    let prompts = ["a", "b c", "c b a c b a c b a c b a c b", "ab"];
    let answers = ["b", "a b", "c a b b c c a b", "ba", "b b", "abc", "cc a"];
    Judged {
        messages: user(prompts[i / 2 % prompts.len()]),
        completion: answers[(3 * i + 2) % answers.len()].into(),
        label: !i.is_multiple_of(3),
        tools: None,
    }
}

/// Judged answers, and the same as the script reads them: to learn from, and held out.
fn judgements(fixture: &Fixture) -> (Judgements, [Value; 2]) {
    let [train, held_out] = [0..16, 8..13].map(|numbers| numbers.map(judged).collect::<Vec<_>>());
    let prompter = Prompter::new(&fixture.tokenizer).unwrap();
    let inputs = |judged: &Judged| {
        let prompt = prompter.prompt(&judged.messages).unwrap();
        json!({ "prompt": prompt, "answer": prompter.answer(&judged.completion), "label": judged.label })
    };
    let both = [&train, &held_out].map(|judged| judged.iter().map(inputs).collect::<Value>());
    let judgements = Judgements::new(&train, &held_out, 0.0, &prompter, 32, &Silent).unwrap();
    assert_eq!(judgements.counts(), (train.len(), held_out.len()), "all fit");
    (judgements, both)
}
