//! How pages look: wide and narrow, light and dark, in both languages, and to assistive technology.

use std::fs;

use serde_json::json;

use super::Tests;
use super::chat::Chat;
use super::feedback::{FOUR, Home, compares};
use super::fixture::{QUICK, World};
use super::learn::School;
use super::page::{Page, View, axe};
use super::runs;
use super::station::{Rank, Station};
use super::webdriver::ESCAPE;

pub(crate) const TESTS: Tests = tests![
    the_chat_fits_every_view,
    the_ranking_page_fits_every_view,
    four_answers_fit_every_view,
    the_time_machine_fits_every_view,
    the_page_of_learning_fits_every_view,
];
pub(crate) const OF_AXE: Tests = tests![
    the_chat_is_accessible,
    the_ranking_page_is_accessible,
    four_answers_are_accessible,
    the_time_machine_is_accessible,
    the_page_of_learning_is_accessible,
];

/// A conversation with something of everything.
fn chat<'w>(world: &'w World, view: View) -> Chat<'w> {
    let it = Chat::open(world, view, QUICK);
    it.set(&[("max_tokens", "12"), ("seed", "1")]);
    it.show_why();
    it.say("**a** `b` What is 1 + 1?");
    it
}

/// Shows what stands behind an answer: what it came of, and its rewards.
fn unfold(it: &Chat<'_>) {
    let unfold = "document.querySelector('.tools [aria-expanded]').click();
        document.querySelector('.origin').open = true;";
    it.eval(unfold, json!([]));
    it.wait("document.querySelector('.reward details')");
    it.eval("document.querySelector('.reward details').open = true;", json!([]));
}

/// What holds of every page in every view.
fn check_view(it: &Page<'_>, view: View, name: &str) {
    let language = it.eval("return document.documentElement.lang;", json!([]));
    assert_eq!(language, view.language, "the browser's language is taken");
    assert!(it.sees("h1") && it.count("h1") == 1, "the page has one heading of the first level");
    it.check_fits();
    it.picture(name);
}

fn the_chat_fits_every_view(world: &World) {
    for view in View::all() {
        let it = chat(world, view);
        it.check_fits();
        unfold(&it);
        check_view(&it, view, "chat");
        it.unfold(true);
        it.check_fits();
        it.check_quiet();
    }
}

fn the_chat_is_accessible(world: &World) {
    let axe = axe().expect("it is at hand");
    for view in View::all() {
        let it = chat(world, view);
        it.unfold(true);
        unfold(&it);
        it.check_axe(axe);
        it.unfold(false);
        it.click(".token");
        it.wait("document.getElementById('choices').matches(':popover-open')");
        it.check_axe(axe);
    }
}

/// Items of long answers, of which ada has ranked some.
fn station() -> Station {
    let words = "Birds of this kind repeat what they hear, and some of them do it well. ".repeat(30);
    let code =
        format!("Run this:\n\n```\n{}\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n", "let x = 1; ".repeat(40));
    let list = format!("## So\n\n- **one**\n- two\n\n1. first\n2. second\n\n{words}");
    let answers =
        |i: usize| vec![format!("{words} The end of {i}."), code.clone(), list.clone(), "x".repeat(400)];
    let question =
        |i: usize| format!("What do mynahs do, and why? {}Question {i}.", "Say it in full. ".repeat(20));
    let dir = tempfile::tempdir().expect("a directory");
    let other = dir.path().join("other.jsonl");
    let row = |i: usize| json!({ "prompt": question(i), "completions": ["They talk."] }).to_string() + "\n";
    fs::write(&other, (0..6).map(row).collect::<String>()).expect("a file");
    let named = format!("other={}", other.display());
    let items: Vec<_> = (0..6).map(|i| (question(i), answers(i))).collect();
    let station = Station::of("items.jsonl", &items, &["--candidates", &named, "--per-item", "2"]);
    let token = station.link("ada").split_once('#').expect("a token").1;
    let ask = |path: &str, body| station.server.post(&format!("/v1/rank/{path}"), token, &body);
    for key in 0..3 {
        let item = ask("next", json!({}))["item"].take();
        let ids =
            item["answers"].as_array().expect("answers").iter().map(|it| it["id"].as_str().expect("an id"));
        let ranks: serde_json::Map<_, _> =
            ids.zip(1..).map(|(id, rank)| (id.to_owned(), json!(rank))).collect();
        ask("submit", json!({ "assignment": item["assignment"], "key": format!("{key}"), "ranks": ranks }));
    }
    station
}

/// As somebody has it who has begun to rank.
fn rater<'w>(world: &'w World, station: &'w Station, view: View) -> Rank<'w> {
    let it = Rank::seen(world, station, "ada", view);
    it.keys(&format!("{ESCAPE}2=41"));
    it
}

fn owner<'w>(world: &'w World, station: &'w Station, view: View) -> Rank<'w> {
    let it = Rank::seen(world, station, "owner", view);
    it.click("#refresh");
    it.wait("document.querySelector('#results table')");
    it
}

/// Where the cards of the answers are: whether side by side, and whether each shows all of its text.
const CARDS: &str = "
    const cards = [...document.querySelectorAll('.answer')];
    const [first, second] = cards.map((it) => it.getBoundingClientRect());
    const isWhole = ({ scrollHeight, clientHeight, scrollWidth, clientWidth }) => scrollHeight <= clientHeight && scrollWidth <= clientWidth;
    return [first.top === second.top, cards.every((it) => isWhole(it) && isWhole(it.querySelector('.text')))];";

fn check_cards(it: &Page<'_>, view: View) {
    assert_eq!(it.eval(CARDS, json!([])), json!([view.width > 1000, true]), "{view:?}");
}

fn the_ranking_page_fits_every_view(world: &World) {
    let station = station();
    for view in View::all() {
        let it = rater(world, &station, view);
        check_view(&it, view, "rank");
        check_cards(&it, view);
        assert!(
            it.texts(".answer .text").iter().any(|text| text.contains("The end of")),
            "all is to be read"
        );
        assert_eq!(
            it.sees("#guidelinesText h1, #guidelinesText p"),
            view.width > 1000,
            "beside the item, or folded"
        );
        it.click("#keys");
        it.check_fits();
        it.picture("rank-keys");
        it.check_quiet();
        let it = owner(world, &station, view);
        it.eval("document.getElementById('own').scrollIntoView();", json!([]));
        check_view(&it, view, "rank-owner");
        it.check_quiet();
    }
}

fn the_ranking_page_is_accessible(world: &World) {
    let axe = axe().expect("it is at hand");
    let station = station();
    for view in View::all().filter(|view| view.language == "en") {
        let it = rater(world, &station, view);
        it.check_axe(axe);
        it.keys("?");
        it.check_axe(axe);
        owner(world, &station, view).check_axe(axe);
    }
}

fn four<'w>(world: &'w World, home: &'w Home, view: View) -> Chat<'w> {
    let it = home.chat(world, view);
    it.say("What is 2 + 3?");
    compares(&it, "And now?", FOUR);
    it.browser().keys("2=41");
    it
}

fn four_answers_fit_every_view(world: &World) {
    let home = Home::start(world);
    for view in View::all() {
        let it = four(world, &home, view);
        check_view(&it, view, "four");
        check_cards(&it, view);
        it.check_quiet();
    }
}

fn four_answers_are_accessible(world: &World) {
    let (axe, home) = (axe().expect("it is at hand"), Home::start(world));
    for view in View::all().filter(|view| view.language == "en") {
        four(world, &home, view).check_axe(axe);
    }
}

/// PPO's runs have rollouts besides.
fn the_time_machine_fits_every_view(world: &World) {
    let home = Home::start(world);
    for view in View::all() {
        let it = runs::open(&home, world, "road/ppo", view);
        check_view(&it, view, "runs");
        it.check_quiet();
    }
}

fn the_time_machine_is_accessible(world: &World) {
    let (axe, home) = (axe().expect("it is at hand"), Home::start(world));
    for view in View::all().filter(|view| view.language == "en") {
        runs::open(&home, world, "road/ppo", view).check_axe(axe);
    }
}

fn the_page_of_learning_fits_every_view(world: &World) {
    let school = School::learned(world);
    for view in View::all() {
        let it = school.finished(world, view);
        check_view(&it, view, "learn");
        it.check_quiet();
    }
}

fn the_page_of_learning_is_accessible(world: &World) {
    let (axe, school) = (axe().expect("it is at hand"), School::learned(world));
    for view in View::all().filter(|view| view.language == "en") {
        school.finished(world, view).check_axe(axe);
    }
}
