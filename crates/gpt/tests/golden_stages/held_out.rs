//! What is held out is never learned from: rankings of one prompt, and equal conversations, stay on one side.

use crate::fixture::{Fixture, user};
use gpt::data::rows::Record;
use gpt::data::{Batch, Conversations, Prompter, Ranking, Sequence};
use gpt::progress::Silent;
use gpt::stage::Rankings;
use std::collections::BTreeSet;

const TIMES: usize = 5;

#[test]
fn rankings_are_learned_from_or_held_out() {
    let fixture = Fixture::new();
    let prompter = Prompter::new(&fixture.tokenizer).unwrap();
    let ranking = |i: usize| Ranking {
        messages: user(&format!("{}", i % 20)),
        completions: vec![format!("a{i}"), format!("b{i}")],
        ranks: vec![1, 2],
        extra: Record::new(),
    };
    let all: Vec<Ranking> = (0..20 * TIMES).map(ranking).collect();
    let rankings = Rankings::new(&all, &[], 0.3, &prompter, 32, &Silent).unwrap();
    let (train, held_out) = rankings.counts();
    assert_eq!(train + held_out, all.len(), "each is on one side");
    assert!(
        held_out > 0 && train % TIMES == 0,
        "{train} and {held_out} of twenty prompts, {TIMES} times each"
    );
}

#[test]
fn conversations_are_learned_from_or_held_out() {
    let sequence = |i: u32| Sequence { tokens: vec![i % 20, 7], targets: vec![7, i % 20], cut_tokens: 0 };
    let all: Vec<Sequence> = (0..20 * TIMES as u32).map(sequence).collect();
    let (train, held_out) = Conversations::new(&all, 1).split(0.3).unwrap();
    let firsts = |part: &Conversations| -> BTreeSet<u32> {
        let mut batch = Batch::default();
        (0..part.per_epoch()).for_each(|i| part.push(i, &mut batch));
        batch.tokens.chunks(2).map(|tokens| tokens[0]).collect()
    };
    assert_eq!((train.per_epoch() + held_out.per_epoch()) as usize, all.len(), "each is on one side");
    assert!(firsts(&train).is_disjoint(&firsts(&held_out)));
    assert_eq!(firsts(&train).len() + firsts(&held_out).len(), 20);
    assert!((3..10).contains(&firsts(&held_out).len()), "three tenths of twenty, and not one of them");
}
