//! Groups of answers that are checked by keys.

use super::*;
use gpt::stage::{GrpoOptions, GrpoSettings, RewardSpec, grpo};
use serde_json::{Map, Value};

/// Questions with the keys of their answers.
fn keyed(n: usize) -> Vec<Prompt> {
    let key = |i: usize| Record::from_iter([("accept".to_owned(), Value::from(vec![answer(i)]))]);
    (0..n).map(|i| Prompt { messages: question(i), extra: key(i) }).collect()
}

fn rewards(texts: &[&str]) -> Vec<RewardSpec> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// A policy that has learned a little, so that some of its answers are right.
fn taught(dir: &Path) -> Init {
    let init = init(&base(dir, modern));
    let (train, val) = (demonstrations(&init, 20), demonstrations(&init, 5));
    let options = SftOptions {
        init: &init,
        train: &train,
        val: &val,
        reward: None,
        ptx: Vec::new(),
        out: dir.join("sft"),
        settings: settings(&["steps=100", "batch_size=5", "lr=3e-3", "dropout=0", "max_tokens=4"]),
        seed: 1,
    };
    sft(cpu(2), &machine(), &options, &Silent).unwrap();
    super::init(&options.out)
}

#[test]
fn a_policy_learns_what_is_checked_and_continues_to_the_same_bits() {
    let dir = tempfile::tempdir().unwrap();
    let policy = taught(dir.path());
    let (asked, rewards) = (keyed(20), rewards(&["answer", "format=[a-z]+:0.1"]));
    let changes = ["steps=24", "batch_size=5", "lr=3e-3", "max_tokens=4", "eval_prompts=5", "warmup_steps=1"];
    for loss in ["grpo", "dapo"] {
        let usual = GrpoSettings::usual_of(loss);
        let changes: Vec<&str> = usual.iter().map(String::as_str).chain(changes).collect();
        let run = |out: &Path, b: Cpu, progress: &dyn Progress| {
            let options = GrpoOptions {
                policy: &policy,
                rewards: &rewards,
                reward_models: &[],
                sandbox: None,
                tools: None,
                prompts: &asked,
                held_out: &asked,
                out: out.into(),
                settings: settings(&changes),
                seed: 6,
            };
            let outcome = grpo(b, &machine(), &options, progress).unwrap();
            let figure = |of: &Map<_, Value>| of["eval/pass@1"].as_f64().unwrap();
            if !outcome.ending.stopped {
                let before = outcome.before.unwrap();
                let (before, after) = (figure(&before), figure(&outcome.after.unwrap()));
                assert!(after > before + 0.2, "{loss}: right answers {before} → {after}");
            }
            outcome.ending.stopped
        };
        let runs = dir.path().join(loss);
        std::fs::create_dir(&runs).unwrap();
        let whole = continues(&runs, &[1, 2, 5], run);
        answers_are_shown(&whole);
        let metrics = std::fs::read_to_string(whole.join("metrics.jsonl")).unwrap();
        let first: Value = serde_json::from_str(metrics.lines().next().unwrap()).unwrap();
        assert_eq!(first["policy/approxkl"], 0.0, "nothing was learned before the first update");
        for name in ["reward/answer", "reward/format", "groups/all_right", "groups/all_wrong"] {
            assert!(first[name].is_number(), "{name} in {first}");
        }
    }
}

#[test]
fn what_cannot_be_checked_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let policy = init(&base(dir.path(), modern));
    let refusal = |asked: &[Prompt], texts: &[&str], changes: &[&str]| {
        let options = GrpoOptions {
            policy: &policy,
            rewards: &rewards(texts),
            reward_models: std::slice::from_ref(&policy),
            sandbox: None,
            tools: None,
            prompts: asked,
            held_out: asked,
            out: dir.path().join("grpo"),
            settings: settings(changes),
            seed: 1,
        };
        format!("{:#}", grpo(cpu(1), &machine(), &options, &Silent).unwrap_err())
    };
    let mut asked = keyed(3);
    asked[1].extra = Record::from_iter([("answer".to_owned(), "no number".into())]);
    for (texts, said) in [
        (&["number"][..], "prompt 1: the reward number needs a key: its `answer` or `accept` has no number"),
        (&["answer", "tests"], "programs are run in a sandbox"),
        (&["model=policy"], "is no reward model"),
        (&[], "there is no reward"),
    ] {
        let refused = refusal(&asked, texts, &[]);
        assert!(refused.contains(said), "{refused}");
    }
    asked[2].extra.clear();
    let refused = refusal(&asked, &["answer"], &[]);
    assert!(
        refused.contains("prompts, prompt 3") && refused.contains("neither `answer` nor `accept`"),
        "{refused}"
    );
    assert!(refusal(&keyed(3), &["answer"], &["dropout=0.1"]).contains("dropout is 0.1"));
    assert!(refusal(&keyed(3), &["answer"], &["max_tokens=64"]).contains("leaves no room"));
}
