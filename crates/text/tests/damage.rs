//! A thousand damaged files: none makes the program panic or reserve what it claims, and what is lost is told
//! by file.
//!
//! A test of its own, since the allocator counts for the whole process.
#![allow(clippy::unwrap_used)] // A test that finds no value has failed.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use kernels::rng;
use peak_alloc::PeakAlloc;
use text::corpus::{Document, Documents, Options, Reason, Split, build};
use text::data::rows::read_rows;
use text::progress::Silent;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// How many files are damaged.
const FILES: u64 = 1000;
const THREADS: u64 = 4;
/// What building corpora of undamaged files of this size takes, on all threads, is a fifth of this.
const MOST_BYTES: usize = 32 << 20;
const ROWS: usize = 90;

/// Whole files, by name.
fn whole() -> Vec<(String, Vec<u8>)> {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/parquet");
    let mut files: Vec<PathBuf> = std::fs::read_dir(golden).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_string();
    let mut whole: Vec<(String, Vec<u8>)> = files
        .iter()
        .filter(|path| !path.ends_with("no-text.parquet") && !path.ends_with("rows.json"))
        .map(|path| (name(path), std::fs::read(path).unwrap()))
        .collect();
    let rows: Vec<String> =
        (0..ROWS).map(|i| format!("{{\"text\":\"The row {i} of {ROWS}\",\"n\":{i}}}")).collect();
    let lines = rows.join("\n");
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(lines.as_bytes()).unwrap();
    whole.push(("rows.jsonl.gz".into(), gzip.finish().unwrap()));
    whole.push(("array.json".into(), format!("[\n{}\n]\n", rows.join(",\n")).into_bytes()));
    whole.push(("lines.jsonl".into(), lines.into_bytes()));
    assert_eq!(whole.len(), 14);
    whole
}

/// Whole files of rows with nested columns, or with cells.
fn tables() -> Vec<(String, Vec<u8>)> {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/tables");
    let names = ["conversations-plain", "conversations-dictionary-v2", "groups-many-dictionary"];
    let mut tables: Vec<(String, Vec<u8>)> = names
        .map(|name| format!("{name}.parquet"))
        .map(|name| (name.clone(), std::fs::read(golden.join(&name)).unwrap()))
        .into();
    let rows: String = (0..ROWS).map(|i| format!("{i},\"The row, {i}\"\r\n")).collect();
    tables.push(("rows.csv".into(), format!("n,text\r\n{rows}").into_bytes()));
    tables
}

/// Damages a file: bits, a lost end, a page of zeros, a number that becomes another.
fn damage(bytes: &mut Vec<u8>, seed: u64) -> &'static str {
    let mut draws = 0;
    let mut below = |n: usize| {
        draws += 1;
        rng::below(seed, 1, draws, n as u64) as usize
    };
    // Half of the time what stands at the end, where a table describes itself.
    let start = if below(2) == 0 { 0 } else { bytes.len() * 3 / 4 };
    let room = bytes.len() - start;
    match seed % 4 {
        0 => {
            for _ in 0..1 + below(8) {
                bytes[start + below(room)] ^= 1 << below(8);
            }
            "bits"
        }
        1 => {
            bytes.truncate(start + below(room));
            "truncated"
        }
        2 => {
            let at = start + below(room);
            let end = (at + 16 + below(4096)).min(bytes.len());
            bytes[at..end].fill(0);
            "zeros"
        }
        _ => {
            let at = start + below(room);
            let new: &[u8] = match below(4) {
                0 => &[0xff, 0xff, 0xff, 0xff, 0x07],
                1 => &[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
                2 => &[0xff, 0xff, 0xff, 0x7f],
                _ => &[0x80, 0x80, 0x80, 0x10],
            };
            // In the place of what was there, or so that everything after it moves.
            let old = if below(2) == 0 { new.len() } else { 1 };
            let end = (at + old).min(bytes.len());
            bytes.splice(at..end, new.iter().copied());
            "lengths"
        }
    }
}

/// What damage of each kind is called.
const TOLD: &[&str] = &["damaged Parquet", "damaged zstd", "damaged gzip", "malformed JSON", "torn JSON"];

/// What becomes of a file: its documents, and all that was dropped by reason with its count.
type Outcome = Result<(Vec<Document>, BTreeMap<Reason, u64>), String>;

fn corpus(dir: &Path, name: &str, bytes: &[u8]) -> Outcome {
    let file = dir.join(name);
    std::fs::write(&file, bytes).unwrap();
    let out = dir.join("out");
    let options = Options {
        paths: vec![file.clone()],
        out: out.clone(),
        dedup: false,
        val_fraction: 0.0,
        max_bad_fraction: 1.0,
        threads: 1,
        ..Options::default()
    };
    let report = build(&options, &Silent).map_err(|e| format!("{e:#}"))?;
    let documents = Documents::open(&out, Split::Train).unwrap().map(Result::unwrap).collect();
    for dropped in report.dropped.values() {
        assert!(dropped.examples.iter().all(|e| Path::new(&e.file) == file), "{:?}", dropped.examples);
    }
    std::fs::remove_dir_all(out).unwrap();
    Ok((documents, report.dropped.iter().map(|(&reason, dropped)| (reason, dropped.count)).collect()))
}

#[test]
fn damaged_files_are_told_and_cost_nothing() {
    let whole = whole();
    let dir = tempfile::tempdir().unwrap();
    let expected: Vec<Vec<Document>> =
        whole.iter().map(|(name, bytes)| corpus(dir.path(), name, bytes).unwrap().0).collect();
    assert!(expected.iter().all(|documents| documents.len() == ROWS));
    let seen = Mutex::new(BTreeMap::<String, u64>::new());
    MEMORY.reset_peak_usage();
    let before = MEMORY.current_usage();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (whole, expected, seen) = (&whole, &expected, &seen);
            scope.spawn(move || {
                let dir = tempfile::tempdir().unwrap();
                for seed in (0..FILES).filter(|seed| seed % THREADS == thread) {
                    // Each file gets every kind of damage.
                    let which = (seed / 4) as usize % whole.len();
                    let (name, mut bytes) = whole[which].clone();
                    let kind = damage(&mut bytes, seed);
                    let shown = format!("{name}, {kind}, seed {seed}");
                    let outcome = corpus(dir.path(), &name, &bytes);
                    let what = judge(&name, &outcome, &expected[which], &shown);
                    *seen.lock().unwrap().entry(what).or_default() += 1;
                    let tables = tables();
                    let (name, mut bytes) = tables[which % tables.len()].clone();
                    damage(&mut bytes, seed);
                    let file = dir.path().join(&name);
                    std::fs::write(&file, bytes).unwrap();
                    if let Err(error) = read_rows(&file, 1.0, &Silent, Ok) {
                        let error = error.to_string();
                        assert!(
                            error.contains(&name) && !error.contains("panicked"),
                            "{name}, seed {seed}: {error}"
                        );
                    }
                }
            });
        }
    });
    let most = MEMORY.peak_usage() - before;
    assert!(most < MOST_BYTES, "{most} bytes were in use at once");
    let seen = seen.into_inner().unwrap();
    for what in ["harmless", "damaged Parquet", "damaged zstd", "damaged gzip", "malformed JSON", "torn JSON"]
    {
        assert!(seen.contains_key(what), "{what} is not in {seen:?}");
    }
}

/// Names what came of the damage, and checks that nothing is missing without a word.
fn judge(name: &str, outcome: &Outcome, expected: &[Document], shown: &str) -> String {
    let (documents, dropped) = match outcome {
        Ok(outcome) => outcome,
        Err(message) => {
            assert!(message.contains(name) && !message.contains("panicked"), "{shown}: {message}");
            let told = TOLD.iter().find(|what| message.contains(**what));
            return told.map_or("nothing left", |what| what).into();
        }
    };
    if dropped.is_empty() {
        // Lines that are cut between two of them are still lines.
        if name == "lines.jsonl" && expected.starts_with(documents) {
            return "cut".into();
        }
        // Without a checksum a letter may become another, but no text is missing.
        assert_eq!(documents.len(), expected.len(), "{shown}");
        return if documents == expected { "harmless" } else { "other text" }.into();
    }
    dropped.keys().map(ToString::to_string).next().unwrap_or_default()
}
