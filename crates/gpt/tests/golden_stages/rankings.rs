//! Rankings of three and of five answers, some of which are tied: what the reward model and DPO learn from.

use crate::fixture::{Fixture, user};
use gpt::data::rows::Record;
use gpt::data::{Prompter, Ranking};
use gpt::progress::Silent;
use gpt::stage::Rankings;
use serde_json::{Value, json};
use std::ops::Range;

const ANSWERS: [&str; 7] = ["b", "a b", "c", "ba", "b b", "abc", "cc a"];
/// Ranks of three answers and of five; all are tied in the last.
const RANKS: [&[u32]; 5] = [&[2, 1, 3], &[1, 3, 2, 2, 4], &[1, 1, 2], &[4, 2, 1, 3, 5], &[1, 1, 1]];

fn ranking(i: usize, margin: f64) -> Ranking {
    let ranks = RANKS[i % RANKS.len()].to_vec();
    let answer = |j: usize| ANSWERS[(3 * i + j) % ANSWERS.len()].to_owned();
    let messages = user(["a", "b c", "ab", "c b a"][i % 4]);
    let mut extra = Record::new();
    if margin != 0.0 {
        extra.insert("margin".into(), json!(margin * i as f64));
    }
    Ranking { messages, completions: (0..ranks.len()).map(answer).collect(), ranks, extra }
}

/// Rankings, and the same as the script reads them: to learn from, and held out.
pub(crate) fn rankings(fixture: &Fixture, held_out: Range<usize>) -> (Rankings, [Value; 2]) {
    with_margins(fixture, held_out, 0.0)
}

/// The same, each with another margin: its number times this.
pub(crate) fn with_margins(fixture: &Fixture, held_out: Range<usize>, margin: f64) -> (Rankings, [Value; 2]) {
    let ranking = |i| ranking(i, margin);
    let [train, held_out] = [0..11, held_out].map(|numbers| numbers.map(ranking).collect::<Vec<_>>());
    let prompter = Prompter::new(&fixture.tokenizer).unwrap();
    let inputs = |ranking: &Ranking| {
        let answers: Vec<_> = ranking.completions.iter().map(|text| prompter.answer(text)).collect();
        let mut input = json!({ "prompt": prompter.prompt(&ranking.messages).unwrap(), "answers": answers, "ranks": ranking.ranks });
        if let Some(margin) = ranking.extra.get("margin") {
            input["margin"] = margin.clone();
        }
        input
    };
    let both = [&train, &held_out].map(|rankings| rankings.iter().map(inputs).collect());
    (Rankings::new(&train, &held_out, 0.0, &prompter, 32, &Silent).unwrap(), both)
}
