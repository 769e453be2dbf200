//! A ranking station, the page that its raters have, and what is stored of what they say.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Deref;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::fixture::{Server, World, run};
use super::page::{Page, View};

/// Ranks by the answers' texts.
pub(crate) type Ranks = BTreeMap<String, u64>;

/// `mynah rank` with a store of its own and the rater ada.
pub(crate) struct Station {
    pub(crate) server: Server,
    dir: TempDir,
}

/// So many items of four answers.
pub(crate) fn items(count: usize) -> Vec<(String, Vec<String>)> {
    let answers = |i: usize| (0..4).map(|k| format!("answer {k} of {i}")).collect();
    (0..count).map(|i| (format!("question {i}"), answers(i))).collect()
}

impl Station {
    /// Offers items: prompts with their answers, in a file of this name, each to one rater.
    pub(crate) fn of(name: &str, items: &[(String, Vec<String>)], further: &[&str]) -> Station {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join(name);
        let line = |(prompt, completions): &(String, Vec<String>)| {
            json!({ "prompt": prompt, "completions": completions }).to_string() + "\n"
        };
        fs::write(&file, items.iter().map(line).collect::<String>()).expect("a file");
        let at = |name: &str| dir.path().join(name).display().to_string();
        let (file, store) = (at(name), at("feedback.db"));
        let words = ["rank", "--candidates", &file, "--store", &store, "--rater", "ada", "--overlap", "0"];
        let server = Server::start(&[&words, further].concat(), &dir.path().join("station.log"));
        Station { server: server.expect("it starts"), dir }
    }

    /// The path of ada's or the owner's link.
    pub(crate) fn link(&self, whose: &str) -> &str {
        let told = &self.server.told;
        let link = if whose == "owner" { &told["owner"] } else { &told["raters"][whose] };
        link.as_str().and_then(|link| link.strip_prefix(&self.server.origin)).expect("a link")
    }

    /// What the station has on the item in hand.
    pub(crate) fn draft(&self) -> Value {
        let token = self.link("ada").split_once('#').expect("a token").1;
        self.server.post("/v1/rank/next", token, &json!({}))["item"]["draft"].take()
    }

    /// What counts, as `mynah rank export` writes it.
    pub(crate) fn stored(&self) -> Vec<Value> {
        exported(&self.dir, "rankings")
    }

    /// The ranks that count of this question's answers.
    pub(crate) fn ranks(&self, question: &str) -> Ranks {
        let row = self.stored().into_iter().find(|row| row["messages"][0]["content"] == question);
        by_text(&row.unwrap_or_else(|| panic!("nothing is stored of {question}")))
    }

    /// How many ratings there are, corrections and skipped items too.
    pub(crate) fn ratings(&self) -> Value {
        serde_json::from_str::<Value>(&self.server.get("/v1/feedback").1).expect("JSON")["ratings"].take()
    }
}

/// The rows that `mynah rank export` writes of `feedback.db` in `dir`.
pub(crate) fn exported(dir: &TempDir, what: &str) -> Vec<Value> {
    let at = |name: &str| dir.path().join(name).display().to_string();
    let (store, out) = (at("feedback.db"), at("out.jsonl"));
    run(&["rank", "export", "--store", &store, "--out", &out, "--what", what, "--force"])
        .expect("it is exported");
    let text = fs::read_to_string(out).expect("a file");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// The ranks of a row.
pub(crate) fn by_text(row: &Value) -> Ranks {
    let [texts, ranks] = ["completions", "ranks"].map(|name| row[name].as_array().expect("a list"));
    let text = |it: &Value| it.as_str().expect("a text").to_owned();
    texts.iter().map(text).zip(ranks.iter().map(|rank| rank.as_u64().expect("a rank"))).collect()
}

/// The page of somebody who ranks.
pub(crate) struct Rank<'w>(Page<'w>);

impl<'w> Deref for Rank<'w> {
    type Target = Page<'w>;

    fn deref(&self) -> &Page<'w> {
        &self.0
    }
}

impl<'w> Rank<'w> {
    /// Ada's page with the first item.
    pub(crate) fn open(world: &'w World, station: &'w Station) -> Rank<'w> {
        Rank::seen(world, station, "ada", View::USUAL)
    }

    pub(crate) fn seen(world: &'w World, station: &'w Station, whose: &str, view: View) -> Rank<'w> {
        let it = Rank(Page::of(&station.server, world, station.link(whose), view));
        it.is_ready();
        it
    }

    /// The page at this link of any server.
    pub(crate) fn at(server: &'w Server, world: &'w World, link: &str) -> Rank<'w> {
        let it = Rank(Page::of(server, world, link, View::USUAL));
        it.is_ready();
        it
    }

    /// Waits until there is an item.
    pub(crate) fn is_ready(&self) {
        self.wait("!document.getElementById('item').hidden");
    }

    /// Types where the focus is.
    pub(crate) fn keys(&self, keys: &str) {
        self.browser().keys(keys);
    }

    pub(crate) fn status(&self) -> String {
        self.texts("#status")[0].clone()
    }

    /// Waits until the page says this of how it goes.
    pub(crate) fn says(&self, what: &str) {
        self.wait(&format!("document.getElementById('status').innerText.includes({what:?})"));
    }

    /// The order as its chips have it: "2=1›4".
    pub(crate) fn order(&self) -> String {
        self.texts("#order li").concat().split_whitespace().collect()
    }

    /// How many are ranked and to go; the time that is left may follow.
    pub(crate) fn progress(&self) -> String {
        self.texts("#progress")[0].clone()
    }

    /// What was asked; above it stands who did.
    pub(crate) fn question(&self) -> String {
        let text = self.eval("return document.querySelector('.turn.user').lastChild.textContent;", json!([]));
        text.as_str().expect("a text").to_owned()
    }

    /// The place of each answer as it is shown; none is 0.
    pub(crate) fn shown(&self) -> Ranks {
        let [texts, places] = [".answer .text", ".answer .place"].map(|css| self.texts(css));
        let place = |it: String| it.trim_start_matches("place ").parse().unwrap_or(0);
        texts.into_iter().zip(places.into_iter().map(place)).collect()
    }
}
