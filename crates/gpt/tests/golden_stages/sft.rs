//! Supervised fine-tuning: dropout, a pretraining mix, selection by a reward model's mean score of sampled
//! answers.

use crate::fixture::{Fixture, REWARD_WEIGHTS, WEIGHTS, mixture_inputs, recipe, user};
use crate::golden::{Golden, close};
use crate::workshop::{machine, settings};
use gpt::data::messages::{Message, Role};
use gpt::data::{Conversations, Prompter, Sequence, TooLong};
use gpt::progress::Silent;
use gpt::stage::{Init, SftOptions, SftOutcome, sft};
use gpt::tokenizer::chat::ChatTemplate;
use kernels::{Backend, Reference};
use serde_json::{Value, json};
use std::path::PathBuf;

const SEED: u64 = 21;
const ORDER_SEED: u64 = 22;
const RECIPE: &[&str] = &[
    "steps=4",
    "batch_size=7",
    "lr=2e-2",
    "min_lr_frac=0.1",
    "warmup_steps=1",
    "weight_decay=0.1",
    "beta1=0.9",
    "beta2=0.95",
    "eps=1e-6",
    "grad_clip=1.0",
    "dropout=0.2",
    "ptx_share=0.4",
    "z_loss=0.05",
    "max_tokens=5",
];
/// Several micro-batches a step, and everything measured and kept after each.
const PACE: &[&str] = &["micro_batch_tokens=48", "eval_every=1", "checkpoint_every=1", "sample_every=0"];

pub(crate) fn sequences(fixture: &Fixture, numbers: std::ops::Range<usize>) -> Vec<Sequence> {
    let tokenizer = &fixture.tokenizer;
    let template = ChatTemplate::of(tokenizer).unwrap().unwrap();
    let sequence = |i: usize| {
        let mut messages = user(&"abc"[..1 + i % 3]);
        messages.push(Message::new(Role::Assistant, &"c b a"[i % 2..2 + i % 4]));
        Sequence::new(&template.encode(tokenizer, &messages).unwrap(), 32, TooLong::Error).unwrap()
    };
    numbers.map(sequence).collect()
}

pub(crate) fn inputs(sequences: &[Sequence]) -> Value {
    sequences.iter().map(|one| json!({ "tokens": one.tokens, "targets": one.targets })).collect()
}

#[test]
fn supervised_fine_tuning_is_pytorchs() {
    let fixture = Fixture::new();
    let (init, reward, ptx) = (fixture.base(), fixture.reward(), fixture.mixture());
    let (train, val) = (sequences(&fixture, 0..12), sequences(&fixture, 12..17));
    let golden = Golden::of(
        "sft",
        &json!({
            "shape": fixture.shape(),
            "weights": WEIGHTS,
            "reward_weights": REWARD_WEIGHTS,
            "recipe": recipe(RECIPE),
            "seed": SEED,
            "order_seed": ORDER_SEED,
            "end_tokens": Prompter::new(&fixture.tokenizer).unwrap().end_tokens(),
            "train": inputs(&train),
            "val": inputs(&val),
            "ptx": mixture_inputs(&ptx),
        }),
    );
    let Some(golden) = golden else { return };
    let outcome = run(Reference, &fixture, [&init, &reward], ptx, PACE);
    close(&json!(outcome.before), golden.at("/before/val_loss"), "the loss before");
    golden.holds_metrics(&fixture.at("run"));
    golden.holds_checkpoints(&fixture.at("run"));
}

/// The stage with everything switched on.
pub(crate) fn run<B: Backend>(
    b: B,
    fixture: &Fixture,
    [init, reward]: [&Init; 2],
    ptx: Vec<(PathBuf, f64)>,
    pace: &[&str],
) -> SftOutcome {
    let options = SftOptions {
        init,
        train: &Conversations::new(&sequences(fixture, 0..12), ORDER_SEED),
        val: &Conversations::new(&sequences(fixture, 12..17), ORDER_SEED),
        reward: Some(reward),
        ptx,
        out: fixture.at("run"),
        settings: settings(&[RECIPE, pace].concat()),
        seed: SEED,
    };
    sft(b, &machine(), &options, &Silent).unwrap()
}
