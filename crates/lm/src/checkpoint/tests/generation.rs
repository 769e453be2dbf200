use std::fs;

use serde_json::{Value, json};

use super::super::gguf::{Entries, metadata_of};
use super::super::{Generation, Writing};
use super::open;
use super::variant::{keep, variant};

/// What is understood of these two files.
fn read(config: &Value, generation: Option<Value>) -> Generation {
    let dir = variant("gpt2", keep, |json| {
        json.as_object_mut().unwrap().remove("eos_token_id");
        json.as_object_mut().unwrap().extend(config.as_object().unwrap().clone());
    });
    if let Some(generation) = generation {
        fs::write(dir.path().join("generation_config.json"), generation.to_string()).unwrap();
    }
    open(dir.path()).unwrap().generation
}

#[test]
fn every_end_token_of_both_files_counts() {
    for (config, generation, expected) in [
        (json!({}), None, vec![]),
        (json!({ "eos_token_id": 3 }), None, vec![3]),
        (json!({ "eos_token_id": [3, 4] }), None, vec![3, 4]),
        (json!({ "eos_token_id": 3 }), Some(json!({})), vec![3]),
        (json!({ "eos_token_id": 3 }), Some(json!({ "eos_token_id": [5, 3, 6] })), vec![5, 3, 6]),
        (json!({ "eos_token_id": [] }), Some(json!({ "eos_token_id": null })), vec![]),
        (json!({ "eos_token_id": -1 }), Some(json!({ "eos_token_id": 2 })), vec![2]),
    ] {
        assert_eq!(read(&config, generation.clone()).end_tokens, expected, "{config} {generation:?}");
    }
    let odd = read(&json!({}), Some(json!({ "eos_token_id": "</s>" })));
    assert_eq!(odd.not_done, ["eos_token_id \"</s>\""]);
}

#[test]
fn sampling_is_what_stands_there_and_the_rest_is_named() {
    let of = |generation: Value| read(&json!({ "temperature": 9.0, "top_k": 9 }), Some(generation)).writing;
    assert_eq!(of(json!({})), Writing::default(), "what an older file says does not count beside the newer");
    assert_eq!(
        of(
            json!({ "temperature": 0.6, "top_k": 20, "top_p": 0.95, "max_new_tokens": 99, "stop_strings": ["a", "b"] })
        ),
        Writing {
            temperature: Some(0.6),
            top_k: Some(20),
            top_p: Some(0.95),
            max_tokens: Some(99),
            stop: vec!["a".into(), "b".into()]
        }
    );
    assert_eq!(of(json!({ "do_sample": false, "temperature": 0.6 })).temperature, Some(0.0));
    assert_eq!(of(json!({ "do_sample": true, "temperature": 0.6 })).temperature, Some(0.6));
    assert_eq!(of(json!({ "do_sample": true })).temperature, None);
    assert_eq!(of(json!({ "temperature": 1 })).temperature, Some(1.0));
    assert_eq!(of(json!({ "temperature": null, "top_k": null })), Writing::default());
    let config_only = read(&json!({ "temperature": 0.5, "do_sample": true, "top_k": 7 }), None).writing;
    assert_eq!((config_only.temperature, config_only.top_k), (Some(0.5), Some(7)));

    let named = |generation: Value| read(&json!({}), Some(generation)).not_done;
    assert_eq!(
        named(json!({ "repetition_penalty": 1.1, "min_p": 0.05, "num_beams": 4, "suppress_tokens": [3] })),
        ["repetition_penalty 1.1", "min_p 0.05", "num_beams 4", "suppress_tokens [3]"]
    );
    let nothing = json!({
        "repetition_penalty": 1.0, "min_p": null, "num_beams": 1, "suppress_tokens": [], "bos_token_id": 1, "pad_token_id": 2,
        "transformers_version": "5", "use_cache": true, "typical_p": 1, "_from_model_config": true, "no_repeat_ngram_size": 0,
    });
    assert_eq!(named(nothing), Vec::<String>::new());
    for (wrong, shown) in [
        (json!({ "temperature": -1.0 }), "temperature -1.0"),
        (json!({ "temperature": "hot" }), "temperature \"hot\""),
        (json!({ "top_p": 1.5 }), "top_p 1.5"),
        (json!({ "top_k": 2.5 }), "top_k 2.5"),
        (json!({ "max_new_tokens": 0 }), "max_new_tokens 0"),
        (json!({ "do_sample": "no" }), "do_sample \"no\""),
    ] {
        let read = read(&json!({}), Some(wrong));
        assert_eq!((read.not_done, read.writing), (vec![shown.to_owned()], Writing::default()));
    }
}

#[test]
fn a_file_that_is_no_json_is_refused() {
    for text in ["", "[1]", "{", "nothing"] {
        let dir = variant("gpt2", keep, keep);
        fs::write(dir.path().join("generation_config.json"), text).unwrap();
        let error = format!("{:#}", open(dir.path()).err().unwrap());
        assert!(error.contains("generation_config.json"), "{error}");
    }
}

#[test]
fn entries_of_gguf_name_ends_too() {
    let mut entries = Entries::default();
    entries.size("tokenizer.ggml.eos_token_id", 3).unwrap();
    entries.integers("tokenizer.ggml.eot_token_id", &[4, 3]);
    entries.size("tokenizer.ggml.eom_token_id", 5).unwrap();
    assert_eq!(Generation::of_gguf(&metadata_of(&entries).unwrap()).unwrap().end_tokens, [3, 4, 5]);
    assert_eq!(
        Generation::of_gguf(&metadata_of(&Entries::default()).unwrap()).unwrap(),
        Generation::default()
    );
}
