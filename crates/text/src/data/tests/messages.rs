//! Conversations in all forms, good and bad.

use serde_json::{Value, json};

use crate::data::messages::{Message, Role, candidates, demonstration, prompt, ranking};
use crate::data::rows::{Fault, Severity};

fn record(value: Value) -> serde_json::Map<String, Value> {
    value.as_object().unwrap().clone()
}

fn user(content: &str) -> Value {
    json!({ "role": "user", "content": content })
}

fn assistant(content: &str) -> Value {
    json!({ "role": "assistant", "content": content })
}

fn system(content: &str) -> Value {
    json!({ "role": "system", "content": content })
}

fn written(messages: &[Message]) -> Value {
    serde_json::to_value(messages).unwrap()
}

/// The messages of a demonstration.
fn learned(value: Value) -> Value {
    written(&demonstration(record(value)).unwrap().messages)
}

#[test]
fn demonstrations_have_two_forms() {
    let turns = json!([system("s"), user("a"), assistant("b"), user("c"), assistant("d")]);
    assert_eq!(learned(json!({ "messages": turns, "topic": 1 })), turns);
    let short = json!([user("a"), assistant("b")]);
    for form in [
        json!({ "prompt": "a", "completion": "b" }),
        json!({ "prompt": [user("a")], "completion": [assistant("b")] }),
        json!({ "prompt": [user("a")], "completion": "b" }),
    ] {
        assert_eq!(learned(form), short);
    }
}

#[test]
fn bad_conversations_are_told_apart() {
    let kind = |value: Value| match demonstration(record(value)).unwrap_err() {
        Fault { kind, severity: Severity::Bad, .. } => kind,
        other => panic!("{other:?}"),
    };
    for (value, expected) in [
        (json!({ "texts": "a" }), "missing field"),
        (json!({ "text": "a" }), "a text, not a demonstration"),
        (json!({ "prompt": "a" }), "a prompt, not a demonstration"),
        (json!({ "messages": [] }), "no messages"),
        (json!({ "messages": "a" }), "wrong type"),
        (json!({ "messages": [1] }), "wrong type"),
        (json!({ "messages": [{ "role": "user" }] }), "wrong type"),
        (json!({ "messages": [{ "role": "user", "content": null }] }), "wrong type"),
        (json!({ "messages": [{ "role": 3, "content": "a" }] }), "wrong type"),
        (json!({ "messages": [{ "role": "parrot", "content": "a" }] }), "unknown role"),
        (json!({ "messages": [{ "role": "tool", "content": "a" }, assistant("b")] }), "roles out of order"),
        (json!({ "messages": [user("a")] }), "a prompt, not a demonstration"),
        (json!({ "messages": [assistant("a")] }), "roles out of order"),
        (json!({ "messages": [user("a"), user("b"), assistant("c")] }), "roles out of order"),
        (json!({ "messages": [user("a"), assistant("b"), assistant("c")] }), "roles out of order"),
        (json!({ "messages": [user("a"), system("s"), assistant("c")] }), "roles out of order"),
        (json!({ "messages": [system("s"), system("t"), user("a"), assistant("c")] }), "roles out of order"),
        (json!({ "messages": [system("s")] }), "roles out of order"),
        (json!({ "messages": [user(" \n"), assistant("c")] }), "empty message"),
        (json!({ "prompt": "a", "completion": "" }), "empty message"),
        (json!({ "prompt": 1, "completion": "a" }), "wrong type"),
    ] {
        assert_eq!(kind(value.clone()), expected, "{value}");
    }
}

#[test]
fn prompts_and_candidates_keep_further_fields() {
    let line = json!({ "prompt": "2 + 2?", "answer": 4, "nested": { "b": 1, "a": 2 } });
    let read = prompt(record(line)).unwrap();
    let expected = json!({ "messages": [user("2 + 2?")], "answer": 4, "nested": { "b": 1, "a": 2 } });
    assert_eq!(serde_json::to_string(&read).unwrap(), expected.to_string());
    assert_eq!(prompt(record(expected)).unwrap(), read, "what is written can be read");
    assert_eq!(prompt(record(json!({ "prompt": "" }))).unwrap_err().kind, "empty message");
    let answered = json!({ "messages": [user("a"), assistant("b")] });
    assert_eq!(prompt(record(answered)).unwrap_err().kind, "a demonstration, not a prompt");

    let line = json!({ "messages": [user("a")], "completions": ["b", ""], "id": "x" });
    let read = candidates(record(line.clone())).unwrap();
    assert_eq!(serde_json::to_string(&read).unwrap(), line.to_string());
    for completions in [json!([]), json!("b"), json!([1]), Value::Null] {
        assert!(candidates(record(json!({ "messages": [user("a")], "completions": completions }))).is_err());
    }
}

#[test]
fn rankings_have_five_forms() {
    let short = json!({ "messages": [user("a")], "completions": ["good", "bad"], "ranks": [1, 2] });
    for form in [
        short.clone(),
        json!({ "prompt": "a", "chosen": "good", "rejected": "bad" }),
        json!({ "prompt": [user("a")], "chosen": [assistant("good")], "rejected": [assistant("bad")] }),
        json!({ "chosen": [user("a"), assistant("good")], "rejected": [user("a"), assistant("bad")] }),
        json!({ "chosen": "\n\nHuman: a\n\nAssistant: good", "rejected": "\n\nHuman: a\n\nAssistant: bad" }),
    ] {
        assert_eq!(serde_json::to_value(ranking(record(form)).unwrap()).unwrap(), short);
    }
    let long = |end: &str| format!("\n\nHuman: a\n\nb: c\n\nAssistant: d\n\nHuman: e\n\nAssistant: {end}");
    let read = ranking(record(json!({ "chosen": long("f\n\ng"), "rejected": long("") }))).unwrap();
    let asked = [(Role::User, "a\n\nb: c"), (Role::Assistant, "d"), (Role::User, "e")];
    assert_eq!(read.messages, asked.map(|(role, content)| Message::new(role, content)));
    assert_eq!(read.completions, ["f\n\ng", ""]);
}

#[test]
fn a_margin_is_a_number_that_tables_write_as_text() {
    for (margin, read) in [(json!(0.5), 0.5), (json!(" 2 "), 2.0), (json!(0), 0.0), (json!(null), 0.0)] {
        let row = json!({ "prompt": "p", "chosen": "a", "rejected": "b", "margin": margin });
        assert_eq!(ranking(record(row)).unwrap().margin(), read);
    }
}

#[test]
fn all_pairs_of_a_ranking_but_ties() {
    let line = json!({ "prompt": "p", "completions": ["a", "b", "c", "d", "a"], "ranks": [1, 3, 2, 2, 3] });
    let pairs = ranking(record(line)).unwrap().pairs();
    // Not (0, 4): the same text.
    assert_eq!(pairs, [(0, 1), (0, 2), (0, 3), (2, 1), (2, 4), (3, 1), (3, 4)]);
}

#[test]
fn rankings_without_a_pair_are_left_out_and_bad_ones_bad() {
    let with = |completions: Value, ranks: Value| json!({ "prompt": "p", "completions": completions, "ranks": ranks });
    for (value, kind, severity) in [
        (with(json!(["a"]), json!([1])), "one answer, no pair", Severity::LeftOut),
        (with(json!(["a", "b"]), json!([2, 2])), "equal answers, no pair", Severity::LeftOut),
        (
            json!({ "prompt": "p", "chosen": "a", "rejected": "a" }),
            "equal answers, no pair",
            Severity::LeftOut,
        ),
        (with(json!(["a", "b"]), json!([1])), "ranks do not fit the answers", Severity::Bad),
        (with(json!(["a", "b"]), json!([0, 1])), "wrong type", Severity::Bad),
        (with(json!(["a", "b"]), json!([1.5, 1])), "wrong type", Severity::Bad),
        (with(json!(["a", "b"]), json!("ab")), "wrong type", Severity::Bad),
        (with(json!([]), json!([])), "no answers", Severity::Bad),
        (json!({ "prompt": "p", "completions": ["a", "b"] }), "candidates, not a ranking", Severity::Bad),
        (json!({ "prompt": "p", "chosen": "a" }), "missing field", Severity::Bad),
        (json!({ "chosen": "a", "rejected": "b" }), "missing field", Severity::Bad),
        (json!({ "chosen": [], "rejected": [] }), "no messages", Severity::Bad),
        (
            json!({ "chosen": [user("a"), assistant("b")], "rejected": [user("c"), assistant("b")] }),
            "answers to different prompts",
            Severity::Bad,
        ),
        (json!({ "chosen": [user("a")], "rejected": [user("b")] }), "no messages", Severity::Bad),
        (
            json!({ "prompt": "p", "chosen": [assistant("a"), user("b")], "rejected": "c" }),
            "roles out of order",
            Severity::Bad,
        ),
        (json!({ "prompt": " ", "chosen": "a", "rejected": "b" }), "empty message", Severity::Bad),
        (
            json!({ "prompt": "p", "chosen": "a", "rejected": "b", "margin": -0.5 }),
            "wrong margin",
            Severity::Bad,
        ),
        (
            json!({ "prompt": "p", "chosen": "a", "rejected": "b", "margin": "wide" }),
            "wrong margin",
            Severity::Bad,
        ),
    ] {
        let fault = ranking(record(value.clone())).unwrap_err();
        assert_eq!((fault.kind.as_str(), fault.severity), (kind, severity), "{value}");
    }
}
