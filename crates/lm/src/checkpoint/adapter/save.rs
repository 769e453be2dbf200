//! Writing the two files of an adapter.

use std::path::Path;

use anyhow::{Result, ensure};

use super::super::disk::Disk;
use super::super::family::{SCORE_BIAS, SCORE_WEIGHT};
use super::super::finite::first_not_finite;
use super::super::manifest::FileRecord;
use super::super::writer::Writer;
use super::super::{ADAPTER_CONFIG, ADAPTER_MODEL};
use super::arrays::{full_name, pieces_of, pieces_of_magnitude, to_bytes};
use super::config::{BaseModel, to_text};
use super::layout::Layout;
use crate::model::{Config, Spec, Weights, specs_of};
use kernels::all_finite;

/// A file's name and what it is.
type Written = (&'static str, FileRecord);

/// Writes what is learned beside a model's weights, and tells of each learned leaf, in the order of the weights'
/// leaves, whether a reader gets the same bits back. Without an adapter nothing is written.
pub(in super::super) fn write<T>(
    disk: &mut Disk<'_>,
    dir: &Path,
    config: &Config,
    weights: &Weights<T>,
    base: Option<&BaseModel>,
    read: &mut dyn FnMut(&T, &mut [f32]),
) -> Result<Option<(Vec<Written>, Vec<bool>)>> {
    let specs = specs_of(config, weights);
    let (Some(adapter), Some(described)) = (&weights.adapter, &specs.adapter) else { return Ok(None) };
    let (mut pieces, mut exact) = (Vec::new(), Vec::new());
    let mut host = |spec: &Spec, leaf: &T| -> Result<Vec<f32>> {
        let mut values = vec![0.0; spec.len()];
        read(leaf, &mut values);
        ensure!(
            all_finite(&values),
            "the tensor {} is not finite ({})",
            spec.name,
            first_not_finite(&values, &spec.shape).unwrap_or_default()
        );
        Ok(values)
    };
    if let (Some(score), Some(spec)) = (&weights.score, &specs.score) {
        pieces.push((full_name(SCORE_WEIGHT), spec.weight.shape.clone(), host(&spec.weight, &score.weight)?));
        exact.push(true);
        if let (Some(bias), Some(spec)) = (&score.bias, &spec.bias) {
            pieces.push((full_name(SCORE_BIAS), spec.shape.clone(), host(spec, bias)?));
            exact.push(true);
        }
    }
    let layout = Layout::new(config, &adapter.lora)?;
    for ((block, matrix, pair), (.., spec)) in adapter.pairs().zip(described.pairs()) {
        let (a, b) = (host(&spec.a, &pair.a)?, host(&spec.b, &pair.b)?);
        let (of_pair, same) = pieces_of(&layout, (block, matrix), &pair.shape, &a, &b);
        pieces.extend(of_pair);
        exact.extend([true, same]);
        if let (Some(magnitude), Some(spec)) = (&pair.magnitude, &spec.magnitude) {
            let (of_magnitude, same) = pieces_of_magnitude(&layout, (block, matrix), &host(spec, magnitude)?);
            pieces.extend(of_magnitude);
            exact.push(same);
        }
    }
    let text = to_text(&adapter.lora, config, base)?;
    let mut written = Vec::new();
    for (name, bytes) in [(ADAPTER_CONFIG, text.into_bytes()), (ADAPTER_MODEL, to_bytes(&pieces)?)] {
        let mut writer = Writer::create(disk, dir, name)?;
        writer.write(&bytes)?;
        written.push((name, writer.finish()?));
    }
    Ok(Some((written, exact)))
}
