//! The ranking page at `/rank`: what raters do there, and that what is stored is what they saw.

use std::time::Instant;

use serde_json::{Value, json};

use super::Tests;
use super::fixture::World;
use super::station::{Rank, Ranks, Station, by_text, items};
use super::webdriver::{BACKSPACE, ENTER, ESCAPE};

pub(crate) const TESTS: Tests = tests![
    five_keys_rank_four_answers,
    digits_are_where_the_keyboard_has_them,
    nothing_fires_while_a_comment_is_typed,
    buttons_rank_with_and_without_a_pointer,
    answers_are_dragged_into_order,
    a_thousand_rankings_are_stored_as_they_were_shown,
    enter_stores_what_was_said_and_nothing_else,
    ten_items_are_ranked_as_fast_as_somebody_types,
];

/// Submits what is shown: it is what is stored.
fn submits(it: &Rank<'_>, station: &Station) {
    let (question, shown) = (it.question(), it.shown());
    it.keys(ENTER);
    it.says("Stored.");
    assert_eq!(station.ranks(&question), shown);
}

fn five_keys_rank_four_answers(world: &World) {
    let station = Station::of("items.jsonl", &items(3), &[]);
    let it = Rank::open(world, &station);
    let (question, texts) = (it.question(), it.texts(".answer .text"));
    it.keys(&format!("2143{ENTER}"));
    it.says("Stored.");
    let wanted: Ranks =
        [1, 0, 3, 2].into_iter().zip(1..).map(|(at, rank): (usize, u64)| (texts[at].clone(), rank)).collect();
    assert_eq!(station.ranks(&question), wanted, "the order of liking is the order of keys");
    assert!(it.progress().starts_with("1 ranked, 2 to go"), "{}", it.progress());

    it.keys("2=14");
    assert_eq!(it.order(), "2=1›4");
    assert_eq!(it.status(), "Order: 2 and 1, then 4");
    it.keys("2");
    assert!(it.order() == "2=1›4" && it.status().contains("already placed"), "{}", it.status());
    it.keys(BACKSPACE);
    assert_eq!(it.order(), "2=1", "Backspace takes the last one back");
    it.keys(ESCAPE);
    assert_eq!(it.order(), "", "and Escape all");
    it.keys("4=31=2");
    assert_eq!(it.order(), "4=3›1=2");
    submits(&it, &station);

    it.press("Keys (?)");
    it.wait("document.getElementById('help').open");
    it.keys(ESCAPE);
    it.wait("!document.getElementById('help').open");
    it.keys("1234");
    submits(&it, &station);
    assert_eq!(it.texts("#nothing"), ["Nothing is left to rank. Thank you!"]);
    assert!(it.progress().starts_with("3 ranked, 0 to go"), "the last one is counted: {}", it.progress());
    it.press("The one before (U)");
    it.is_ready();
    assert_eq!(it.order(), "1›2›3›4", "and can be undone by a button too");
    it.check_quiet();
}

/// On a French keyboard the digits' keys write other characters.
fn digits_are_where_the_keyboard_has_them(world: &World) {
    let station = Station::of("items.jsonl", &items(1), &[]);
    let it = Rank::open(world, &station);
    for (key, code) in [("é", "Digit2"), ("&", "Digit1"), ("'", "Digit4"), ("3", "Numpad3")] {
        for kind in ["keyDown", "keyUp"] {
            it.browser().cdp("Input.dispatchKeyEvent", json!({ "type": kind, "key": key, "code": code }));
        }
    }
    assert_eq!(it.order(), "2›1›4›3");
    submits(&it, &station);
    it.check_quiet();
}

fn nothing_fires_while_a_comment_is_typed(world: &World) {
    let station = Station::of("items.jsonl", &items(2), &[]);
    let it = Rank::open(world, &station);
    let comment = "1=2 b b s u ? 3";
    it.fill("#comment", &format!("{comment}{ENTER}4"));
    assert_eq!((it.order().as_str(), station.ratings()), ("", json!(0)));
    it.click("#conversation");
    it.keys("31");
    assert_eq!(it.order(), "3›1");
    it.keys("24");
    submits(&it, &station);
    assert_eq!(station.stored()[0]["rating"]["comment"], format!("{comment}\n4"));
    // Nor while the reason is typed why it is skipped.
    it.keys("s");
    it.wait("document.getElementById('why').open");
    it.keys(&format!("12 bbu{ENTER}"));
    it.says("Stored.");
    assert_eq!((station.ratings(), station.stored().len()), (json!(2), 1), "what is skipped is no ranking");
    it.check_quiet();
}

fn buttons_rank_with_and_without_a_pointer(world: &World) {
    let station = Station::of("items.jsonl", &items(2), &[]);
    let it = Rank::open(world, &station);
    it.press("Answer 3: next best");
    it.press("Answer 1: next best");
    it.press("Answer 4: as good as the last");
    it.press("Answer 2: next best");
    assert_eq!(it.order(), "3›1=4›2");
    it.press("Answer 1: take out");
    assert_eq!(it.order(), "3›4›2");
    it.press("Answer 1: next best");
    it.press("Take back ⌫");
    it.press("Answer 1: next best");
    // Enter is not the pressed button's.
    submits(&it, &station);
    // Who has no pointer stays at the answer whose button they pressed.
    for (answer, wanted) in [(2, "2"), (1, "2›1")] {
        let focus = "[...document.querySelectorAll('.tools button')].find((it) => it.ariaLabel === arguments[0]).focus();";
        it.eval(focus, json!([format!("Answer {answer}: next best")]));
        it.keys(" ");
        assert_eq!(it.order(), wanted);
        let focused = it.eval("return document.activeElement.ariaLabel;", json!([]));
        assert_eq!(focused, format!("Answer {answer}: take out"));
    }
    it.check_quiet();
}

fn answers_are_dragged_into_order(world: &World) {
    let station = Station::of("items.jsonl", &items(1), &[]);
    let it = Rank::open(world, &station);
    let order = |from: &str, to: &str, wanted: &str| {
        it.drag(from, to);
        assert_eq!(it.order(), wanted, "{from} was dragged to {to}");
    };
    order("#answer-2", "#order .gap", "2");
    order("#answer-4", "#order .gap:last-child", "2›4");
    order("#answer-1", "#order .gap", "1›2›4");
    order("#answer-3", "#order .chip:nth-of-type(4)", "1›2=3›4");
    order("#order .chip:nth-of-type(8)", "#order .gap", "4›1›2=3");
    order("#answer-2", "#order .gap:nth-of-type(3)", "4›2›1›3");
    submits(&it, &station);
    it.check_quiet();
}

/// Ranks one item after another at random, and returns what each page showed when it was submitted. Some
/// answers are left out: the page says how many come last.
const AT_RANDOM: &str = "
    let [state, count] = arguments;
    const below = (n) => { state = (Math.imul(state, 1664525) + 1013904223) >>> 0; return Math.floor((state / 2 ** 32) * n); };
    const press = (key) => document.body.dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true, cancelable: true }));
    const status = document.getElementById('status');
    const seen = [];
    for (let i = 0; i < count; i++) {
        const cards = [...document.querySelectorAll('.answer')];
        const digits = cards.map((_, at) => String(at + 1)).sort(() => below(2) - 0.5);
        if (below(4) === 0) digits.length = 1 + below(digits.length);
        digits.forEach((digit, at) => { if (at && below(3) === 0) press('='); press(digit); });
        const answers = cards.map((it) => [it.querySelector('.text').innerText, it.querySelector('.place').innerText]);
        const left = cards.length - digits.length;
        seen.push({ question: document.querySelector('.turn.user').lastChild.textContent, answers });
        const next = new Promise((done, fail) => {
            const changes = { childList: true, subtree: true, attributes: true };
            new MutationObserver((_, it) => { it.disconnect(); done(); }).observe(document.querySelector('main'), changes);
            setTimeout(() => fail(new Error(status.innerText)), 20_000);
        });
        press('Enter');
        if (left) {
            if (!status.innerText.startsWith(`${left} not ranked`)) throw new Error(status.innerText);
            press('Enter');
        }
        await next;
        if (document.getElementById('item').hidden) break;
    }
    return seen;";

fn a_thousand_rankings_are_stored_as_they_were_shown(world: &World) {
    let answers = |i: usize| (0..2 + i % 8).map(|k| format!("{k}, to {i}")).collect();
    let items: Vec<(String, Vec<String>)> =
        (0..1000).map(|i| (format!("what is {i}?"), answers(i))).collect();
    let station = Station::of("items.jsonl", &items, &[]);
    let it = Rank::open(world, &station);
    let script = format!("return (async (...arguments) => {{ {AT_RANDOM} }})(...arguments);");
    let (since, mut seen) = (Instant::now(), Vec::<Value>::new());
    // Some are asked a second time, which is told apart from what counts.
    while it.sees("#item") {
        let more = it.eval(&script, json!([seen.len() + 1, 100]));
        seen.extend(more.as_array().expect("a list").iter().cloned());
    }
    println!("{} rankings took {:.1} s", seen.len(), since.elapsed().as_secs_f64());
    let stored = station.stored();
    assert_eq!(stored.len(), 1000, "each item once");
    for row in &stored {
        let question = &row["messages"][0]["content"];
        let shown = seen.iter().find(|it| it["question"] == *question).expect("it was shown");
        assert_eq!(by_text(row), last_ones_ranked(shown), "{question}");
    }
    it.check_quiet();
}

/// Ranks of what was shown: answers without a place come after all others.
fn last_ones_ranked(shown: &Value) -> Ranks {
    let place = |it: &Value| it.as_str().and_then(|it| it.strip_prefix("place ")?.parse::<u64>().ok());
    let answers = shown["answers"].as_array().expect("a list");
    let last = answers.iter().filter_map(|it| place(&it[1])).max().expect("something is ranked") + 1;
    let ranks =
        answers.iter().map(|it| (it[0].as_str().expect("a text").to_owned(), place(&it[1]).unwrap_or(last)));
    ranks.collect()
}

fn enter_stores_what_was_said_and_nothing_else(world: &World) {
    let station = Station::of("items.jsonl", &items(3), &[]);
    let it = Rank::open(world, &station);
    it.keys(&format!("{ENTER}{ENTER}"));
    assert_eq!((it.status().as_str(), station.ratings()), ("Nothing is ranked yet.", json!(0)));

    it.keys(&format!("3{ENTER}"));
    assert_eq!(it.status(), "3 not ranked: Enter again puts them last, as equals.");
    assert_eq!(station.ratings(), 0);
    // What was changed meanwhile is said again.
    it.keys(&format!("1{ENTER}"));
    assert_eq!(it.status(), "2 not ranked: Enter again puts them last, as equals.");
    assert_eq!(station.ratings(), 0);
    let (question, texts) = (it.question(), it.texts(".answer .text"));
    it.keys(ENTER);
    it.says("Stored.");
    let wanted: Ranks = texts.into_iter().zip([2, 3, 1, 3]).collect();
    assert_eq!(station.ranks(&question), wanted);

    it.keys("b");
    assert!(it.status().contains("B again") && station.ratings() == 1, "{}", it.status());
    it.keys("b");
    it.says("Stored.");
    let bad = station.stored().pop().expect("a row");
    assert_eq!((&bad["rating"]["all_bad"], &bad["ranks"]), (&json!(true), &json!([1, 1, 1, 1])));

    // Without a reason nothing is skipped.
    for reason in ["", "  "] {
        it.keys("s");
        it.wait("document.getElementById('why').open");
        it.keys(&format!("{reason}{ENTER}"));
        it.wait("!document.getElementById('why').open");
        assert_eq!(station.ratings(), 2);
    }
    // A key that comes before the next frame is drawn, when the dialog's field still has the focus, is not lost.
    it.keys("s");
    it.wait("document.getElementById('why').open");
    let at_once = "document.querySelector('#why [value=skip]').click();\
        const key = new KeyboardEvent('keydown', { key: 's', bubbles: true });\
        document.activeElement.dispatchEvent(key);\
        return document.getElementById('why').open;";
    assert_eq!(it.eval(at_once, json!([])), true);
    it.keys(ESCAPE);
    it.wait("!document.getElementById('why').open");
    it.press("Skip (S)");
    it.wait("document.getElementById('why').open");
    it.keys(&format!("not my field{ENTER}"));
    it.wait("!document.getElementById('nothing').hidden");
    assert_eq!((station.ratings(), station.stored().len()), (json!(3), 2));
    it.check_quiet();
}

/// From the command to the tenth ranking, the time in which somebody reads left out.
fn ten_items_are_ranked_as_fast_as_somebody_types(world: &World) {
    let since = Instant::now();
    let station = Station::of("items.jsonl", &items(20), &[]);
    let started = since.elapsed();
    let it = Rank::open(world, &station);
    let opened = since.elapsed();
    for (count, keys) in ["2143", "1234", "4=321", "3=1=24", "12=34"].iter().cycle().take(10).enumerate() {
        it.keys(&format!("{keys}{ENTER}"));
        it.says("Stored.");
        // How many are to go depends on chance, by which one is asked a second time.
        let wanted = format!("{} ranked, ", count + 1);
        assert!(it.progress().starts_with(&wanted), "{}", it.progress());
    }
    let seconds = |time: std::time::Duration| format!("{:.1} s", time.as_secs_f64());
    let whole = since.elapsed();
    println!(
        "ten rankings: {} of the machine's, of which {} until `mynah rank` listens and {} until an item is seen",
        seconds(whole),
        seconds(started),
        seconds(opened - started)
    );
    assert!(whole.as_secs() < 30, "somebody would wait: {whole:?}");
    assert_eq!(station.ratings(), 10);
}
