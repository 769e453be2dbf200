//! A model that is served: what HTTP needs to know of it. Its weights are the worker's.

use anyhow::{Context, Result};
use kernels::Backend;
use lm::checkpoint::{self, Checkpoint, Generation, Stored};
use lm::model::{Adapter, Config, Engine, Leaf, Making, Spec, leaf_names, specs};
use std::iter;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::vec;
use text::data::Prompter;
use text::progress::Progress;
use text::tokenizer::Tokenizer;

use crate::grammar::Grammars;

/// A pass through the model takes no longer, as far as that can be told: clients that go away are noticed
/// between passes, and nobody's next token waits longer for others' prompts.
const PASS: Duration = Duration::from_millis(40);

/// Where a model comes from.
#[derive(Clone, Debug)]
pub struct Source {
    /// The name that requests give it.
    pub name: String,
    /// A run, a road, a checkpoint, a Hugging Face model directory, a GGUF file or `hf:OWNER/NAME`.
    pub path: PathBuf,
}

impl Source {
    /// The models that `[NAME=]PATH` stands for: one, or the stages of a road by their names.
    ///
    /// # Errors
    /// The road cannot be listed.
    pub fn parse(text: &str) -> Result<Vec<Source>> {
        // A path may have an equals sign; a name has no separator.
        let (name, path) = match text.split_once('=') {
            Some((name, path)) if !name.is_empty() && !name.contains(['/', '\\']) => (Some(name), path),
            _ => (None, text),
        };
        let path = PathBuf::from(path);
        let Some(stages) = checkpoint::road_stages(&path)? else {
            let name = name.map_or_else(|| name_of(&path), str::to_owned);
            return Ok(vec![Source { name, path }]);
        };
        let of_road = |stage: String| name.map_or(stage.clone(), |name| format!("{name}-{stage}"));
        Ok(stages.into_iter().map(|(stage, path)| Source { name: of_road(stage), path }).collect())
    }
}

/// A model without a name has that of its directory or file, one of the hub its own.
fn name_of(path: &Path) -> String {
    let text = path.to_string_lossy();
    if let Some(name) = text.strip_prefix("hf:") {
        return name.to_owned();
    }
    let name =
        path.canonicalize().ok().and_then(|path| Some(path.file_stem()?.to_string_lossy().into_owned()));
    name.unwrap_or_else(|| text.into_owned())
}

/// What a model can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It writes texts.
    Writes,
    /// It scores them, with so many values.
    Scores(usize),
}

/// What is known of a loaded model outside of the worker.
pub(crate) struct Model {
    pub(crate) name: String,
    pub(crate) config: Config,
    pub(crate) tokenizer: Arc<Tokenizer>,
    /// How it is asked; why it cannot be.
    pub(crate) prompter: Result<Prompter<Arc<Tokenizer>>, String>,
    pub(crate) generation: Generation,
    pub(crate) kind: Kind,
    /// BLAKE3 of its weights, in hexadecimal.
    pub(crate) digest: String,
    /// The same without the adapter that stands beside them.
    pub(crate) base_digest: String,
    /// Seconds since 1970 when it was loaded.
    pub(crate) created: u64,
    grammars: OnceLock<Result<Grammars, String>>,
}

impl Model {
    /// Positions of its context.
    pub(crate) fn context(&self) -> usize {
        self.config.seq_len
    }

    /// What constrains its answers. Made when it is asked for first.
    pub(crate) fn grammars(&self) -> Result<&Grammars, String> {
        let make = || Grammars::new(&self.tokenizer, self.end_token()).map_err(|error| format!("{error:#}"));
        self.grammars.get_or_init(make).as_ref().map_err(String::clone)
    }

    fn end_token(&self) -> Option<u32> {
        let asked = self.prompter.as_ref().ok().and_then(|prompter| prompter.end_tokens().first().copied());
        asked.or(self.tokenizer.end_of_text())
    }

    /// The tokens that end a text which is no conversation.
    pub(crate) fn end_tokens(&self) -> Vec<u32> {
        self.tokenizer.end_tokens()
    }

    /// The bytes of a token.
    pub(crate) fn bytes(&self, token: u32) -> &[u8] {
        self.tokenizer.token_bytes(token).unwrap_or_default()
    }
}

/// How much a server may hold.
#[derive(Clone, Copy, Debug)]
pub struct Capacity {
    /// Texts that each model continues at once, at most.
    pub slots: usize,
    /// Bytes of keys and values that a model may hold; none for as many as its slots need.
    pub cache_bytes: Option<u64>,
    /// How its weights are stored.
    pub stored: Stored,
}

/// A model whose files were read and checked. What is left to do is the backend's.
pub(crate) struct Read {
    pub(crate) source: Source,
    model: Model,
    /// By name. Where the base is in memory already, only what stands beside it.
    leaves: Vec<(String, Leaf)>,
    adapter: Option<Adapter<Spec>>,
    /// The model in memory whose weights it shares.
    pub(crate) shares: Option<String>,
    slots: usize,
}

/// Reads a model. An adapter stays beside its base, whose weights are in memory once for all that share them: `held`
/// names the model that has those of this digest.
///
/// # Errors
/// It cannot be read, has no tokenizer, or its slots do not fit the cache.
pub(crate) fn read(
    source: &Source,
    capacity: Capacity,
    bytes_per_value: u64,
    held: impl Fn(&str) -> Option<String>,
    progress: &dyn Progress,
) -> Result<Read> {
    let opened: Checkpoint = checkpoint::open(&source.path, progress)?;
    let tell = |note: &String| progress.line(&format!("note: {}: {note}", source.name));
    opened.warnings.iter().for_each(tell);
    let tokenizer = opened.needed_tokenizer()?;
    tokenizer.warnings().iter().for_each(tell);
    let config = opened.config.clone();
    anyhow::ensure!(
        tokenizer.vocab_size() <= config.vocab_size,
        "the tokenizer has {} tokens but the model only {}: they do not belong together",
        tokenizer.vocab_size(),
        config.vocab_size
    );
    let slots = slots(&config, capacity, bytes_per_value)?;
    let digest = opened.digest().context("cannot read the weights again")?;
    let generation = opened.generation.clone();
    // One with magnitudes is made of whole matrices: it is merged.
    let is_merged = opened.adapted().is_some_and(|(lora, _)| lora.dora);
    let (base, beside) = if is_merged { (opened, None) } else { opened.apart() };
    let base_digest = base.digest().context("cannot read the weights again")?;
    let shares = held(&base_digest);
    let mut leaves = Vec::new();
    if shares.is_none() {
        let mut weights = base.stored_weights(capacity.stored, |_, leaf| leaf)?;
        let names = leaf_names(&base.config, weights.lm_head.is_some());
        let take = |leaf: &mut Leaf| std::mem::replace(leaf, Leaf::Values(Vec::new()));
        leaves.extend(names.into_iter().zip(weights.leaves_mut().into_iter().map(take)));
    }
    if let Some(files) = &beside {
        // A head that scores, which the adapter brings, is in the place of the base's that writes.
        let specs = specs(&config);
        leaves.retain(|(name, _)| name != "lm_head" || config.n_label.is_none());
        let score = specs.score.iter().flat_map(|score| iter::once(&score.weight).chain(&score.bias));
        for spec in score.chain(files.adapter.leaves()) {
            if let Some(values) = files.read(spec)? {
                leaves.push((spec.name.clone(), Leaf::Values(values)));
            }
        }
    }
    let tokenizer = Arc::new(tokenizer);
    let prompter = Prompter::new(Arc::clone(&tokenizer)).map_err(|error| format!("{error:#}"));
    let model = Model {
        name: source.name.clone(),
        kind: config.n_label.map_or(Kind::Writes, Kind::Scores),
        prompter,
        tokenizer,
        digest,
        base_digest,
        generation,
        config,
        created: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs()),
        grammars: OnceLock::new(),
    };
    let adapter = beside.map(|files| files.adapter);
    Ok(Read { source: source.clone(), model, leaves, adapter, shares, slots })
}

impl Read {
    /// What the backend has to do: to take the weights in, lay them out for decoding, and make room for keys
    /// and values. `holder` is the engine of the model whose weights it shares.
    pub(crate) fn arrive<B: Backend>(self, b: &mut B, holder: Option<&mut Engine<B>>) -> Arriving<B> {
        let Read { source, model, leaves, adapter, shares: _, slots } = self;
        let mut making = Making::new(&model.config, slots, adapter);
        if let Some(holder) = holder {
            making = making.sharing(b, holder);
        }
        Arriving { source, making, model, leaves: leaves.into_iter() }
    }
}

/// A model that a backend takes in, leaf by leaf.
pub(crate) struct Arriving<B: Backend> {
    pub(crate) source: Source,
    model: Model,
    making: Making<B>,
    leaves: vec::IntoIter<(String, Leaf)>,
}

impl<B: Backend> Arriving<B> {
    /// Takes the next leaf in: whether there was one.
    pub(crate) fn go_on(&mut self, b: &mut B) -> bool {
        let next = self.leaves.next();
        next.map(|(name, leaf)| self.making.take(b, &name, leaf)).is_some()
    }

    /// The model and its engine, after the last leaf.
    pub(crate) fn finish(self, b: &mut B) -> (Model, Engine<B>) {
        let engine = self.making.finish(b).limited_to(self.model.tokenizer.vocab_size());
        (self.model, engine.with_passes_of(PASS))
    }
}

/// As many slots as were asked for, or as the cache holds.
fn slots(config: &Config, capacity: Capacity, bytes_per_value: u64) -> Result<usize> {
    let of_one = 2 * (config.n_layer * config.kv_width() * config.seq_len) as u64 * bytes_per_value;
    let fit = capacity.cache_bytes.map_or(usize::MAX, |bytes| (bytes / of_one.max(1)) as usize);
    anyhow::ensure!(
        fit >= capacity.slots,
        "{} slots of a context of {} tokens take {} MB, and --cache-mb allows {}: {}",
        capacity.slots,
        config.seq_len,
        (of_one * capacity.slots as u64).div_ceil(1_000_000),
        capacity.cache_bytes.unwrap_or(0) / 1_000_000,
        if fit == 0 { "allow more".to_owned() } else { format!("allow more, or take --slots {fit}") }
    );
    Ok(capacity.slots)
}
