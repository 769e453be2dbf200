//! Training goes on from the bits it stopped at, whatever the model's own files keep of them.

use std::fs;
use std::path::Path;

use half::{bf16, f16};
use tempfile::tempdir;

use super::super::{Contents, Dtype, MODEL, OPTIMIZER, from_host, save, to_host};
use super::variant::parse;
use super::{about, open, random};
use crate::model::{Config, Method, Weights};

fn save_as(dir: &Path, config: &Config, weights: &Weights<Vec<f32>>, dtype: Dtype) -> anyhow::Result<()> {
    let (m, v) = (random(config, 100), random(config, 200));
    let contents = Contents {
        config,
        weights,
        dtype,
        moments: Some((&m, &v)),
        beside: &[],
        read: &mut from_host,
        eot_token: None,
        eos_token: None,
        end_tokens: &[],
        files: &[],
        about: about(1),
    };
    save(dir, contents)
}

/// The weights that lie beside the moments.
fn kept_exactly(dir: &Path) -> Vec<String> {
    let tensors = parse(&fs::read(dir.join(OPTIMIZER)).unwrap());
    tensors.keys().filter_map(|name| Some(name.strip_prefix("w.")?.to_owned())).collect()
}

fn bits(weights: &Weights<Vec<f32>>) -> Vec<u32> {
    weights.leaves().into_iter().flatten().map(|value| value.to_bits()).collect()
}

#[test]
fn rounded_files_have_the_exact_numbers_beside_the_moments() {
    type Round = fn(f32) -> f32;
    let rounds: [(Dtype, Round, &str); 2] = [
        (Dtype::F16, |x| f16::from_f32(x).to_f32(), "F16"),
        (Dtype::Bf16, |x| bf16::from_f32(x).to_f32(), "BF16"),
    ];
    let config = Config::gpt2(7, 5, 1, 1, 4);
    let mut weights = random(&config, 1);
    // Ones and zeros are the same in every format.
    weights.blocks[0].norm1.weight.fill(1.0);
    weights.blocks[0].norm1.bias.as_mut().unwrap().fill(-0.0);
    for (dtype, round, name) in rounds {
        let shelf = tempdir().unwrap();
        let dir = shelf.path().join("model");
        save_as(&dir, &config, &weights, dtype).unwrap();
        let checkpoint = open(&dir).unwrap();
        assert_eq!(checkpoint.dtype(), name);
        let rounded = weights.map(|leaf| leaf.iter().map(|x| round(*x)).collect::<Vec<f32>>());
        assert_eq!(bits(&checkpoint.weights(to_host).unwrap()), bits(&rounded));
        assert_eq!(bits(&checkpoint.exact_weights(to_host).unwrap()), bits(&weights));
        assert_eq!(
            checkpoint.moments(Method::AdamW, to_host).unwrap(),
            Some((random(&config, 100), random(&config, 200)))
        );
        let kept = kept_exactly(&dir);
        assert_eq!(kept.len(), weights.leaves().len() - 2, "{kept:?}");
        assert!(!kept.contains(&"blocks.0.norm1.weight".to_owned()), "{kept:?}");
        let bytes = |name: &str| fs::metadata(dir.join(name)).unwrap().len();
        assert!(bytes(MODEL) < 2 * config.parameters() as u64 + 2_500, "two bytes a number");
        let json = fs::read_to_string(dir.join("config.json")).unwrap();
        let torch = if dtype == Dtype::F16 { "float16" } else { "bfloat16" };
        assert_eq!(json.matches(torch).count(), 2, "{json}");
    }
}

#[test]
fn scaled_queries_come_back_exactly() {
    // √8 is no power of two, √4 and √16 are.
    for (head_dim, kept) in [(8, vec!["blocks.0.qkv.weight"]), (4, vec![]), (16, vec![])] {
        let config = Config::gpt3(7, 5, 1, 2, 2 * head_dim);
        let weights = random(&config, 1);
        let shelf = tempdir().unwrap();
        let dir = shelf.path().join("model");
        save_as(&dir, &config, &weights, Dtype::F32).unwrap();
        let checkpoint = open(&dir).unwrap();
        assert_eq!(kept_exactly(&dir), kept, "{head_dim}");
        assert_eq!(bits(&checkpoint.exact_weights(to_host).unwrap()), bits(&weights), "{head_dim}");
        assert_eq!(bits(&checkpoint.weights(to_host).unwrap()) == bits(&weights), kept.is_empty());
        // The file's queries are ours divided by the root, its keys are ours.
        let file = parse(&fs::read(dir.join(MODEL)).unwrap());
        let ours = &weights.blocks[0].qkv.weight;
        let d = config.d_model;
        for (name, from, factor) in [("q", 0, (head_dim as f32).sqrt()), ("k", d * d, 1.0)] {
            let theirs = &file[&format!("transformer.h.0.attn.attention.{name}_proj.weight")];
            let theirs = super::variant::floats(theirs);
            assert!(theirs.iter().zip(&ours[from..]).all(|(a, b)| *a == b / factor), "{name}");
        }
    }
}

#[test]
fn a_number_that_a_format_cannot_hold_is_named() {
    let config = Config::modern(7, 5, 1, 1, 4);
    let mut weights = random(&config, 1);
    weights.blocks[0].mlp_up.weight[64 * 4] = 65_520.0;
    let shelf = tempdir().unwrap();
    let dir = shelf.path().join("model");
    let said = format!("{:#}", save_as(&dir, &config, &weights, Dtype::F16).unwrap_err());
    assert!(said.contains("model.layers.0.mlp.up_proj.weight: it holds 6.552e4, which float16"), "{said}");
    assert_eq!(fs::read_dir(shelf.path()).unwrap().count(), 0, "nothing of it is left");
    weights.blocks[0].mlp_up.weight[64 * 4] = 65_519.0;
    save_as(&dir, &config, &weights, Dtype::F16).unwrap();
    assert_eq!(bits(&open(&dir).unwrap().exact_weights(to_host).unwrap()), bits(&weights));
}
