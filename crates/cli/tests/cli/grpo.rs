//! Answers that are checked: rewards by keys, by tests and by programs of the user's own, and what becomes of
//! those that fail.

use std::fs;
use std::path::Path;

use serde_json::{Value, json as object};

use super::grade::can_grade;
use super::workshop::{chat_road, fails, json, path, run, stderr};

/// A run of some iterations of the road's model, as words.
fn words(dir: &Path, out: &str, rewards: &[&str], further: &[&str]) -> Vec<String> {
    let road = path(chat_road().0.path(), "road");
    words_of(&format!("{road}/sft"), dir, out, rewards, further)
}

/// The same of any model.
fn words_of(model: &str, dir: &Path, out: &str, rewards: &[&str], further: &[&str]) -> Vec<String> {
    let prompts = path(dir, "prompts.jsonl");
    let line = |i: usize| {
        let tests = format!("assert same({i}) == {i}");
        format!("{}\n", object!({ "prompt": format!("{i} + 1"), "answer": i + 1, "tests": tests }))
    };
    fs::write(&prompts, (0..40).map(line).collect::<String>()).expect("a file");
    let out = path(dir, out);
    let mut words =
        vec!["grpo", "--model", model, "--prompts", &prompts, "--out", &out, "--group", "4", "--steps", "2"];
    for key in ["batch_size=2", "max_tokens=6", "eval_prompts=3", "eval_samples=2", "eval_every=1"] {
        words.extend(["--set", key]);
    }
    rewards.iter().for_each(|reward| words.extend(["--reward", reward]));
    words.extend(further);
    words.into_iter().map(String::from).collect()
}

fn borrowed(words: &[String]) -> Vec<&str> {
    words.iter().map(String::as_str).collect()
}

/// The lines of a journal of a run.
fn journal(dir: &Path, file: &str) -> Vec<Value> {
    let text = fs::read_to_string(dir.join(file)).expect("a journal");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn rewards_are_added_and_told_by_name() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let rewards = ["answer", "number:0.5", "regex=[0-9]:0.2", "format=(?i)[a-z .]+:0.1", "length:-1"];
    let found = json(&borrowed(&words(dir.path(), "run", &rewards, &["--loss", "rloo"])));
    assert!(
        found["before"]["eval/pass@1"].is_number() && found["after"]["eval/pass@k"].is_number(),
        "{found}"
    );
    for line in journal(dir.path(), "run/metrics.jsonl") {
        let of = |name: &str| line[format!("reward/{name}")].as_f64().expect("a reward");
        let sum = of("answer") + 0.5 * of("number") + 0.2 * of("regex") + 0.1 * of("format") - of("length");
        let told = line["objective/reward"].as_f64().expect("the sum");
        assert!((sum - told).abs() < 1e-9, "{sum} in {line}");
    }
    for line in journal(dir.path(), "run/rollouts.jsonl") {
        assert!(
            line["reward"].is_number() && line["advantage"].is_number() && line["reward/length"].is_number()
        );
    }
}

#[test]
fn what_is_no_reward_is_wrong_usage() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    for (reward, said) in [
        ("correct", "there is no reward"),
        ("answer:two", "as in answer:0.5"),
        ("regex=(", "regex=("),
        ("program", "needs FILE"),
    ] {
        fails(&borrowed(&words(dir.path(), "run", &[reward], &[])), 2, &[said]);
    }
    let nowhere = words(dir.path(), "run", &["program=nowhere.py"], &[]);
    fails(&borrowed(&nowhere), 1, &["the reward program nowhere.py: check the path"]);
}

#[test]
fn keys_may_have_other_names() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let words = words(dir.path(), "run", &["number"], &["--fields", "prompt=question,answer=solution"]);
    let row = |i: usize| format!("{}\n", object!({ "question": format!("{i} + 1"), "solution": i + 1 }));
    fs::write(dir.path().join("prompts.jsonl"), (0..40).map(row).collect::<String>()).expect("a file");
    let found = json(&borrowed(&words));
    assert!(found["after"]["eval/pass@1"].is_number(), "{found}");
}

#[test]
fn what_teaches_or_tells_nothing_is_said() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let prompts = path(dir.path(), "prompts.jsonl");
    let words = words(dir.path(), "run", &["regex=no answer has this"], &["--val", &prompts]);
    let said = stderr(&run(&borrowed(&words), 0));
    assert!(said.contains("note: 3 of the 3 prompts to measure with are among those"), "{said}");
    assert_eq!(said.matches("nothing is learned (groups/equal)").count(), 1, "{said}");
    assert!(said.contains("held-out reward 0.000 → 0.000, pass@1 0.0 → 0.0 %"), "{said}");
}

/// A program of the user's that judges answers, and what the command says of it.
fn judged_by(name: &str, program: &str, status: i32) -> (String, tempfile::TempDir) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = path(dir.path(), name);
    fs::write(&file, program).expect("a file");
    let reward = format!("program={file}");
    let words = words(dir.path(), "run", &[&reward], &["--set", "program_secs=2"]);
    (stderr(&run(&borrowed(&words), status)), dir)
}

const READ: &str = "import json, sys\nanswers = [json.loads(line) for line in sys.stdin]\n";

#[test]
fn a_program_of_ones_own_judges() {
    if !can_grade() {
        return;
    }
    let good = format!(
        "{READ}for answer in answers:\n    assert answer['answer'] > 0 and answer['prompt']\n    print(len(answer['completion']) / 10)\n"
    );
    let (said, dir) = judged_by("good.py", &good, 0);
    let metrics = journal(dir.path(), "run/metrics.jsonl");
    assert_eq!(metrics.len(), 2, "{said}");
    assert!(
        metrics
            .iter()
            .all(|line| line["reward/program"].is_number() && line["reward/program_failed"].is_null())
    );

    // Those before it fails are believed; what it says of others is told.
    let some = format!("{READ}for at, answer in enumerate(answers):\n    print('nan' if at % 2 else 1.0)\n");
    let (said, dir) = judged_by("some.py", &some, 0);
    assert!(
        said.contains("the reward program gives nothing for 4 of 8 answers") && said.contains("\"nan\""),
        "{said}"
    );
    for line in journal(dir.path(), "run/metrics.jsonl") {
        assert_eq!((&line["reward/program"], &line["reward/program_failed"]), (&object!(1.0), &object!(4.0)));
    }
    for (at, line) in journal(dir.path(), "run/rollouts.jsonl").iter().enumerate() {
        assert_eq!(
            (line["reward"].is_null(), line["advantage"].as_f64()),
            (at % 2 == 1, Some(0.0)),
            "{line}"
        );
    }
}

#[test]
fn a_program_that_fails_is_named() {
    if !can_grade() {
        return;
    }
    for (name, program, why) in [
        ("hangs", "while True:\n    pass\n".to_owned(), "it was not done in 2 s"),
        (
            "forks",
            "import os\nwhile True:\n    try:\n        os.fork()\n    except OSError:\n        pass\n".into(),
            "it w",
        ),
        ("crashes", "raise ValueError('by design')\n".into(), "ValueError: by design"),
        (
            "says too much",
            format!("{READ}for answer in answers + [0]:\n    print(1)\n"),
            "more than the 6 numbers",
        ),
        (
            "says too little",
            format!("{READ}for answer in answers[1:]:\n    print(1)\n"),
            "5 lines for 6 answers",
        ),
        (
            "says a word",
            format!("{READ}for answer in answers:\n    print('good')\n"),
            "\"good\", which is no finite number",
        ),
        ("is no program", "else\n".into(), "SyntaxError"),
    ] {
        let (said, dir) = judged_by("judge.py", &program, 1);
        assert!(said.contains("no held-out answer has a reward") && said.contains(why), "{name}: {said}");
        let kept = fs::read_dir(dir.path().join("run/checkpoints")).map_or(0, Iterator::count);
        assert_eq!(kept, 0, "{name}: nothing was learned");
    }
}

/// However much it said before on standard error.
#[test]
fn what_a_program_wrote_before_it_failed_is_believed() {
    if !can_grade() {
        return;
    }
    let fails = format!(
        "{READ}sys.stderr.write('noise ' * 2000)\nprint(1.0)\nraise ValueError('by design\\nof two lines')\n"
    );
    let (said, _dir) = judged_by("fails.py", &fails, 0);
    let why = "nothing for 5 of 6 answers, which are left out; for answer 2: it failed in line 5: ValueError: by design\n";
    assert!(said.contains(why), "{said}");
}

/// A program that fails at the answers of training alone teaches nothing, and nothing is lost.
#[test]
fn iterations_without_rewards_are_left_out() {
    if !can_grade() {
        return;
    }
    let hangs = format!("{READ}while len(answers) == 8:\n    pass\nfor answer in answers:\n    print(1)\n");
    let (said, dir) = judged_by("hangs.py", &hangs, 1);
    assert!(said.contains("step 1 skipped: no answer has a reward: it was not done in 2 s"), "{said}");
    let events = journal(dir.path(), "run/events.jsonl");
    assert!(events.iter().any(|event| event["event"] == "skipped_step"), "{events:?}");
}

#[test]
fn programs_in_answers_are_tested() {
    if !can_grade() {
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary directory");
    let found = json(&borrowed(&words(dir.path(), "run", &["tests", "length:0.1"], &[])));
    assert_eq!(found["before"]["eval/pass@1"], 0.0, "a model of words writes no programs: {found}");
    assert!(journal(dir.path(), "run/metrics.jsonl").iter().all(|line| line["reward/tests"] == 0.0));
}

/// A prompt may end with the bare head of the function, which is no program by itself.
#[test]
fn a_bare_head_is_a_prompt() {
    if !can_grade() {
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary directory");
    let problems = path(dir.path(), "problems.jsonl");
    let row = object!({
        "task_id": "0", "prompt": "def f(x):\n", "entry_point": "f", "canonical_solution": "    return x\n",
        "test": "def check(candidate):\n    assert candidate(1) == 1\n",
    });
    fs::write(&problems, format!("{row}\n")).expect("a file");
    assert_eq!(json(&["grade", "--problems", &problems, "--gold"])["verdicts"], object!({ "passed": 1 }));
}

/// A model that has learned one program by heart passes where the program is right, and only there.
#[test]
fn right_programs_are_told_from_wrong_ones() {
    if !can_grade() {
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary directory");
    let demonstrations = path(dir.path(), "demonstrations.jsonl");
    let line = |i: usize| {
        format!("{}\n", object!({ "prompt": format!("{i} + 1"), "completion": "def same(x): return x % 30" }))
    };
    fs::write(&demonstrations, (0..40).map(line).collect::<String>()).expect("a file");
    let (road, taught) = (path(chat_road().0.path(), "road"), path(dir.path(), "sft"));
    let model = format!("{road}/sft");
    let sft = ["sft", "--model", &model, "--data", &demonstrations, "--out", &taught, "--steps", "150"];
    run(&[&sft[..], &["--lr", "3e-3", "--set", "batch_size=8", "--set", "dropout=0"]].concat(), 0);
    let further =
        ["--set", "max_tokens=40", "--set", "eval_prompts=40", "--set", "temperature=0.1", "--steps", "1"];
    let mut words = words_of(&taught, dir.path(), "run", &["tests"], &further);
    // All prompts are measured with: 30 of 40 numbers are below 30.
    let prompts = path(dir.path(), "prompts.jsonl");
    words.extend(["--val".into(), prompts]);
    let at = words.iter().position(|word| word == "--steps").expect("an option");
    words.drain(at..at + 2);
    let found = json(&borrowed(&words));
    assert_eq!(found["before"]["eval/pass@1"], 0.75, "{found}");
}
