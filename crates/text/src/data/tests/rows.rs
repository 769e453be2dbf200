//! What becomes of good and bad lines.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;

use serde_json::{Value, json};

use crate::data::messages::demonstration;
use crate::data::rows::{Fault, LineReport, Lines, Record, read_rows};
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
    read_rows(&dir.path().join(name), max_bad, &Silent, texts)
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
        ("record too long", 1),
        ("torn JSON", 1),
        ("wrong type", 3),
    ];
    assert_eq!(counts(&report), BTreeMap::from(expected));
    assert_eq!((report.lines, report.used, report.bad(), report.left_out()), (14, 3, 10, 1));
    let line = |kind: &str| report.faults[kind].examples.iter().map(|e| e.line).collect::<Vec<_>>();
    assert_eq!(line("malformed JSON"), [5, 11]);
    assert_eq!(line("record too long"), [15]);

    let error = read("a.jsonl", &file, 0.7).unwrap_err().to_string();
    for said in
        ["10 of 14 lines are bad", "at most 70 %", "bad: wrong type, 3", "a.jsonl:8: text is not a string"]
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
    assert!(error("a.jsonl", b"").contains("is empty: it has no rows"));
    assert!(error("a.jsonl", b"{\"text\": \"skip\"}\n").contains("left out: not wanted, 1"));
    assert!(
        error("a.jsonl", b"{\"text\": \"a\"}\n{\"text\": \"stop\"}\n").contains("a.jsonl:2: poison: stop")
    );
    for (name, bytes) in [("a.zip", "PK"), ("a.txt", "Some prose.\n"), ("a.py", "import os\n")] {
        assert!(error(name, bytes.as_bytes()).contains("is not a file of rows"), "{name}");
    }
    assert!(error("a.txt", b"{'text': 'a'}\n").contains("malformed JSON, 1"), "it was meant to be JSON");
    for (name, bytes) in [("a.txt", &b""[..]), ("a.csv", b"text,n\n"), ("a.json", b"[]")] {
        let error = error(name, bytes);
        assert!(error.contains("is empty: it has no rows") && error.contains(name), "{error}");
    }
    let missing = read_rows(Path::new("nowhere.jsonl"), 0.01, &Silent, texts).unwrap_err().to_string();
    assert!(missing.contains("cannot read nowhere.jsonl"), "{missing}");
    let folder = read_rows(Path::new("."), 0.01, &Silent, texts).unwrap_err().to_string();
    assert!(folder.contains("is a directory, and one file of rows is wanted"), "{folder}");
}

#[test]
fn five_examples_are_kept() {
    let lines = "{\"messages\": []}\n".repeat(9) + &"{\"prompt\": \"a\", \"completion\": \"b\"}\n".repeat(9);
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.jsonl"), lines).unwrap();
    let Lines { rows, report, .. } =
        read_rows(&dir.path().join("a.jsonl"), 0.5, &Silent, demonstration).unwrap();
    let faults = &report.faults["no messages"];
    assert_eq!((rows.len(), faults.count, faults.examples.len()), (9, 9, 5));
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["faults"]["no messages"]["severity"], "bad");
    assert_eq!(json["faults"]["no messages"]["examples"][4]["line"], 5);
}

#[test]
fn rows_are_the_same_in_every_form_and_under_every_name() {
    let texts = ["one, with a comma", "two\nlines and a \"quote\"", "zwölf 漢字 🦜"];
    let lines: String = texts.iter().map(|text| json!({ "text": text, "n": 1 }).to_string() + "\n").collect();
    let array = format!("[{}]", lines.trim().replace('\n', ","));
    let cells = |separator: &str| {
        let row = |text: &&str| format!("1{separator}\"{}\"\r\n", text.replace('"', "\"\""));
        format!("n{separator}text\r\n{}", texts.iter().map(row).collect::<String>())
    };
    let utf16 = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    let gzip = |text: &str| {
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all(text.as_bytes()).unwrap();
        [gz.finish().unwrap(), vec![0; 512]].concat()
    };
    let check = |name: &str, bytes: &[u8]| assert_eq!(read(name, bytes, 0.0).unwrap().rows, texts, "{name}");
    for name in ["a.jsonl", "a.jsonlines", "a.jl", "a.txt", "part-00000", "a.csv", "a.json", "a.py"] {
        check(name, lines.as_bytes());
        check(name, lines.replace("{\"text", "\u{feff}{\"text").as_bytes());
        check(name, &utf16(&lines));
        check(name, &gzip(&lines));
        check(name, array.as_bytes());
    }
    check("a.csv", cells(",").as_bytes());
    check("a.csv", cells(";").as_bytes());
    check("a.tsv", cells("\t").as_bytes());
    check("a.csv", format!("\u{feff}{}", cells(",")).as_bytes());
    check("a.csv", &utf16(&cells(",")));
    check("a.tsv.gz", &gzip(&cells("\t")));
}

#[test]
fn values_that_json_has_not_do_no_harm_beside_and_are_named_within() {
    let file = "{\"text\": \"one\", \"score\": NaN}\n{\"text\": \"two\", \"more\": [-Infinity, \"\\ud800\"]}\n\
                {\"text\": NaN, \"id\": 1e999}\n{\"text\": \"\\udc00\"}\n";
    let Lines { rows, report, .. } = read("a.jsonl", file.as_bytes(), 0.5).unwrap();
    assert_eq!(rows, ["one", "two"]);
    let found: Vec<_> =
        report.faults["wrong type"].examples.iter().map(|e| (e.line, e.detail.as_str())).collect();
    let expected = [
        (3, "text is not a string; text is NaN, id is 1e999, which is beyond all numbers"),
        (4, "text is not a string; text holds \\udc00, half of a surrogate pair"),
    ];
    assert_eq!(found, expected);

    // What is kept beside is kept as the nearest value of JSON.
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.jsonl");
    fs::write(&path, "{\"text\": \"one\", \"score\": NaN, \"note\": \"a\\ud800\"}\n").unwrap();
    let kept = read_rows(&path, 0.0, &Silent, Ok).unwrap().rows;
    assert_eq!(
        kept,
        [json!({"text": "one", "score": null, "note": "a\u{fffd}"}).as_object().unwrap().clone()]
    );
}

#[test]
fn cells_are_texts_or_what_they_spell() {
    let messages = |cell: &str| read_cells(&format!("messages\n\"{}\"\n", cell.replace('"', "\"\"")));
    let conversation = r#"[{"role": "user", "content": "7 + 1?"}, {"role": "assistant", "content": "8"}]"#;
    assert_eq!(messages(conversation).unwrap()[0][1].content, "8");
    let turns =
        read_cells("prompt,completion\nHow much is 6 * 7?,42\nA list?,\"[1, 2]\"\ntrue?,true\n").unwrap();
    let answers: Vec<&str> = turns.iter().map(|turns| turns[1].content.as_str()).collect();
    assert_eq!(answers, ["42", "[1, 2]", "true"], "a text stays one, whatever it spells");
    let error = messages("[{\"role\": \"nobody\", \"content\": \"x\"}]").unwrap_err().to_string();
    assert!(error.contains("a.csv:2: messages[0].role is nobody"), "{error}");
    let error = read_cells("prompt,completion\nWhat?,\n").unwrap_err().to_string();
    assert!(error.contains("bad: empty message"), "the fault of the cell as it is written: {error}");

    let form = crate::data::Form::MultipleChoice;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.csv");
    fs::write(&path, "context,question,answers,label\n,Which?,\"[\"\"x\"\", \"\"y\"\"]\",1\n").unwrap();
    let rows = read_rows(&path, 0.0, &Silent, |record| form.read(&record, true)).unwrap().rows;
    assert_eq!(rows[0].texts, ["Which?", "x", "y"], "an empty cell is no context");
}

fn read_cells(table: &str) -> anyhow::Result<Vec<Vec<crate::data::messages::Message>>> {
    let dir = tempfile::tempdir()?;
    fs::write(dir.path().join("a.csv"), table)?;
    let rows = read_rows(&dir.path().join("a.csv"), 0.0, &Silent, demonstration)?.rows;
    Ok(rows.into_iter().map(|shown| shown.messages).collect())
}

#[test]
fn lines_and_records_of_arrays_and_tables_are_named() {
    let lines = |name: &str, text: &str| {
        let report = read(name, text.as_bytes(), 1.0).unwrap().report;
        let examples = &report.faults.values().next().unwrap().examples;
        examples.iter().map(|e| (e.line, e.detail.clone())).collect::<Vec<_>>()
    };
    let wrong = |line: u64, what: &str| (line, format!("{what}text is not a string"));
    let array = "[\n  {\"text\": \"a\"},\n  {\n    \"text\": 1\n  },\n  {\"text\": 2}\n]\n";
    assert_eq!(lines("a.json", array), [wrong(3, ""), wrong(6, "")]);
    let one_line = "[{\"text\": \"a\"}, {\"text\": 1}, {\"text\": \"b\"}, {\"text\": 2}]";
    assert_eq!(lines("a.json", one_line), [wrong(1, "record 2: "), wrong(1, "record 4: ")]);
    let ragged = lines("a.csv", "text,n\n\"a\nb\",1\nc\nd,2\n");
    assert_eq!(ragged, [(4, "1 cell, the first row has 2".to_string())]);
    let error = read("a.csv", b"text,n\na,1\n\"b,2\nc,3\n", 1.0).unwrap_err().to_string();
    assert!(error.contains("a.csv:3: quote that is never closed"), "{error}");
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
