//! Which optimizer learns what, and what it keeps for that.

use super::{Config, Spec, Weights, is_learned};
use kernels::newton_schulz_flops;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// The optimizer of a training. Whatever it is, AdamW learns embeddings, heads, norms, biases and adapters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// AdamW for everything (Loshchilov & Hutter 2019): two moments.
    #[default]
    AdamW,
    /// Muon for the matrices of blocks (Jordan et al. 2024): one moment of each.
    Muon,
}

impl std::fmt::Display for Method {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Method::AdamW => "adamw",
            Method::Muon => "muon",
        })
    }
}

impl Method {
    /// Whether it is the usual one.
    pub fn is_usual(&self) -> bool {
        *self == Method::default()
    }

    /// Whether Muon learns the array, which then has no second moment.
    pub fn is_muons(self, spec: &Spec) -> bool {
        self == Method::Muon && spec.is_block_matrix()
    }

    /// Floating-point operations of an update: those of Muon's products. AdamW's few for each number are not counted.
    pub fn update_flops(self, config: &Config) -> f64 {
        let specs = super::specs(config);
        let learned = specs.leaves().into_iter().filter(|spec| self.is_muons(spec));
        learned
            .flat_map(|spec| {
                maps(config, spec).into_iter().map(|map| newton_schulz_flops(map.len(), spec.shape[1]))
            })
            .sum()
    }

    /// Whether an array that is learned has a second moment.
    pub fn has_second_moment(self, specs: &Weights<Spec>, spec: &Spec) -> bool {
        is_learned(specs, spec) && !self.is_muons(spec)
    }
}

/// The rows of a matrix of a block that are one linear map each: queries, keys and values, SwiGLU's gate and what it lets
/// through, which are one array for one product; else all.
pub fn maps(config: &Config, spec: &Spec) -> Vec<Range<usize>> {
    let rows = spec.shape[0];
    let lens = if spec.name.ends_with(".qkv.weight") {
        vec![config.q_width(), config.kv_width(), config.kv_width()]
    } else if spec.name.ends_with(".mlp_up.weight") {
        vec![config.d_ff; rows / config.d_ff]
    } else {
        vec![rows]
    };
    let mut end = 0;
    lens.into_iter()
        .map(|len| {
            end += len;
            end - len..end
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::specs;

    #[test]
    fn an_update_costs_its_products() {
        // Queries, keys, values and the projection are four maps of 192 by 192, the two of the MLP have 768 rows or columns;
        // a step is the Gram matrix, its square, and the product with the map.
        let square = 3.0 * 2.0 * 192.0_f64.powi(3);
        let long = 2.0 * 2.0 * 192.0 * 192.0 * 768.0 + 2.0 * 192.0_f64.powi(3);
        let config = Config::gpt2(4096, 256, 4, 3, 192);
        assert_eq!(Method::Muon.update_flops(&config), 4.0 * 5.0 * (4.0 * square + 2.0 * long));
        assert_eq!(Method::AdamW.update_flops(&config), 0.0);
    }

    #[test]
    fn fused_arrays_are_several_maps() {
        for (config, up) in [(Config::gpt2(10, 8, 1, 2, 16), 1), (Config::modern(10, 8, 1, 2, 16), 2)] {
            let specs = specs(&config);
            for spec in specs.leaves().into_iter().filter(|spec| Method::Muon.is_muons(spec)) {
                let maps = maps(&config, spec);
                let count = match spec.name.split('.').nth(2) {
                    Some("qkv") => 3,
                    Some("mlp_up") => up,
                    _ => 1,
                };
                assert_eq!(maps.len(), count, "{}", spec.name);
                assert_eq!((maps[0].start, maps[count - 1].end), (0, spec.shape[0]), "{}", spec.name);
                assert!(maps.windows(2).all(|pair| pair[0].end == pair[1].start), "{}", spec.name);
            }
            let of = |what: fn(&Spec) -> bool| specs.leaves().into_iter().filter(|spec| what(spec)).count();
            assert_eq!(of(|spec| Method::Muon.is_muons(spec)), 4);
            assert_eq!(of(|spec| Method::AdamW.is_muons(spec)), 0);
        }
    }
}
