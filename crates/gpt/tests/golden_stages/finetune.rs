//! Fine-tuning with a head: classes, degrees read in both orders, and a choice among answers, each with
//! language modelling beside it, dropout of the trunk and of what the head reads.

use crate::fixture::{Fixture, WEIGHTS, recipe};
use crate::golden::Golden;
use crate::workshop::{machine, settings};
use gpt::checkpoint;
use gpt::data::{Form, Labelled};
use gpt::progress::Silent;
use gpt::stage::{Examples, FinetuneOptions, FinetuneOutcome, Init, finetune};
use kernels::{Backend, Reference};
use serde_json::{Value, json};
use std::ops::Range;

const SEED: u64 = 71;
const RECIPE: &[&str] = &[
    "steps=4",
    "batch_size=7",
    "lr=1e-2",
    "min_lr_frac=0.1",
    "decay=linear",
    "warmup_steps=1",
    "warmup_frac=0.4",
    "weight_decay=0.1",
    "beta1=0.9",
    "beta2=0.95",
    "eps=1e-6",
    "grad_clip=1.0",
    "dropout=0.15",
    "head_dropout=0.2",
    "aux_lm=0.5",
];
/// Several micro-batches a step, and everything measured and kept after each.
const PACE: &[&str] = &["micro_batch_tokens=24", "eval_every=1", "checkpoint_every=1", "sample_every=0"];
const CLASSES: [&str; 3] = ["no", "perhaps", "yes"];

/// A row as a file has it, its texts, and what the script learns of it.
fn row(form: Form, i: usize) -> (Value, Vec<&'static str>, Value) {
    let texts = ["a", "b c", "ab", "c b a", "bb", "ca"];
    let (first, second) = (texts[i % 6], texts[(5 * i + 1) % 6]);
    let class = (i * i + i / 3) % 3;
    let degree = (i % 5) as f64 / 2.0 - 0.75;
    match form {
        Form::Similarity => {
            (json!({ "a": first, "b": second, "label": degree }), vec![first, second], json!(degree))
        }
        Form::MultipleChoice => {
            let answers = [second, "c", "ab b"];
            let row = json!({ "context": first, "answers": answers, "label": class });
            (row, [&[first][..], &answers].concat(), json!(class))
        }
        _ => (json!({ "text": first, "label": CLASSES[class] }), vec![first], json!(class)),
    }
}

fn lines(form: Form, numbers: Range<usize>) -> Vec<Labelled> {
    numbers.map(|i| form.read(row(form, i).0.as_object().unwrap(), true).unwrap()).collect()
}

/// The examples as the script reads them: texts between marks.
fn inputs(form: Form, numbers: Range<usize>, init: &Init) -> Value {
    let tokenizer = init.tokenizer().unwrap();
    let [start, delimiter, extract] =
        ["<|start|>", "<|delimiter|>", "<|extract|>"].map(|mark| vec![tokenizer.special(mark).unwrap()]);
    let example = |i: usize| {
        let (_, texts, label) = row(form, i);
        let texts: Vec<Vec<u32>> = texts.iter().map(|text| tokenizer.encode(text)).collect();
        let two =
            |a: &Vec<u32>, b: &Vec<u32>| [&start, a, &delimiter, b, &extract].map(Vec::as_slice).concat();
        let sequences = match (form, texts.as_slice()) {
            (Form::Similarity, [a, b]) => vec![two(a, b), two(b, a)],
            (Form::MultipleChoice, [context, answers @ ..]) => {
                answers.iter().map(|b| two(context, b)).collect()
            }
            (_, texts) => vec![[&start, &texts[0], &extract].map(Vec::as_slice).concat()],
        };
        json!({ "sequences": sequences, "label": label })
    };
    numbers.map(example).collect()
}

fn is_pytorchs(form: Form) {
    let fixture = Fixture::new();
    let init = marked(&fixture);
    let (train, held_out) = (0..17, 17..26);
    let golden = Golden::of(
        &format!("finetune-{form}"),
        &json!({
            "shape": fixture.shape(),
            "weights": WEIGHTS,
            "marks": Examples::marks().len(),
            "recipe": recipe(RECIPE),
            "seed": SEED,
            "form": form.name(),
            "classes": if form == Form::Classification { CLASSES.len() } else { 0 },
            "train": inputs(form, train.clone(), &init),
            "held_out": inputs(form, held_out.clone(), &init),
        }),
    );
    let Some(golden) = golden else { return };
    run(Reference, &fixture, &init, form, PACE);
    golden.holds_metrics(&fixture.at("run"));
    golden.holds_checkpoints(&fixture.at("run"));
}

/// The model that the stage begins from.
pub(crate) fn marked(fixture: &Fixture) -> Init {
    drop(fixture.base());
    let model = checkpoint::open(&fixture.at("base"), &Silent).unwrap();
    Init::with_marks("base".into(), model, &Examples::marks()).unwrap()
}

/// The stage with everything switched on.
pub(crate) fn run<B: Backend>(
    b: B,
    fixture: &Fixture,
    init: &Init,
    form: Form,
    pace: &[&str],
) -> FinetuneOutcome {
    let examples = Examples::new(form, &lines(form, 0..17), &lines(form, 17..26), init, None).unwrap();
    let options = FinetuneOptions {
        init,
        examples: &examples,
        out: fixture.at("run"),
        settings: settings(&[RECIPE, pace].concat()),
        seed: SEED,
    };
    finetune(b, &machine(), &options, &Silent).unwrap()
}

#[test]
fn fine_tuning_for_classes_is_pytorchs() {
    is_pytorchs(Form::Classification);
}

#[test]
fn fine_tuning_for_degrees_is_pytorchs() {
    is_pytorchs(Form::Similarity);
}

#[test]
fn fine_tuning_for_choices_is_pytorchs() {
    is_pytorchs(Form::MultipleChoice);
}
