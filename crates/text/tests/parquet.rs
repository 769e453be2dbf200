//! Tables that pyarrow wrote (`tools/golden_parquet.py`): every codec and encoding gives the same documents,
//! as their rows do that another library packed with Zstandard.
#![allow(clippy::unwrap_used)] // A test that finds no value has failed.

use std::path::{Path, PathBuf};

use serde_json::Value;
use text::corpus::{Document, Documents, Filter, Options, Reason, Report, Split, build};
use text::data::rows::{Fault, Lines, Record, read_rows};
use text::progress::Silent;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/parquet")
}

fn rows() -> Vec<Value> {
    rows_in(&golden().join("rows.json"))
}

fn rows_in(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    serde_json::from_str::<Value>(&text).unwrap()["rows"].as_array().unwrap().clone()
}

/// All tables, and the same rows as JSON lines.
fn tables() -> Vec<PathBuf> {
    let mut tables: Vec<PathBuf> = std::fs::read_dir(golden())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| !path.ends_with("rows.json") && !path.ends_with("no-text.parquet"))
        .collect();
    tables.sort();
    assert_eq!(tables.len(), 11);
    tables
}

/// The corpus of one file: its documents in order, and the report.
fn corpus(path: &Path, change: impl Fn(&mut Options)) -> anyhow::Result<(Vec<Document>, Report)> {
    let dir = tempfile::tempdir()?;
    let mut options = Options {
        paths: vec![path.into()],
        out: dir.path().join("out"),
        val_fraction: 0.0,
        max_bad_fraction: 1.0,
        ..Options::default()
    };
    change(&mut options);
    let report = build(&options, &Silent)?;
    let documents = Documents::open(&options.out, Split::Train)?.collect::<anyhow::Result<_>>()?;
    Ok((documents, report))
}

#[test]
fn every_codec_and_encoding_gives_the_rows() {
    for table in tables() {
        let (documents, report) = corpus(&table, |_| ()).unwrap();
        let name = table.file_name().unwrap().to_str().unwrap();
        assert_eq!(documents.len(), 90, "{name}");
        assert_eq!((report.records, report.bad_records), (90, 0), "{name}");
        for (i, (document, row)) in documents.iter().zip(rows()).enumerate() {
            assert_eq!(document.text, row["text"].as_str().unwrap(), "{name}");
            assert_eq!(document.source, format!("{name}:{}:{}", i + 1, row["path"].as_str().unwrap()));
        }
        assert_eq!(report.by_extension["md"].kept.documents, 90, "the path tells the kind");
    }
}

/// What a filter should say of a row; `None` when there is no value.
type IsWanted = fn(&Value) -> Option<bool>;

#[test]
fn columns_are_joined_and_filtered() {
    let filter = |column: &str, values: &[&str]| Filter {
        column: column.into(),
        values: values.iter().map(ToString::to_string).collect(),
    };
    let cases: [(Filter, IsWanted); 6] = [
        (filter("license", &["MIT", "gpl-3.0"]), |row| {
            row["license"].as_str().map(|l| ["mit", "GPL-3.0"].contains(&l))
        }),
        (filter("stars", &["1", "2"]), |row| row["stars"].as_i64().map(|n| n > 0)),
        (filter("size", &["10000000005"]), |row| row["size"].as_i64().map(|n| n == 10_000_000_005)),
        (filter("fork", &["false"]), |row| row["fork"].as_bool().map(|fork| !fork)),
        (filter("licenses", &["apache-2.0"]), |row| {
            // A list without elements has no value that could be wanted or not.
            let list = row["licenses"].as_array().filter(|list| !list.is_empty());
            list.map(|list| list.iter().any(|l| l == "apache-2.0"))
        }),
        (filter("meta.language", &["en"]), |row| row["meta"]["language"].as_str().map(|l| l == "en")),
    ];
    for table in tables() {
        for (filter, wanted) in &cases {
            let (documents, report) = corpus(&table, |options| {
                options.filters = vec![filter.clone()];
                options.text_fields = vec!["title".into(), "text".into()];
            })
            .unwrap();
            let texts: Vec<String> = rows()
                .iter()
                .filter(|row| wanted(row) == Some(true))
                .map(|row| match (row["title"].as_str(), row["text"].as_str().unwrap()) {
                    (Some(title), text) => format!("{title}\n\n{text}"),
                    (None, text) => text.to_string(),
                })
                .collect();
            let shown = format!("{}, {}", table.display(), filter.column);
            assert!(!texts.is_empty() && texts.len() < 90, "{shown}");
            assert!(documents.iter().map(|d| &d.text).eq(&texts), "{shown}");
            let unwanted = rows().iter().filter(|row| wanted(row) == Some(false)).count() as u64;
            assert_eq!(report.count(Reason::Filtered), unwanted, "{shown}");
            assert_eq!(report.count(Reason::NoFilterColumn), 90 - unwanted - texts.len() as u64, "{shown}");
            assert_eq!(report.bad_records, 0, "{shown}");
        }
    }
}

#[test]
fn what_holds_no_text_is_told() {
    let table = golden().join("snappy-dictionary.parquet");
    let fails = |path: &Path, column: &str| {
        let text_fields = vec![column.to_string()];
        let error = corpus(path, |options| options.text_fields = text_fields.clone()).unwrap_err();
        format!("{error:#}")
    };
    let error = fails(&table, "licenses");
    assert!(
        error.contains("snappy-dictionary.parquet: licenses is no column of strings, one a row"),
        "{error}"
    );
    let error = fails(&table, "meta");
    assert!(error.contains("meta is a column of lists or groups, not of strings"), "{error}");
    assert!(fails(&table, "stars").contains("stars is no column of strings"));
    assert!(fails(&table, "body").contains("no text column"), "{error}");
    assert!(fails(&table, "body").contains("it has title, text, path, license, stars, size, fork, licenses"));

    // Met in a folder, a table of numbers is nobody's corpus, and no bad record.
    let (documents, report) =
        corpus(&golden(), |options| options.exclude = vec!["rows.json".into()]).unwrap();
    assert_eq!((documents.len(), report.count(Reason::Duplicate), report.bad_records), (90, 10 * 90, 0));
    assert_eq!(report.count(Reason::NotRecords), 1);
    let error = format!("{:#}", corpus(&golden().join("no-text.parquet"), |_| ()).unwrap_err());
    assert!(error.contains("it has x, y"), "{error}");
}

/// Tables whose names begin so.
fn tables_of(kind: &str) -> Vec<PathBuf> {
    let dir = golden().with_file_name("tables");
    let files = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let is_kind = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.starts_with(kind) && name.ends_with(".parquet")
    };
    files.filter(is_kind).collect()
}

fn records(path: &Path) -> anyhow::Result<Vec<Value>> {
    Ok(read_rows(path, 0.0, &Silent, Ok)?.rows.into_iter().map(Value::Object).collect())
}

#[test]
fn groups_without_rows_lose_none() {
    let tables = tables_of("groups-");
    assert_eq!(tables.len(), 20);
    let mut expected = rows()[..7].to_vec();
    for row in &mut expected {
        row.as_object_mut().unwrap().retain(|name, _| ["title", "text", "licenses"].contains(&name.as_str()));
    }
    for table in tables.iter().filter(|table| !table.to_str().unwrap().contains("alone")) {
        assert_eq!(records(table).unwrap(), expected, "{}", table.display());
        let (documents, report) = corpus(table, |_| ()).unwrap();
        assert!(
            documents
                .iter()
                .map(|d| d.text.as_str())
                .eq(expected.iter().map(|row| row["text"].as_str().unwrap()))
        );
        assert_eq!(
            (report.records, report.bad_records, report.dropped.len()),
            (7, 0, 0),
            "{}",
            table.display()
        );
    }
}

#[test]
fn tables_without_rows_are_empty_files() {
    let tables: Vec<PathBuf> = ["groups-alone", "no-"].into_iter().flat_map(tables_of).collect();
    assert_eq!(tables.len(), 6);
    for table in tables {
        let error = records(&table).unwrap_err().to_string();
        assert!(
            error.contains("is empty: it has no rows") && error.contains(table.to_str().unwrap()),
            "{error}"
        );
        let error = corpus(&table, |_| ()).unwrap_err().to_string();
        assert!(error.contains("no records in it") && error.contains(table.to_str().unwrap()), "{error}");
        let with_rows = golden().join("plain.parquet");
        let (documents, report) = corpus(&with_rows, |o| o.paths.push(table.clone())).unwrap();
        assert_eq!((documents.len(), report.count(Reason::NoRecords), report.bad_records), (90, 1, 0));
    }
}

#[test]
fn nested_columns_are_read_as_json_would_say_them() {
    let expected = rows_in(&golden().with_file_name("tables").join("conversations.json"));
    let tables = tables_of("conversations");
    assert_eq!((tables.len(), expected.len()), (4, 12));
    for table in tables {
        let found = records(&table).unwrap();
        for (found, expected) in found.iter().zip(&expected) {
            assert_eq!(found, expected, "{}", table.display());
        }
        assert_eq!(found.len(), 12);

        // What JSON has not is named by who needs it, in the row where it stands.
        let score = |record: Record| match &record["score"] {
            Value::Number(score) => Ok(score.as_f64().unwrap()),
            Value::Null => Ok(0.0),
            _ => Err(Fault::bad("wrong type", "score is no number")),
        };
        let Lines { rows, report, .. } = read_rows(&table, 0.5, &Silent, score).unwrap();
        assert_eq!(rows, [0.5, 0.0, 1e300, 0.5, 0.0, 1e300]);
        let examples = &report.faults["wrong type"].examples;
        assert!(
            examples[0].detail.starts_with("score is no number; score is NaN, when is a date"),
            "{}",
            examples[0]
        );
        assert_eq!(examples.iter().map(|example| example.line).collect::<Vec<_>>(), [1, 2, 6, 7, 11]);
    }
}
