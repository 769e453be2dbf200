//! From a corpus to batches, and what happens to damaged shards.

mod conversations;
mod forms;
mod messages;
mod prompter;
mod rows;
mod tasks;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use kernels::{NO_TARGET, rng};

use super::tokenize::tokenize_with;
use super::*;
use crate::corpus::{self, Documents, Split};
use crate::progress::Silent;
use crate::tokenizer::Tokenizer;

/// A folder with a corpus, and a tokenizer with a token for every byte and no merges.
struct World {
    dir: tempfile::TempDir,
}

impl World {
    fn new(texts: impl Iterator<Item = String>, val_fraction: f64) -> World {
        let dir = tempfile::tempdir().unwrap();
        let lines: String =
            texts.map(|text| serde_json::json!({ "text": text }).to_string() + "\n").collect();
        fs::write(dir.path().join("raw.jsonl"), lines).unwrap();
        let options = corpus::Options {
            paths: vec![dir.path().join("raw.jsonl")],
            out: dir.path().join("corpus"),
            val_fraction,
            ..corpus::Options::default()
        };
        corpus::build(&options, &Silent).unwrap();
        let texts = [Ok("a".to_string())].into_iter();
        Tokenizer::train(texts, 257, &[], &Silent).unwrap().save(dir.path()).unwrap();
        World { dir }
    }

    /// With the special tokens of fill-in-the-middle.
    fn with_fim(self) -> World {
        let names = ["<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>"].map(str::to_owned);
        let tokenizer = Tokenizer::from_dir(self.dir.path()).unwrap().extended(&names);
        tokenizer.unwrap().save(self.dir.path()).unwrap();
        self
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn options(&self, overflow: Overflow, context: Option<usize>) -> TokenizeOptions {
        TokenizeOptions {
            corpus: self.path("corpus"),
            tokenizer: self.path("tokenizer.json"),
            out: self.path("tokens"),
            context,
            overflow,
            fim: None,
        }
    }

    /// Small shards, so that windows lie across them.
    fn shards(&self, overflow: Overflow, context: Option<usize>) -> TokenShards {
        tokenize_with(&self.options(overflow, context), &Silent, 500).unwrap();
        TokenShards::open(&self.path("tokens")).unwrap()
    }

    fn texts(&self, split: Split) -> Vec<String> {
        Documents::open(&self.path("corpus"), split).unwrap().map(|d| d.unwrap().text).collect()
    }
}

/// A text of `len` bytes, different for every `i`.
fn text(i: usize, len: usize) -> String {
    let mut text = format!("{i}:");
    while text.len() < len {
        text.push((b'a' + rng::below(i as u64, 0, text.len() as u64, 26) as u8) as char);
    }
    text
}

fn mixed() -> impl Iterator<Item = String> {
    (0..60).map(|i| text(i, 10 + i * 37 % 190))
}

fn all(shards: &TokenShards, split: Split) -> Vec<u32> {
    let mut tokens = Vec::new();
    shards.read(split, 0, shards.len(split) as usize, &mut tokens).unwrap();
    tokens
}

#[test]
fn packing_ends_every_document_and_loses_nothing() {
    let world = World::new(mixed(), 0.2);
    let shards = world.shards(Overflow::Pack, None);
    let (tokenizer, meta) = (shards.tokenizer(), shards.meta());
    for (split, kept) in [(Split::Train, meta.train), (Split::Val, meta.val)] {
        let texts = world.texts(split);
        let mut want = Vec::new();
        for text in &texts {
            want.extend(tokenizer.encode(text));
            want.extend(tokenizer.end_of_text());
        }
        assert!(all(&shards, split) == want && texts.len() > 5);
        let bytes = texts.iter().map(String::len).sum::<usize>() as u64;
        assert_eq!(kept, Kept { documents: texts.len() as u64, tokens: want.len() as u64, bytes });
        assert_eq!(shards.text_bytes(&want), bytes, "an end of text stands for no bytes");
    }
    assert_eq!((meta.dtype.as_str(), meta.vocab_size, shards.vocab_size()), ("uint16", 257, 257));
    assert!(meta.shards.len() > 8 && meta.shards.iter().rev().skip(2).all(|s| s.tokens < 750));
    assert!(world.path("tokens/tokenizer_config.json").exists());
}

#[test]
fn chunks_are_those_of_the_course() {
    // The course's first two files: 34 chunks of 128, the last ones of 117 and 41 tokens.
    let world = World::new([2549, 1705].into_iter().enumerate().map(|(i, len)| text(i, len)), 0.0);
    let shards = world.shards(Overflow::Chunk, Some(128));
    let meta = shards.meta();
    assert_eq!(meta.train, Kept { documents: 2, tokens: 32 * 128, bytes: 32 * 128 });
    assert_eq!(meta.train_lost, Lost { documents: 0, chunks: 2, tokens: 117 + 41, bytes: 0 });
    let tokens = all(&shards, Split::Train);
    let mut want = shards.tokenizer().encode(&text(0, 2549))[..19 * 128].to_vec();
    want.extend(&shards.tokenizer().encode(&text(1, 1705))[..13 * 128]);
    assert!(tokens == want);

    let mut windows = Windows::new(&shards, 128, 3).unwrap();
    assert_eq!((windows.per_epoch(), windows.predictions()), (32, 127));
    let mut batch = Batch::default();
    windows.batch(1, 0..32, 32, &mut batch).unwrap();
    let mut chunks: Vec<&[u32]> = batch.tokens.chunks(128).collect();
    for (chunk, targets) in chunks.iter().zip(batch.targets.chunks(128)) {
        assert!(chunk[1..] == targets[..127] && targets[127] == NO_TARGET);
    }
    let mut wanted: Vec<&[u32]> = tokens.chunks(128).collect();
    assert_ne!(chunks, wanted, "in a random order");
    chunks.sort();
    wanted.sort();
    assert!(chunks == wanted, "every chunk once");
    let error = Windows::new(&shards, 64, 3).err().unwrap().to_string();
    assert!(error.contains("chunks of 128 tokens"), "{error}");
}

#[test]
fn dropping_counts_what_is_too_long() {
    let world = World::new(mixed(), 0.2);
    let shards = world.shards(Overflow::Drop, Some(100));
    let long: Vec<usize> = world.texts(Split::Train).iter().map(String::len).filter(|&n| n > 100).collect();
    let meta = shards.meta();
    assert!(!long.is_empty());
    let tokens = long.iter().sum::<usize>() as u64;
    assert_eq!(meta.train_lost, Lost { documents: long.len() as u64, chunks: 0, tokens, bytes: 0 });
    assert_eq!(meta.train.tokens, meta.train.bytes + meta.train.documents);
    assert_eq!(meta.train.documents + meta.train_lost.documents, world.texts(Split::Train).len() as u64);
}

#[test]
fn training_documents_are_cut_for_fill_in_the_middle() {
    let world = World::new(mixed(), 0.2);
    let halves = Fim { rate: 0.5, spm_rate: 0.5, seed: 3 };
    let fim = Some(halves);
    let options = TokenizeOptions { fim, ..world.options(Overflow::Pack, None) };
    let refused = format!("{:#}", tokenize_with(&options, &Silent, 500).unwrap_err());
    assert!(refused.contains("tokenizer train … --special '<|fim_prefix|>'"), "{refused}");

    let world = world.with_fim();
    let options = TokenizeOptions { fim, ..world.options(Overflow::Pack, None) };
    let with_threads = |n, out: &str| {
        let options = TokenizeOptions { out: world.path(out), ..options.clone() };
        let pool = rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap();
        pool.install(|| tokenize_with(&options, &Silent, 500).unwrap());
        TokenShards::open(&options.out).unwrap()
    };
    let (shards, three) = (with_threads(1, "one"), with_threads(3, "three"));
    assert_eq!(shards.digest(), three.digest());
    let (tokenizer, meta) = (shards.tokenizer(), shards.meta());
    let [p, m, s] =
        ["<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>"].map(|name| tokenizer.special(name).unwrap());

    // Each training document by itself: whole, or its pieces in one of the two orders.
    let ids = all(&shards, Split::Train);
    let documents: Vec<&[u32]> = ids.split_inclusive(|&id| Some(id) == tokenizer.end_of_text()).collect();
    let texts = world.texts(Split::Train);
    assert_eq!(documents.len(), texts.len());
    let mut cut = 0;
    for (ids, text) in documents.iter().zip(&texts) {
        let ids = &ids[..ids.len() - 1];
        let parts: Vec<&[u32]> = ids.split(|&id| id == p || id == m || id == s).collect();
        let joined = match parts[..] {
            // With suffix, prefix, middle the prefix stands in the last part, before the middle.
            [[], prefix, suffix, middle] => [prefix, middle, suffix].concat(),
            _ => ids.to_vec(),
        };
        cut += u64::from(parts.len() == 4);
        assert_eq!(tokenizer.decode(&joined).unwrap(), *text);
    }
    let Some(Cut { psm_documents, spm_documents }) = meta.fim_cut else { panic!("not counted") };
    assert_eq!(psm_documents + spm_documents, cut);
    assert!(psm_documents > 5 && spm_documents > 5 && cut < texts.len() as u64 - 5, "{:?}", meta.fim_cut);
    assert_eq!(meta.train.tokens, meta.train.bytes + meta.train.documents + 3 * cut);
    // What is validated on stays whole, and another seed is another directory.
    assert!(all(&shards, Split::Val).iter().all(|&id| id != p && id != m && id != s));
    let other = TokenizeOptions { fim: Some(Fim { seed: 4, ..halves }), out: world.path("one"), ..options };
    assert!(format!("{:#}", tokenize_with(&other, &Silent, 500).unwrap_err()).contains("seed"));
}

#[test]
fn an_epoch_predicts_every_token_once() {
    let world = World::new(mixed(), 0.2);
    let shards = world.shards(Overflow::Pack, None);
    let (len, seq_len) = (shards.len(Split::Train), 16);
    // Positions are told apart by what surrounds them: a window's tokens must lie in the ring, once.
    let ring = all(&shards, Split::Train);
    let at = |window: &[u32]| -> Vec<usize> {
        (0..ring.len())
            .filter(|&i| (0..window.len()).all(|k| ring[(i + k) % ring.len()] == window[k]))
            .collect()
    };
    let mut windows = Windows::new(&shards, seq_len, 11).unwrap();
    assert_eq!(windows.per_epoch(), len / seq_len as u64);
    let mut batch = Batch::default();
    let mut first_starts = Vec::new();
    for epoch in 0..3 {
        windows
            .batch(epoch + 1, 0..windows.per_epoch() as usize, windows.per_epoch() as usize, &mut batch)
            .unwrap();
        let mut predicted = BTreeMap::<usize, usize>::new();
        let mut starts = Vec::new();
        for (tokens, targets) in batch.tokens.chunks(seq_len).zip(batch.targets.chunks(seq_len)) {
            assert_eq!(tokens[1..], targets[..seq_len - 1]);
            let window: Vec<u32> = tokens.iter().chain(&targets[seq_len - 1..]).copied().collect();
            let places = at(&window);
            assert_eq!(places.len(), 1, "17 tokens tell where they are");
            starts.push(places[0]);
            (1..=seq_len).for_each(|k| *predicted.entry((places[0] + k) % ring.len()).or_default() += 1);
        }
        assert!(predicted.values().all(|&n| n == 1), "epoch {epoch}");
        assert_eq!(predicted.len() as u64, len / seq_len as u64 * seq_len as u64);
        assert!(!starts.is_sorted());
        first_starts.push(starts);
    }
    assert!(first_starts[0].iter().all(|s| !first_starts[1].contains(s)), "another offset");
}

#[test]
fn micro_batches_may_be_cut_anywhere_and_files_may_stay_on_disk() {
    let world = World::new(mixed(), 0.2);
    let memory = world.shards(Overflow::Pack, None);
    let disk = TokenShards::open_with(&world.path("tokens"), 0).unwrap();
    let (mut a, mut b) = (Windows::new(&memory, 33, 5).unwrap(), Windows::new(&disk, 33, 5).unwrap());
    let (mut whole, mut part) = (Batch::default(), Batch::default());
    for step in [1, 2, 50, 1_000_000_007] {
        a.batch(step, 0..12, 12, &mut whole).unwrap();
        assert_eq!((whole.tokens.len(), whole.lens.as_slice()), (12 * 33, [33; 12].as_slice()));
        let mut joined = Batch::default();
        for rows in [0..1, 1..7, 7..12] {
            b.batch(step, rows, 12, &mut part).unwrap();
            joined.tokens.extend(&part.tokens);
            joined.targets.extend(&part.targets);
            joined.lens.extend(&part.lens);
        }
        assert!(whole == joined, "step {step}");
    }
    let capacity = (whole.tokens.capacity(), whole.targets.capacity(), whole.lens.capacity());
    a.batch(3, 0..12, 12, &mut whole).unwrap();
    assert_eq!(capacity, (whole.tokens.capacity(), whole.targets.capacity(), whole.lens.capacity()));
    Windows::new(&memory, 33, 6).unwrap().batch(3, 0..12, 12, &mut part).unwrap();
    assert!(whole != part, "another seed, another batch");
}

#[test]
fn validation_windows_are_fixed_and_know_their_bytes() {
    let world = World::new(mixed(), 0.3);
    let shards = world.shards(Overflow::Pack, None);
    let tokens = all(&shards, Split::Val);
    let windows = shards.val_windows(8, 20).unwrap();
    let last = tokens.len() - 22;
    for (i, window) in windows.iter().enumerate() {
        let start = if i == 7 { last } else { (i as f64 * (last as f64 / 7.0)) as usize };
        assert!(
            window.tokens == tokens[start..start + 20] && window.targets == tokens[start + 1..start + 21]
        );
        let ends = window.targets.iter().filter(|&&t| Some(t) == shards.tokenizer().end_of_text()).count();
        assert_eq!(window.bytes as usize, 20 - ends);
    }
    assert_eq!(windows.len(), 8);
    assert_eq!(shards.val_windows(64, tokens.len() - 2).unwrap().len(), 1, "no window twice");
    let error = shards.val_windows(8, tokens.len()).unwrap_err().to_string();
    assert!(error.contains("hold out more"), "{error}");

    fs::remove_dir_all(world.path("tokens")).unwrap();
    let shards = world.shards(Overflow::Chunk, Some(24));
    let windows = shards.val_windows(3, 24).unwrap();
    let tokens = all(&shards, Split::Val);
    assert!(windows[0].tokens == tokens[..23] && windows[0].targets == tokens[1..24]);
    assert!(windows[2].targets == tokens[tokens.len() - 23..] && windows[2].bytes == 23);
}

#[test]
fn the_same_command_again_does_nothing_another_is_refused_and_half_is_not_whole() {
    let world = World::new(mixed(), 0.2);
    let (tokens, options) = (world.path("tokens"), world.options(Overflow::Pack, Some(128)));
    let first = tokenize(&options, &Silent).unwrap();
    assert_eq!(tokenize(&options, &Silent).unwrap(), first);
    let error = tokenize(&world.options(Overflow::Chunk, Some(128)), &Silent).unwrap_err().to_string();
    assert!(
        error.contains("overflow: \"pack\" there, \"chunk\" now") && error.contains("context: null there"),
        "{error}"
    );
    assert!(
        tokenize(&world.options(Overflow::Drop, None), &Silent)
            .unwrap_err()
            .to_string()
            .contains("--context")
    );

    fs::remove_file(tokens.join("meta.json")).unwrap();
    fs::write(tokens.join("train-00003.npy"), "half").unwrap();
    let error = TokenShards::open(&tokens).err().unwrap().to_string();
    assert!(error.contains("no complete token shards"), "{error}");
    let foreign = tokenize(&options, &Silent).unwrap_err().to_string();
    assert!(foreign.contains("is not empty"), "{foreign}");
    // Killed while files were moved into place: these are ours.
    let names: Vec<String> = fs::read_dir(&tokens)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.starts_with('.'))
        .collect();
    fs::create_dir(tokens.join(".building")).unwrap();
    fs::write(tokens.join(".building/moving.json"), serde_json::to_vec(&names).unwrap()).unwrap();
    assert_eq!(tokenize(&options, &Silent).unwrap(), first);
    assert!(!tokens.join("train-00003.npy").exists());

    let out = world.path("short");
    let error = tokenize(
        &TokenizeOptions { out: out.clone(), ..world.options(Overflow::Chunk, Some(5000)) },
        &Silent,
    );
    assert!(error.unwrap_err().to_string().contains("every document is shorter than --context"));
    assert!(!out.exists());
    let error = TokenShards::open(&out).err().unwrap().to_string();
    assert!(error.contains("does not exist") && error.contains("mynah tokenize"), "{error}");
}

#[test]
fn damage_is_named_by_file() {
    let world = World::new(mixed(), 0.2);
    drop(world.shards(Overflow::Pack, None));
    let tokens = world.path("tokens");
    let open = |in_memory| TokenShards::open_with(&tokens, in_memory);
    let error = |in_memory| format!("{:#}", open(in_memory).err().unwrap());
    let with = |name: &str, change: &dyn Fn(&mut Vec<u8>), check: &dyn Fn()| {
        let path: &Path = &tokens.join(name);
        let good = fs::read(path).unwrap();
        let mut bytes = good.clone();
        change(&mut bytes);
        fs::write(path, bytes).unwrap();
        check();
        fs::write(path, good).unwrap();
    };
    with("train-00001.npy", &|b| b[200] ^= 1, &|| {
        assert!(error(u64::MAX).contains("train-00001.npy is damaged"))
    });
    with("val-00000.npy", &|b| b.truncate(b.len() - 2), &|| assert!(error(0).contains("val-00000.npy is")));
    with("train-00000.npy", &|b| b[0] = 0, &|| assert!(error(0).contains("train-00000.npy is no array")));
    with("tokenizer_config.json", &|b| b.push(b'\n'), &|| assert!(open(0).is_ok()));
    with("tokenizer.json", &|b| b.push(b'\n'), &|| assert!(error(0).contains("is not the tokenizer")));
    with("meta.json", &|b| b.truncate(50), &|| assert!(error(0).contains("meta.json is damaged")));
    // An id outside the vocabulary in a file too large for memory: noticed when it is read.
    with("train-00000.npy", &|b| b[128 + 21] = 0xff, &|| {
        let error = open(0).unwrap().read(Split::Train, 5, 100, &mut Vec::new()).unwrap_err().to_string();
        assert!(error.contains("train-00000.npy is damaged: token 10 is 65"), "{error}");
    });
    fs::remove_file(tokens.join("train-00002.npy")).unwrap();
    assert!(error(0).contains("cannot open") && error(0).contains("train-00002.npy"));
}
