//! What ratings say, as other programs compute it (`tools/golden_feedback.py`), and of rankings whose truth is known.
#![allow(clippy::unwrap_used)] // A test that finds no value has failed.

use feedback::statistics::{Game, NoFit, fit, intervals, ordinal_alpha};
use serde_json::Value;

fn golden() -> Value {
    serde_json::from_str(include_str!("golden/statistics.json")).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    serde_json::from_value(value.clone()).unwrap()
}

#[test]
fn alpha_is_krippendorffs() {
    let golden = golden();
    for case in golden["alpha"].as_array().unwrap() {
        let units: Vec<Vec<u32>> = serde_json::from_value(case["units"].clone()).unwrap();
        let (found, wanted) = (ordinal_alpha(&units).unwrap(), case["alpha"].as_f64().unwrap());
        assert!((found - wanted).abs() < 1e-9, "{found} {wanted}");
    }
    assert_eq!(ordinal_alpha(&[vec![1], vec![2]]), None, "nothing was judged twice");
    assert_eq!(ordinal_alpha(&[vec![1, 1], vec![1, 1]]), None, "nothing differs");
}

#[test]
fn strengths_are_the_likeliest() {
    let golden = golden();
    for case in golden["bradley_terry"].as_array().unwrap() {
        let players = case["players"].as_u64().unwrap() as usize;
        let game = |(prompt, game): (usize, &Value)| {
            let of = numbers(game);
            Game { players: [of[0] as usize, of[1] as usize], won: of[2], covariate: of[3], prompt }
        };
        let games: Vec<Game> = case["games"].as_array().unwrap().iter().enumerate().map(game).collect();
        let near = |found: &[f64], wanted: &Value, allowed: f64| {
            let wanted = numbers(wanted);
            assert!(found.iter().zip(&wanted).all(|(a, b)| (a - b).abs() < allowed), "{found:?} {wanted:?}");
        };
        near(&fit(&games, players, false).unwrap().strengths, &case["strengths"], 1e-8);
        let with = fit(&games, players, true).unwrap();
        near(&with.strengths, &case["with_length"]["strengths"], 1e-5);
        near(&[with.covariate], &serde_json::json!([case["with_length"]["covariate"]]), 1e-5);
    }
}

/// From where it begins, Newton's whole steps lead ever farther away here. The strengths are NumPy's.
#[test]
fn long_steps_lead_nowhere_else() {
    let said = [(-0.1, 1.0, 19), (38.2, 0.0, 3), (0.2, 0.0, 2), (0.3, 1.0, 1)];
    let times =
        |(covariate, won, n)| (0..n).map(move |prompt| Game { players: [1, 0], won, covariate, prompt });
    let games: Vec<Game> = said.into_iter().flat_map(times).collect();
    let found = fit(&games, 2, true).unwrap();
    assert!((found.covariate + 13.92062602).abs() < 1e-6, "{found:?}");
    assert!((found.strengths[1] - found.strengths[0] - 2.87864978).abs() < 1e-6, "{found:?}");
}

/// Numbers from 0 to 1.
fn uniform(seed: u64) -> impl FnMut() -> f64 {
    let mut state = seed;
    move || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Games of ten players whose strengths are known.
fn ten_players(seed: u64, count: usize) -> (Vec<f64>, Vec<Game>) {
    let strengths: Vec<f64> = (0..10).map(|i| f64::from(i) * 0.3 - 1.35).collect();
    let mut random = uniform(seed);
    let game = |prompt| {
        let a = (random() * 10.0) as usize;
        let b = (a + 1 + (random() * 9.0) as usize) % 10;
        let p = 1.0 / (1.0 + (strengths[b] - strengths[a]).exp());
        Game { players: [a, b], won: f64::from(u8::from(random() < p)), covariate: 0.0, prompt }
    };
    let games = (0..count).map(game).collect();
    (strengths, games)
}

#[test]
fn ten_known_strengths_are_found() {
    for seed in 0..5 {
        let (strengths, games) = ten_players(seed, 5000);
        let found = fit(&games, 10, false).unwrap().strengths;
        assert!(found.is_sorted(), "{found:?}");
        assert!(found.iter().zip(&strengths).all(|(a, b)| (a - b).abs() < 0.2), "{found:?}");
    }
}

#[test]
fn an_interval_of_95_percent_holds_the_truth_so_often() {
    let (mut held, mut all) = (0, 0);
    for seed in 0..30 {
        let (strengths, games) = ten_players(100 + seed, 600);
        let found = intervals(&games, 10, false, 200).unwrap();
        held +=
            found.iter().zip(&strengths).filter(|((low, high), truth)| (low..=high).contains(truth)).count();
        all += 10;
    }
    let share = f64::from(held as u32) / f64::from(all);
    assert!((0.90..=0.99).contains(&share), "{held} of {all}");
}

#[test]
fn what_decides_nothing_has_no_strengths() {
    let game = |a, b, won| Game { players: [a, b], won, covariate: 0.0, prompt: 0 };
    assert_eq!(fit(&[], 2, false), Err(NoFit::Nothing));
    assert_eq!(fit(&[game(0, 1, 1.0), game(1, 0, 1.0)], 3, false), Err(NoFit::Disconnected));
    let apart = [game(0, 1, 0.5), game(2, 3, 0.5)];
    assert_eq!(fit(&apart, 4, false), Err(NoFit::Disconnected));
    assert_eq!(fit(&[game(0, 1, 1.0), game(0, 1, 1.0)], 2, false), Err(NoFit::Unbeaten));
    assert_eq!(fit(&[game(0, 1, 1.0), game(1, 2, 1.0), game(0, 2, 1.0)], 3, false), Err(NoFit::Unbeaten));
    assert!(fit(&[game(0, 1, 1.0), game(1, 2, 1.0), game(2, 0, 1.0)], 3, false).is_ok());
    assert!(fit(&[game(0, 1, 0.5)], 2, false).is_ok());
    // The longer answer always won.
    let long = |won, covariate| Game { players: [0, 1], won, covariate, prompt: 0 };
    assert_eq!(fit(&[long(1.0, 1.0), long(0.0, -1.0)], 2, true), Err(NoFit::Separated));
}

#[test]
fn length_is_no_strength_where_it_is_told_apart() {
    let mut random = uniform(9);
    let game = |prompt| {
        // The first player writes longer; raters like length, and nothing else.
        let covariate = 0.5 + random();
        let won = f64::from(u8::from(random() < 1.0 / (1.0 + (-covariate).exp())));
        Game { players: [0, 1], won, covariate, prompt }
    };
    let games: Vec<Game> = (0..20_000).map(game).collect();
    let (plain, with) = (fit(&games, 2, false).unwrap(), fit(&games, 2, true).unwrap());
    assert!(plain.strengths[0] > 0.4, "{plain:?}");
    assert!(with.strengths[0].abs() < 0.1 && (with.covariate - 1.0).abs() < 0.1, "{with:?}");
}
