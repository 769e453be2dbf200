//! The chat page at `/`: what a person does there.

use std::ops::Deref;

use serde_json::{Map, Value, json};

use super::Tests;
use super::fixture::{QUICK, SLOW, Server, World};
use super::page::{Page, View};
use super::webdriver::{ENTER, ESCAPE, TAB};

pub(crate) const TESTS: Tests = tests![
    a_conversation_has_branches_and_outlives_a_reload,
    answers_are_copied_and_asked_for_again,
    conversations_are_kept_apart,
    the_language_is_chosen_and_remembered,
    an_answer_grows_while_it_is_written,
    the_readers_place_is_kept,
    an_answer_is_stopped,
    what_no_longer_fits_is_left_out_and_shown,
    settings_are_sent_and_kept,
];

/// The page with a model that was chosen.
pub(crate) struct Chat<'w>(Page<'w>);

impl<'w> Deref for Chat<'w> {
    type Target = Page<'w>;

    fn deref(&self) -> &Page<'w> {
        &self.0
    }
}

impl<'w> Chat<'w> {
    pub(crate) fn open(world: &'w World, view: View, model: &str) -> Chat<'w> {
        Chat::of(&world.server, world, view, model)
    }

    /// The same of another server.
    pub(crate) fn of(server: &'w Server, world: &'w World, view: View, model: &str) -> Chat<'w> {
        let it = Chat(Page::of(server, world, "/", view));
        it.is_ready();
        it.click(&format!("#model option[value={model}]"));
        it
    }

    /// What a page is that came to the chat by itself.
    pub(crate) fn from(page: Page<'w>) -> Chat<'w> {
        let it = Chat(page);
        it.is_ready();
        it
    }

    /// The page of a server that asks for a key.
    pub(crate) fn locked(world: &'w World) -> Chat<'w> {
        Chat(Page::of(&world.locked, world, "/", View::USUAL))
    }

    /// Waits until it knows which models there are.
    pub(crate) fn is_ready(&self) {
        self.wait("document.querySelector('#model option')");
    }

    /// Loads the page again, up to where it can be used.
    pub(crate) fn load(&self) {
        self.reload();
        self.is_ready();
    }

    /// Writes into fields of the settings.
    pub(crate) fn set(&self, fields: &[(&str, &str)]) {
        self.unfold(true);
        for (name, value) in fields {
            self.fill(&format!("#{name}"), &format!("{value}{TAB}"));
        }
        self.unfold(false);
    }

    /// Lets each word be shown with what else there was.
    pub(crate) fn show_why(&self) {
        self.unfold(true);
        self.click("#why");
        self.unfold(false);
    }

    /// Opens or closes the settings.
    pub(crate) fn unfold(&self, opens: bool) {
        self.eval("document.getElementById('settings').open = arguments[0];", json!([opens]));
    }

    /// Sends a message, and goes on at once.
    pub(crate) fn send(&self, text: &str) {
        self.fill("#input", &format!("{text}{ENTER}"));
    }

    /// Sends a message, and waits for the answer's end.
    pub(crate) fn say(&self, text: &str) {
        self.send(text);
        self.rest();
    }

    /// Waits until nothing is being answered.
    pub(crate) fn rest(&self) {
        self.wait("document.getElementById('stop').hidden");
    }

    /// What stands in the messages of one side.
    pub(crate) fn said(&self, who: &str) -> Vec<String> {
        self.texts(&format!(".message.{who} .body"))
    }

    /// The last answer as the browser keeps it.
    pub(crate) fn kept(&self) -> Value {
        let last = "const [talk] = JSON.parse(localStorage.getItem('mynah.conversations'));
            return Object.values(talk.nodes).filter((it) => it.role === 'assistant').at(-1);";
        self.eval(last, json!([]))
    }

    /// How much of the last answer is there.
    pub(crate) fn length(&self) -> usize {
        self.said("assistant").last().map_or(0, String::len)
    }

    /// Waits until the last answer is longer than `length`, and goes on.
    pub(crate) fn grows(&self, length: usize) -> usize {
        let last = "(document.querySelector('.message.assistant:last-child .body')?.innerText ?? '')";
        self.wait(&format!("new TextEncoder().encode({last}).length > {length}"));
        assert!(self.sees("#stop"), "the answer is whole already: it cannot be seen in its middle");
        self.length()
    }

    fn clipboard(&self) -> String {
        let text = self.eval("return navigator.clipboard.readText();", json!([]));
        text.as_str().expect("text").to_owned()
    }
}

/// A conversation as the browser keeps it, in which each text is a question, its answer, and that answer's one
/// word.
pub(crate) fn conversation(texts: &[String]) -> String {
    let mut nodes = Map::new();
    let mut parent = String::new();
    for (number, text) in texts.iter().flat_map(|text| [text, text]).enumerate() {
        let (id, role) = (format!("node-{number}"), ["user", "assistant"][number % 2]);
        let word = json!({ "id": 0, "token": text, "bytes": text.as_bytes(), "logprob": -1.0 });
        let node = json!({
            "id": id, "parent": parent, "role": role, "content": text, "model": text,
            "tokens": [word], "request": { "model": text, "messages": [] }, "seed": 1,
        });
        nodes.insert(id.clone(), node);
        parent = id;
    }
    json!([{ "id": "talk", "title": texts[0], "system": texts[0], "nodes": nodes, "shown": {} }]).to_string()
}

fn a_conversation_has_branches_and_outlives_a_reload(world: &World) {
    let it = Chat::open(world, View::USUAL, QUICK);
    it.set(&[("max_tokens", "8"), ("seed", "1"), ("temperature", "1")]);
    it.say("What is 2 + 3?");
    let first = it.said("assistant");
    assert!(first.len() == 1 && !first[0].trim().is_empty(), "a question has an answer: {first:?}");
    it.say("And you?");
    assert_eq!(it.said("assistant").len(), 2, "a conversation goes on");
    assert_eq!(it.said("user"), ["What is 2 + 3?", "And you?"]);

    let before = it.said("assistant");
    it.set(&[("seed", "2"), ("temperature", "1.9")]);
    it.press("Another answer");
    it.rest();
    let another = it.said("assistant");
    assert!(it.texts(".message:last-child .tools")[0].contains("2/2"), "another answer is a branch");
    assert_ne!(another, before, "with another seed");
    it.press("The version before");
    assert_eq!(it.said("assistant"), before);
    it.press("The version after");
    assert_eq!(it.said("assistant"), another);

    it.press_first("Edit");
    it.fill(".message.user textarea", "Who are you?");
    it.press("Save and send");
    it.rest();
    assert_eq!(it.said("user"), ["Who are you?"], "an edited question begins a branch");
    it.press_first("Edit");
    it.press("Cancel");
    assert_eq!(it.said("user"), ["Who are you?"], "what was not saved changes nothing");
    let shown = [it.said("user"), it.said("assistant")];
    it.load();
    assert_eq!([it.said("user"), it.said("assistant")], shown, "a reload loses nothing");
    it.press_first("The version before");
    assert_eq!(it.said("user"), ["What is 2 + 3?", "And you?"], "nor do edits");
    assert_eq!(it.said("assistant"), another);
    it.check_quiet();
}

fn answers_are_copied_and_asked_for_again(world: &World) {
    let it = Chat::open(world, View::USUAL, QUICK);
    it.set(&[("max_tokens", "8"), ("temperature", "1")]);
    it.say("Isn't it 2 + 3?");
    it.press_first("Copy");
    assert_eq!(it.clipboard(), "Isn't it 2 + 3?");
    assert!(it.has_button("Copied"), "and it is said");
    it.press("Copy");
    let answer = it.clipboard();
    assert!(!answer.is_empty());

    it.press("Same again (curl)");
    let command = it.clipboard();
    let (fingerprint, command) = command.split_once('\n').expect("two lines");
    assert!(fingerprint.starts_with("# fp_"), "{fingerprint}");
    let body = command.split_once(" -d '").expect("a body").1.strip_suffix('\'').expect("an end");
    assert!(command.starts_with(&format!("curl {}/v1/chat/completions ", world.server.origin)), "{command}");
    // As a shell reads it: a quote that is closed, escaped and opened again.
    let body = serde_json::from_str(&body.replace("'\\''", "'")).expect("JSON");
    assert_eq!(world.server.answer(QUICK, "Isn't it 2 + 3?", body), answer, "the same again");
    it.check_quiet();
}

fn conversations_are_kept_apart(world: &World) {
    let it = Chat::open(world, View::USUAL, QUICK);
    it.set(&[("max_tokens", "4"), ("system", "Be brief.")]);
    it.say("first");
    it.click("#new");
    assert!(it.said("user").is_empty(), "a new one is empty");
    assert_eq!(it.eval("return document.getElementById('system').value;", json!([])), "", "in all of it");
    it.say("second");
    assert_eq!(it.texts("#talks li button:first-child"), ["second", "first"], "all are listed");
    it.press("first");
    assert_eq!(it.said("user"), ["first"]);
    assert_eq!(it.eval("return document.getElementById('system').value;", json!([])), "Be brief.");
    it.press_first("Delete");
    assert_eq!(it.texts("#talks li button:first-child"), ["first"], "one is deleted");
    it.load();
    assert_eq!(it.texts("#talks li button:first-child"), ["first"], "for good");
    it.check_quiet();
}

fn the_language_is_chosen_and_remembered(world: &World) {
    let it = Chat::open(world, View::USUAL, QUICK);
    assert!(it.has_button("Send"));
    it.press("中文");
    assert!(it.has_button("发送") && !it.has_button("Send"));
    assert_eq!(it.eval("return document.documentElement.lang;", json!([])), "zh-CN");
    it.load();
    assert!(it.has_button("发送"), "it is remembered");
    it.press("English");
    assert!(it.has_button("Send"));
    it.check_quiet();
}

fn an_answer_grows_while_it_is_written(world: &World) {
    let it = Chat::open(world, View::USUAL, SLOW);
    it.set(&[("temperature", "0"), ("max_tokens", "900")]);
    it.send("Tell me everything.");
    let mut length = 0;
    for _ in 0..4 {
        length = it.grows(length);
    }
    it.click("#stop");
    it.rest();
    it.check_quiet();
}

fn the_readers_place_is_kept(world: &World) {
    let it = Chat::open(world, View::USUAL, SLOW);
    it.set(&[("temperature", "0"), ("max_tokens", "600")]);
    it.remember("mynah.conversations", &conversation(&["- x\n".repeat(100)]));
    it.is_ready();
    let top =
        "return [talk.scrollTop, talk.scrollHeight - talk.scrollTop - talk.clientHeight].map(Math.round);";
    let place = || it.eval(&format!("const talk = document.getElementById('talk'); {top}"), json!([]));
    it.send("Tell me everything.");
    assert_eq!(place()[1], 0, "who asks is at the end, at once");
    let mut length = it.grows(0);
    assert_eq!(place()[1], 0, "who is at the end sees what comes");
    it.eval("document.getElementById('talk').scrollTo({ top: 50, behavior: 'instant' });", json!([]));
    for _ in 0..3 {
        length = it.grows(length + 30);
    }
    assert_eq!(place()[0], 50, "who reads further up is left there");
    it.click("#stop");
    it.rest();
}

fn an_answer_is_stopped(world: &World) {
    let it = Chat::open(world, View::USUAL, SLOW);
    it.set(&[("temperature", "0")]);
    let by_key = |it: &Chat| it.browser().keys(ESCAPE);
    let stops: [&dyn Fn(&Chat); 2] = [&by_key, &|it| it.click("#stop")];
    for (number, stop) in stops.into_iter().enumerate() {
        it.send("Tell me everything.");
        let length = it.grows(0);
        world.server.lets_go(|| stop(&it));
        it.rest();
        assert!(it.length() >= length, "what was said stays");
        assert!(it.sees("#send") && !it.sees("#stop"));
        assert!(it.texts(".message:last-child .tools")[0].contains("stopped"));
        assert_eq!(it.said("user").len(), number + 1, "and the next is answered");
    }
    // Before anything was answered, too.
    it.send("And now?");
    world.server.lets_go(|| by_key(&it));
    it.rest();
    it.set(&[("max_tokens", "4")]);
    it.say("x");
    assert_eq!(it.said("user").len(), 4);
    it.check_quiet();
}

fn what_no_longer_fits_is_left_out_and_shown(world: &World) {
    let it = Chat::open(world, View::USUAL, QUICK);
    it.set(&[("max_tokens", "8"), ("temperature", "0")]);
    for turn in 1.. {
        assert!(turn < 20, "the context is never full");
        it.say("What is 2 + 3, please, and why do you say so?");
        assert_eq!(it.said("assistant").len(), turn, "every question is answered");
        if it.count(".left-out") > 0 {
            break;
        }
    }
    let left = it.count(".left-out");
    assert!(left.is_multiple_of(2), "a question and its answer go together");
    let told = it.texts("#status")[0].clone();
    assert!(told.contains(&format!("the first {left} messages are not sent")), "{told}");
    let first =
        "return [...document.querySelectorAll('.message')].findIndex((it) => !it.matches('.left-out'));";
    assert_eq!(it.eval(first, json!([])), left, "the oldest");
}

fn settings_are_sent_and_kept(world: &World) {
    let it = Chat::open(world, View::USUAL, QUICK);
    let fields =
        [("temperature", "0.5"), ("top_p", "0.9"), ("top_k", "7"), ("max_tokens", "5"), ("seed", "11")];
    it.set(&fields);
    it.set(&[("system", "Be brief.")]);
    it.show_why();
    it.say("What is 1 + 1?");
    it.press("Same again (curl)");
    let command = it.clipboard();
    for sent in [
        "\"temperature\":0.5",
        "\"top_p\":0.9",
        "\"top_k\":7",
        "\"max_tokens\":5",
        "\"seed\":11",
        "Be brief.",
    ] {
        assert!(command.contains(sent), "{sent} is not in {command}");
    }
    it.click(&format!("#model option[value={SLOW}]"));
    it.load();
    for (name, value) in fields {
        let shown = it.eval("return document.getElementById(arguments[0]).value;", json!([name]));
        assert_eq!(shown, value, "{name} is kept");
    }
    assert_eq!(it.eval("return document.getElementById('why').checked;", json!([])), true);
    assert_eq!(it.eval("return document.getElementById('model').value;", json!([])), SLOW);
    it.check_quiet();
}
