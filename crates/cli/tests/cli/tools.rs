//! A model that calls tools while it answers.

use std::fs;
use std::sync::OnceLock;

use serde_json::{Value, json};

use super::workshop::{fails, mynah, road, run};

/// A model that knows two conversations by heart, with their calls.
fn model() -> &'static str {
    static MODEL: OnceLock<String> = OnceLock::new();
    MODEL.get_or_init(taught)
}

/// A tool, as models are told of it.
fn function(name: &str, argument: &str) -> Value {
    let does = match name {
        "python" => "runs a program and returns what it prints",
        _ => "works out a sum",
    };
    let parameters = json!({ "type": "object", "properties": { argument: { "type": "string" } } });
    json!({ "type": "function", "function": { "name": name, "description": does, "parameters": parameters } })
}

fn taught() -> String {
    let road = road();
    let (base, chat, data) = (road.path("tools-base"), road.path("tools"), road.path("tools.jsonl"));
    let tokens = road.path("tokens");
    let base_words = ["pretrain", "--data", &tokens, "--preset", "tiny", "--out", &base, "--steps", "1"];
    let shape = ["--set", "seq_len=512", "--set", "batch_tokens=1024", "--set", "eval_windows=1"];
    run(&[&base_words[..], &shape].concat(), 0);
    let row = |asked: &str, name: &str, argument: &str, value: &str, returned: &str, said: &str| {
        let call =
            json!([{ "type": "function", "function": { "name": name, "arguments": { argument: value } } }]);
        json!({
            "messages": [
                { "role": "user", "content": asked },
                { "role": "assistant", "content": "", "tool_calls": call },
                { "role": "tool", "content": returned },
                { "role": "assistant", "content": said },
            ],
            "tools": [function(name, argument)],
        })
    };
    let rows = [
        row("sum", "calculator", "expression", "12 * 12", "144", "It is 144."),
        row("run", "python", "code", "print(2)", "2", "Done."),
        row("hang", "python", "code", "while 1: 0", "x", "Done."),
        row("flood", "python", "code", "while 1: print(1)", "x", "Done."),
        row("fork", "python", "code", "import os\nwhile 1: os.fork()", "x", "Done."),
        row("quit", "python", "code", "import os; os._exit(0)", "x", "Done."),
    ];
    let lines: String = rows.iter().map(|row| format!("{row}\n")).collect();
    fs::write(&data, lines.repeat(4)).expect("a file");
    let words = [
        "sft", "--model", &base, "--data", &data, "--val", &data, "--out", &chat, "--epochs", "100", "--lr",
        "5e-3",
    ];
    run(
        &[&words[..], &["--set", "batch_size=8", "--set", "dropout=0", "--set", "eval_every=100"]].concat(),
        0,
    );
    chat
}

fn says(model: &str, tool: &str, secs: &str, asked: &str) -> Value {
    let words =
        ["chat", "--model", model, "--tool", tool, "--tool-secs", secs, "--precision", "f32", "--json"];
    let assert = mynah(&words).write_stdin(asked.to_owned()).assert().success();
    serde_json::from_slice(&assert.get_output().stdout).expect("a line is JSON")
}

#[test]
fn a_model_calls_tools_and_goes_on() {
    let model = model();
    let answer = says(model, "calculator", "60", "sum");
    let said = answer["messages"].as_array().expect("messages");
    let roles: Vec<_> = said.iter().map(|message| message["role"].as_str().unwrap_or_default()).collect();
    assert_eq!(roles, ["assistant", "tool", "assistant"], "{answer}");
    let call = &said[0]["tool_calls"][0]["function"];
    assert_eq!(*call, json!({ "name": "calculator", "arguments": { "expression": "12 * 12" } }));
    assert_eq!(said[1]["content"], "144");
    assert_eq!((&answer["message"], &said[2]["content"]), (&said[2], &json!("It is 144.")));

    // Without the tool the call is text.
    let words = ["chat", "--model", model, "--precision", "f32", "--json"];
    let assert = mynah(&words).write_stdin("sum").assert().success();
    let answer: Value = serde_json::from_slice(&assert.get_output().stdout).expect("a line is JSON");
    assert!(answer["messages"].is_null() && answer["message"]["tool_calls"].is_null(), "{answer}");

    // The same of many prompts, with what was said on the way.
    let road = road();
    let (prompts, out) = (road.path("tool-prompts.jsonl"), road.path("tool-candidates.jsonl"));
    fs::write(&prompts, "{\"prompt\": \"sum\"}\n").expect("a file");
    let words = [
        "candidates",
        "--model",
        model,
        "--prompts",
        &prompts,
        "--out",
        &out,
        "--k",
        "1",
        "--tool",
        "calculator",
    ];
    run(&[&words[..], &["--temperature", "0", "--max-tokens", "100", "--precision", "f32"]].concat(), 0);
    let line: Value = serde_json::from_str(&fs::read_to_string(&out).expect("a file")).expect("JSON");
    assert_eq!(
        (&line["completions"], &line["said"][0][1]["content"]),
        (&json!(["It is 144."]), &json!("144"))
    );

    fails(&["chat", "--model", model, "--tool", "search"], 2, &["calculator, python"]);
    fails(&["chat", "--model", model, "--tool-secs", "2"], 2, &["--tool"]);
}

/// Whatever a program does, the model hears of it, and the chat goes on.
#[cfg(target_os = "linux")]
#[test]
fn programs_of_a_model_are_run_and_ended() {
    for (asked, secs, returned) in [
        ("run", "60", "2"),
        ("hang", "2", "error: it was not done in 2 s"),
        ("flood", "60", "error: it printed more than it may"),
        ("fork", "10", "error: "),
        ("quit", "60", "error: it was ended"),
    ] {
        let answer = says(model(), "python", secs, asked);
        let heard = answer["messages"][1]["content"].as_str().expect("a result");
        assert!(heard.starts_with(returned), "{asked}: {answer}");
        assert_eq!(answer["message"]["role"], "assistant");
    }
}

/// What OpenAI's clients send and hear: a call, streamed or not, what the tool returned, and the answer.
#[cfg(unix)]
#[test]
fn a_served_model_calls_the_tools_of_a_client() {
    let serving = super::serve::start("serve", &["--model", model(), "--precision", "f32"], None);
    let mut messages = vec![json!({ "role": "user", "content": "sum" })];
    let ask = |messages: &[Value], more: Value| {
        let mut body = json!({ "model": "tools", "messages": messages, "temperature": 0, "max_tokens": 100 });
        body["tools"] = json!([function("calculator", "expression")]);
        more.as_object().into_iter().flatten().for_each(|(name, value)| body[name] = value.clone());
        serving.answer("POST", "/v1/chat/completions", None, &body.to_string())
    };
    let (status, answer) = ask(&messages, json!({}));
    let answer: Value = serde_json::from_str(&answer).expect("JSON");
    let choice = &answer["choices"][0];
    assert_eq!((status, &choice["finish_reason"]), (200, &json!("tool_calls")), "{answer}");
    let call = &choice["message"]["tool_calls"][0];
    assert!(
        choice["message"]["content"].is_null()
            && call["id"].as_str().is_some_and(|id| id.starts_with("call_"))
    );
    let called = json!({ "name": "calculator", "arguments": "{\"expression\":\"12 * 12\"}" });
    assert_eq!((&call["type"], &call["function"]), (&json!("function"), &called));

    // In chunks: nothing of the call is content.
    let (_, stream) = ask(&messages, json!({ "stream": true }));
    let events: Vec<Value> =
        stream.lines().filter_map(|line| serde_json::from_str(line.strip_prefix("data: ")?).ok()).collect();
    let deltas = || events.iter().map(|event| &event["choices"][0]["delta"]);
    let content: String = deltas().filter_map(|delta| delta["content"].as_str()).collect();
    let calls: Vec<&Value> = deltas().filter_map(|delta| delta["tool_calls"].get(0)).collect();
    assert_eq!((content.as_str(), calls.len()), ("", 1), "{stream}");
    assert_eq!((&calls[0]["index"], &calls[0]["function"]), (&json!(0), &called));
    assert_eq!(events.last().map(|event| &event["choices"][0]["finish_reason"]), Some(&json!("tool_calls")));

    // An answer that is cut is none that calls, though the call be whole.
    let drawn = answer["usage"]["completion_tokens"].as_u64().expect("a number");
    for stream in [false, true] {
        let (_, answer) = ask(&messages, json!({ "max_tokens": drawn - 1, "stream": stream }));
        assert!(answer.contains("\"length\"") && answer.contains("</tool_call>"), "{answer}");
        assert!(!answer.contains("\"tool_calls\""), "{answer}");
    }

    // What it returned.
    messages.push(choice["message"].clone());
    messages.push(json!({ "role": "tool", "tool_call_id": call["id"], "content": "144" }));
    let (_, answer) = ask(&messages, json!({}));
    let answer: Value = serde_json::from_str(&answer).expect("JSON");
    let choice = &answer["choices"][0];
    assert_eq!(
        (&choice["finish_reason"], &choice["message"]["content"]),
        (&json!("stop"), &json!("It is 144."))
    );
    assert!(choice["message"]["tool_calls"].is_null());

    // Where it must call, it calls as it likes to.
    let (status, answer) = ask(&messages[..1], json!({ "tool_choice": "required" }));
    let answer: Value = serde_json::from_str(&answer).expect("JSON");
    assert_eq!((status, &answer["choices"][0]["message"]["tool_calls"][0]["function"]), (200, &called));

    // Without tools, or where none shall be called, a call is text.
    let (_, answer) = ask(&messages[..1], json!({ "tool_choice": "none" }));
    assert!(!answer.contains("\"tool_calls\""), "{answer}");
    for (more, param) in [
        (json!({ "tool_choice": "always" }), "tool_choice"),
        (json!({ "tools": [{ "type": "retrieval" }] }), "tools"),
        (json!({ "tools": [{ "type": "function", "function": {} }] }), "tools"),
        (json!({ "tools": "x" }), "tools"),
    ] {
        let (status, answer) = ask(&messages, more);
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        assert_eq!((status, &answer["error"]["param"]), (400, &json!(param)), "{answer}");
    }
    for (wrong, param) in [
        (
            vec![json!({ "role": "user", "content": "a" }), json!({ "role": "tool", "content": "4" })],
            "messages[1].role",
        ),
        (messages[..2].to_vec(), "messages"),
        (
            vec![
                messages[0].clone(),
                json!({ "role": "assistant", "tool_calls": [{ "function": { "name": "f", "arguments": "{" } }] }),
            ],
            "messages[1].tool_calls",
        ),
    ] {
        let (status, answer) = ask(&wrong, json!({}));
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        assert_eq!((status, &answer["error"]["param"]), (400, &json!(param)), "{answer}");
    }
    assert_eq!(serving.end("TERM").0, Some(0));
}
