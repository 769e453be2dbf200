//! Demonstrations as batches.

use std::fs;
use std::ops::Range;

use kernels::NO_TARGET;
use serde_json::json;

use crate::data::messages::{Message, Role};
use crate::data::rows::{LineReport, Severity};
use crate::data::{Batch, Columns, Conversations, ReadOptions, Sequence, TooLong};
use crate::progress::Silent;
use crate::tokenizer::Tokenizer;
use crate::tokenizer::chat::{ChatTemplate, Encoded, with_ours};

fn chat() -> (Tokenizer, ChatTemplate) {
    let documents = ["what is it? it is a ship. and then? a lighthouse.\n".to_owned()];
    let base = Tokenizer::train(documents.into_iter().map(Ok), 280, &[], &Silent).unwrap();
    let tokenizer = with_ours(&base).unwrap();
    let template = ChatTemplate::of(&tokenizer).unwrap().unwrap();
    (tokenizer, template)
}

/// The same with another template.
fn with_template(source: &str) -> (Tokenizer, ChatTemplate) {
    let tokenizer = chat().0;
    let mut config: serde_json::Value = serde_json::from_str(tokenizer.config_json()).unwrap();
    config["chat_template"] = source.into();
    let tokenizer = Tokenizer::from_texts(tokenizer.to_json().to_owned(), config.to_string()).unwrap();
    let template = ChatTemplate::of(&tokenizer).unwrap().unwrap();
    (tokenizer, template)
}

fn read(lines: &str, context: usize, too_long: TooLong) -> anyhow::Result<(Conversations, LineReport)> {
    read_by(&chat(), lines, context, too_long)
}

fn read_by(
    (tokenizer, template): &(Tokenizer, ChatTemplate),
    lines: &str,
    context: usize,
    too_long: TooLong,
) -> anyhow::Result<(Conversations, LineReport)> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("demonstrations.jsonl");
    fs::write(&path, lines).unwrap();
    let columns = Columns::default();
    let options =
        ReadOptions { template, tokenizer, context, too_long, max_bad: 0.5, columns: &columns, seed: 7 };
    Conversations::read(&path, &options, &Silent)
}

fn lines(n: usize) -> String {
    let line =
        |i| json!({ "prompt": "what is it?", "completion": "a ship ".repeat(i % 5 + 1) }).to_string() + "\n";
    (0..n).map(line).collect()
}

#[test]
fn only_answers_and_their_ends_are_predicted() {
    let (tokenizer, template) = chat();
    let turns = [
        (Role::System, "it is"),
        (Role::User, "what is it?"),
        (Role::Assistant, "a ship"),
        (Role::User, "and then?"),
        (Role::Assistant, "a lighthouse"),
    ];
    let encoded = template.encode(&tokenizer, &turns.map(|(role, text)| Message::new(role, text))).unwrap();
    let sequence = Sequence::new(&encoded, 1000, TooLong::Error).unwrap();
    let predicted: Vec<u32> =
        sequence.targets.iter().copied().filter(|&target| target != NO_TARGET).collect();
    assert_eq!(tokenizer.decode(&predicted).unwrap(), "a ship<|im_end|>a lighthouse<|im_end|>");
    for (i, &target) in sequence.targets.iter().enumerate() {
        assert!(target == NO_TARGET || target == encoded.tokens[i + 1], "row {i}");
    }
    let read = tokenizer.decode(&sequence.tokens).unwrap();
    assert!(read.ends_with("assistant\na lighthouse"), "nothing is read after the last prediction: {read}");
}

#[test]
fn long_conversations_are_handled_by_policy_and_counted() {
    let (one, _) = read(&lines(1), 1000, TooLong::Error).unwrap();
    let (all, report) = read(&lines(10), 1000, TooLong::Error).unwrap();
    assert_eq!((all.per_epoch(), report.used, all.cut()), (10, 10, (0, 0)));
    let context = one.tokens() as usize;

    let (kept, report) = read(&lines(10), context, TooLong::Drop).unwrap();
    let faults = &report.faults["longer than the context"];
    assert_eq!((kept.per_epoch(), faults.count, faults.severity), (2, 8, Severity::LeftOut));
    assert_eq!(faults.examples[0].line, 2);

    let (kept, report) = read(&lines(10), context, TooLong::TruncateLeft).unwrap();
    assert_eq!((kept.per_epoch(), report.used, kept.cut().0), (10, 10, 8));
    assert_eq!(kept.tokens() + kept.cut().1, all.tokens());
    let mut batch = Batch::default();
    kept.push(4, &mut batch);
    assert_eq!(batch.lens, [context]);
    let mut whole = Batch::default();
    all.push(4, &mut whole);
    assert!(whole.tokens.ends_with(&batch.tokens) && whole.targets.ends_with(&batch.targets));

    let error = read(&lines(10), context, TooLong::Error).unwrap_err().to_string();
    assert!(error.contains("demonstrations.jsonl:2: longer than the context"), "{error}");
}

#[test]
fn conversations_without_anything_to_predict_contribute_nothing() {
    let encoded = |answers: &[Range<usize>]| Encoded { tokens: vec![1, 2, 3, 4], answers: answers.to_vec() };
    for answers in [None, Some(0..1), Some(2..2)] {
        let fault = Sequence::new(&encoded(answers.as_slice()), 10, TooLong::Error).unwrap_err();
        assert_eq!((fault.kind.as_str(), fault.severity), ("no answer to learn from", Severity::LeftOut));
    }
    let sequence = Sequence::new(&encoded(&[0..1, 2..3]), 10, TooLong::Error).unwrap();
    assert_eq!((sequence.tokens, sequence.targets), (vec![1, 2], vec![NO_TARGET, 3]));
}

#[test]
fn an_epoch_visits_every_conversation_once_in_an_order_of_its_own() {
    let rows: Vec<Sequence> = (0..50)
        .map(|i| Sequence {
            tokens: vec![i; 1 + i as usize % 3],
            targets: vec![i; 1 + i as usize % 3],
            cut_tokens: 0,
        })
        .collect();
    let data = Conversations::new(&rows, 3);
    let visits = |data: &Conversations, batch_size, steps| {
        let mut seen = Vec::new();
        let mut batch = Batch::default();
        for step in 1..=steps {
            data.batch(step, batch_size, &mut batch);
            let mut at = 0;
            for len in &batch.lens {
                seen.push(batch.tokens[at]);
                at += len;
            }
        }
        seen
    };
    assert_eq!((data.epochs().steps(2, 5), data.epochs().steps(2, 7)), (20, 15));
    let seen = visits(&data, 5, 20);
    assert_eq!(visits(&data, 4, 25), seen, "the order does not depend on the batch size");
    let (first, second) = seen.split_at(50);
    for epoch in [first, second] {
        let mut sorted = epoch.to_vec();
        sorted.sort_unstable();
        assert!(sorted.iter().copied().eq(0..50));
    }
    assert_ne!(first, second);
    assert_ne!(visits(&Conversations::new(&rows, 4), 5, 20), seen);
    assert_eq!(Conversations::new(&rows, 4).digest(), data.digest());
    assert_ne!(Conversations::new(&rows[1..], 3).digest(), data.digest());
}

#[test]
fn parts_join_to_the_batch() {
    let batch = Batch { tokens: (0..12).collect(), targets: (1..13).collect(), lens: vec![2, 5, 1, 1, 3] };
    for cuts in [&[0, 1, 2, 3, 4, 5][..], &[0, 2, 5], &[0, 5]] {
        let parts: Vec<_> = cuts.windows(2).map(|cut| batch.part(cut[0]..cut[1])).collect();
        assert!(parts.iter().flat_map(|part| part.lens).eq(&batch.lens));
        assert!(parts.iter().flat_map(|part| part.tokens).eq(&batch.tokens));
        assert!(parts.iter().flat_map(|part| part.targets).eq(&batch.targets));
        assert!(parts.iter().all(|part| batch.tokens[part.first_row] == part.tokens[0]));
    }
    assert!(batch.part(2..2).tokens.is_empty());
}

/// What is learned of the conversations of a file, as text.
fn learned(data: &Conversations, tokenizer: &Tokenizer) -> Vec<String> {
    let learned = |number| {
        let mut batch = Batch::default();
        data.push(number, &mut batch);
        let targets: Vec<u32> = batch.targets.into_iter().filter(|&target| target != NO_TARGET).collect();
        tokenizer.decode(&targets).unwrap()
    };
    (0..data.per_epoch()).map(learned).collect()
}

/// Rows of OpenAI's fine-tuning: a weight, a call of a tool, a description of one.
fn fine_tuning() -> String {
    let user = |content: &str| json!({ "role": "user", "content": content });
    let call =
        json!({ "id": "1", "type": "function", "function": { "name": "add", "arguments": "{\"a\": 2}" } });
    let rows = [
        json!({ "messages": [user("a"), { "role": "assistant", "content": "b", "weight": 0 }, user("c"), { "role": "assistant", "content": "d", "weight": 1 }] }),
        json!({ "messages": [user("a"), { "role": "assistant", "content": "b", "weight": 0 }] }),
        json!({
            "messages": [
                user("2 + 3?"),
                { "role": "assistant", "content": null, "tool_calls": [call] },
                { "role": "tool", "tool_call_id": "1", "content": "five" },
                { "role": "assistant", "content": "5." },
            ],
            "tools": [{ "type": "function", "function": { "name": "add", "parameters": {} } }],
        }),
        json!({ "messages": [user("a"), { "role": "assistant", "content": "b" }], "functions": [{ "name": "add", "parameters": {} }] }),
    ];
    rows.iter().map(|row| format!("{row}\n")).collect()
}

#[test]
fn what_the_template_has_no_place_for_is_told() {
    let plain = with_template(WITHOUT_TOOLS);
    let (data, report) = read_by(&plain, &fine_tuning(), 1000, TooLong::Error).unwrap();
    assert_eq!(learned(&data, &plain.0), ["d<|im_end|>", "b<|im_end|>"]);
    let left_out = |kind: &str| (report.faults[kind].examples[0].line, report.faults[kind].severity);
    assert_eq!(left_out("no answer to learn from"), (2, Severity::LeftOut));
    assert_eq!(left_out("calls of tools, for which the chat template has no place"), (3, Severity::LeftOut));
    assert_eq!((report.used, data.untold_tools()), (2, 1));
}

/// A template that writes neither tools nor calls.
const WITHOUT_TOOLS: &str = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}\
    {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

/// A template that writes tools, calls and what was returned, as those of Hermes and Qwen do.
const WITH_TOOLS: &str = "{% if tools %}<|im_start|>system\n{{ tools | tojson }}<|im_end|>\n{% endif %}\
    {% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.content is not none %}{{ m.content }}{% endif %}\
    {% for call in m.tool_calls %}<tool_call>{{ call.function | tojson }}</tool_call>{% endfor %}<|im_end|>\n\
    {% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

#[test]
fn calls_are_learned_and_what_a_tool_returned_is_not() {
    let with_tools = with_template(WITH_TOOLS);
    let (data, report) = read_by(&with_tools, &fine_tuning(), 1000, TooLong::Error).unwrap();
    let tokenizer = with_tools.0;
    let called =
        "<tool_call>{\"name\": \"add\", \"arguments\": {\"a\": 2}}</tool_call><|im_end|>5.<|im_end|>";
    assert_eq!(learned(&data, &tokenizer), ["d<|im_end|>", called, "b<|im_end|>"]);
    assert_eq!((report.left_out(), data.untold_tools()), (1, 0));
    let mut batch = Batch::default();
    data.push(1, &mut batch);
    let text = tokenizer.decode(&batch.tokens).unwrap();
    assert!(
        text.starts_with("<|im_start|>system\n[{\"type\": \"function\"") && text.contains("tool\nfive"),
        "{text}"
    );
}
