//! What people say of answers in the chat page of a server with a store.

use serde_json::{Value, json};
use tempfile::TempDir;

use super::Tests;
use super::chat::Chat;
use super::fixture::{QUICK, Server, World};
use super::page::View;
use super::station::{by_text, exported};
use super::webdriver::ENTER;

pub(crate) const TESTS: Tests = tests![
    thumbs_are_pressed_and_taken_back,
    a_corrected_answer_is_a_ranking,
    four_answers_are_ranked_by_five_keys,
    two_models_are_blind_until_the_vote,
    what_is_given_up_is_written_again,
    without_a_store_nothing_of_it_is_shown,
];

/// A server of two models that keeps what is said of them, and shows runs.
pub(crate) struct Home {
    pub(crate) server: Server,
    dir: TempDir,
}

/// The models' names.
const MODELS: [&str; 2] = ["model-alpha", "model-beta"];

impl Home {
    pub(crate) fn start(world: &World) -> Home {
        let dir = tempfile::tempdir().expect("a directory");
        let [alpha, beta] = [("sft", MODELS[0]), ("ppo", MODELS[1])]
            .map(|(stage, name)| format!("{name}={}", world.made(&format!("road/{stage}"))));
        let store = dir.path().join("feedback.db").display().to_string();
        let words = ["--model", &alpha, "--model", &beta, "--store", &store, "--runs", &world.made("")];
        let server = Server::serve(&words, &dir.path().join("home.log"));
        Home { server: server.expect("it starts"), dir }
    }

    pub(crate) fn chat<'w>(&'w self, world: &'w World, view: View) -> Chat<'w> {
        let it = Chat::of(&self.server, world, view, MODELS[0]);
        it.set(&[("max_tokens", "12"), ("seed", "1"), ("temperature", "1")]);
        it
    }

    fn stored(&self, what: &str) -> Vec<Value> {
        exported(&self.dir, what)
    }
}

/// Asks for answers side by side, and waits until they are whole.
pub(crate) fn compares(it: &Chat<'_>, question: &str, button: &str) {
    it.fill("#input", question);
    it.click(button);
    it.wait("document.getElementById('compare').ariaBusy === 'false'");
}

pub(crate) const FOUR: &str = "#four";

fn says(it: &Chat<'_>, what: &str) {
    it.wait(&format!("document.getElementById('status').innerText.includes({what:?})"));
}

fn thumbs_are_pressed_and_taken_back(world: &World) {
    let home = Home::start(world);
    let it = home.chat(world, View::USUAL);
    it.say("What is 2 + 3?");
    let press = |name: &str, pressed: [bool; 2], labels: &[bool]| {
        it.press(name);
        it.wait(&format!(
            "[...document.querySelectorAll('[aria-pressed]')].map((it) => it.ariaPressed).join() === '{},{}'",
            pressed[0], pressed[1]
        ));
        let stored: Vec<Value> = home.stored("thumbs").iter().map(|row| row["label"].clone()).collect();
        assert_eq!(json!(stored), json!(labels), "{name}");
    };
    press("Good answer", [true, false], &[true]);
    let row = &home.stored("thumbs")[0];
    assert_eq!(
        (&row["messages"][0]["content"], &row["about"]["model"]),
        (&json!("What is 2 + 3?"), &json!(MODELS[0]))
    );
    press("Good answer", [false, false], &[]);
    press("Bad answer", [false, true], &[false]);
    press("Good answer", [true, false], &[true]);
    it.load();
    it.wait("document.querySelector('[aria-pressed=true]')");
    press("Good answer", [false, false], &[]);
    it.check_quiet();
}

fn a_corrected_answer_is_a_ranking(world: &World) {
    let home = Home::start(world);
    let it = home.chat(world, View::USUAL);
    it.say("What is 2 + 3?");
    it.press("Edit");
    let given = it.eval("return document.querySelector('.message.assistant textarea').value;", json!([]));
    it.press("Save and send");
    assert!(home.stored("rankings").is_empty(), "what is left as it was says nothing");
    it.press("Edit");
    it.fill(".message.assistant textarea", "5, of course.");
    it.press("Save and send");
    assert_eq!(it.said("assistant"), ["5, of course."]);
    it.wait("fetch('/v1/feedback').then((it) => it.json()).then((it) => it.ratings === 1)");
    let row = &home.stored("rankings")[0];
    assert_eq!(row["completions"], json!(["5, of course.", given]));
    assert_eq!((&row["ranks"], &row["rating"]["comment"]), (&json!([1, 2]), &json!("corrected")));
    assert_eq!(row["messages"], json!([{ "role": "user", "content": "What is 2 + 3?" }]));
    it.check_quiet();
}

fn four_answers_are_ranked_by_five_keys(world: &World) {
    let home = Home::start(world);
    let it = home.chat(world, View::USUAL);
    compares(&it, "What is 2 + 3?", FOUR);
    let texts = it.texts(".answer .text");
    assert_eq!(texts.len(), 4);
    it.browser().keys(&format!("2143{ENTER}"));
    says(&it, "Stored.");
    let row = home.stored("rankings").pop().expect("a row");
    assert_eq!(row["ranks"], json!([2, 1, 4, 3]), "answers are stored in the order of the page");
    assert_eq!(shown(&row), texts);
    assert_eq!(
        (it.said("assistant"), it.sees("#compare")),
        (vec![texts[1].clone()], false),
        "the best one goes on"
    );
    assert!(it.texts(".message:last-child .tools")[0].contains("4/4"), "the others are its versions");

    compares(&it, "And 1 + 1?", FOUR);
    let texts = it.texts(".answer .text");
    it.browser().keys(ENTER);
    says(&it, "Nothing is ranked yet.");
    it.browser().keys(&format!("3=1{ENTER}"));
    says(&it, "2 not ranked: Enter again puts them last, as equals.");
    assert_eq!(home.stored("rankings").len(), 1);
    // A button that was pressed by a pointer takes no Enter.
    it.press("Answer 2: next best");
    it.browser().keys(ENTER);
    says(&it, "1 not ranked");
    it.browser().keys(ENTER);
    says(&it, "Stored.");
    let row = home.stored("rankings").pop().expect("a row");
    assert_eq!((&row["ranks"], shown(&row)), (&json!([1, 2, 1, 3]), texts));

    compares(&it, "Who are you?", FOUR);
    it.browser().keys("bb");
    says(&it, "Stored.");
    assert_eq!(home.stored("rankings").pop().expect("a row")["rating"]["all_bad"], true);
    it.check_quiet();
}

/// The answers of a row as they are read on the page.
fn shown(row: &Value) -> Vec<String> {
    let text = |it: &Value| it.as_str().expect("a text").trim().to_owned();
    row["completions"].as_array().expect("a list").iter().map(text).collect()
}

fn two_models_are_blind_until_the_vote(world: &World) {
    let home = Home::start(world);
    let it = home.chat(world, View::USUAL);
    compares(&it, "What is 2 + 3?", "#duel");
    assert_eq!(it.count(".answer"), 2);
    // All but the list to choose from, which names both whoever is asked.
    let page = "const all = document.documentElement.cloneNode(true); all.querySelector('#model').remove(); return all.outerHTML;";
    let page = it.eval(page, json!([]));
    let page = page.as_str().expect("a page");
    assert!(MODELS.iter().all(|name| !page.contains(name)), "a name stands in {page}");
    let texts = it.texts(".answer .text");
    it.browser().keys(&format!("21{ENTER}"));
    says(&it, "Stored.");
    let row = home.stored("rankings").pop().expect("a row");
    assert_eq!((shown(&row), &row["ranks"]), (texts.clone(), &json!([2, 1])));
    let told = it.texts("#status")[0].clone();
    let models: Vec<&str> =
        row["models"].as_array().expect("a list").iter().filter_map(|it| it[0].as_str()).collect();
    assert_eq!(told, format!("Stored. Answer 1: {} · Answer 2: {}", models[0], models[1]), "then it is told");
    assert!(MODELS.iter().all(|name| models.contains(name)));
    assert_eq!(it.texts(".message.assistant .who"), [models[1]]);
    assert_eq!(by_text(&row)[row["completions"][1].as_str().expect("a text")], 1);
    it.check_quiet();
}

fn what_is_given_up_is_written_again(world: &World) {
    let home = Home::start(world);
    let it = home.chat(world, View::USUAL);
    compares(&it, "What is 2 + 3?", FOUR);
    let is_inert = "return document.getElementById('side').inert;";
    assert_eq!(it.eval(is_inert, json!([])), true, "no other conversation is put in its place");
    it.press("Cancel");
    let written = "return document.getElementById('input').value;";
    assert_eq!((it.said("user").len(), it.eval(written, json!([]))), (0, json!("What is 2 + 3?")));
    assert!(home.stored("rankings").is_empty() && it.eval(is_inert, json!([])) == false);
    // Nor is a question lost that is not answered.
    it.eval("const real = window.fetch; window.fetch = async () => { window.fetch = real; throw new TypeError('gone'); };", json!([]));
    it.click(FOUR);
    says(&it, "Failed: gone");
    assert_eq!((it.said("user").len(), it.eval(written, json!([]))), (0, json!("What is 2 + 3?")));
    it.check_quiet();
}

fn without_a_store_nothing_of_it_is_shown(world: &World) {
    let it = Chat::open(world, View::USUAL, QUICK);
    it.set(&[("max_tokens", "4")]);
    it.say("What is 2 + 3?");
    assert_eq!(it.count("[aria-pressed]"), 0);
    for hidden in ["#more", "#four", "#duel", "#toRuns", "#compare"] {
        assert!(!it.sees(hidden), "{hidden} is seen");
    }
    it.check_quiet();
}
