//! What holds for every family: names, shapes, configurations both ways, and what is refused.

use std::collections::BTreeSet;
use std::fs;

use safetensors::tensor::Dtype as FileDtype;
use serde_json::{Value, json};
use tempfile::tempdir;

use super::super::family::Family;
use super::super::{Contents, Dtype, MODEL, architecture_of, from_host, save, to_host};
use super::variant::{Raw, floats, keep, parse, refusal, variant};
use super::{FAMILIES, about, golden_dir, open, random};
use crate::model::{Biases, Config, Positions, Rope, RopeScaling, specs};

#[test]
fn a_directory_of_transformers_loads_bit_for_bit() {
    for family in FAMILIES {
        let checkpoint = open(&golden_dir(family)).unwrap();
        assert_eq!(checkpoint.warnings.len(), 1, "{family}: {:?}", checkpoint.warnings);
        assert!(checkpoint.warnings[0].contains("unverified"), "{:?}", checkpoint.warnings);
        // The script wrote the same weights a second time, under our names and in our layout.
        let golden = golden_dir("").with_file_name(format!("{family}.safetensors"));
        let golden = parse(&fs::read(golden).unwrap());
        let mut names = Vec::new();
        checkpoint
            .weights(|spec, values| {
                let raw = &golden[&format!("weight.{}", spec.name)];
                assert_eq!(raw.shape, spec.shape, "{family}: {}", spec.name);
                assert_eq!(floats(raw), values, "{family}: {}", spec.name);
                names.push(spec.name.clone());
            })
            .unwrap();
        let expected = golden.keys().filter(|name| name.starts_with("weight.")).count();
        assert_eq!(names.len(), expected, "{family}");
    }
}

/// Models of every family and corner, with the class that holds them.
pub(super) fn shapes() -> Vec<(&'static str, Config)> {
    let gpt3 = Config::gpt3(7, 5, 4, 2, 4);
    let modern = Config { n_kv_head: 2, ..Config::modern(7, 5, 2, 4, 16) };
    let rope =
        |scaling| Config { positions: Positions::Rotary(Rope { theta: 5e5, scaling }), ..modern.clone() };
    let llama3 =
        RopeScaling::Llama3 { factor: 8.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original_seq_len: 3 };
    let yarn = RopeScaling::Yarn {
        factor: 4.3,
        beta_fast: 31.0,
        beta_slow: 1.5,
        original_seq_len: 4,
        attention_factor: 1.1,
        truncate: false,
    };
    vec![
        ("GPT2LMHeadModel", Config { d_ff: 3, dropout: 0.1, ..Config::gpt2(7, 5, 1, 1, 2) }),
        ("GPT2LMHeadModel", Config { tied_head: false, norm_eps: 1e-6, ..Config::gpt2(7, 5, 12, 1, 2) }),
        ("OpenAIGPTLMHeadModel", Config { dropout: 0.1, ..Config::gpt1(7, 5, 2, 1, 2) }),
        ("OpenAIGPTLMHeadModel", Config { tied_head: false, ..Config::gpt1(7, 5, 2, 1, 2) }),
        ("GPTNeoForCausalLM", Config { d_ff: 3, dropout: 0.2, band: Some(2), ..gpt3.clone() }),
        ("GPTNeoForCausalLM", Config { n_layer: 3, ..gpt3.clone() }),
        ("GPTNeoForCausalLM", Config { n_layer: 1, ..gpt3.clone() }),
        ("GPTNeoForCausalLM", Config { n_layer: 1, band: None, ..gpt3.clone() }),
        ("GPTNeoForCausalLM", Config { band: None, tied_head: false, ..gpt3 }),
        ("LlamaForCausalLM", modern.clone()),
        ("LlamaForCausalLM", Config { head_dim: 6, dropout: 0.3, tied_head: false, ..modern.clone() }),
        ("LlamaForCausalLM", rope(RopeScaling::Linear { factor: 2.5 })),
        ("LlamaForCausalLM", rope(llama3)),
        ("LlamaForCausalLM", rope(yarn)),
        ("Qwen2ForCausalLM", Config { biases: Biases::Qkv, ..modern.clone() }),
        ("Qwen3ForCausalLM", Config { qk_norm: true, head_dim: 10, n_kv_head: 1, ..modern.clone() }),
        ("GPT2ForSequenceClassification", Config { n_label: Some(1), ..Config::gpt2(7, 5, 1, 1, 2) }),
        ("OpenAIGPTForSequenceClassification", Config { n_label: Some(2), ..Config::gpt1(7, 5, 2, 1, 2) }),
        ("LlamaForSequenceClassification", Config { n_label: Some(3), tied_head: false, ..modern }),
    ]
}

#[test]
fn every_shape_comes_back_as_it_was_saved() {
    for (class, config) in shapes() {
        let shelf = tempdir().unwrap();
        let dir = shelf.path().join("model");
        let weights = random(&config, 1);
        let contents = Contents {
            config: &config,
            weights: &weights,
            dtype: Dtype::F32,
            moments: None,
            beside: &[],
            read: &mut from_host,
            eot_token: Some(6),
            eos_token: Some(6),
            end_tokens: &[],
            files: &[],
            about: about(0),
        };
        save(&dir, contents).unwrap();
        let checkpoint = open(&dir).unwrap();
        assert_eq!(checkpoint.architecture(), class);
        assert_eq!(checkpoint.config, config);
        assert!(checkpoint.warnings.is_empty(), "{:?}", checkpoint.warnings);
        let loaded = checkpoint.weights(to_host).unwrap();
        for (spec, (a, b)) in
            specs(&config).leaves().iter().zip(weights.leaves().into_iter().zip(loaded.leaves()))
        {
            // A factor that is no power of two costs the last bit.
            let close = a.iter().zip(b).all(|(a, b)| (a - b).abs() <= f32::EPSILON * a.abs());
            assert!(close, "{class}: {}", spec.name);
        }
    }
}

#[test]
fn every_tensor_has_a_name_of_its_own() {
    for (class, config) in shapes() {
        let config = Config { tied_head: false, n_layer: 12, ..config };
        let Ok(family) = Family::for_config(&config) else { panic!("{class}") };
        let mut names = BTreeSet::new();
        for piece in specs(&config).leaves().into_iter().flat_map(|spec| family.names.pieces(&config, spec)) {
            assert!(names.insert(piece.name.clone()), "{class}: {}", piece.name);
        }
    }
}

#[test]
fn a_shape_that_no_class_has_is_said_before_it_is_trained() {
    let wide = Config { d_ff: 9, ..Config::gpt1(7, 5, 2, 1, 2) };
    let banded = Config { band: Some(3), ..Config::gpt2(7, 5, 2, 1, 2) };
    for config in [wide, banded] {
        let said = format!("{:#}", architecture_of(&config).unwrap_err());
        assert!(said.contains("none of the classes") && said.contains("OpenAIGPTLMHeadModel"), "{said}");
    }
}

#[test]
fn the_class_without_head_and_old_buffers_load() {
    for (family, class, prefix, buffers) in [
        ("gpt1", "OpenAIGPTModel", "transformer.", vec!["h.1.attn.bias"]),
        ("gpt2", "GPT2Model", "transformer.", vec!["h.1.attn.bias", "h.0.attn.masked_bias"]),
        (
            "gpt_neo",
            "GPTNeoModel",
            "transformer.",
            vec!["h.1.attn.attention.bias", "h.0.attn.attention.masked_bias"],
        ),
        ("llama", "LlamaModel", "model.", vec!["layers.1.self_attn.rotary_emb.inv_freq"]),
        ("qwen2", "Qwen2Model", "model.", vec!["layers.0.self_attn.rotary_emb.inv_freq"]),
        ("qwen3", "Qwen3Model", "model.", vec!["rotary_emb.inv_freq"]),
    ] {
        let dir = variant(
            family,
            |tensors| {
                let buffer = Raw { dtype: FileDtype::U8, shape: vec![1, 1, 16, 16], bytes: vec![1; 256] };
                tensors.remove("lm_head.weight");
                *tensors = std::mem::take(tensors)
                    .into_iter()
                    .map(|(name, raw)| (name.strip_prefix(prefix).unwrap().to_owned(), raw))
                    .chain(buffers.into_iter().map(|name| (name.to_owned(), buffer.clone())))
                    .collect();
            },
            |config| config["architectures"] = json!([class]),
        );
        let (bare, whole) = (open(dir.path()).unwrap(), open(&golden_dir(family)).unwrap());
        assert!(bare.config.tied_head, "{family}");
        let (bare, mut whole) = (bare.weights(to_host).unwrap(), whole.weights(to_host).unwrap());
        whole.lm_head = None;
        assert_eq!(bare, whole, "{family}");
    }
}

#[test]
fn a_tied_head_may_be_in_the_file_and_another_is_its_own() {
    let with_head = |bit: u8| {
        move |tensors: &mut super::variant::Tensors| {
            let mut head = tensors["model.embed_tokens.weight"].clone();
            head.bytes[0] ^= bit;
            tensors.insert("lm_head.weight".into(), head);
        }
    };
    let tie = |config: &mut Value| config["tie_word_embeddings"] = true.into();
    let equal = variant("llama", with_head(0), tie);
    assert!(open(equal.path()).unwrap().config.tied_head);
    let own = variant("llama", with_head(1), tie);
    let own = open(own.path()).unwrap();
    assert!(!own.config.tied_head);
    assert!(own.warnings.iter().any(|warning| warning.contains("lm_head.weight differs")));

    let lost = refusal("llama", |tensors| drop(tensors.remove("lm_head.weight")), keep);
    assert!(lost.contains("lm_head.weight is missing"), "{lost}");
}

#[test]
fn wrong_tensors_are_named() {
    for (family, name) in [
        ("gpt1", "transformer.h.1.mlp.c_fc.weight"),
        ("gpt_neo", "transformer.h.2.attn.attention.k_proj.weight"),
        ("llama", "model.layers.1.mlp.up_proj.weight"),
        ("qwen2", "model.layers.0.self_attn.v_proj.bias"),
        ("qwen3", "model.layers.1.self_attn.k_norm.weight"),
    ] {
        let missing = refusal(family, |tensors| drop(tensors.remove(name)), keep);
        assert!(missing.contains(&format!("{name} is missing")), "{missing}");
        let misshaped = refusal(family, |tensors| tensors.get_mut(name).unwrap().shape.push(1), keep);
        assert!(misshaped.contains(name) && misshaped.contains("asks for"), "{misshaped}");
        let integers = refusal(family, |tensors| tensors.get_mut(name).unwrap().dtype = FileDtype::I32, keep);
        assert!(integers.contains(name) && integers.contains("holds I32"), "{integers}");
        let stray = format!("{name}_scale");
        let unknown =
            refusal(family, |tensors| drop(tensors.insert(stray.clone(), tensors[name].clone())), keep);
        assert!(unknown.contains(&stray) && unknown.contains("unknown"), "{unknown}");
    }
    let biased = refusal("llama", keep, |config| {
        config["architectures"] = json!(["Qwen2ForCausalLM"]);
        config["model_type"] = "qwen2".into();
    });
    assert!(biased.contains("q_proj.bias is missing"), "{biased}");
}

#[test]
fn a_file_that_was_cut_is_named() {
    for family in FAMILIES {
        let dir = variant(family, keep, keep);
        let path = dir.path().join(MODEL);
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() - 5]).unwrap();
        let error = format!("{:#}", open(dir.path()).err().unwrap());
        assert!(error.contains("model.safetensors") && error.contains("cut off"), "{error}");
    }
}

#[test]
fn what_is_not_supported_is_named() {
    let yarn = |more: Value| {
        let mut yarn = json!({ "rope_type": "yarn", "factor": 2.0 });
        yarn.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        yarn
    };
    for (family, key, value, said) in [
        ("gpt1", "afn", json!("relu"), "afn \"relu\" is not supported; known is \"gelu\""),
        ("gpt1", "n_embd", json!(13), "multiple of n_head"),
        ("gpt_neo", "activation_function", json!("gelu"), "activation_function"),
        ("gpt_neo", "attention_types", json!([[["local", "global"], 1], [["local"], 1]]), "take turns"),
        ("gpt_neo", "attention_types", json!([[["global"], 2], [["local"], 1]]), "take turns"),
        ("gpt_neo", "attention_types", json!([[["global", "local", "global"], 2]]), "take turns"),
        ("gpt_neo", "attention_types", json!([[["global", "sparse"], 2]]), "take turns"),
        ("gpt_neo", "attention_types", json!([[["global", "local"], 1]]), "2 layers, num_layers is 3"),
        ("gpt_neo", "attention_types", json!([[["global"], u64::MAX], [["global"], 4]]), "take turns"),
        ("gpt_neo", "attention_types", json!([[[], u64::MAX]]), "0 layers"),
        ("gpt_neo", "window_size", json!(0), "band is 0"),
        ("llama", "hidden_act", json!("gelu"), "hidden_act \"gelu\" is not supported"),
        ("llama", "attention_bias", json!(true), "attention_bias true"),
        ("llama", "mlp_bias", json!(true), "mlp_bias true"),
        ("llama", "quantization_config", json!({ "bits": 4 }), "quantised"),
        ("llama", "num_key_value_heads", json!(3), "multiple of n_kv_head"),
        ("llama", "num_key_value_heads", json!(0), "n_kv_head is 0"),
        ("llama", "num_key_value_heads", Value::Null, "k_proj.weight has shape [16, 16]"),
        ("llama", "head_dim", json!(7), "head_dim 7 is odd"),
        ("llama", "head_dim", json!(1u64 << 62), "beyond any model"),
        ("llama", "hidden_size", json!(18), "not a multiple of num_attention_heads"),
        ("llama", "partial_rotary_factor", json!(0.5), "partial_rotary_factor 0.5"),
        ("llama", "rope_parameters", json!({ "rope_type": "longrope" }), "\"longrope\" is not supported"),
        ("llama", "rope_parameters", json!({ "rope_type": "linear" }), "factor is missing"),
        ("llama", "rope_parameters", json!({ "mrope_section": [1, 1, 2] }), "mrope_section is not supported"),
        ("llama", "rope_parameters", yarn(json!({ "short_factor": [1.0] })), "short_factor is not supported"),
        ("llama", "rope_parameters", yarn(json!({ "partial_rotary_factor": 0.5 })), "partial_rotary_factor"),
        ("llama", "rope_parameters", yarn(json!({ "factor": -1.0 })), "factor is -1"),
        ("llama", "rope_scaling", json!({ "type": "linear", "factor": 2.0 }), "contradict"),
        ("llama", "rope_theta", json!(2e4), "rope_theta is 10000 here and 20000 outside"),
        ("llama", "rope_theta", json!("far"), "rope_theta is \"far\""),
        ("qwen2", "use_sliding_window", json!(true), "use_sliding_window true"),
        ("qwen2", "layer_types", json!(["full_attention", "sliding_attention"]), "sliding_attention"),
        ("qwen3", "use_sliding_window", json!(true), "use_sliding_window true"),
        ("qwen3", "attention_bias", json!(true), "attention_bias true"),
    ] {
        let error = refusal(family, keep, |config| config[key] = value.clone());
        assert!(error.contains(said), "{family} {key} = {value}: {error}");
    }
    for (family, key, said) in [
        ("qwen2", "num_key_value_heads", "n_kv_head 32"),
        ("qwen3", "head_dim", "q_proj.weight has shape [24, 16]"),
        ("llama", "intermediate_size", "intermediate_size is missing"),
    ] {
        let error = refusal(family, keep, |config| drop(config.as_object_mut().unwrap().remove(key)));
        assert!(error.contains(said), "{family} without {key}: {error}");
    }
}

/// The same embedding under the names of transformers 4 and of 5.
#[test]
fn rotary_positions_have_two_spellings() {
    let read = |config: &dyn Fn(&mut Value)| open(variant("llama", keep, config).path()).unwrap();
    let golden = golden_dir("").with_file_name("rope.json");
    let golden: serde_json::Map<String, Value> = serde_json::from_slice(&fs::read(golden).unwrap()).unwrap();
    for (way, json) in golden {
        let new = &json["rope_parameters"];
        let mut old = new.clone();
        old.as_object_mut().unwrap().remove("rope_theta");
        old["type"] = old["rope_type"].clone();
        old.as_object_mut().unwrap().remove("rope_type");
        let with_new = read(&|config| config["rope_parameters"] = new.clone());
        let with_old = read(&|config| {
            config["rope_parameters"] = Value::Null;
            config["rope_scaling"] = old.clone();
            config["rope_theta"] = new["rope_theta"].clone();
        });
        let with_both = read(&|config| {
            config["rope_parameters"] = new.clone();
            config["rope_scaling"] = old.clone();
            config["rope_theta"] = new["rope_theta"].clone();
        });
        assert_eq!(with_new.config, with_old.config, "{way}");
        assert_eq!(with_new.config, with_both.config, "{way}");
        let told = with_both.warnings.iter().filter(|warning| warning.contains("type dynamic")).count();
        assert_eq!(told, usize::from(way == "dynamic"), "{way}");
    }
    let plain = read(&|config| drop(config.as_object_mut().unwrap().remove("rope_parameters")));
    assert_eq!(plain.config.rope(), Some(&Rope::default()));
}

#[test]
fn what_no_embedding_reads_changes_nothing() {
    let read = |more: Value| {
        let model = open(
            variant("llama", keep, |config| {
                let yarn = json!({ "type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16 });
                config["rope_parameters"] = Value::Null;
                config["rope_scaling"] = yarn;
                config["rope_scaling"].as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            })
            .path(),
        )
        .unwrap();
        (
            model.config.rope().cloned(),
            model.warnings.iter().filter(|warning| warning.contains("nothing reads")).count(),
        )
    };
    let (plain, told) = read(json!({}));
    assert_eq!(told, 0);
    for (more, told) in [
        (json!({ "finetuned": true }), 0),
        (json!({ "finetuned": false }), 0),
        (json!({ "short_factor": null }), 0),
        (json!({ "extrapolation_factor": 1.0 }), 1),
        (json!({ "note": "as in the paper" }), 1),
    ] {
        assert_eq!(read(more.clone()), (plain.clone(), told), "{more}");
    }
}

#[test]
fn another_dropout_than_ours_is_told() {
    let read =
        |family, key: &str| open(variant(family, keep, |config| config[key] = json!(0.25)).path()).unwrap();
    for (family, key) in
        [("llama", "attention_dropout"), ("gpt_neo", "resid_dropout"), ("gpt1", "embd_pdrop")]
    {
        let told = read(family, key).warnings;
        assert!(told.iter().any(|warning| warning.contains(key) && warning.contains("0.25")), "{told:?}");
    }
}
