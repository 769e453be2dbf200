//! Noisy rankings have the odds that are said.

use super::*;
use ::text::data::Candidates;
use ::text::data::rows::Record;

#[test]
fn pairs_win_as_often_as_bradley_and_terry_say() {
    let (scores, noise, n) = ([0.9, 0.8, 0.5, 0.85], 0.1, 40_000u32);
    let mut wins = [[0u32; 4]; 4];
    for prompt in 0..n {
        let ranks = rank(&scores, noise, 3, u64::from(prompt));
        for i in 0..4 {
            for j in 0..4 {
                wins[i][j] += u32::from(ranks[i] < ranks[j]);
            }
        }
    }
    for i in 0..4 {
        for j in 0..i {
            let expected = 1.0 / (1.0 + f64::exp((scores[j] - scores[i]) / noise));
            let share = f64::from(wins[i][j]) / f64::from(n);
            assert!((share - expected).abs() < 0.01, "{i} {j}: {share} for {expected}");
        }
    }
}

#[test]
fn the_ceiling_counted_is_the_ceiling_expected() {
    for noise in [0.02, 0.06, 0.2] {
        let mut ceiling = Ceiling::default();
        for prompt in 0..20_000 {
            let mut draw = Draw::new(1, Stream::Text, prompt);
            let scores: Vec<f64> = (0..5).map(|_| f64::from(draw.within(0..=10)) / 10.0).collect();
            ceiling.count(&scores, &rank(&scores, noise, 1, prompt), noise);
        }
        let (counted, expected) = (ceiling.accuracy().unwrap(), ceiling.expected / ceiling.pairs as f64);
        assert!((counted - expected).abs() < 0.005, "{noise}: {counted} for {expected}");
        assert_eq!(ceiling.pairs + ceiling.ties, 20_000 * 10);
    }
}

#[test]
fn equals_share_a_rank_and_no_rank_is_left_out() {
    assert_eq!(rank(&[0.5, 0.9, 0.505, 0.1], 0.0, 0, 0), [2, 1, 2, 3]);
    let mut ceiling = Ceiling::default();
    ceiling.count(&[0.5, 0.9, 0.505, 0.1], &[2, 1, 2, 3], 0.0);
    assert_eq!((ceiling.pairs, ceiling.ties, ceiling.agreeing, ceiling.expected), (5, 1, 5, 5.0));
    assert_eq!(rank(&[0.3; 4], 0.1, 0, 0), [1; 4]);
    assert_eq!(Ceiling::default().accuracy(), None);
    assert!(rank(&[], 0.1, 0, 0).is_empty());
    // The noise depends on seed and prompt, on nothing else.
    let scores = [0.5, 0.6, 0.7, 0.8, 0.9];
    let of = |seed, prompt| rank(&scores, 0.5, seed, prompt);
    assert_eq!(of(1, 2), of(1, 2));
    assert!((0..20).any(|prompt| of(1, prompt) != of(2, prompt)));
}

#[test]
fn candidates_are_ranked_by_their_keys() {
    let candidates = |completions: &[&str]| {
        let Prompt { messages, extra } = prompt(0, Split::Train, 0);
        let completions = completions.iter().map(|text| text.to_string()).collect();
        Candidates { messages, completions, extra }
    };
    let key = AnswerKey::of(&prompt(0, Split::Train, 0).extra).unwrap();
    let asked = [candidates(&[&key.answer, "", &key.answer]), candidates(&["aaaa", "aa"])];
    let scored = |judge: Judge| asked.iter().map(|c| (c.clone(), judge.scores(c).unwrap())).collect();
    let (rankings, simulated) = simulate(scored(Judge::Lessons), 0.0, 0);
    assert_eq!(rankings[0].ranks, [1, 2, 1]);
    assert_eq!(rankings[0].extra["scores"], serde_json::json!([1.0, 0.0, 1.0]));
    assert_eq!(AnswerKey::of(&rankings[0].extra), Ok(key));
    assert_eq!((simulated.rankings, simulated.answers), (2, 5));
    let (rankings, _) = simulate(scored(Judge::Length), 0.0, 0);
    assert_eq!((&rankings[0].ranks[..], &rankings[1].ranks[..]), (&[2, 1, 2][..], &[2, 1][..]));
    // Without a key there is nothing to judge by.
    let plain = Candidates { extra: Record::new(), ..asked[0].clone() };
    assert_eq!(Judge::Lessons.scores(&plain).unwrap_err().kind, "no answer key");
}
