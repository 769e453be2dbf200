//! What raters are not told: who answered. And what answers cannot do to the page that shows them.

use std::collections::BTreeMap;
use std::fs;

use serde_json::json;

use super::Tests;
use super::fixture::World;
use super::hostile::{Bait, check_anywhere, check_text, texts};
use super::page::View;
use super::station::{Rank, Station, items};
use super::webdriver::{ENTER, ESCAPE};

pub(crate) const TESTS: Tests =
    tests![nothing_that_a_rater_receives_names_a_model_or_a_file, hostile_answers_stay_text];

fn nothing_that_a_rater_receives_names_a_model_or_a_file(world: &World) {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("umbra-file.jsonl");
    let row = |i: usize| {
        let answers = [format!("one more to {i}"), format!("and another to {i}")];
        let row =
            json!({ "prompt": format!("question {i}"), "completions": answers, "scores": [0.1234567, 1.0] });
        row.to_string() + "\n"
    };
    // The last question is this file's alone, so that its scores are kept.
    fs::write(&file, (0..5).map(row).collect::<String>()).expect("a file");
    let named = format!("umbra-model={}", file.display());
    let station = Station::of("umbra-stem.jsonl", &items(4), &["--candidates", &named]);
    let it = Rank::open(world, &station);
    it.keys(&format!("214365{ENTER}"));
    it.says("Stored.");
    it.keys("bb");
    it.wait("document.getElementById('progress').innerText.startsWith('2 ')");
    it.keys("u");
    it.says("You said that all are bad.");
    it.keys(&format!("1=23456{ENTER}"));
    it.says("Stored.");
    let refused = "const headers = { 'Content-Type': 'application/json', Authorization: `Bearer ${location.hash.slice(1)}` };
        const ask = async ([method, path]) => (await fetch(path, { method, headers, ...(method === 'POST' && { body: '{}' }) })).status;
        return Promise.all([...arguments].map(ask));";
    let asked = json!([
        ["POST", "/v1/rank/submit"],
        ["GET", "/v1/rank/report"],
        ["GET", "/v1/rank/raters"],
        ["GET", "/v1/models"],
        ["GET", "/metrics"]
    ]);
    assert_eq!(it.eval(refused, asked), json!([400, 403, 403, 401, 401]));
    while it.sees("#item") {
        let done = it.progress();
        it.keys(&format!("{ESCAPE}214365{ENTER}"));
        it.wait(&format!("document.getElementById('progress').innerText !== {done:?}"));
    }

    let stored = station.stored();
    assert!(stored.iter().any(|row| row["scores"] == json!([0.1234567, 1.0])), "what is hidden is there");
    assert!(stored.iter().all(|row| row["models"].is_array()));
    let received = it.received();
    let heard = |what: &str| received.iter().any(|text| text.contains(what));
    for told in
        ["/page/rank.js", "one more to", "answer 3 of", "\"rating\"", "this link is for ranking alone"]
    {
        assert!(heard(told), "{told} was received");
    }
    let owner = station.link("owner").split_once('#').expect("a token").1;
    let place = dir.path().display().to_string();
    for hidden in ["umbra", "0.1234567", "feedback.db", "scores", owner, &place] {
        assert!(!heard(hidden), "{hidden} was received");
    }
}

fn hostile_answers_stay_text(world: &World) {
    let bait = Bait::lay();
    // Long ones are cut, so that the browser shows them at once.
    let texts: Vec<String> = texts(&bait).iter().map(|text| text.chars().take(2_000).collect()).collect();
    let items: Vec<(String, Vec<String>)> =
        texts.chunks(8).map(|answers| (answers[0].clone(), answers.to_vec())).collect();
    let name = "<img src=x onerror=window.ran=1>";
    let station = Station::of("items.jsonl", &items, &["--rater", name, "--per-item", "2"]);
    let it = Rank::open(world, &station);
    // One may be asked a second time.
    let mut seen = BTreeMap::new();
    while it.sees("#item") {
        seen.insert(it.question(), it.count(".answer"));
        check_text(&it, ".answer .text *");
        check_text(&it, ".turn :not(.who)");
        check_anywhere(&it, "/page/rank.js");
        let done = it.progress();
        it.keys("bb");
        it.wait(&format!("document.getElementById('progress').innerText !== {done:?}"));
    }
    assert_eq!(seen.values().sum::<usize>(), 100);
    it.check_quiet();
    let owner = Rank::seen(world, &station, "owner", View::USUAL);
    owner.press("Show results");
    owner.wait("document.querySelector('#results table')");
    assert!(owner.texts("#links")[0].contains(name), "it is to be read");
    check_anywhere(&owner, "/page/rank.js");
    owner.check_quiet();
    assert_eq!(bait.asked(), 0);
}
