//! Whether a configuration is valid, and whether tensors match it.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Result, bail, ensure};

use super::MODEL;
use super::family::Names;
use super::tensor_file::TensorFiles;
use crate::model::{Config, Spec, Weights};

/// No array of a model has a longer side; keeps the products of sizes far from overflow.
const MAX_SIZE: usize = 1 << 30;

/// The names of [`specs`] of the token embedding and of the head.
pub(super) const EMBEDDING: &str = "wte";
pub(super) const HEAD: &str = "lm_head";

/// Refuses a configuration that no model can have, before anything is made of its size.
pub(super) fn check_sizes(config: &Config) -> Result<()> {
    let &Config { vocab_size, seq_len, n_layer, n_head, n_kv_head, head_dim, d_model, d_ff, .. } = config;
    let sizes = [vocab_size, seq_len, n_layer, n_head, n_kv_head, head_dim, d_model, d_ff];
    let small = |size: usize| size <= MAX_SIZE;
    ensure!(
        sizes.into_iter().all(small) && small(config.q_width()) && small(config.kv_width()),
        "a size is beyond any model: {config:?}"
    );
    ensure!(config.norm_eps.is_finite() && config.norm_eps >= 0.0, "the norm's ε is {}", config.norm_eps);
    config.check()
}

/// Whether there is a matrix for the head that is not the embedding again.
pub(super) fn has_other_head(tensors: &TensorFiles, names: &Names, config: &Config) -> Result<bool> {
    if !tensors.contains(names.of(HEAD)) {
        return Ok(false);
    }
    let shape = [config.vocab_size, config.d_model];
    let [embedding, head] = [EMBEDDING, HEAD].map(|ours| tensors.expect(names.of(ours), &shape));
    Ok(!tensors.equal(embedding?, head?)?)
}

/// Every leaf is there with its shape, and nothing else is.
pub(super) fn check_tensors(
    tensors: &TensorFiles,
    names: &Names,
    config: &Config,
    specs: &Weights<Spec>,
) -> Result<()> {
    // A tied head may be there again.
    let mut expected = BTreeSet::from([names.of(HEAD).to_owned()]);
    for piece in specs.leaves().into_iter().flat_map(|spec| names.pieces(config, spec)) {
        tensors.expect(&piece.name, &piece.shape)?;
        expected.insert(piece.name);
    }
    let unknown: Vec<&str> =
        tensors.names().filter(|name| !expected.contains(*name) && !names.is_buffer(name)).take(5).collect();
    if let Some(first) = unknown.first() {
        let path = tensors.file_of(first).unwrap_or(Path::new(MODEL)).display();
        bail!("{path}: unknown tensors, which this architecture does not have: {}", unknown.join(", "));
    }
    Ok(())
}
