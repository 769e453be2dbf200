//! `mynah eval`: what it prints is what it keeps of every item, and no item shows its own answer.

use std::fs;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::Value;

use super::workshop::{fails, json, keys, mynah, path, road, stderr};

/// Choices between two numbers.
fn questions(from: usize) -> String {
    let line = |i: usize| {
        let (right, label) = (i * 3 % 7, i % 2);
        let answers = if label == 0 { [right, right + 1] } else { [right + 1, right] };
        format!(
            r#"{{"context":"{i} {right}","answers":["{}","{}"],"label":{label}}}"#,
            answers[0], answers[1]
        )
    };
    (from..from + 12).map(|i| line(i) + "\n").collect()
}

fn items(file: &str) -> Vec<Value> {
    let text = fs::read_to_string(file).expect("--out is written");
    text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

#[test]
fn figures_follow_from_the_items_that_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let (task, out) = (path(dir.path(), "sums.jsonl"), path(dir.path(), "items.jsonl"));
    fs::write(&task, questions(10)).unwrap();
    let run = road().path("run");
    let call = ["eval", "--model", &run, "--tasks", &task, "--precision", "f32", "--rule", "sum"];
    let result = json(&[&call[..], &["--shots", "0,1,9", "--out", &out]].concat());
    assert_eq!(keys(&result["tasks"]), ["sums@0", "sums@1", "sums@9"]);
    let items = items(&out);
    assert_eq!(items.len(), 3 * 12);
    for shots in [0, 1, 9] {
        let of: Vec<&Value> = items.iter().filter(|item| item["shots"] == shots).collect();
        let right = of.iter().filter(|item| item["right"] == true).count();
        let figures = &result["tasks"][format!("sums@{shots}")];
        assert_eq!(figures["value"].as_f64(), Some(right as f64 / 12.0));
        assert_eq!(figures["by_rule"]["sum"]["value"], figures["value"]);
        let left_out: u64 = of.iter().filter_map(|item| item["examples_left_out"].as_u64()).sum();
        assert_eq!(figures["examples_left_out"].as_u64().unwrap_or(0), left_out);
        for item in of {
            let values: Vec<f64> =
                item["logprobs"].as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect();
            assert_eq!(item["told"]["sum"], u64::from(values[1] > values[0]));
            let prompt = item["prompt"].as_str().unwrap();
            let (shown, asked) = prompt.rsplit_once("\n\n").unwrap_or(("", prompt));
            assert!(
                !shown.split("\n\n").any(|example| example.starts_with(asked)),
                "an item is its own example: {prompt}"
            );
            let shown = prompt.matches("\n\n").count() as u64;
            assert_eq!(shown + item["examples_left_out"].as_u64().unwrap_or(0), shots as u64);
        }
    }
    // One example fits a context of 32 tokens, nine do not.
    assert_eq!(result["tasks"]["sums@1"]["examples_left_out"], Value::Null);
    assert!(result["tasks"]["sums@9"]["examples_left_out"].as_u64().unwrap() > 0);
}

#[test]
fn examples_come_from_the_file_that_is_named_or_lies_beside() {
    let dir = tempfile::tempdir().unwrap();
    let (task, out) = (path(dir.path(), "sums.jsonl"), path(dir.path(), "items.jsonl"));
    let (beside, other) = (path(dir.path(), "sums.train.jsonl"), path(dir.path(), "other.jsonl"));
    for (file, from) in [(&task, 10), (&beside, 30), (&other, 50)] {
        fs::write(file, questions(from)).unwrap();
    }
    let run = road().path("run");
    let call = ["eval", "--model", &run, "--tasks", &task, "--shots", "1", "--out", &out, "--force"];
    for (named, from) in [(&[][..], 30), (&["--examples", &other][..], 50)] {
        let result = json(&[&call, named].concat());
        assert_eq!(result["tasks"]["sums"]["examples_from"], "items of their own");
        for item in items(&out) {
            let prompt = item["prompt"].as_str().unwrap();
            let (example, _) = prompt.split_once("\n\n").expect("an example fits");
            let number: usize = example.split(' ').next().unwrap().parse().unwrap();
            assert!((from..from + 12).contains(&number), "{prompt}");
        }
    }
}

#[test]
fn a_model_is_no_better_than_itself() {
    let run = road().path("run");
    let call = ["eval", "--model", &run, "--against", &run, "--tasks", "copy", "--limit", "5"];
    let call = [&call[..], &["--max-tokens", "8"]].concat();
    let result = json(&call);
    let against = &result["tasks"]["copy"]["against"];
    assert_eq!(against["difference"]["value"], 0.0);
    assert_eq!(against["difference"]["share_higher"], 0.0);
}

#[test]
fn texts_can_be_packed() {
    let dir = tempfile::tempdir().unwrap();
    let text = "def function(x, y):\n    return x + y\n".repeat(9);
    let (plain, packed) = (path(dir.path(), "plain.txt"), path(dir.path(), "packed.txt.gz"));
    fs::write(&plain, &text).unwrap();
    let mut gz = GzEncoder::new(fs::File::create(&packed).unwrap(), Compression::fast());
    std::io::Write::write_all(&mut gz, text.as_bytes()).unwrap();
    gz.finish().unwrap();
    let run = road().path("run");
    let tasks = format!("{plain},{packed}");
    let result = json(&["eval", "--model", &run, "--tasks", &tasks])["tasks"].clone();
    assert_eq!(result["plain"], result["packed"]);
    assert_eq!(result["plain"]["bytes"], text.len());
}

#[test]
fn what_cannot_be_asked_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let run = road().path("run");
    fails(&["eval", "--model", &run, "--tasks", "no-such-task"], 1, &["no-such-task", "--list"]);
    let task = path(dir.path(), "bad.jsonl");
    fs::write(&task, questions(0) + "{\"question\":\"q\",\"answers\":[\"x\"],\"label\":7}\n").unwrap();
    fails(&["eval", "--model", &run, "--tasks", &task], 1, &["bad.jsonl:13"]);
    let left_out = path(dir.path(), "words.jsonl");
    fs::write(&left_out, "{\"text\":\"two words\"}\n{\"text\":\"one\"}\n").unwrap();
    let assert = mynah(&["eval", "--model", &run, "--tasks", &format!("last-word:{left_out}")]).assert();
    let said = stderr(&assert.success());
    assert!(said.contains("one word") && said.contains("words.jsonl:2"), "{said}");
}
