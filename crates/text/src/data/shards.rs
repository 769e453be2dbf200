//! A directory of token shards, opened: what it is, checked, and any run of its tokens.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::npy::{Array, Width};
use super::{Cut, Fim, Overflow};
use crate::corpus::Split;
use crate::tokenizer::Tokenizer;

/// Splits of up to this many bytes of tokens are kept in memory (256 MiB), where their digests are verified.
const IN_MEMORY_BYTES: u64 = 256 << 20;

/// The record of a complete directory of shards.
pub(super) const RECORD: &str = "meta.json";

/// What one split has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Documents of which something was kept.
    pub documents: u64,
    /// Tokens, with the ends of text.
    pub tokens: u64,
    /// Bytes of text that the tokens stand for; an end of text stands for none.
    pub bytes: u64,
}

/// What one split lost to the context's length, and to the vocabulary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// Documents of which nothing was kept.
    pub documents: u64,
    /// Chunks shorter than the context (`chunk`).
    pub chunks: u64,
    /// Their tokens.
    pub tokens: u64,
    /// Bytes of text that the vocabulary has no token for.
    #[serde(default)]
    pub bytes: u64,
}

/// One file of tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenFile {
    /// Its name in the directory.
    pub name: String,
    /// Its tokens.
    pub tokens: u64,
    /// BLAKE3 of the tokens as they are stored, without the header, in hexadecimal.
    pub blake3: String,
}

/// `meta.json`: written last, so that its presence says that the shards are complete.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Meta {
    /// The version of the layout: 1.
    pub format: u32,
    /// What decides the output: corpus and tokenizer by digest, context, overflow.
    pub options: Value,
    /// Ids are below it.
    pub vocab_size: usize,
    /// `uint16` or `uint32`.
    pub dtype: String,
    /// The token after each document.
    pub end_of_text: u32,
    /// What became of documents that do not fit the context.
    pub overflow: Overflow,
    /// The context they had to fit, in tokens.
    pub context: Option<usize>,
    /// BLAKE3 of `tokenizer.json`.
    pub tokenizer_digest: String,
    /// Digest of the corpus.
    pub corpus_digest: String,
    /// Where the corpus lay when it was tokenized; its report is read there.
    pub corpus_dir: PathBuf,
    /// To train on.
    pub train: Kept,
    /// To validate on.
    pub val: Kept,
    /// What training lost.
    pub train_lost: Lost,
    /// What validation lost.
    pub val_lost: Lost,
    /// How training documents were cut for fill-in-the-middle; none where they were not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fim: Option<Fim>,
    /// How many were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fim_cut: Option<Cut>,
    /// The files of tokens, in order.
    pub shards: Vec<TokenFile>,
    /// BLAKE3 over all of it.
    pub digest: String,
}

/// Token shards that were opened and checked.
pub struct TokenShards {
    meta: Meta,
    tokenizer: Arc<Tokenizer>,
    train: Tokens,
    val: Tokens,
    /// Bytes of text that each id stands for.
    token_bytes: Vec<u32>,
}

impl TokenShards {
    /// Opens a directory that [`tokenize`](super::tokenize()) made.
    ///
    /// # Errors
    /// No such directory; incomplete shards; a file that is missing, cut short, of another type, or (up to
    /// 256 MiB a split, which are then held in memory) of another content than when it was written; another
    /// tokenizer than the one that made them. All name the file.
    pub fn open(dir: &Path) -> Result<TokenShards> {
        Self::open_with(dir, IN_MEMORY_BYTES)
    }

    /// [`TokenShards::open`] with another amount of memory.
    pub(super) fn open_with(dir: &Path, in_memory_bytes: u64) -> Result<TokenShards> {
        let meta = Meta::load(dir)?;
        let tokenizer = Tokenizer::from_file(dir.join("tokenizer.json"))?;
        ensure!(
            tokenizer.digest() == meta.tokenizer_digest,
            "{} is not the tokenizer that made these shards: run `mynah tokenize` again",
            dir.join("tokenizer.json").display()
        );
        let token_bytes = token_bytes(&tokenizer, meta.vocab_size);
        Ok(TokenShards {
            train: Tokens::open(dir, &meta, Split::Train, in_memory_bytes)?,
            val: Tokens::open(dir, &meta, Split::Val, in_memory_bytes)?,
            token_bytes,
            tokenizer: Arc::new(tokenizer),
            meta,
        })
    }

    /// What the directory says of itself.
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// The tokenizer that made the shards.
    pub fn tokenizer(&self) -> &Arc<Tokenizer> {
        &self.tokenizer
    }

    /// Every id is below it.
    pub fn vocab_size(&self) -> usize {
        self.meta.vocab_size
    }

    /// What tells these shards from others.
    pub fn digest(&self) -> &str {
        &self.meta.digest
    }

    /// Tokens of a split.
    pub fn len(&self, split: Split) -> u64 {
        self.tokens(split).len
    }

    /// Whether a split has no tokens.
    pub fn is_empty(&self, split: Split) -> bool {
        self.len(split) == 0
    }

    /// Appends `count` tokens from `start` on to `out`. Fails when a file cannot be read or holds an id
    /// outside the vocabulary.
    ///
    /// # Panics
    /// When the split has fewer tokens.
    pub fn read(&self, split: Split, start: u64, count: usize, out: &mut Vec<u32>) -> Result<()> {
        self.tokens(split).read(start, count, out)
    }

    /// Bytes of text that `tokens` stand for: what bits per byte divide by. Special tokens stand for none.
    pub fn text_bytes(&self, tokens: &[u32]) -> u64 {
        tokens.iter().map(|&t| u64::from(self.token_bytes[t as usize])).sum()
    }

    pub(super) fn tokens(&self, split: Split) -> &Tokens {
        match split {
            Split::Train => &self.train,
            Split::Val => &self.val,
        }
    }
}

/// Bytes of text of every id; none for special tokens and for ids that the vocabulary leaves out.
pub(super) fn token_bytes(tokenizer: &Tokenizer, vocab_size: usize) -> Vec<u32> {
    let mut lens: Vec<u32> = (0..vocab_size as u32)
        .map(|id| tokenizer.token_bytes(id).map_or(0, |bytes| bytes.len() as u32))
        .collect();
    for (_, id) in tokenizer.specials() {
        lens[*id as usize] = 0;
    }
    lens
}

impl Meta {
    /// The record of a complete directory of shards.
    pub fn load(dir: &Path) -> Result<Meta> {
        let path = dir.join(RECORD);
        let Ok(text) = std::fs::read(&path) else {
            let shown = dir.display();
            let made = "`mynah tokenize --corpus … --tokenizer … --out tokens`";
            ensure!(
                !dir.is_file(),
                "{shown} is a file, and a directory of tokens is wanted: `mynah corpus {shown} --out corpus` collects its texts, \
                 `mynah tokenizer train` learns a vocabulary, and {made} makes the directory"
            );
            ensure!(
                !dir.join(crate::corpus::RECORD).exists(),
                "{shown} is a corpus, and tokens are wanted: `mynah tokenize --corpus {shown} --tokenizer … --out tokens` makes them"
            );
            ensure!(dir.exists(), "{shown} does not exist: {made} makes a directory of tokens");
            bail!("{shown} holds no complete token shards (no meta.json): {made} makes them");
        };
        let meta: Meta = serde_json::from_slice(&text)
            .with_context(|| format!("{} is damaged: run `mynah tokenize` again", path.display()))?;
        ensure!(meta.format == 1, "{} is of format {}, this program reads 1", path.display(), meta.format);
        Ok(meta)
    }
}

/// The tokens of one split, across its files.
#[derive(Clone, Debug)]
pub(super) struct Tokens {
    files: Arc<[File]>,
    pub(super) len: u64,
    width: Width,
    vocab_size: usize,
}

#[derive(Debug)]
struct File {
    name: String,
    /// Tokens of the files before.
    start: u64,
    len: u64,
    data: Data,
}

#[derive(Debug)]
enum Data {
    Memory(Vec<u8>),
    Disk(Array),
}

impl Tokens {
    fn open(dir: &Path, meta: &Meta, split: Split, in_memory_bytes: u64) -> Result<Tokens> {
        let width = Width::of(meta.vocab_size);
        let prefix = format!("{}-", split.name());
        let shards: Vec<&TokenFile> = meta.shards.iter().filter(|s| s.name.starts_with(&prefix)).collect();
        let total = shards.iter().map(|s| s.tokens).sum::<u64>();
        let in_memory = total.saturating_mul(width.bytes() as u64) <= in_memory_bytes;
        let (mut files, mut start) = (Vec::new(), 0);
        for shard in shards {
            let path = dir.join(&shard.name);
            let array = Array::open(&path)?;
            ensure!(
                array.width == width && array.len == shard.tokens,
                "{} holds {} tokens as {}, not {} as {}: run `mynah tokenize` again",
                path.display(),
                array.len,
                array.width.name(),
                shard.tokens,
                width.name()
            );
            let data = if in_memory { Data::Memory(load(&array, shard, &path)?) } else { Data::Disk(array) };
            files.push(File { name: path.display().to_string(), start, len: shard.tokens, data });
            start += shard.tokens;
        }
        Ok(Tokens { files: files.into(), len: start, width, vocab_size: meta.vocab_size })
    }

    /// Appends `count` tokens from `start` on.
    pub(super) fn read(&self, start: u64, count: usize, out: &mut Vec<u32>) -> Result<()> {
        assert!(start + count as u64 <= self.len, "{count} tokens from {start} on, of {}", self.len);
        let (mut at, end) = (start, start + count as u64);
        let mut file = self.files.partition_point(|f| f.start + f.len <= start);
        while at < end {
            let from = &self.files[file];
            let n = (from.start + from.len).min(end) - at;
            self.read_file(from, at - from.start, n as usize, out)?;
            at += n;
            file += 1;
        }
        Ok(())
    }

    fn read_file(&self, file: &File, start: u64, count: usize, out: &mut Vec<u32>) -> Result<()> {
        let (width, first) = (self.width.bytes(), out.len());
        match &file.data {
            Data::Memory(bytes) => {
                let start = start as usize * width;
                self.width.decode(&bytes[start..start + count * width], out);
            }
            Data::Disk(array) => {
                // Piece by piece through the stack: nothing is allocated.
                let mut piece = [0u8; 8192];
                let mut done = 0;
                while done < count {
                    let n = (count - done).min(piece.len() / width);
                    array
                        .read_at(&mut piece[..n * width], start + done as u64)
                        .with_context(|| format!("cannot read {}", file.name))?;
                    self.width.decode(&piece[..n * width], out);
                    done += n;
                }
            }
        }
        if let Some(i) = out[first..].iter().position(|&t| t as usize >= self.vocab_size) {
            bail!(
                "{} is damaged: token {} is {}, the vocabulary has {}; run `mynah tokenize` again",
                file.name,
                start + i as u64,
                out[first + i],
                self.vocab_size
            );
        }
        Ok(())
    }
}

fn load(array: &Array, shard: &TokenFile, path: &Path) -> Result<Vec<u8>> {
    let mut bytes = vec![0; array.len as usize * array.width.bytes()];
    array.read_at(&mut bytes, 0).with_context(|| format!("cannot read {}", path.display()))?;
    ensure!(
        blake3::hash(&bytes).to_hex().as_str() == shard.blake3,
        "{} is damaged (its digest is not that of meta.json): run `mynah tokenize` again",
        path.display()
    );
    Ok(bytes)
}
