//! Fine-tuning for tasks on the processor, end to end and small: every form is learned, and neither an
//! interruption nor the number of threads changes a bit.
#![allow(clippy::unwrap_used)] // A test that finds no value has failed.

mod workshop;

use gpt::checkpoint;
use gpt::data::{Form, Labelled};
use gpt::model::Config;
use gpt::progress::{Progress, Silent};
use gpt::stage::{Examples, FinetuneOptions, FinetuneSettings, Init, classify, finetune, task_of};
use gpt::tokenizer::Tokenizer;
use kernels::Cpu;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use workshop::{continues, cpu, machine, modern, save, settings};

const WORDS: [&str; 6] = ["cat", "dog", "sun", "sea", "red", "blue"];

fn base(dir: &Path, config: impl Fn(usize) -> Config) -> PathBuf {
    let texts = (0..40).map(|i| Ok(format!("{} {} \n", WORDS[i % 6], WORDS[(i / 6) % 6])));
    save(dir, &Tokenizer::train(texts, 275, &[], &Silent).unwrap(), config)
}

fn init(path: &Path) -> Init {
    let model = checkpoint::open(path, &Silent).unwrap();
    Init::with_marks(path.display().to_string(), model, &Examples::marks()).unwrap()
}

fn lines(form: Form, row: impl Fn(usize) -> Value, numbers: std::ops::Range<usize>) -> Vec<Labelled> {
    let line = |i| form.read(row(i).as_object().unwrap(), true).unwrap();
    numbers.map(line).collect()
}

/// A task of each form, of which the label is a simple function of the texts.
fn row(form: Form, i: usize) -> Value {
    let (first, second) = (WORDS[i % 6], WORDS[(i / 6) % 6]);
    let same = i.is_multiple_of(2);
    match form {
        Form::Classification => {
            let label = ["a", "b", "c"][i % 3];
            json!({ "text": format!("{first} {second}"), "label": label })
        }
        Form::Entailment => {
            let hypothesis = if same { "yes" } else { "no" };
            json!({ "premise": first, "hypothesis": hypothesis, "label": same })
        }
        Form::Similarity => json!({ "a": first, "b": second, "label": (i % 6 + (i / 6) % 6) as f64 / 4.0 }),
        Form::MultipleChoice => {
            let (right, wrong) = ("good", "bad");
            let label = i / 2 % 2;
            let answers = if label == 0 { [right, wrong] } else { [wrong, right] };
            json!({ "context": first, "answers": answers, "label": label })
        }
    }
}

#[test]
fn every_form_is_learned_and_decided_again_from_the_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    for (form, shape) in Form::ALL.into_iter().zip([
        modern as fn(usize) -> Config,
        |vocab_size| Config::gpt2(vocab_size, 64, 2, 2, 32),
        modern,
        |vocab_size| Config { dropout: 0.1, ..Config::gpt1(vocab_size, 64, 2, 2, 32) },
    ]) {
        let dir = dir.path().join(form.name());
        std::fs::create_dir(&dir).unwrap();
        let base = init(&base(&dir, shape));
        let train = lines(form, |i| row(form, i), 0..72);
        let held_out = lines(form, |i| row(form, i), 5..41);
        let examples = Examples::new(form, &train, &held_out, &base, Some(24)).unwrap();
        let options = FinetuneOptions {
            init: &base,
            examples: &examples,
            out: dir.join("run"),
            settings: settings(&[
                "steps=300",
                "batch_size=12",
                "lr=5e-3",
                "eval_every=100",
                "sample_every=100",
            ]),
            seed: 1,
        };
        let judged = finetune(cpu(2), &machine(), &options, &Silent).unwrap().evaluation.unwrap();
        match form {
            Form::Similarity => assert!(judged.pearson.unwrap().value > 0.9, "{judged:?}"),
            _ => assert!(judged.accuracy.unwrap().value > 0.9, "{form}: {judged:?}"),
        }

        // Three held-out texts after each hundred steps, with what the model and the file say that they are.
        let samples = std::fs::read_to_string(options.out.join("samples.jsonl")).unwrap();
        let samples: Vec<Value> = samples.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(samples.len(), 9);
        for (sample, line) in samples.iter().zip(held_out.iter().take(3).cycle()) {
            let said = sample["completion"].as_str().unwrap();
            let prefix = if form == Form::MultipleChoice { "answer " } else { "" };
            let is = format!(" (it is {prefix}{})", line.label.as_ref().unwrap());
            assert!(said.ends_with(&is), "{said} is no {is}");
            assert!(sample["prompt"].as_str().unwrap().contains(line.texts[0].trim()), "{sample}");
        }

        let model = checkpoint::open(&options.out, &Silent).unwrap();
        let (task, tokenizer) = (task_of(&model).unwrap(), model.tokenizer().unwrap().unwrap());
        let mut b = cpu(1);
        let weights = model.weights(checkpoint::to_backend(&mut b, &model.config)).unwrap();
        let told = classify(&mut b, model.config, weights, &task, &tokenizer, &held_out, &Silent).unwrap();
        if let Some(accuracy) = judged.accuracy {
            let right = told.iter().zip(&held_out);
            let right = right.filter(|(told, line)| told.label == line.label.as_ref().unwrap().to_string());
            assert_eq!(right.count(), (accuracy.value * accuracy.n as f64).round() as usize);
        }
    }
}

#[test]
fn it_continues_to_the_same_bits() {
    let dir = tempfile::tempdir().unwrap();
    let base = init(&base(dir.path(), |vocab_size| Config::gpt2(vocab_size, 64, 2, 2, 32)));
    let form = Form::Similarity;
    let train = lines(form, |i| row(form, i), 0..30);
    let examples = Examples::new(form, &train, &train[..5], &base, None).unwrap();
    continues(dir.path(), &[2, 4, 7], |out: &Path, b: Cpu, progress: &dyn Progress| {
        let options = FinetuneOptions {
            init: &base,
            examples: &examples,
            out: out.into(),
            settings: settings(&["steps=12", "batch_size=5", "dropout=0.1"]),
            seed: 1,
        };
        finetune(b, &machine(), &options, progress).unwrap().ending.stopped
    });
}

/// Only the head and the rows of the marks differ from the model that it began from.
#[test]
fn a_frozen_trunk_is_that_of_the_base_model() {
    let dir = tempfile::tempdir().unwrap();
    let path = base(dir.path(), modern);
    let base = init(&path);
    let form = Form::Classification;
    let train = lines(form, |i| row(form, i), 0..30);
    let examples = Examples::new(form, &train, &train[..5], &base, None).unwrap();
    let settings = settings::<FinetuneSettings>(&["steps=5", "lr=1e-2", "freeze_trunk=true"]);
    let options =
        FinetuneOptions { init: &base, examples: &examples, out: dir.path().join("run"), settings, seed: 1 };
    finetune(cpu(1), &machine(), &options, &Silent).unwrap();
    let [before, after] = [&path, &options.out].map(|path| checkpoint::open(path, &Silent).unwrap());
    let [before, after] = [before, after].map(|model| model.weights(checkpoint::to_host).unwrap());
    let known = before.wte.len();
    assert_eq!(after.wte[..known], before.wte[..]);
    assert_eq!(after.wte.len(), known + 3 * 32, "three marks");
    assert_eq!(after.blocks, before.blocks);
    assert_eq!(after.final_norm, before.final_norm);
}

/// Marks mean nothing yet, and are told apart from the start.
#[test]
fn the_embeddings_of_marks_are_drawn() {
    let dir = tempfile::tempdir().unwrap();
    let base = init(&base(dir.path(), modern));
    let form = Form::Classification;
    let train = lines(form, |i| row(form, i), 0..30);
    let examples = Examples::new(form, &train, &train[..5], &base, None).unwrap();
    // A step that changes nothing that can be seen.
    let settings = settings::<FinetuneSettings>(&["steps=1", "lr=1e-9"]);
    let options =
        FinetuneOptions { init: &base, examples: &examples, out: dir.path().join("run"), settings, seed: 1 };
    finetune(cpu(1), &machine(), &options, &Silent).unwrap();
    let weights = checkpoint::open(&options.out, &Silent).unwrap().weights(checkpoint::to_host).unwrap();
    let marks = &weights.wte[weights.wte.len() - 3 * 32..];
    let deviation = (marks.iter().map(|x| x * x).sum::<f32>() / 96.0).sqrt();
    assert!((0.015..0.025).contains(&deviation), "N(0, 0.02), and not {deviation}");
    assert!(marks[..32] != marks[32..64] && marks[32..64] != marks[64..]);
}

#[test]
fn texts_that_are_cut_are_counted_and_said() {
    let dir = tempfile::tempdir().unwrap();
    let base = init(&base(dir.path(), modern));
    let form = Form::Classification;
    let long = |i: usize| {
        let text = [WORDS[i % 6], " "].concat().repeat(if i < 4 { 30 } else { 1 });
        let label = ["a", "b"][i % 2];
        json!({ "text": text, "label": label })
    };
    let (train, held_out) = (lines(form, long, 0..12), lines(form, long, 3..8));
    let examples = Examples::new(form, &train, &held_out, &base, Some(24)).unwrap();
    assert_eq!(examples.counts(), (12, 5, 5), "to learn from, held out, cut of both");
    let settings = settings::<FinetuneSettings>(&["steps=1", "batch_size=4"]);
    let options =
        FinetuneOptions { init: &base, examples: &examples, out: dir.path().join("run"), settings, seed: 1 };
    finetune(cpu(1), &machine(), &options, &Silent).unwrap();
    let model = checkpoint::open(&options.out, &Silent).unwrap();
    let (task, tokenizer) = (task_of(&model).unwrap(), model.tokenizer().unwrap().unwrap());
    let mut b = cpu(1);
    let weights = model.weights(checkpoint::to_backend(&mut b, &model.config)).unwrap();
    let decided = classify(&mut b, model.config, weights, &task, &tokenizer, &train, &Silent).unwrap();
    let cut: Vec<bool> = decided.iter().map(|decision| decision.cut).collect();
    assert_eq!(cut, (0..12).map(|i| i < 4).collect::<Vec<_>>());
}

#[test]
fn what_cannot_be_learned_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let base = init(&base(dir.path(), modern));
    let form = Form::Classification;
    let all = lines(form, |i| row(form, i), 0..6);
    let message = |train: &[Labelled], held_out: &[Labelled], max_tokens| {
        format!("{:#}", Examples::new(form, train, held_out, &base, max_tokens).unwrap_err())
    };
    assert!(message(&all[..1], &all, None).contains("nothing to tell apart"));
    assert!(message(&all[..2], &all, None).contains("the label c is not among those to learn from: a, b"));
    assert!(message(&all, &[], None).contains("--val"));
    assert!(message(&all, &all, Some(65)).contains("context of 64"));
    assert!(message(&all, &all, Some(4)).contains("at least 8"));
}
