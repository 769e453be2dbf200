//! The stages after pretraining on the processor, end to end and small: each learns what it is for, and
//! neither an interruption nor the number of threads changes a bit.
#![allow(clippy::unwrap_used)] // A test that finds no value has failed.

mod adapters;
mod distil;
mod grpo;
mod not_finite;
mod recipes;
#[path = "../workshop/mod.rs"]
mod workshop;

use gpt::checkpoint;
use gpt::data::messages::{Message, Role};
use gpt::data::rows::Record;
use gpt::data::{Candidates, Conversations, Judged, Prompt, Prompter, Ranking, Sequence, TooLong};
use gpt::model::Config;
use gpt::progress::{Progress, Silent, Unit};
use gpt::stage::{
    DpoOptions, Init, Judgements, KtoOptions, PpoOptions, Rankings, RewardOptions, SftOptions, StageSettings,
    dpo, kto, ppo, reward, score, sft,
};
use gpt::tokenizer::Tokenizer;
use gpt::tokenizer::chat::{ChatTemplate, with_ours};
use kernels::Cpu;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use workshop::{StopAt, continues, costs, cpu, machine, modern, save, settings};

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

/// The right answer is good; the next letter's, and one without sense, are bad.
fn judgements(init: &Init) -> Judgements {
    let judged = |i: usize| Judged {
        messages: question(i / 3),
        completion: [answer(i / 3), answer(i / 3 + 1), "What after comes"][i % 3].into(),
        label: i.is_multiple_of(3),
        tools: None,
    };
    let [train, held_out] = [90, 15].map(|n| (0..n).map(judged).collect::<Vec<_>>());
    let prompter = Prompter::new(init.tokenizer().unwrap()).unwrap();
    Judgements::new(&train, &held_out, 0.0, &prompter, 64, &Silent).unwrap()
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
        if !outcome.ending.stopped {
            let before = outcome.before.unwrap();
            let after = outcome.after.unwrap();
            assert!(after < before - 1.0, "{before} → {after}");
        }
        outcome.ending.stopped
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
    costs(&whole, 1.0);
    answers_are_shown(&whole);
    let model = checkpoint::open(&whole, &Silent).unwrap();
    assert_eq!(model.manifest.unwrap().about.parent.as_deref(), Some(init.name()));
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
                    "normalise_before=true",
                    "warmup_steps=0",
                ]),
                seed: 1,
            };
            let outcome = reward(b, &machine(), &options, progress).unwrap();
            let right = outcome.evaluation.map(|evaluation| evaluation.pair_accuracy.value);
            assert!(outcome.ending.stopped || right > Some(0.9), "right in {right:?} of the pairs");
            outcome.ending.stopped
        };
        let rewards = dir.join("reward");
        std::fs::create_dir(&rewards).unwrap();
        let whole = continues(&rewards, &[4, 8], run);
        costs(&whole, 1.0);
        answers_are_shown(&whole);
        let reward = init(&whole);

        selects_by_reward(&dir, &policy, &reward);
        let (asked, held_out) = (prompts(20), prompts(20));
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
                    "eval_prompts=20",
                ]),
                seed: 6,
            };
            let outcome = ppo(b, &machine(), &options, progress).unwrap();
            let figure = |of: &serde_json::Map<_, serde_json::Value>| of["eval/reward"].as_f64().unwrap();
            if !outcome.ending.stopped {
                let before = outcome.before.unwrap();
                let (before, after) = (figure(&before), figure(&outcome.after.unwrap()));
                assert!(after > before, "held-out reward {before} → {after}");
            }
            outcome.ending.stopped
        };
        let runs = dir.join("ppo");
        std::fs::create_dir(&runs).unwrap();
        let whole = continues(&runs, &[1, 2, 4], run);
        let rollouts = std::fs::read_to_string(whole.join("rollouts.jsonl")).unwrap();
        assert!(rollouts.lines().count() >= 9, "some answers of every iteration are kept");
        // A token of a rollout is sampled and read by four models, forward, and learned from twice.
        costs(&whole, (5.0 / 3.0 + 2.0) / 3.0);
    }
}

/// Samples of a run are held-out questions with answers.
fn answers_are_shown(run: &Path) {
    let samples = std::fs::read_to_string(run.join("samples.jsonl")).unwrap();
    assert!(samples.lines().count() > 3, "{samples}");
    for line in samples.lines() {
        let sample: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(sample["prompt"].as_str().unwrap().starts_with("What comes after "), "{line}");
        assert!(sample["completion"].is_string(), "{line}");
    }
}

#[test]
fn rankings_are_told_apart_by_their_digests() {
    let dir = tempfile::tempdir().unwrap();
    let policy = init(&base(dir.path(), modern));
    let digest = rankings(&policy).digest().to_owned();
    assert_eq!((digest.len(), rankings(&policy).digest()), (64, digest.as_str()));
    let prompter = Prompter::new(policy.tokenizer().unwrap()).unwrap();
    let one = |ranks: [u32; 2]| Ranking {
        messages: question(1),
        completions: vec!["a".into(), "b".into()],
        ranks: ranks.into(),
        extra: Record::new(),
    };
    let [first, second] = [[1, 2], [2, 1]].map(|ranks| {
        let all = [one(ranks), one(ranks)];
        Rankings::new(&all, &all[..1], 0.0, &prompter, 64, &Silent).unwrap().digest().to_owned()
    });
    assert_ne!(first, second);
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
            settings: settings(&["steps=100", "batch_size=8", "lr=3e-3", "dropout=0.05"]),
            seed: 1,
        };
        let outcome = dpo(b, &machine(), &options, progress).unwrap();
        let right = outcome.after.map(|after| after.accuracy);
        assert!(outcome.ending.stopped || right > Some(0.9), "{right:?}");
        outcome.ending.stopped
    };
    let whole = continues(dir.path(), &[2, 5], run);
    // Policy both ways, reference forward.
    costs(&whole, 4.0 / 3.0);
    answers_are_shown(&whole);

    let alone = DpoOptions {
        init: &init,
        rankings: &rankings,
        out: dir.path().join("alone"),
        settings: settings(&["loss=simpo", "steps=3", "batch_size=8"]),
        seed: 1,
    };
    dpo(cpu(1), &machine(), &alone, &Silent).unwrap();
    costs(&alone.out, 1.0);
}

#[test]
fn kto_learns_judged_answers_and_continues_to_the_same_bits() {
    let dir = tempfile::tempdir().unwrap();
    let path = base(dir.path(), modern);
    let whole = init(&path);
    let beside = init(&path).beside(&"r=4".parse().unwrap(), None).unwrap();
    for (name, init, lr, cost) in [("whole", whole, "3e-3", 4.0 / 3.0), ("beside", beside, "1e-2", 1.0)] {
        let judgements = judgements(&init);
        let dir = dir.path().join(name);
        std::fs::create_dir(&dir).unwrap();
        let run = |out: &Path, b: Cpu, progress: &dyn Progress| {
            let options = KtoOptions {
                init: &init,
                judgements: &judgements,
                out: out.into(),
                settings: settings(&[
                    "steps=60",
                    "batch_size=16",
                    "undesirable_weight=0.5",
                    &format!("lr={lr}"),
                ]),
                seed: 1,
            };
            let outcome = kto(b, &machine(), &options, progress).unwrap();
            let margin = outcome.after.and_then(|after| after.margin);
            assert!(outcome.ending.stopped || margin > Some(0.1), "{name}: {margin:?}");
            outcome.ending.stopped
        };
        let run = continues(&dir, &[2, 5], run);
        answers_are_shown(&run);
        // As DPO; policy and reference read each answer once more, beside another prompt of as many tokens.
        costs(&run, cost + 2.0 / 3.0);
        // The policy begins as its reference: it gains and loses nothing.
        let metrics = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
        let first: serde_json::Value = serde_json::from_str(metrics.lines().next().unwrap()).unwrap();
        assert_eq!(
            (first["kl"].as_f64(), first["rewards/margins"].as_f64()),
            (Some(0.0), Some(0.0)),
            "{name}"
        );
    }
}

/// Weights are told where good and bad answers are out of balance, and only there.
#[test]
fn answers_out_of_balance_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let init = init(&base(dir.path(), modern));
    for (weight, is_told) in [("0.5", false), ("1.0", true)] {
        let options = KtoOptions {
            init: &init,
            judgements: &judgements(&init),
            out: dir.path().join(weight),
            settings: settings(&["steps=1", "batch_size=4", &format!("undesirable_weight={weight}")]),
            seed: 1,
        };
        let told = Lines::default();
        kto(cpu(1), &machine(), &options, &told).unwrap();
        let told = told.0.into_inner().unwrap().join("\n");
        assert_eq!(
            told.contains("30 good answers / (undesirable_weight · 60 bad ones) is 0.50"),
            is_told,
            "{told}"
        );
    }
}

/// Rewards that are not numbers teach nothing: such iterations are left out, told, and change no weight. What
/// is measured before training must be numbers.
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
