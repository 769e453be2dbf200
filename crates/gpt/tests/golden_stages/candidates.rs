//! Candidates: several answers to each prompt, drawn apart from each other.

use crate::fixture::{Fixture, WEIGHTS, prompts, tokens};
use crate::golden::Golden;
use gpt::checkpoint;
use gpt::data::Prompter;
use gpt::model::Sampling;
use gpt::progress::Silent;
use gpt::stage::{CandidatesOptions, candidates};
use kernels::Reference;
use serde_json::json;

const SEED: u64 = 81;
const K: usize = 3;
const MAX_TOKENS: usize = 4;
const TEMPERATURE: f32 = 0.75;

#[test]
fn candidates_are_pytorchs() {
    let fixture = Fixture::new();
    let init = fixture.base();
    let asked = prompts(0..5);
    let prompter = Prompter::new(&fixture.tokenizer).unwrap();
    let golden = Golden::of(
        "candidates",
        &json!({
            "shape": fixture.shape(),
            "weights": WEIGHTS,
            "recipe": { "k": K, "max_tokens": MAX_TOKENS, "temperature": TEMPERATURE },
            "seed": SEED,
            "end_tokens": prompter.end_tokens(),
            "prompts": tokens(&prompter, &asked),
        }),
    );
    let Some(golden) = golden else { return };
    let (b, model) = (&mut Reference, init.model());
    let weights = model.weights(checkpoint::to_backend(b, &model.config)).unwrap();
    let sampling = Sampling { temperature: TEMPERATURE, seed: SEED, ..Sampling::default() };
    let options = CandidatesOptions { k: K, max_tokens: MAX_TOKENS, sampling };
    let found = candidates(b, (&model.config, &weights), &prompter, &asked, &options, &Silent).unwrap();
    assert_eq!(found.len(), asked.len());
    for (found, wanted) in found.iter().zip(golden.at("/answers").as_array().unwrap()) {
        let wanted: Vec<Vec<u32>> = serde_json::from_value(wanted.clone()).unwrap();
        let texts: Vec<String> = wanted.iter().map(|ids| fixture.tokenizer.decode(ids).unwrap()).collect();
        assert_eq!(found.completions, texts);
    }
}

/// An answer that is cut gets its end when it is ranked and scored: the context has to hold that, too.
#[test]
fn a_prompt_leaves_room_for_an_answer_and_its_end() {
    let fixture = Fixture::new();
    let (init, asked) = (fixture.base(), prompts(0..5));
    let prompter = Prompter::new(&fixture.tokenizer).unwrap();
    let lens: Vec<usize> =
        asked.iter().map(|prompt| prompter.prompt(&prompt.messages).unwrap().len()).collect();
    let longest = *lens.iter().max().unwrap();
    let (b, model) = (&mut Reference, init.model());
    let weights = model.weights(checkpoint::to_backend(b, &model.config)).unwrap();
    let fits = model.config.seq_len - longest - 1;
    for (max_tokens, wanted) in
        [(fits, lens.len()), (fits + 1, lens.iter().filter(|len| **len < longest).count())]
    {
        let options = CandidatesOptions { k: 1, max_tokens, sampling: Sampling::default() };
        let found = candidates(b, (&model.config, &weights), &prompter, &asked, &options, &Silent).unwrap();
        assert_eq!(found.len(), wanted, "answers of {max_tokens} tokens");
    }
}
