//! Distillation: a wider teacher, a temperature, dropout of the student, steps in which it answers itself, some of whose prompts
//! leave no room.

use crate::fixture::{Fixture, WEIGHTS, recipe, shape_of};
use crate::golden::{Golden, close};
use crate::sft::{inputs, sequences};
use crate::workshop::{machine, settings};
use gpt::data::{Conversations, Prompter};
use gpt::progress::Silent;
use gpt::stage::{DistilOptions, DistilOutcome, DistilSource, Init, TeacherStore, distil, store_teacher};
use kernels::{Distil, Reference};
use serde_json::json;

const SEED: u64 = 71;
const ORDER_SEED: u64 = 72;
const TEACHER_WEIGHTS: u64 = 13;
const RECIPE: &[&str] = &[
    "steps=5",
    "batch_size=7",
    "sampling_temperature=0.8",
    "max_tokens=19",
    "lr=2e-2",
    "min_lr_frac=0.1",
    "warmup_steps=1",
    "weight_decay=0.1",
    "beta1=0.9",
    "beta2=0.95",
    "eps=1e-6",
    "grad_clip=1.0",
    "dropout=0.2",
];
/// Several micro-batches a step, and everything measured and kept after each.
const PACE: &[&str] = &["micro_batch_tokens=48", "eval_every=1", "checkpoint_every=1", "sample_every=0"];
const ON_GIVEN: &[&str] = &["lmbda=0.0", "beta=0.0", "temperature=1.0"];
const REVERSE: &[&str] = &["lmbda=0.0", "beta=1.0", "temperature=2.0"];
const STORED: &[&str] = &["lmbda=0.0", "beta=0.3", "temperature=1.25"];
/// Tokens that are kept of each distribution.
const TOP: usize = 5;
const ON_OWN: &[&str] = &["lmbda=0.5", "beta=0.3", "temperature=1.0"];

#[test]
fn distillation_of_given_answers_is_pytorchs() {
    holds("distil", ON_GIVEN);
}

#[test]
fn reverse_distillation_at_a_temperature_is_pytorchs() {
    holds("distil-reverse", REVERSE);
}

#[test]
fn distillation_of_own_answers_is_pytorchs() {
    holds("distil-own", ON_OWN);
}

#[test]
fn distillation_from_a_store_is_pytorchs() {
    holds("distil-stored", STORED);
}

fn holds(name: &str, loss: &[&str]) {
    let fixture = Fixture::new();
    let (init, teacher) = (fixture.base(), teacher(&fixture));
    let (train, val) = (sequences(&fixture, 0..12), sequences(&fixture, 12..17));
    let golden = Golden::of(
        name,
        &json!({
            "shape": fixture.shape(),
            "weights": WEIGHTS,
            "teacher_shape": shape_of(&fixture.wide_config(), &fixture),
            "teacher_weights": TEACHER_WEIGHTS,
            "recipe": recipe(&[RECIPE, loss].concat()),
            "top": if name == "distil-stored" { json!(TOP) } else { json!(null) },
            "seed": SEED,
            "order_seed": ORDER_SEED,
            "end_tokens": Prompter::new(&fixture.tokenizer).unwrap().end_tokens(),
            "train": inputs(&train),
            "val": inputs(&val),
        }),
    );
    let Some(golden) = golden else { return };
    let pace = [PACE, loss].concat();
    let outcome = match name {
        "distil-stored" => {
            let data = Conversations::new(&sequences(&fixture, 0..17), ORDER_SEED);
            let stored = store_teacher(&mut Reference, &teacher, &data, TOP, 1.25, &Silent).unwrap();
            std::fs::write(fixture.at("store"), stored).unwrap();
            let store = TeacherStore::open(&fixture.at("store")).unwrap();
            run(Reference, &fixture, &init, DistilSource::Store(&store), &pace)
        }
        _ => run(Reference, &fixture, &init, DistilSource::Model(&teacher), &pace),
    };
    let before = outcome.before.unwrap();
    let before = json!({ "val_loss": before.divergence, "val_cross_entropy": before.cross_entropy });
    close(&before, golden.at("/before"), "before");
    let owns = golden.at("/owns").as_u64().unwrap();
    assert_eq!(owns > 0 && owns < 5, name == "distil-own", "{owns} steps on own answers");
    assert_eq!(
        golden.at("/without_room").as_u64() > Some(0),
        name == "distil-own",
        "prompts that are too long"
    );
    golden.holds_metrics(&fixture.at("run"));
    golden.holds_checkpoints(&fixture.at("run"));
}

fn teacher(fixture: &Fixture) -> Init {
    fixture.model("teacher", &fixture.wide_config(), TEACHER_WEIGHTS)
}

/// The stage with everything switched on.
pub(crate) fn run<B: Distil>(
    b: B,
    fixture: &Fixture,
    init: &Init,
    teacher: DistilSource<'_>,
    pace: &[&str],
) -> DistilOutcome {
    let options = DistilOptions {
        init,
        teacher,
        train: &Conversations::new(&sequences(fixture, 0..12), ORDER_SEED),
        val: &Conversations::new(&sequences(fixture, 12..17), ORDER_SEED),
        out: fixture.at("run"),
        settings: settings(&[RECIPE, pace].concat()),
        seed: SEED,
    };
    distil(b, &machine(), &options, &Silent).unwrap()
}

/// On own answers, for the test of lanes.
pub(crate) fn run_own<B: Distil>(b: B, fixture: &Fixture, pace: &[&str]) {
    let teacher = teacher(fixture);
    run(b, fixture, &fixture.base(), DistilSource::Model(&teacher), &[ON_OWN, pace].concat());
}
