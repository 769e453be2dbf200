//! Many shapes of templates, and what `transformers` makes of them.

use super::*;

#[test]
fn ids_are_those_of_transformers() {
    for shape in GOLDEN["shapes"].as_array().unwrap() {
        let name = shape["name"].as_str().unwrap();
        let tokenizer = tokenizer(&GOLDEN["shaped"], Some(shape["template"].clone()));
        let template = ChatTemplate::of(&tokenizer).unwrap().unwrap();
        for case in shape["cases"].as_array().unwrap() {
            let messages: Vec<Message> = serde_json::from_value(case["messages"].clone()).unwrap();
            let asks = messages.last().unwrap().role == Role::User;
            let ids = template
                .layout(&messages, None, wanted(asks))
                .map(|layout| layout.encode(&tokenizer, None).tokens);
            match case["error"].as_str() {
                None => {
                    let expected: Vec<u32> = serde_json::from_value(case["ids"].clone()).unwrap();
                    let shown = |ids: &[u32]| tokenizer.decode(ids).unwrap();
                    let ids = ids.unwrap();
                    assert_eq!(shown(&ids), shown(&expected), "{name}: {messages:?}");
                    assert_eq!(ids, expected, "{name}: {messages:?}");
                }
                Some(_) if name == "needs-system" => {
                    let shown = tokenizer.decode(&ids.unwrap()).unwrap();
                    assert!(
                        shown.starts_with("<|im_start|>system\nYou are a helpful assistant.<|im_end|>"),
                        "{shown}"
                    );
                }
                // The template's own words.
                Some(said) => {
                    let error = format!("{:#}", ids.err().unwrap());
                    assert!(error.contains(said), "{error}");
                }
            }
        }
        let notes = template.notes();
        assert_eq!(notes.len(), usize::from(name == "needs-system"), "{name}: {notes:?}");
    }
}

#[test]
fn answers_are_known_where_a_template_looks_closely() {
    // The name of a shape, an answer, and what of it is to be learned; none where it is taken apart, or
    // cannot be told from what the template says.
    for (name, answer, learned) in [
        ("equals", "two", Some("two<|im_end|>")),
        ("equals", "one", Some("one<|im_end|>")),
        ("equals", "x", None),
        ("lengths", "four", Some("fou……ur")),
        ("qwen-2", "assistant", Some("assistant<|im_end|>")),
        ("qwen-2", "<|im_start|>", Some("<|im_start|><|im_end|>")),
        ("phi-4", "\"", Some("\"<|im_end|>")),
        ("qwen-2", "", Some("<|im_end|>")),
        ("qwen-3", "plain", Some("\n\nplain<|im_end|>")),
        ("qwen-3", "<think>a</think>b", None),
        ("shouting", "abc", None),
        ("sequence", "two", Some("two<|im_end|>")),
        ("clean", "two", Some("two<|im_end|>")),
    ] {
        let shape = GOLDEN["shapes"].as_array().unwrap().iter().find(|shape| shape["name"] == name).unwrap();
        let tokenizer = tokenizer(&GOLDEN["shaped"], Some(shape["template"].clone()));
        let template = ChatTemplate::of(&tokenizer).unwrap().unwrap();
        let turns = say(&[(Role::User, "two"), (Role::Assistant, answer)]);
        let encoded = template.encode(&tokenizer, &turns);
        let said = encoded
            .ok()
            .map(|encoded| tokenizer.decode(&encoded.tokens[encoded.answers[0].clone()]).unwrap());
        assert_eq!(said.as_deref(), learned, "{name}: {answer:?}");
    }
}

#[test]
fn templates_are_taken_from_where_transformers_takes_them() {
    let golden = &GOLDEN["shaped"];
    let of = |template: Value| {
        ChatTemplate::of(&tokenizer(golden, Some(template))).map(|template| template.is_some())
    };
    let named = |names: &[&str]| {
        names.iter().map(|name| json!({ "name": name, "template": "{{ messages }}" })).collect::<Vec<_>>()
    };
    assert!(of(json!(named(&["tool_use", "default"]))).unwrap());
    assert!(of(json!({ "default": "{{ messages }}", "rag": "" })).unwrap());
    assert!(!of(json!([])).unwrap());
    for several in [json!(named(&["tool_use", "rag"])), json!({ "tool_use": "", "rag": "" })] {
        let error = of(several).unwrap_err().to_string();
        assert!(error.contains("tool_use, rag") || error.contains("rag, tool_use"), "{error}");
    }
    assert!(of(json!(5)).is_err());
}
