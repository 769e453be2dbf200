//! What is not finite in a file is refused by its name, whatever the tensor, the format and the number; and
//! never written.

use std::fs;

use half::{bf16, f16};
use safetensors::tensor::Dtype as Theirs;
use tempfile::tempdir;

use super::super::gguf::Quant;
use super::super::*;
use super::gguf::{saved, write as write_small};
use super::variant::{Tensors, keep, parse, variant, write};
use super::{FAMILIES, open, random, save_step, tiny, with_contents};
use crate::model::{Config, Method};

/// Puts a number into a tensor of `f32`.
fn spoil(tensors: &mut Tensors, name: &str, at: usize, value: f32) {
    let raw = tensors.get_mut(name).unwrap();
    assert_eq!(raw.dtype, Theirs::F32);
    raw.bytes[4 * at..][..4].copy_from_slice(&value.to_le_bytes());
}

#[test]
fn every_tensor_of_every_family_is_looked_at() {
    let bad = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
    for family in FAMILIES {
        let file = parse(&fs::read(super::golden_dir(family).join(MODEL)).unwrap());
        let mut spoilt = 0;
        for (i, (name, raw)) in file.iter().enumerate() {
            let last = raw.shape.iter().product::<usize>() - 1;
            let value = bad[i % bad.len()];
            let dir = variant(family, |tensors| spoil(tensors, name, last, value), keep);
            let model = open(dir.path()).unwrap();
            let Err(error) = model.weights(to_host) else {
                let buffers = [".attn.bias", ".attention.bias", ".masked_bias"];
                assert!(buffers.iter().any(|end| name.ends_with(end)), "{family}: {name} is not looked at");
                continue;
            };
            spoilt += 1;
            let said = format!("{error:#}");
            let names_it = said.contains(&format!("the tensor {name} is not finite ({value} at ["))
                || said.contains(&format!("the tensor transformer.{name} is not finite"));
            assert!(names_it && said.contains("model.safetensors"), "{said}");
            let found = model.not_finite().unwrap();
            assert!(found.len() == 1 && found[0].contains(name), "{found:?}");
        }
        assert!(spoilt > 10, "{family}: {spoilt} of {} tensors", file.len());
        let whole = variant(family, keep, keep);
        assert!(open(whole.path()).unwrap().not_finite().unwrap().is_empty());
    }
}

#[test]
fn a_place_is_told_in_the_shape_of_the_file() {
    let dir = variant("llama", |tensors| spoil(tensors, "model.embed_tokens.weight", 37, f32::NAN), keep);
    let said = format!("{:#}", open(dir.path()).unwrap().weights(to_host).unwrap_err());
    let width = open(dir.path()).unwrap().config.d_model;
    assert!(said.contains(&format!("NaN at [{}, {}]", 37 / width, 37 % width)), "{said}");
}

#[test]
fn halves_that_overflowed_are_refused() {
    type Halve = fn(f32) -> [u8; 2];
    let halves: [(Theirs, Halve); 2] = [
        (Theirs::F16, |x| f16::from_f32(x).to_le_bytes()),
        (Theirs::BF16, |x| bf16::from_f32(x).to_le_bytes()),
    ];
    for (dtype, halve) in halves {
        let dir = variant(
            "gpt2",
            |tensors| {
                let raw = tensors.iter_mut().find(|(name, _)| name.ends_with("ln_f.weight")).unwrap().1;
                let mut values = super::variant::floats(raw);
                values[2] = f32::MAX;
                (raw.dtype, raw.bytes) = (dtype, values.into_iter().flat_map(halve).collect());
            },
            keep,
        );
        let said = format!("{:#}", open(dir.path()).unwrap().weights(to_host).unwrap_err());
        assert!(said.contains("ln_f.weight is not finite (inf at [2])"), "{said}");
    }
}

#[test]
fn what_training_goes_on_from_is_looked_at() {
    let shelf = tempdir().unwrap();
    let checkpoint = open(&save_step(shelf.path(), 1)).unwrap();
    let path = checkpoint.path.join(OPTIMIZER);
    let mut tensors = parse(&fs::read(&path).unwrap());
    spoil(&mut tensors, "v.blocks.0.qkv.bias", 1, f32::INFINITY);
    write(&path, &tensors);
    let said = format!("{:#}", checkpoint.moments(Method::AdamW, to_host).unwrap_err());
    let parts = ["optimizer.safetensors", "v.blocks.0.qkv.bias is not finite (inf at [1])"];
    assert!(parts.iter().all(|part| said.contains(part)), "{said}");
    checkpoint.weights(to_host).unwrap();

    let (config, other) = (tiny(), random(&tiny(), 5));
    let dir = shelf.path().join("step-000002");
    let contents = Contents {
        config: &config,
        weights: &other,
        dtype: Dtype::F32,
        moments: None,
        beside: &[Beside { name: "value.safetensors", config: &config, trees: vec![("w.", &other)] }],
        read: &mut from_host,
        eot_token: None,
        eos_token: None,
        end_tokens: &[],
        files: &[],
        about: super::about(2),
    };
    save(&dir, contents).unwrap();
    let checkpoint = open(&dir).unwrap();
    let mut tensors = parse(&fs::read(dir.join("value.safetensors")).unwrap());
    spoil(&mut tensors, "w.wpe", 0, f32::NAN);
    write(&dir.join("value.safetensors"), &tensors);
    let said = format!("{:#}", checkpoint.beside("value.safetensors", &tiny(), "w.", to_host).unwrap_err());
    assert!(said.contains("value.safetensors") && said.contains("w.wpe is not finite"), "{said}");
}

#[test]
fn blocks_with_a_scale_that_is_none_are_refused() {
    let dir = tempdir().unwrap();
    let config = Config { d_ff: 64, ..Config::gpt2(6, 5, 1, 1, 32) };
    let model = saved(&dir.path().join("model"), &config);
    let path = dir.path().join("model.gguf");
    write_small(&model, Quant::Q8_0, &path).unwrap();
    let good = fs::read(&path).unwrap();
    // The first block of the last tensor: a scale and 32 integers. Infinity times a zero is NaN.
    let q8 = open(&path).unwrap().tensors.get("blk.0.ffn_down.weight").unwrap().start as usize;
    for scale in [f16::NAN, f16::INFINITY, f16::NEG_INFINITY] {
        let mut bytes = good.clone();
        bytes[q8..q8 + 2].copy_from_slice(&scale.to_le_bytes());
        fs::write(&path, bytes).unwrap();
        let said = format!("{:#}", open(&path).unwrap().weights(to_host).unwrap_err());
        assert!(said.contains("model.gguf: the tensor blk.0.ffn_down.weight is not finite"), "{said}");
        let again = write_small(&open(&path).unwrap(), Quant::F32, &dir.path().join("again.gguf"));
        assert!(format!("{:#}", again.unwrap_err()).contains("blk.0.ffn_down.weight is not finite"));
        assert!(!dir.path().join("again.gguf").exists());
    }
}

#[test]
fn nothing_that_is_not_finite_is_written() {
    let shelf = tempdir().unwrap();
    let dir = shelf.path().join("step-000001");
    let refused = |spoil: &dyn Fn(&mut Contents<'_, Vec<f32>>)| {
        let done = with_contents(1, |mut contents| {
            spoil(&mut contents);
            save(&dir, contents)
        });
        assert_eq!(fs::read_dir(shelf.path()).unwrap().count(), 0, "nothing of it is left");
        format!("{:#}", done.unwrap_err())
    };
    let mut weights = random(&tiny(), 1);
    weights.blocks[0].mlp_up.weight[4] = f32::NAN;
    let said = refused(&|contents| contents.weights = Box::leak(Box::new(weights.clone())));
    assert!(said.contains("blocks.0.mlp_up.weight is not finite (NaN at [2, 0])"), "{said}");
    let mut moment = random(&tiny(), 1);
    moment.wte[0] = f32::INFINITY;
    let said = refused(&|contents| {
        let moment = Box::leak(Box::new(moment.clone()));
        contents.moments = contents.moments.map(|(m, _)| (m, &*moment));
    });
    assert!(said.contains("the tensor wte is not finite (inf at [0, 0])"), "{said}");
}

#[test]
fn a_run_without_a_good_checkpoint_says_so() {
    let dir = tempdir().unwrap();
    fs::create_dir(dir.path().join("checkpoints")).unwrap();
    let said = format!("{:#}", open(dir.path()).err().unwrap());
    assert!(said.contains("is a run without a good checkpoint"), "{said}");
}
