//! Pretraining on the processor, end to end: the loss falls, and neither an interruption nor the number of
//! threads changes a bit.
#![allow(clippy::unwrap_used)] // A test that finds no value has failed.

mod workshop;

use gpt::data::{
    Batch, Overflow, StreamOptions, TokenShards, TokenizeOptions, TokenizeTasksOptions, Windows, tokenize,
    tokenize_tasks,
};
use gpt::progress::{Progress, Silent};
use gpt::stage::{Init, PretrainOptions, Settings, Source, Start, pretrain};
use gpt::tokenizer::Tokenizer;
use gpt::{checkpoint, corpus};
use std::path::{Path, PathBuf};
use workshop::{StopAt, cpu, machine};

/// Sentences that a small model can learn, as token shards.
fn data(dir: &Path) -> PathBuf {
    let text: String =
        (0..4000).map(|i| format!("line {i}: {} and {} make {}\n", i % 7, i % 5, i % 7 + i % 5)).collect();
    std::fs::write(dir.join("text.txt"), &text).unwrap();
    for (number, part) in text.as_bytes().chunks(4000).enumerate() {
        std::fs::write(dir.join(format!("{number}.txt")), part).unwrap();
    }
    let (corpus_dir, tokens) = (dir.join("corpus"), dir.join("tokens"));
    let options = corpus::Options {
        paths: vec![dir.into()],
        out: corpus_dir.clone(),
        include: vec!["[0-9]*.txt".into()],
        val_fraction: 0.1,
        ..corpus::Options::default()
    };
    corpus::build(&options, &Silent).unwrap();
    let tokenizer = Tokenizer::train([Ok(text)].into_iter(), 300, &[], &Silent).unwrap();
    tokenizer.save(dir.join("tokenizer")).unwrap();
    let options = TokenizeOptions {
        corpus: corpus_dir,
        tokenizer: dir.join("tokenizer/tokenizer.json"),
        out: tokens.clone(),
        context: None,
        overflow: Overflow::Pack,
        fim: None,
    };
    tokenize(&options, &Silent).unwrap();
    tokens
}

fn options(data: &Path, out: PathBuf) -> PretrainOptions {
    changed_options(data, out, &[])
}

fn changed_options(data: &Path, out: PathBuf, changes: &[&str]) -> PretrainOptions {
    let usual = ["steps=30", "eval_every=10", "checkpoint_every=10", "sample_every=15", "dropout=0.1"];
    let changes: Vec<String> = usual.iter().chain(changes).map(|change| change.to_string()).collect();
    let (shape, settings) = Settings::resolve("tiny", &changes).unwrap();
    PretrainOptions {
        source: Source::Shards(vec![(data.into(), 1.0)]),
        out,
        settings,
        seed: 1,
        start: Start::Random(shape),
    }
}

fn contents(run: &Path) -> Vec<(String, Vec<u8>)> {
    let names = ["metrics.jsonl", "samples.jsonl"].map(String::from).into_iter();
    let checkpoint = ["model.safetensors", "optimizer.safetensors", "mynah.json", "config.json"];
    let names = names.chain(checkpoint.map(|name| format!("checkpoints/step-000030/{name}")));
    names.map(|name| (name.clone(), std::fs::read(run.join(&name)).unwrap())).collect()
}

#[test]
fn learns_and_continues_to_the_same_bits() {
    let dir = tempfile::tempdir().unwrap();
    let data = data(dir.path());
    let whole = options(&data, dir.path().join("whole"));
    let outcome = pretrain(cpu(2), &machine(), &whole, &Silent).unwrap();
    assert_eq!((outcome.ending.step, outcome.ending.stopped), (30, false));
    let loss = outcome.validation.unwrap().loss();
    assert!(loss < 4.0, "{loss} is hardly better than the {:.2} of a guess", (300f64).ln());

    // Samples continue the beginnings of the first held-out window and of the one in the middle.
    let shards = TokenShards::open(&data).unwrap();
    let windows = shards.val_windows(whole.settings.eval_windows, whole.settings.seq_len).unwrap();
    let beginnings = [0, windows.len() / 2]
        .map(|i| shards.tokenizer().decode(&windows[i].tokens[..24]).unwrap().trim().to_owned());
    assert_ne!(beginnings[0], beginnings[1]);
    let seen = (30 * whole.settings.batch_tokens) as f64 / shards.meta().train.tokens as f64;
    assert!((outcome.exposure[0].epochs - seen).abs() < 1e-9, "{:?}", outcome.exposure);
    let samples = std::fs::read_to_string(whole.out.join("samples.jsonl")).unwrap();
    let prompt = |line: &str| {
        let sample: serde_json::Value = serde_json::from_str(line).unwrap();
        sample["prompt"].as_str().unwrap().trim().to_owned()
    };
    assert_eq!(samples.lines().map(prompt).collect::<Vec<_>>(), [&beginnings[..], &beginnings].concat());

    let parts = options(&data, dir.path().join("parts"));
    for step in [7, 13, 17] {
        let stop = StopAt::new(step);
        let outcome = pretrain(cpu(1), &machine(), &parts, &stop).unwrap();
        assert_eq!((outcome.ending.step, outcome.ending.stopped), (step, true));
    }
    let outcome = pretrain(cpu(3), &machine(), &parts, &Silent).unwrap();
    assert_eq!(outcome.ending.step, 30);
    for ((name, a), (_, b)) in contents(&whole.out).into_iter().zip(contents(&parts.out)) {
        assert!(a == b, "{name} differs after interruptions");
    }
}

/// Text and rows of tasks in one run, cut off in between, from a model whose vocabulary grows by the task's
/// token.
#[test]
fn text_and_tasks_are_learned_together_and_continue_to_the_same_bits() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let text = data(dir.path());
    let special = ["[sum]".to_owned()];
    let tokenizer = Tokenizer::from_dir(at("tokenizer")).unwrap();
    let extended = tokenizer.extended(&special).unwrap();
    extended.save(at("extended")).unwrap();
    let row = |i: usize| {
        format!(r#"{{"input":"{} {}","task":"[sum]","output":"{}"}}"#, i % 7, i % 5, i % 7 + i % 5)
    };
    std::fs::write(at("rows.jsonl"), (0..3000).map(row).collect::<Vec<_>>().join("\n")).unwrap();
    let rows = TokenizeTasksOptions {
        rows: at("rows.jsonl"),
        tokenizer: at("extended"),
        out: at("tasks"),
        fields: Vec::new(),
        val_fraction: 0.3,
    };
    tokenize_tasks(&rows, &Silent).unwrap();
    let more_text = TokenizeOptions {
        corpus: at("corpus"),
        tokenizer: at("extended"),
        out: at("text"),
        ..TokenizeOptions::default()
    };
    tokenize(&more_text, &Silent).unwrap();

    let base = changed_options(&text, at("base"), &["steps=2", "eval_every=2"]);
    pretrain(cpu(2), &machine(), &base, &Silent).unwrap();
    let run = |out: &str, threads: usize, progress: &dyn Progress| {
        let model = checkpoint::open(&at("base"), &Silent).unwrap();
        let config = model.config.clone();
        let own = model.tokenizer().unwrap();
        let init = Box::new(Init::new("base".into(), model, own, &special).unwrap());
        let changes =
            ["steps=30", "eval_every=10", "checkpoint_every=10", "sample_every=15"].map(String::from);
        let options = PretrainOptions {
            source: Source::Shards(vec![(at("text"), 0.5), (at("tasks"), 0.5)]),
            out: at(out),
            settings: Settings::resolve_for(Some("tiny"), &changes, &config).unwrap(),
            seed: 1,
            start: Start::Model { init, continue_optimizer: false },
        };
        pretrain(cpu(threads), &machine(), &options, progress).unwrap()
    };
    let whole = run("whole", 2, &Silent);
    assert_eq!(whole.exposure.iter().map(|part| part.share).collect::<Vec<_>>(), [0.5, 0.5]);
    assert!(run("parts", 1, &StopAt::new(13)).ending.stopped);
    assert!(!run("parts", 1, &Silent).ending.stopped);
    assert!(contents(&at("whole")) == contents(&at("parts")));
    let recipe = std::fs::read_to_string(at("whole/config.toml")).unwrap();
    assert!(recipe.contains("mix = [") && recipe.contains("rows.jsonl"), "{recipe}");
}

/// As of shards; the place in the stream is in the checkpoint.
#[test]
fn a_stream_is_learned_and_continues_to_the_same_bits() {
    let dir = tempfile::tempdir().unwrap();
    data(dir.path());
    let streamed = |out: &str, threads: usize, block_tokens: usize| {
        let corpus = corpus::Options {
            paths: vec![dir.path().into()],
            include: vec!["[0-9]*.txt".into()],
            val_fraction: 0.1,
            threads,
            ..corpus::Options::default()
        };
        let tokenizer = dir.path().join("tokenizer");
        let stream = StreamOptions { corpus, tokenizer, block_tokens };
        let options = options(Path::new("unused"), dir.path().join(out));
        PretrainOptions { source: Source::Stream(Box::new(stream)), ..options }
    };
    let whole = streamed("whole", 2, 5000);
    let outcome = pretrain(cpu(2), &machine(), &whole, &Silent).unwrap();
    let loss = outcome.validation.unwrap().loss();
    assert!(loss < 4.0, "{loss} is hardly better than the {:.2} of a guess", (300f64).ln());
    for step in [7, 13, 30] {
        let stop = StopAt::new(step);
        let outcome =
            pretrain(cpu(1), &machine(), &streamed("parts", step as usize % 4, 5000), &stop).unwrap();
        assert_eq!(outcome.ending.step, step);
    }
    let manifest = std::fs::read(whole.out.join("checkpoints/step-000030/mynah.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    let block = manifest["data_position"]["block"].as_u64().unwrap();
    assert!(block > 2, "the run saw blocks up to {block} only");
    for ((name, a), (_, b)) in contents(&whole.out).into_iter().zip(contents(&dir.path().join("parts"))) {
        assert!(a == b, "{name} differs after interruptions");
    }
    let other = streamed("whole", 2, 6000);
    let message = format!("{:#}", pretrain(cpu(2), &machine(), &other, &Silent).unwrap_err());
    assert!(message.contains("settings.stream.block_tokens: 5000 → 6000"), "{message}");
}

/// What a checkpoint's own files do not hold exactly, it holds beside the moments: files of two bytes a
/// number, and GPT-Neo's queries, which are divided by √8 there.
#[test]
fn a_checkpoint_that_is_rounded_continues_to_the_same_bits() {
    let dir = tempfile::tempdir().unwrap();
    let data = data(dir.path());
    for (number, changes) in [
        ["dtype=bf16", "family=gpt2", "sample_every=0"],
        ["dtype=f16", "family=modern", "n_kv_head=1"],
        ["dtype=f32", "family=gpt3", "n_head=8"],
        ["dtype=bf16", "family=gpt1", "sample_every=0"],
    ]
    .into_iter()
    .enumerate()
    {
        let out = |name: &str| dir.path().join(format!("{name}-{number}"));
        let short = [changes.as_slice(), &["steps=6", "checkpoint_every=2", "n_layer=1"]].concat();
        let whole = changed_options(&data, out("whole"), &short);
        pretrain(cpu(2), &machine(), &whole, &Silent).unwrap();
        let parts = changed_options(&data, out("parts"), &short);
        for step in [1, 3, 7] {
            let stop = StopAt::new(step);
            pretrain(cpu(2), &machine(), &parts, &stop).unwrap();
        }
        for name in ["metrics.jsonl", "checkpoints/step-000006/optimizer.safetensors"] {
            let bytes = |run: &Path| std::fs::read(run.join(name)).unwrap();
            assert!(bytes(&whole.out) == bytes(&parts.out), "{changes:?}: {name} differs");
        }
    }
}

/// The loss of a step is the mean over sequences of weight times loss; of an untrained model all have about
/// the same loss.
#[test]
fn key_tokens_weigh_sequences_and_leave_validation_alone() {
    let dir = tempfile::tempdir().unwrap();
    let data = data(dir.path());
    let first_losses = |name: &str, changes: &[&str]| {
        let short = [changes, &["steps=1", "eval_every=1", "sample_every=0"]].concat();
        let options = changed_options(&data, dir.path().join(name), &short);
        pretrain(cpu(2), &machine(), &options, &Silent).unwrap();
        let line = std::fs::read_to_string(options.out.join("metrics.jsonl")).unwrap();
        let metrics: serde_json::Value = serde_json::from_str(&line).unwrap();
        ["loss", "val_loss"].map(|key| metrics[key].as_f64().unwrap())
    };
    let weighing = ["key_tokens=['make']", "key_token_alpha=0.5"];
    let ([plain, _], [weighted, val]) = (first_losses("plain", &[]), first_losses("weighted", &weighing));

    let shards = TokenShards::open(&data).unwrap();
    let key_token = shards.tokenizer().encode(" make");
    assert_eq!((key_token.len(), shards.tokenizer().encode("make").len()), (1, 2), "what the test stands on");
    let (_, settings) = Settings::resolve("tiny", &[]).unwrap();
    let mut batch = Batch::default();
    let sequences = settings.sequences();
    let mut windows = Windows::new(&shards, settings.seq_len, 1).unwrap();
    windows.batch(1, 0..sequences, sequences, &mut batch).unwrap();
    let key_tokens = batch.tokens.iter().filter(|&token| *token == key_token[0]).count();
    let expected = plain * 0.5 * (1.0 + key_tokens as f64 / sequences as f64);
    assert!((weighted / expected - 1.0).abs() < 0.01, "{weighted} where {expected} is expected");
    assert!(val < 6.0, "validation is weighted: {val}");

    let other = changed_options(&data, dir.path().join("weighted"), &["key_tokens=['and']", "steps=1"]);
    let message = format!("{:#}", pretrain(cpu(2), &machine(), &other, &Silent).unwrap_err());
    assert!(message.contains(r#"settings.key_tokens: ["make"] → ["and"]"#), "{message}");
}

#[test]
fn another_recipe_is_refused_with_the_difference() {
    let dir = tempfile::tempdir().unwrap();
    let data = data(dir.path());
    let mut options = options(&data, dir.path().join("run"));
    options.settings.steps = 2;
    pretrain(cpu(2), &machine(), &options, &Silent).unwrap();
    options.settings.lr = 1e-4;
    let message = format!("{:#}", pretrain(cpu(2), &machine(), &options, &Silent).unwrap_err());
    assert!(message.contains("settings.lr: 0.003 → 0.0001"), "{message}");
}

#[test]
fn a_run_that_diverges_leaves_its_bad_steps_out_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let data = data(dir.path());
    let mut options = options(&data, dir.path().join("run"));
    options.settings.lr = 1e30;
    options.settings.warmup_steps = 0;
    let message = format!("{:#}", pretrain(cpu(2), &machine(), &options, &Silent).unwrap_err());
    assert!(message.contains("does not recover") && message.contains("--lr"), "{message}");
    let metrics = std::fs::read_to_string(options.out.join("metrics.jsonl")).unwrap();
    let skipped: Vec<bool> = metrics.lines().map(|line| line.contains("\"skipped\":true")).collect();
    // The first update is applied and ruins the weights; after three bad steps the run begins again with the
    // data that comes next, and the same happens.
    assert_eq!(skipped, [false, true, true, true, false, true, true, true]);
    assert_eq!(
        std::fs::read_dir(options.out.join("checkpoints")).unwrap().count(),
        0,
        "nothing bad was saved"
    );
}
