//! Near duplicates on the whole road.

use super::*;

/// A text of 300 words, of which one in `every` is another than in the original; 0: none is.
fn copy(original: usize, every: usize) -> String {
    let word = |i: usize| {
        let other = every > 0 && i % every == every / 2;
        format!(
            "w{}",
            kernels::rng::below(3, (original * 1000 + usize::from(other) * every) as u64, i as u64, 9000)
        )
    };
    (0..300).map(word).collect::<Vec<_>>().join(" ")
}

fn line(text: &str) -> String {
    serde_json::json!({ "text": text }).to_string() + "\n"
}

#[test]
fn near_copies_leave_and_the_first_stays() {
    let dir = tempfile::tempdir().unwrap();
    let input = dir.path().join("in");
    // Forty originals; then of each a copy with one other word, one with a tenth of other words, and an exact
    // one.
    put(&input, "a.jsonl", (0..40).map(|i| line(&copy(i, 0))).collect::<String>());
    let copies = |every| (0..40).map(move |i| line(&copy(i, every))).collect::<String>();
    put(&input, "b.jsonl", copies(299) + &copies(10) + &copies(0));
    put(&input, "c.txt", copy(7, 150));
    let run = |name: &str, threads, near: usize, threshold| {
        let out = dir.path().join(name);
        let options = Options { near_dedup: threshold, threads, ..options(&input, &out) };
        let report = build_with(&options, &Silent, Limits { seen: MAX_SEEN, near }).unwrap();
        let mut sources: Vec<String> = all(&out).into_iter().map(|d| d.source).collect();
        sources.sort();
        (sources, report)
    };
    let (sources, report) = run("one", 1, MAX_NEAR, Some(0.8));
    assert_eq!(report.count(Reason::Duplicate), 40);
    assert_eq!(report.count(Reason::NearDuplicate), 41);
    assert_eq!(sources.len(), 80, "the originals, and the copies with a tenth of other words");
    assert!(sources.iter().filter(|s| s.starts_with("in/a.jsonl")).count() == 40);
    let examples = &report.dropped[&Reason::NearDuplicate].examples;
    for (i, example) in examples.iter().enumerate() {
        assert!(example.file.ends_with("b.jsonl") && example.line == i as u64 + 1);
        assert!(example.detail.starts_with(&format!("resembles in/a.jsonl:{} (0.9", i + 1)), "{example}");
    }
    assert_eq!(run("seven", 7, MAX_NEAR, Some(0.8)), (sources.clone(), report.clone()));

    // With room for eleven documents most are found at the end, by reading a log again and again.
    let (few, late) = run("few", 2, 11, Some(0.8));
    assert_eq!(few, sources);
    assert_eq!((&late.dropped[&Reason::NearDuplicate].count, late.kept), (&41, report.kept));
    for example in &late.dropped[&Reason::NearDuplicate].examples {
        assert!(example.detail.starts_with("resembles in/a.jsonl:"), "{example}");
    }

    assert_eq!(run("none", 2, MAX_NEAR, None).0.len(), 121);
    let (strict, _) = run("strict", 2, MAX_NEAR, Some(1.0));
    assert!(strict.len() > 115, "{} of 121 are not quite the same", strict.len());
    let wrong = Options { near_dedup: Some(0.2), ..options(&input, &dir.path().join("wrong")) };
    let error = build(&wrong, &Silent).unwrap_err().to_string();
    assert!(error.contains("from 0.7 to 1"), "{error}");
}
