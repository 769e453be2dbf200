mod damage;
mod exact;
mod families;
mod faults;
mod finite;
mod generation;
mod gguf;
mod load;
mod number_format;
mod road;
mod round_trip;
mod variant;

use std::path::{Path, PathBuf};

use kernels::rng;

use super::{About, Checkpoint, Contents, Disk, Dtype, ModelDir, Operation, from_host, save_on};
use crate::model::{Config, Weights, specs};
use text::progress::Silent;

/// A model of the family as transformers saves it; `tools/golden_models.py` made it.
fn golden_dir(family: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{family}-tiny"))
}

/// The families that have one.
const FAMILIES: [&str; 6] = ["gpt1", "gpt2", "gpt_neo", "llama", "qwen2", "qwen3"];

/// [`super::open`], watched by nobody.
fn open(path: &Path) -> anyhow::Result<Checkpoint> {
    super::open(path, &Silent)
}

/// [`super::resolve_model`], watched by nobody.
fn resolve_model(path: &Path) -> anyhow::Result<ModelDir> {
    super::resolve_model(path, &Silent)
}

/// The smallest model that has every kind of array, with all sides different.
fn tiny() -> Config {
    Config { d_ff: 3, dropout: 0.1, ..Config::gpt2(7, 5, 1, 1, 2) }
}

/// Weights that differ from each other and from those of another seed.
fn random(config: &Config, seed: u64) -> Weights<Vec<f32>> {
    let mut stream = 0;
    specs(config).map(|spec| {
        stream += 1;
        (0..spec.len() as u64).map(|i| rng::normal(seed, stream, i) as f32).collect()
    })
}

const FILES: &[(&str, &[u8])] =
    &[("tokenizer.json", b"{\"version\": \"1.0\"}"), ("tokenizer_config.json", b"{}")];

fn about(step: u64) -> About {
    About { stage: "pretrain".into(), step, updates: step, seed: 9, ..About::default() }
}

/// Saves the tiny model of a step, moments included, as `shelf/step-NNNNNN`.
fn save_step(shelf: &Path, step: u64) -> PathBuf {
    let dir = shelf.join(format!("step-{step:06}"));
    let mut allow = |_: &Operation<'_>| Ok(());
    with_contents(step, |contents| save_on(&mut Disk::watched(&mut allow), &dir, contents)).unwrap();
    dir
}

/// Calls `act` with what a checkpoint of `step` holds.
fn with_contents<R>(step: u64, act: impl FnOnce(Contents<'_, Vec<f32>>) -> R) -> R {
    let (weights, m, v) = (random(&tiny(), step), random(&tiny(), step + 100), random(&tiny(), step + 200));
    act(Contents {
        config: &tiny(),
        weights: &weights,
        dtype: Dtype::F32,
        moments: Some((&m, &v)),
        beside: &[],
        read: &mut from_host,
        eot_token: Some(6),
        eos_token: Some(6),
        end_tokens: &[],
        files: FILES,
        about: about(step),
    })
}
