//! The first hour of a newcomer: help, completions, pages, what a road's directory is good for, what is seen
//! while something trains, and mistakes that everybody makes once.

use std::fs;
use std::path::Path;

use super::workshop::{chat_road, fails, json, mynah, path, road, run, stderr, stdout};

#[test]
fn shells_and_man_know_the_verbs() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = stdout(&["completions", shell]);
        assert!(script.contains("pretrain") && script.contains("vocab-size"), "{shell}");
    }
    fails(&["completions", "fisch"], 2, &["fisch", "fish"]);
    let page = stdout(&["man"]);
    assert!(page.contains(".TH mynah 1") && page.contains("speedrun"), "{page}");
    let dir = tempfile::tempdir().expect("a temporary directory");
    let pages = path(dir.path(), "man1");
    run(&["man", &pages], 0);
    let one = fs::read_to_string(Path::new(&pages).join("mynah-tokenizer-train.1")).expect("a page a verb");
    assert!(one.contains("vocab"), "{one}");
    fails(&["man", &path(dir.path(), "man1/mynah.1")], 1, &["mynah.1 is a file: name a directory"]);
}

#[test]
fn help_is_a_verb_too() {
    assert_eq!(stdout(&["help", "sft"]), stdout(&["sft", "--help"]));
    assert!(stdout(&["help"]).contains("Verbs:"));
    assert!(stdout(&["help", "tokenizer", "train"]).contains("--vocab-size"));
    fails(&["help", "fly"], 2, &["fly"]);
}

#[test]
fn help_fits_the_terminal() {
    for verb in ["pretrain", "ppo", "eval", "speedrun"] {
        let help = mynah(&[verb, "--help"]).env("COLUMNS", "80").assert().success();
        let help = String::from_utf8_lossy(&help.get_output().stdout).into_owned();
        let long: Vec<&str> = help.lines().filter(|line| line.chars().count() > 80).collect();
        assert!(long.is_empty(), "{verb}: {long:#?}");
        let row = help.lines().position(|line| line.starts_with("  eval_every ")).into_iter();
        row.for_each(|at| {
            assert!(help.lines().nth(at + 1).is_some_and(|line| line.starts_with("  ")), "{help}")
        });
    }
}

/// What is typed for a model may be a road's directory, which says whose model it is.
#[test]
fn a_roads_directory_is_a_model() {
    let road = path(chat_road().0.path(), "road");
    let assert = run(&["show", &road, "--json"], 0);
    assert!(
        stderr(&assert).contains("is a road: the model of its last stage, ppo, is used"),
        "{}",
        stderr(&assert)
    );
    let shown: serde_json::Value = serde_json::from_slice(&assert.get_output().stdout).expect("JSON");
    assert_eq!(shown["lineage"]["stage"], "ppo");
    let chat = ["chat", "--model", &road, "--max-tokens", "4", "--json"];
    let talk = mynah(&chat).write_stdin("What is 2 plus 3?\n").assert().success();
    assert!(String::from_utf8_lossy(&talk.get_output().stdout).contains("assistant"));
    json(&["complete", "--model", &road, "once", "--max-tokens", "2"]);
    json(&["eval", "--model", &road, "--tasks", "copy", "--limit", "2", "--max-tokens", "2"]);
    let page = json(&["report", &road])["report"].as_str().expect("a page").to_owned();
    assert_eq!(page, path(chat_road().0.path(), "road/report.html"), "a road has a page of its own");
    fails(&["classify", "--model", &road, "x"], 1, &["mynah finetune"]);
}

#[test]
fn runs_are_listed_with_what_became_of_them() {
    let dir = chat_road().0.path();
    let found = json(&["runs", &path(dir, "")]);
    let of = |name: &str| {
        let ends = |run: &&serde_json::Value| run["path"].as_str().is_some_and(|path| path.ends_with(name));
        found
            .as_array()
            .and_then(|all| all.iter().find(ends))
            .unwrap_or_else(|| panic!("{name} in {found}"))
            .clone()
    };
    let (walked, base, sft, reward, ppo) =
        (of("/road"), of("/pretrain"), of("/sft"), of("/reward"), of("/ppo"));
    assert_eq!((&walked["stage"], &walked["state"]), (&"speedrun".into(), &"finished".into()));
    assert!(base["parent"].is_null() && base["best"]["name"] == "val_loss", "{base}");
    assert!(sft["parent"].as_str().is_some_and(|parent| parent.ends_with("road/pretrain")), "{sft}");
    assert_eq!(
        (&reward["best"]["name"], &ppo["best"]["name"]),
        (&"val_accuracy".into(), &"eval/reward".into())
    );
    assert!(ppo["parent"].as_str().is_some_and(|parent| parent.ends_with("road/sft")), "{ppo}");
    let metrics = fs::read_to_string(dir.join("road/sft/metrics.jsonl")).expect("metrics");
    assert_eq!(sft["steps"], metrics.lines().count(), "{sft}");
    let table = stdout(&["runs", &path(dir, "")]);
    assert!(table.contains("best figure") && table.contains("finished"), "{table}");
    fails(&["runs", &path(dir, "nowhere")], 1, &["there is no folder", "mynah runs DIR"]);
    fails(&["runs", &path(dir, "road/report.html")], 1, &["is a file: name the folder"]);
}

/// Without a terminal there is a line every few seconds, not one a step, and with `--quiet` the result alone.
#[test]
fn training_tells_now_and_then() {
    let road = road();
    let words = road.pretrain("told", "60");
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let told = stderr(&run(&words, 0));
    let steps: Vec<&str> = told.lines().filter(|line| line.starts_with("step ")).collect();
    assert!(steps.len() < 20, "{told}");
    assert!(
        steps[0].starts_with("step  1/60") && steps[0].contains(" s  "),
        "where it is and how long it took: {told}"
    );
    assert!(
        told.contains("step 60/60  validation: loss") && told.contains("% of peak: what a step does of the "),
        "{told}"
    );
    assert!(!told.contains("\\n") && told.contains("       → "), "samples are readable: {told}");

    let words = road.pretrain("quiet", "60");
    let words: Vec<&str> = words.iter().map(String::as_str).chain(["--quiet"]).collect();
    let told = stderr(&run(&words, 0));
    assert!(told.lines().count() == 1 && told.starts_with("60 steps"), "{told}");
}

/// What training wrote for people is what was asked and what was answered.
#[test]
fn samples_are_questions_and_answers() {
    let road = chat_road().0.path().join("road");
    for stage in ["sft", "dpo", "reward", "ppo"] {
        let samples = fs::read_to_string(road.join(stage).join("samples.jsonl")).expect("samples");
        let last = samples.lines().last().expect("a sample");
        let sample: serde_json::Value = serde_json::from_str(last).expect("JSON");
        let prompt = sample["prompt"].as_str().expect("a text");
        assert!(prompt.ends_with('\n') && !prompt.contains("<|"), "{stage}: {sample}");
        assert!(!prompt.contains("assistant"), "{stage}: {sample}");
    }
}

#[test]
fn more_threads_than_cores_are_warned_of() {
    let assert = run(&["plan", "--preset", "tiny", "--device", "h100", "--threads", "1000"], 0);
    assert!(stderr(&assert).contains("note: 1000 threads on "), "{}", stderr(&assert));
    let assert = run(&["plan", "--preset", "tiny", "--device", "h100", "--threads", "1"], 0);
    assert_eq!(stderr(&assert), "");
    assert!(
        String::from_utf8_lossy(&assert.get_output().stdout).contains("a device with a name are its maker's")
    );
}

/// Each says what, where, and what to do next.
#[test]
fn mistakes_that_everybody_makes_once() {
    let (road, dir) = (road(), chat_road().0.path());
    let at = |name: &str| path(dir, &format!("road/{name}"));
    let (base, run, text) = (at("pretrain"), road.path("run"), at("lessons/text.jsonl"));
    let (sft, reward, ppo) = (at("sft"), at("reward"), at("ppo"));
    let (demonstrations, prompts) = (at("lessons/demonstrations.jsonl"), at("lessons/prompts.jsonl"));
    let (rankings, tokens, out) = (at("rankings.jsonl"), road.path("tokens"), path(dir, "new"));
    let train = |words: &[&'static str]| {
        [&["pretrain", "--data", "d", "--preset", "tiny", "--out", "o"], words].concat()
    };

    // Rows of another kind, models of another kind, data in a model's place.
    fails(
        &["sft", "--model", &base, "--data", &rankings, "--out", &out],
        1,
        &["a ranking, not a demonstration", "mynah dpo"],
    );
    fails(
        &["sft", "--model", &base, "--data", &prompts, "--out", &out],
        1,
        &["a prompt, not a demonstration"],
    );
    fails(
        &["reward", "--model", &sft, "--rankings", &demonstrations, "--out", &out],
        1,
        &["a demonstration, not a ranking"],
    );
    fails(
        &["sft", "--model", &reward, "--data", &demonstrations, "--out", &out],
        1,
        &["writes none", "such as", "/sft"],
    );
    fails(&["chat", "--model", &reward], 1, &["mynah classify", "mynah score"]);
    fails(&["chat", "--model", &demonstrations], 1, &["is a file of data", "in each other's place"]);
    fails(&["show", &demonstrations], 1, &["is a file of data"]);
    fails(
        &["ppo", "--model", &base, "--reward", &reward, "--prompts", &prompts, "--out", &out],
        1,
        &["has not learned to answer", "mynah sft"],
    );
    fails(
        &["ppo", "--model", &sft, "--reward", &ppo, "--prompts", &prompts, "--out", &out],
        1,
        &["is no reward model", "mynah reward"],
    );
    fails(
        &["pretrain", "--data", &text, "--preset", "tiny", "--out", &out],
        1,
        &["is a file, and a directory of tokens is wanted", "mynah corpus"],
    );
    fails(
        &["pretrain", "--data", &at("corpus"), "--preset", "tiny", "--out", &out],
        1,
        &["is a corpus, and tokens are wanted"],
    );
    fails(
        &["tokenizer", "train", "--corpus", &text, "--vocab-size", "300", "--out", &out],
        1,
        &["is a file", "mynah corpus"],
    );
    fails(
        &["pretrain", "--data", &tokens, "--preset", "tiny", "--out", &text],
        1,
        &["is a file: name a directory"],
    );
    fails(&["chat", "--model", &path(dir, "raod")], 1, &["did you mean", "road"]);
    fails(&["chat", "--model", "gpt2"], 1, &["does not exist", "hf:openai-community/gpt2"]);

    // Keys and values.
    fails(&train(&["--set", "learning_rate=1"]), 2, &["did you mean lr?"]);
    fails(
        &["sft", "--model", &base, "--data", &demonstrations, "--out", &out, "--set", "seq_len=8"],
        2,
        &["seq_len is the model's", "leave it out"],
    );
    fails(
        &["sft", "--model", &base, "--data", &demonstrations, "--out", &out, "--epochs", "0"],
        2,
        &["not a whole number from 1 up"],
    );
    fails(
        &["sft", "--model", &base, "--data", &demonstrations, "--out", &out, "--set", "batch_size=0"],
        2,
        &["batch_size is 0"],
    );
    fails(&train(&["--steps", "-5"]), 2, &["cannot be below 0"]);
    fails(&["complete", "--model", &run, "x", "--max-tokens", "-1"], 2, &["not a whole number from 1 up"]);
    fails(
        &["candidates", "--model", &sft, "--prompts", &prompts, "--out", &out, "--k", "0"],
        2,
        &["not a whole number from 1 up"],
    );
    fails(&["pretrain", "--data", "d", "--preset", "tny", "--out", "o"], 2, &["did you mean tiny?"]);

    // Arguments.
    fails(&["complete", "--model", &run, "hello", "world"], 2, &["between quotes"]);
    fails(
        &["rank", "--store", "x.db", "--judge", "lessons"],
        2,
        &["`--judge` belongs to `mynah rank simulate`"],
    );
    fails(&["gguf", "--model", &run, "--out", "x.gguf", "--dtype", "f16"], 2, &["here that is `--quant`"]);
    fails(&["--preset", "tiny"], 2, &["mynah speedrun --preset"]);
    fails(&["serve", "--model", &run, "--port", "99999"], 2, &["not a whole number from 0 to 65535"]);
    fails(&["-v"], 2, &["mynah --version"]);
    fails(
        &["pretrain", "--data", "d", "--mix", "e", "--preset", "tiny", "--out", "o"],
        2,
        &["e has no share", "e=0.7"],
    );

    // More steps of a run that is finished.
    let longer: Vec<String> = road.pretrain("run", "50");
    let longer: Vec<&str> = longer.iter().map(String::as_str).collect();
    fails(&longer, 1, &["settings.steps: 40 → 50", "begin another run from it (--init "]);
}
