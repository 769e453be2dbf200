//! What is kept of a teacher's distributions in a file, so that students learn from it without the model: of every token
//! that is to be learned the `k` likeliest ones with their log-probabilities. What is left to 1 is one more outcome, the tail.
//!
//! A file of safetensors: `tokens` and `logprobs` (`[rows, k]`), `keys` (BLAKE3 of a conversation's tokens and targets) and
//! `ends` (where its rows end), and what the teacher is in the metadata. A conversation is found by what it says, so neither
//! order nor split matter.

use crate::data::{Batch, BatchPart, Conversations};
use crate::model::{Sequences, Targets};
use crate::progress::{Progress, Stopped, Unit};
use crate::stage::Init;
use crate::stage::lanes::passes;
use crate::tokenizer::Tokenizer;
use crate::train::Frozen;
use crate::train::run::Input;
use anyhow::{Context, Result, bail, ensure};
use kernels::{Backend, NO_TARGET};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// The name of the one entry of the metadata, which makes files with equal contents equal.
const ABOUT: &str = "teacher";

/// What a store says of its teacher.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct About {
    /// Its name.
    name: String,
    vocab_size: usize,
    /// Its logits were divided by it.
    temperature: f32,
    tokenizer: [String; 2],
}

/// A teacher's distributions, read from a file.
pub struct Store {
    about: About,
    pub(super) tokenizer: Tokenizer,
    pub(super) k: usize,
    /// The first row of each conversation.
    places: HashMap<[u8; 32], usize>,
    tokens: Vec<u32>,
    logprobs: Vec<f32>,
    input: Input,
}

impl Store {
    /// Whether a file is one.
    pub fn is_at(path: &Path) -> bool {
        fn about(path: &Path) -> Option<bool> {
            use std::io::Read;
            let mut file = std::fs::File::open(path).ok().filter(|_| path.is_file())?;
            let mut len = [0; 8];
            file.read_exact(&mut len).ok()?;
            let mut header = Vec::new();
            // Longer headers are refused by the format.
            file.take(u64::from_le_bytes(len).min(100_000_000)).read_to_end(&mut header).ok()?;
            let header: serde_json::Value = serde_json::from_slice(&header).ok()?;
            Some(header["__metadata__"][ABOUT].is_string())
        }
        about(path) == Some(true)
    }

    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read, or is damaged.
    pub fn open(path: &Path) -> Result<Store> {
        let of = || format!("cannot use {} as a teacher", path.display());
        let bytes = std::fs::read(path).with_context(of)?;
        read(&bytes, path).with_context(of)
    }

    /// The temperature that its logits were divided by.
    pub fn temperature(&self) -> f32 {
        self.about.temperature
    }

    /// The teacher's name.
    pub fn name(&self) -> &str {
        &self.about.name
    }

    pub(super) fn vocab_size(&self) -> usize {
        self.about.vocab_size
    }

    pub(super) fn input(&self) -> Input {
        self.input.clone()
    }

    /// Refuses data of which it does not know all.
    ///
    /// # Errors
    /// A conversation is not in it.
    pub(super) fn check(&self, data: &Conversations) -> Result<()> {
        (0..data.per_epoch()).try_for_each(|conversation| {
            let mut one = Batch::default();
            data.push(conversation, &mut one);
            self.place(&one.tokens, &one.targets).map(|_| ())
        })
    }

    /// The first row of a conversation.
    fn place(&self, tokens: &[u32], targets: &[u32]) -> Result<usize> {
        let place = self.places.get(&key(tokens, targets)).copied();
        place.with_context(|| {
            format!(
                "{} does not know a conversation of the data: make it again from the same data (--store)",
                self.input.path.display()
            )
        })
    }

    /// What is known of the rows of a batch; rows that predict nothing have some token.
    ///
    /// # Errors
    /// A conversation is not in it.
    pub(super) fn rows(&self, part: BatchPart<'_>) -> Result<(Vec<u32>, Vec<f64>)> {
        let k = self.k;
        let (mut tokens, mut logprobs) = (vec![0; part.tokens.len() * k], vec![-1.0; part.tokens.len() * k]);
        let mut first = 0;
        for &len in part.lens {
            let rows = first..first + len;
            let from = self.place(&part.tokens[rows.clone()], &part.targets[rows.clone()])?;
            let predicting = rows.filter(|&row| part.targets[row] != NO_TARGET);
            for (from, row) in (from..).zip(predicting) {
                let (ours, theirs) = (row * k..(row + 1) * k, from * k..(from + 1) * k);
                tokens[ours.clone()].copy_from_slice(&self.tokens[theirs.clone()]);
                let stored = self.logprobs[theirs].iter().copied().map(f64::from);
                logprobs[ours].iter_mut().zip(stored).for_each(|(ours, theirs)| *ours = theirs);
            }
            first += len;
        }
        Ok((tokens, logprobs))
    }
}

/// What tells a conversation from others.
fn key(tokens: &[u32], targets: &[u32]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    for number in tokens.iter().chain(targets) {
        hasher.update(&number.to_le_bytes());
    }
    hasher.finalize().into()
}

fn read(bytes: &[u8], path: &Path) -> Result<Store> {
    let (_, metadata) = SafeTensors::read_metadata(bytes)?;
    let about = metadata.metadata().as_ref().and_then(|all| all.get(ABOUT));
    let about: About = serde_json::from_str(about.context("it is no file of `mynah distil --store`")?)
        .context("its metadata")?;
    let file = SafeTensors::deserialize(bytes)?;
    let array = |name: &str, dtype| {
        let array = file.tensor(name)?;
        ensure!(array.dtype() == dtype, "{name} is {:?}", array.dtype());
        Ok(array)
    };
    let (tokens, logprobs) = (array("tokens", Dtype::U32)?, array("logprobs", Dtype::F32)?);
    let (keys, ends) = (array("keys", Dtype::U8)?, array("ends", Dtype::U64)?);
    let &[rows, k] = tokens.shape() else { bail!("tokens has shape {:?}", tokens.shape()) };
    ensure!(logprobs.shape() == [rows, k] && k > 0, "tokens and logprobs are not the same rows");
    ensure!(keys.shape() == [ends.shape()[0], 32], "keys and ends are not the same conversations");
    let numbers = |bytes: &[u8]| bytes.as_chunks::<4>().0.to_vec();
    let store = Store {
        tokenizer: Tokenizer::from_texts(about.tokenizer[0].clone(), about.tokenizer[1].clone())?,
        tokens: numbers(tokens.data()).into_iter().map(u32::from_le_bytes).collect(),
        logprobs: numbers(logprobs.data()).into_iter().map(f32::from_le_bytes).collect(),
        places: {
            let ends = ends.data().as_chunks::<8>().0.iter().map(|end| u64::from_le_bytes(*end) as usize);
            let ends: Vec<usize> = ends.collect();
            let firsts = std::iter::once(0).chain(ends.iter().copied());
            ensure!(ends.is_sorted() && ends.last() == Some(&rows), "its conversations do not have its rows");
            keys.data().as_chunks::<32>().0.iter().copied().zip(firsts).collect()
        },
        input: Input::new(path, blake3::hash(bytes).to_hex().to_string()),
        k,
        about,
    };
    ensure!(
        store.tokens.iter().all(|&token| (token as usize) < store.about.vocab_size),
        "a token that is none"
    );
    ensure!(store.logprobs.iter().all(|logprob| *logprob <= 0.0), "a log-probability that is none");
    Ok(store)
}

/// Asks a teacher about all conversations, at this temperature, and gives the contents of a file.
///
/// # Errors
/// The teacher is no language model or has no tokenizer; it has fewer tokens than `k`; its logits are not finite; somebody asked
/// to stop.
pub fn store<B: Backend>(
    b: &mut B,
    teacher: &Init,
    data: &Conversations,
    k: usize,
    temperature: f32,
    progress: &dyn Progress,
) -> Result<Vec<u8>> {
    let config = teacher.language_config(0.0)?;
    let tokenizer = teacher.needed_tokenizer()?;
    let vocab_size = config.vocab_size;
    ensure!((1..=vocab_size).contains(&k), "{k} likeliest of {vocab_size} tokens: take fewer (--top)");
    let weights = teacher.weights(b, &config, 0)?;
    let most = config.pass_tokens();
    let mut model = Frozen::new(b, config, weights);
    let mut batch = Batch::default();
    (0..data.per_epoch()).for_each(|i| data.push(i, &mut batch));
    let (mut tokens, mut logprobs): (Vec<u8>, Vec<u8>) = (Vec::new(), Vec::new());
    let (mut keys, mut ends): (Vec<u8>, Vec<u8>) = (Vec::new(), Vec::new());
    let mut rows = 0;
    progress.begin("store", data.per_epoch(), Unit::Count);
    for run in passes(batch.lens.iter().copied(), most) {
        if progress.should_stop() {
            bail!(Stopped("not every conversation was asked about"));
        }
        let part = batch.part(run.clone());
        let sequences = Sequences { tokens: part.tokens, lens: part.lens, noise: None };
        let targets = Targets { tokens: part.targets, temperature };
        let (ids, said) =
            model.likeliest(b, sequences, targets, k).context("the teacher's logits are not finite")?;
        tokens.extend(ids.iter().flat_map(|id| id.to_le_bytes()));
        logprobs.extend(said.iter().flat_map(|logprob| logprob.to_le_bytes()));
        for one in run.clone() {
            let part = batch.part(one..one + 1);
            keys.extend(key(part.tokens, part.targets));
            rows += part.targets.iter().filter(|&&target| target != NO_TARGET).count();
            ends.extend((rows as u64).to_le_bytes());
        }
        progress.advance(run.len() as u64);
    }
    progress.end();
    let about = About {
        name: teacher.name().to_owned(),
        vocab_size,
        temperature,
        tokenizer: [tokenizer.to_json().to_owned(), tokenizer.config_json().to_owned()],
    };
    let n = batch.lens.len();
    let arrays = [
        ("tokens", TensorView::new(Dtype::U32, vec![rows, k], &tokens)?),
        ("logprobs", TensorView::new(Dtype::F32, vec![rows, k], &logprobs)?),
        ("keys", TensorView::new(Dtype::U8, vec![n, 32], &keys)?),
        ("ends", TensorView::new(Dtype::U64, vec![n], &ends)?),
    ];
    let about = HashMap::from([(ABOUT.to_owned(), serde_json::to_string(&about)?)]);
    Ok(safetensors::serialize(arrays, Some(about))?)
}

/// For messages.
impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {:?}", PathBuf::from(&self.input.path).display(), self.about.name)
    }
}
