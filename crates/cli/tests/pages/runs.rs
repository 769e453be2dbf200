//! The time machine at `/runs`: what was written after each step, and a checkpoint that answers again.

use std::fs;

use serde_json::{Value, json};

use super::Tests;
use super::chat::Chat;
use super::feedback::Home;
use super::fixture::{MANY, World};
use super::page::{Page, View};

pub(crate) const TESTS: Tests = tests![
    fifty_steps_are_walked_through_without_a_reload,
    a_curve_shows_where_its_run_went_on,
    a_checkpoint_is_asked_in_the_chat,
    a_model_that_does_not_talk_is_not_asked,
];

const LEFT: &str = "\u{e012}";

/// The page with a run that was chosen.
pub(crate) fn open<'w>(home: &'w Home, world: &'w World, run: &str, view: View) -> Page<'w> {
    let it = Page::of(&home.server, world, "/runs", view);
    it.wait("document.querySelector('#run option') && !document.getElementById('machine').hidden");
    it.click(&format!("#run option[value='{run}']"));
    it.wait(&format!(
        "document.getElementById('run').value === {run:?} && document.getElementById('step').max > 0"
    ));
    it
}

/// What is shown of the step: its number, what was written, whether it can be asked, and the mark's colour.
fn shown(it: &Page<'_>) -> Value {
    let read = "const it = (id) => document.getElementById(id);
        const mark = it('marks').children[it('step').value];
        return [it('at').innerText, [...document.querySelectorAll('#samples dd')].map((it) => it.textContent),
            !it('askIt').disabled, getComputedStyle(mark).backgroundColor];";
    it.eval(read, json!([]))
}

fn a_curve_shows_where_its_run_went_on(world: &World) {
    let home = Home::start(world);
    let it = open(&home, world, MANY, View::USUAL);
    let show = "return (async () => { const { showCurves } = await import('/page/curves.js');
        const place = document.createElement('div');
        const events = [0, 3, 9].map((step) => ({ event: 'resumed', step })).concat({ event: 'started', step: 4 });
        showCurves(place, { curves: { loss: [[1, 3], [3, 2], [5, 1]], tokens: [[1, 1], [2, 2]], one: [[1, 1]] }, events });
        return [place.children.length, [...place.querySelectorAll('line')].map((it) => it.getAttribute('x1')),
            place.querySelector('path').getAttribute('d')]; })();";
    assert_eq!(it.eval(show, json!([])), json!([1, ["200"], "M0.0 0.0L200.0 60.0L400.0 120.0"]));
}

fn fifty_steps_are_walked_through_without_a_reload(world: &World) {
    let home = Home::start(world);
    let it = open(&home, world, MANY, View::USUAL);
    it.wait("document.getElementById('step').max === '49'");
    let written = fs::read_to_string(world.made(&format!("{MANY}/samples.jsonl"))).expect("a file");
    let written: Vec<Value> = written.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let of = |step: u64| -> Vec<&Value> {
        written.iter().filter(|it| it["step"] == step).map(|it| &it["completion"]).collect()
    };
    let kept =
        |step: u64| fs::exists(world.made(&format!("{MANY}/checkpoints/step-{step:06}"))).expect("a look");
    assert!((1..=50).any(|step| !kept(step)) && kept(50), "some are kept, and some are not");
    it.wait("document.querySelector('#curves figure')");
    let curves = it.texts("#curves figcaption span");
    assert!(
        curves[0] == "val_loss" && curves.contains(&"loss".to_owned()),
        "what is held out first: {curves:?}"
    );
    it.asked();
    it.eval("document.getElementById('step').focus();", json!([]));
    let mut colours = Vec::new();
    for step in (1..=50).rev() {
        let told = shown(&it);
        let colour = told[3].as_str().expect("a colour").to_owned();
        assert_eq!(told, json!([format!("After step {step}"), of(step), kept(step), colour]));
        assert_eq!(it.texts("#status")[0].contains("No checkpoint"), !kept(step));
        colours.push((kept(step), colour));
        it.browser().keys(LEFT);
    }
    colours.sort();
    colours.dedup();
    assert_eq!(colours.len(), 2, "one colour for each kind: {colours:?}");
    let (_, grey) = &colours[0];
    let parts: Vec<i32> =
        grey.split(|it: char| !it.is_ascii_digit()).filter_map(|it| it.parse().ok()).collect();
    assert!(
        parts.iter().max().zip(parts.iter().min()).is_some_and(|(high, low)| high - low < 20),
        "{grey} is no grey"
    );
    assert!(it.asked().is_empty(), "all of it is there");
    // The step stays where it is in the other language.
    let before = it.texts("#samples dd");
    it.press("中文");
    assert_eq!((it.texts("#at"), it.texts("#samples dd")), (vec!["第 1 步之后".to_owned()], before));
    it.check_quiet();
}

fn a_checkpoint_is_asked_in_the_chat(world: &World) {
    let home = Home::start(world);
    let it = open(&home, world, MANY, View::USUAL);
    it.wait("!document.getElementById('askIt').disabled");
    it.press("Ask this checkpoint");
    it.wait("location.pathname === '/'");
    let it = Chat::from(it);
    let model = format!("{MANY}@50");
    assert_eq!(it.eval("return document.getElementById('model').value;", json!([])), json!(model));
    it.set(&[("max_tokens", "8"), ("temperature", "0")]);
    it.say("What is 2 + 3?");
    assert_eq!(it.texts(".message.assistant .who"), [model]);
    assert!(!it.said("assistant")[0].is_empty());
    assert!(it.sees("#toRuns"), "and there is a way back");
    it.check_quiet();
}

/// The chat would take another one in its place, and nobody would notice.
fn a_model_that_does_not_talk_is_not_asked(world: &World) {
    let home = Home::start(world);
    let it = open(&home, world, "road/pretrain", View::USUAL);
    it.wait("!document.getElementById('askIt').disabled");
    it.press("Ask this checkpoint");
    it.wait("document.getElementById('status').innerText.includes('no chat template')");
    assert_eq!(it.eval("return location.pathname;", json!([])), "/runs");
    it.check_quiet();
}
