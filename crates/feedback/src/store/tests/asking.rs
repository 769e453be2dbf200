//! Who is asked what.

use super::*;
use std::collections::BTreeSet;
use std::thread;

#[test]
fn an_item_stays_in_hand_until_it_is_ranked() {
    let (_dir, mut store) = begun();
    store.add(&items(3), ONCE).unwrap();
    let rater = store.rater("ada").unwrap();
    let first = store.next(rater, NOW).unwrap().unwrap();
    assert_eq!(first.progress, Progress { done: 0, left: 3 });
    let again = store.next(rater, NOW + 5).unwrap().unwrap();
    assert_eq!(first.assignment, again.assignment);
    let shown =
        |assigned: &Assigned| assigned.answers.iter().map(|answer| answer.text.clone()).collect::<Vec<_>>();
    assert_eq!(shown(&first), shown(&again));

    store.submit(rater, &said(&first, "a", in_order(&first)), NOW).unwrap();
    let second = store.next(rater, NOW).unwrap().unwrap();
    assert_ne!(first.messages, second.messages);
    assert_eq!(second.progress, Progress { done: 1, left: 2 });
}

#[test]
fn a_rater_learns_nothing_of_who_answered() {
    let (_dir, mut store) = begun();
    store.add(&items(5), ONCE).unwrap();
    let rater = store.rater("ada").unwrap();
    let assigned = store.next(rater, NOW).unwrap().unwrap();
    let sent = serde_json::to_string(&assigned).unwrap();
    for hidden in ["model", "secret", "feedback.db"] {
        assert!(!sent.contains(hidden), "{hidden} in {sent}");
    }
}

#[test]
fn no_item_is_ranked_more_often_than_asked_and_none_is_lost() {
    let (dir, mut store) = begun();
    store.add(&items(60), ItemOptions { raters: 2, overlap: 0.5 }).unwrap();
    let quota: i64 = store.connection.query_row("select sum(quota) from item", [], |row| row.get(0)).unwrap();
    assert!((120 + 15..=120 + 45).contains(&quota), "{quota}");
    let path = dir.path().join("feedback.db");
    let raters: Vec<Rater> = (0..20).map(|i| store.rater(&format!("rater {i}")).unwrap()).collect();
    thread::scope(|scope| {
        for (number, rater) in raters.into_iter().enumerate() {
            let path = &path;
            scope.spawn(move || {
                let mut store = Store::open(path).unwrap();
                let mut count = 0;
                while let Some(assigned) = store.next(rater, NOW).unwrap() {
                    let key = format!("{number} {count}");
                    store.submit(rater, &said(&assigned, &key, in_order(&assigned)), NOW).unwrap();
                    count += 1;
                }
            });
        }
    });
    let sql = "select count(*) from item where quota <> (select count(*) from counted where item = item.id and rule <> 'repeat')";
    let other: i64 = store.connection.query_row(sql, [], |row| row.get(0)).unwrap();
    assert_eq!(other, 0, "items with too many ratings or too few");
}

#[test]
fn what_is_in_hand_for_too_long_goes_to_others() {
    let (_dir, mut store) = begun();
    store.add(&items(1), ONCE).unwrap();
    let [ada, ben] = ["ada", "ben"].map(|name| store.rater(name).unwrap());
    let hers = store.next(ada, NOW).unwrap().unwrap();
    assert!(store.next(ben, NOW + 600).unwrap().is_none());
    store.draft(ada, hers.assignment, &json!({"ranks": [1]}), NOW + 500).unwrap();
    assert!(store.next(ben, NOW + 1000).unwrap().is_none(), "a draft shows that she is there");
    let his = store.next(ben, NOW + 1101).unwrap().unwrap();
    let late = store.submit(ada, &said(&hers, "a", in_order(&hers)), NOW + 1200);
    assert!(matches!(late, Err(Refused::Expired)), "{late:?}");
    store.submit(ben, &said(&his, "b", in_order(&his)), NOW + 1200).unwrap();
    assert!(store.next(ada, NOW + 1300).unwrap().is_none());
    // What was ranked in time may be corrected at any time.
    store.submit(ben, &said(&his, "c", Verdict::AllBad), NOW + 9999).unwrap();
}

#[test]
fn one_item_in_twenty_is_asked_a_second_time_and_never_next() {
    let (_dir, mut store) = begun();
    store.add(&items(400), ONCE).unwrap();
    let rater = store.rater("ada").unwrap();
    let mut seen: Vec<(String, Vec<String>)> = Vec::new();
    while let Some(assigned) = store.next(rater, NOW).unwrap() {
        let key = seen.len().to_string();
        store.submit(rater, &said(&assigned, &key, in_order(&assigned)), NOW).unwrap();
        let texts = assigned.answers.iter().map(|answer| answer.text.clone()).collect();
        seen.push((assigned.messages.to_string(), texts));
    }
    let repeats: Vec<(usize, usize)> =
        (0..seen.len()).filter_map(|i| Some((i, (0..i).find(|j| seen[*j].0 == seen[i].0)?))).collect();
    assert!((19..=21).contains(&repeats.len()), "{}", repeats.len());
    assert!(repeats.iter().all(|(later, first)| later - first > 5), "{repeats:?}");
    let same = repeats.iter().filter(|(later, first)| seen[*later].1 == seen[*first].1).count();
    assert!(same <= 4, "{same} of {} in the same order again", repeats.len());
    let at: BTreeSet<usize> = repeats.iter().enumerate().map(|(i, (later, _))| later - 21 * i).collect();
    assert!(at.len() > 5, "always at the same place: {at:?}");
    // They are the raters' own measure, and no further ratings.
    assert_eq!(store.rankings().unwrap().len(), 400);
}

#[test]
fn where_reward_models_choose_some_are_left_to_chance() {
    let (_dir, mut store) = begun();
    store.add(&items(300), ONCE).unwrap();
    let apart: Vec<(i64, f64)> =
        store.unscored().unwrap().iter().map(|item| (item.id, item.id as f64)).collect();
    assert_eq!(apart.len(), 300);
    store.set_disagreement(&apart).unwrap();
    let rater = store.rater("ada").unwrap();
    let mut numbers = Vec::new();
    for i in 0..100 {
        let assigned = store.next(rater, NOW).unwrap().unwrap();
        store.submit(rater, &said(&assigned, &i.to_string(), in_order(&assigned)), NOW).unwrap();
        numbers.push(assigned.messages.to_string());
    }
    let count = |rule: Rule| {
        let sql = "select count(*) from assignment where rule = ?1";
        store.connection.query_row(sql, [rule.name()], |row| row.get::<_, i64>(0)).unwrap() as usize
    };
    let (random, apart) = (count(Rule::Random), count(Rule::Disagreement));
    // Three in ten of some 95, each drawn by itself: farther from 28 than this once in 100,000 times.
    assert!((9..=48).contains(&random) && random + apart + count(Rule::Repeat) == 100, "{random} {apart}");
    // The farthest apart come first.
    let lowest: f64 = store
        .connection
        .query_row(
            "select min(disagreement) from counted join item on item.id = item where rule = 'disagreement'",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert!(lowest > 200.0, "{lowest}");
    // And nothing is said of raters by them.
    let report = store.report().unwrap();
    assert_eq!((report.chosen, report.raters[0].rated), (apart, random + apart));
}

#[test]
fn tokens_open_what_is_the_raters() {
    let (dir, mut store) = begun();
    let ada = store.rater("ada").unwrap();
    let (owner, token) = (store.token(store.owner()), store.token(ada));
    let again = Store::open(&dir.path().join("feedback.db")).unwrap();
    assert_eq!(again.role(&token).unwrap(), Some(Role::Rater(ada)));
    assert_eq!(again.role(&owner).unwrap(), Some(Role::Owner(again.owner())));
    for wrong in ["", "x", &token[1..], &format!("{token}0")] {
        assert_eq!(again.role(wrong).unwrap(), None);
    }
    let other = begun().1;
    assert_eq!(other.role(&token).unwrap(), None);
}

#[test]
fn another_file_is_no_store() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("candidates.jsonl");
    std::fs::write(&path, "{\"prompt\": \"x\"}\n".repeat(100)).unwrap();
    assert!(!is_store(&path));
    assert!(Store::open(&path).is_err());
    assert_eq!(std::fs::read_to_string(&path).unwrap().len(), 1600, "nothing of it is lost");
    let other = dir.path().join("other.db");
    rusqlite::Connection::open(&other).unwrap().execute_batch("create table x (y)").unwrap();
    let error = format!("{:#}", Store::open(&other).unwrap_err());
    assert!(error.contains("another program"), "{error}");
    let (begun, _) = begun();
    assert!(is_store(&begun.path().join("feedback.db")));
    assert!(Store::open_to_read(&dir.path().join("none.db")).is_err());
}
