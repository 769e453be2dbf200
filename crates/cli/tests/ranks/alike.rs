//! The bytes of a run do not depend on how many processes do it, and processes that could not make them are
//! refused.

use std::fs;
use std::io::Write;

use crate::launcher::Launcher;
use crate::work::{alone, assert_same, words, work};

pub(crate) const TESTS: crate::Tests = crate::tests![
    pretraining_is_the_same_run_for_one_two_and_four,
    muon_is_the_same_run_for_one_two_and_four,
    what_comes_after_is_the_same_too,
    reinforcement_is_the_same_run,
    candidates_are_the_same_file,
    evaluations_say_the_same,
    other_recipes_and_programs_are_refused,
    what_one_process_does_is_refused_by_name,
    lanes_that_cannot_be_shared_are_refused,
];
/// What does not depend on who carries the bytes.
pub(crate) const ONCE: crate::Tests = crate::tests![the_other_stages_are_the_same_too];

fn pretraining_is_the_same_run_for_one_two_and_four(launcher: &Launcher) {
    let work = work();
    let name = |size: usize| format!("{launcher:?} {size}");
    let alone_in_lanes = format!("{launcher:?} alone");
    alone(&[work.pretrain(&alone_in_lanes, 15), words(&["--set", "lanes=8"])].concat());
    let expected = work.result(&alone_in_lanes);
    for size in [1, 2, 4] {
        let said = launcher.run(size, &work.pretrain(&name(size), 15));
        assert_same(&work.result(&name(size)), &expected, &format!("{size} processes"));
        let told = said.matches("validation:").count();
        assert_eq!(told, 3, "one process speaks: {said}");
    }
    let in_one_lane = format!("{launcher:?} in one lane");
    alone(&work.pretrain(&in_one_lane, 15));
    let others = work.result(&in_one_lane);
    assert!(others[0] != expected[0], "the order of additions has to tell");
}

/// Each matrix is orthogonalised by the process that has its momentum.
fn muon_is_the_same_run_for_one_two_and_four(launcher: &Launcher) {
    let work = work();
    let name = |size: usize| format!("{launcher:?} muon {size}");
    let muon = |name: &str| [work.pretrain(name, 10), words(&["--set", "optimizer=muon"])].concat();
    let alone_in_lanes = format!("{launcher:?} muon alone");
    alone(&[muon(&alone_in_lanes), words(&["--set", "lanes=8"])].concat());
    let expected = work.result(&alone_in_lanes);
    for size in [1, 2, 4] {
        launcher.run(size, &muon(&name(size)));
        assert_same(&work.result(&name(size)), &expected, &format!("muon of {size} processes"));
    }
}

fn what_comes_after_is_the_same_too(launcher: &Launcher) {
    let work = work();
    let name = |stage: &str, size: usize| format!("{launcher:?} {stage} {size}");
    launcher.run(2, &work.pretrain(&name("base", 2), 5));
    for (stage, model) in [("sft", "base"), ("reward", "sft"), ("dpo", "sft"), ("kto", "sft")] {
        for size in [1, 2, 4] {
            let model = name(model, 2);
            launcher.run(size, &work.stage(&name(stage, size), stage, &model));
            assert_same(
                &work.result(&name(stage, size)),
                &work.result(&name(stage, 1)),
                &format!("{stage} of {size} processes"),
            );
        }
    }
}

fn reinforcement_is_the_same_run(launcher: &Launcher) {
    let work = work();
    let name = |size: usize| format!("{launcher:?} ppo {size}");
    alone(&[work.ppo(&name(0), 5), words(&["--set", "lanes=8"])].concat());
    let expected = work.result(&name(0));
    assert!(expected.iter().any(|(name, lines)| name == "rollouts.jsonl" && !lines.is_empty()));
    for size in [1, 2, 4] {
        launcher.run(size, &work.ppo(&name(size), 5));
        assert_same(&work.result(&name(size)), &expected, &format!("{size} processes"));
    }
}

fn the_other_stages_are_the_same_too(launcher: &Launcher) {
    let work = work();
    let [base, sft] = ["base", "sft"].map(|name| work.model(name));
    let name = |stage: &str, size: usize| format!("{launcher:?} {stage} {size}");
    for (stage, model) in [("grpo", &sft), ("distil", &sft), ("finetune", &base)] {
        let command = |size: usize| match stage {
            "grpo" => work.grpo(&name(stage, size)),
            _ => work.stage(&name(stage, size), stage, model),
        };
        alone(&[command(0), words(&["--set", "lanes=8"])].concat());
        launcher.run(4, &command(4));
        let results = [0, 4].map(|size| work.result(&name(stage, size)));
        assert_same(&results[1], &results[0], stage);
    }
}

fn candidates_are_the_same_file(launcher: &Launcher) {
    let work = work();
    let reward = work.model("reward");
    for further in [&[][..], &["--best-by", &reward]] {
        let name = |size: usize| format!("{launcher:?} {} candidates {size}", further.len());
        let file = |size: usize| fs::read_to_string(work.path(&name(size))).expect("it is there");
        alone(&work.candidates(&name(0), "prompts.jsonl", further));
        for size in [1, 2, 4] {
            let said = launcher.run(size, &work.candidates(&name(size), "prompts.jsonl", further));
            assert_eq!(said.matches("prompts with 2 answers each").count(), 1, "one process speaks: {said}");
            assert_eq!(file(size), file(0), "{size} processes");
        }
        assert_eq!(file(0).lines().count(), 400);
    }
}

fn evaluations_say_the_same(launcher: &Launcher) {
    let work = work();
    let name = |size: usize| format!("{launcher:?} items {size}");
    let file = |size: usize| fs::read_to_string(work.path(&name(size))).expect("it is there");
    let figures = |said: &str| said.lines().find(|line| line.starts_with('{')).map(str::to_owned);
    let expected = figures(&alone(&work.eval(&name(0))));
    assert!(expected.is_some() && file(0).lines().count() == 2 * 4 * 37, "{expected:?}");
    for size in [1, 2, 4] {
        let said = launcher.run(size, &work.eval(&name(size)));
        assert_eq!(figures(&said), expected, "{size} processes");
        assert_eq!(file(size), file(0), "{size} processes");
    }
}

fn other_recipes_and_programs_are_refused(launcher: &Launcher) {
    let (work, program) = (work(), env!("CARGO_BIN_EXE_mynah").to_owned());
    let name = format!("{launcher:?} other recipes");
    let usual = work.pretrain(&name, 5);
    let other = [usual.clone(), words(&["--lr", "0.123"])].concat();
    let parts = [(1, program.clone(), usual.clone()), (1, program.clone(), other)];
    let ended = launcher.start_each(&parts, &[]).end();
    assert_ne!(ended.code, Some(0));
    assert!(ended.said.contains("settings.lr") && ended.said.contains("0.123"), "{}", ended.said);
    assert!(!work.metrics(&name).exists(), "nothing was begun");

    let copy = work.path("mynah");
    fs::copy(&program, &copy).expect("the program can be copied");
    let mut file = fs::OpenOptions::new().append(true).open(&copy).expect("it can be changed");
    file.write_all(b"another build").expect("it can be changed");
    drop(file);
    let ended = launcher.start_each(&[(1, program, usual.clone()), (1, copy, usual)], &[]).end();
    assert_ne!(ended.code, Some(0));
    assert!(
        ended.said.contains("the program is mynah") && ended.said.contains("on rank 1"),
        "{}",
        ended.said
    );
    assert!(!work.metrics(&name).exists(), "nothing was begun");
}

fn what_one_process_does_is_refused_by_name(launcher: &Launcher) {
    for verb in [
        &["chat", "--model", "nowhere"][..],
        &["serve", "--model", "nowhere"],
        &["complete", "--model", "nowhere", "text"],
    ] {
        let ended = launcher.start(2, &words(verb)).end();
        assert_ne!(ended.code, Some(0), "{}", ended.said);
        let refused = format!("`mynah {}` is done by one process", verb[0]);
        assert_eq!(ended.said.matches(&refused).count(), 1, "{}", ended.said);
        assert!(ended.said.contains("grpo, eval"), "{}", ended.said);
    }
}

fn lanes_that_cannot_be_shared_are_refused(launcher: &Launcher) {
    let (work, name) = (work(), format!("{launcher:?} lanes"));
    for (size, changes, why) in [
        (3, &[][..], "3 processes cannot share 8 lanes"),
        (2, &["--set", "lanes=1"], "in one lane, which one process does"),
    ] {
        let ended = launcher.start(size, &[work.pretrain(&name, 5), words(changes)].concat()).end();
        assert!(ended.code != Some(0) && ended.said.contains(why), "{}", ended.said);
    }
    assert!(!work.metrics(&name).exists(), "nothing was begun");
}
