//! The stages with an adapter beside a model that stays as it is: they learn, go on to the same bits, and what they
//! stay close to is the model with the adapter that they began with.

use crate::workshop::{continues, costs, cpu, machine, modern, settings};
use crate::{answers_are_shown, base, demonstrations, init, prompts, rankings};
use gpt::checkpoint::{self, Checkpoint, Quant, Stored};
use gpt::data::Prompt;
use gpt::model::{BaseStorage, Config, Lora};
use gpt::progress::{Progress, Silent};
use gpt::stage::{DpoOptions, Init, PpoOptions, RewardOptions, SftOptions, dpo, ppo, reward, sft};
use kernels::{BlockFormat, Cpu};
use std::path::Path;

/// The model with a fresh adapter beside it.
fn fresh(path: &Path, lora: &str) -> Init {
    init(path).beside(&lora.parse().unwrap(), None).unwrap()
}

/// The same, its matrices stored in blocks.
fn stored(path: &Path, lora: &str, base: BlockFormat) -> Init {
    fresh(path, lora).stored(Stored::In(base))
}

/// The model with the adapter of a run beside it, to go on with.
fn going_on(path: &Path, run: &Path) -> Init {
    let (base, files) = checkpoint::open(path, &Silent).unwrap().with_adapter(run, &Silent).unwrap().apart();
    let files = files.unwrap();
    let (tokenizer, lora) = (base.tokenizer().unwrap(), files.adapter.lora.clone());
    let init = Init::new(path.display().to_string(), base, tokenizer, &[]).unwrap();
    init.beside(&lora, Some(files)).unwrap()
}

/// Every array of a model but those of the named ones.
fn same_weights(a: &Checkpoint, b: &Checkpoint) -> bool {
    let [a, b] = [a, b].map(|model| model.weights(checkpoint::to_host).unwrap());
    a == b
}

/// Supervised fine-tuning into `out`, which learns.
fn taught(dir: &Path, init: &Init, name: &str) -> std::path::PathBuf {
    let (train, val) = (demonstrations(init, 20), demonstrations(init, 5));
    let dir = dir.join(name);
    std::fs::create_dir(&dir).unwrap();
    continues(&dir, &[2, 4, 7], |out: &Path, b: Cpu, progress: &dyn Progress| {
        let options = SftOptions {
            init,
            train: &train,
            val: &val,
            reward: None,
            ptx: Vec::new(),
            out: out.into(),
            settings: settings(&["steps=12", "batch_size=5", "lr=3e-2", "dropout=0"]),
            seed: 1,
        };
        let outcome = sft(b, &machine(), &options, progress).unwrap();
        if !outcome.ending.stopped {
            let before = outcome.before.unwrap();
            let after = outcome.after.unwrap();
            assert!(after < before - 0.2, "{before} → {after}");
        }
        outcome.ending.stopped
    })
}

#[test]
fn an_adapter_learns_answers_and_continues_to_the_same_bits() {
    let dir = tempfile::tempdir().unwrap();
    let path = base(dir.path(), modern);
    let whole = taught(dir.path(), &fresh(&path, "r=4,alpha=8,dropout=0.05"), "sft");
    let dora = taught(dir.path(), &fresh(&path, "r=4,dora,targets=q_proj+v_proj+down_proj"), "dora");
    answers_are_shown(&dora);
    answers_are_shown(&whole);
    costs(&whole, 2.0 / 3.0);
    // The run is a model: its base with the adapter merged into it. Its files are those of an adapter alone.
    let model = checkpoint::open(&whole, &Silent).unwrap();
    assert!(!same_weights(&model, &checkpoint::open(&path, &Silent).unwrap()));
    assert!(model.tokenizer().unwrap().is_some());
    let (model, files) = model.apart();
    assert!(same_weights(&model, &checkpoint::open(&path, &Silent).unwrap()), "the base is as it was");
    let files = files.unwrap();
    assert!(
        files.path.join("adapter_model.safetensors").exists()
            && !files.path.join("model.safetensors").exists()
    );
    // Moments are of the adapter alone: two of each number, and headers.
    let bytes = std::fs::metadata(files.path.join("optimizer.safetensors")).unwrap().len();
    let learned: usize = files.adapter.leaves().iter().map(|leaf| leaf.len()).sum();
    assert!(bytes < 8 * learned as u64 + 8192, "{bytes} bytes for {learned} numbers");
}

/// The last loss of a run that kept the other numbers of its recipe.
fn last_val_loss(run: &Path) -> f64 {
    let metrics = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let rows = metrics.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    rows.rev().find_map(|row| row["val_loss"].as_f64()).unwrap()
}

#[test]
fn an_adapter_learns_beside_blocks_about_what_it_learns_beside_exact_weights() {
    let dir = tempfile::tempdir().unwrap();
    let path = base(dir.path(), modern);
    let exact = last_val_loss(&taught(dir.path(), &fresh(&path, "r=4"), "exact"));
    for (format, near) in [(BlockFormat::Q8_0, 0.01), (BlockFormat::Nf4, 0.1)] {
        let run = taught(dir.path(), &stored(&path, "r=4", format), &format.to_string());
        let loss = last_val_loss(&run);
        assert!(loss != exact && (loss - exact).abs() < near, "{format}: {loss}, exactly {exact}");
        let recipe = std::fs::read_to_string(run.join("config.toml")).unwrap();
        assert!(recipe.contains(&format!("base = \"{format}\"")), "{recipe}");
    }
}

/// The blocks of a file are its numbers: beside them the same is learned, to the bit.
#[test]
fn an_adapter_learns_beside_the_blocks_of_a_file_what_it_learns_beside_its_numbers() {
    let dir = tempfile::tempdir().unwrap();
    let model = checkpoint::open(&base(dir.path(), modern), &Silent).unwrap();
    let file = dir.path().join("model.gguf");
    let tokenizer = model.needed_tokenizer().unwrap();
    checkpoint::write_gguf(&model, &tokenizer, "tiny", Quant::Q8_0, &file, &Silent).unwrap();
    let adapters = [("numbers", Stored::Exactly), ("blocks", Stored::AsInFile)].map(|(name, stored)| {
        let init = fresh(&file, "r=4").stored(stored);
        let spared = match init.adapter().unwrap().base {
            BaseStorage::AsItIs { spared } => spared,
            BaseStorage::In(format) => panic!("{format} was not asked for"),
        };
        assert_eq!(spared > 0, stored == Stored::AsInFile, "{name}");
        let run = taught(dir.path(), &init, name);
        let files = checkpoint::open(&run, &Silent).unwrap().apart().1.unwrap();
        std::fs::read(files.path.join("adapter_model.safetensors")).unwrap()
    });
    assert!(adapters[0] == adapters[1]);
}

/// As PEFT writes them, and as nobody types them here.
#[test]
fn magnitudes_are_not_trained_with_dropout() {
    let dir = tempfile::tempdir().unwrap();
    let path = base(dir.path(), modern);
    let both = Lora { dora: true, dropout: 0.1, ..Lora::default() };
    let refused = format!("{:#}", init(&path).beside(&both, None).err().unwrap());
    assert!(refused.contains("--lora dropout=0"), "{refused}");
    assert!(init(&path).beside(&Lora { dropout: 0.0, ..both }, None).is_ok());
}

/// PPO on these prompts, with which it is measured as well.
fn climbing<'a>(policy: &'a Init, reward: &'a Init, asked: &'a [Prompt], out: &Path) -> PpoOptions<'a> {
    let recipe = ["steps=6", "batch_size=12", "epochs=2", "lr=1e-2", "max_tokens=6", "eval_prompts=20"];
    PpoOptions {
        policy,
        reward,
        prompts: asked,
        held_out: asked,
        ptx: Vec::new(),
        gold: None,
        out: out.into(),
        settings: settings(&recipe),
        seed: 6,
    }
}

#[test]
fn adapters_climb_a_reward_and_stay_close_to_what_they_began_with() {
    let dir = tempfile::tempdir().unwrap();
    for (name, shape, base_format) in [
        ("modern", modern as fn(usize) -> Config, None),
        ("gpt2", |v| Config::gpt2(v, 64, 2, 2, 32), Some(BlockFormat::Q4_0)),
    ] {
        let dir = dir.path().join(name);
        std::fs::create_dir(&dir).unwrap();
        let path = base(&dir, shape);
        let sft = taught(&dir, &fresh(&path, "r=4"), "sft");

        let beside = fresh(&path, "r=4").stored(base_format.map_or(Stored::Exactly, Stored::In));
        let rankings = rankings(&beside);
        let rewards = dir.join("reward");
        std::fs::create_dir(&rewards).unwrap();
        let rewarding = continues(&rewards, &[4, 8], |out, b, progress| {
            let options = RewardOptions {
                init: &beside,
                rankings: &rankings,
                demonstrations: &[],
                out: out.into(),
                settings: settings(&[
                    "steps=60",
                    "batch_size=8",
                    "lr=1e-2",
                    "normalise_before=true",
                    "warmup_steps=0",
                ]),
                seed: 1,
            };
            let outcome = reward(b, &machine(), &options, progress).unwrap();
            let right = outcome.evaluation.map(|evaluation| evaluation.pair_accuracy.value);
            assert!(outcome.ending.stopped || right > Some(0.8), "right in {right:?} of the pairs");
            outcome.ending.stopped
        });

        let policy = going_on(&path, &sft).stored(base_format.map_or(Stored::Exactly, Stored::In));
        let reward = fresh(&rewarding, "r=4").stored(base_format.map_or(Stored::Exactly, Stored::In));
        let asked = prompts(20);
        let noisy = fresh(&path, "r=4,dropout=0.1");
        let refused =
            ppo(cpu(1), &machine(), &climbing(&noisy, &reward, &asked, &dir.join("noisy")), &Silent);
        assert!(format!("{:#}", refused.map(|_| ()).unwrap_err()).contains("--lora dropout=0"));
        let runs = dir.join("ppo");
        std::fs::create_dir(&runs).unwrap();
        let climbed = continues(&runs, &[1, 2, 4], |out, b, progress| {
            let options = climbing(&policy, &reward, &asked, out);
            let outcome = ppo(b, &machine(), &options, progress).unwrap();
            if !outcome.ending.stopped {
                let before = outcome.before.unwrap();
                // The reference is the model with the adapter that it began with: nothing is between the two.
                assert_eq!(before["eval/kl"].as_f64(), Some(0.0), "{name}");
            }
            outcome.ending.stopped
        });
        // Each token is read five times and learned twice in two models, without gradients of the matrices.
        costs(&climbed, (5.0 / 3.0 + 4.0 * 2.0 / 3.0) / 5.0);
        assert!(!same_weights(
            &checkpoint::open(&climbed, &Silent).unwrap(),
            &checkpoint::open(&sft, &Silent).unwrap()
        ));
    }
}

#[test]
fn dpo_beside_a_model_begins_at_no_difference() {
    let dir = tempfile::tempdir().unwrap();
    let path = base(dir.path(), modern);
    let taught = taught(dir.path(), &fresh(&path, "r=4"), "sft");
    for (name, init) in [
        ("fresh", fresh(&path, "r=4,dropout=0.05")),
        ("going on", going_on(&path, &taught)),
        ("in blocks", going_on(&path, &taught).stored(Stored::In(BlockFormat::Nf4))),
    ] {
        let rankings = rankings(&init);
        let dir = dir.path().join(name);
        std::fs::create_dir(&dir).unwrap();
        let whole = continues(&dir, &[2, 5], |out, b, progress| {
            let options = DpoOptions {
                init: &init,
                rankings: &rankings,
                out: out.into(),
                settings: settings(&["steps=60", "batch_size=8", "lr=1e-2", "dropout=0"]),
                seed: 1,
            };
            let outcome = dpo(b, &machine(), &options, progress).unwrap();
            let right = outcome.after.map(|after| after.accuracy);
            assert!(outcome.ending.stopped || right > Some(0.7), "{right:?}");
            outcome.ending.stopped
        });
        // The reference reads each token once more.
        costs(&whole, 2.0 / 3.0 + 1.0 / 3.0);
        let metrics = std::fs::read_to_string(whole.join("metrics.jsonl")).unwrap();
        let first: serde_json::Value = serde_json::from_str(metrics.lines().next().unwrap()).unwrap();
        let loss = first["loss"].as_f64().unwrap();
        let dropped = if name == "fresh" { 0.0 } else { 1e-9 };
        // B is 0 in a fresh one, so that nothing is dropped of it.
        assert!((loss - std::f64::consts::LN_2).abs() <= 1e-9 + dropped, "{name}: {loss}");
    }
}

#[test]
fn what_an_adapter_cannot_be_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = base(dir.path(), modern);
    let refusal =
        |lora: &str| format!("{:#}", init(&path).beside(&lora.parse().unwrap(), None).err().unwrap());
    assert!(refusal("targets=query").contains("the model has no query; its matrices are q_proj, k_proj"));
    for end in ["embed_tokens", "lm_head", "model.embed_tokens"] {
        assert!(refusal(&format!("targets={end}+q_proj")).contains("is an end of the model"), "{end}");
    }
    let model = checkpoint::open(&path, &Silent).unwrap();
    let tokenizer = model.tokenizer().unwrap();
    let grown = Init::new("base".into(), model, tokenizer, &["<|new|>".into()]).unwrap();
    let error = format!("{:#}", grown.beside(&"r=4".parse().unwrap(), None).err().unwrap());
    assert!(error.contains("base would get 1 new tokens"), "{error}");

    // ppo's samples are drawn without dropout.
    let (asked, held_out) = (prompts(3), prompts(3));
    let policy = fresh(&path, "r=4,dropout=0.1");
    let options = PpoOptions {
        policy: &policy,
        reward: &policy,
        prompts: &asked,
        held_out: &held_out,
        ptx: Vec::new(),
        gold: None,
        out: dir.path().join("ppo"),
        settings: settings(&[]),
        seed: 1,
    };
    let error = format!("{:#}", ppo(cpu(1), &machine(), &options, &Silent).unwrap_err());
    assert!(error.contains("is no reward model"), "{error}");
}
