//! Tables that pyarrow wrote (`tools/golden_parquet.py`): every codec and encoding gives the same documents,
//! as their rows do that another library packed with Zstandard.
#![allow(clippy::unwrap_used)] // A test that finds no value has failed.

use std::path::{Path, PathBuf};

use gpt::corpus::{Document, Documents, Filter, Options, Reason, Report, Split, build};
use gpt::progress::Silent;
use serde_json::Value;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/parquet")
}

fn rows() -> Vec<Value> {
    let text = std::fs::read_to_string(golden().join("rows.json")).unwrap();
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
