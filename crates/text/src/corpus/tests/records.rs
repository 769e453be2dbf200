//! Records under any name and in any encoding, tables, and what is wrong with them.

use super::*;

const TEXTS: [&str; 3] =
    ["The lamp stood on the table.", "A cat, “grey”, walked by.", "Zwölf 漢字 🦜 sang today."];

/// The texts as JSON lines with an odd value beside each.
fn lines() -> String {
    let odd = ["NaN", "1e999", "\"\\ud800\""];
    TEXTS.iter().zip(odd).map(|(text, odd)| format!("{{\"text\": \"{text}\", \"score\": {odd}}}\n")).collect()
}

fn utf16(text: &str, unit: impl Fn(u16) -> [u8; 2]) -> Vec<u8> {
    text.encode_utf16().flat_map(unit).collect()
}

/// The corpus of what lies at `input`.
fn corpus(input: &Path, change: &dyn Fn(&mut Options)) -> anyhow::Result<(Vec<String>, Report)> {
    let out = tempfile::tempdir()?;
    let mut options = Options { val_fraction: 0.0, ..options(input, &out.path().join("out")) };
    change(&mut options);
    let report = build(&options, &Silent)?;
    Ok((all(&options.out).into_iter().map(|document| document.text).collect(), report))
}

#[test]
fn json_under_any_name_and_in_any_encoding_gives_its_texts() {
    let dir = tempfile::tempdir().unwrap();
    let lines = lines();
    let marked = lines.replace("{\"text\"", "\u{feff}{\"text\"");
    let array = format!("[{}]", lines.trim().replace('\n', ",\n"));
    for name in ["a.jsonl", "a.jsonlines", "a.jl", "a.txt", "part-00000", "a.csv", "a.json", "a.log", "a.js"]
    {
        for (what, bytes) in [
            ("UTF-8", lines.clone().into_bytes()),
            ("marks", marked.clone().into_bytes()),
            ("array", array.clone().into_bytes()),
            ("UTF-16, little", utf16(&format!("\u{feff}{lines}"), u16::to_le_bytes)),
            ("UTF-16, big", utf16(&format!("\u{feff}{lines}"), u16::to_be_bytes)),
            ("UTF-16, little, no mark", utf16(&lines, u16::to_le_bytes)),
            ("UTF-16, big, no mark", utf16(&lines, u16::to_be_bytes)),
            ("gzip with padding", [gzip(lines.as_bytes()), vec![0; 512]].concat()),
            ("zstd", compress_to_vec(lines.as_bytes(), CompressionLevel::Fastest)),
        ] {
            put(dir.path(), name, bytes);
            for fields in [vec![], vec!["text".to_string()]] {
                let (texts, report) =
                    corpus(&dir.path().join(name), &|options| options.text_fields = fields.clone()).unwrap();
                assert_eq!(texts, TEXTS, "{name}, {what}");
                assert_eq!((report.records, report.bad_records), (3, 0), "{name}, {what}");
                let by_name = ["a.jsonl", "a.jsonlines", "a.json"].contains(&name);
                assert_eq!(report.json_by_content.files, u64::from(!by_name), "{name}, {what}");
            }
        }
    }
}

#[test]
fn an_odd_value_in_the_text_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let columns = |line: &str| {
        let good = "{\"text\": \"fine\"}\n";
        put(dir.path(), "a.jsonl", format!("{good}{line}\n"));
        let (_, report) = corpus(&dir.path().join("a.jsonl"), &|o| o.max_bad_fraction = 0.5).unwrap();
        let (reason, dropped) = report.dropped.iter().next().unwrap();
        (*reason, dropped.examples[0].line, dropped.examples[0].detail.clone())
    };
    for (line, detail) in [
        ("{\"text\": NaN}", "text is NaN"),
        ("{\"text\": -Infinity}", "text is -Infinity"),
        ("{\"text\": 1e999}", "text is 1e999, which is beyond all numbers"),
        ("{\"text\": \"a\\udfffb\"}", "text holds \\udfff, half of a surrogate pair"),
    ] {
        assert_eq!(columns(line), (Reason::MalformedJson, 2, detail.into()));
    }
    let filter = Filter { column: "score".into(), values: vec!["1".into()] };
    put(dir.path(), "b.jsonl", "{\"text\": \"a\", \"score\": 1}\n{\"text\": \"b\", \"score\": NaN}\n");
    let (texts, report) = corpus(&dir.path().join("b.jsonl"), &|o| o.filters = vec![filter.clone()]).unwrap();
    assert_eq!(texts, ["a"]);
    assert_eq!(report.dropped[&Reason::NoFilterColumn].examples[0].detail, "score is NaN");
}

#[test]
fn json_without_the_column_is_no_prose() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "notes.txt", "{\"title\": \"one\", \"body\": \"The lamp.\"}\n".repeat(3));
    put(dir.path(), "prose.txt", "Some prose.\n");
    let error = corpus(&dir.path().join("notes.txt"), &|_| ()).unwrap_err().to_string();
    assert!(error.contains("no text column") && error.contains("it has title, body"), "{error}");
    let (texts, report) = corpus(dir.path(), &|_| ()).unwrap();
    assert_eq!(texts, ["Some prose.\n"]);
    assert_eq!(report.dropped[&Reason::NotRecords].examples[0].detail, "it has title, body");
    let (texts, _) = corpus(&dir.path().join("notes.txt"), &|o| o.text_fields = vec!["body".into()]).unwrap();
    assert_eq!(texts, ["The lamp."]);
}

#[test]
fn tables_are_read_as_rfc_4180_says() {
    let dir = tempfile::tempdir().unwrap();
    let texts = |name: &str, table: &str, change: &dyn Fn(&mut Options)| {
        put(dir.path(), name, table);
        corpus(&dir.path().join(name), change).unwrap()
    };
    let table =
        "\u{feff}id,text,label\r\n0,\"A \"\"lamp\"\",\r\nand a table.\",x\r\n\r\n1,A cat walked by.,y\r\n";
    let (got, report) = texts("a.csv", table, &|_| ());
    assert_eq!(got, ["A \"lamp\",\nand a table.", "A cat walked by."]);
    assert_eq!((report.records, report.bad_records, report.dropped.len()), (2, 0, 0));
    for separator in [";", "\t"] {
        let table =
            table.replace("\",x", &format!("\"{separator}x")).replace("0,\"", &format!("0{separator}\""));
        let table = table.replace("id,text,label", &["id", "text", "label"].join(separator));
        let table = table.replace("1,A cat walked by.,y", &["1", "A cat walked by.", "y"].join(separator));
        for name in ["a.csv", "a.tsv"] {
            assert_eq!(texts(name, &table, &|_| ()).0, got, "{name} with {separator:?}");
        }
    }
    put(dir.path(), "a.csv.gz", gzip(table.as_bytes()));
    assert_eq!(corpus(&dir.path().join("a.csv.gz"), &|_| ()).unwrap().0, got);
    put(dir.path(), "b.csv", utf16(table, u16::to_le_bytes));
    assert_eq!(corpus(&dir.path().join("b.csv"), &|_| ()).unwrap().0, got);

    let label = Filter { column: "label".into(), values: vec!["y".into()] };
    let chosen = |o: &mut Options| {
        (o.text_fields, o.filters) = (vec!["id".into(), "text".into()], vec![label.clone()])
    };
    assert_eq!(texts("a.csv", table, &chosen).0, ["1\n\nA cat walked by."]);
    let named = Filter { column: "text.1".into(), values: vec!["b".into()] };
    let table = "text,text\nfirst one,a\nsecond one,b\n";
    assert_eq!(texts("a.csv", table, &|o| o.filters = vec![named.clone()]).0, ["second one"]);
}

#[test]
fn tables_that_were_put_together_name_their_columns_again() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "a.csv", "\u{feff}text,n\nfirst,1\n\u{feff}text,n\nsecond,2\ntext,m\n");
    let (texts, report) = corpus(&dir.path().join("a.csv"), &|_| ()).unwrap();
    assert_eq!(texts, ["first", "second", "text"]);
    assert_eq!((report.records, report.count(Reason::RepeatedHeader)), (3, 1));
}

#[test]
fn what_is_wrong_with_a_table_is_named_by_line() {
    let dir = tempfile::tempdir().unwrap();
    let report = |table: &[u8]| {
        put(dir.path(), "a.csv", table);
        corpus(&dir.path().join("a.csv"), &|o| o.max_bad_fraction = 1.0).unwrap()
    };
    let table = b"text,n\n\"one\nline\",1\nfew\nmany,2,3\n,4\ncaf\xe9 au lait,5\n  \nlast,\xe9\n";
    let (texts, report_) = report(table);
    assert_eq!(texts, ["one\nline", "last"]);
    let found = |reason: Reason| {
        let examples = &report_.dropped[&reason].examples;
        examples.iter().map(|e| (e.line, e.detail.as_str())).collect::<Vec<_>>()
    };
    let ragged = [(4, "1 cell, the first row has 2"), (5, "3 cells, the first row has 2")];
    assert_eq!(found(Reason::RaggedRow), ragged);
    assert_eq!(found(Reason::Empty), [(6, "")]);
    assert_eq!(found(Reason::RecordNotUtf8), [(7, "text holds bytes that are not UTF-8, first 0xe9")]);
    assert_eq!(found(Reason::BlankLine), [(8, "")]);
    assert_eq!((report_.records, report_.bad_records), (6, 3));

    let (texts, report_) = report(b"text,n\none,1\n\"two,2\nthree,3\nfour,4\n");
    let example = &report_.dropped[&Reason::OpenQuote].examples[0];
    assert_eq!(texts, ["one"]);
    assert_eq!((example.line, example.detail.as_str()), (3, "all the rest, 22 bytes, is in one cell"));
    assert_eq!(report_.bad_records, 1);

    let long = format!("text,n\n\"{}\",1\nshort,2\n", "words ".repeat(2_000_000));
    let (texts, report_) = report(long.as_bytes());
    assert_eq!((texts, report_.count(Reason::LongRecord)), (vec!["short".to_string()], 1));
    let wide = format!("text,n\n{}\nshort,2\n", ",".repeat(100_000));
    assert_eq!(report(wide.as_bytes()).0, ["short"]);
}

#[test]
fn files_without_records_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "in/header.csv", "text,n\n");
    put(dir.path(), "in/empty.csv", "");
    put(dir.path(), "in/empty.jsonl", "");
    put(dir.path(), "in/array.json", "[]");
    put(dir.path(), "in/numbers.tsv", "x\ty\n1\t2\n");
    put(dir.path(), "in/prose.txt", "Some prose.\n");
    let (texts, report) = corpus(&dir.path().join("in"), &|_| ()).unwrap();
    assert_eq!(texts, ["Some prose.\n"]);
    assert_eq!((report.count(Reason::NoRecords), report.records, report.bad_records), (4, 0, 0));
    let numbers = &report.dropped[&Reason::NotRecords].examples[0];
    assert_eq!(
        (numbers.line, numbers.detail.as_str()),
        (0, "it has x, y"),
        "a table of numbers is nobody's corpus"
    );
    let error = corpus(&dir.path().join("in/header.csv"), &|_| ()).unwrap_err().to_string();
    assert!(error.contains("no records in it") && error.contains("header.csv"), "{error}");
    let error = corpus(&dir.path().join("in/numbers.tsv"), &|_| ()).unwrap_err().to_string();
    assert!(error.contains("it has x, y"), "{error}");
}
