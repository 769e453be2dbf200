//! The chat page that is left or loaded again in the middle of an answer.

use std::time::{Duration, Instant};

use serde_json::json;

use super::Tests;
use super::chat::Chat;
use super::fixture::{KEY, SLOW, World};
use super::page::View;

pub(crate) const TESTS: Tests = tests![
    an_answer_goes_on_when_the_page_is_loaded_again,
    what_was_shown_of_each_word_goes_on_too,
    an_answer_is_stopped_after_a_reload,
    the_conversation_that_was_being_answered_is_shown,
    an_answer_that_the_server_has_no_more_is_told,
    an_answer_goes_on_once_the_key_is_given,
];

const QUESTION: &str = "Tell me everything.";

/// The page in the middle of an answer of so many tokens, and how much of it was there.
fn asked<'w>(world: &'w World, tokens: &str, why: bool) -> (Chat<'w>, usize) {
    let it = Chat::open(world, View::USUAL, SLOW);
    it.set(&[("temperature", "0"), ("max_tokens", tokens)]);
    if why {
        it.show_why();
    }
    it.send(QUESTION);
    let length = it.grows(0);
    let length = it.grows(length);
    (it, length)
}

fn an_answer_goes_on_when_the_page_is_loaded_again(world: &World) {
    let whole = world.server.answer(SLOW, QUESTION, json!({ "temperature": 0, "max_tokens": 500 }));
    let (it, mut length) = asked(world, "500", false);
    for _ in 0..2 {
        it.load();
        assert!(it.length() >= length, "what had come is still there");
        length = it.grows(length);
        assert_eq!(it.said("user"), [QUESTION]);
    }
    let stream = it.kept()["stream"]["id"].as_str().expect("a stream").to_owned();
    it.rest();
    assert_eq!(it.said("assistant").len(), 1);
    assert_eq!(it.kept()["content"], whole, "nothing is lost, nothing comes twice");
    assert!(it.texts(".message:last-child .tools")[0].contains("500 tokens"));
    assert_eq!(it.kept()["stream"], json!(null));
    // The server is told that it need not keep it.
    let since = Instant::now();
    while world.server.get(&format!("/v1/streams/{stream}")).0 != 404 {
        assert!(since.elapsed() < Duration::from_secs(30), "it is kept");
        std::thread::sleep(Duration::from_millis(20));
    }
    it.load();
    assert_eq!(it.kept()["content"], whole);
    assert!(!it.sees("#stop"));
    it.check_quiet();
}

fn what_was_shown_of_each_word_goes_on_too(world: &World) {
    let (it, _) = asked(world, "300", true);
    assert!(it.count(".token") < 300);
    it.load();
    it.rest();
    assert_eq!(it.count(".token"), 300, "each token once");
    it.check_quiet();
}

fn an_answer_is_stopped_after_a_reload(world: &World) {
    let (it, length) = asked(world, "900", false);
    it.load();
    it.grows(length);
    world.server.lets_go(|| it.click("#stop"));
    it.rest();
    assert!(it.texts(".message:last-child .tools")[0].contains("stopped"));
    let length = it.length();
    it.load();
    assert_eq!(it.length(), length);
    assert!(!it.sees("#stop"), "for good");
    it.check_quiet();
}

fn the_conversation_that_was_being_answered_is_shown(world: &World) {
    let it = Chat::open(world, View::USUAL, SLOW);
    it.set(&[("temperature", "0"), ("max_tokens", "4")]);
    it.say("older");
    it.click("#new");
    it.say("newer");
    it.press("older");
    it.set(&[("max_tokens", "900")]);
    it.send(QUESTION);
    let length = it.grows(0);
    it.load();
    it.grows(length);
    assert_eq!(it.said("user"), ["older", QUESTION]);
    world.server.lets_go(|| it.press("newer"));
    it.rest();
    assert_eq!(it.said("user"), ["newer"]);
    it.check_quiet();
}

/// As after a day: the server keeps what nobody reads for a minute.
fn an_answer_that_the_server_has_no_more_is_told(world: &World) {
    let (it, length) = asked(world, "900", false);
    let stream = it.kept()["stream"]["id"].as_str().expect("a stream").to_owned();
    let delete = "return fetch(`/v1/streams/${arguments[0]}`, { method: 'DELETE' }).then(() => true);";
    world.server.lets_go(|| assert_eq!(it.eval(delete, json!([stream])), true));
    it.rest();
    assert!(it.texts("#status")[0].contains("connection was lost"));
    it.load();
    it.rest();
    assert!(it.length() >= length, "what had come stays");
    assert!(it.texts(".message:last-child .tools")[0].contains("connection was lost"));
    assert_eq!(it.kept()["stream"], json!(null), "it is not asked for again");
}

/// The key is in no storage: it is asked for again, and then the answer goes on.
fn an_answer_goes_on_once_the_key_is_given(world: &World) {
    let it = Chat::locked(world);
    let asks = "document.getElementById('key').open";
    let unlock = |key: &str| {
        it.wait(asks);
        it.fill("#keyInput", key);
        it.press("Use it");
    };
    unlock("wrong");
    unlock(KEY);
    it.is_ready();
    it.set(&[("temperature", "0"), ("max_tokens", "500")]);
    it.send(QUESTION);
    let length = it.grows(0);
    it.reload();
    it.wait(asks);
    assert!(it.length() >= length);
    unlock(KEY);
    it.grows(length);
    it.rest();
    assert!(it.texts(".message:last-child .tools")[0].contains("500 tokens"));
    let all = "return [localStorage, sessionStorage].flatMap((it) =>
        Array.from(it, (_, at) => it.getItem(it.key(at)))).concat(document.cookie).join();";
    let kept = it.eval(all, json!([]));
    let kept = kept.as_str().expect("text");
    assert!(kept.contains(QUESTION) && !kept.contains(KEY) && !kept.contains("wrong"), "{kept}");
}
