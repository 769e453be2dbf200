//! The loop as a whole, by a rater who is a script: two hundred rankings in the browser, a reward model and PPO, killed in the
//! middle, blind votes, the new model better than the old. It takes some ten minutes, and runs when it is told where the model is.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Tests;
use super::chat::Chat;
use super::feedback::compares;
use super::fixture::{Server, World};
use super::learn::{offers, steps, worker};
use super::page::{Page, View};
use super::station::Rank;
use super::webdriver::ENTER;

pub(crate) const TESTS: Tests = tests![two_hundred_rankings_make_a_model_that_people_prefer];

const MODELS: &str = "MYNAH_LOOP";
const RANKINGS: usize = 200;
/// Of so many rankings one is said the wrong way round.
const SLIP: usize = 20;
const VOTES: usize = 150;

/// The folder of the model that writes reviews.
///
/// # Errors
/// Nobody says where: how it is made.
pub(crate) fn models() -> Result<(), String> {
    let missing =
        || format!("it takes ten minutes: tools/alarm.py --dir DIR --only-model, then {MODELS}=DIR");
    std::env::var_os(MODELS).map(drop).ok_or_else(missing)
}

/// Somebody who likes films that were liked.
struct Rater {
    good: BTreeSet<String>,
    bad: BTreeSet<String>,
}

impl Rater {
    fn score(&self, text: &str) -> f64 {
        let lower = text.to_lowercase();
        let words: Vec<&str> = lower.split(|c: char| !c.is_alphabetic()).collect();
        let of = |known: &BTreeSet<String>| words.iter().filter(|word| known.contains(**word)).count() as f64;
        let (good, bad) = (of(&self.good), of(&self.bad));
        (good - bad) / (good + bad).max(1.0)
    }

    /// The keys that rank answers, best first; `turned` for a slip.
    fn keys(&self, answers: &[String], turned: bool) -> String {
        let mut scored: Vec<(f64, usize)> = answers.iter().map(|text| self.score(text)).zip(1..).collect();
        scored.sort_by(|a, b| if turned { a.0.total_cmp(&b.0) } else { b.0.total_cmp(&a.0) });
        let mut keys = String::new();
        for (i, (score, digit)) in scored.iter().enumerate() {
            if i > 0 && scored[i - 1].0 == *score {
                keys.push('=');
            }
            keys += &digit.to_string();
        }
        keys + ENTER
    }
}

/// Waits for what takes minutes.
fn wait_long(it: &Page<'_>, expression: &str) {
    let since = Instant::now();
    while it.eval(&format!("return Boolean({expression});"), json!([])) != true {
        assert!(since.elapsed() < Duration::from_secs(1800), "it does not come to be: {expression}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Pictures of a page for `docs/feedback.md` in both languages, where somebody wants them.
fn pictures(world: &World, server: &Server, path: &str, name: &str, show: impl Fn(&Page<'_>)) {
    for language in ["en", "zh-CN"] {
        let it = Page::of(server, world, path, View { language, ..View::USUAL });
        show(&it);
        it.picture(name);
    }
}

fn ask(it: &Page<'_>, path: &str) -> Value {
    it.eval("return fetch(arguments[0]).then((it) => it.json());", json!([path]))
}

fn two_hundred_rankings_make_a_model_that_people_prefer(world: &World) {
    let made = PathBuf::from(std::env::var_os(MODELS).expect("a folder"));
    let words: Value =
        serde_json::from_slice(&fs::read(made.join("words.json")).expect("a file")).expect("JSON");
    let of = |name: &str| serde_json::from_value(words[name].clone()).expect("words");
    let rater = Rater { good: of("good"), bad: of("bad") };
    let candidates = fs::read_to_string(made.join("candidates.jsonl")).expect("a file");
    let prompt = |line: &str| {
        let row: Value = serde_json::from_str(line).expect("JSON");
        row["messages"][0]["content"].as_str().expect("a text").to_owned()
    };
    let (first, rest): (Vec<(usize, &str)>, Vec<_>) =
        candidates.lines().enumerate().partition(|(i, _)| *i < RANKINGS);
    let dir = tempfile::tempdir().expect("a directory");
    let at = |name: &str| dir.path().join(name);
    let lines: String = first.iter().map(|(_, line)| format!("{line}\n")).collect();
    fs::write(at("candidates.jsonl"), lines).expect("a file");
    let (file, store) =
        (at("candidates.jsonl").display().to_string(), at("feedback.db").display().to_string());
    // Whoever offers items to rank need not serve models.
    drop(Server::start(
        &["rank", "--candidates", &file, "--store", &store, "--overlap", "0"],
        &at("rank.log"),
    ));
    let model = format!("sft={}", made.join("sft").display());
    let server = Server::serve(&["--model", &model, "--store", &store], &at("serve.log")).expect("it starts");

    pictures(world, &server, "/rank", "loop-rank", |it| {
        it.wait("!document.getElementById('item').hidden");
        it.browser().keys("2=4");
    });
    let since = Instant::now();
    let slips = rank_all(world, &server, &rater);
    println!(
        "\n{RANKINGS} rankings in {:.0} s, {} of them slips",
        since.elapsed().as_secs_f64(),
        slips.len()
    );
    let since = Instant::now();
    learn(world, &server, &dir.path().join("feedback.learned/ppo-1"));
    println!("learned in {:.0} s, killed three times", since.elapsed().as_secs_f64());

    let it = Page::of(&server, world, "/learn", View::USUAL);
    wait_long(&it, "document.querySelector('.doubts details')");
    let doubts = ask(&it, "/v1/doubts/ppo-1")["doubts"].take();
    let asked = |doubt: &Value| doubt["messages"][0]["content"].as_str().expect("a text").to_owned();
    let found =
        doubts["rankings"].as_array().expect("a list").iter().filter(|it| slips.contains(&asked(it))).count();
    println!("of the first 20 that the reward model doubts {found} are slips, of {}", slips.len());

    compared(world, &server);
    let it = Page::of(&server, world, "/learn", View::USUAL);
    offers(&it, "Compare blind in the chat");
    let since = Instant::now();
    it.press("Compare blind in the chat");
    it.wait("location.pathname === '/'");
    let chat = Chat::from(it);
    vote(&chat, &rater, rest.iter().map(|(_, line)| prompt(line)));
    let votes = ask(&chat, "/v1/rank/report")["votes"][0].take();
    println!("{VOTES} blind votes in {:.0} s: {votes}", since.elapsed().as_secs_f64());
    let alarm = ask(&chat, "/v1/alarm/ppo-1/ppo");
    println!("the alarm says {}: {}", alarm["reasons"], alarm["signs"]);
    pictures(world, &server, "/learn", "loop-learned", |it| {
        it.wait("document.querySelector('.votes p') && document.querySelector('.doubts details') && document.querySelector('.curves svg')");
        it.eval("document.querySelector('.doubts details').open = true;", json!([]));
    });
    cheats(world, &made, &at("runs.log"));
    assert_eq!((&votes["model"], &votes["other"]), (&json!("ppo-1"), &json!("sft")), "{votes}");
    assert!(votes["low"].as_f64() > Some(0.5), "{votes}");
    assert!(found >= 8, "{doubts}");
    assert_eq!(alarm["reasons"], json!([]), "it learned what was meant");

    // A second generation, from the first.
    let it = Page::of(&server, world, "/learn", View::USUAL);
    it.wait("document.querySelector('#model').value === 'ppo-1'");
    it.click("#by option[value=dpo]");
    it.fill("#steps", "10");
    it.press("Learn");
    wait_long(
        &it,
        "document.querySelector('.generation').innerText.includes('dpo-2 is among the models now.')",
    );
    assert!(
        it.texts(".generation h2")[0].starts_with("dpo-2: from ppo-1 by DPO, 350 rankings"),
        "votes are rankings, too"
    );
}

/// Two answers without names.
fn compared(world: &World, server: &Server) {
    pictures(world, server, "/", "loop-compare", |it| {
        it.wait("document.querySelectorAll('#model option').length > 1");
        it.fill("#input", "Review the silent film about a castle and a river.");
        it.click("#duel");
        it.wait("document.getElementById('compare').ariaBusy === 'false'");
        it.browser().keys("2");
    });
}

/// What the alarm says of a run that was made to cheat, where there is one.
fn cheats(world: &World, made: &Path, log: &Path) {
    let (runs, model) = (made.join("runs"), format!("sft={}", made.join("sft").display()));
    if !runs.join("length-0").exists() {
        return;
    }
    let server =
        Server::serve(&["--model", &model, "--runs", &runs.display().to_string()], log).expect("it starts");
    pictures(world, &server, "/runs", "loop-alarm", |it| {
        it.wait("document.querySelector('#run option')");
        it.click("#run option[value='length-0']");
        it.wait("!document.getElementById('alarm').hidden && document.querySelector('.curves svg')");
    });
}

/// Ranks all that there is: the questions whose answers were ranked the wrong way round.
fn rank_all(world: &World, server: &Server, rater: &Rater) -> BTreeSet<String> {
    let it = Rank::at(server, world, "/rank");
    let (mut slips, mut seen) = (BTreeSet::new(), BTreeSet::new());
    while it.sees("#item") {
        let (before, question, answers) = (it.progress(), it.question(), it.texts(".answer .text"));
        // What comes a second time is said as it was.
        let is_slip = match seen.insert(question.clone()) {
            true => seen.len() % SLIP == 0,
            false => slips.contains(&question),
        };
        if is_slip {
            slips.insert(question);
        }
        it.keys(&rater.keys(&answers, is_slip));
        it.wait(&format!("document.getElementById('progress').innerText !== {before:?}"));
    }
    assert_eq!(seen.len(), RANKINGS);
    slips
}

/// Learns by PPO, while page, process and server are killed.
fn learn(world: &World, server: &Server, generation: &Path) {
    let it = Page::of(server, world, "/learn", View::USUAL);
    it.wait("document.querySelector('#model option')");
    it.fill("#steps", "60");
    it.press("Learn");
    offers(&it, "Stop");
    it.reload();
    let process = worker(generation, "ppo");
    wait_long(&it, "document.querySelector('.curves').innerText.includes('objective/reward')");
    pictures(world, server, "/learn", "loop-learn", |it| {
        wait_long(it, "Number(document.querySelector('.curves .ends span:last-child')?.innerText) >= 15");
    });
    let it = Page::of(server, world, "/learn", View::USUAL);
    offers(&it, "Stop");
    let kill = Command::new("kill").args(["-9", &process]).status();
    assert!(kill.expect("a signal").success());
    offers(&it, "Go on");
    it.press("Go on");
    offers(&it, "Stop");
    server.kill();
    it.wait("document.getElementById('status').innerText.startsWith('Failed')");
    server.restart();
    wait_long(
        &it,
        "document.querySelector('.generation').innerText.includes('ppo-1 is among the models now.')",
    );
    let steps = steps(&generation.join("ppo"));
    assert!(steps.windows(2).all(|pair| pair[1] == pair[0] + 1) && steps.last() == Some(&60), "{steps:?}");
    offers(&it, "Compare blind in the chat");
}

/// Votes on answers to these questions, each in a conversation of its own.
fn vote(chat: &Chat<'_>, rater: &Rater, questions: impl Iterator<Item = String>) {
    chat.set(&[("max_tokens", "64"), ("temperature", "1")]);
    for question in questions.take(VOTES) {
        chat.click("#new");
        compares(chat, &question, "#duel");
        chat.browser().keys(&rater.keys(&chat.texts(".answer .text"), false));
        chat.wait("document.getElementById('status').innerText.startsWith('Stored.')");
    }
}
