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

/// A function without parameters is called without arguments, however its schema says so.
#[test]
fn what_takes_no_arguments_gets_none() {
    let server = Server::start(|_| {});
    for parameters in [
        json!(null),
        json!({}),
        json!({ "type": "object" }),
        json!({ "type": "object", "properties": {} }),
        json!({ "type": "object", "title": "nothing", "required": [] }),
    ] {
        let tools = json!([{ "type": "function", "function": { "name": "now", "parameters": parameters } }]);
        let answer =
            server.answer(CHAT, &asked(json!({ "tool_choice": "required", "tools": tools, "seed": 1 })));
        let (name, arguments) = called(&answer["choices"][0]).expect("few tokens are enough");
        assert_eq!((name.as_str(), arguments.len()), ("now", 0), "{parameters}");
    }
}

/// What is wrong with a function or a message is said by its place, and of what clients wrote.
#[test]
fn what_is_wrong_is_said_in_the_words_of_the_request() {
    let server = Server::start(|_| {});
    let of = |parameters: Value| json!([{ "type": "function", "function": { "name": "f", "parameters": parameters } }]);
    for (tools, said) in [
        (of(json!("x")), "tools[0].function.parameters: not a JSON schema"),
        (of(json!([])), "tools[0].function.parameters: not a JSON schema"),
        (of(json!({ "type": "string" })), "tools[0].function.parameters.type: \"string\""),
        (of(json!({ "properties": [] })), "tools[0].function.parameters.properties: not an object"),
        (json!([{ "type": "function", "function": { "name": "" } }]), "tools[0].function.name: missing"),
    ] {
        for choice in ["auto", "required"] {
            let reply = server.post(CHAT, &asked(json!({ "tools": tools, "tool_choice": choice })));
            let error = &reply.json()["error"];
            assert_eq!((reply.status, &error["param"]), (400, &json!("tools")), "{tools}");
            assert!(error["message"].as_str().unwrap().starts_with(said), "{error}");
        }
    }
    let not = of(json!({ "type": "object", "properties": { "a": { "not": { "type": "string" } } } }));
    let reply = server.post(CHAT, &asked(json!({ "tools": not, "tool_choice": "required" })));
    let message = reply.json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(
        message.starts_with("tools: the parameters of f: the schema cannot be followed: Unimp"),
        "{message}"
    );
    assert!(!message.contains("guidance") && !message.contains("tool_call"), "{message}");
}

#[test]
fn results_belong_to_calls() {
    let server = Server::start(|_| {});
    let call =
        |id: &str| json!({ "id": id, "type": "function", "function": { "name": "add", "arguments": "" } });
    let result = |id: &str| json!({ "role": "tool", "tool_call_id": id, "content": id });
    let ask = |results: [Value; 2]| {
        let [first, second] = results;
        let messages = json!([
            { "role": "user", "content": "1 and 2" },
            { "role": "assistant", "content": null, "tool_calls": [call("a"), call("b")] },
            first, second,
        ]);
        let body = json!({ "messages": messages, "temperature": 0, "logprobs": true, "max_tokens": 8 });
        server.post(CHAT, &asked(body))
    };
    let told = |reply: &super::fixture::Reply| {
        let choice = reply.json()["choices"][0].clone();
        (choice["message"].clone(), choice["logprobs"].clone())
    };
    let ordered = told(&ask([result("a"), result("b")]));
    assert_eq!(
        told(&ask([result("b"), result("a")])),
        ordered,
        "the model reads them in the order of its calls"
    );
    let reply = ask([result("a"), result("c")]);
    assert_eq!(reply.status, 400, "{}", reply.body);
    assert_eq!(reply.json()["error"]["param"], "messages[3].tool_call_id");
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
