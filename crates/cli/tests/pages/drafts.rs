//! What raters have said so far outlives reloads and servers, and what they said can be said anew.

use serde_json::json;

use super::Tests;
use super::fixture::World;
use super::station::{Rank, Ranks, Station, items};
use super::webdriver::{ENTER, ESCAPE};

pub(crate) const TESTS: Tests = tests![
    a_reload_keeps_what_was_begun,
    a_server_that_was_killed_loses_nothing,
    an_answer_that_was_lost_makes_no_second_rating,
    what_was_said_is_said_anew,
    two_tabs_are_one_rater,
    the_language_changes_and_the_order_stays,
];

/// The draft of the item in hand as soon as it has this comment.
fn kept(station: &Station, comment: &str) -> serde_json::Value {
    let since = std::time::Instant::now();
    loop {
        let draft = station.draft();
        if draft["comment"] == comment {
            return draft;
        }
        assert!(since.elapsed().as_secs() < 30, "{comment:?} is not kept: {draft}");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

/// Types an order and a comment.
fn begins(it: &Rank<'_>, order: &str, comment: &str) {
    it.fill("#comment", comment);
    it.click("#conversation");
    it.keys(order);
}

fn comment(it: &Rank<'_>) -> serde_json::Value {
    it.eval("return document.getElementById('comment').value;", json!([]))
}

fn a_reload_keeps_what_was_begun(world: &World) {
    let station = Station::of("items.jsonl", &items(2), &[]);
    let it = Rank::open(world, &station);
    begins(&it, "3=12", "so far");
    kept(&station, "so far");
    let question = it.question();
    it.wait("performance.now() > 2500");
    it.reload();
    it.is_ready();
    assert_eq!(
        (it.question(), it.order().as_str(), comment(&it)),
        (question.clone(), "3=1›2", json!("so far"))
    );
    assert!(station.draft()["seconds"].as_u64() >= Some(1), "and the time: {}", station.draft());
    let shown = it.shown();
    it.keys(&format!("4{ENTER}"));
    it.says("Stored.");
    let wanted: Ranks =
        shown.into_iter().map(|(text, place)| (text, if place == 0 { 3 } else { place })).collect();
    assert_eq!(station.ranks(&question), wanted);
    let rating = &station.stored()[0]["rating"];
    assert!(rating["comment"] == "so far" && rating["seconds"].as_f64() >= Some(1.0), "{rating}");
    assert_eq!((it.order(), comment(&it)), (String::new(), json!("")), "the next one begins empty");
    it.check_quiet();
}

fn a_server_that_was_killed_loses_nothing(world: &World) {
    let station = Station::of("items.jsonl", &items(3), &[]);
    let it = Rank::open(world, &station);
    let submits = |reloads: bool, count: usize| {
        let comment_now = format!("comment {reloads}");
        begins(&it, "3142", &comment_now);
        kept(&station, &comment_now);
        let (question, shown) = (it.question(), it.shown());
        station.server.kill();
        for _ in 0..2 {
            it.keys(ENTER);
            it.says("Not stored");
        }
        station.server.restart();
        if reloads {
            it.reload();
            it.is_ready();
            assert_eq!(
                (it.question(), it.order().as_str(), comment(&it)),
                (question.clone(), "3›1›4›2", json!(comment_now))
            );
        }
        it.keys(ENTER);
        it.says("Stored.");
        assert_eq!((station.ranks(&question), station.ratings()), (shown, json!(count)), "it is stored once");
    };
    submits(true, 1);
    submits(false, 2);
}

/// The rating is on the disk and the answer does not come: nobody can tell which.
fn an_answer_that_was_lost_makes_no_second_rating(world: &World) {
    let station = Station::of("items.jsonl", &items(2), &[]);
    let it = Rank::open(world, &station);
    let loses = "const real = window.fetch;
        window.fetch = async (path, options) => {
            const answer = await real(path, options);
            if (!path.endsWith('/submit')) return answer;
            window.fetch = real;
            throw new TypeError('the answer was lost');
        };";
    it.eval(loses, json!([]));
    it.keys(&format!("1234{ENTER}"));
    it.says("Not stored");
    assert_eq!(station.ratings(), 1);
    it.keys(ENTER);
    it.says("Stored.");
    assert_eq!(station.ratings(), 1, "the same again is the same");

    it.eval(loses, json!([]));
    let question = it.question();
    it.keys(&format!("1234{ENTER}"));
    it.says("Not stored");
    it.keys(&format!("{ESCAPE}4321"));
    let shown = it.shown();
    it.keys(ENTER);
    it.says("Stored.");
    assert_eq!(station.ranks(&question), shown, "what was changed before the second try is not lost");
    it.check_quiet();
}

fn what_was_said_is_said_anew(world: &World) {
    let station = Station::of("items.jsonl", &items(4), &[]);
    let it = Rank::open(world, &station);
    it.keys("u");
    it.says("There is none before.");
    let first = it.question();
    begins(&it, "2=143", "not sure");
    it.keys(ENTER);
    it.says("Stored.");
    it.keys("bb");
    it.wait("document.getElementById('progress').innerText.startsWith('2 ')");
    let in_hand = it.question();
    it.keys("41");

    it.keys("u");
    it.says("You said that all are bad.");
    it.keys("u");
    it.says("You correct one that you ranked before.");
    assert_eq!(
        (it.question(), it.order().as_str(), comment(&it)),
        (first.clone(), "1=2›4›3", json!("not sure"))
    );
    it.keys(&format!("{ESCAPE}3412"));
    let shown = it.shown();
    it.keys(ENTER);
    it.says("Stored.");
    assert_eq!(
        (station.ranks(&first), station.ratings()),
        (shown, json!(3)),
        "both are kept, the last counts"
    );
    assert_eq!(
        (it.question(), it.order().as_str()),
        (in_hand, "4›1"),
        "what was in hand is there again, as it was"
    );
    it.check_quiet();
}

fn two_tabs_are_one_rater(world: &World) {
    let station = Station::of("items.jsonl", &items(2), &[]);
    let it = Rank::open(world, &station);
    begins(&it, "12", "in both");
    kept(&station, "in both");
    let question = it.question();
    let first = it.browser().tab();
    let second = it.browser().one_more_tab();
    it.browser().go(&format!("{}{}", station.server.origin, station.link("ada")));
    it.is_ready();
    assert_eq!((it.question(), it.order().as_str()), (question.clone(), "1›2"), "both show the same item");
    it.keys("34");
    it.browser().turn_to(&first);
    it.keys(&format!("43{ENTER}"));
    it.says("Stored.");
    it.browser().turn_to(&second);
    let shown = it.shown();
    it.keys(ENTER);
    it.says("Stored.");
    assert_eq!(
        (station.ranks(&question), station.ratings()),
        (shown, json!(2)),
        "the second corrects the first"
    );
    assert_eq!(station.stored().len(), 1, "one rater has ranked it once");
    let other = it.question();
    it.browser().turn_to(&first);
    assert_eq!(it.question(), other, "and both go on with the same");
    it.check_quiet();
}

fn the_language_changes_and_the_order_stays(world: &World) {
    let station = Station::of("items.jsonl", &items(1), &[]);
    let it = Rank::open(world, &station);
    begins(&it, "2=4", "so far");
    it.press("中文");
    assert_eq!((it.order().as_str(), comment(&it)), ("2=4", json!("so far")));
    assert_eq!(it.texts("#progress"), ["已排 0 题，还剩 1 题"]);
    assert!(it.texts("#guidelinesText")[0].contains("真实"), "the guidelines have both languages");
    assert!(it.has_button("回答 1: 接着排") && it.has_button("提交 ⏎"));
    it.keys(&format!("13{ENTER}"));
    it.wait("!document.getElementById('nothing').hidden");
    assert_eq!(it.texts("#nothing"), ["没有要排的了。谢谢！"]);
    it.press("English");
    assert_eq!(
        (it.texts("#nothing"), it.texts("#progress")),
        (vec!["Nothing is left to rank. Thank you!".to_owned()], vec!["1 ranked, 0 to go".to_owned()])
    );
    it.check_quiet();
}
