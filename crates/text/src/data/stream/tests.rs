use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;
use crate::corpus::Documents;
use crate::progress::{Silent, Unit};

const SEQ_LEN: usize = 16;
const SEQUENCES: usize = 4;

/// Files of several kinds, and a tokenizer with a token for every byte and no merges.
fn world() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let files = dir.path().join("files");
    fs::create_dir(&files).unwrap();
    let line = |i: usize| serde_json::json!({ "text": text(i) }).to_string() + "\n";
    fs::write(files.join("a.jsonl"), (0..40).map(line).collect::<String>()).unwrap();
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all((40..90).map(line).collect::<String>().as_bytes()).unwrap();
    fs::write(files.join("b.jsonl.gz"), packed.finish().unwrap()).unwrap();
    (90..120).for_each(|i| fs::write(files.join(format!("{i}.txt")), text(i)).unwrap());
    let texts = [Ok("a".to_string())].into_iter();
    Tokenizer::train(texts, 257, &[], &Silent).unwrap().save(dir.path()).unwrap();
    dir
}

fn text(i: usize) -> String {
    format!("document {i} says {}", "again and ".repeat(i % 13))
}

fn options(dir: &Path) -> StreamOptions {
    StreamOptions {
        corpus: corpus::Options {
            paths: vec![dir.join("files")],
            val_fraction: 0.2,
            seed: 7,
            dedup: false,
            ..corpus::Options::default()
        },
        tokenizer: dir.join("tokenizer.json"),
        block_tokens: 1000,
    }
}

fn open(dir: &Path) -> TokenStream {
    TokenStream::open(&options(dir), SEQ_LEN, &Silent).unwrap()
}

fn step(stream: &mut TokenStream, step: u64, progress: &dyn Progress) -> Result<Batch> {
    let mut batch = Batch::default();
    stream.batch(step, 0..SEQUENCES, SEQUENCES, &mut batch, progress)?;
    Ok(batch)
}

/// What people heard.
#[derive(Default)]
struct Heard(Mutex<Vec<String>>);

impl Heard {
    /// The numbers of the blocks that were read.
    fn blocks(&self) -> Vec<u64> {
        let lines = self.0.lock().unwrap();
        let number =
            |line: &String| line.strip_prefix("block ")?.split_once(':').and_then(|(n, _)| n.parse().ok());
        lines.iter().filter_map(number).collect()
    }

    fn text(&self) -> String {
        self.0.lock().unwrap().join("\n")
    }
}

impl Progress for Heard {
    fn begin(&self, _: &str, _: u64, _: Unit) {}
    fn advance(&self, _: u64) {}
    fn line(&self, text: &str) {
        self.0.lock().unwrap().push(text.into());
    }
    fn end(&self) {}
    fn should_stop(&self) -> bool {
        false
    }
}

/// The documents of a corpus made of the same files with the same seed.
fn corpus_of(dir: &Path, split: Split) -> Vec<String> {
    let out = dir.join(format!("corpus-{}", split.name()));
    corpus::build(&corpus::Options { out: out.clone(), ..options(dir).corpus }, &Silent).unwrap();
    Documents::open(&out, split).unwrap().map(|document| document.unwrap().text).collect()
}

/// How often each token is there.
fn counts<'a>(tokens: impl IntoIterator<Item = &'a u32>) -> BTreeMap<u32, i64> {
    let mut counts = BTreeMap::new();
    tokens.into_iter().for_each(|&token| *counts.entry(token).or_default() += 1);
    counts
}

#[test]
fn every_epoch_predicts_the_tokens_of_the_corpus_once() {
    let dir = world();
    let mut stream = open(dir.path());
    let (mut epochs, mut blocks, mut row) = ([(); 2].map(|()| BTreeMap::<u32, i64>::new()), Vec::new(), 0);
    loop {
        let mut batch = Batch::default();
        stream.batch(row + 1, 0..1, 1, &mut batch, &Silent).unwrap();
        let mark = stream.mark().unwrap().clone();
        let Some(predicted) = epochs.get_mut(mark.epoch as usize) else { break };
        if blocks.last() != Some(&mark) {
            blocks.push(mark);
        }
        assert_eq!(batch.tokens[1..], batch.targets[..SEQ_LEN - 1]);
        counts(&batch.targets).into_iter().for_each(|(id, n)| *predicted.entry(id).or_default() += n);
        row += 1;
    }
    assert!(blocks.len() > 10, "{} blocks", blocks.len());
    let tokenizer = stream.tokenizer();
    let documents = corpus_of(dir.path(), Split::Train);
    let encoded = documents.iter().flat_map(|text| [tokenizer.encode(text), vec![0]].concat());
    let all = counts(&encoded.collect::<Vec<_>>());
    for predicted in epochs {
        let mut missing = all.clone();
        for (id, n) in predicted {
            let left = missing.get_mut(&id).unwrap();
            *left -= n;
            assert!(*left >= 0, "token {id} is predicted {} times too often", -*left);
        }
        let missing: i64 = missing.into_values().sum();
        assert!(missing < (blocks.len() / 2 * SEQ_LEN) as i64, "{missing} tokens are not predicted");
    }
}

#[test]
fn a_stream_goes_on_from_any_step_with_the_same_bits_and_one_block_read_again() {
    let dir = world();
    let mut whole = open(dir.path());
    let (mut batches, mut marks) = (Vec::new(), Vec::new());
    for number in 1..=150 {
        batches.push(step(&mut whole, number, &Silent).unwrap());
        marks.push(whole.mark().unwrap().clone());
    }
    assert!(marks[149].epoch > 0, "the steps reach into a second epoch");
    for (stopped_after, threads) in [(1, 1), (37, 3), (80, 1), (149, 2)] {
        let mut options = options(dir.path());
        options.corpus.threads = threads;
        let mut stream = TokenStream::open(&options, SEQ_LEN, &Silent).unwrap();
        let mark = marks[stopped_after - 1].clone();
        stream.note(mark.clone()).unwrap();
        let heard = Heard::default();
        for number in stopped_after + 1..=150 {
            let batch = step(&mut stream, number as u64, &heard).unwrap();
            assert!(batch == batches[number - 1], "step {number} differs after a stop at {stopped_after}");
        }
        let expected: Vec<u64> = (mark.block..=marks[149].block).collect();
        assert_eq!(heard.blocks(), expected, "blocks read after a stop at {stopped_after}");
    }
    // Micro-batches may be cut anywhere.
    let (mut stream, mut batch, mut tokens) = (open(dir.path()), Batch::default(), Vec::new());
    for rows in [0..1, 1..3, 3..4] {
        stream.batch(60, rows, SEQUENCES, &mut batch, &Silent).unwrap();
        tokens.extend_from_slice(&batch.tokens);
    }
    assert_eq!(tokens, batches[59].tokens);
}

#[test]
fn epochs_visit_the_files_in_other_orders_and_what_is_held_out_never_trains() {
    let dir = world();
    let stream = open(dir.path());
    let windows = stream.val_windows(1000, &Silent).unwrap();
    let tokenizer = stream.tokenizer();
    let held_out: String = windows.iter().map(|w| tokenizer.decode(&w.tokens).unwrap()).collect();
    let val = corpus_of(dir.path(), Split::Val);
    assert!((5..60).contains(&val.len()), "{} are held out", val.len());
    let heads: Vec<&str> = val.iter().filter_map(|text| text.get(..14)).collect();
    let seen = heads.iter().filter(|head| held_out.contains(**head)).count();
    assert!(seen * 10 > heads.len() * 9, "{seen} of {} documents are in the windows", heads.len());
    let names = |epoch| {
        let mut reading = stream.sources.read(stream.sources.order(epoch), 0, str::to_owned);
        let (mut texts, mut report) = (Vec::new(), Report::default());
        while let Some(document) = reading.next(&mut report, &Silent).unwrap() {
            assert_eq!(document.split == Split::Val, val.contains(&document.content));
            texts.push(document.content);
        }
        texts
    };
    let ([mut first, mut second], again) = ([names(0), names(1)], names(0));
    assert_eq!(first, again);
    assert_ne!(first, second);
    first.sort();
    second.sort();
    assert_eq!(first, second);
}

#[test]
fn several_files_are_validated_on() {
    let dir = world();
    let mut options = options(dir.path());
    options.corpus.paths = ["files/a.jsonl", "files/b.jsonl.gz"].map(|file| dir.path().join(file)).into();
    let stream = TokenStream::open(&options, SEQ_LEN, &Silent).unwrap();
    let windows = stream.val_windows(40, &Silent).unwrap();
    let tokenizer = stream.tokenizer();
    let text: String = windows.iter().map(|w| tokenizer.decode(&w.tokens).unwrap()).collect();
    let of = |numbers: Range<usize>| numbers.filter(|i| text.contains(&format!("ment {i} s"))).count();
    assert!(of(0..40) > 0 && of(40..90) > 0, "{text}");
    assert_eq!(windows.len(), 40);
}

#[test]
fn files_that_changed_before_a_resume_are_found_out() {
    let dir = world();
    let mut stream = open(dir.path());
    step(&mut stream, 60, &Silent).unwrap();
    let mark = stream.mark().unwrap().clone();
    let digest = stream.digest().to_owned();
    for i in 90..120 {
        fs::write(dir.path().join(format!("files/{i}.txt")), text(i).replace("says", "said")).unwrap();
    }
    let lines =
        (0..40).map(|i| serde_json::json!({ "text": text(i).replace("says", "said") }).to_string() + "\n");
    fs::write(dir.path().join("files/a.jsonl"), lines.collect::<String>()).unwrap();
    let mut stream = open(dir.path());
    assert_eq!(stream.digest(), digest, "names and sizes are the same");
    stream.note(mark.clone()).unwrap();
    let message = step(&mut stream, 61, &Silent).unwrap_err().to_string();
    assert!(message.contains("the data is not what it was"), "{message}");
    fs::write(dir.path().join("files/new.txt"), "one more").unwrap();
    assert_ne!(open(dir.path()).digest(), digest);
    let place = corpus::StreamPosition { file: 1000, ..mark.place };
    assert!(open(dir.path()).note(Mark { place, ..mark }).is_err());
}

#[test]
fn bad_records_are_named_and_mostly_bad_ones_end_it() {
    let dir = world();
    let broken = dir.path().join("files/a.jsonl");
    let lines = fs::read_to_string(&broken).unwrap();
    fs::write(&broken, lines.clone() + "{\"text\": \"torn\n").unwrap();
    let heard = Heard::default();
    let mut stream = open(dir.path());
    step(&mut stream, 120, &heard).unwrap();
    let text = heard.text();
    assert!(text.contains("1 × torn JSON") && text.contains("a.jsonl:41"), "{text}");

    let alone = |content: &str| -> String {
        let path: PathBuf = dir.path().join("alone.jsonl");
        fs::write(&path, content).unwrap();
        let mut options = options(dir.path());
        options.corpus.paths = vec![path];
        let mut stream = TokenStream::open(&options, SEQ_LEN, &Silent).unwrap();
        format!("{:#}", step(&mut stream, 1, &Silent).unwrap_err())
    };
    let message = alone(&lines.replace("text", "body"));
    assert!(message.contains("40 of 40 records are bad") && message.contains("--text-field"), "{message}");
    let message = alone("{\"text\": \"short\"}\n");
    assert!(message.contains("too few for a window of seq_len 16"), "{message}");
    let mut options = options(dir.path());
    options.corpus.val_fraction = 0.0;
    let message = TokenStream::open(&options, SEQ_LEN, &Silent).err().unwrap().to_string();
    assert!(message.contains("hold out more"), "{message}");
}

#[test]
fn bytes_that_a_vocabulary_lacks_are_told_block_by_block() {
    let dir = world();
    let heard = Heard::default();
    step(&mut open(dir.path()), 1, &heard).unwrap();
    assert!(!heard.text().contains("has no token"), "{}", heard.text());

    // The same vocabulary without the byte that is `u`, which every document has once.
    let path = dir.path().join("tokenizer.json");
    let mut json: serde_json::Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    json["model"]["vocab"].as_object_mut().unwrap().remove("u").unwrap();
    fs::write(&path, json.to_string()).unwrap();
    let heard = Heard::default();
    step(&mut open(dir.path()), 1, &heard).unwrap();
    let said = heard.text();
    // Of the 20 documents that it read, a quarter is held out.
    assert!(said.contains("has no token for 15 bytes of them"), "{said}");
}
