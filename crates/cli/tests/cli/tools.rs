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
    assert_eq!(line["tools"][0]["function"]["name"], "calculator", "who learns from it asks as it was asked");

    // What is saved of a chat is a demonstration with the tools that it tells of; a tool that is named twice is one.
    let saved = road.path("tool-chat.jsonl");
    let words =
        ["chat", "--model", model, "--tool", "calculator", "--tool", "python", "--tool", "calculator"];
    let asked = format!("sum\n/save {saved}\n");
    mynah(&[&words[..], &["--precision", "f32"]].concat()).write_stdin(asked).assert().success();
    let row: Value = serde_json::from_str(&fs::read_to_string(&saved).expect("a file")).expect("JSON");
    let names = row["tools"].as_array().expect("tools").iter().map(|tool| &tool["function"]["name"]);
    assert_eq!(names.collect::<Vec<_>>(), ["calculator", "python"], "{row}");
    assert!(row["messages"].as_array().is_some_and(|messages| messages.len() >= 2), "{row}");

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

/// The lines of a journal.
fn journal(run: &str, name: &str) -> Vec<Value> {
    let text = fs::read_to_string(format!("{run}/{name}")).expect("a journal");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// A training by GRPO on answers to what the model knows by heart, hardly drawn.
fn grpo(out: &str, asked: &[&str], further: &[&str]) -> Vec<String> {
    let [prompts, val] = ["prompts", "val"].map(|name| format!("{out}-{name}.jsonl"));
    let line = |asked: &&str| format!("{}\n", json!({ "prompt": asked, "accept": ["144", "done"] }));
    fs::write(&prompts, asked.iter().map(line).collect::<String>()).expect("a file");
    fs::write(&val, line(&asked[0])).expect("a file");
    let batch = format!("batch_size={}", asked.len());
    let words = ["grpo", "--model", model(), "--prompts", &prompts, "--val", &val, "--out", out];
    let recipe = ["--reward", "answer", "--group", "2", "--lr", "1e-5", "--precision", "f32"];
    let keys = ["temperature=0.2", "eval_samples=1", &batch];
    let keys = keys.iter().flat_map(|key| ["--set", key]);
    words
        .iter()
        .chain(&recipe)
        .copied()
        .chain(keys)
        .chain(further.iter().copied())
        .map(String::from)
        .collect()
}

fn borrowed(words: &[String]) -> Vec<&str> {
    words.iter().map(String::as_str).collect()
}

/// What is learned from are answers that called, and a run that is killed ends with the same bytes.
#[cfg(unix)]
#[test]
fn grpo_learns_from_answers_that_call() {
    let road = road();
    let [whole, killed] = ["tools-grpo", "tools-grpo-killed"].map(|name| road.path(name));
    let further =
        ["--tool", "calculator", "--steps", "6", "--set", "checkpoint_every=1", "--set", "max_tokens=150"];
    run(&borrowed(&grpo(&whole, &["sum", "run"], &further)), 0);
    let metrics = journal(&whole, "metrics.jsonl");
    assert_eq!(metrics.len(), 6);
    for line in &metrics {
        assert!(line["tools/calls"].as_f64().is_some_and(|calls| calls > 0.0), "{line}");
        assert!((line["policy/ratio"].as_f64().expect("a ratio") - 1.0).abs() < 1e-2, "{line}");
    }
    assert_eq!(metrics[0]["policy/approxkl"], 0.0, "before the first update the ratio is 1");
    let right: Vec<Value> =
        journal(&whole, "rollouts.jsonl").into_iter().filter(|line| line["answer"] == "It is 144.").collect();
    assert!(
        right.iter().any(|line| line["said"][1]["content"] == "144" && line["reward"] == 1.0),
        "{right:?}"
    );
    let config = fs::read_to_string(format!("{whole}/config.toml")).expect("a recipe");
    assert!(config.contains("names = [\"calculator\"]") && config.contains("rounds = 8"), "{config}");

    let words = grpo(&killed, &["sum", "run"], &further);
    for kill in 0..3 {
        let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_mynah"))
            .args(&words)
            .stderr(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .spawn()
            .expect("it starts");
        let lines =
            || fs::read_to_string(format!("{killed}/metrics.jsonl")).map_or(0, |text| text.lines().count());
        while lines() <= 2 * kill && child.try_wait().expect("a state").is_none() {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        child.kill().expect("SIGKILL");
        child.wait().expect("it ends");
    }
    run(&borrowed(&words), 0);
    let weights = |run: &str| {
        let model = format!("{run}/checkpoints/step-000006/model.safetensors");
        fs::read(model).expect("the last checkpoint")
    };
    for name in ["metrics.jsonl", "rollouts.jsonl"] {
        assert_eq!(journal(&whole, name), journal(&killed, name), "{name}");
    }
    assert!(weights(&whole) == weights(&killed), "the weights differ");

    // Another tool is another run; a model whose template has no place for them is refused.
    let other = grpo(
        &whole,
        &["sum", "run"],
        &["--tool", "calculator", "--tool-rounds", "2", "--steps", "6", "--set", "max_tokens=150"],
    );
    fails(&borrowed(&other), 1, &["tools"]);
    fails(&["grpo", "--tool-rounds", "2"], 2, &["--tool"]);
}

/// Whatever a program does while a model learns, it is told, and nothing is lost.
#[cfg(target_os = "linux")]
#[test]
fn programs_that_misbehave_do_not_end_a_training() {
    let out = road().path("tools-programs");
    let asked = ["run", "hang", "flood", "fork", "quit"];
    let further = ["--tool", "python", "--tool-secs", "2", "--steps", "3", "--set", "max_tokens=260"];
    run(&borrowed(&grpo(&out, &asked, &further)), 0);
    let metrics = journal(&out, "metrics.jsonl");
    assert_eq!(metrics.len(), 3);
    for line in &metrics {
        let share = line["tools/failed"].as_f64().expect("a share");
        assert!(line["tools/calls"].as_f64().is_some_and(|calls| calls > 0.6), "{line}");
        assert!(share > 0.5, "{line}");
    }
    let said: Vec<String> =
        journal(&out, "rollouts.jsonl").iter().map(|line| line["said"][1]["content"].to_string()).collect();
    assert!(said.iter().any(|content| content.contains("error: it")), "{said:?}");
}

/// Items whose answers are written are asked as a chat asks, and the call is kept.
#[test]
fn an_evaluated_model_calls() {
    let road = road();
    let [task, out, choices] =
        ["tool-task", "tool-items", "tool-choices"].map(|name| road.path(&format!("{name}.jsonl")));
    fs::write(&task, "{\"prompt\": \"sum\", \"answer\": 144}\n{\"prompt\": \"sum\", \"answer\": 14}\n")
        .expect("a file");
    let words = ["eval", "--model", model(), "--tasks", &task];
    let found = super::workshop::json(&[&words[..], &["--tool", "calculator", "--out", &out]].concat());
    let figures = &found["tasks"]["tool-task"];
    assert_eq!((&figures["metric"], &figures["value"]), (&json!("stated"), &json!(0.5)), "{found}");
    let items = journal(&road.path("."), "tool-items.jsonl");
    assert_eq!(
        (&items[0]["said"][1]["content"], &items[0]["written"]),
        (&json!("144"), &json!("It is 144."))
    );
    assert_eq!((&items[0]["right"], &items[1]["right"]), (&json!(true), &json!(false)));
    let alone = super::workshop::json(&words);
    assert_eq!(alone["tasks"]["tool-task"]["metric"], "exact_match");

    fs::write(&choices, "{\"question\": \"sum\", \"answers\": [\"1\", \"2\"], \"label\": 0}\n")
        .expect("a file");
    let words = ["eval", "--model", model(), "--tasks", &choices, "--tool", "calculator"];
    fails(&words, 1, &["tools are called on the way to answers that are written", "tool-choices"]);
    fails(&[&words[..], &["--beams", "2"]].concat(), 2, &["--beams"]);
    fails(
        &["eval", "--model", &road.path("run"), "--tasks", &task, "--tool", "calculator"],
        1,
        &["chat template"],
    );
}
