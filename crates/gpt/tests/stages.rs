//! The stages after pretraining on the processor, end to end and small: each learns what it is for, and neither an interruption
//! nor the number of threads changes a bit.
#![allow(clippy::unwrap_used)] // A test that finds no value has failed.

mod workshop;

use gpt::checkpoint;
use gpt::data::jsonl::Record;
use gpt::data::messages::{Message, Role};
use gpt::data::{Conversations, Prompt, Prompter, Ranking, Sequence, TooLong};
use gpt::model::Config;
use gpt::progress::{Progress, Silent, Unit};
use gpt::stage::{
    DpoOptions, Init, PpoOptions, Rankings, RewardOptions, SftOptions, StageSettings, dpo, ppo, reward, sft,
};
use gpt::tokenizer::Tokenizer;
use gpt::tokenizer::chat::{ChatTemplate, with_ours};
use kernels::Cpu;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use workshop::{StopAt, continues, cpu, machine, modern, save, settings};

fn question(i: usize) -> Vec<Message> {
    vec![Message::new(Role::User, format!("What comes after {}?", ["a", "b", "c", "d", "e"][i % 5]))]
}

fn answer(i: usize) -> &'static str {
    ["b", "c", "d", "e", "f"][i % 5]
}

/// A small model with a chat template, as a checkpoint.
fn base(dir: &Path, config: impl Fn(usize) -> Config) -> PathBuf {
    let texts = (0..40).map(|i| Ok(format!("user assistant What comes after {}? {}\n", i % 9, answer(i))));
    save(dir, &with_ours(&Tokenizer::train(texts, 290, &[], &Silent).unwrap()).unwrap(), config)
}

fn init(path: &Path) -> Init {
    let model = checkpoint::open(path, &Silent).unwrap();
    let tokenizer = model.tokenizer().unwrap();
    Init::new(path.display().to_string(), model, tokenizer, &[]).unwrap()
}

fn demonstrations(init: &Init, n: usize) -> Conversations {
    let tokenizer = init.tokenizer().unwrap();
    let template = ChatTemplate::of(tokenizer).unwrap().unwrap();
    let sequence = |i: usize| {
        let mut messages = question(i);
        messages.push(Message::new(Role::Assistant, answer(i)));
        Sequence::new(&template.encode(tokenizer, &messages).unwrap(), 64, TooLong::Error).unwrap()
    };
    Conversations::new(&(0..n).map(sequence).collect::<Vec<_>>(), 5)
}

/// The right answer is better than the next letter's, which is better than one without sense.
fn rankings(init: &Init) -> Rankings {
    let ranking = |i: usize| Ranking {
        messages: question(i),
        completions: vec![answer(i + 1).into(), answer(i).into(), "What after comes".into()],
        ranks: vec![2, 1, 3],
        extra: Record::new(),
    };
    let (train, held_out): (Vec<_>, Vec<_>) = ((0..40).map(ranking).collect(), (0..5).map(ranking).collect());
    let prompter = Prompter::new(init.tokenizer().unwrap()).unwrap();
    Rankings::new(&train, &held_out, 0.0, &prompter, 64, &Silent).unwrap()
}

fn prompts(n: usize) -> Vec<Prompt> {
    (0..n).map(|i| Prompt { messages: question(i), extra: Record::new() }).collect()
}

#[test]
fn sft_begins_at_the_base_model_and_continues_to_the_same_bits() {
    let dir = tempfile::tempdir().unwrap();
    let init = init(&base(dir.path(), modern));
    let (train, val) = (demonstrations(&init, 20), demonstrations(&init, 5));
    let run = |out: &Path, b: Cpu, progress: &dyn Progress| {
        let options = SftOptions {
            init: &init,
            train: &train,
            val: &val,
            reward: None,
            ptx: Vec::new(),
            out: out.into(),
            settings: settings(&["steps=12", "batch_size=5", "lr=3e-3", "dropout=0.1"]),
            seed: 1,
        };
        let outcome = sft(b, &machine(), &options, progress).unwrap();
        if let Some(before) = outcome.before.filter(|_| !outcome.stopped) {
            assert!(outcome.after < before - 1.0, "{before} → {}", outcome.after);
        }
        outcome.stopped
    };
    let whole = continues(dir.path(), &[2, 4, 7], run);

    // Without dropout the loss of the first step is what the base model has on the same conversations.
    let options = SftOptions {
        init: &init,
        train: &val,
        val: &val,
        reward: None,
        ptx: Vec::new(),
        out: dir.path().join("once"),
        settings: settings(&["steps=1", "batch_size=5", "dropout=0"]),
        seed: 1,
    };
    let before = sft(cpu(2), &machine(), &options, &Silent).unwrap().before.unwrap();
    let metrics = std::fs::read_to_string(dir.path().join("once/metrics.jsonl")).unwrap();
    let first: serde_json::Value = serde_json::from_str(metrics.lines().next().unwrap()).unwrap();
    let loss = first["loss"].as_f64().unwrap();
    assert!((loss - before).abs() < 1e-9, "the first step has {loss}, the base model {before}");
    assert!(whole.join("report.html").exists());
}

#[test]
fn a_reward_model_learns_rankings_and_ppo_climbs_it() {
    let dir = tempfile::tempdir().unwrap();
    for (name, shape) in
        [("modern", modern as fn(usize) -> Config), ("gpt2", |v| Config::gpt2(v, 64, 2, 2, 32))]
    {
        let dir = dir.path().join(name);
        std::fs::create_dir(&dir).unwrap();
        let policy = init(&base(&dir, shape));
        let rankings = rankings(&policy);
        let run = |out: &Path, b: Cpu, progress: &dyn Progress| {
            let options = RewardOptions {
                init: &policy,
                rankings: &rankings,
                demonstrations: &[],
                out: out.into(),
                settings: settings(&[
                    "steps=100",
                    "batch_size=8",
                    "lr=3e-3",
                    "dropout=0.05",
                    "warmup_steps=0",
                    "normalise_before=true",
                ]),
                seed: 1,
            };
            let outcome = reward(b, &machine(), &options, progress).unwrap();
            let right = outcome.judged.pair_accuracy.value;
            assert!(outcome.stopped || right > 0.9, "right in {right} of the pairs");
            outcome.stopped
        };
        let rewards = dir.join("reward");
        std::fs::create_dir(&rewards).unwrap();
        let reward = init(&continues(&rewards, &[4, 8], run));

        selects_by_reward(&dir, &policy, &reward);
        let (asked, held_out) = (prompts(20), prompts(5));
        let run = |out: &Path, b: Cpu, progress: &dyn Progress| {
            let options = PpoOptions {
                policy: &policy,
                reward: &reward,
                prompts: &asked,
                held_out: &held_out,
                ptx: Vec::new(),
                gold: None,
                out: out.into(),
                settings: settings(&[
                    "steps=9",
                    "batch_size=12",
                    "minibatches=2",
                    "epochs=2",
                    "lr=3e-3",
                    "max_tokens=6",
                    "kl_target=4",
                    "kl_horizon=100",
                    "entropy_coef=0.01",
                    "ema=0.5",
                    "eval_prompts=5",
                ]),
                seed: 1,
            };
            let outcome = ppo(b, &machine(), &options, progress).unwrap();
            let figure = |of: &serde_json::Map<_, serde_json::Value>| of["eval/reward"].as_f64().unwrap();
            if let Some(before) = outcome.before.filter(|_| !outcome.stopped) {
                let (before, after) = (figure(&before), figure(&outcome.after));
                assert!(after > before, "held-out reward {before} → {after}");
            }
            outcome.stopped
        };
        let runs = dir.join("ppo");
        std::fs::create_dir(&runs).unwrap();
        let whole = continues(&runs, &[1, 2, 4], run);
        let rollouts = std::fs::read_to_string(whole.join("rollouts.jsonl")).unwrap();
        assert!(rollouts.lines().count() >= 9, "some answers of every iteration are kept");
    }
}

/// Supervised training ends with the state whose answers a reward model likes best.
fn selects_by_reward(dir: &Path, base: &Init, reward: &Init) {
    let (train, val) = (demonstrations(base, 20), demonstrations(base, 5));
    let options = SftOptions {
        init: base,
        train: &train,
        val: &val,
        reward: Some(reward),
        ptx: Vec::new(),
        out: dir.join("selected"),
        settings: settings(&["steps=12", "batch_size=5", "lr=3e-3", "dropout=0", "max_tokens=4"]),
        seed: 1,
    };
    sft(cpu(2), &machine(), &options, &Silent).unwrap();
    let metrics = std::fs::read_to_string(options.out.join("metrics.jsonl")).unwrap();
    let lines = metrics.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let rewards: Vec<(u64, f64)> =
        lines.filter_map(|line| Some((line["step"].as_u64()?, line["val_reward"].as_f64()?))).collect();
    assert_eq!(rewards.len(), 4, "{metrics}");
    let best = rewards.iter().max_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
    let last = checkpoint::open(&options.out, &Silent).unwrap();
    let selected = last.manifest.unwrap().about.selected.unwrap_or(12);
    assert_eq!(selected, best.0, "{rewards:?}");
}

#[test]
fn dpo_learns_rankings_and_continues_to_the_same_bits() {
    let dir = tempfile::tempdir().unwrap();
    let init = init(&base(dir.path(), modern));
    let rankings = rankings(&init);
    let run = |out: &Path, b: Cpu, progress: &dyn Progress| {
        let options = DpoOptions {
            init: &init,
            rankings: &rankings,
            out: out.into(),
            settings: settings(&["steps=60", "batch_size=8", "lr=5e-3", "warmup_steps=0"]),
            seed: 1,
        };
        let outcome = dpo(b, &machine(), &options, progress).unwrap();
        assert!(outcome.stopped || outcome.val_accuracy > 0.9, "{}", outcome.val_accuracy);
        outcome.stopped
    };
    continues(dir.path(), &[2, 5], run);
}

/// Rewards that are not numbers teach nothing: such iterations are left out, told, and change no weight.
#[test]
fn rewards_that_are_not_finite_are_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let policy = init(&base(dir.path(), modern));
    let rankings = rankings(&policy);
    let options = RewardOptions {
        init: &policy,
        rankings: &rankings,
        demonstrations: &[],
        out: dir.path().join("reward"),
        settings: settings(&["steps=1", "batch_size=8"]),
        seed: 1,
    };
    reward(cpu(1), &machine(), &options, &Silent).unwrap();
    let damaged = dir.path().join("damaged");
    std::fs::create_dir(&damaged).unwrap();
    for file in std::fs::read_dir(dir.path().join("reward/checkpoints/step-000001")).unwrap() {
        let path = file.unwrap().path();
        if !["mynah.json", "optimizer.safetensors"].iter().any(|name| path.ends_with(name)) {
            std::fs::copy(&path, damaged.join(path.file_name().unwrap())).unwrap();
        }
    }
    spoil(&damaged.join("model.safetensors"), "score.weight");
    let damaged = init(&damaged);

    let (asked, held_out) = (prompts(20), prompts(5));
    let options = PpoOptions {
        policy: &policy,
        reward: &damaged,
        prompts: &asked,
        held_out: &held_out,
        ptx: Vec::new(),
        gold: None,
        out: dir.path().join("ppo"),
        settings: settings(&["steps=60", "batch_size=4", "max_tokens=4", "eval_prompts=5"]),
        seed: 1,
    };
    let refused = format!("{:#}", ppo(cpu(1), &machine(), &options, &Silent).unwrap_err());
    assert!(refused.contains("gives 4 of 4 answers a reward that is not finite"), "{refused}");
    let events = std::fs::read_to_string(dir.path().join("ppo/events.jsonl")).unwrap();
    assert_eq!(events.matches("gives 4 of 4 answers").count(), 6, "{events}");
    for checkpoint in gpt::train::run::checkpoints(&dir.path().join("ppo")).unwrap() {
        let bytes = |path: PathBuf| std::fs::read(path.join("model.safetensors")).unwrap();
        assert!(bytes(checkpoint.path) == bytes(dir.path().join("base")), "weights changed");
    }
}

/// Overwrites a tensor of a file with NaN.
fn spoil(path: &Path, tensor: &str) {
    let mut bytes = std::fs::read(path).unwrap();
    let start = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&bytes[8..start]).unwrap();
    let at = |i: usize| start + header[tensor]["data_offsets"][i].as_u64().unwrap() as usize;
    for value in bytes[at(0)..at(1)].chunks_exact_mut(4) {
        value.copy_from_slice(&f32::NAN.to_le_bytes());
    }
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn what_does_not_fit_together_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let policy = init(&base(dir.path(), modern));
    let (asked, held_out) = (prompts(3), prompts(3));
    let refusal = |reward: &Init, changes: &[&str]| {
        let options = PpoOptions {
            policy: &policy,
            reward,
            prompts: &asked,
            held_out: &held_out,
            ptx: Vec::new(),
            gold: None,
            out: dir.path().join("ppo"),
            settings: settings(changes),
            seed: 1,
        };
        format!("{:#}", ppo(cpu(1), &machine(), &options, &Silent).unwrap_err())
    };
    assert!(refusal(&policy, &[]).contains("is no reward model (Qwen3ForCausalLM)"));
    assert!(refusal(&policy, &["dropout=0.1"]).contains("is no reward model"));
    let message = |changes: &[&str]| {
        let changes: Vec<String> = changes.iter().map(|change| change.to_string()).collect();
        let refused = StageSettings::<gpt::stage::PpoSettings>::resolve(&changes).unwrap_err();
        format!("{refused:#}")
    };
    assert!(message(&["klcoef=1"]).contains("there is no recipe key `klcoef`"));
    assert!(message(&["minibatches=65"]).contains("more than the 64 episodes"));
    assert!(message(&["temperature=0"]).contains("temperature is 0: it must be positive"));
    assert!(message(&["ema=1"]).contains("ema is 1"));
}

/// Keeps the lines that a person would read.
#[derive(Default)]
struct Lines(Mutex<Vec<String>>);

impl Progress for Lines {
    fn begin(&self, _: &str, _: u64, _: Unit) {}
    fn advance(&self, _: u64) {}
    fn line(&self, line: &str) {
        self.0.lock().unwrap().push(line.to_owned());
    }
    fn end(&self) {}
    fn should_stop(&self) -> bool {
        false
    }
}

/// A number of the recipe that a run keeps.
fn kept(run: &Path, key: &str) -> f64 {
    let value = gpt::train::run::Recipe::load(run).unwrap().settings[key].clone();
    value.as_float().or(value.as_integer().map(|number| number as f64)).unwrap()
}

/// The recipe follows from the model, where it comes from, and the number of demonstrations; it is told, and kept as numbers.
#[test]
fn a_recipe_fits_the_model_and_the_examples() {
    let dir = tempfile::tempdir().unwrap();
    let wide = |vocab_size| Config { dropout: 0.05, ..Config::gpt2(vocab_size, 64, 1, 4, 256) };
    let ours = base(dir.path(), wide);
    let theirs = dir.path().join("theirs");
    std::fs::rename(&ours, &theirs).unwrap();
    std::fs::remove_file(theirs.join("mynah.json")).unwrap();
    let ours = base(dir.path(), wide);
    let run = |path: &Path, n: usize, changes: &[&str], out: &str| {
        let init = init(path);
        let (train, val) = (demonstrations(&init, n), demonstrations(&init, 2));
        let (out, told) = (dir.path().join(out), Lines::default());
        let options = SftOptions {
            init: &init,
            train: &train,
            val: &val,
            reward: None,
            ptx: Vec::new(),
            out: out.clone(),
            settings: settings(&[&["steps=1", "batch_size=2", "max_tokens=4"], changes].concat()),
            seed: 1,
        };
        sft(cpu(1), &machine(), &options, &told).unwrap();
        (["lr", "dropout", "epochs"].map(|key| kept(&out, key)), told.0.into_inner().unwrap().join("\n"))
    };
    let ([lr, dropout, epochs], told) = run(&ours, 8, &[], "ours");
    assert_eq!([dropout, epochs], [0.1, 8.0]);
    assert!(
        (lr - 1e-3 * 0.75f64.powf(1.5)).abs() < 1e-6,
        "{lr} for a model that is wider than nano by a third"
    );
    let line =
        format!("recipe: dropout 0.1 (pretrained by mynah), epochs 8 (8 examples), lr {lr} (256 wide)");
    assert!(told.contains(&line), "{line} is not in {told}");

    let told = "dropout 0.05 (as the model says)";
    let (numbers, line) = run(&theirs, 8, &[], "child");
    assert!(numbers[1] == 0.05 && line.contains(told), "{told} is not in {line}");
    assert_eq!(run(&dir.path().join("child"), 8, &["dropout=0"], "grandchild").0[1], 0.0, "what is given");
    let third = run(&dir.path().join("grandchild"), 8, &[], "great-grandchild");
    assert_eq!(third.0[1], 0.0, "a line that others began");

    let given = ["lr=2e-5", "dropout=0.3", "epochs=5"];
    let (numbers, told) = run(&ours, 8, &given, "given");
    assert_eq!(numbers, [2e-5, 0.3, 5.0]);
    assert!(!told.contains("recipe:"), "{told}");
}

/// A run goes on with the numbers that it began with, whatever the rules say by now.
#[test]
fn a_run_keeps_the_recipe_that_it_began_with() {
    let dir = tempfile::tempdir().unwrap();
    let init = init(&base(dir.path(), modern));
    let (train, val) = (demonstrations(&init, 20), demonstrations(&init, 5));
    let out = dir.path().join("run");
    let run = |changes: &[&str], progress: &dyn Progress| {
        let options = SftOptions {
            init: &init,
            train: &train,
            val: &val,
            reward: None,
            ptx: Vec::new(),
            out: out.clone(),
            settings: settings(&[&["steps=6", "batch_size=5"], changes].concat()),
            seed: 1,
        };
        sft(cpu(1), &machine(), &options, progress)
    };
    let config = out.join("config.toml");
    assert!(run(&["lr=3e-4", "dropout=0.2", "epochs=4", "beta2=0.99"], &StopAt::new(3)).unwrap().stopped);
    let other = format!("{:#}", run(&[], &Silent).unwrap_err());
    for part in ["settings.lr: 0.0003 → 0.001", "settings.dropout: 0.2 → 0.1", "settings.epochs: 4 → 8"]
    {
        assert!(other.contains(part), "what was given then and is not now makes another command: {other}");
    }
    // As a program without rules, and with other defaults, would have begun it.
    let begun = std::fs::read_to_string(&config).unwrap();
    let older: Vec<&str> = begun.lines().filter(|line| !line.starts_with("by_rule")).collect();
    assert_eq!(older.len() + 1, begun.lines().count());
    std::fs::write(&config, older.join("\n")).unwrap();
    let refused = format!("{:#}", run(&["lr=1e-3"], &Silent).unwrap_err());
    assert!(refused.contains("settings.lr: 0.0003 → 0.001"), "{refused}");
    let told = Lines::default();
    assert_eq!(run(&[], &told).unwrap().step, 6);
    assert!(!told.0.into_inner().unwrap().join("\n").contains("recipe:"));
    assert_eq!(["lr", "dropout", "epochs", "beta2"].map(|key| kept(&out, key)), [3e-4, 0.2, 4.0, 0.99]);
    // What is kept once stays kept.
    assert_eq!(run(&[], &Silent).unwrap().step, 6);
}
