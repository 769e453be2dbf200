//! The tokenizer against the `tokenizers` library, against fixtures from Python, and against hostile input.

#![allow(clippy::unwrap_used, reason = "an unwrap in a test is an assertion")]

use proptest::prelude::*;
use std::path::Path;
use std::sync::{LazyLock, Mutex};
use std::time::{Duration, Instant};
use text::progress::{Progress, Silent, Unit};
use text::tokenizer::{END_OF_TEXT, StreamDecoder, Tokenizer};

/// A text with code, several scripts and odd spaces; written for this test.
const TEXT: &str = "def area(width, height):\n    \"\"\"The area of a rectangle.\"\"\"\n    return width * height\n\n\n\
    It's what they'd call a small corpus; we'll see whether it's enough.  Numbers: 3, 14, 159, 2653.\n\
    小さな模型也能学会说话。模型很小，数据也很小。😀😀 👩‍👩‍👧 naïve façade Ærøskøbing\t\ttabs\r\n\u{a0}\u{3000}end";

fn train(text: &str, vocab_size: usize) -> Tokenizer {
    train_with(text, vocab_size, &["<|user|>"])
}

fn train_with(text: &str, vocab_size: usize, special: &[&str]) -> Tokenizer {
    let special: Vec<String> = special.iter().map(|name| name.to_string()).collect();
    Tokenizer::train(text.lines().map(|line| Ok(line.to_owned())), vocab_size, &special, &Silent).unwrap()
}

static SMALL: LazyLock<Tokenizer> = LazyLock::new(|| train(TEXT, 400));

/// What the `tokenizers` library learns from the same lines.
fn library_trained(text: &str, vocab_size: usize) -> tokenizers::Tokenizer {
    use tokenizers::models::TrainerWrapper;
    use tokenizers::models::bpe::{BPE, BpeTrainer};
    use tokenizers::pre_tokenizers::byte_level::ByteLevel;
    let mut library = tokenizers::Tokenizer::new(BPE::default());
    library.with_pre_tokenizer(Some(ByteLevel::new(false, true, true)));
    let specials = [END_OF_TEXT, "<|user|>"].map(|name| tokenizers::AddedToken::from(name, true));
    let trainer = BpeTrainer::builder()
        .show_progress(false)
        .vocab_size(vocab_size)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .special_tokens(specials.to_vec())
        .build();
    library.train(&mut TrainerWrapper::from(trainer), text.lines()).unwrap();
    library
}

fn model(json: &str) -> serde_json::Value {
    serde_json::from_str::<serde_json::Value>(json).unwrap()["model"].take()
}

#[test]
fn learns_the_librarys_vocabulary_and_merges() {
    // Enough to merge until no pair is left, ties and overlapping repetitions included.
    let text = format!("{TEXT}\n{}\n{}", "aaaaaaa ".repeat(9), "abababa");
    for vocab_size in [258, 300, 5000] {
        let ours = model(train(&text, vocab_size).to_json());
        let library = model(&library_trained(&text, vocab_size).to_string(false).unwrap());
        assert_eq!(ours["merges"], library["merges"]);
        assert_eq!(ours["vocab"], library["vocab"]);
    }
}

#[test]
fn learns_the_same_with_any_number_of_threads() {
    let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap().install(|| train(TEXT, 350));
    let three = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap().install(|| train(TEXT, 350));
    assert_eq!(one.digest(), three.digest());
}

#[test]
fn hears_when_the_corpus_is_too_small() {
    struct Lines(Mutex<Vec<String>>);
    impl Progress for Lines {
        fn begin(&self, _: &str, _: u64, _: Unit) {}
        fn advance(&self, _: u64) {}
        fn line(&self, text: &str) {
            self.0.lock().unwrap().push(text.to_owned());
        }
        fn end(&self) {}
        fn should_stop(&self) -> bool {
            false
        }
    }
    let lines = Lines(Mutex::default());
    let tokenizer = Tokenizer::train(std::iter::once(Ok("abc".to_owned())), 1000, &[], &lines).unwrap();
    assert_eq!(tokenizer.vocab_size(), 259);
    assert_eq!(lines.0.into_inner().unwrap(), ["the corpus has no more pairs: 259 tokens instead of 1000"]);
}

#[test]
fn refuses_what_it_cannot_train() {
    let train = |documents: Vec<anyhow::Result<String>>, vocab_size, special: &[&str]| {
        let special: Vec<String> = special.iter().map(|name| name.to_string()).collect();
        let trained = Tokenizer::train(documents.into_iter(), vocab_size, &special, &Silent);
        format!("{:#}", trained.unwrap_err())
    };
    let text = || vec![Ok("text".to_owned())];
    assert!(train(text(), 256, &[]).contains("at least 257"));
    assert!(train(text(), 300, &["a"]).contains("too short"));
    assert!(train(text(), 300, &["<a>", "<a>"]).contains("twice"));
    assert!(train(vec![], 300, &[]).contains("no text"));
    assert!(train(vec![Err(anyhow::anyhow!("disk on fire"))], 300, &[]).contains("disk on fire"));
}

#[test]
fn special_tokens_come_first_and_by_name_only() {
    assert_eq!(SMALL.specials(), [(END_OF_TEXT.to_owned(), 0), ("<|user|>".to_owned(), 1)]);
    assert_eq!(
        (SMALL.end_of_text(), SMALL.special("<|user|>"), SMALL.special("a")),
        (Some(0), Some(1), None)
    );
    assert_eq!(SMALL.decode(&[0, 1]).unwrap(), "<|endoftext|><|user|>");
}

#[test]
fn text_never_becomes_a_special_token() {
    // Special tokens that look like words of the corpus, so that merges would spell them.
    let tokenizer = train_with(&TEXT.repeat(3), 600, &["width", "def", "it"]);
    for special in
        tokenizer.specials().iter().map(|(name, _)| name.as_str()).chain(["a<|endoftext|>b def width"])
    {
        let ids = tokenizer.encode(special);
        assert!(ids.iter().all(|&id| id >= 4), "{special}: {ids:?}");
        assert_eq!(tokenizer.decode(&ids).unwrap(), special);
    }
}

#[test]
fn unknown_ids_are_errors() {
    let id = SMALL.vocab_size() as u32;
    let message = SMALL.decode(&[5, id]).unwrap_err().to_string();
    assert_eq!(message, "token id 400 is not in the vocabulary of 400");
    let mut stream = StreamDecoder::new(&SMALL);
    assert!(stream.push(u32::MAX).is_err());
    assert_eq!(stream.push(SMALL.encode("a")[0]).unwrap(), "a");
}

#[test]
fn hostile_input_is_encoded_in_time() {
    const N: usize = 1_000_000;
    let noise: Vec<u8> = (0..N as u64).map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect();
    let letters: Vec<u8> = noise.iter().map(|byte| b'a' + byte % 4).collect();
    let tokenizer = train(&format!("{TEXT} {}{}", "a".repeat(300), " ".repeat(300)), 600);
    for bytes in
        [vec![b'a'; N], vec![b' '; N], vec![b'\n'; N], noise, letters, "語".repeat(N / 3).into_bytes()]
    {
        let start = Instant::now();
        let ids = tokenizer.encode_bytes(&bytes);
        assert!(tokenizer.decode_bytes(&ids).unwrap() == bytes);
        // A second each in release; a quadratic step would take minutes.
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    }
}

#[test]
fn a_saved_tokenizer_loads_again() {
    let dir = tempfile::tempdir().unwrap();
    SMALL.save(dir.path()).unwrap();
    for path in [dir.path().to_owned(), dir.path().join("tokenizer.json")] {
        let loaded = Tokenizer::from_file(path).unwrap();
        assert_eq!(loaded.digest(), SMALL.digest());
        assert_eq!(loaded.encode(TEXT), SMALL.encode(TEXT));
        assert_eq!(loaded.config_json(), SMALL.config_json());
    }
    let named = dir.path().join("sub/code.json");
    SMALL.save(&named).unwrap();
    assert_eq!(Tokenizer::from_file(named).unwrap().to_json(), SMALL.to_json());
}

#[test]
fn gpt2s_own_files_load() {
    let dir = tempfile::tempdir().unwrap();
    let model = model(SMALL.to_json());
    let line = |merge: &serde_json::Value| {
        format!("{} {}\n", merge[0].as_str().unwrap(), merge[1].as_str().unwrap())
    };
    let merges: String = model["merges"].as_array().unwrap().iter().map(line).collect();
    std::fs::write(dir.path().join("encoder.json"), model["vocab"].to_string()).unwrap();
    std::fs::write(dir.path().join("vocab.bpe"), format!("#version: 0.2\n{merges}")).unwrap();
    for path in [dir.path().to_owned(), dir.path().join("encoder.json"), dir.path().join("vocab.bpe")] {
        let loaded = Tokenizer::from_file(path).unwrap();
        assert_eq!(loaded.encode(TEXT), SMALL.encode(TEXT));
        assert_eq!(loaded.special(END_OF_TEXT), Some(0));
    }
    std::fs::write(dir.path().join("vocab.bpe"), "#version: 0.2\na b c\n").unwrap();
    let message = format!("{:#}", Tokenizer::from_dir(dir.path()).unwrap_err());
    assert!(message.contains("vocab.bpe: line 2"), "{message}");
}

#[test]
fn bad_files_are_refused_with_reasons() {
    let dir = tempfile::tempdir().unwrap();
    let refuse = |content: &str| {
        let file = dir.path().join("tokenizer.json");
        std::fs::write(&file, content).unwrap();
        format!("{:#}", Tokenizer::from_file(&file).unwrap_err())
    };
    assert!(refuse("not json").contains("not a Hugging Face tokenizer.json"));
    assert!(refuse(r#"{"model":{"type":"Unigram","vocab":[["a",0.0]]}}"#).contains("neither byte-level"));
    let no_bytes = r#"{"pre_tokenizer":{"type":"ByteLevel"},"model":{"vocab":{"ab":0},"merges":[]}}"#;
    assert!(refuse(no_bytes).contains("no token for any byte"));
    assert!(refuse(&SMALL.to_json().replacen("\"Ā\": ", "\"Ā\": 7000000000", 1)).contains("the id of token"));
    std::fs::write(dir.path().join("tokenizer_config.json"), r#"{"eos_token": "<end>"}"#).unwrap();
    let no_end = refuse(&SMALL.to_json().replace("<|endoftext|>", "<|end|>"));
    assert!(no_end.contains("<end> is not in the vocabulary"), "{no_end}");
    let missing = format!("{:#}", Tokenizer::from_file(dir.path().join("none")).unwrap_err());
    assert!(missing.contains("cannot read") && missing.contains("none"), "{missing}");
    let empty = tempfile::tempdir().unwrap();
    assert!(Tokenizer::from_dir(empty.path()).unwrap_err().to_string().contains("looked for tokenizer.json"));
}

/// SMALL with a pre-tokenizer that only the library knows: digits one by one.
fn foreign() -> Tokenizer {
    let mut file: serde_json::Value = serde_json::from_str(SMALL.to_json()).unwrap();
    let byte_level = file["pre_tokenizer"].take();
    let digits = serde_json::json!({ "type": "Digits", "individual_digits": true });
    file["pre_tokenizer"] = serde_json::json!({ "type": "Sequence", "pretokenizers": [digits, byte_level] });
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("tokenizer.json"), file.to_string()).unwrap();
    Tokenizer::from_dir(dir.path()).unwrap()
}

#[test]
fn foreign_files_are_followed() {
    let foreign = foreign();
    let library: tokenizers::Tokenizer = foreign.to_json().parse().unwrap();
    assert_eq!(foreign.encode(TEXT), library.encode(TEXT, false).unwrap().get_ids());
    assert_ne!(foreign.encode(TEXT), SMALL.encode(TEXT));
    let injected = "a <|endoftext|><|user|> b";
    assert!(foreign.encode(injected).iter().all(|&id| id > 1));
    assert_eq!(foreign.decode(&foreign.encode(injected)).unwrap(), injected);
    assert_eq!(foreign.decode_bytes(&foreign.encode_bytes(b"a\xff\xe4\xb8 b")).unwrap(), b"a\xff\xe4\xb8 b");
}

#[test]
fn stats_count() {
    let stats = SMALL.stats(TEXT.lines().map(|line| Ok(line.to_owned())), &Silent).unwrap();
    let tokens: usize = TEXT.lines().map(|line| SMALL.encode(line).len()).sum();
    let bytes: usize = TEXT.lines().map(str::len).sum();
    assert_eq!(
        (stats.documents, stats.bytes, stats.tokens),
        (TEXT.lines().count() as u64, bytes as u64, tokens as u64)
    );
    assert!((stats.bytes_per_token - bytes as f64 / tokens as f64).abs() < 1e-12);
    assert!(stats.tokens_used <= stats.vocab_size);
    let long = train(&"a tokenization ".repeat(9), 400)
        .stats(std::iter::once(Ok("a tokenization a".to_owned())), &Silent);
    assert_eq!(long.unwrap().longest, [" tokenization", " a", "a"]);
}

/// Fixtures that `tools/golden_tokenizer.py` makes with Python's `tokenizers`.
#[derive(serde::Deserialize)]
struct Golden {
    documents: Vec<String>,
    vocab_size: usize,
    special: Vec<String>,
    tokenizer: serde_json::Value,
    cases: Vec<(String, Vec<u32>)>,
}

#[test]
fn agrees_with_python() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/tokenizer.json");
    let golden: Golden = serde_json::from_str(&std::fs::read_to_string(golden).unwrap()).unwrap();
    let documents = golden.documents.into_iter().map(Ok);
    let trained = Tokenizer::train(documents, golden.vocab_size, &golden.special, &Silent).unwrap();
    assert_eq!(model(trained.to_json())["merges"], golden.tokenizer["model"]["merges"]);
    assert_eq!(model(trained.to_json())["vocab"], golden.tokenizer["model"]["vocab"]);

    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("python.json");
    std::fs::write(&file, golden.tokenizer.to_string()).unwrap();
    let loaded = Tokenizer::from_file(file).unwrap();
    assert!(golden.cases.len() >= 10);
    for (text, ids) in golden.cases {
        assert_eq!(trained.encode(&text), ids, "{text:?}");
        assert_eq!(loaded.encode(&text), ids, "{text:?}");
    }
}

proptest! {
    #[test]
    fn any_bytes_come_back(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert_eq!(SMALL.decode_bytes(&SMALL.encode_bytes(&bytes)).unwrap(), bytes);
    }

    #[test]
    fn any_text_comes_back(text in r"(\PC|\s|[一-龥]|[😀-🙏]|<\|endoftext\|>|[a-z']){0,80}") {
        let ids = SMALL.encode(&text);
        prop_assert_eq!(SMALL.decode(&ids).unwrap(), text.clone());
        prop_assert!(ids.iter().all(|&id| id > 1));
        prop_assert_eq!(ids, SMALL.encode_bytes(text.as_bytes()));
    }

    #[test]
    fn ids_are_the_librarys(text in r"([a-z ]|\PC|\s|[一-龥]|'[a-z]{2}){0,80}") {
        static LIBRARY: LazyLock<tokenizers::Tokenizer> = LazyLock::new(|| SMALL.to_json().parse().unwrap());
        let library = LIBRARY.encode(text.as_str(), false).unwrap();
        prop_assert_eq!(SMALL.encode(&text), library.get_ids());
    }

    #[test]
    fn streamed_text_is_decoded_text(ids in prop::collection::vec(0u32..400, 0..60)) {
        let mut stream = StreamDecoder::new(&SMALL);
        let mut text: String = ids.iter().map(|&id| stream.push(id).unwrap()).collect();
        text += &stream.finish();
        prop_assert_eq!(text, SMALL.decode(&ids).unwrap());
    }

    #[test]
    fn a_stream_never_cuts_a_character(text in r"\PC{0,40}") {
        let mut stream = StreamDecoder::new(&SMALL);
        let mut streamed = String::new();
        for id in SMALL.encode(&text) {
            streamed += &stream.push(id).unwrap();
            prop_assert!(text.starts_with(&streamed));
        }
        prop_assert_eq!(streamed, text);
    }
}
