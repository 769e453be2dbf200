//! What is not finite in a stage, and what explodes.

use super::*;

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
    // A token that only the prompts to learn from have: finite, but too large for the norm.
    let token = policy.tokenizer().unwrap().encode("Z")[0] as usize;
    spoil(&damaged.join("model.safetensors"), "model.embed_tokens.weight", token, f32::MAX);
    let damaged = init(&damaged);

    let messages = vec![Message::new(Role::User, "What comes after Z?")];
    let item = Candidates {
        messages: messages.clone(),
        completions: vec!["a".into(), "b".into()],
        extra: Record::new(),
    };
    let (mut b, model) = (cpu(1), damaged.model());
    let weights = model.weights(checkpoint::to_backend(&mut b, &model.config)).unwrap();
    let prompter = Prompter::new(damaged.tokenizer().unwrap()).unwrap();
    let refused = score(&mut b, model.config.clone(), weights, &prompter, &[item], &Silent).unwrap_err();
    assert!(refused.to_string().starts_with("item 1: the reward of answer 1 is NaN: the model"), "{refused}");

    let asked = vec![Prompt { messages, extra: Record::new() }; 20];
    let held_out = prompts(5);
    let mut options = PpoOptions {
        policy: &policy,
        reward: &damaged,
        prompts: &asked,
        held_out: &held_out,
        ptx: Vec::new(),
        gold: None,
        out: dir.path().join("ppo"),
        settings: settings(&["steps=60", "batch_size=4", "max_tokens=4", "eval_prompts=5"]),
        seed: 2,
    };
    let refused = format!("{:#}", ppo(cpu(1), &machine(), &options, &Silent).unwrap_err());
    assert!(refused.contains("gives 4 of 4 answers a reward that is not finite"), "{refused}");
    let events = std::fs::read_to_string(dir.path().join("ppo/events.jsonl")).unwrap();
    assert_eq!(events.matches("skipped_step").count(), 6, "{events}");
    assert!(events.contains("\"event\":\"failed\""), "{events}");
    for checkpoint in gpt::train::run::checkpoints(&dir.path().join("ppo")).unwrap() {
        let bytes = |path: PathBuf| std::fs::read(path.join("model.safetensors")).unwrap();
        assert!(bytes(checkpoint.path) == bytes(dir.path().join("base")), "weights changed");
    }
    (options.held_out, options.out) = (&asked, dir.path().join("other"));
    let refused = format!("{:#}", ppo(cpu(1), &machine(), &options, &Silent).unwrap_err());
    assert!(refused.contains("before training: eval/reward is NaN"), "{refused}");
}

/// A learning rate that no model survives ends every stage as failed, with the step and what to change, and
/// nothing bad is kept: in one process, and resumed from what a stopped one left.
#[test]
fn stages_that_explode_fail_and_keep_nothing_bad() {
    let dir = tempfile::tempdir().unwrap();
    let policy = init(&base(dir.path(), modern));
    let (train, val, rankings) = (demonstrations(&policy, 20), demonstrations(&policy, 5), rankings(&policy));
    let at = |name: &str| dir.path().join(name);
    let judge = {
        let options = RewardOptions {
            init: &policy,
            rankings: &rankings,
            demonstrations: &[],
            out: at("judge"),
            settings: settings(&["steps=3", "batch_size=8", "lr=1e-3"]),
            seed: 1,
        };
        reward(cpu(1), &machine(), &options, &Silent).unwrap();
        init(&at("judge"))
    };
    let (asked, held_out) = (prompts(20), prompts(5));
    for lr in ["1e9"] {
        let sft = |out: &Path, steps: &str, progress: &dyn Progress| {
            let options = SftOptions {
                init: &policy,
                train: &train,
                val: &val,
                reward: None,
                ptx: Vec::new(),
                out: out.into(),
                settings: settings(&[steps, "batch_size=5", &format!("lr={lr}")]),
                seed: 1,
            };
            sft(cpu(1), &machine(), &options, progress).map(|outcome| outcome.ending.stopped)
        };
        let dpo = |out: &Path, steps: &str, progress: &dyn Progress| {
            let options = DpoOptions {
                init: &policy,
                rankings: &rankings,
                out: out.into(),
                settings: settings(&[steps, "batch_size=8", &format!("lr={lr}")]),
                seed: 1,
            };
            dpo(cpu(1), &machine(), &options, progress).map(|outcome| outcome.ending.stopped)
        };
        let reward = |out: &Path, steps: &str, progress: &dyn Progress| {
            let options = RewardOptions {
                init: &policy,
                rankings: &rankings,
                demonstrations: &[],
                out: out.into(),
                settings: settings(&[steps, "batch_size=8", &format!("lr={lr}")]),
                seed: 1,
            };
            reward(cpu(1), &machine(), &options, progress).map(|outcome| outcome.ending.stopped)
        };
        let ppo = |out: &Path, steps: &str, progress: &dyn Progress| {
            let options = PpoOptions {
                policy: &policy,
                reward: &judge,
                prompts: &asked,
                held_out: &held_out,
                ptx: Vec::new(),
                gold: None,
                out: out.into(),
                settings: settings(&[
                    steps,
                    "batch_size=4",
                    "max_tokens=4",
                    "eval_prompts=5",
                    &format!("lr={lr}"),
                    "warmup_steps=0",
                ]),
                seed: 1,
            };
            ppo(cpu(1), &machine(), &options, progress).map(|outcome| outcome.ending.stopped)
        };
        type Run<'r> = &'r dyn Fn(&Path, &str, &dyn Progress) -> anyhow::Result<bool>;
        let stages: [(&str, Run<'_>); 4] = [("sft", &sft), ("dpo", &dpo), ("reward", &reward), ("ppo", &ppo)];
        for (name, run) in stages {
            for steps in [1, 2, 3, 20] {
                let out = at(&format!("{name}-{lr}-{steps}"));
                let refused = |progress: &dyn Progress| match run(&out, &format!("steps={steps}"), progress) {
                    Ok(stopped) => {
                        panic!("{name} with lr {lr} and {steps} steps ends well, stopped {stopped}")
                    }
                    Err(error) => format!("{error:#}"),
                };
                let said = refused(&Silent);
                assert!(
                    said.contains("training failed at step ") && said.contains("--lr, here "),
                    "{name}: {said}"
                );
                assert!(said.contains("warmup_steps"), "{name}: {said}");
                assert!(
                    gpt::train::run::checkpoints(&out).unwrap().is_empty(),
                    "{name}, {lr}, {steps}: {said}"
                );
                assert_eq!(refused(&Silent), said, "the same command says the same");
                let events = std::fs::read_to_string(out.join("events.jsonl")).unwrap();
                assert!(
                    events.contains("\"event\":\"failed\"") && out.join("report.html").exists(),
                    "{events}"
                );
            }
            // What a stopped run left is not sound, either; all that follows says so.
            let out = at(&format!("{name}-{lr}-parts"));
            assert!(run(&out, "steps=20", &StopAt::new(1)).map_or(true, |stopped| stopped));
            let said = format!("{:#}", run(&out, "steps=20", &Silent).unwrap_err());
            assert!(
                said.contains("training failed") && said.contains("no step left a sound state"),
                "{said}"
            );
            assert!(gpt::train::run::checkpoints(&out).unwrap().is_empty(), "{name}, {lr}: {said}");
        }
    }
}

/// Overwrites a row of a tensor of a file.
fn spoil(path: &Path, tensor: &str, row: usize, value: f32) {
    let mut bytes = std::fs::read(path).unwrap();
    let start = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&bytes[8..start]).unwrap();
    let at = |i: usize| start + header[tensor]["data_offsets"][i].as_u64().unwrap() as usize;
    let width = header[tensor]["shape"][1].as_u64().unwrap() as usize;
    for x in bytes[at(0)..at(1)].chunks_exact_mut(4).skip(row * width).take(width) {
        x.copy_from_slice(&value.to_le_bytes());
    }
    std::fs::write(path, bytes).unwrap();
}
