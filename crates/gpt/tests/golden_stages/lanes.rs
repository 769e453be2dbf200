//! Every stage with several lanes: neither micro-batches nor threads decide a bit. And every stage with blocks
//! that are computed again on the way back, which decides none either.

use crate::fixture::Fixture;
use crate::workshop::{contents, cpu};
use crate::{distil, dpo, finetune, grpo, kto, ppo, pretrain, reward, sft};
use gpt::data::Form;
use kernels::Cpu;

type Contents = Vec<(String, Vec<u8>)>;

/// A run of a stage in micro-batches of at most so many tokens: its journals and its last checkpoint.
fn after(
    run: impl Fn(Cpu, &Fixture, &[&str]),
    lanes: usize,
    micro_batch_tokens: usize,
    threads: usize,
    recompute: bool,
) -> Contents {
    let fixture = Fixture::new();
    let (lanes, cut) = (format!("lanes={lanes}"), format!("micro_batch_tokens={micro_batch_tokens}"));
    let pace = ["eval_every=1", "checkpoint_every=1", "sample_every=0", &lanes, &cut];
    let again = if recompute { &["recompute=true"][..] } else { &[] };
    run(cpu(threads), &fixture, &[&pace, again].concat());
    let recipe = std::fs::read_to_string(fixture.at("run/config.toml")).unwrap();
    let (settings, runtime) = recipe.split_once("[runtime]").unwrap();
    assert!(!settings.contains("recompute") && runtime.contains("recompute = true") == recompute, "{recipe}");
    contents(&fixture.at("run"))
}

/// What differs between two runs, by the names of files.
fn different<'c>(a: &'c Contents, b: &'c Contents) -> Vec<&'c str> {
    assert_eq!(a.len(), b.len());
    let pairs = a.iter().zip(b).filter(|((a_name, a), (b_name, b))| (a_name, a) != (b_name, b));
    pairs.map(|((name, _), _)| name.as_str()).collect()
}

/// Neither the cut nor what is kept on the way forward decides a bit.
fn bits_are_those_of_the_examples(run: impl Fn(Cpu, &Fixture, &[&str])) {
    bits_are_those_of_the_lanes(&run);
    let [kept, again] = [false, true].map(|recompute| after(&run, 1, 37, 2, recompute));
    assert_eq!(different(&kept, &again), [""; 0], "blocks computed again");
}

/// Examples one by one, a few together, and as many as a lane has; lanes with several examples, and more of
/// them than there are examples.
fn bits_are_those_of_the_lanes(run: impl Fn(Cpu, &Fixture, &[&str])) {
    let in_one_lane = after(&run, 1, 4096, 1, false);
    for lanes in [2, 4, 16] {
        let one_by_one = after(&run, lanes, 1, 1, false);
        for (micro_batch_tokens, threads) in [(37, 2), (4096, 4)] {
            let again = after(&run, lanes, micro_batch_tokens, threads, false);
            let what = format!("{lanes} lanes, {micro_batch_tokens} tokens at once");
            assert_eq!(different(&one_by_one, &again), [""; 0], "{what}");
        }
        let other = different(&one_by_one, &in_one_lane);
        for file in ["metrics.jsonl", "model.safetensors"] {
            assert!(other.iter().any(|name| name.ends_with(file)), "{file} of {lanes} lanes is that of one");
        }
    }
}

#[test]
fn pretraining_in_lanes() {
    bits_are_those_of_the_examples(|b, fixture, pace| {
        pretrain::run(b, fixture, fixture.base(), fixture.mixture(), pace);
    });
}

#[test]
fn fine_tuning_in_lanes() {
    for form in [Form::Classification, Form::Similarity, Form::MultipleChoice] {
        bits_are_those_of_the_examples(|b, fixture, pace| {
            finetune::run(b, fixture, &finetune::marked(fixture), form, pace);
        });
    }
}

#[test]
fn supervised_fine_tuning_in_lanes() {
    bits_are_those_of_the_examples(|b, fixture, pace| {
        sft::run(b, fixture, [&fixture.base(), &fixture.reward()], fixture.mixture(), pace);
    });
}

#[test]
fn a_reward_model_in_lanes() {
    bits_are_those_of_the_examples(|b, fixture, pace| {
        reward::run_drawn(b, fixture, &fixture.base(), pace);
    });
}

#[test]
fn dpo_in_lanes() {
    bits_are_those_of_the_examples(|b, fixture, pace| {
        dpo::run(b, fixture, &fixture.base(), pace);
    });
}

#[test]
fn distillation_in_lanes() {
    bits_are_those_of_the_examples(distil::run_own);
}

#[test]
fn kto_in_lanes() {
    bits_are_those_of_the_examples(|b, fixture, pace| {
        kto::run(b, fixture, &fixture.base(), pace);
    });
}

#[test]
fn ppo_in_lanes() {
    bits_are_those_of_the_examples(|b, fixture, pace| {
        ppo::run(b, fixture, [&fixture.base(), &fixture.reward()], fixture.mixture(), pace);
    });
}

#[test]
fn grpo_in_lanes() {
    bits_are_those_of_the_examples(grpo::run_first);
}
