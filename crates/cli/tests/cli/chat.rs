//! Conversations line by line.

use std::fs;
use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use serde_json::{Value, json};

use super::workshop::{fails, mynah, road, run};

/// A model with a chat template that has learned nothing, so that it never ends an answer by itself.
pub(super) fn model() -> &'static str {
    static MODEL: OnceLock<String> = OnceLock::new();
    MODEL.get_or_init(|| {
        let road = road();
        let (base, chat, data) = (road.path("wide"), road.path("chat"), road.path("demonstrations.jsonl"));
        let (tokens, shape) = (
            road.path("tokens"),
            ["n_layer=4", "n_head=4", "d_model=256", "seq_len=1024", "batch_tokens=1024"],
        );
        let mut words =
            vec!["pretrain", "--data", &tokens, "--preset", "tiny", "--out", &base, "--steps", "1"];
        words.extend(shape.iter().chain(&["eval_windows=1"]).flat_map(|set| ["--set", set]));
        run(&words, 0);
        fs::write(
            &data,
            "{\"prompt\": \"x\", \"completion\": \"y\"}\n{\"prompt\": \"a\", \"completion\": \"b\"}\n",
        )
        .expect("a file");
        run(&["sft", "--model", &base, "--data", &data, "--out", &chat, "--steps", "1", "--lr", "1e-7"], 0);
        chat
    })
}

/// What `mynah chat` prints for these lines, one object an answer.
fn answers(lines: &[&str], options: &[&str]) -> Vec<Value> {
    let arguments = [&["chat", "--model", model(), "--max-tokens", "16", "--json"], options].concat();
    let assert = mynah(&arguments).write_stdin(lines.join("\n")).assert().success();
    let text = String::from_utf8(assert.get_output().stdout.clone()).expect("output is text");
    text.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect()
}

#[test]
fn a_script_talks_line_by_line() {
    let saved = road().path("saved.jsonl");
    let save = format!("/save {saved}");
    let lines =
        ["hello", "/retry", "/system Be brief.", "and then?", &save, "/reset", "hello", &save, "/fly", ""];
    let talk = answers(&lines, &["--temperature", "1"]);
    assert_eq!(talk.len(), 4, "{talk:?}");
    assert_eq!(talk, answers(&lines, &["--temperature", "1"]), "the same seed says the same");
    assert_ne!(talk[0]["tokens"], talk[1]["tokens"], "another answer to the same message");
    for answer in &talk {
        assert_eq!(answer["message"]["role"], "assistant");
        assert!(["stop", "length"].iter().any(|reason| answer["finish_reason"] == *reason), "{answer}");
        assert_eq!(answer["left_out_messages"], 0);
    }

    let saved = fs::read_to_string(&saved).expect("it was saved");
    let saved: Vec<Value> = saved.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let user = |text: &str| json!({ "role": "user", "content": text });
    let system = json!({ "role": "system", "content": "Be brief." });
    let [second, third, fourth] = [1, 2, 3].map(|i: usize| &talk[i]["message"]);
    assert_eq!(saved[0], json!({ "messages": [system, user("hello"), second, user("and then?"), third] }));
    assert_eq!(
        saved[1],
        json!({ "messages": [system, user("hello"), fourth] }),
        "two conversations twice over"
    );
}

#[test]
fn what_does_not_fit_the_context_is_told() {
    let (long, longer) = ("return total ".repeat(200), "return total ".repeat(900));
    let talk = answers(&[&long, &long, &long, &longer, "short"], &[]);
    let left_out: Vec<_> = talk.iter().map(|answer| answer["left_out_messages"].as_u64()).collect();
    assert_eq!(left_out[0], Some(0));
    assert!(left_out[2] > Some(0) && left_out[2].is_some_and(|n| n % 2 == 0), "{left_out:?}");
    assert_eq!(left_out[3], None);
    let error = talk[3]["error"].as_str().expect("an error");
    assert!(error.contains("leaves no room for an answer"), "{error}");
    assert!(left_out[4].is_some(), "the conversation goes on");
}

#[test]
fn a_model_without_a_template_is_told_what_to_do() {
    fails(&["chat", "--model", &road().path("run")], 1, &["no chat template", "mynah sft"]);
}

#[cfg(unix)]
#[test]
fn ctrl_c_stops_an_answer_and_then_the_program() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mynah"));
    command.args(["chat", "--model", model(), "--max-tokens", "500", "--temperature", "0"]);
    let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = pipes.spawn().expect("it starts");
    let id = child.id().to_string();
    let interrupt =
        || assert!(Command::new("kill").args(["-INT", &id]).status().expect("kill runs").success());
    let (mut input, mut output) = (child.stdin.take().expect("a pipe"), child.stdout.take().expect("a pipe"));
    let mut answer = || {
        input.write_all(b"hello\n").expect("it listens");
        output.read_exact(&mut [0]).expect("it answers");
    };
    answer();
    interrupt();
    let mut line = vec![0];
    while line.last() != Some(&b'\n') {
        line.push(0);
        let end = line.len() - 1;
        output.read_exact(&mut line[end..]).expect("it goes on to the end of the line");
    }
    // It waits for a message: nothing can be stopped but the program.
    std::thread::sleep(std::time::Duration::from_millis(200));
    interrupt();
    let result = child.wait_with_output().expect("it ends");
    let told = String::from_utf8_lossy(&result.stderr);
    assert_eq!(result.status.code(), Some(130), "{told}");
    assert!(told.contains("stopped"), "{told}");
}
