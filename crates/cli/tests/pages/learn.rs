//! The page at `/learn`: a model learns from what people said, whatever is killed meanwhile, and stands beside the old one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::Tests;
use super::chat::Chat;
use super::feedback::compares;
use super::fixture::{Server, World, run};
use super::page::{Page, View};
use super::station::Rank;
use super::webdriver::ENTER;

pub(crate) const TESTS: Tests = tests![
    a_model_learns_whatever_is_killed_and_is_compared_blind,
    what_the_reward_model_doubts_comes_back,
    why_nothing_is_learned_is_told,
];

/// A server whose model learns from rankings that were imported.
pub(crate) struct School {
    pub(crate) server: Server,
    dir: TempDir,
}

impl School {
    /// With so many rankings of the road's.
    fn start(world: &World, rankings: usize) -> School {
        let dir = tempfile::tempdir().expect("a directory");
        School::of(world, dir, rankings)
    }

    fn of(world: &World, dir: TempDir, rankings: usize) -> School {
        let at = |name: &str| dir.path().join(name).display().to_string();
        fs::write(
            at("rankings.jsonl"),
            rows(world, rankings).map(|row| row.to_string() + "\n").collect::<String>(),
        )
        .expect("a file");
        let store = at("feedback.db");
        run(&["rank", "import", "--store", &store, &at("rankings.jsonl")]).expect("they are imported");
        let model = format!("sft={}", world.made("road/sft"));
        let server = Server::serve(&["--model", &model, "--store", &store], Path::new(&at("school.log")));
        School { server: server.expect("it starts"), dir }
    }

    /// With a model that has learned already: the road's runs stand for its own.
    pub(crate) fn learned(world: &World) -> School {
        let dir = tempfile::tempdir().expect("a directory");
        let home = dir.path().join("feedback.learned/ppo-1");
        fs::create_dir_all(&home).expect("a folder");
        for stage in ["reward", "ppo"] {
            copy(Path::new(&world.made(&format!("road/{stage}"))), &home.join(stage));
        }
        // As if somebody had read them the wrong way round.
        let turned = |(number, mut row): (usize, Value)| {
            let ranks = row["ranks"].as_array().expect("a list").clone();
            let last = ranks.iter().filter_map(Value::as_u64).max().expect("a rank");
            row["ranks"] = ranks.iter().map(|rank| last + 1 - rank.as_u64().expect("a rank")).collect();
            (row["assignment"], row["rater"]) = (json!(number), json!("import"));
            row.to_string() + "\n"
        };
        let numbered: String = (1..).zip(rows(world, 30)).map(turned).collect();
        fs::write(home.join("rankings.jsonl"), numbered).expect("a file");
        let stage = |name: &str| json!({ "name": name, "arguments": [] });
        let plan = json!({ "number": 1, "name": "ppo-1", "parent": "sft", "by": "ppo", "rankings": 30,
            "stages": [stage("reward"), stage("ppo")], "pid": null, "failed": null });
        fs::write(home.join("plan.json"), plan.to_string()).expect("a file");
        School::of(world, dir, 30)
    }

    pub(crate) fn page<'w>(&'w self, world: &'w World, view: View) -> Page<'w> {
        let it = Page::of(&self.server, world, "/learn", view);
        it.wait("document.querySelector('#model option')");
        it
    }

    /// The same when everything of a model that has learned is shown.
    pub(crate) fn finished<'w>(&'w self, world: &'w World, view: View) -> Page<'w> {
        let it = self.page(world, view);
        it.wait("document.querySelector('.doubts details') && document.querySelector('.generation .buttons button') && document.querySelector('.curves svg')");
        it.eval("document.querySelector('.doubts details').open = true;", json!([]));
        it
    }

    fn generation(&self) -> PathBuf {
        self.dir.path().join("feedback.learned/ppo-1")
    }
}

/// The process that works at what is learned in `generation`, after `stage` has begun.
pub(crate) fn worker(generation: &Path, stage: &str) -> String {
    let since = Instant::now();
    loop {
        let plan = fs::read(generation.join("plan.json")).unwrap_or_default();
        let plan: Value = serde_json::from_slice(&plan).unwrap_or_default();
        if let (Some(pid), true) = (plan["pid"].as_u64(), generation.join(stage).join("config.toml").exists())
        {
            return pid.to_string();
        }
        assert!(since.elapsed() < Duration::from_secs(120), "{stage} does not begin");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// So many of the road's rankings that say something.
fn rows(world: &World, count: usize) -> impl Iterator<Item = Value> {
    let text = fs::read_to_string(world.made("road/rankings.jsonl")).expect("a file");
    let rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let differs = |row: &Value| {
        let mut ranks: Vec<u64> =
            row["ranks"].as_array().expect("a list").iter().filter_map(Value::as_u64).collect();
        ranks.dedup();
        ranks.len() > 1
    };
    rows.into_iter().filter(differs).take(count)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder").map(|entry| entry.expect("an entry")) {
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy(&from, &to);
        } else {
            fs::copy(from, to).expect("a file");
        }
    }
}

/// Waits until there is a button of this name.
pub(crate) fn offers(it: &Page<'_>, name: &str) {
    it.wait(&format!(
        "[...document.querySelectorAll('.generation button')].some((it) => it.innerText === {name:?})"
    ));
}

/// The steps of a run's journal.
pub(crate) fn steps(run: &Path) -> Vec<u64> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).expect("a file");
    let step =
        |line: &str| serde_json::from_str::<Value>(line).expect("JSON")["step"].as_u64().expect("a step");
    text.lines().map(step).collect()
}

fn a_model_learns_whatever_is_killed_and_is_compared_blind(world: &World) {
    let school = School::start(world, 60);
    let it = school.page(world, View::USUAL);
    assert!(
        it.texts("#about")[0].starts_with("60 rankings of answers to 60 prompts"),
        "{:?}",
        it.texts("#about")
    );
    it.fill("#steps", "2");
    it.press("Learn");
    offers(&it, "Stop");
    // The page is gone, and comes again.
    it.reload();
    offers(&it, "Stop");
    assert!(it.texts(".generation h2")[0].starts_with("ppo-1: from sft by PPO, 60 rankings"));
    // The process.
    let process = worker(&school.generation(), "reward");
    assert!(Command::new("kill").args(["-9", &process]).status().expect("a signal").success());
    offers(&it, "Go on");
    assert!(it.texts(".stages li")[0].contains("ended without a word"), "{:?}", it.texts(".stages li"));
    it.press("Go on");
    offers(&it, "Stop");
    // The server, while the process goes on.
    worker(&school.generation(), "reward");
    school.server.kill();
    it.wait("document.getElementById('status').innerText.startsWith('Failed')");
    school.server.restart();
    it.wait("!document.getElementById('status').innerText && document.querySelector('.generation button')");
    if it.has_button("Go on") {
        it.press("Go on");
    }
    // Somebody who wants their machine back.
    it.wait("document.querySelector('.stages li:last-child').innerText === 'ppo: running'");
    worker(&school.generation(), "ppo");
    it.press("Stop");
    offers(&it, "Go on");
    it.press("Go on");
    it.wait("document.querySelector('.generation').innerText.includes('ppo-1 is among the models now.')");
    for stage in ["reward", "ppo"] {
        let steps = steps(&school.generation().join(stage));
        assert!(
            steps.windows(2).all(|pair| pair[1] == pair[0] + 1),
            "{stage}: no step twice, none left out: {steps:?}"
        );
    }
    it.wait("document.querySelector('.curves svg')");

    offers(&it, "Compare blind in the chat");
    it.press("Compare blind in the chat");
    it.wait("location.pathname === '/'");
    let chat = Chat::from(it);
    assert_eq!(chat.eval("return document.getElementById('model').value;", json!([])), "ppo-1");
    chat.set(&[("max_tokens", "8")]);
    compares(&chat, "What is 2 + 3?", "#duel");
    chat.browser().keys(&format!("12{ENTER}"));
    chat.wait("document.getElementById('status').innerText.startsWith('Stored.')");
    let named = chat.texts("#status")[0].clone();
    assert!(named.contains("ppo-1") && named.contains("sft"), "{named}");
    let it = school.page(world, View::USUAL);
    it.wait("document.querySelector('.votes p')");
    let told = it.texts(".votes")[0].clone();
    assert!(told.contains("of 1 blind votes") && told.contains("more for ± 5 %"), "{told}");
    let store = school.dir.path().join("feedback.db");
    let report =
        Command::new(env!("CARGO_BIN_EXE_mynah")).args(["rank", "report", "--store"]).arg(store).output();
    let report = String::from_utf8(report.expect("it runs").stdout).expect("text");
    let line = report.lines().find(|line| line.contains(" is preferred to ")).expect("a line about votes");
    assert!(line.contains("% of 1 blind vote (") && line.ends_with(": 34 more for ± 5 %"), "{line}");
}

fn what_the_reward_model_doubts_comes_back(world: &World) {
    let school = School::learned(world);
    let it = school.finished(world, View::USUAL);
    let title = it.texts(".doubts summary")[0].clone();
    let many = it.count(".doubt");
    assert!((10..=20).contains(&many) && title.ends_with("of 30"), "{title}: {many} are shown");
    it.press_first("Ask again");
    it.wait("document.querySelector('.doubt').innerText.includes('ranking page of import')");
    it.press_first("Keep");
    it.wait("document.querySelectorAll('.doubt')[1].innerText.includes('It stands.')");
    it.check_quiet();

    let raters = it.eval("return fetch('/v1/rank/raters').then((it) => it.json());", json!([]));
    let link = format!("/rank#{}", raters["raters"][0]["token"].as_str().expect("a token"));
    let it = Rank::at(&school.server, world, &link);
    it.says("You ranked this before.");
    let shown = it.shown();
    assert!(shown.values().all(|place| *place > 0), "as it was ranked: {shown:?}");
    it.keys(ENTER);
    it.says("Stored.");
    assert!(!it.sees("#item"), "nothing else is asked of them");
    it.check_quiet();
    let it = school.finished(world, View::USUAL);
    assert!(it.texts(".doubts summary")[0] != title, "neither is doubted again");
}

fn why_nothing_is_learned_is_told(world: &World) {
    let school = School::start(world, 2);
    let it = school.page(world, View::USUAL);
    it.press("Learn");
    offers(&it, "Go on");
    let why = it.texts(".generation pre")[0].clone();
    assert!(why.starts_with("error:") && why.contains("give more rankings"), "{why}");
    it.press("中文");
    offers(&it, "继续");
    it.check_quiet();
}
