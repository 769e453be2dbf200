//! Help, wrong usage, and where output goes.

use std::io::Read;
use std::process::{Command, Stdio};

use super::workshop::{fails, json, mynah, path, road, run, stderr, stdout};

const VERBS: [&str; 25] = [
    "corpus",
    "tokenizer",
    "tokenize",
    "pretrain",
    "complete",
    "chat",
    "serve",
    "watch",
    "show",
    "lessons",
    "sft",
    "candidates",
    "reward",
    "score",
    "ppo",
    "grpo",
    "dpo",
    "kto",
    "distil",
    "gguf",
    "report",
    "plan",
    "sweep",
    "bench",
    "speedrun",
];

#[test]
fn help_explains_every_verb() {
    let help = stdout(&["--help"]);
    for verb in VERBS {
        assert!(help.contains(&format!("\n  {verb} ")), "{verb} is missing in:\n{help}");
        let own = stdout(&[verb, "--help"]);
        assert!(own.contains("Usage: mynah") && own.contains("--seed"), "{own}");
    }
    assert!(stdout(&["--version"]).starts_with("mynah "));
}

#[test]
fn a_plan_tells_what_training_takes() {
    let words = ["plan", "--preset", "gpt3-175b", "--device", "h100", "--count", "1024", "--tokens", "300B"];
    let plan = json(&words);
    let figure = |key: &str| plan["plan"][key].as_f64().expect("a number");
    assert!((figure("parameters") / 174.6e9 - 1.0).abs() < 0.001, "{plan}");
    assert!((figure("flops") / 3.14e23 - 1.0).abs() < 0.03, "{plan}");
    assert!(plan["on"][0]["cost"].is_null() && plan["on"][0]["sequences"] == 0, "{plan}");
    for (preset, vocab_size) in [("gpt1", 40_478), ("gpt2", 50_257), ("modern-baby", 8_192)] {
        assert_eq!(json(&["plan", "--preset", preset, "--device", "h100"])["vocab_size"], vocab_size);
    }
    let page = stdout(&[&words[..], &["--price", "2"]].concat());
    assert!(page.contains("300,000,000,000") && page.contains("one does not hold the model"), "{page}");
    let named = |device| ["plan", "--preset", "tiny", "--precision", "f32", "--device", device];
    let [cpu, this] = ["cpu", "this"].map(|device| json(&named(device)));
    assert_eq!(
        (&cpu["plan"], &cpu["on"][0]["device"]["name"]),
        (&this["plan"], &this["on"][0]["device"]["name"])
    );
    // No machine has a hundred GPUs, and a build without them none.
    fails(&named("cuda:99"), 1, &["GPU"]);
    fails(&named("abacus"), 2, &["abacus", "cpu", "cuda", "h100"]);
    fails(&["plan", "--preset", "gpt2", "--utilisation", "2"], 2, &["share"]);
}

#[test]
fn a_plan_tells_how_far_a_step_scales() {
    let words = ["plan", "--preset", "gpt2", "--device", "t4"];
    assert!(json(&words)["over_ranks"].is_null());
    let network = |bandwidth| [&words[..], &["--bandwidth", bandwidth, "--latency-us", "5"]].concat();
    let plan = json(&network("10Gbit/s"));
    let scaling = &plan["over_ranks"][0];
    assert_eq!((&scaling["device"], &scaling["network"]["bytes_per_sec"]), (&"t4".into(), &1.25e9.into()));
    let steps = scaling["steps"].as_array().expect("rows");
    assert_eq!((steps.len(), &steps[0]["ranks"], &steps[10]["ranks"]), (11, &1.into(), &1024.into()));
    let stops =
        |bandwidth| json(&network(bandwidth))["over_ranks"][0]["stops_at"].as_u64().expect("a number");
    assert!(stops("1Gbit/s") < stops("100Gbit/s"));
    let page = stdout(&[&words[..], &["--count", "8"]].concat());
    assert!(page.contains("speed-up") && page.contains("it stops scaling at"), "{page}");
    fails(&network("fast"), 2, &["10Gbit/s"]);
}

#[test]
fn help_of_pretraining_lists_the_recipe_with_its_values() {
    let help = stdout(&["pretrain", "--help"]);
    let keys = "n_layer n_head d_model d_ff seq_len dropout lr min_lr_frac warmup_steps weight_decay beta1 beta2 eps \
                grad_clip batch_tokens steps eval_every checkpoint_every sample_every keep_last";
    for key in keys.split_whitespace() {
        assert!(
            help.lines().any(|line| line.split_whitespace().next() == Some(key)),
            "{key} is missing in:\n{help}"
        );
    }
    let width = help.lines().find(|line| line.trim_start().starts_with("d_model")).expect("a row");
    assert!(width.contains("384") && width.contains("768"), "{width}");
}

/// What follows from the model or its examples stands in the help of a stage as a rule, everything else as a
/// value.
#[test]
fn help_of_stages_tells_the_rules_of_their_recipes() {
    for (stage, nano, wide) in [
        ("finetune", "0.001", "6.25e-5"),
        ("sft", "0.001", "0.000125"),
        ("distil", "0.001", "0.000125"),
        ("reward", "0.0005", "3.13e-5"),
        ("dpo", "0.0001", "8.84e-6"),
        ("kto", "0.0001", "8.84e-6"),
        ("ppo", "5e-5", "8.84e-6"),
        ("grpo", "0.0002", "1.77e-5"),
    ] {
        let help = stdout(&[stage, "--help"]);
        let row =
            |key: &str| help.lines().find(|line| line.split_whitespace().next() == Some(key)).expect("a row");
        let lr = row("lr");
        assert!(
            lr.contains(&format!("By size: nano {nano}")) && lr.contains(&format!("gpt2 {wide}")),
            "{lr}"
        );
        assert_eq!(row("epochs").contains("by number"), !["ppo", "grpo"].contains(&stage), "{help}");
        assert_eq!(row("dropout").contains("By origin: 0.1"), ["finetune", "sft"].contains(&stage), "{help}");
        assert!(row("beta1").contains("0.9"), "{help}");
    }
}

#[test]
fn wrong_usage_is_2() {
    fails(&["fly"], 2, &["fly"]);
    fails(&["corpus", "somewhere"], 2, &["--out"]);
    fails(&["corpus", "somewhere", "--out", "x", "--max-bytes", "much"], 2, &["20M"]);
    fails(&["bench", "--threads", "0"], 2, &["at least one thread"]);
    fails(&["bench", "--precision", "f16"], 2, &["f32, bf16"]);
    fails(&["complete", "--model", "m", "x", "--temperature", "-1"], 2, &["from 0 up"]);
    fails(&["corpus", "somewhere", "--out", "x", "--val-fraction", "1"], 2, &["below 1"]);
    fails(&["corpus", "somewhere", "--out", "x", "--near-dedup=0.2"], 2, &["from 0.7 to 1"]);
    fails(&["complete", "--model", "m"], 2, &["no prompt"]);
    let pretrain = ["pretrain", "--preset", "tiny", "--out", "o"];
    let with = |rest: &[&'static str]| [&pretrain[..], rest].concat();
    fails(&with(&[]), 2, &["--data"]);
    fails(&with(&["--stream", "x"]), 2, &["--tokenizer"]);
    fails(&with(&["--stream", "x", "--tokenizer", "t", "--data", "d"]), 2, &["cannot be used with"]);
    fails(&with(&["--data", "d", "--include", "*.py"]), 2, &["--include", "--stream"]);
    fails(&with(&["--data", "d", "--key-token-alpha", "2"]), 2, &["--key-token"]);
    fails(
        &["tokenize", "--corpus", "c", "--tokenizer", "t", "--out", "o", "--overflow", "chunk"],
        2,
        &["--context"],
    );
}

#[test]
fn unknown_presets_and_keys_name_what_there_is() {
    let pretrain = ["pretrain", "--data", "d", "--out", "o", "--preset"];
    let with = |rest: &[&'static str]| [&pretrain[..], rest].concat();
    fails(&with(&["huge"]), 2, &["huge", "gpt2-xl", "tiny"]);
    fails(&with(&["tiny", "--set", "learning_rate=1"]), 2, &["learning_rate", "warmup_steps"]);
    fails(&with(&["tiny", "--set", "steps=many"]), 2, &["steps"]);
    fails(&with(&["tiny", "--batch-tokens", "100"]), 2, &["128 would do"]);
    fails(&with(&["tiny", "--lr", "-1"]), 2, &["lr is -1", "positive"]);
    fails(&with(&["tiny", "--steps", "5", "--tokens", "5"]), 2, &["cannot be used with"]);
    fails(&["speedrun", "--preset", "huge"], 2, &["huge", "tiny"]);
}

#[test]
fn quiet_says_nothing_but_results() {
    let road = road();
    let assert = run(&["show", &road.path("corpus"), "--quiet"], 0);
    assert_eq!(stderr(&assert), "");
    assert!(!assert.get_output().stdout.is_empty());
    let again =
        ["corpus", &road.path("sources"), "--out", &road.path("corpus"), "--val-fraction", "0.1", "--quiet"];
    let assert = run(&again, 0);
    let (told, out) = (stderr(&assert), assert.get_output().stdout.len());
    assert!(told.contains("documents read") && !told.contains("nothing to do") && out == 0, "{told}");
}

/// A reader who leaves early, as `head` does, is no failure.
#[test]
fn a_closed_pipe_ends_the_program_quietly() {
    let road = road();
    let text = "some words to be encoded, and some more of them\n".repeat(40_000);
    let file = path(std::path::Path::new(&road.path("")), "long.txt");
    std::fs::write(&file, text).expect("a file");
    let mut child = Command::new(env!("CARGO_BIN_EXE_mynah"))
        .args(["tokenizer", "encode", "--tokenizer", &road.path("tokenizer.json"), "-"])
        .stdin(std::fs::File::open(&file).expect("a file"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut first = [0; 4];
    child.stdout.take().expect("a pipe").read_exact(&mut first).expect("some output");
    let output = child.wait_with_output().expect("it ends");
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(0), ""));
}

#[cfg(target_os = "linux")]
#[test]
fn output_that_cannot_be_written_is_a_failure() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("a full device");
    let output = Command::new(env!("CARGO_BIN_EXE_mynah"))
        .args(["tokenizer", "encode", "--tokenizer", &road().path("tokenizer.json"), "text"])
        .stdout(full)
        .stderr(Stdio::piped())
        .output()
        .expect("it runs");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("error: cannot write to standard output"));
}

#[test]
fn a_prompt_may_come_from_standard_input_and_look_like_a_flag() {
    let (model, tokenizer) = (road().path("run"), road().path("tokenizer.json"));
    let arguments = ["complete", "--model", &model, "-", "--max-tokens", "2", "--json"];
    let assert = mynah(&arguments).write_stdin("def f").assert().success();
    assert!(String::from_utf8_lossy(&assert.get_output().stdout).starts_with(r#"{"prompt":"def f","#));
    let ids = stdout(&["tokenizer", "encode", "--tokenizer", &tokenizer, "--", "--quiet"]);
    let text = stdout(&["tokenizer", "decode", "--tokenizer", &tokenizer, ids.trim()]);
    assert_eq!(text, "--quiet");
}

/// Where the program has no GPUs, or the machine has none, that is said before anything is begun.
#[test]
fn a_gpu_that_is_not_there_is_named() {
    let said: &[&str] = match cfg!(feature = "cuda") {
        true => &["GPU"],
        false => &["built without GPUs", "--features cuda"],
    };
    // No machine has so many.
    let mut training = road().pretrain("on-a-gpu", "2");
    training.extend(["--device".to_owned(), "cuda:99".to_owned()]);
    fails(&training.iter().map(String::as_str).collect::<Vec<_>>(), 1, said);
    fails(&["bench", "peak", "--device", "cuda"], 1, &["the processor alone"]);
    fails(&["bench", "peak", "--device", "tpu"], 2, &["not cpu, cuda"]);
}
