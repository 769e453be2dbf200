use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use safetensors::tensor::Dtype;
use serde_json::json;
use tempfile::tempdir;

use super::super::{CONFIG, INDEX, MODEL, to_host};
use super::variant::{Tensors, floats, keep, parse, refusal, variant, write};
use super::{golden_dir, open};
use crate::model::Weights;

fn golden_weights() -> Weights<Vec<f32>> {
    open(&golden_dir("gpt2")).unwrap().weights(to_host).unwrap()
}

#[test]
fn a_head_equal_to_the_embedding_is_tied_and_another_is_its_own() {
    let tied = variant(
        "gpt2",
        |tensors| {
            tensors.insert("lm_head.weight".into(), tensors["transformer.wte.weight"].clone());
        },
        keep,
    );
    assert_eq!(open(tied.path()).unwrap().weights(to_host).unwrap(), golden_weights());

    let own = variant(
        "gpt2",
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

    let lost = refusal("gpt2", keep, |config| config["tie_word_embeddings"] = json!(false));
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
        let dir = variant("gpt2", halve, keep);
        let rounded = golden_weights().map(|leaf| leaf.iter().map(|x| convert(*x).1).collect::<Vec<f32>>());
        assert_eq!(open(dir.path()).unwrap().weights(to_host).unwrap(), rounded);
    }
}

#[test]
fn shards_load_and_an_index_that_lies_does_not() {
    let dir = variant("gpt2", keep, keep);
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
    let missing = refusal("gpt2", |tensors| drop(tensors.remove(name)), keep);
    assert!(missing.contains(name) && missing.contains("missing"), "{missing}");

    let misshaped = refusal("gpt2", |tensors| tensors.get_mut(name).unwrap().shape.reverse(), keep);
    assert!(misshaped.contains("[96, 24], the configuration asks for [24, 96]"), "{misshaped}");

    let integers = refusal("gpt2", |tensors| tensors.get_mut(name).unwrap().dtype = Dtype::I32, keep);
    assert!(integers.contains("holds I32"), "{integers}");

    let unknown = refusal(
        "gpt2",
        |tensors| {
            let stray = tensors["transformer.ln_f.bias"].clone();
            tensors.insert("transformer.h.1.attn.q_norm.weight".into(), stray);
        },
        keep,
    );
    assert!(unknown.contains("h.1.attn.q_norm.weight"), "{unknown}");

    let twice = refusal(
        "gpt2",
        |tensors| drop(tensors.insert("ln_f.bias".into(), tensors["transformer.ln_f.bias"].clone())),
        keep,
    );
    assert!(twice.contains("transformer.ln_f.bias is there twice"), "{twice}");
}

#[test]
fn what_is_not_supported_is_named() {
    for (key, value, said) in [
        ("architectures", json!(["MistralForCausalLM"]), "MistralForCausalLM"),
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
        let error = refusal("gpt2", keep, |config| config[key] = value.clone());
        assert!(error.contains(said), "{key} = {value}: {error}");
    }
    let nothing = refusal("gpt2", keep, |config| *config = json!({}));
    assert!(nothing.contains("config.json"), "{nothing}");
}

#[test]
fn the_other_name_of_the_same_activation_is_accepted() {
    let dir = variant("gpt2", keep, |config| config["activation_function"] = json!("gelu_pytorch_tanh"));
    assert_eq!(open(dir.path()).unwrap().weights(to_host).unwrap(), golden_weights());
}

#[test]
fn a_path_that_holds_no_model_says_so() {
    let dir = tempdir().unwrap();
    let said = |path: &Path| format!("{:#}", open(path).err().unwrap());
    assert!(said(dir.path()).contains("holds no model"));
    assert!(said(&dir.path().join("gpt2")).contains("does not exist"));
    fs::write(dir.path().join(CONFIG), fs::read(golden_dir("gpt2").join(CONFIG)).unwrap()).unwrap();
    assert!(said(&dir.path().join(CONFIG)).contains("is a file"));
    assert!(said(dir.path()).contains("no weights in any format"));
    fs::write(dir.path().join("pytorch_model.bin"), "").unwrap();
    let error = said(dir.path());
    assert!(error.contains("there is pytorch_model.bin") && error.contains("save_pretrained"), "{error}");
    fs::write(dir.path().join("model.gguf"), "").unwrap();
    assert!(said(dir.path()).contains("name the file itself"), "{}", said(dir.path()));
}

#[test]
fn shards_without_an_index_load_if_they_are_all_there() {
    let dir = variant("gpt2", keep, keep);
    let all = parse(&fs::read(dir.path().join(MODEL)).unwrap());
    fs::remove_file(dir.path().join(MODEL)).unwrap();
    let shard = |number: usize| dir.path().join(format!("model-{number:05}-of-00003.safetensors"));
    for (number, part) in (1..).zip(all.iter().collect::<Vec<_>>().chunks(11)) {
        write(&shard(number), &part.iter().map(|(name, raw)| ((*name).clone(), (*raw).clone())).collect());
    }
    assert_eq!(open(dir.path()).unwrap().weights(to_host).unwrap(), golden_weights());
    fs::remove_file(shard(2)).unwrap();
    let error = format!("{:#}", open(dir.path()).err().unwrap());
    assert!(error.contains("2 of 3 shards") && error.contains("missing is shard 2"), "{error}");
}

#[test]
fn what_wraps_a_model_in_training_is_taken_off_its_names() {
    let renamed = |rename: fn(&str) -> String| {
        let tensors = |tensors: &mut Tensors| {
            *tensors = std::mem::take(tensors).into_iter().map(|(name, raw)| (rename(&name), raw)).collect();
        };
        open(variant("gpt2", tensors, keep).path())
    };
    let wrappings: [fn(&str) -> String; 5] = [
        |name| format!("_orig_mod.{name}"),
        |name| format!("module.{name}"),
        |name| format!("module._orig_mod.{name}"),
        |name| name.replace("transformer.h.0.", "transformer.h.0._orig_mod."),
        |name| format!("_orig_mod.module.{}", name.replace("transformer.", "")),
    ];
    for wrapping in wrappings {
        let shown = wrapping("transformer.h.0.ln_1.bias");
        let model = renamed(wrapping).unwrap_or_else(|error| panic!("{shown}: {error:#}"));
        assert_eq!(model.weights(to_host).unwrap(), golden_weights(), "{shown}");
        assert!(
            model.warnings.iter().any(|warning| warning.contains("wrapped")),
            "{shown}: {:?}",
            model.warnings
        );
    }
    // Names of another kind are shown.
    let error = format!("{:#}", renamed(|name| format!("net.{name}")).err().unwrap());
    assert!(error.contains("is missing; there are 28: net.") || error.contains("net.transformer"), "{error}");
}

#[test]
fn a_mark_of_the_byte_order_is_no_part_of_a_configuration() {
    let dir = variant("gpt2", keep, keep);
    let config = fs::read(dir.path().join(CONFIG)).unwrap();
    fs::write(dir.path().join(CONFIG), [b"\xef\xbb\xbf".as_slice(), &config].concat()).unwrap();
    fs::write(dir.path().join("generation_config.json"), b"\xef\xbb\xbf{\"eos_token_id\": 5}").unwrap();
    let model = open(dir.path()).unwrap();
    assert_eq!(model.weights(to_host).unwrap(), golden_weights());
    assert_eq!(model.generation.end_tokens[0], 5);
}
