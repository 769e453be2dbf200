//! Tools that have to be called, by a model that says anything.

use super::answers::{CHAT, question};
use super::fixture::Server;
use serde_json::{Map, Value, json};

/// Two functions, one with a name that has to be escaped.
fn tools() -> Value {
    let add = json!({
        "type": "object", "required": ["a", "how"],
        "properties": { "a": { "$ref": "#/$defs/n" }, "how": { "enum": ["up", "down"] } },
        "$defs": { "n": { "type": "integer", "minimum": 0, "maximum": 99 } },
    });
    json!([
        { "type": "function", "function": { "name": "add", "parameters": add } },
        { "type": "function", "function": { "name": "say \"日本\"" } },
    ])
}

fn asked(more: Value) -> Value {
    let mut body = question(json!({ "tools": tools(), "max_tokens": 200 }));
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

/// The one call of an answer that is whole.
fn called(choice: &Value) -> Option<(String, Map<String, Value>)> {
    if choice["finish_reason"] == "length" {
        return None;
    }
    assert_eq!(
        (&choice["finish_reason"], &choice["message"]["content"]),
        (&json!("tool_calls"), &Value::Null)
    );
    let calls = choice["message"]["tool_calls"].as_array().unwrap();
    assert_eq!(calls.len(), 1, "{choice}");
    let function = &calls[0]["function"];
    let arguments = serde_json::from_str(function["arguments"].as_str().unwrap()).unwrap();
    Some((function["name"].as_str().unwrap().to_owned(), arguments))
}

fn assert_adds(arguments: &Map<String, Value>) {
    assert!(arguments["a"].as_u64().is_some_and(|a| a < 100), "{arguments:?}");
    assert!(["up", "down"].contains(&arguments["how"].as_str().unwrap()) && arguments.len() == 2);
}

#[test]
fn a_tool_that_must_be_called_is() {
    let server = Server::start(|_| {});
    let mut names = Vec::new();
    for seed in 0..12 {
        let answer = server.answer(CHAT, &asked(json!({ "tool_choice": "required", "seed": seed })));
        let Some((name, arguments)) = called(&answer["choices"][0]) else { continue };
        if name == "add" {
            assert_adds(&arguments);
        }
        names.push(name);
    }
    assert!(names.contains(&"add".to_owned()) && names.contains(&"say \"日本\"".to_owned()), "{names:?}");
    for seed in 0..4 {
        let choice = json!({ "type": "function", "function": { "name": "add" } });
        let body = asked(
            json!({ "tool_choice": choice, "seed": seed, "n": 3, "response_format": { "type": "json_object" } }),
        );
        for choice in server.answer(CHAT, &body)["choices"].as_array().unwrap() {
            let (name, arguments) = called(choice).expect("few tokens are enough");
            assert_eq!(name, "add");
            assert_adds(&arguments);
        }
    }
}

#[test]
fn what_cannot_be_called_is_refused() {
    let server = Server::start(|_| {});
    let remote = json!({ "type": "object", "properties": { "a": { "$ref": "http://x/y" } } });
    let remote = json!([{ "type": "function", "function": { "name": "f", "parameters": remote } }]);
    let named = |name: &str| json!({ "type": "function", "function": { "name": name } });
    for (more, param) in [
        (json!({ "tool_choice": "required", "tools": [] }), "tool_choice"),
        (json!({ "tool_choice": "required", "tools": null }), "tool_choice"),
        (json!({ "tool_choice": named("sub") }), "tool_choice"),
        (json!({ "tool_choice": { "type": "custom" } }), "tool_choice"),
        (json!({ "tool_choice": "always" }), "tool_choice"),
        (json!({ "tool_choice": 1 }), "tool_choice"),
        (json!({ "tool_choice": "required", "tools": remote }), "tools"),
    ] {
        let reply = server.post(CHAT, &asked(more.clone()));
        assert_eq!(
            (reply.status, &reply.json()["error"]["param"]),
            (400, &json!(param)),
            "{more}: {}",
            reply.body
        );
    }
}
