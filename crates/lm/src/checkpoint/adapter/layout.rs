//! Which matrices of a family's files an adapter stands beside, and where in our arrays theirs are.

use std::collections::BTreeSet;
use std::ops::Range;

use anyhow::{Result, bail, ensure};

use super::super::family::{Family, SCORE_BIAS, SCORE_WEIGHT};
use super::super::fit::{EMBEDDING, HEAD};
use super::super::tensor_file::TensorFiles;
use super::arrays::{FACTORS, MAGNITUDE, full_name};
use crate::model::{
    Adapted, Adapter, BaseStorage, Config, Linear, Lora, LowRank, OfMatrices, Pair, PairShape, Spec, ends_in,
    specs,
};

/// The adapted matrices of a model.
pub(in super::super) struct Layout {
    lora: Lora,
    n_layer: usize,
    /// In the order of our arrays.
    modules: Vec<Module>,
}

/// A matrix of the family's files, and where in one of ours it is.
#[derive(Clone, Debug)]
pub(in super::super) struct Module {
    /// Its name there, without `.weight`.
    pub(super) name: String,
    block: usize,
    matrix: usize,
    /// Its rows of our array.
    pub(super) rows: Range<usize>,
    /// The sides of our array.
    pub(super) d_in: usize,
    d_out: usize,
    /// Its rank, and its columns of our `B`.
    pub(super) rank: usize,
    pub(super) columns: Range<usize>,
    /// What its product is multiplied by.
    scale: f64,
    /// Our `B` is the file's times this.
    pub(super) ratio: f32,
    /// And our rows, and so their magnitudes, times this.
    pub(super) factor: f32,
}

/// Every matrix of a model's blocks, not adapted yet.
pub(super) fn matrices(config: &Config) -> Result<Vec<Module>> {
    let names = &Family::for_config(config)?.names;
    let mut all = Vec::new();
    for (block, specs) in specs(config).blocks.into_iter().enumerate() {
        let linear: [Linear<Spec>; 4] = [specs.qkv, specs.attn_out, specs.mlp_up, specs.mlp_down];
        for (matrix, Linear { weight, .. }) in linear.into_iter().enumerate() {
            let (d_out, d_in) = (weight.shape[0], weight.shape[1]);
            all.extend(names.pieces(config, &weight).into_iter().map(|piece| Module {
                name: piece.name.trim_end_matches(".weight").to_owned(),
                block,
                matrix,
                rows: piece.values.start / d_in..piece.values.end / d_in,
                d_in,
                d_out,
                rank: 0,
                columns: 0..0,
                scale: 1.0,
                ratio: piece.factor,
                factor: piece.factor,
            }));
        }
    }
    Ok(all)
}

/// The last parts of the names of all matrices, each once.
pub(super) fn suffixes(config: &Config) -> Result<Vec<String>> {
    let mut seen = BTreeSet::new();
    let last = |module: Module| module.name.rsplit('.').next().unwrap_or_default().to_owned();
    Ok(matrices(config)?.into_iter().map(last).filter(|name| seen.insert(name.clone())).collect())
}

impl Layout {
    /// That of an adapter beside a model of this shape.
    ///
    /// # Errors
    /// A target that the model does not have, or that is no matrix of its blocks.
    pub(in super::super) fn new(config: &Config, lora: &Lora) -> Result<Self> {
        let language_model = Config { n_label: None, ..config.clone() };
        let mut modules = matrices(&language_model)?;
        if let Adapted::Named(targets) = &lora.targets {
            for target in targets {
                refuse_ends(&language_model, target)?;
                ensure!(
                    modules.iter().any(|module| ends_in(&module.name, target)),
                    "targets: the model has no {target}; its matrices are {}, or all of them",
                    suffixes(&language_model)?.join(", ")
                );
            }
            modules.retain(|module| targets.iter().any(|target| ends_in(&module.name, target)));
        }
        ensure!(!modules.is_empty(), "targets: no matrix is adapted");
        let mut before: Option<(usize, usize, usize, f64)> = None;
        for module in &mut modules {
            module.rank = lora.rank_of(&module.name);
            let scale = lora.scale_of(&module.name);
            let (first, of_pair) = match before {
                Some((block, matrix, end, scale)) if (block, matrix) == (module.block, module.matrix) => {
                    (end, scale)
                }
                _ => (0, scale),
            };
            module.columns = first..first + module.rank;
            module.ratio *= (scale / of_pair) as f32;
            module.scale = of_pair;
            before = Some((module.block, module.matrix, module.columns.end, of_pair));
        }
        Ok(Layout { lora: lora.clone(), n_layer: config.n_layer, modules })
    }

    /// The matrices of the family that a matrix of ours is.
    pub(super) fn of(&self, block: usize, matrix: usize) -> impl Iterator<Item = &Module> {
        self.modules.iter().filter(move |module| (module.block, module.matrix) == (block, matrix))
    }

    /// Whether all rows of a matrix of ours are adapted.
    pub(super) fn covers(&self, block: usize, matrix: usize, rows: usize) -> bool {
        self.of(block, matrix).map(|module| module.rows.len()).sum::<usize>() == rows
    }

    /// The shape of the adapter.
    pub(in super::super) fn adapter(&self) -> Adapter<()> {
        let mut blocks: Vec<OfMatrices<Pair<()>>> = (0..self.n_layer).map(|_| Default::default()).collect();
        for module in &self.modules {
            let pair = blocks[module.block][module.matrix].get_or_insert_with(|| Pair {
                shape: PairShape {
                    d_in: module.d_in,
                    d_out: module.d_out,
                    scale: module.scale as f32,
                    pieces: Vec::new(),
                },
                a: (),
                b: (),
                magnitude: self.lora.dora.then_some(()),
            });
            pair.shape.pieces.push(LowRank { rows: module.rows.clone(), rank: module.rank });
        }
        Adapter { lora: self.lora.clone(), base: BaseStorage::NUMBERS, blocks }
    }

    /// Every factor is there with its shape, and so is a head of this shape; nothing else is.
    ///
    /// # Errors
    /// Which tensor is missing, misshaped or unknown.
    pub(super) fn check(&self, tensors: &TensorFiles, score: Option<[usize; 2]>) -> Result<()> {
        let mut expected = BTreeSet::new();
        for module in &self.modules {
            if self.lora.dora {
                let name = full_name(&format!("{}.{MAGNITUDE}", module.name));
                tensors.expect(&name, &[module.rows.len()])?;
                expected.insert(name);
            }
            let shapes = [[module.rank, module.d_in], [module.rows.len(), module.rank]];
            for (factor, shape) in FACTORS.into_iter().zip(shapes) {
                let name = full_name(&format!("{}.{factor}", module.name));
                if let Some(tensor) = tensors.get(&name) {
                    let got = tensor.shape();
                    let rank = if factor == FACTORS[0] { got.first() } else { got.get(1) };
                    ensure!(
                        rank.is_none_or(|rank| *rank == module.rank) || got.len() != 2,
                        "the tensor {name} has rank {}, and the configuration says {}",
                        rank.copied().unwrap_or(0),
                        module.rank
                    );
                }
                tensors.expect(&name, &shape)?;
                expected.insert(name);
            }
        }
        if let Some(shape) = score {
            tensors.expect(&full_name(SCORE_WEIGHT), &shape)?;
            expected.extend([SCORE_WEIGHT, SCORE_BIAS].map(full_name));
        }
        let unknown: Vec<&str> = tensors.names().filter(|name| !expected.contains(*name)).take(3).collect();
        if let Some(first) = unknown.first() {
            let path = tensors.file_of(first).map(|path| path.display().to_string()).unwrap_or_default();
            bail!(
                "{path}: tensors that stand beside no matrix of this model, or that change more than one: {} …",
                unknown.join(", ")
            );
        }
        Ok(())
    }
}

/// Refuses what is an embedding or the head: where the two are one matrix, what is added to one end would change
/// the other.
fn refuse_ends(config: &Config, target: &str) -> Result<()> {
    let names = &Family::for_config(config)?.names;
    let ends = [EMBEDDING, HEAD].map(|ours| names.of(ours).trim_end_matches(".weight"));
    if let Some(end) = ends.iter().find(|end| ends_in(end, target)) {
        let tied = if config.tied_head { ": embedding and head are one matrix in this model" } else { "" };
        bail!(
            "targets: {end} is an end of the model, and only matrices of its blocks are adapted{tied}; leave it out"
        );
    }
    Ok(())
}
