//! Tokenizers in GGUF files.

use serde_json::from_value;

use super::super::super::gguf::{Entries, metadata_of};
use super::*;

#[test]
fn ids_are_those_of_the_published_tokenizers() {
    let golden_tokens = tokens_json();
    let texts: Vec<String> = from_value(golden_tokens["texts"].clone()).unwrap();
    for (family, ids) in golden_tokens["ids"].as_object().unwrap() {
        let path = golden(&format!("{family}.gguf"));
        let model = open(&path).unwrap();
        let tokenizer = model.tokenizer().unwrap().unwrap();
        let ids: Vec<Vec<u32>> = from_value(ids.clone()).unwrap();
        for (text, ids) in texts.iter().zip(&ids) {
            assert_eq!(&tokenizer.encode(text), ids, "{family}: {text:?}");
        }
        assert_eq!(tokenizer.chat_template().unwrap().as_deref(), golden_tokens["chat_template"].as_str());
        assert_eq!(tokenizer.specials(), [("<|endoftext|>".to_string(), 0)]);
        assert_eq!(tokenizer.end_of_text(), Some(0));
        let config: Value = serde_json::from_str(tokenizer.config_json()).unwrap();
        assert_eq!(config["add_bos_token"], family == "llama");
        let json: Value = serde_json::from_str(tokenizer.to_json()).unwrap();
        let template = &json["post_processor"]["type"];
        assert_eq!(template == "TemplateProcessing", family == "llama", "{template}");

        // And through a file of ours.
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("again.gguf");
        write_gguf(&model, &tokenizer, "again", Quant::F32, &out, &Silent).unwrap();
        let again = open(&out).unwrap().tokenizer().unwrap().unwrap();
        assert_eq!(again.to_json(), tokenizer.to_json(), "{family}");
        let again: Value = serde_json::from_str(again.config_json()).unwrap();
        assert_eq!(again, config, "{family}");
    }
}

/// Entries of a tokenizer of five tokens; one of them is changed, or left out.
fn entries(changed: &str, change: impl Fn(&mut Entries)) -> Entries {
    let mut entries = Entries::default();
    let texts = |key: &str, values: &[&str]| {
        let mut entries = Entries::default();
        entries.texts(key, values);
        entries
    };
    let text = |key: &str, value: &str| {
        let mut entries = Entries::default();
        entries.text(key, value);
        entries
    };
    let mut types = Entries::default();
    types.integers("tokenizer.ggml.token_type", &[3, 1, 1, 1, 5]);
    for (key, one) in [
        ("model", text("tokenizer.ggml.model", "gpt2")),
        ("pre", text("tokenizer.ggml.pre", "gpt-2")),
        ("tokens", texts("tokenizer.ggml.tokens", &["<|endoftext|>", "a", "b", "ab", "[PAD4]"])),
        ("types", types),
        ("merges", texts("tokenizer.ggml.merges", &["a b"])),
    ] {
        if key == changed {
            change(&mut entries);
        } else {
            entries.bytes.extend(one.bytes);
            entries.count += one.count;
        }
    }
    if changed == "more" {
        change(&mut entries);
    }
    entries
}

fn read(entries: &Entries) -> anyhow::Result<Tokenizer> {
    let found = super::super::super::gguf::vocabulary::read(&metadata_of(entries)?)?;
    Ok(found.expect("there is one, of whatever kind"))
}

#[test]
fn tokenizers_that_cannot_be_made_are_refused_by_name() {
    assert_eq!(read(&entries("", |_| ())).unwrap().encode("abb"), [3, 2]);
    let nothing = metadata_of(&entries("tokens", |_| ())).unwrap();
    assert!(super::super::super::gguf::vocabulary::read(&nothing).unwrap().is_none());
    // A token that begins every text, but has only a row to fill: nothing is put before texts.
    let unused = entries("more", |entries| {
        entries.size("tokenizer.ggml.bos_token_id", 4).unwrap();
        entries.flag("tokenizer.ggml.add_bos_token", true);
    });
    let unused = read(&unused).unwrap();
    assert!(
        !unused.config_json().contains("bos_token\":\"") && !unused.to_json().contains("TemplateProcessing")
    );
    let text = |key: &'static str, value: &'static str| move |entries: &mut Entries| entries.text(key, value);
    let texts = |key: &'static str, values: &'static [&'static str]| {
        move |entries: &mut Entries| entries.texts(key, values)
    };
    let (pre, model) = ("tokenizer.ggml.pre", "tokenizer.ggml.model");
    let (tokens, merges) = ("tokenizer.ggml.tokens", "tokenizer.ggml.merges");
    let refused: [(Entries, &str); 12] = [
        (entries("model", text(model, "llama")), "\"llama\", a SentencePiece vocabulary"),
        (entries("model", text(model, "bert")), "\"bert\" is not supported; known is \"gpt2\""),
        (entries("model", |_| ()), "tokenizer.ggml.model is missing"),
        (entries("pre", text(pre, "viking")), "\"viking\" is not supported; known are gpt-2, phi-2"),
        (entries("pre", |_| ()), "tokenizer.ggml.pre is missing: an old file"),
        (entries("tokens", texts(tokens, &["a", "b"])), "is about 5 tokens, there are 2"),
        (entries("tokens", texts(tokens, &["a", "a", "b", "c", "d"])), "\"a\" is there twice"),
        (entries("types", |_| ()), "tokenizer.ggml.token_type is missing"),
        (entries("merges", texts(merges, &["ab"])), "\"ab\" is not of two tokens"),
        (entries("merges", texts(merges, &["a q"])), "is not of two tokens that make a third"),
        (entries("merges", |_| ()), "tokenizer.ggml.merges is missing"),
        (
            entries("more", |entries| entries.size("tokenizer.ggml.bos_token_id", 5).unwrap()),
            "bos_token_id is 5, and there are 5 tokens",
        ),
    ];
    for (entries, expected) in refused {
        let said = format!("{:#}", read(&entries).unwrap_err());
        assert!(said.contains(expected), "{expected:?} is not in: {said}");
    }
}

/// A change of a `tokenizer.json`.
type Change = fn(&mut Value);

#[test]
fn tokenizers_that_gguf_has_no_words_for_are_refused() {
    let changes: [(Change, &str); 5] = [
        (|json| json["normalizer"] = json!({ "type": "Lowercase" }), "normalizer {\"type\":\"Lowercase\"}"),
        (|json| json["model"]["ignore_merges"] = true.into(), "ignore_merges true"),
        (|json| json["pre_tokenizer"]["add_prefix_space"] = true.into(), "\"add_prefix_space\":true"),
        (|json| json["model"]["dropout"] = 0.1.into(), "dropout 0.1"),
        (|json| json["normalizer"] = json!({ "type": "NFC" }), "it can be written where it is that of gpt-2"),
    ];
    let model = open(&golden("gpt2.gguf")).unwrap();
    for (change, expected) in changes {
        let mut json: Value = serde_json::from_str(tokenizer().to_json()).unwrap();
        change(&mut json);
        let tokenizer = Tokenizer::from_texts(json.to_string(), "{}".into()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("x.gguf");
        let said = write_gguf(&model, &tokenizer, "x", Quant::F32, &out, &Silent).unwrap_err();
        assert!(format!("{said:#}").contains(expected), "{expected:?} is not in: {said:#}");
    }
}
