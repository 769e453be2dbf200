//! `mynah speedrun`: the whole road in one command.

use std::fs;

use serde_json::Value;

use super::workshop::{chat_road, fails, json, keys, mynah, path, road, run, stderr};

/// The road that ends in completions of code, on a folder of our own: figures for programs, a page for
/// people, and nothing done twice.
#[test]
fn the_road_of_code_in_one_command() {
    let road = road();
    let (sources, out) = (road.path("sources"), road.path("speedrun"));
    let words = ["speedrun", "--code", "--preset", "tiny", "--source", &sources, "--out", &out, "--no-chat"];
    let result = json(&words);
    assert_eq!(keys(&result["stages"]), ["corpus", "tokenizer", "tokens", "pretrain", "evaluate"]);
    let bits = |i: usize| result["baselines"][i]["bits_per_byte"].as_f64().expect("a number");
    assert!(bits(0) < bits(1) - 1.0, "training helps: {} {}", bits(0), bits(1));
    assert!(result["completions"].as_array().is_some_and(|all| !all.is_empty()));

    let assert = run(&words, 0);
    let page = String::from_utf8_lossy(&assert.get_output().stdout).into_owned();
    assert!(page.contains("what stands there:") && page.contains("bits per byte"), "{page}");
    assert!(!stderr(&assert).contains("  loss "), "training was done already");
}

/// The default road, to a chat: every stage leaves a directory, every system a score, and nothing is done
/// twice.
#[test]
fn the_road_to_a_chat_in_one_command() {
    let (dir, result) = chat_road();
    let out = path(dir.path(), "road");
    let stages = keys(&result["stages"]);
    assert_eq!(stages[..5], ["lessons", "corpus", "tokenizer", "tokens", "pretrain"]);
    assert_eq!(stages[5..], ["sft", "candidates", "rankings", "reward", "ppo", "dpo", "compare"]);
    for system in ["base", "sft", "ppo", "dpo", "best of 2"] {
        let gold = &result["gold"][system];
        let [low, value, high] = ["low", "value", "high"].map(|key| gold[key].as_f64().expect("a number"));
        assert!(0.0 < low && low < value && value < high && high < 1.0, "{system}: {gold}");
        let right = &result["right"][system];
        let [low, value, high] = ["low", "value", "high"].map(|key| right[key].as_f64().expect("a number"));
        assert!(0.0 <= low && low <= value && value <= high && high < 1.0, "{system}: {right}");
    }
    let of = |name: &str, figure: &str| {
        let mut references = result["references"].as_array().expect("floor and ceiling").iter();
        let system = references.find(|system| system["name"] == name).expect("a reference");
        system[figure]["value"].as_f64().expect("a number")
    };
    assert_eq!((of("empty", "right"), of("empty", "gold")), (0.0, 0.0));
    assert_eq!(of("perfect", "right"), 1.0);
    assert!(of("shuffled", "right") < 0.3 && of("shuffled", "gold") < of("perfect", "gold"));
    let compared: Vec<_> =
        result["compared"].as_array().expect("steps").iter().map(|of| (&of["model"], &of["than"])).collect();
    assert_eq!(compared[..2], [(&"sft".into(), &"base".into()), (&"ppo".into(), &"sft".into())]);
    assert!(result["stages"]["pretrain"]["flops"].as_f64().is_some_and(|flops| flops > 1e9), "operations");
    let number = |of: &str, key: &str| result[of][key].as_f64().expect("a number");
    let ceiling = number("reward_model", "ceiling");
    assert!(number("reward_model", "pair_accuracy") > 0.5 && ceiling > 0.7 && ceiling < 1.0, "{ceiling}");
    assert!(number("ppo", "kl") > 0.0);
    let written = |name: &str| fs::read_to_string(dir.path().join("road").join(name)).expect(name);
    let results: Value = serde_json::from_str(&written("results.json")).expect("JSON");
    assert_eq!(results["systems"], result["systems"]);
    let page = written("report.html");
    assert!(page.contains("</html>") && page.contains("speedrun --preset tiny"), "{page}");
    run(&["report", &out], 0);
    assert_eq!(written("report.html"), page, "the page comes again from its files");

    let again = json(&["speedrun", "--preset", "tiny", "--out", &out, "--no-chat"]);
    assert_eq!((&again["gold"], &again["ppo"]), (&result["gold"], &result["ppo"]));
    assert_eq!(again["stages"], result["stages"], "times are those of the walk that did the work");
    let talk = mynah(&["chat", "--model", &path(dir.path(), "road/ppo"), "--seed", "1"])
        .write_stdin("Hello\n")
        .assert()
        .success();
    assert!(!talk.get_output().stdout.is_empty());
}

/// A directory is one road's or one run's, and of one budget.
#[test]
fn roads_and_runs_refuse_each_others_directories() {
    let copy = road().copy_of_run();
    let (run, page) = (path(copy.path(), ""), copy.path().join("report.html"));
    let before = fs::read(&page).expect("a page");
    let tiny = ["speedrun", "--preset", "tiny", "--no-chat", "--out"];
    fails(&[&tiny[..], &[&run]].concat(), 1, &["stage: pretrain → speedrun"]);
    assert_eq!(fs::read(&page).expect("a page"), before);

    // What the road is tells its recipe; a copy, since others walk the road.
    let dir = tempfile::tempdir().expect("a temporary directory");
    fs::copy(chat_road().0.path().join("road/config.toml"), dir.path().join("config.toml"))
        .expect("a recipe");
    let (out, tokens) = (path(dir.path(), ""), road().path("tokens"));
    let pretrain = ["pretrain", "--data", &tokens, "--preset", "tiny", "--out", &out];
    fails(&pretrain, 1, &["stage: speedrun → pretrain"]);
    fails(&["speedrun", "--task-tokens", "--preset", "tiny", "--out", &out], 1, &["speedrun --task-tokens"]);
    fails(&[&tiny[..], &[&out, "--seed", "1"]].concat(), 1, &["settings.seed: 0 → 1"]);
    fails(&[&tiny[..], &[&out, "--minutes", "5"]].concat(), 1, &["settings.minutes: (absent) → 5.0"]);
    fails(&["speedrun", "--minutes", "0", "--out", &out], 2, &["--minutes 0", "above 0"]);
    fails(&["speedrun", "--flops", "-1e9", "--out", &out], 2, &["--flops", "above 0"]);
}

/// A directory is one stage's: what its recipe decided is not taken for another's.
#[test]
fn stages_refuse_each_others_directories() {
    let (dir, road) =
        (tempfile::tempdir().expect("a temporary directory"), chat_road().0.path().join("road"));
    let out = path(dir.path(), "");
    fs::copy(road.join("sft/config.toml"), dir.path().join("config.toml")).expect("a recipe");
    let at = |name: &str| path(&road, name);
    let (model, reward, prompts) = (at("sft"), at("reward"), at("lessons/prompts.jsonl"));
    let ppo = ["ppo", "--model", &model, "--reward", &reward, "--prompts", &prompts, "--out", &out];
    fails(&ppo, 1, &["stage: sft → ppo"]);
}

/// The road of task tokens in small: it asks only what training has not seen, and nothing is done twice.
#[test]
fn the_road_of_task_tokens_in_one_command() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let out = path(dir.path(), "tasks");
    let words = ["speedrun", "--task-tokens", "--preset", "tiny", "--out", &out];
    let result = json(&words);
    let stages: Vec<_> =
        result["stages"].as_array().expect("stages").iter().map(|stage| &stage["name"]).collect();
    assert_eq!(stages, ["lessons", "corpus", "tokenizer", "tokens", "pretrain", "evaluate"]);
    let tasks = result["tasks"].as_array().expect("tasks");
    let asked: Vec<u64> = tasks.iter().filter_map(|asked| asked["exact"]["n"].as_u64()).collect();
    assert!(
        asked.len() == 2 && asked.iter().sum::<u64>() == 40 && asked.iter().all(|&n| n >= 12),
        "{asked:?}"
    );
    let bits = |i: usize| result["text"][i]["bits_per_byte"].as_f64().expect("a number");
    assert!(bits(0) < bits(1) - 1.0, "training helps: {} {}", bits(0), bits(1));
    assert_eq!(result["examples"].as_array().map(Vec::len), Some(3));
    let page = fs::read_to_string(dir.path().join("tasks/report.html")).expect("a page");
    assert!(page.contains("[翻译为中文]") && page.contains("</html>"), "{page}");
    assert_eq!(json(&words)["tasks"], result["tasks"]);

    let model = path(dir.path(), "tasks/pretrain");
    let complete = |more: &[&str]| {
        let words = ["complete", "--model", &model, "--max-tokens", "4", "--temperature", "0"];
        json(&[&words[..], more].concat())
    };
    let written = |value: &Value| value["completions"][0]["tokens"].clone();
    let asked = complete(&["我是小明", "--task", "[问题] 我是谁 [答案]"]);
    assert_eq!(written(&asked), written(&complete(&["我是小明", "--task", "[问题]我是谁[答案]"])));
    let (rows, items) = (path(dir.path(), "tasks/lessons/held-out.jsonl"), path(dir.path(), "items.jsonl"));
    let eval = ["eval", "--model", &model, "--tasks", &rows, "--max-tokens", "4", "--shots", "2"];
    let result = json(&[&eval[..], &["--limit", "5", "--out", &items]].concat());
    let held_out = &result["tasks"]["held-out"];
    assert_eq!((&held_out["shots"], &held_out["shots_asked"]), (&0.into(), &2.into()));
    assert!(
        held_out["shots_because"].as_str().is_some_and(|why| why.contains("without examples")),
        "{held_out}"
    );
    for item in fs::read_to_string(&items).expect("items").lines() {
        let item: Value = serde_json::from_str(item).expect("JSON");
        let prompt = item["prompt"].as_str().expect("a prompt");
        let (input, task) = prompt.split_at(prompt.find(" [").expect("a task"));
        let text = complete(&[input, "--task", task])["completions"][0]["text"].clone();
        let line = text.as_str().and_then(|text| text.trim_start().lines().next()).unwrap_or_default();
        assert_eq!(item["written"], line.trim(), "{prompt}");
    }
    let words = ["complete", "--model", &model, "我是小明", "--task"];
    fails(&[&words[..], &["翻译为中文"]].concat(), 1, &["names no special token", "[翻译为中文]"]);
    fails(&[&words[..], &["[问题]", "--suffix", "x"]].concat(), 2, &["--suffix"]);
}
