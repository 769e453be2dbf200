//! What stands behind an answer on the chat page: why each word, why its reward, what it came of.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Tests;
use super::chat::Chat;
use super::fixture::{OLDER, QUICK, SLOW, World};
use super::page::View;
use super::webdriver::{ENTER, ESCAPE, TAB};

pub(crate) const TESTS: Tests = tests![
    each_word_shows_what_else_there_was,
    the_bars_are_the_probabilities_of_a_draw,
    another_word_goes_on_from_the_very_tokens,
    rewards_are_shown_token_by_token,
    an_answer_comes_again_byte_for_byte,
    a_stopped_answer_comes_again_as_far_as_it_went,
];

impl Chat<'_> {
    /// What the server answers to a body.
    fn told(&self, path: &str, body: &Value) -> Value {
        let ask =
            "return fetch(arguments[0], { method: 'POST', headers: { 'Content-Type': 'application/json' },
            body: JSON.stringify(arguments[1]) }).then((response) => response.json());";
        self.eval(ask, json!([path, body]))
    }

    /// Opens what else there was in place of a token, by keyboard.
    fn open_word(&self, at: usize) {
        self.eval("document.querySelectorAll('.token')[arguments[0]].focus();", json!([at]));
        self.browser().keys(ENTER);
        self.wait("document.getElementById('choices').matches(':popover-open')");
    }

    fn bars(&self) -> Vec<f64> {
        let bars = "return [...document.querySelectorAll('#options meter')].map((it) => it.value);";
        serde_json::from_value(self.eval(bars, json!([]))).expect("numbers")
    }
}

/// An answer whose words are shown.
fn worded<'w>(world: &'w World, temperature: &str) -> Chat<'w> {
    let it = Chat::open(world, View::USUAL, QUICK);
    it.set(&[("max_tokens", "12"), ("seed", "3"), ("temperature", temperature)]);
    it.show_why();
    it.say("What is 4 + 4?");
    it
}

/// The body that asks for the distribution before a token of an answer.
fn before(answer: &Value, at: usize) -> Value {
    let tokens = answer["tokens"].as_array().expect("tokens");
    let ids: Vec<&Value> = tokens[..at].iter().map(|token| &token["id"]).collect();
    json!({ "model": answer["model"], "messages": answer["request"]["messages"], "continue_tokens": ids })
}

fn each_word_shows_what_else_there_was(world: &World) {
    // So cold that each word is among the likeliest, whatever the precision.
    let it = worded(world, "0.1");
    let tokens = it.count(".token");
    assert!(tokens > 2, "each token is shown: {tokens}");
    // A character of several tokens stands at its last one; one that is never whole is told at the end.
    let (shown, answer) = (it.texts(".token").concat().replace('·', ""), it.kept());
    assert_eq!(shown, answer["content"].as_str().expect("text").trim_end_matches('\u{fffd}'));
    it.open_word(1);
    let choices = it.texts("#options button");
    assert_eq!(choices.len(), 20, "the likeliest twenty");
    assert!(it.bars().is_sorted_by(|a, b| a >= b), "{:?}", it.bars());
    assert!(choices.iter().any(|choice| choice.contains('✓')), "what it said is marked: {choices:?}");
    it.browser().keys(ESCAPE);
    it.wait("!document.getElementById('choices').matches(':popover-open')");
    it.check_quiet();
}

fn the_bars_are_the_probabilities_of_a_draw(world: &World) {
    let it = worded(world, "1.5");
    it.open_word(2);
    let asked = before(&it.kept(), 2);
    let shown = it.eval("return document.getElementById('diceTemperature').value;", json!([]));
    assert_eq!(shown, "1.5", "at first those of the answer");
    for how in [
        json!({}),
        json!({ "temperature": 0.5 }),
        json!({ "temperature": 1, "top_k": 5 }),
        json!({ "temperature": 1, "top_k": 0, "top_p": 0.5 }),
        json!({ "temperature": 1.8, "top_k": 12, "top_p": 0.85 }),
        json!({ "temperature": 0 }),
    ] {
        let set = "for (const [name, field] of [['temperature', 'Temperature'], ['top_k', 'TopK'], ['top_p', 'TopP']]) {
                const it = document.getElementById(`dice${field}`);
                if (arguments[0][name] === undefined) continue;
                it.value = arguments[0][name];
                it.dispatchEvent(new Event('input', { bubbles: true }));
            }
            return Object.fromEntries(['Temperature', 'TopK', 'TopP'].map((it) => [it, document.getElementById(`dice${it}`).value]));";
        let fields = it.eval(set, json!([how]));
        let number = |name: &str| fields[name].as_str().expect("text").parse::<f64>().expect("a number");
        let mut body = asked.clone();
        (body["temperature"], body["top_p"]) = (json!(number("Temperature")), json!(number("TopP")));
        body["top_k"] = json!(number("TopK") as u64);
        let told = it.told("/v1/distribution", &body);
        let tokens = told["tokens"].as_array().unwrap_or_else(|| panic!("{told}"));
        for (bar, token) in it.bars().iter().zip(tokens) {
            let drawn = token["probability"].as_f64().expect("a number");
            assert!((bar - drawn).abs() < 1e-6, "{fields}: {bar}, {drawn}");
        }
    }
    it.check_quiet();
}

fn another_word_goes_on_from_the_very_tokens(world: &World) {
    let it = worded(world, "1.5");
    let first = it.kept();
    it.open_word(2);
    let told = it.told("/v1/distribution", &before(&first, 2));
    // By keyboard: the next of those that do not end the answer.
    let mut others = told["tokens"].as_array().expect("tokens").iter().filter(|token| token["ends"] == false);
    let chosen = others.nth(1).expect("another")["id"].clone();
    it.browser().keys(TAB);
    it.browser().keys(ENTER);
    it.rest();
    let next = it.kept();
    let ids = |answer: &Value| -> Vec<Value> {
        answer["tokens"].as_array().expect("tokens").iter().map(|token| token["id"].clone()).collect()
    };
    let begun = [&ids(&first)[..2], &[chosen]].concat();
    assert_eq!(next["request"]["continue_tokens"], json!(begun));
    assert_eq!(ids(&next)[..3], begun, "they are shown, too");
    assert_eq!(it.count(".token"), ids(&next).len());
    assert!(it.texts(".message:last-child .tools")[0].contains("2/2"), "beside the first answer");
    // And once more from there, with the model and the words that it came of.
    it.set(&[("system", "Be brief.")]);
    it.click(&format!("#model option[value={SLOW}]"));
    it.open_word(3);
    it.browser().keys(TAB);
    it.browser().keys(ENTER);
    it.rest();
    let last = it.kept();
    assert_eq!(ids(&last)[..3], begun);
    assert_eq!(
        (&last["model"], &last["request"]["messages"]),
        (&first["model"], &first["request"]["messages"])
    );
    it.check_quiet();
}

fn rewards_are_shown_token_by_token(world: &World) {
    let it = worded(world, "1");
    let answer = it.kept();
    it.press("Reward");
    it.wait("document.querySelectorAll('.reward svg').length === 2");
    assert_eq!(it.texts(".reward figcaption"), ["What the reward model would say if the answer ended here"]);
    let mut messages = answer["request"]["messages"].clone();
    let said = json!({ "role": "assistant", "content": answer["content"] });
    messages.as_array_mut().expect("messages").push(said);
    let lasts: BTreeMap<String, String> =
        it.texts(".of-model span").into_iter().zip(it.texts(".of-model strong")).collect();
    for (at, model) in [OLDER, "reward"].into_iter().enumerate() {
        let told = it.told("/v1/score", &json!({ "model": model, "messages": messages, "per_token": true }));
        let (score, tokens) =
            (&told["data"][0]["score"], told["data"][0]["tokens"].as_array().expect("tokens"));
        let rounded = |score: &Value| format!("{:.3}", score.as_f64().expect("a number"));
        assert_eq!(lasts[model], rounded(score), "the last is that of the whole answer");
        let table = format!(".reward details:nth-of-type({}) td:last-child", at + 1);
        it.eval(
            "document.querySelectorAll('.reward details').forEach((it) => { it.open = true; });",
            json!([]),
        );
        assert_eq!(it.texts(&table), tokens.iter().map(|it| rounded(&it["score"])).collect::<Vec<_>>());
        let label = it.eval(
            "return document.querySelectorAll('.reward svg')[arguments[0]].getAttribute('aria-label');",
            json!([at]),
        );
        let label = label.as_str().expect("a text in place of the picture");
        assert!(label.contains(model) && label.contains(&rounded(score)), "{label}");
    }
    it.press("Reward");
    assert_eq!(it.count(".reward"), 0, "and they are hidden again");
    it.check_quiet();
}

impl Chat<'_> {
    /// Presses a button of what an answer came of: what is said then.
    fn ask_again(&self) -> String {
        self.press("Same again");
        self.wait("/\\.$/.test(document.querySelector('.message:last-child .origin p').innerText)");
        self.texts(".message:last-child .origin p").concat()
    }
}

fn an_answer_comes_again_byte_for_byte(world: &World) {
    let it = Chat::open(world, View::USUAL, QUICK);
    it.set(&[("max_tokens", "12"), ("temperature", "1"), ("top_k", "30")]);
    it.say("Who are you?");
    it.press("How it came about");
    it.wait("/f32|bf16/.test(document.querySelector('.origin dd:last-child').innerText)");
    let told = it.texts(".origin dl").concat();
    let answer = it.kept();
    for part in [
        QUICK,
        answer["fingerprint"].as_str().expect("a text"),
        &answer["seed"].to_string(),
        "temperature 1, top_k 30, max_tokens 12",
    ] {
        assert!(told.contains(part), "{part} is not in {told:?}");
    }
    let bytes = answer["content"].as_str().expect("text").len();
    assert_eq!(it.ask_again(), format!("The same {bytes} bytes."));
    it.check_quiet();
    // An answer that it did not give is not the same.
    let kept = it.eval("return localStorage.getItem('mynah.conversations');", json!([]));
    let mut talks: Value = serde_json::from_str(kept.as_str().expect("text")).expect("JSON");
    let nodes = talks[0]["nodes"].as_object_mut().expect("messages");
    let answer = nodes.values_mut().find(|node| node["role"] == "assistant").expect("an answer");
    answer["content"] = format!("{} more", answer["content"].as_str().expect("text")).into();
    it.remember("mynah.conversations", &talks.to_string());
    it.wait("document.querySelector('#model option')");
    it.press("How it came about");
    assert_eq!(it.ask_again(), format!("Not the same from byte {bytes} on."));
}

fn a_stopped_answer_comes_again_as_far_as_it_went(world: &World) {
    let it = Chat::open(world, View::USUAL, SLOW);
    // Without a seed an answer may be over before it can be stopped.
    it.set(&[("temperature", "1"), ("seed", "3")]);
    it.send("Tell me everything.");
    it.grows(20);
    it.browser().keys(ESCAPE);
    it.rest();
    it.press("How it came about");
    let bytes = it.kept()["content"].as_str().expect("text").len();
    assert_eq!(it.ask_again(), format!("The same {bytes} bytes."));
    world.server.rest();
    it.check_quiet();
}
