use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::*;

fn recipe(seed: u64) -> Recipe {
    Recipe::of_verb("test", &json!({ "seed": seed }), [("data".into(), Input::new(Path::new("data"), "aa"))])
        .unwrap()
}

fn lines(path: &Path, seed: u64, force: bool) -> Result<Lines> {
    Lines::open(&Out::new(path, force, &[])?, &recipe(seed))
}

fn refusal<T>(result: Result<T>) -> String {
    format!("{:#}", result.err().expect("it must be refused"))
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn lines_grow_are_continued_and_end() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.jsonl");
    let mut first = lines(&path, 0, false).unwrap();
    assert!(refusal(lines(&path, 0, false)).contains("another process is writing"));
    first.push("1\n").unwrap();
    first.push("2\n3\n").unwrap();
    drop(first);
    assert!(is_unfinished(&path));
    assert!(refusal(lines(&path, 1, false)).contains("settings.seed: 0 → 1"));
    let mut second = lines(&path, 0, false).unwrap();
    assert_eq!(second.kept(), "1\n2\n3\n");
    second.push("4\n").unwrap();
    second.finish().unwrap();
    let third = lines(&path, 0, false).unwrap();
    assert!(third.is_finished() && third.kept() == "1\n2\n3\n4\n" && !is_unfinished(&path));
    drop(third);
    assert_eq!(names(dir.path()), ["out.jsonl", "out.jsonl.mynah"]);
}

/// A process that is killed says no farewell: what its last record vouches for stays, and no more.
#[test]
fn what_no_record_vouches_for_is_cut() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.jsonl");
    let mut killed = lines(&path, 0, false).unwrap();
    killed.push("1\n").unwrap();
    let record = fs::read(dir.path().join("out.jsonl.mynah")).unwrap();
    killed.push("2\n").unwrap();
    drop(killed);
    fs::write(dir.path().join("out.jsonl.mynah"), record).unwrap();
    fs::write(&path, "1\n2\n{\"to").unwrap();
    let again = lines(&path, 0, false).unwrap();
    assert_eq!((again.kept(), fs::read_to_string(&path).unwrap().as_str()), ("1\n", "1\n"));
}

#[test]
fn nothing_is_left_of_what_was_not_begun() {
    let dir = tempfile::tempdir().unwrap();
    drop(lines(&dir.path().join("out.jsonl"), 0, false).unwrap());
    assert_eq!(names(dir.path()), [""; 0]);
    // An output without lines is one all the same.
    let path = dir.path().join("empty.jsonl");
    lines(&path, 0, false).unwrap().finish().unwrap();
    assert!(lines(&path, 0, false).unwrap().is_finished());
}

/// Killed between its record and its name, what replaces a file is taken for what it is.
#[test]
fn a_replacement_is_whole_before_it_has_the_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.jsonl");
    fs::write(&path, "old\n").unwrap();
    assert!(refusal(lines(&path, 0, false)).contains("out.jsonl is there already"));
    let mut new = lines(&path, 0, true).unwrap();
    new.push("new\n").unwrap();
    drop(new);
    assert_eq!(fs::read_to_string(&path).unwrap(), "old\n");
    // As if the rename had not happened any more.
    let [work, record] = ["out.jsonl.new", "out.jsonl.new.mynah"].map(|name| dir.path().join(name));
    let (text, begun) = (fs::read(&work).unwrap(), fs::read(&record).unwrap());
    lines(&path, 0, true).unwrap().finish().unwrap();
    fs::write(&path, "old\n").unwrap();
    fs::write(&work, text).unwrap();
    fs::write(&record, begun).unwrap();
    assert!(refusal(lines(&path, 0, false)).contains("was changed since"));
    lines(&path, 0, true).unwrap().finish().unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "new\n");
    assert_eq!(names(dir.path()), ["out.jsonl", "out.jsonl.mynah"]);
    // A name in the way is not written over either.
    fs::write(&path, "other\n").unwrap();
    fs::write(&work, "mine\n").unwrap();
    assert!(refusal(lines(&path, 0, true)).contains("out.jsonl.new is in the way"));
}

#[test]
fn a_whole_file_is_known_by_what_is_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tokenizer.json");
    let out = || Out::new(&path, false, &[]).unwrap();
    assert!(!out().is_finished(&recipe(0), &["config.json"]).unwrap());
    out().write(&recipe(0), b"one", &[("config.json", b"two")]).unwrap();
    assert!(out().is_finished(&recipe(0), &["config.json"]).unwrap());
    assert!(refusal(out().is_finished(&recipe(1), &["config.json"])).contains("settings.seed: 0 → 1"));
    fs::remove_file(&path).unwrap();
    assert!(!out().is_finished(&recipe(0), &["config.json"]).unwrap(), "its own companion is no obstacle");
    out().write(&recipe(0), b"one", &[("config.json", b"two")]).unwrap();
    fs::write(dir.path().join("config.json"), "mine").unwrap();
    assert!(
        refusal(out().is_finished(&recipe(0), &["config.json"])).contains("config.json is there already")
    );
}

#[test]
fn two_spellings_are_one_file() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("a")).unwrap();
    let out = |name: &str| Out::new(&dir.path().join(name), false, &[]).unwrap();
    assert!(out("x").is_same(&out("a/../x")) && !out("x").is_same(&out("a/x")));
    assert!(Out::new(Path::new("-"), false, &[]).unwrap().is_standard());
}

/// A directory that a killed builder left half moved is made again; files of others stay.
#[test]
fn a_directory_knows_its_own_files() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("corpus");
    let build = || -> Result<()> {
        let made = OutDir::open(&out, "report.json", &[])?;
        fs::write(made.work().join("train-00000.jsonl"), "new")?;
        let work: PathBuf = made.work();
        made.commit(&work, ["train-00000.jsonl"], &json!({ "options": {} }))
    };
    fs::create_dir_all(out.join(".building")).unwrap();
    fs::write(out.join("train-00000.jsonl"), "mine").unwrap();
    assert!(refusal(build()).contains("is not empty (train-00000.jsonl is in it)"));
    assert_eq!(fs::read_to_string(out.join("train-00000.jsonl")).unwrap(), "mine");
    fs::create_dir_all(out.join(".building")).unwrap();
    fs::write(out.join(".building/moving.json"), "[\"train-00000.jsonl\"]").unwrap();
    build().unwrap();
    assert_eq!(fs::read_to_string(out.join("train-00000.jsonl")).unwrap(), "new");
    assert_eq!(names(&out), ["report.json", "train-00000.jsonl"]);
    assert!(completed(&out, "report.json", &json!({})).unwrap().is_some());
}
