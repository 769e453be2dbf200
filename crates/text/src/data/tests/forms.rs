//! Rows as other programs write them, and rows of the wrong kind.

use serde_json::{Value, json};

use crate::data::messages::{
    Message, Ranking, Role, answered, candidates, demonstration, judged, prompt, ranking, scored,
};
use crate::data::rows::{Fault, Severity};

fn record(value: &Value) -> serde_json::Map<String, Value> {
    value.as_object().unwrap().clone()
}

fn say(role: &str, content: &str) -> Value {
    json!({ "role": role, "content": content })
}

fn user(content: &str) -> Value {
    say("user", content)
}

fn assistant(content: &str) -> Value {
    say("assistant", content)
}

/// The messages of a demonstration.
fn learned(value: &Value) -> Value {
    json!(demonstration(record(value)).unwrap().messages)
}

fn ranked(value: &Value) -> Ranking {
    ranking(record(value)).unwrap_or_else(|fault| panic!("{value}: {fault:?}"))
}

fn fault<T: std::fmt::Debug>(result: Result<T, Fault>) -> (String, Severity) {
    let Fault { kind, severity, .. } = result.unwrap_err();
    (kind, severity)
}

#[test]
fn conversations_of_other_programs_are_read() {
    let expected = json!([user("a"), assistant("b")]);
    let with_system = json!([say("system", "s"), user("a"), assistant("b")]);
    let sharegpt =
        |from: [&str; 2]| json!([{ "from": from[0], "value": "a" }, { "from": from[1], "value": "b" }]);
    for (row, expected) in [
        // ShareGPT.
        (json!({ "id": "1", "conversations": sharegpt(["human", "gpt"]) }), &expected),
        (json!({ "conversations": sharegpt(["user", "assistant"]), "system": "" }), &expected),
        (json!({ "conversations": sharegpt(["human", "gpt"]), "system": "s", "tools": "" }), &with_system),
        (
            json!({ "conversations": [{ "from": "system", "value": "s" }, user("a"), assistant("b")] }),
            &with_system,
        ),
        // Alpaca.
        (json!({ "instruction": "a", "input": "", "output": "b" }), &expected),
        (json!({ "instruction": "a", "output": "b", "text": "Below is …" }), &expected),
        (json!({ "instruction": "", "input": "a", "output": "b", "system": "s" }), &with_system),
        // Tables fill with null what a row does not have.
        (json!({ "messages": null, "prompt": "a", "completion": "b", "label": null }), &expected),
        (
            json!({ "messages": [{ "role": "user", "content": "a", "tool_calls": null }, assistant("b")] }),
            &expected,
        ),
        (json!({ "messages": [user("a")], "completion": "b" }), &expected),
        // OpenAI's.
        (json!({ "messages": [say("developer", "s"), user("a"), assistant("b")] }), &with_system),
        (
            json!({ "messages": [{ "role": "user", "content": [{ "type": "text", "text": "a" }] }, assistant("b")] }),
            &expected,
        ),
        // KTO's.
        (json!({ "prompt": "a", "completion": "b", "label": true }), &expected),
        (json!({ "prompt": [user("a")], "completion": [assistant("b")], "label": "True" }), &expected),
        // UltraFeedback's, distilabel's and HH-RLHF's, of which the better one is learned.
        (
            json!({ "prompt": "a", "chosen": expected, "rejected": [user("a"), assistant("c")], "messages": expected }),
            &expected,
        ),
        (
            json!({ "prompt": "a", "system": "s", "chosen": expected, "rejected": [user("a"), assistant("c")] }),
            &with_system,
        ),
        (json!({ "chosen": "Human: a\n\nAssistant: b", "rejected": "Human: a\n\nAssistant: c" }), &expected),
        // An empty system message stays as it is written.
        (
            json!({ "messages": [say("system", ""), user("a"), assistant("b")] }),
            &json!([say("system", ""), user("a"), assistant("b")]),
        ),
    ] {
        assert_eq!(learned(&row), *expected, "{row}");
    }
    let history = json!({ "instruction": "c", "input": "d", "output": "e", "history": [["a", "b"]] });
    assert_eq!(learned(&history), json!([user("a"), assistant("b"), user("c\nd"), assistant("e")]));
    assert_eq!(
        prompt(record(&json!({ "instruction": "a", "input": "b" }))).unwrap().messages,
        [Message::new(Role::User, "a\nb")]
    );
}

#[test]
fn preferences_of_other_programs_are_read() {
    let pair = |better: &Value, worse: &Value| json!([better, worse]);
    let whole = |answer: &str| json!([user("a"), assistant(answer)]);
    let simple = json!({ "messages": [user("a")], "completions": ["b", "c"], "ranks": [1, 2] });
    for row in [
        json!({ "prompt": "a", "chosen": whole("b"), "rejected": whole("c") }),
        json!({ "prompt": "a", "messages": whole("b"), "chosen": whole("b"), "rejected": whole("c") }),
        json!({ "prompt": [user("a")], "chosen": whole("b"), "rejected": whole("c") }),
        json!({ "chosen": "Human: a\n\nAssistant: b", "rejected": "Human: a\n\nAssistant: c" }),
        json!({ "chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": " \nHuman: a\n\n\nAssistant: c" }),
        json!({ "prompt": "\n\nHuman: a\n\nAssistant:", "chosen": "b", "rejected": "c" }),
        json!({ "instruction": "a", "input": "", "chosen": "b", "rejected": "c" }),
        json!({ "conversations": [{ "from": "human", "value": "a" }], "chosen": { "from": "gpt", "value": "b" }, "rejected": { "from": "gpt", "value": "c" } }),
        json!({ "input": { "messages": [user("a")] }, "preferred_output": [assistant("b")], "non_preferred_output": [assistant("c")] }),
    ] {
        assert_eq!(json!(ranked(&row)), simple, "{row}");
    }
    let more = ranked(
        &json!({ "prompt": "a", "prompt_id": 7, "chosen": whole("b"), "rejected": whole("c"), "score_chosen": 8.5 }),
    );
    assert_eq!(json!(more.extra), json!({ "prompt_id": 7, "score_chosen": 8.5 }));
    // A dialogue that was asked for is an answer.
    let asked = json!({ "prompt": "Write a dialogue.", "chosen": "Human: hi\n\nAssistant: ho", "rejected": "Human: no\n\nAssistant: no" });
    let read = ranked(&asked);
    assert_eq!((read.messages.len(), read.completions[0].as_str()), (1, "Human: hi\n\nAssistant: ho"));
    let two = pair(&json!(whole("b")), &json!("c"));
    let half = json!({ "prompt": "a", "chosen": two[0], "rejected": two[1] });
    assert_eq!(fault(ranking(record(&half))).0, "answers to different prompts");
}

#[test]
fn rows_of_the_wrong_kind_are_called_by_name() {
    let ranks = json!({ "messages": [user("a")], "completions": ["b", "c"], "ranks": [1, 2] });
    let pair = json!({ "prompt": "a", "chosen": "b", "rejected": "c" });
    let asked = json!({ "messages": [user("a")] });
    let shown = json!({ "messages": [user("a"), assistant("b")] });
    let sampled = json!({ "prompt": "a", "completions": ["b", "c"] });
    let kto = |label: bool| json!({ "prompt": "a", "completion": "b", "label": label });
    let bad = |kind: &str| (kind.to_owned(), Severity::Bad);
    for row in [&ranks, &pair] {
        assert_eq!(fault(demonstration(record(row))), bad("a ranking, not a demonstration"));
    }
    assert_eq!(fault(demonstration(record(&asked))), bad("a prompt, not a demonstration"));
    assert_eq!(fault(demonstration(record(&sampled))), bad("candidates, not a demonstration"));
    assert_eq!(
        fault(demonstration(record(&json!({ "text": "a", "label": 1 })))),
        bad("a labelled text, not a demonstration")
    );
    assert_eq!(fault(ranking(record(&shown))), bad("a demonstration, not a ranking"));
    assert_eq!(fault(ranking(record(&asked))), bad("a prompt, not a ranking"));
    assert_eq!(fault(ranking(record(&sampled))), bad("candidates, not a ranking"));
    assert_eq!(fault(prompt(record(&shown))), bad("a demonstration, not a prompt"));
    assert_eq!(fault(prompt(record(&json!({ "text": "a" })))), bad("a text, not a prompt"));
    assert_eq!(
        fault(prompt(record(&json!({ "text": "a", "label": 1 })))),
        bad("a labelled text, not a prompt")
    );
    let answers = json!({ "chosen": "b", "rejected": "c" });
    assert_eq!(fault(prompt(record(&answers))), bad("a ranking, not a prompt"));
    assert_eq!(fault(candidates(record(&shown))), bad("a demonstration, not a prompt with candidates"));
    for label in [true, false] {
        assert_eq!(fault(ranking(record(&kto(label)))), bad("a KTO row, not a ranking"));
        assert_eq!(scored(record(&kto(label))).unwrap().completions, ["b"]);
    }
    for label in [json!(false), json!("False"), json!(0)] {
        let row = json!({ "prompt": "a", "completion": "b", "label": label });
        assert_eq!(
            fault(demonstration(record(&row))),
            ("a KTO row with label false".to_owned(), Severity::LeftOut)
        );
    }
    for (row, wanted) in [
        (&asked, "a prompt, not a KTO row"),
        (&shown, "a demonstration, not a KTO row"),
        (&pair, "a ranking, not a KTO row"),
    ] {
        assert_eq!(fault(judged(record(row))), bad(wanted));
    }
    // Another label is no verdict on the answer.
    let row = json!({ "prompt": "a", "completion": "b", "label": 2 });
    assert_eq!(demonstration(record(&row)).unwrap().messages.len(), 2);
}

#[test]
fn answers_are_called_good_or_bad() {
    let said = |row: &Value| judged(record(row)).map(|it| (it.messages.len(), it.completion, it.label));
    for (label, wanted) in
        [(json!(true), true), (json!("False"), false), (json!(1), true), (json!(0.0), false)]
    {
        let row = json!({ "prompt": "a", "completion": "b", "label": label });
        assert_eq!(said(&row).unwrap(), (1, "b".to_owned(), wanted));
    }
    let whole = json!({ "messages": [user("a"), assistant("b"), user("c"), assistant("d")], "label": false });
    assert_eq!(said(&whole).unwrap(), (3, "d".to_owned(), false));
    let lists = json!({ "prompt": [user("a")], "completion": [assistant("b")], "label": true });
    assert_eq!(said(&lists).unwrap(), (1, "b".to_owned(), true));
    for label in [json!(2), json!("good"), json!(null)] {
        let row = json!({ "prompt": "a", "completion": "b", "label": label });
        assert_eq!(fault(judged(record(&row))), ("no label".to_owned(), Severity::Bad), "{label}");
    }
}

/// A conversation in which a tool is asked, in OpenAI's form, with a call whose arguments are these.
fn with_tool(arguments: Value) -> Value {
    let call =
        json!({ "id": "1", "type": "function", "function": { "name": "add", "arguments": arguments } });
    json!({
        "messages": [
            user("2 + 3?"),
            { "role": "assistant", "content": null, "tool_calls": [call] },
            { "role": "tool", "tool_call_id": "1", "content": "5" },
            assistant("It is 5."),
        ],
        "tools": [{ "type": "function", "function": { "name": "add", "parameters": {} } }],
    })
}

#[test]
fn calls_of_tools_are_read_in_every_form() {
    let read = demonstration(record(&with_tool(json!("{\"a\": 2}")))).unwrap();
    assert_eq!(read.messages[1].more["tool_calls"][0]["function"]["arguments"], json!({ "a": 2 }));
    assert_eq!((read.messages[1].content.as_str(), read.messages[2].role), ("", Role::Tool));
    assert_eq!(read.messages[2].more["tool_call_id"], json!("1"));
    assert_eq!(read, demonstration(record(&with_tool(json!({ "a": 2 })))).unwrap());
    let functions = read.tools.clone().unwrap();

    // Before there were tools, and as LLaMA-Factory has them.
    let old = json!({
        "messages": [
            user("2 + 3?"),
            { "role": "assistant", "content": null, "function_call": { "name": "add", "arguments": "{\"a\": 2}" } },
            { "role": "function", "name": "add", "content": "5" },
            assistant("It is 5."),
        ],
        "functions": [{ "name": "add", "parameters": {} }],
    });
    let factory = json!({
        "conversations": [
            { "from": "human", "value": "2 + 3?" },
            { "from": "function_call", "value": "{\"name\": \"add\", \"arguments\": {\"a\": 2}}" },
            { "from": "observation", "value": "5" },
            { "from": "gpt", "value": "It is 5." },
        ],
        "tools": "[{\"name\": \"add\", \"parameters\": {}}]",
    });
    for row in [old, factory] {
        let read = demonstration(record(&row)).unwrap();
        assert_eq!(read.tools.unwrap(), functions);
        let call = json!([{ "type": "function", "function": { "name": "add", "arguments": { "a": 2 } } }]);
        assert_eq!(read.messages[1].more["tool_calls"], call);
        assert_eq!((read.messages[2].role, read.messages[2].content.as_str()), (Role::Tool, "5"));
    }

    // A prompt may end with what a tool returned, and tools stay with it.
    let mut waiting = with_tool(json!({}));
    waiting["messages"].as_array_mut().unwrap().pop();
    let waiting = prompt(record(&waiting)).unwrap();
    assert_eq!(waiting.extra["tools"], functions);
    assert_eq!(prompt(record(&json!(waiting))).unwrap(), waiting, "what is written can be read");
    // A call is no text that could be scored.
    let mut calls = with_tool(json!({}));
    calls["messages"].as_array_mut().unwrap().truncate(2);
    assert_eq!(
        fault(answered(record(&calls))),
        ("an answer that calls a tool".to_owned(), Severity::LeftOut)
    );
}

/// What a model learns to write can be read again as a call: its arguments are a JSON object, or none.
#[test]
fn arguments_are_an_object_or_no_call_is_learned() {
    let arguments = |given: Value| {
        let read = demonstration(record(&with_tool(given)))?;
        Ok::<Value, Fault>(read.messages[1].more["tool_calls"][0]["function"]["arguments"].clone())
    };
    for none in [json!(""), json!(" "), json!(null), json!({}), json!("{}")] {
        assert_eq!(arguments(none.clone()).unwrap(), json!({}), "{none}");
    }
    for bad in [json!("{a"), json!("[1]"), json!([1]), json!(5), json!("\"a\""), json!("{} and more")] {
        let kind = arguments(bad.clone()).unwrap_err().kind;
        assert_eq!(kind, "arguments of a call that are no JSON object", "{bad}");
    }
    let mut row = with_tool(json!({}));
    row["messages"][1]["tool_calls"][0]["function"] = json!({ "name": "add", "parameters": { "a": 2 } });
    let read = demonstration(record(&row)).unwrap();
    let function = json!({ "name": "add", "arguments": { "a": 2 } });
    assert_eq!(read.messages[1].more["tool_calls"][0]["function"], function, "as Llama writes it");
}

#[test]
fn results_are_put_into_the_order_of_their_calls() {
    let mut row = with_tool(json!({}));
    let call = |id: &str| json!({ "id": id, "function": { "name": "add", "arguments": {} } });
    let result = |id: &str| json!({ "role": "tool", "tool_call_id": id, "content": id });
    row["messages"][1]["tool_calls"] = json!([call("a"), call("b")]);
    let messages = row["messages"].as_array_mut().unwrap();
    messages.splice(2..3, [result("b"), result("a")]);
    let read = demonstration(record(&row)).unwrap();
    assert_eq!([2, 3].map(|at| read.messages[at].content.as_str()), ["a", "b"]);
}

#[test]
fn what_is_wrong_with_a_message_is_told() {
    let with = |message: Value| json!({ "messages": [user("a"), message] });
    let calls = |calls: Value| with(json!({ "role": "assistant", "tool_calls": calls }));
    for (row, kind) in [
        (with(json!({ "role": "assistant", "content": null })), "wrong type"),
        (with(json!({ "role": "assistant", "content": 5 })), "wrong type"),
        (
            with(json!({ "role": "assistant", "content": [{ "type": "image_url", "image_url": "x" }] })),
            "content that is not text",
        ),
        (with(json!({ "role": "assistant", "content": "b", "weight": 0.5 })), "wrong type"),
        (with(json!({ "role": "tool", "content": "b" })), "a prompt, not a demonstration"),
        (json!({ "messages": [user("a"), say("tool", "b"), assistant("c")] }), "roles out of order"),
        (
            json!({ "messages": [user("a"), assistant("b"), say("tool", "c"), assistant("d")] }),
            "roles out of order",
        ),
        (calls(json!([])), "empty message"),
        (calls(json!("add")), "wrong type"),
        (calls(json!([{ "function": { "arguments": "{}" } }])), "wrong type"),
        (calls(json!([{ "function": { "name": "", "arguments": "{}" } }])), "wrong type"),
        (
            json!({ "messages": [{ "role": "user", "content": "a", "tool_calls": [{ "name": "add" }] }, assistant("b")] }),
            "wrong type",
        ),
        (json!({ "messages": [user("a"), assistant("b")], "tools": ["add"] }), "wrong type"),
        (json!({ "conversations": [{ "from": "gpt", "value": "a" }] }), "roles out of order"),
        (
            json!({ "conversations": [{ "from": "human", "value": "a" }, { "from": "function_call", "value": "add" }] }),
            "wrong type",
        ),
        (json!({ "messages": [user("a"), assistant("b")], "tools": "{" }), "wrong type"),
        (json!({ "instruction": 1, "output": "b" }), "wrong type"),
        (json!({ "instruction": "a", "output": "" }), "empty message"),
    ] {
        assert_eq!(demonstration(record(&row)).unwrap_err().kind, kind, "{row}");
    }
}

#[test]
fn what_has_no_weight_is_not_learned() {
    let row = json!({ "messages": [user("a"), { "role": "assistant", "content": "b", "weight": 0 }, user("c"), { "role": "assistant", "content": "d", "weight": 1 }] });
    let learned: Vec<bool> =
        demonstration(record(&row)).unwrap().messages.iter().map(Message::is_learned).collect();
    assert_eq!(learned, [false, false, false, true]);
}
