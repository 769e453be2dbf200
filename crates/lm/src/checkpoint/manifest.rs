//! `mynah.json`: where a checkpoint comes from, and the digest of every file in it, its own included.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::adapter::BaseModel;
use super::disk;
use super::{ADAPTER_CONFIG, ADAPTER_MODEL, CONFIG, MODEL};
use crate::model::Method;

/// The file's name.
pub(super) const MANIFEST: &str = "mynah.json";

/// The version that is written, and the only one that is read.
const FORMAT: u32 = 1;

/// Where a checkpoint comes from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct About {
    /// The stage that made it: `pretrain`, `sft` …
    pub stage: String,
    /// Steps of the stage behind it.
    pub step: u64,
    /// Optimizer updates behind it: steps without those that were left out because something was not finite.
    pub updates: u64,
    /// The optimizer whose moments it holds, where it holds any.
    #[serde(default, skip_serializing_if = "Method::is_usual")]
    pub optimizer: Method,
    /// The seed that decided everything random.
    pub seed: u64,
    /// The model it began from; none for random weights.
    pub parent: Option<String>,
    /// The model that an adapter stands beside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<BaseModel>,
    /// Whether the line of parents began with a model that others pretrained.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub adopted: bool,
    /// Digest of the training data.
    pub data_digest: Option<String>,
    /// Where reading the data goes on, in the words of who reads it; none where the step tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_position: Option<Value>,
    /// Digest of the tokenizer.
    pub tokenizer_digest: Option<String>,
    /// Digest of the recipe.
    pub recipe_digest: Option<String>,
    /// Measured on held-out data, such as `val_loss`; null where the figure was not finite.
    pub evaluation: BTreeMap<String, Option<f64>>,
    /// The same of the model that the run began from, measured before its first step.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub before: BTreeMap<String, f64>,
    /// Numbers of the stage's own that training goes on with.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub state: BTreeMap<String, f64>,
    /// The step whose state this is, where the last checkpoint of a run holds the best state instead of the
    /// last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selected: Option<u64>,
    /// Why the run ended before its last step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<String>,
    /// What its last step gave, in the words of the training loop, where its evaluation was stopped: who continues goes on
    /// with that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unfinished: Option<Value>,
    /// What a classifier decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<Task>,
}

/// What a classifier decides, and how it is asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// `classification`, `entailment` …
    pub form: String,
    /// The name of each of the head's scores; none where a score has no name.
    pub labels: Vec<String>,
    /// Tokens of an input at most; longer texts are cut.
    pub max_tokens: usize,
}

/// The content of `mynah.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    format: u32,
    /// Where the checkpoint comes from.
    #[serde(flatten)]
    pub about: About,
    /// Every other file of the checkpoint.
    pub files: BTreeMap<String, FileRecord>,
}

/// What a file was when it was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRecord {
    /// Its length.
    pub bytes: u64,
    /// BLAKE3 of its bytes, in hexadecimal.
    pub blake3: String,
}

/// The version alone, to be read before anything else is believed.
#[derive(Deserialize)]
struct Version {
    format: u32,
}

impl Manifest {
    /// The manifest of a checkpoint with these files.
    pub(super) fn new(about: About, files: BTreeMap<String, FileRecord>) -> Self {
        Manifest { format: FORMAT, about, files }
    }

    /// The text of the file. Its last field is the digest of all bytes before that field.
    pub(super) fn to_text(&self) -> Result<String> {
        let json = serde_json::to_string_pretty(self)?;
        let open = json.strip_suffix("\n}").context("a manifest is a JSON object")?;
        let body = format!("{open},\n");
        let seal = seal(&body);
        Ok(body + &seal)
    }

    /// Understands a file's bytes.
    ///
    /// # Errors
    /// A byte was changed, or another version wrote it.
    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let text = std::str::from_utf8(bytes).context("damaged: not UTF-8")?;
        let sealed = text.len().checked_sub(seal("").len()).and_then(|at| text.split_at_checked(at));
        let intact = sealed.is_some_and(|(body, end)| end == seal(body));
        ensure!(intact, "damaged: its digest is not that of its text");
        let version: Version = serde_json::from_str(text).context("damaged: no format version")?;
        ensure!(
            version.format == FORMAT,
            "format version {} is not known here, {FORMAT} is: use the mynah that wrote it, or a newer one",
            version.format
        );
        let manifest: Manifest =
            serde_json::from_str(text).context("damaged: fields are missing or wrong")?;
        for name in manifest.files.keys() {
            ensure!(is_plain(name), "damaged: {name:?} is not the name of a file in the same directory");
        }
        Ok(manifest)
    }
}

/// The end of the file, for the text before it.
fn seal(body: &str) -> String {
    format!("  \"blake3\": \"{}\"\n}}\n", blake3::hash(body.as_bytes()).to_hex())
}

/// Whether a name stays within its directory.
pub(super) fn is_plain(name: &str) -> bool {
    Path::new(name).file_name().is_some_and(|last| last == name)
}

/// Reads a checkpoint's manifest and holds every file against it.
///
/// # Errors
/// Which file is damaged, and how.
pub fn verify(dir: &Path) -> Result<Manifest> {
    let path = dir.join(MANIFEST);
    let read = || -> Result<Manifest> {
        let mut bytes = Vec::new();
        disk::open(&path)?.read_to_end(&mut bytes)?;
        Manifest::from_bytes(&bytes)
    };
    let manifest = read().with_context(|| path.display().to_string())?;
    let lists = |name: &str| manifest.files.contains_key(name);
    let required = match lists(ADAPTER_CONFIG) {
        true => [ADAPTER_CONFIG, ADAPTER_MODEL],
        false => [CONFIG, MODEL],
    };
    for required in required {
        ensure!(lists(required), "{}: does not list {required}", path.display());
    }
    for (name, record) in &manifest.files {
        let path = dir.join(name);
        check_file(&path, record).with_context(|| path.display().to_string())?;
    }
    Ok(manifest)
}

fn check_file(path: &Path, record: &FileRecord) -> Result<()> {
    let file = disk::open(path)?;
    let bytes = file.metadata()?.len();
    ensure!(bytes == record.bytes, "damaged: has {bytes} bytes, {} were written", record.bytes);
    let digest = digest(file)?;
    ensure!(digest == record.blake3, "damaged: its bytes are not those that were written (BLAKE3 differs)");
    Ok(())
}

fn digest(mut file: File) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finalize().to_hex().to_string()),
            n => hasher.update(&buffer[..n]),
        };
    }
}
