//! Tokenizers that others made: ids as Python's `tokenizers` gives them, and the files that come with them.

#![allow(clippy::unwrap_used, reason = "an unwrap in a test is an assertion")]

use serde_json::{Value, json};
use std::collections::HashSet;
use std::path::Path;
use std::sync::LazyLock;
use text::tokenizer::{StreamDecoder, Tokenizer};

/// Fixtures that `tools/golden_tokenizer.py` makes.
#[derive(serde::Deserialize)]
struct Golden {
    tokenizers: Vec<Fixture>,
}

#[derive(serde::Deserialize)]
struct Fixture {
    name: String,
    eos: Option<String>,
    /// Python's decoding strips these from a text.
    before: String,
    after: String,
    tokenizer: Value,
    /// Text, ids, and what Python decodes from them.
    cases: Vec<(String, Vec<u32>, String)>,
    /// Ids of the first texts with what the tokenizer puts around them.
    from_start: Vec<Vec<u32>>,
}

static GOLDEN: LazyLock<Golden> = LazyLock::new(|| {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/foreign_tokenizers.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
});

fn fixture(name: &str) -> &'static Fixture {
    GOLDEN.tokenizers.iter().find(|fixture| fixture.name == name).unwrap()
}

/// A tokenizer directory with these files.
fn load(files: &[(&str, &str)]) -> anyhow::Result<Tokenizer> {
    let dir = tempfile::tempdir().unwrap();
    files.iter().for_each(|(name, content)| std::fs::write(dir.path().join(name), content).unwrap());
    Tokenizer::from_dir(dir.path())
}

impl Fixture {
    fn load(&self) -> Tokenizer {
        let config = json!({ "eos_token": self.eos }).to_string();
        load(&[("tokenizer.json", &self.tokenizer.to_string()), ("tokenizer_config.json", &config)]).unwrap()
    }
}

#[test]
fn ids_and_texts_are_those_of_python() {
    assert_eq!(GOLDEN.tokenizers.len(), 5);
    for fixture in &GOLDEN.tokenizers {
        let tokenizer = fixture.load();
        assert!(fixture.cases.len() >= 10);
        for (text, ids, decoded) in &fixture.cases {
            assert_eq!(&tokenizer.encode(text), ids, "{}: {text:?}", fixture.name);
            let Fixture { before, after, .. } = fixture;
            let decoded = if ids.is_empty() { String::new() } else { format!("{before}{decoded}{after}") };
            assert_eq!(
                tokenizer.decode(ids).unwrap().trim_end_matches(after),
                decoded.trim_end_matches(after)
            );
            let mut stream = StreamDecoder::new(&tokenizer);
            let mut streamed: String = ids.iter().map(|&id| stream.push(id).unwrap()).collect();
            streamed += &stream.finish();
            assert_eq!(streamed, tokenizer.decode(ids).unwrap());
        }
        let texts: Vec<&String> = fixture.cases.iter().map(|case| &case.0).collect();
        let batch = tokenizer.encode_batch(&texts);
        assert!(batch.iter().eq(fixture.cases.iter().map(|case| &case.1)), "{}", fixture.name);
    }
}

#[test]
fn texts_begin_as_in_python() {
    let mut starts = 0;
    for fixture in &GOLDEN.tokenizers {
        let tokenizer = fixture.load();
        assert_eq!(fixture.from_start.len(), 4);
        for ((text, ids, _), from_start) in fixture.cases.iter().zip(&fixture.from_start) {
            assert_eq!(&tokenizer.encode_from_start(text), from_start, "{}: {text:?}", fixture.name);
            starts += usize::from(from_start != ids);
        }
    }
    assert_eq!(starts, 4, "of the five, Llama 2's alone puts a token there");
}

#[test]
fn text_never_becomes_a_special_token() {
    for fixture in &GOLDEN.tokenizers {
        let tokenizer = fixture.load();
        // GPT-1's unknown token is what its text becomes, and ends nothing.
        let control = tokenizer.specials().iter().filter(|_| fixture.name != "gpt-1");
        let control: HashSet<u32> = control.map(|&(_, id)| id).collect();
        for (name, _) in tokenizer.specials() {
            let text = format!("{name} a{name}b {name}");
            let ids = tokenizer.encode(&text);
            assert!(ids.iter().all(|id| !control.contains(id)), "{}: {text}: {ids:?}", fixture.name);
            if fixture.name == "gpt-neox" {
                assert_eq!(tokenizer.decode(&ids).unwrap(), text);
            }
        }
    }
}

/// Merges and pieces may spell a special token: what is left is its text.
#[test]
fn special_tokens_that_text_spells_stay_text() {
    for name in ["gpt-neox", "unigram"] {
        let text = "counted:counting the lighthouse keepers";
        let plain = fixture(name).load();
        let is_word = |id: &u32| plain.token_bytes(*id).unwrap().iter().all(u8::is_ascii_lowercase);
        let words = plain.encode(text).into_iter().filter(is_word);
        let id = words.max_by_key(|&id| plain.token_bytes(id).unwrap().len()).unwrap();
        let word = plain.decode(&[id]).unwrap();
        assert!(word.len() > 1, "{name}: {word}");

        let mut file = fixture(name).tokenizer.clone();
        let mut added = file["added_tokens"][0].clone();
        (added["content"], added["id"]) = (word.as_str().into(), id.into());
        file["added_tokens"].as_array_mut().unwrap().push(added);
        let config = json!({ "eos_token": word }).to_string();
        let tokenizer =
            load(&[("tokenizer.json", &file.to_string()), ("tokenizer_config.json", &config)]).unwrap();
        assert_eq!(tokenizer.special(&word), Some(id), "{name}");
        let ids = tokenizer.encode(text);
        assert!(!ids.contains(&id), "{name}: {ids:?}");
        assert_eq!(tokenizer.decode(&ids).unwrap().trim_start(), text);
    }
}

#[test]
fn what_a_vocabulary_cannot_write_is_told() {
    let smollm2 = fixture("smollm2").load();
    let [warning] = smollm2.warnings() else { panic!("{:?}", smollm2.warnings()) };
    // Control characters are among them; of those without token, 13 more are never in UTF-8.
    assert!(warning.contains("150 of the bytes") && warning.contains("(00 01 "), "{warning}");
    assert_eq!((smollm2.missing_bytes("ships"), smollm2.missing_bytes("s\u{1}\u{2}")), (0, 2));
    assert_eq!(smollm2.decode(&smollm2.encode("sh\u{1}ip")).unwrap(), "ship");
    assert_eq!(smollm2.decode(&smollm2.encode_bytes(b"sh\xffip")).unwrap(), "ship");
    for name in ["gpt-neox", "llama-2", "unigram"] {
        let tokenizer = fixture(name).load();
        assert!(tokenizer.warnings().is_empty(), "{name}");
        let decoded = tokenizer.decode_bytes(&tokenizer.encode_bytes(b"a\xff\0")).unwrap();
        assert!(decoded.ends_with(b"a\xff\0") || decoded.ends_with(b"a\xff \0"), "{name}: {decoded:?}");
    }
    let gpt1 = fixture("gpt-1").load();
    assert!(gpt1.warnings()[0].contains("</w>"));
    assert_eq!(gpt1.end_of_text(), None);
}

#[test]
fn the_end_of_text_is_named_by_the_files_beside() {
    let json = fixture("llama-2").tokenizer.to_string();
    let named = |file: &str, content: Value| load(&[("tokenizer.json", &json), (file, &content.to_string())]);
    let by_config = named("tokenizer_config.json", json!({ "eos_token": { "content": "</s>" } })).unwrap();
    let by_map = named("special_tokens_map.json", json!({ "eos_token": "</s>" })).unwrap();
    assert_eq!((by_config.end_of_text(), by_map.end_of_text()), (Some(2), Some(2)));
    // A token that the file has not marked as special is one by its office.
    let entry = named("tokenizer_config.json", json!({ "eos_token": "the" })).unwrap();
    assert_eq!(entry.end_of_text(), entry.special("the"));
    assert!(entry.end_of_text().is_some_and(|id| !entry.encode("the the").contains(&id)));
    let unknown = named("tokenizer_config.json", json!({ "eos_token": "<end>" })).unwrap_err();
    assert!(format!("{unknown:#}").contains("<end> is not in the vocabulary"));
}

#[test]
fn chat_template_and_special_tokens_are_carried_along() {
    let json = fixture("smollm2").tokenizer.to_string();
    let inline = json!({ "chat_template": "inline", "eos_token": "<|im_end|>" }).to_string();
    let files = [
        ("tokenizer.json", json.as_str()),
        ("tokenizer_config.json", &inline),
        ("chat_template.jinja", "{% for message in messages %}…{% endfor %}\n"),
        ("special_tokens_map.json", r#"{ "eos_token":"<|im_end|>" }"#),
    ];
    let tokenizer = load(&files).unwrap();
    assert_eq!(
        tokenizer.chat_template().unwrap().as_deref(),
        Some(files[2].1),
        "the file comes before the configuration"
    );
    let there = tempfile::tempdir().unwrap();
    tokenizer.save(there.path()).unwrap();
    let again = Tokenizer::from_dir(there.path()).unwrap();
    let expected: Vec<(&str, &[u8])> = files.iter().map(|&(name, text)| (name, text.as_bytes())).collect();
    assert_eq!(again.files(), expected);

    let inline = load(&files[..2]).unwrap();
    assert_eq!(inline.chat_template().unwrap().as_deref(), Some("inline"));
    assert_eq!(inline.files().len(), 2);
    let several = json!({ "chat_template": [{ "name": "tools", "template": "a" }, { "name": "default", "template": "b" }] });
    let several = load(&[files[0], ("tokenizer_config.json", &several.to_string())]).unwrap();
    assert_eq!(several.chat_template().unwrap().as_deref(), Some("b"));
    assert_eq!(load(&files[..1]).unwrap().chat_template().unwrap(), None);
}

#[test]
fn special_tokens_are_added_after_the_last_and_python_agrees() {
    for fixture in &GOLDEN.tokenizers {
        let tokenizer = fixture.load();
        let first = tokenizer.specials()[0].clone();
        let more = ["<|fim_prefix|>", &first.0, "<|fim_suffix|>"].map(str::to_owned);
        let extended = tokenizer.extended(&more).unwrap();
        let size = tokenizer.vocab_size() as u32;
        let ids: Vec<Option<u32>> = more.iter().map(|name| extended.special(name)).collect();
        assert_eq!(ids, [Some(size), Some(first.1), Some(size + 1)], "{}", fixture.name);
        assert_eq!(extended.end_of_text(), tokenizer.end_of_text());
        let library: tokenizers::Tokenizer = extended.to_json().parse().unwrap();
        assert!(more.iter().zip(ids).all(|(name, id)| library.token_to_id(name) == id));
        for (text, ids, _) in &fixture.cases {
            assert_eq!(&extended.encode(text), ids, "{}: {text:?}", fixture.name);
        }
        let text = "a <|fim_prefix|> b";
        assert!(extended.encode(text).iter().all(|&id| id < size));
        // Once more changes nothing.
        assert_eq!(extended.extended(&more).unwrap().digest(), extended.digest());
    }
}

#[test]
fn extending_keeps_what_is_there() {
    let fixture = fixture("gpt-neox");
    // An added token that is not special becomes so and keeps its id; so does a word of the vocabulary.
    let tokenizer = fixture.load();
    let run = tokenizer.encode("a  b")[1];
    let word = tokenizer.encode("ships")[0];
    let name = tokenizer.decode(&[word]).unwrap();
    let extended = tokenizer.extended(&["  ".into(), name.clone()]).unwrap();
    assert_eq!((extended.special("  "), extended.special(&name)), (Some(run), Some(word)));
    assert_eq!(extended.vocab_size(), tokenizer.vocab_size());
    let ids = extended.encode("a  b ships");
    assert!(!ids.contains(&run) && !ids.contains(&word));
    assert_eq!(extended.decode(&ids).unwrap(), "a  b ships");

    let config = json!({ "eos_token": "<|endoftext|>", "added_tokens_decoder": { "0": { "content": "<|endoftext|>" } } });
    let files = [
        ("tokenizer.json", &*fixture.tokenizer.to_string()),
        ("tokenizer_config.json", &config.to_string()),
        ("chat_template.jinja", "{{ messages }}"),
    ];
    let extended = load(&files).unwrap().extended(&["<|user|>".into()]).unwrap();
    assert_eq!(extended.chat_template().unwrap().as_deref(), Some("{{ messages }}"));
    let config: Value = serde_json::from_str(extended.config_json()).unwrap();
    let id = extended.special("<|user|>").unwrap().to_string();
    assert_eq!(config["added_tokens_decoder"][&id]["content"], "<|user|>");
    assert_eq!(config["added_tokens_decoder"]["0"]["content"], "<|endoftext|>");
}

#[test]
fn what_cannot_be_added_is_refused() {
    let message = |tokenizer: &Tokenizer, names: &[&str]| {
        let names: Vec<String> = names.iter().map(|name| name.to_string()).collect();
        format!("{:#}", tokenizer.extended(&names).unwrap_err())
    };
    let tokenizer = fixture("gpt-neox").load();
    assert!(message(&tokenizer, &["a"]).contains("too short"));
    assert!(message(&tokenizer, &["<a>", "<a>"]).contains("twice"));
    // With a hole among the ids the library would give a new token the id of the last one.
    let mut file = fixture("smollm2").tokenizer.clone();
    let vocab = file["model"]["vocab"].as_object_mut().unwrap();
    let last = vocab.values().map(|id| id.as_u64().unwrap()).max().unwrap();
    vocab.values_mut().filter(|id| id.as_u64() == Some(last)).for_each(|id| *id = (last + 1).into());
    let tokenizer = load(&[("tokenizer.json", &file.to_string())]).unwrap();
    assert!(message(&tokenizer, &["<|user|>"]).contains("leaves ids out"));
}
