//! What becomes of good and bad lines.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;

use serde_json::{Value, json};

use crate::data::jsonl::{Fault, LineReport, Lines, Record, read_jsonl};
use crate::data::messages::demonstration;
use crate::progress::Silent;

fn texts(record: Record) -> Result<String, Fault> {
    match record.get("text") {
        Some(Value::String(text)) if text == "skip" => Err(Fault::left_out("not wanted", "skip")),
        Some(Value::String(text)) if text == "stop" => Err(Fault::fatal("poison", "stop")),
        Some(Value::String(text)) => Ok(text.clone()),
        _ => Err(Fault::bad("wrong type", "text is not a string")),
    }
}

fn read(name: &str, bytes: &[u8], max_bad: f64) -> anyhow::Result<Lines<String>> {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(name), bytes).unwrap();
    read_jsonl(&dir.path().join(name), max_bad, &Silent, texts)
}

fn counts(report: &LineReport) -> BTreeMap<&str, u64> {
    report.faults.iter().map(|(kind, faults)| (kind.as_str(), faults.count)).collect()
}

#[test]
fn every_line_is_used_or_counted_by_what_is_wrong() {
    let mut file = "\u{feff}{\"text\": \"one\"}\r\n\r\n{\"text\": \"zwei\"}\n   \n".as_bytes().to_vec();
    let deep = format!("{{\"text\": \"x\", \"deep\": {}{}}}\n", "[".repeat(200), "]".repeat(200));
    let long = json!({ "text": "y".repeat(10 << 20) }).to_string() + "\n";
    for line in [
        &b"{\"text\": \"nul \0\"}\n"[..],
        b"{\"text\": \"\xff\xfe\"}\n",
        b"{\"text\": \"torn\n",
        b"{\"text\": 7}\n",
        b"[1, 2]\n",
        b"\"text\"\n",
        b"{text: 1}\n",
        b"{}\n",
        b"{\"text\": \"skip\"}\n",
        deep.as_bytes(),
        long.as_bytes(),
        b"{\"text\": \"three\"}",
    ] {
        file.extend_from_slice(line);
    }
    let Lines { rows, report, .. } = read("a.jsonl", &file, 0.8).unwrap();
    assert_eq!(rows, ["one", "zwei", "three"]);
    let expected = [
        ("JSON nested too deep", 1),
        ("JSON record is not an object", 2),
        ("malformed JSON", 2),
        ("not wanted", 1),
        ("record is not UTF-8", 1),
        ("record too long", 1),
        ("torn JSON", 1),
        ("wrong type", 2),
    ];
    assert_eq!(counts(&report), BTreeMap::from(expected));
    assert_eq!((report.lines, report.used, report.bad(), report.left_out()), (14, 3, 10, 1));
    let line = |kind: &str| report.faults[kind].examples.iter().map(|e| e.line).collect::<Vec<_>>();
    assert_eq!(line("malformed JSON"), [5, 11]);
    assert_eq!(line("record too long"), [15]);

    let error = read("a.jsonl", &file, 0.7).unwrap_err().to_string();
    for said in
        ["10 of 14 lines are bad", "at most 70 %", "bad: wrong type, 2", "a.jsonl:8: text is not a string"]
    {
        assert!(error.contains(said), "{said}: {error}");
    }
}

#[test]
fn packed_files_and_arrays_are_read_and_threads_keep_the_order() {
    let lines: String = (0..30_000).map(|i| format!("{{\"text\": \"{i} {}\"}}\n", "z".repeat(300))).collect();
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(lines.as_bytes()).unwrap();
    let gz = gz.finish().unwrap();
    for (name, bytes) in [("a.jsonl", lines.as_bytes()), ("a.jsonl.gz", &gz), ("data.txt", lines.as_bytes())]
    {
        let rows = read(name, bytes, 0.0).unwrap().rows;
        assert!(rows.iter().enumerate().all(|(i, row)| row.starts_with(&format!("{i} "))), "{name}");
        assert_eq!(rows.len(), 30_000, "{name}");
    }
    assert_eq!(read("a.json", b"[{\"text\": \"a\"},\n {\"text\": \"b\"}]", 0.0).unwrap().rows, ["a", "b"]);
    let error = read("a.jsonl.gz", &gz[..gz.len() - 9], 0.0).unwrap_err().to_string();
    assert!(error.contains("damaged gzip"), "{error}");
}

#[test]
fn files_that_cannot_be_used_are_refused() {
    let error = |name: &str, bytes: &[u8]| format!("{:#}", read(name, bytes, 0.01).unwrap_err());
    assert!(error("a.jsonl", b"").contains("nothing to use"));
    assert!(error("a.jsonl", b"{\"text\": \"skip\"}\n").contains("left out: not wanted, 1"));
    assert!(
        error("a.jsonl", b"{\"text\": \"a\"}\n{\"text\": \"stop\"}\n").contains("a.jsonl:2: poison: stop")
    );
    assert!(error("a.zip", b"PK").contains("not a file of JSON lines"));
    let missing = read_jsonl(Path::new("nowhere.jsonl"), 0.01, &Silent, texts).unwrap_err().to_string();
    assert!(missing.contains("cannot read nowhere.jsonl"), "{missing}");
    let folder = read_jsonl(Path::new("."), 0.01, &Silent, texts).unwrap_err().to_string();
    assert!(folder.contains("is not a file"), "{folder}");
}

#[test]
fn five_examples_are_kept() {
    let lines = "{\"messages\": []}\n".repeat(9) + &"{\"prompt\": \"a\", \"completion\": \"b\"}\n".repeat(9);
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.jsonl"), lines).unwrap();
    let Lines { rows, report, .. } =
        read_jsonl(&dir.path().join("a.jsonl"), 0.5, &Silent, demonstration).unwrap();
    let faults = &report.faults["no messages"];
    assert_eq!((rows.len(), faults.count, faults.examples.len()), (9, 9, 5));
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["faults"]["no messages"]["severity"], "bad");
    assert_eq!(json["faults"]["no messages"]["examples"][4]["line"], 5);
}

/// What only all rows together show takes a row out as a fault of its own would.
#[test]
fn rows_can_be_left_out_afterwards() {
    let mut lines =
        read("a.jsonl", b"{\"text\":\"a\"}\n\n{\"text\":\"b\"}\n{\"text\":\"a\"}\n", 0.0).unwrap();
    let is = |wanted: &'static str| {
        move |row: &String| (row == wanted).then(|| Fault::left_out("odd", "it is odd"))
    };
    lines.leave_out(is("b")).unwrap();
    assert_eq!(
        (lines.rows.as_slice(), lines.numbers.as_slice()),
        (&["a".to_owned(), "a".to_owned()][..], &[1, 4][..])
    );
    assert_eq!((lines.report.lines, lines.report.used, lines.report.left_out()), (3, 2, 1));
    assert_eq!(lines.report.faults["odd"].examples[0].line, 3);
    assert!(lines.leave_out(is("a")).unwrap_err().to_string().contains("there is nothing to use"));
}
