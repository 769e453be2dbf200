//! `mynah eval`: what it prints is what it keeps of every item, and no item shows its own answer.

use std::fs;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::Value;

use super::workshop::{fails, json, keys, mynah, path, road, stderr, stdout};

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
    for (shots, of) in [0, 1, 9].into_iter().zip(items.chunks(12)) {
        let right = of.iter().filter(|item| item["right"] == true).count();
        let figures = &result["tasks"][format!("sums@{shots}")];
        assert_eq!(figures["value"].as_f64(), Some(right as f64 / 12.0));
        assert_eq!(figures["by_rule"]["sum"]["value"], figures["value"]);
        let told = |item: &&Value| item["shots"].as_u64().expect("a number");
        assert_eq!(figures["shots"].as_u64(), of.iter().map(|item| told(&item)).min());
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
            assert_eq!(item["shots"], shown, "what was shown is told");
            assert_eq!(shown + item["examples_left_out"].as_u64().unwrap_or(0), shots);
            assert_eq!(item["shots_asked"].as_u64(), (shown < shots).then_some(shots));
        }
    }
    // One example fits a context of 32 tokens, nine do not.
    assert_eq!(result["tasks"]["sums@1"]["examples_left_out"], Value::Null);
    let nine = &result["tasks"]["sums@9"];
    assert!(nine["examples_left_out"].as_u64().unwrap() > 0);
    assert_eq!(
        (&nine["shots_asked"], &nine["shots_because"]),
        (&9.into(), &"the context has no room for more".into())
    );
    assert_eq!(result["tasks"]["sums@1"]["shots_asked"], Value::Null);
}

#[test]
fn no_more_examples_are_told_than_were_shown() {
    let dir = tempfile::tempdir().unwrap();
    let [task, text, out] = ["few.jsonl", "texts.jsonl", "items.jsonl"].map(|name| path(dir.path(), name));
    // Short enough for a context of 32 tokens.
    let few = [["a", "b"], ["c", "d"], ["e", "f"]]
        .map(|[x, y]| format!("{{\"context\":\"{x}\",\"answers\":[\"{x}\",\"{y}\"],\"label\":0}}\n"));
    fs::write(&task, few.concat()).unwrap();
    let long = |i: usize| format!("{{\"text\":\"{}\"}}\n", format!("def f{i}(x): return x\\n").repeat(9));
    fs::write(&text, (0..9).map(long).collect::<String>()).unwrap();
    let run = road().path("run");
    let call = ["eval", "--model", &run, "--tasks", &task, "--shots", "100", "--out", &out];
    let figures = json(&call)["tasks"]["few"].clone();
    let told = |name: &str| figures[name].clone();
    assert_eq!((told("shots"), told("shots_asked"), told("shots_most")), (2.into(), 100.into(), Value::Null));
    assert_eq!(told("shots_because"), "there are no more");
    assert!(items(&out).iter().all(|item| item["shots"] == 2 && item["shots_asked"] == 100));
    let table = stdout(&call);
    assert!(table.contains("2 of 100") && table.contains("there are no more"), "{table}");

    // Texts have several windows, and are asked without examples.
    let call =
        ["eval", "--model", &run, "--tasks", &text, "--shots", "1", "--limit", "4", "--out", &out, "--force"];
    let figures = json(&call)["tasks"]["texts"].clone();
    let told = |name: &str| figures[name].as_u64().unwrap();
    assert_eq!((told("n"), told("shots"), told("shots_asked"), items(&out).len()), (4, 0, 1, 4));
    let windows: u64 = items(&out).iter().map(|item| item["windows"].as_u64().unwrap()).sum();
    assert!(told("windows") == windows && windows > 4);
    let bits = |item: &Value| -item["logprob"].as_f64().unwrap() / std::f64::consts::LN_2;
    let bytes: f64 = items(&out).iter().map(|item| item["bytes"].as_f64().unwrap()).sum();
    let bits: f64 = items(&out).iter().map(bits).sum();
    assert!((figures["value"].as_f64().unwrap() - bits / bytes).abs() < 1e-9);
    fails(&["eval", "--model", &run, "--tasks", &text, "--limit", "0"], 2, &["--limit"]);
}

#[test]
fn columns_may_have_other_names() {
    let dir = tempfile::tempdir().unwrap();
    let task = path(dir.path(), "sums.jsonl");
    fs::write(&task, "{\"query\":\"2 + 2 =\",\"gold\":4}\n").unwrap();
    let run = road().path("run");
    let call = ["eval", "--model", &run, "--tasks", &task, "--max-tokens", "8", "--fields"];
    let result = json(&[&call[..], &["prompt=query,answer=gold"]].concat());
    assert_eq!(result["tasks"]["sums"]["n"], 1);
    fails(&[&call[..], &["prompt=query,answer=good"]].concat(), 1, &["\"good\"", "gold, query"]);
    fails(&[&call[..], &["prompts=query"]].concat(), 2, &["\"prompts\"", "prompt, answer"]);
    fails(&[&call[..], &["query"]].concat(), 2, &["FIELD=COLUMN"]);
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
    for (row, said) in
        [("\"answer\":\"\"", "answer is empty"), ("\"answers\":[\"x\",\"\"]", "answers[1] is empty")]
    {
        fs::write(&task, format!("{{\"prompt\":\"x\",{row}}}\n")).unwrap();
        fails(&["eval", "--model", &run, "--tasks", &task], 1, &[said, "bad.jsonl:1"]);
    }
    fs::write(&task, questions(0) + "{\"question\":\"q\",\"answers\":[\"x\"],\"label\":7}\n").unwrap();
    fails(&["eval", "--model", &run, "--tasks", &task], 1, &["bad.jsonl:13"]);
    let left_out = path(dir.path(), "words.jsonl");
    fs::write(&left_out, "{\"text\":\"two words\"}\n{\"text\":\"one\"}\n").unwrap();
    let assert = mynah(&["eval", "--model", &run, "--tasks", &format!("last-word:{left_out}")]).assert();
    let said = stderr(&assert.success());
    assert!(said.contains("one word") && said.contains("words.jsonl:2"), "{said}");
}
