mod hostile;
mod shapes;
mod tools;

use super::*;
use serde_json::{Value, json};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

static GOLDEN: LazyLock<Value> = LazyLock::new(|| {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/chat.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
});

fn golden(name: &str) -> &'static Value {
    GOLDEN["templates"].as_array().unwrap().iter().find(|template| template["name"] == name).unwrap()
}

/// The golden tokenizer of a template, with `template` (none: the golden one) in its configuration.
fn tokenizer(golden: &Value, template: Option<Value>) -> Tokenizer {
    let mut config = golden["tokens"].clone();
    config["chat_template"] = template.unwrap_or_else(|| golden["template"].clone());
    Tokenizer::from_texts(golden["tokenizer"].to_string(), config.to_string()).unwrap()
}

fn ours() -> (Tokenizer, ChatTemplate) {
    let config = json!({ "bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>" });
    let base = Tokenizer::from_texts(golden("ours")["tokenizer"].to_string(), config.to_string()).unwrap();
    let tokenizer = with_ours(&base).unwrap();
    let template = ChatTemplate::of(&tokenizer).unwrap().unwrap();
    (tokenizer, template)
}

fn say(turns: &[(Role, &str)]) -> Vec<Message> {
    turns.iter().map(|&(role, content)| Message::new(role, content)).collect()
}

/// A conversation with what asks for the next message, or as it stands.
fn wanted(asks: bool) -> Wanted {
    if asks { Wanted::PromptAfterAnswers } else { Wanted::Answers }
}

#[test]
fn ids_and_answers_are_those_of_transformers() {
    for golden in GOLDEN["templates"].as_array().unwrap() {
        let name = golden["name"].as_str().unwrap();
        let tagged = tokenizer(golden, None);
        let plain = golden["template"].as_str().unwrap().replace("endgeneration", "endif");
        let plain = plain.replace("% generation", "% if true").replace("- generation", "- if true");
        let plain = tokenizer(golden, Some(json!([{ "name": "default", "template": plain }])));
        let mut tokenizers = vec![tagged, plain];
        if name == "ours" {
            tokenizers = vec![ours().0];
        }
        for tokenizer in tokenizers {
            let template = ChatTemplate::of(&tokenizer).unwrap().unwrap();
            for case in golden["cases"].as_array().unwrap() {
                let messages: Vec<Message> = serde_json::from_value(case["messages"].clone()).unwrap();
                let ids: Vec<u32> = serde_json::from_value(case["ids"].clone()).unwrap();
                let mask: Vec<u8> = serde_json::from_value(case["mask"].clone()).unwrap();
                let encoded = template.encode(&tokenizer, &messages).unwrap();
                if messages.last().unwrap().role == Role::User {
                    assert_eq!(template.prompt(&tokenizer, &messages).unwrap(), ids, "{name}: {messages:?}");
                } else {
                    assert_eq!(encoded.tokens, ids, "{name}: {messages:?}");
                }
                let answered: Vec<usize> = encoded.answers.iter().cloned().flatten().collect();
                let expected: Vec<usize> = (0..mask.len()).filter(|&i| mask[i] == 1).collect();
                assert_eq!(answered, expected, "{name}: {messages:?}");
            }
        }
    }
}

#[test]
fn answers_end_with_what_the_template_puts_there() {
    for (name, end) in
        [("chatml", "<|im_end|>"), ("llama-3", "<|eot_id|>"), ("zephyr", "</s>"), ("phi-3", "<|end|>")]
    {
        let tokenizer = tokenizer(golden(name), None);
        let template = ChatTemplate::of(&tokenizer).unwrap().unwrap();
        assert_eq!(template.end(), tokenizer.special(end), "{name}");
    }
}

#[test]
fn ours_is_added_once_and_written_for_others() {
    let (tokenizer, template) = ours();
    let base_size = tokenizer.vocab_size() - 2;
    assert_eq!(tokenizer.special("<|im_start|>"), Some(base_size as u32));
    let config: Value = serde_json::from_str(tokenizer.config_json()).unwrap();
    assert_eq!((&config["chat_template"], &config["eos_token"]), (&json!(OURS), &json!("<|im_end|>")));
    assert_eq!(
        tokenizer.end_of_text(),
        tokenizer.special("<|endoftext|>"),
        "a document still ends as before"
    );
    assert_eq!(tokenizer.eos(), tokenizer.special("<|im_end|>"), "but an answer ends otherwise");
    assert_eq!(with_ours(&tokenizer).unwrap().files(), tokenizer.files());
    let imported = super::tests::tokenizer(golden("llama-3"), None);
    assert_eq!(with_ours(&imported).unwrap().files(), imported.files(), "a template that is there stays");

    let turns =
        say(&[(Role::User, "one"), (Role::Assistant, "two"), (Role::User, "x"), (Role::Assistant, "")]);
    let encoded = template.encode(&tokenizer, &turns).unwrap();
    let texts =
        encoded.answers.iter().map(|answer| tokenizer.decode(&encoded.tokens[answer.clone()]).unwrap());
    assert_eq!(texts.collect::<Vec<_>>(), ["two<|im_end|>", "<|im_end|>"], "an empty answer is its end");
}

#[test]
fn templates_say_what_python_says() {
    for (source, expected) in [
        ("{{ messages | tojson }}", r#"[{"role": "user", "content": "<a> & 'b' \"é\""}]"#),
        (
            "{{ messages[0] | tojson(indent=2) }}",
            "{\n  \"role\": \"user\",\n  \"content\": \"<a> & 'b' \\\"é\\\"\"\n}",
        ),
        ("{{ strftime_now('%d %b %Y, %H:%M') }}", "05 Mar 2024, 07:09"),
        ("{{ bos_token }}{{ eos_token }}{{ pad_token }}{{ tools is none }}", "<|im_start|><|im_end|>True"),
        ("{{ messages[0].content.split(' ')[0] | upper }}", "<A>"),
        ("{{ messages[0]['content'] }}", "<a> & 'b' \"é\""),
    ] {
        let golden = golden("chatml");
        let tokenizer = tokenizer(golden, Some(json!(source)));
        let now = chrono::NaiveDate::from_ymd_opt(2024, 3, 5).unwrap().and_hms_opt(7, 9, 1).unwrap();
        let template = ChatTemplate::new(&tokenizer, source, now).unwrap();
        let layout =
            template.layout(&say(&[(Role::User, "<a> & 'b' \"é\"")]), None, Wanted::Answers).unwrap();
        assert_eq!(layout.text(), expected, "{source}");
    }
}

#[test]
fn what_a_template_cannot_do_is_said() {
    let error = |source: &str| {
        let tokenizer = tokenizer(golden("chatml"), Some(json!(source)));
        format!("{:#}", ChatTemplate::of(&tokenizer).err().unwrap())
    };
    for (source, said) in [
        ("{{ raise_exception('only music') }}", "only music"),
        ("{% for x in %}", "not Jinja"),
        ("{% include 'passwd' %}", "not Jinja"),
        ("{{ strftime_now('%') }}", "no format of a time"),
        ("{{ messages.undefined.deeper }}", "undefined"),
    ] {
        assert!(error(source).contains(said), "{source}: {}", error(source));
    }
    let tokenizer = tokenizer(golden("chatml"), Some(Value::Null));
    assert!(ChatTemplate::of(&tokenizer).unwrap().is_none());
}

#[test]
fn endless_templates_stop() {
    for source in [
        "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
        "{% for a in range(100000) %}{{ messages[0].content * 1000 }}{% endfor %}",
        "{% macro f(x) %}{{ f(x) }}{{ f(x) }}{% endmacro %}{{ f(1) }}",
        "{{ 'x' * 100000000000 }}",
        "{% set ns = namespace(x='xx') %}{% for a in range(1000) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
        "{% set ns = namespace(x='xx') %}{% for a in range(1000) %}{% set ns.x = ns.x.replace('x', ns.x) %}{% endfor %}",
        "{{ 'x' | indent(1000000000000) }}",
        "{{ '%1000000000d' | format(1) }}",
        "{% for a in range(99999) %}{% set c = messages | tojson(indent=16) %}{% endfor %}",
    ] {
        let tokenizer = tokenizer(golden("chatml"), Some(json!(source)));
        let start = Instant::now();
        let result = ChatTemplate::of(&tokenizer);
        // 50 ms on an idle machine; tests run beside others.
        assert!(start.elapsed() < Duration::from_millis(500), "{source}: {:?}", start.elapsed());
        assert!(result.is_err(), "{source}");
    }
}
