//! Pretraining: a mixture of corpora of which one is cut for fill-in-the-middle, dropout, sequences with key
//! words that weigh more.

use crate::fixture::{Fixture, WEIGHTS, mixture_inputs, recipe};
use crate::golden::{Golden, close};
use crate::workshop::machine;
use gpt::progress::Silent;
use gpt::stage::{Init, PretrainOptions, PretrainOutcome, Settings, Source, Start, pretrain};
use kernels::{Backend, Reference};
use serde_json::json;
use std::path::PathBuf;

const SEED: u64 = 61;
const RECIPE: &[&str] = &[
    "steps=5",
    "seq_len=16",
    "batch_tokens=112",
    "eval_windows=9",
    "lr=1e-2",
    "min_lr_frac=0.1",
    "warmup_steps=2",
    "weight_decay=0.1",
    "beta1=0.9",
    "beta2=0.95",
    "eps=1e-6",
    "grad_clip=1.0",
    "dropout=0.15",
    "key_token_alpha=0.5",
];
/// Seven sequences in micro-batches of two, and everything measured and kept after each step.
const PACE: &[&str] =
    &["micro_batch_tokens=32", "eval_every=1", "checkpoint_every=1", "sample_every=0", "keep_last=11"];
const KEY_WORD: &str = "a";

/// Ten steps of Muon, and z² has its price.
const MUON: &[&str] = &["steps=10", "optimizer=muon", "z_loss=0.02"];

#[test]
fn pretraining_is_pytorchs() {
    holds("pretrain", &[]);
}

#[test]
fn pretraining_by_muon_is_pytorchs() {
    holds("pretrain-muon", MUON);
}

fn holds(name: &str, changes: &[&str]) {
    let fixture = Fixture::new();
    let (init, data, tokenizer) = (fixture.base(), fixture.mixture(), &fixture.tokenizer);
    let key_tokens: Vec<u32> = [KEY_WORD.to_owned(), format!(" {KEY_WORD}")]
        .iter()
        .flat_map(|word| <[u32; 1]>::try_from(tokenizer.encode(word)).ok())
        .flatten()
        .collect();
    let is_special = |id: u32| tokenizer.specials().iter().any(|(_, special)| *special == id);
    let bytes = |id: u32| if is_special(id) { 0 } else { tokenizer.token_bytes(id).unwrap().len() };
    let inputs = json!({
        "shape": fixture.shape(),
        "weights": WEIGHTS,
        "recipe": recipe(&[RECIPE, changes].concat()),
        "seed": SEED,
        "key_tokens": key_tokens,
        "token_bytes": (0..tokenizer.vocab_size() as u32).map(bytes).collect::<Vec<_>>(),
        "data": mixture_inputs(&data),
    });

    // Documents are cut to learn from, and stay whole to validate on.
    let fim = fixture.fim_tokens();
    let is_cut = |part: usize, split: &str| {
        let tokens = inputs["data"][part][split].as_array().unwrap();
        tokens.iter().any(|token| fim.contains(&(token.as_u64().unwrap() as u32)))
    };
    assert_eq!([is_cut(0, "train"), is_cut(1, "train")], [false, true]);
    assert_eq!([is_cut(0, "val"), is_cut(1, "val")], [false, false]);

    let Some(golden) = Golden::of(name, &inputs) else { return };
    let outcome = run(Reference, &fixture, init, data, &[changes, PACE].concat());
    let [loss, bpb] = ["val_loss", "val_bpb"].map(|name| outcome.ending.before(name));
    let before = json!({ "val_loss": loss, "val_bpb": bpb });
    close(&before, golden.at("/before"), "before");
    golden.holds_metrics(&fixture.at("run"));
    golden.holds_checkpoints(&fixture.at("run"));
}

/// The stage with everything switched on.
pub(crate) fn run<B: Backend>(
    b: B,
    fixture: &Fixture,
    init: Init,
    data: Vec<(PathBuf, f64)>,
    pace: &[&str],
) -> PretrainOutcome {
    let mut changes: Vec<String> = RECIPE.iter().chain(pace).map(|change| change.to_string()).collect();
    changes.push(format!("key_tokens=['{KEY_WORD}']"));
    let options = PretrainOptions {
        source: Source::Shards(data),
        out: fixture.at("run"),
        settings: Settings::resolve_for(None, &changes, &fixture.config()).unwrap(),
        seed: SEED,
        start: Start::Model { init: Box::new(init), continue_optimizer: false },
    };
    pretrain(b, &machine(), &options, &Silent).unwrap()
}
