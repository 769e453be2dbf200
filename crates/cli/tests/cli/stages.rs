//! What goes wrong in the files and models of the stages after pretraining: counted, named by line, and
//! nothing lost.

use std::fs;
use std::path::Path;

use serde_json::{Value, json as object};
use tempfile::TempDir;

use super::workshop::{chat_road, fails, path, road, run, stderr, stdout};

struct Place {
    dir: TempDir,
}

impl Place {
    fn new() -> Self {
        Place { dir: tempfile::tempdir().expect("a directory") }
    }

    fn path(&self, name: &str) -> String {
        path(self.dir.path(), name)
    }

    /// A file of these lines.
    fn file(&self, name: &str, lines: &[String]) -> String {
        fs::write(self.dir.path().join(name), lines.join("\n") + "\n").expect("a file");
        self.path(name)
    }
}

/// A directory or file of the road to a chat.
fn at(name: &str) -> String {
    path(chat_road().0.path(), &format!("road/{name}"))
}

fn lines(name: &str) -> Vec<String> {
    fs::read_to_string(at(name)).expect("a file").lines().map(String::from).collect()
}

/// Bad lines among many good ones are left out, and each kind is counted and named; too many refuse the file.
#[test]
fn bad_demonstrations_are_counted_and_named() {
    let place = Place::new();
    let bad = [
        "{\"messages\": [{\"role\": \"user\"".to_string(),
        object!({ "messages": [{ "role": "robot", "content": "x" }] }).to_string(),
        object!({ "messages": [{ "role": "assistant", "content": "x" }] }).to_string(),
        object!({ "messages": [] }).to_string(),
        object!({ "prompt": "x", "completion": "" }).to_string(),
        object!({ "text": "x" }).to_string(),
    ];
    let mixed = place.file("mixed.jsonl", &[lines("lessons/demonstrations.jsonl"), bad.to_vec()].concat());
    let (base, out) = (at("pretrain"), place.path("out"));
    let words = ["sft", "--model", &base, "--data", &mixed, "--out", &out, "--steps", "1"];
    let told = stderr(&run(&words, 0));
    for part in [
        "mixed.jsonl:601",
        "robot",
        "mixed.jsonl:602",
        "mixed.jsonl:603",
        "no messages",
        "empty message",
        "a text, not a demonstration",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    fails(
        &["sft", "--model", &base, "--data", &mixed, "--out", &place.path("strict"), "--max-bad", "0.001"],
        1,
        &["6 of 606 lines are bad", "at most 0.1 %"],
    );
    let hopeless = place.file("hopeless.jsonl", &bad);
    fails(&["sft", "--model", &base, "--data", &hopeless, "--out", &place.path("o")], 1, &["6 of 6 lines"]);
}

#[test]
fn rankings_that_rank_nothing() {
    let place = Place::new();
    let good = lines("rankings.jsonl");
    let asked = object!([{ "role": "user", "content": "x" }]);
    let ranking = |answers: &[&str], ranks: Value| {
        object!({ "messages": asked, "completions": answers, "ranks": ranks }).to_string()
    };
    let odd = [
        ranking(&["only"], object!([1])),
        ranking(&["a", "b"], object!([1, 1])),
        ranking(&["a", "b"], object!([1])),
        ranking(&["a", "b"], object!([1, "second"])),
        object!({ "chosen": "x" }).to_string(),
    ];
    let file = place.file("rankings.jsonl", &[&good[..], &odd].concat());
    let words = ["--model", &at("sft"), "--rankings", &file, "--steps", "1"];
    for stage in ["reward", "dpo"] {
        let out = place.path(stage);
        let told = stderr(&run(&[&[stage, "--out", &out, "--max-bad", "0.02"], &words[..]].concat(), 0));
        for part in ["one answer, no pair", "equal answers, no pair", "1 ranks for 2 answers", "second"] {
            assert!(told.contains(part), "{part}: {told}");
        }
    }
    let equal = place.file("equal.jsonl", &odd[..2]);
    let out = place.path("none");
    fails(
        &["reward", "--model", &at("sft"), "--rankings", &equal, "--out", &out],
        1,
        &["there is nothing to use", "equal answers, no pair"],
    );
    assert!(!Path::new(&out).join("checkpoints").exists());
}

/// Prompts that say nothing, or leave no room for an answer, are left out and told.
#[test]
fn prompts_that_cannot_be_answered() {
    let place = Place::new();
    let long = "how many words ".repeat(400);
    let odd = [
        object!({ "prompt": "" }).to_string(),
        object!({ "prompt": long }).to_string(),
        object!({ "messages": [{ "role": "assistant", "content": "x" }] }).to_string(),
    ];
    let file = place.file("prompts.jsonl", &[lines("lessons/prompts.jsonl"), odd.to_vec()].concat());
    let (sft, reward) = (at("sft"), at("reward"));
    let ppo = |prompts: &str, out: &str, further: &[&str]| -> Vec<String> {
        let sets = ["batch_size=8", "max_tokens=8", "eval_prompts=4"].iter().flat_map(|set| ["--set", set]);
        let words = ["ppo", "--model", &sft, "--reward", &reward, "--prompts", prompts, "--out", out];
        let words = words.into_iter().chain(["--steps", "1"]).chain(sets).chain(further.iter().copied());
        words.map(String::from).collect()
    };
    let strings = |words: &[String]| -> Vec<&'static str> {
        words.iter().map(|word| &*Box::leak(word.clone().into_boxed_str())).collect()
    };
    let told = stderr(&run(&strings(&ppo(&file, &place.path("ppo"), &["--max-bad", "0.02"])), 0));
    for part in [
        "empty message",
        "prompts.jsonl:301",
        "a demonstration, not a prompt",
        "1 of 267 prompts have more than",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    let only_long = place.file("long.jsonl", &vec![odd[1].clone(); 30]);
    fails(&strings(&ppo(&only_long, &place.path("long"), &[])), 1, &["prompt"]);
    fails(
        &strings(&ppo(&file, &place.path("wide"), &["--max-bad", "0.02", "--set", "max_tokens=4000"])),
        1,
        &["max_tokens 4000 leaves no room"],
    );
    let candidates = ["candidates", "--model", &sft, "--prompts", &file, "--k", "2", "--max-tokens", "4"];
    let out = place.path("candidates.jsonl");
    let told = stderr(&run(&[&candidates[..], &["--out", &out, "--max-bad", "0.02"]].concat(), 0));
    assert!(told.contains("no room"), "{told}");
    assert_eq!(fs::read_to_string(&out).expect("candidates").lines().count(), 300);

    // No prompt has room: nothing is written.
    let out = place.path("none.jsonl");
    let none = ["candidates", "--model", &sft, "--k", "2", "--out", &out, "--prompts"];
    fails(
        &[&none[..], &[&file, "--max-bad", "0.02", "--max-tokens", "4000"]].concat(),
        1,
        &["max_tokens 4000 leaves no room for a prompt in the model's context of"],
    );
    fails(
        &[&none[..], &[&only_long]].concat(),
        1,
        &["none of the 30 prompts leaves room for an answer of 64 tokens"],
    );
    assert!(!Path::new(&out).exists());
    // A single prompt cannot be both learned from and held out.
    let single = place.file("single.jsonl", &[object!({ "prompt": "What is 2 plus 3?" }).to_string()]);
    fails(&strings(&ppo(&single, &place.path("single"), &[])), 1, &["single.jsonl", "1 prompt,", "--val"]);
}

/// Rows of other programs, under their own names and others, and rows of the wrong kind.
#[test]
fn rows_of_other_programs() {
    let place = Place::new();
    let [base, sft, reward] = ["pretrain", "sft", "reward"].map(at);
    let rows = |row: &dyn Fn(usize) -> Value| (0..40).map(|i| row(i).to_string()).collect::<Vec<_>>();
    let said = |i: usize| (format!("what is {i}?"), format!("it is {i}"));
    let whole = |i: usize, answer: &str| object!([{ "role": "user", "content": said(i).0 }, { "role": "assistant", "content": answer }]);
    let kto = place.file(
        "kto.jsonl",
        &rows(&|i| object!({ "prompt": said(i).0, "completion": said(i).1, "label": i % 2 == 0 })),
    );
    let other = place.file("other.jsonl", &rows(&|i| object!({ "question": said(i).0, "reply": said(i).1 })));
    let pairs = place.file(
        "pairs.jsonl",
        &rows(
            &|i| object!({ "prompt": said(i).0, "chosen": whole(i, &said(i).1), "rejected": whole(i, "no") }),
        ),
    );
    let texts = place.file(
        "texts.jsonl",
        &rows(&|i| object!({ "prompt": said(i).0, "chosen": said(i).1, "rejected": "no" })),
    );
    let taught = |name: &str, data: &str, further: &[&str]| {
        let out = place.path(name);
        let words = ["sft", "--model", &base, "--data", data, "--out", &out, "--steps", "1", "--json"];
        let assert = run(&[&words[..], further].concat(), 0);
        let summary: Value = serde_json::from_slice(&assert.get_output().stdout).expect("JSON");
        let shown = ["demonstrations", "held_out"].map(|name| summary[name].as_u64().expect("a number"));
        (shown[0] + shown[1], stderr(&assert))
    };
    let (shown, told) = taught("kto", &kto, &[]);
    assert!(shown == 20 && told.contains("left out: a KTO row with label false, 20"), "{told}");
    assert_eq!(taught("other", &other, &["--fields", "prompt=question,completion=reply"]).0, 40);
    assert_eq!(taught("pairs", &pairs, &[]).0, 40);

    let out = place.path("out");
    let sft_on = |data: &str, further: &[&str], parts: &[&str]| {
        fails(&[&["sft", "--model", &base, "--data", data, "--out", &out], further].concat(), 1, parts);
    };
    sft_on(&texts, &[], &["a ranking, not a demonstration", "mynah reward", "mynah dpo"]);
    sft_on(&at("rankings.jsonl"), &[], &["a ranking, not a demonstration"]);
    sft_on(&at("lessons/prompts.jsonl"), &[], &["a prompt, not a demonstration"]);
    sft_on(&other, &["--fields", "prompt=question,completion=answer"], &["\"answer\"", "question, reply"]);
    for stage in ["reward", "dpo"] {
        let on = |data: &str, parts: &[&str]| {
            fails(&[stage, "--model", &sft, "--rankings", data, "--out", &out], 1, parts);
        };
        on(&kto, &["a KTO row, not a ranking"]);
        on(&at("lessons/demonstrations.jsonl"), &["a demonstration, not a ranking", "mynah sft"]);
        let to = place.path(stage);
        for (data, fields) in [(&pairs, None), (&other, Some("prompt=question,chosen=reply"))] {
            let words = [stage, "--model", &sft, "--rankings", data, "--out", &to, "--steps", "1"];
            match fields {
                None => drop(run(&words, 0)),
                Some(fields) => fails(&[&words[..], &["--fields", fields]].concat(), 1, &["only one"]),
            }
        }
    }
    let judge = |data: &str| ["kto", "--model", &sft, "--data", data, "--steps", "1"].map(String::from);
    let judged = |data: &str, parts: &[&str]| {
        let words = judge(data);
        fails(&[&words.each_ref().map(String::as_str)[..], &["--out", &out]].concat(), 1, parts);
    };
    judged(&texts, &["a ranking, not a KTO row"]);
    judged(&other, &["40 of 40 lines"]);
    judged(&at("lessons/demonstrations.jsonl"), &["a demonstration, not a KTO row", "mynah sft"]);
    let (words, to) = (judge(&kto), place.path("judged"));
    let words = [&words.each_ref().map(String::as_str)[..], &["--out", &to, "--json"]].concat();
    let summary: Value = serde_json::from_slice(&run(&words, 0).get_output().stdout).expect("JSON");
    assert!(summary["val_loss"].is_number() && summary["step"] == 1, "{summary}");
    let demonstrations = at("lessons/demonstrations.jsonl");
    let ppo = ["ppo", "--model", &sft, "--reward", &reward, "--prompts", &demonstrations, "--out", &out];
    fails(&ppo, 1, &["a demonstration, not a prompt"]);
}

/// Models that are not what a stage needs.
#[test]
fn models_that_do_not_fit_together() {
    let place = Place::new();
    let [sft, reward, prompts] = ["sft", "reward", "lessons/prompts.jsonl"].map(at);
    let out = place.path("out");
    let ppo = |policy: &str, judge: &str, parts: &[&str]| {
        let words = ["ppo", "--model", policy, "--reward", judge, "--prompts", &prompts, "--out", &out];
        fails(&words, 1, parts);
    };
    ppo(&sft, &sft, &["is no reward model", "mynah reward"]);
    ppo(&reward, &reward, &["the policy must be a language model"]);
    ppo(&road().path("run"), &reward, &["has not learned to answer"]);
    fails(&["score", "--model", &sft, "--data", &at("candidates.jsonl")], 1, &["is no reward model"]);
    fails(&["chat", "--model", &reward], 1, &["scores texts and writes none"]);
    // Few of them: as texts, what was sampled up to the end of the context may have more tokens.
    let candidates = place.file("candidates.jsonl", &lines("candidates.jsonl")[..100]);
    let scores = stdout(&["score", "--model", &reward, "--data", &candidates, "--json"]);
    assert_eq!(scores.lines().count(), 100);
}

/// Labelled texts with bad lines among them teach a classifier, which tells texts, files of texts, and what
/// it cannot be asked.
#[test]
fn a_classifier_is_taught_and_asked() {
    let place = Place::new();
    let line = |i: usize| {
        let (text, label) = [("a good day", "good"), ("a bad day", "bad")][i % 2];
        object!({ "text": format!("{text} {i}"), "label": label }).to_string()
    };
    let good: Vec<String> = (0..300).map(line).collect();
    let bad = [
        object!({ "text": "x" }).to_string(),
        object!({ "text": " ", "label": "good" }).to_string(),
        "{\"text\": \"torn".to_owned(),
    ];
    let (train, out) = (place.file("train.jsonl", &[good.clone(), bad.to_vec()].concat()), place.path("out"));
    let words = ["finetune", "--model", &at("pretrain"), "--task", "classification", "--train", &train];
    let options = ["--out", &out, "--steps", "60", "--lr", "3e-3", "--set", "dropout=0", "--json"];
    let taught = run(&[&words[..], &options].concat(), 0);
    let said = |assert: &assert_cmd::assert::Assert| {
        String::from_utf8(assert.get_output().stdout.clone()).expect("text")
    };
    let told = stderr(&taught);
    for part in ["train.jsonl:301", "no label", "train.jsonl:302", "train.jsonl:303", "300 of 303 lines"] {
        assert!(told.contains(part), "{part} is missing: {told}");
    }
    let summary: Value = serde_json::from_str(&said(&taught)).expect("JSON");
    let accuracy = summary["held_out"]["accuracy"]["value"].as_f64().expect("a figure");
    assert!(accuracy > 0.9, "{summary}");

    let told = stdout(&["classify", "--model", &out, "a bad day 7", "--json"]);
    let told: Value = serde_json::from_str(&told).expect("JSON");
    let scores = told["scores"].as_object().expect("scores");
    assert_eq!(told["label"], "bad");
    assert_eq!(scores.keys().collect::<Vec<_>>(), ["bad", "good"]);
    assert!((scores.values().map(|p| p.as_f64().expect("a number")).sum::<f64>() - 1.0).abs() < 1e-6);
    let asked = run(&["classify", "--model", &out, "--data", &train, "--json"], 0);
    assert_eq!(said(&asked).lines().count(), 301, "a missing label is no fault when nobody learns");
    assert!(stderr(&asked).contains("of 300 labels were met"), "{}", stderr(&asked));

    // Labels that say nothing, and labels that say the same.
    let label = |i: usize| [object!(0), object!("1"), object!(-1), object!(1), object!(null)][i % 5].clone();
    let mixed: Vec<String> =
        (0..100).map(|i| object!({ "text": format!("day {i}"), "label": label(i) }).to_string()).collect();
    let (mixed, out) = (place.file("mixed.jsonl", &mixed), place.path("mixed"));
    let words =
        ["finetune", "--model", &at("pretrain"), "--task", "classification", "--steps", "1", "--train"];
    let taught = run(&[&words[..], &[&mixed, "--out", &out, "--json"]].concat(), 0);
    let summary: Value = serde_json::from_str(&said(&taught)).expect("JSON");
    assert_eq!(summary["held_out"]["labels"], object!(["0", "1"]));
    let told = stderr(&taught);
    assert!(told.contains("60 of 100 lines") && told.contains("no gold label, 40"), "{told}");
    assert!(told.contains("mixed.jsonl:3: label is -1 beside 0"), "{told}");
    let one: Vec<String> =
        (0..30).map(|i| object!({ "text": format!("day {i}"), "label": 1 }).to_string()).collect();
    let one = place.file("one.jsonl", &one);
    fails(
        &[&words[..], &[&one, "--out", &place.path("one")]].concat(),
        1,
        &["all labels to learn from are 1:"],
    );

    fails(&["classify", "--model", &at("pretrain"), "x"], 1, &["does not say which task", "mynah finetune"]);
}
