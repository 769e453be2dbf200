//! Which model a road's directory is.

use std::fs;
use std::path::Path;

use tempfile::tempdir;

use super::super::{About, Disk, MODEL, Operation, PLAN, road_is_finished, road_stages, save_on};
use super::{resolve_model, save_step, with_contents};

/// Saves a checkpoint of a stage into the run `name` of the road.
fn save_stage(road: &Path, name: &str, stage: &str, step: u64) {
    let dir = road.join(name).join("checkpoints").join(format!("step-{step:06}"));
    fs::create_dir_all(dir.parent().unwrap()).unwrap();
    let mut allow = |_: &Operation<'_>| Ok(());
    with_contents(step, |contents| {
        let about = About { stage: stage.into(), ..contents.about.clone() };
        save_on(&mut Disk::watched(&mut allow), &dir, super::Contents { about, ..contents }).unwrap();
    });
}

#[test]
fn a_road_is_the_model_of_its_last_good_stage() {
    let dir = tempdir().unwrap();
    let road = dir.path().join("road");
    fs::create_dir(&road).unwrap();
    fs::write(
        road.join(PLAN),
        "[pretrain]\nsecs = 1.0\nfinished = true\n[sft]\nsecs = 1.0\nfinished = false\n",
    )
    .unwrap();
    let none = format!("{:#}", resolve_model(&road).unwrap_err());
    assert!(none.contains("is a road without a model yet"), "{none}");
    assert_eq!(road_is_finished(&road), Some(false));

    // The order is that of the stages, not of names or times; a reward model writes nothing.
    let used = |expected: &str| {
        let found = resolve_model(&road).unwrap();
        assert!(found.path.starts_with(road.join(expected)), "{expected}: {}", found.path.display());
        assert!(found.warnings[0].contains(&format!("last stage, {}", found.manifest.unwrap().about.stage)));
    };
    save_stage(&road, "pretrain", "pretrain", 3);
    used("pretrain");
    save_stage(&road, "reward", "reward", 3);
    used("pretrain");
    save_stage(&road, "asked", "sft", 3);
    used("asked");
    save_stage(&road, "dpo", "dpo", 3);
    used("dpo");
    save_stage(&road, "a-policy", "ppo", 3);
    save_stage(&road, "a-policy", "ppo", 6);
    used("a-policy");

    let stages = road_stages(&road).unwrap().unwrap();
    let names: Vec<&str> = stages.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["a-policy", "asked", "dpo", "pretrain", "reward"], "every run that has a model");
    assert_eq!(stages[1].1, road.join("asked"));
    assert!(road_stages(&road.join("asked")).unwrap().is_none(), "a run is no road");

    // What is damaged is passed over, and told.
    for step in [3, 6] {
        fs::write(road.join(format!("a-policy/checkpoints/step-{step:06}")).join(MODEL), "damaged").unwrap();
    }
    used("dpo");
    assert!(resolve_model(&road).unwrap().warnings.iter().any(|warning| warning.contains("a-policy")));
}

#[test]
fn what_is_no_model_is_called_what_it_is() {
    let dir = tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let said = |path: &Path| format!("{:#}", resolve_model(path).unwrap_err());
    for (name, text, parts) in [
        ("rows.jsonl", "{}", ["rows.jsonl is a file of data", "a run directory"]),
        ("model.safetensors", "x", ["a file, and not GGUF", "the directory it lies in"]),
        ("notes", "x", ["a file, and not GGUF", "hf:OWNER/NAME"]),
    ] {
        fs::write(at(name), text).unwrap();
        let told = said(&at(name));
        assert!(parts.iter().all(|part| told.contains(part)), "{told}");
    }
    save_step(&at("runs/sft/checkpoints"), 1);
    assert!(said(&at("runs")).contains("name one of them: "), "{}", said(&at("runs")));
    assert!(said(&at("runs/stf")).contains("(did you mean "), "{}", said(&at("runs/stf")));
    assert!(said(Path::new("gpt2")).contains("hf:openai-community/gpt2"));
    assert!(said(Path::new("Qwen/Qwen3-0.6B")).contains("(of the hub that is hf:Qwen/Qwen3-0.6B)"));
    let page = "https://huggingface.co/openai-community/gpt2/tree/main";
    assert!(said(Path::new(page)).contains("(did you mean hf:openai-community/gpt2?)"));
    assert!(said(Path::new("runs\\sft")).contains("(did you mean runs/sft?)"));
    for (record, part) in [("meta.json", "`mynah pretrain --data`"), ("report.json", "`mynah tokenize`")] {
        fs::create_dir(at(record)).unwrap();
        fs::write(at(record).join(record), "{}").unwrap();
        assert!(said(&at(record)).contains(part), "{}", said(&at(record)));
    }
}
