//! Ratings in files, and what the chat says.

use super::*;
use text::data::messages::ranking;

fn row(text: &str) -> (text::data::Ranking, Map<String, serde_json::Value>) {
    let row: Map<_, _> = serde_json::from_str(text).unwrap();
    (ranking(row.clone()).unwrap(), row)
}

const ROWS: [&str; 4] = [
    r#"{"prompt":"2 + 2?","chosen":"4","rejected":"5"}"#,
    r#"{"chosen":"\n\nHuman: Hi\n\nAssistant: Hello!","rejected":"\n\nHuman: Hi\n\nAssistant: No."}"#,
    r#"{"chosen":[{"role":"user","content":"x"},{"role":"assistant","content":"y"}],"rejected":[{"role":"user","content":"x"},{"role":"assistant","content":"z"}],"margin":1.5}"#,
    r#"{"messages":[{"role":"user","content":"q"}],"completions":["a","b","c"],"ranks":[2,1,2],"source":"s"}"#,
];

#[test]
fn files_go_in_and_come_out_as_they_were() {
    let (_dir, mut store) = begun();
    let rows = ROWS.map(row);
    let twice = [&rows[..], &rows[..1]].concat();
    assert_eq!(store.import(&twice, NOW).unwrap(), Imported { new: 5, known: 0 });
    assert_eq!(store.import(&twice, NOW).unwrap(), Imported { new: 0, known: 5 });
    let wanted: Vec<_> = twice.iter().map(|(_, row)| row.clone()).collect();
    assert_eq!(store.rankings().unwrap(), wanted);
    // Nobody is asked to rank them.
    let ada = store.rater("ada").unwrap();
    assert!(store.next(ada, NOW).unwrap().is_none());
}

#[test]
fn what_goes_out_comes_in_with_the_same_pairs() {
    let (_dir, mut store) = begun();
    store.add(&items(8), ItemOptions { raters: 2, overlap: 0.0 }).unwrap();
    for name in ["ada", "ben"] {
        let rater = store.rater(name).unwrap();
        while let Some(assigned) = store.next(rater, NOW).unwrap() {
            let key = format!("{name} {}", assigned.assignment);
            store.submit(rater, &said(&assigned, &key, in_order(&assigned)), NOW).unwrap();
        }
    }
    let out = store.rankings().unwrap();
    assert_eq!(out.len(), 16);
    let read = |row: &Map<_, _>| (ranking(row.clone()).unwrap(), row.clone());
    let (_other_dir, mut other) = begun();
    other.import(&out.iter().map(read).collect::<Vec<_>>(), NOW).unwrap();
    assert_eq!(other.rankings().unwrap(), out);
    let of = |store: &Store| {
        let report = store.report().unwrap();
        let names: Vec<String> = report.raters.iter().map(|rater| rater.name.clone()).collect();
        (report.ratings, names, report.models.len(), report.no_strengths)
    };
    assert_eq!(of(&other), of(&store));
}

fn in_chat(key: &str, ranks: Option<Vec<u32>>) -> ChatRanking {
    ChatRanking {
        key: key.into(),
        messages: vec![Message::new(Speaker::User, "2 + 2?")],
        completions: vec![("5".into(), Some("old".into())), ("4".into(), Some("new".into()))],
        ranks,
        comment: String::new(),
        seconds: 1.0,
    }
}

#[test]
fn the_chats_rankings_are_rankings() {
    let (_dir, mut store) = begun();
    let first = store.rank_chat(&in_chat("a", Some(vec![1, 2])), NOW).unwrap();
    assert_eq!(store.rank_chat(&in_chat("a", Some(vec![1, 2])), NOW).unwrap(), first);
    assert!(matches!(store.rank_chat(&in_chat("a", Some(vec![2, 1])), NOW), Err(Refused::Wrong(_))));
    store.rank_chat(&in_chat("b", Some(vec![7, 3])), NOW).unwrap();
    let out = store.rankings().unwrap();
    assert_eq!(out.len(), 1, "the same answers again are a correction");
    assert_eq!((&out[0]["ranks"], &out[0]["models"]), (&json!([2, 1]), &json!([["old"], ["new"]])));
    assert_eq!(out[0]["rating"]["rule"], "chat");
    assert!(matches!(store.rank_chat(&in_chat("c", Some(vec![1])), NOW), Err(Refused::Wrong(_))));
    assert!(matches!(store.rank_chat(&in_chat("c", Some(vec![0, 1])), NOW), Err(Refused::Wrong(_))));
    store.rank_chat(&in_chat("d", None), NOW).unwrap();
    assert_eq!(store.rankings().unwrap()[0]["rating"]["all_bad"], true);
    // The ranking page asks for none of it.
    assert!(store.next(store.owner(), NOW).unwrap().is_none());
    assert!(store.previous(store.owner(), None, NOW).unwrap().is_none());
}

#[test]
fn the_same_answers_of_other_models_are_another_ranking() {
    let (_dir, mut store) = begun();
    store.rank_chat(&in_chat("a", Some(vec![2, 1])), NOW).unwrap();
    let mut swapped = in_chat("b", Some(vec![2, 1]));
    swapped.completions = vec![("5".into(), Some("new".into())), ("4".into(), Some("old".into()))];
    store.rank_chat(&swapped, NOW).unwrap();
    let models: Vec<_> = store.rankings().unwrap().iter().map(|row| row["models"].clone()).collect();
    assert_eq!(models, [json!([["old"], ["new"]]), json!([["new"], ["old"]])]);
    // Each won once.
    let report = store.report().unwrap();
    assert!(report.models.iter().all(|model| model.strength.abs() < 1e-9), "{report:?}");
}

#[test]
fn the_last_thumb_on_an_answer_counts() {
    let (_dir, mut store) = begun();
    let mut thumb = |key: &str, subject: &str, label| {
        let thumb = Thumb {
            key: key.into(),
            subject: subject.into(),
            messages: vec![Message::new(Speaker::User, "hi")],
            completion: "hello".into(),
            label,
            about: Map::new(),
        };
        store.thumb(&thumb, NOW).unwrap();
    };
    thumb("1", "x", Some(true));
    thumb("2", "x", Some(false));
    thumb("2", "x", Some(true));
    thumb("3", "y", Some(true));
    thumb("4", "z", Some(true));
    thumb("5", "z", None);
    let labels: Vec<_> = store.labelled().unwrap().iter().map(|row| row["label"].clone()).collect();
    assert_eq!(labels, [json!(false), json!(true)]);
}

#[test]
fn what_is_learned_from_is_numbered_and_prompts_are_told_once() {
    let (_dir, mut store) = begun();
    store.add(&items(2), ONCE).unwrap();
    let ada = store.rater("ada").unwrap();
    let first = store.next(ada, NOW).unwrap().unwrap();
    store.submit(ada, &said(&first, "a", in_order(&first)), NOW).unwrap();
    assert_eq!(store.counts().unwrap(), (1, 2));
    let numbered = store.numbered_rankings().unwrap();
    assert_eq!(
        (&numbered[0]["assignment"], &numbered[0]["rater"]),
        (&json!(first.assignment), &json!("ada"))
    );
    assert!(store.rankings().unwrap()[0].get("assignment").is_none());
    let prompts = store.prompts().unwrap();
    let asked: Vec<&str> = prompts.iter().filter_map(|row| row["messages"][0]["content"].as_str()).collect();
    assert_eq!(asked, ["question 0", "question 1"]);
    // The same question with other answers is asked about once.
    let mut again = items(1);
    again[0].answers[0].0 = "another".to_owned();
    store.add(&again, ONCE).unwrap();
    assert_eq!((store.prompts().unwrap().len(), store.counts().unwrap()), (2, (1, 2)));
}
