//! What becomes of what raters say.

use super::*;

fn one() -> (TempDir, Store, Rater, Assigned) {
    let (dir, mut store) = begun();
    store.add(&items(1), ONCE).unwrap();
    let rater = store.rater("ada").unwrap();
    let assigned = store.next(rater, NOW).unwrap().unwrap();
    (dir, store, rater, assigned)
}

fn exported(store: &Store) -> (Vec<String>, Vec<u32>) {
    let rankings = store.rankings().unwrap();
    let list =
        |name: &str| serde_json::from_value::<Vec<serde_json::Value>>(rankings[0][name].clone()).unwrap();
    let texts = list("completions").iter().map(|text| text.as_str().unwrap().to_owned()).collect();
    (texts, list("ranks").iter().map(|rank| rank.as_u64().unwrap() as u32).collect())
}

#[test]
fn what_is_stored_is_what_was_shown() {
    proptest::proptest!(proptest::test_runner::Config::with_cases(40), |(ranks in proptest::collection::vec(1u32..5, 4))| {
        let (_dir, mut store, rater, assigned) = one();
        let said_of = |i: usize| (assigned.answers[i].id.clone(), ranks[i]);
        let verdict = Verdict::Ranked((0..4).map(said_of).collect());
        store.submit(rater, &said(&assigned, "k", verdict), NOW).unwrap();
        let (texts, stored) = exported(&store);
        for (i, answer) in assigned.answers.iter().enumerate() {
            let at = texts.iter().position(|text| *text == answer.text).unwrap();
            for (j, other) in assigned.answers.iter().enumerate() {
                let other_at = texts.iter().position(|text| *text == other.text).unwrap();
                proptest::prop_assert_eq!(ranks[i].cmp(&ranks[j]), stored[at].cmp(&stored[other_at]));
            }
        }
        proptest::prop_assert_eq!(stored.iter().min(), Some(&1));
    });
}

#[test]
fn a_key_is_one_rating_and_a_correction_is_another_that_counts() {
    let (_dir, mut store, rater, assigned) = one();
    let first = store.submit(rater, &said(&assigned, "a", in_order(&assigned)), NOW).unwrap();
    assert_eq!(store.submit(rater, &said(&assigned, "a", in_order(&assigned)), NOW + 9).unwrap(), first);
    let other = store.submit(rater, &said(&assigned, "a", Verdict::AllBad), NOW);
    assert!(matches!(other, Err(Refused::Wrong(_))), "it is not taken for what was said before: {other:?}");
    assert_eq!(store.ratings().unwrap(), 1);
    let undone = store.previous(rater, None, NOW).unwrap().unwrap();
    let rated = undone.rated.clone().unwrap();
    assert_eq!(rated["ranks"][&assigned.answers[2].id], 3);
    assert_eq!(undone.answers[0].text, assigned.answers[0].text);

    let mut reversed = BTreeMap::new();
    assigned.answers.iter().rev().zip(1..).for_each(|(answer, rank)| {
        reversed.insert(answer.id.clone(), rank);
    });
    store.submit(rater, &said(&undone, "b", Verdict::Ranked(reversed)), NOW).unwrap();
    assert_eq!(store.ratings().unwrap(), 2, "both are kept");
    let (texts, ranks) = exported(&store);
    let best = ranks.iter().position(|rank| *rank == 1).unwrap();
    assert_eq!(texts[best], assigned.answers[3].text, "the last one counts");
    assert_eq!(store.rankings().unwrap().len(), 1);
}

#[test]
fn all_bad_makes_no_pair_and_a_skipped_item_no_ranking() {
    let (_dir, mut store, rater, assigned) = one();
    let unsaid = store.submit(rater, &said(&assigned, "a", Verdict::Skipped(" ".into())), NOW);
    assert!(matches!(unsaid, Err(Refused::Wrong(_))));
    store.submit(rater, &said(&assigned, "b", Verdict::Skipped("not my field".into())), NOW).unwrap();
    assert!(store.rankings().unwrap().is_empty());
    // Nobody ranked it: somebody else may.
    let ben = store.rater("ben").unwrap();
    let his = store.next(ben, NOW).unwrap().unwrap();
    store.submit(ben, &said(&his, "c", Verdict::AllBad), NOW).unwrap();
    let rankings = store.rankings().unwrap();
    assert_eq!(rankings[0]["ranks"], json!([1, 1, 1, 1]));
    assert_eq!(rankings[0]["rating"]["all_bad"], true);
    let report = store.report().unwrap();
    assert_eq!((report.all_bad, report.skipped["not my field"]), (1, 1));
}

#[test]
fn what_does_not_fit_is_refused_and_nothing_is_stored() {
    let (_dir, mut store, rater, assigned) = one();
    let ids: Vec<String> = assigned.answers.iter().map(|answer| answer.id.clone()).collect();
    let ranked =
        |of: &[(&String, u32)]| Verdict::Ranked(of.iter().map(|(id, rank)| ((*id).clone(), *rank)).collect());
    let other = String::from("0123456789ab");
    for verdict in [
        ranked(&[]),
        ranked(&[(&ids[0], 1)]),
        ranked(&[(&ids[0], 1), (&ids[1], 2), (&ids[2], 3), (&ids[3], 0)]),
        ranked(&[(&ids[0], 1), (&ids[1], 2), (&ids[2], 3), (&other, 4)]),
    ] {
        let refused = store.submit(rater, &said(&assigned, "k", verdict), NOW);
        assert!(matches!(refused, Err(Refused::Wrong(_))), "{refused:?}");
    }
    for (comment, seconds) in [("x".repeat(20_000), 1.0), (String::new(), -1.0), (String::new(), f64::NAN)] {
        let mut said = said(&assigned, "k", in_order(&assigned));
        (said.comment, said.seconds) = (comment, seconds);
        assert!(matches!(store.submit(rater, &said, NOW), Err(Refused::Wrong(_))), "{seconds}");
    }
    let ben = store.rater("ben").unwrap();
    let stolen = store.submit(ben, &said(&assigned, "k", in_order(&assigned)), NOW);
    assert!(matches!(stolen, Err(Refused::Unknown)));
    let long = json!({ "text": "x".repeat(20_000) });
    assert!(matches!(store.draft(rater, assigned.assignment, &long, NOW), Err(Refused::Wrong(_))));
    assert_eq!(store.ratings().unwrap(), 0);
}

#[test]
fn what_is_acknowledged_is_on_the_disk() {
    let (_dir, store, ..) = one();
    let full: i32 = store.connection.pragma_query_value(None, "synchronous", |row| row.get(0)).unwrap();
    let mode: String = store.connection.pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
    assert_eq!((full, mode.as_str()), (2, "wal"));
}

#[test]
fn a_draft_outlives_the_process() {
    let (dir, mut store, rater, assigned) = one();
    store.draft(rater, assigned.assignment, &json!({"order": ["a"], "comment": "so far"}), NOW).unwrap();
    drop(store);
    let mut store = Store::open(&dir.path().join("feedback.db")).unwrap();
    let again = store.next(rater, NOW + 1).unwrap().unwrap();
    assert_eq!(again.draft, Some(json!({"order": ["a"], "comment": "so far"})));
    // Another tab comes late with it.
    store.submit(rater, &said(&assigned, "a", in_order(&assigned)), NOW + 2).unwrap();
    store.draft(rater, assigned.assignment, &json!({"order": []}), NOW + 3).unwrap();
    let undone = store.previous(rater, None, NOW + 4).unwrap().unwrap();
    assert_eq!(undone.draft, None, "what was said is corrected, not what was begun");
}

#[test]
fn what_is_doubted_is_asked_again_and_once() {
    let (_dir, mut store) = begun();
    store.add(&items(3), ONCE).unwrap();
    let [ada, ben] = ["ada", "ben"].map(|name| store.rater(name).unwrap());
    let first = store.next(ada, NOW).unwrap().unwrap();
    store.submit(ada, &said(&first, "a", in_order(&first)), NOW).unwrap();
    let kept = store.next(ada, NOW).unwrap().unwrap();
    assert!(!kept.again);
    store.submit(ada, &said(&kept, "b", in_order(&kept)), NOW).unwrap();
    store.doubt(first.assignment, false).unwrap();
    store.doubt(kept.assignment, true).unwrap();
    assert!(matches!(store.doubt(999, false), Err(Refused::Unknown)));
    assert_eq!(store.doubted().unwrap(), [first.assignment, kept.assignment].into());

    assert_eq!(store.next(ben, NOW).unwrap().unwrap().progress.left, 1, "it is ada's");
    let again = store.next(ada, NOW).unwrap().unwrap();
    assert_eq!(
        (again.assignment, again.again, again.progress),
        (first.assignment, true, Progress { done: 2, left: 1 })
    );
    assert_eq!(again.rated.as_ref().unwrap()["ranks"][&again.answers[0].id], 1, "with what was said");
    // The same said again is an answer as well.
    store.submit(ada, &said(&again, "c", in_order(&again)), NOW).unwrap();
    assert!(
        store.next(ada, NOW).unwrap().is_none_or(|next| next.assignment != first.assignment && !next.again)
    );
    assert_eq!((store.ratings().unwrap(), store.rankings().unwrap().len()), (3, 2));
}

#[test]
fn a_store_of_the_version_before_is_used_as_it_is() {
    let (dir, mut store) = begun();
    store.add(&items(1), ONCE).unwrap();
    store.connection.execute_batch("drop table again; pragma user_version = 1").unwrap();
    drop(store);
    let path = dir.path().join("feedback.db");
    assert_eq!(Store::open_to_read(&path).unwrap().report().unwrap().items, 1);
    let mut store = Store::open(&path).unwrap();
    let ada = store.rater("ada").unwrap();
    assert!(store.next(ada, NOW).unwrap().is_some() && store.doubted().unwrap().is_empty());
}
