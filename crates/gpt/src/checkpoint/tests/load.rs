use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView, serialize};
use serde_json::{Value, json};
use tempfile::{TempDir, tempdir};

use super::super::*;
use super::golden_dir;
use crate::model::{Weights, specs};

/// A tensor of a file that a test changes.
#[derive(Clone)]
struct Raw {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

type Tensors = BTreeMap<String, Raw>;

fn parse(bytes: &[u8]) -> Tensors {
    let file = SafeTensors::deserialize(bytes).unwrap();
    let raw = |view: &TensorView<'_>| Raw {
        dtype: view.dtype(),
        shape: view.shape().to_vec(),
        bytes: view.data().to_vec(),
    };
    file.tensors().iter().map(|(name, view)| (name.clone(), raw(view))).collect()
}

fn write(path: &Path, tensors: &Tensors) {
    let views = tensors
        .iter()
        .map(|(name, raw)| (name, TensorView::new(raw.dtype, raw.shape.clone(), &raw.bytes).unwrap()));
    fs::write(path, serialize(views, None).unwrap()).unwrap();
}

fn floats(raw: &Raw) -> Vec<f32> {
    raw.bytes.chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect()
}

/// The golden directory with other tensors and another configuration.
fn variant(tensors: impl FnOnce(&mut Tensors), config: impl FnOnce(&mut Value)) -> TempDir {
    let dir = tempdir().unwrap();
    let mut all = parse(&fs::read(golden_dir().join(MODEL)).unwrap());
    tensors(&mut all);
    write(&dir.path().join(MODEL), &all);
    let mut json = serde_json::from_slice(&fs::read(golden_dir().join(CONFIG)).unwrap()).unwrap();
    config(&mut json);
    fs::write(dir.path().join(CONFIG), json.to_string()).unwrap();
    dir
}

fn golden_weights() -> Weights<Vec<f32>> {
    open(&golden_dir()).unwrap().weights(to_host).unwrap()
}

fn refusal(tensors: impl FnOnce(&mut Tensors), config: impl FnOnce(&mut Value)) -> String {
    let dir = variant(tensors, config);
    format!("{:#}", open(dir.path()).err().expect("the directory is refused"))
}

fn keep<T>(_: &mut T) {}

#[test]
fn a_directory_of_transformers_loads_bit_for_bit() {
    let checkpoint = open(&golden_dir()).unwrap();
    assert_eq!(checkpoint.warnings.len(), 1);
    assert!(checkpoint.warnings[0].contains("unverified"), "{:?}", checkpoint.warnings);
    // The script wrote the same weights a second time, under our names and in our layout.
    let golden = parse(&fs::read(golden_dir().join("../gpt2.safetensors")).unwrap());
    let mut names = Vec::new();
    checkpoint
        .weights(|spec, values| {
            let raw = &golden[&format!("weight.{}", spec.name)];
            assert_eq!(raw.shape, spec.shape, "{}", spec.name);
            assert_eq!(floats(raw), values, "{}", spec.name);
            names.push(spec.name.clone());
        })
        .unwrap();
    assert_eq!(names.len(), golden.keys().filter(|name| name.starts_with("weight.")).count());
}

#[test]
fn the_class_without_head_and_old_buffers_load() {
    let dir = variant(
        |tensors| {
            let buffer = Raw { dtype: Dtype::U8, shape: vec![1, 1, 16, 16], bytes: vec![1; 256] };
            *tensors = std::mem::take(tensors)
                .into_iter()
                .map(|(name, raw)| (name.strip_prefix("transformer.").unwrap().to_owned(), raw))
                .chain([
                    ("h.1.attn.bias".to_owned(), buffer.clone()),
                    ("h.0.attn.masked_bias".to_owned(), buffer),
                ])
                .collect();
        },
        |config| config["architectures"] = json!(["GPT2Model"]),
    );
    assert_eq!(open(dir.path()).unwrap().weights(to_host).unwrap(), golden_weights());
}

#[test]
fn a_head_equal_to_the_embedding_is_tied_and_another_is_its_own() {
    let tied = variant(
        |tensors| {
            tensors.insert("lm_head.weight".into(), tensors["transformer.wte.weight"].clone());
        },
        keep,
    );
    assert_eq!(open(tied.path()).unwrap().weights(to_host).unwrap(), golden_weights());

    let own = variant(
        |tensors| {
            let mut head = tensors["transformer.wte.weight"].clone();
            *head.bytes.last_mut().unwrap() ^= 1;
            tensors.insert("lm_head.weight".into(), head);
        },
        keep,
    );
    let own = open(own.path()).unwrap();
    assert!(!own.config.tied_head);
    assert!(
        own.warnings.iter().any(|warning| warning.contains("lm_head.weight differs")),
        "{:?}",
        own.warnings
    );
    let weights = own.weights(to_host).unwrap();
    assert_ne!(weights.lm_head.as_ref().unwrap(), &weights.wte);

    let lost = refusal(keep, |config| config["tie_word_embeddings"] = json!(false));
    assert!(lost.contains("lm_head.weight is missing"), "{lost}");
}

#[test]
fn half_precision_becomes_f32() {
    type Convert = fn(f32) -> (u16, f32);
    let conversions: [(Dtype, Convert); 2] = [
        (Dtype::F16, |x| (half::f16::from_f32(x).to_bits(), half::f16::from_f32(x).to_f32())),
        (Dtype::BF16, |x| (half::bf16::from_f32(x).to_bits(), half::bf16::from_f32(x).to_f32())),
    ];
    for (dtype, convert) in conversions {
        let halve = |tensors: &mut Tensors| {
            for raw in tensors.values_mut() {
                raw.bytes = floats(raw).into_iter().flat_map(|x| convert(x).0.to_le_bytes()).collect();
                raw.dtype = dtype;
            }
        };
        let dir = variant(halve, keep);
        let rounded = golden_weights().map(|leaf| leaf.iter().map(|x| convert(*x).1).collect::<Vec<f32>>());
        assert_eq!(open(dir.path()).unwrap().weights(to_host).unwrap(), rounded);
    }
}

#[test]
fn shards_load_and_an_index_that_lies_does_not() {
    let dir = variant(keep, keep);
    let all = parse(&fs::read(dir.path().join(MODEL)).unwrap());
    fs::remove_file(dir.path().join(MODEL)).unwrap();
    let mut weight_map = BTreeMap::new();
    for (shard, part) in all.iter().collect::<Vec<_>>().chunks(11).enumerate() {
        let file = format!("model-{shard:05}.safetensors");
        weight_map.extend(part.iter().map(|(name, _)| ((*name).clone(), file.clone())));
        write(
            &dir.path().join(file),
            &part.iter().map(|(name, raw)| ((*name).clone(), (*raw).clone())).collect(),
        );
    }
    let index = dir.path().join(INDEX);
    fs::write(&index, json!({ "metadata": {}, "weight_map": weight_map }).to_string()).unwrap();
    assert_eq!(open(dir.path()).unwrap().weights(to_host).unwrap(), golden_weights());

    for (file, said) in
        [("../x.safetensors", "not the name of a file"), ("model-00001.safetensors", "is not in")]
    {
        weight_map.insert("transformer.h.0.ln_1.bias".into(), file.into());
        fs::write(&index, json!({ "weight_map": weight_map }).to_string()).unwrap();
        let error = format!("{:#}", open(dir.path()).err().unwrap());
        assert!(error.contains(said), "{error}");
    }
}

#[test]
fn wrong_tensors_are_named() {
    let name = "transformer.h.1.mlp.c_fc.weight";
    let missing = refusal(|tensors| drop(tensors.remove(name)), keep);
    assert!(missing.contains(name) && missing.contains("missing"), "{missing}");

    let misshaped = refusal(|tensors| tensors.get_mut(name).unwrap().shape.reverse(), keep);
    assert!(misshaped.contains("[96, 24], the configuration asks for [24, 96]"), "{misshaped}");

    let integers = refusal(|tensors| tensors.get_mut(name).unwrap().dtype = Dtype::I32, keep);
    assert!(integers.contains("holds I32"), "{integers}");

    let unknown = refusal(
        |tensors| {
            let stray = tensors["transformer.ln_f.bias"].clone();
            tensors.insert("transformer.h.1.attn.q_norm.weight".into(), stray);
        },
        keep,
    );
    assert!(unknown.contains("h.1.attn.q_norm.weight"), "{unknown}");

    let twice = refusal(
        |tensors| drop(tensors.insert("ln_f.bias".into(), tensors["transformer.ln_f.bias"].clone())),
        keep,
    );
    assert!(twice.contains("transformer.ln_f.bias is there twice"), "{twice}");
}

#[test]
fn what_is_not_supported_is_named() {
    for (key, value, said) in [
        ("architectures", json!(["LlamaForCausalLM"]), "LlamaForCausalLM"),
        ("model_type", json!("gpt_neo"), "gpt_neo"),
        ("activation_function", json!("relu"), "relu"),
        ("scale_attn_by_inverse_layer_idx", json!(true), "scale_attn_by_inverse_layer_idx"),
        ("scale_attn_weights", json!(false), "scale_attn_weights"),
        ("add_cross_attention", json!(true), "add_cross_attention"),
        ("n_embd", json!(-3), "n_embd"),
        ("n_embd", json!("wide"), "config.json"),
        ("n_head", json!(5), "multiple of n_head"),
        ("n_layer", json!(0), "n_layer is 0"),
        ("n_layer", json!(1_000_000_000), "1000000000 layers"),
        ("n_layer", json!(3), "transformer.h.2.ln_1.weight is missing"),
        ("n_embd", json!(u64::MAX), "beyond any model"),
        ("vocab_size", json!(68), "[67, 24], the configuration asks for [68, 24]"),
        ("n_inner", json!(95), "c_fc"),
    ] {
        let error = refusal(keep, |config| config[key] = value.clone());
        assert!(error.contains(said), "{key} = {value}: {error}");
    }
    let nothing = refusal(keep, |config| *config = json!({}));
    assert!(nothing.contains("config.json"), "{nothing}");
}

#[test]
fn the_other_name_of_the_same_activation_is_accepted() {
    let dir = variant(keep, |config| config["activation_function"] = json!("gelu_pytorch_tanh"));
    assert_eq!(open(dir.path()).unwrap().weights(to_host).unwrap(), golden_weights());
}

#[test]
fn every_leaf_has_a_name_of_its_own() {
    let config = crate::model::Config { n_layer: 12, tied_head: false, ..super::tiny() };
    let mut names = std::collections::BTreeSet::new();
    for spec in specs(&config).leaves() {
        assert!(names.insert(super::super::gpt2::GPT2.theirs(&spec.name).0), "{}", spec.name);
    }
    assert!(names.contains("transformer.h.11.mlp.c_proj.bias"));
}

#[test]
fn a_path_that_holds_no_model_says_so() {
    let dir = tempdir().unwrap();
    let said = |path: &Path| format!("{:#}", open(path).err().unwrap());
    assert!(said(dir.path()).contains("holds no model"));
    assert!(said(&dir.path().join("gpt2")).contains("does not exist"));
    fs::write(dir.path().join(CONFIG), fs::read(golden_dir().join(CONFIG)).unwrap()).unwrap();
    assert!(said(&dir.path().join(CONFIG)).contains("is a file"));
    assert!(said(dir.path()).contains("pytorch_model.bin"));
}
