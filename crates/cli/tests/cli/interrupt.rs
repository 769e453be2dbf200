//! Ctrl-C saves, `kill -9` does not, and the same command goes on as if nothing had happened.
#![cfg(unix)]

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use kernels::rng;

use super::workshop::{chat_road, path, road, run};

#[test]
fn an_interrupted_run_ends_with_the_same_bytes() {
    let road = road();
    let unbroken = road.pretrain("unbroken", "400");
    run(&unbroken.iter().map(String::as_str).collect::<Vec<_>>(), 0);

    let broken = road.pretrain("broken", "400");
    let metrics = Path::new(&road.path("broken")).join("metrics.jsonl");
    let child = start(&broken);
    wait_until(|| fs::read_to_string(&metrics).is_ok_and(|text| text.lines().count() > 5));
    signal(&child, "INT");
    let output = child.wait_with_output().expect("it ends");
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{told}");
    assert!(told.contains("saving, press Ctrl-C again to stop at once"), "{told}");
    assert!(
        fs::read_to_string(&metrics).expect("metrics").lines().count() < 400,
        "it was too quick to be stopped"
    );

    run(&broken.iter().map(String::as_str).collect::<Vec<_>>(), 0);
    for name in ["metrics.jsonl", "checkpoints/step-000400/model.safetensors"] {
        let bytes = |run: &str| fs::read(Path::new(&road.path(run)).join(name)).expect("a file");
        assert!(bytes("unbroken") == bytes("broken"), "{name} differs");
    }
}

#[test]
fn twenty_kills_at_random_moments_leave_no_trace() {
    let road = road();
    survives(20, 1000, |name, steps| (road.pretrain(name, steps), road.path(name)));
}

/// The same where nothing but a checkpoint tells how far the files were read.
#[test]
fn a_stream_that_is_killed_goes_on_where_it_was() {
    let road = road();
    survives(6, 300, |name, steps| {
        let name = format!("stream-{name}");
        let mut arguments = road.pretrain(&name, steps);
        let at = arguments.iter().position(|word| word == "--data").expect("an option");
        let (files, tokenizer) = (road.path("sources"), road.path("tokenizer.json"));
        let stream = ["--stream", &files, "--tokenizer", &tokenizer, "--block-tokens", "3000"];
        arguments.splice(at..at + 2, stream.iter().chain(&["--val-fraction", "0.1"]).map(|w| w.to_string()));
        (arguments, road.path(&name))
    });
}

/// The stages after pretraining, ten times each.
#[test]
fn the_stages_to_a_chat_survive_kills() {
    let (dir, _) = chat_road();
    let [pretrain, sft, reward] =
        ["pretrain", "sft", "reward"].map(|name| path(dir.path(), &format!("road/{name}")));
    let [demonstrations, prompts] =
        ["demonstrations", "prompts"].map(|name| path(dir.path(), &format!("road/lessons/{name}.jsonl")));
    let rankings = path(dir.path(), "road/rankings.jsonl");
    let ppo = ["--set", "max_tokens=8", "--set", "ema=0.9", "--set", "eval_prompts=4"];
    let reviews = path(dir.path(), "reviews.jsonl");
    fs::write(&reviews, (0..40).map(review).collect::<String>()).expect("a file");
    let judged = path(dir.path(), "judged.jsonl");
    fs::write(&judged, (0..60).map(thumb).collect::<String>()).expect("a file");
    let task = ["--model", &pretrain, "--task", "classification", "--train", &reviews, "--val", &reviews];
    let grpo = [
        "--reward",
        "answer",
        "--loss",
        "dapo",
        "--group",
        "3",
        "--set",
        "max_tokens=8",
        "--set",
        "eval_prompts=4",
    ];
    let own = ["--set", "max_tokens=8", "--set", "dropout=0.1"];
    let grpo = [&["--model", &sft, "--prompts", &prompts], &grpo[..]].concat();
    let whole: [(&str, Vec<&str>); 8] = [
        ("finetune", task.to_vec()),
        ("sft", vec!["--model", &pretrain, "--data", &demonstrations, "--set", "dropout=0.1"]),
        ("reward", vec!["--model", &sft, "--rankings", &rankings]),
        ("ppo", [&["--model", &sft, "--reward", &reward, "--prompts", &prompts], &ppo[..]].concat()),
        ("grpo", grpo),
        ("dpo", vec!["--model", &sft, "--rankings", &rankings, "--set", "max_tokens=8"]),
        (
            "distil",
            [&["--teacher", &sft, "--model", &pretrain, "--data", &demonstrations], &own[..]].concat(),
        ),
        ("kto", vec!["--model", &sft, "--data", &judged, "--set", "max_tokens=8"]),
    ];
    // An adapter has weights, moments and a reference of its own kind; it knows the tokens of its base.
    let taught = ("sft", vec!["--model", &sft, "--data", &demonstrations, "--base", "nf4"]);
    let beside = whole.iter().filter(|(stage, _)| ["reward", "ppo", "grpo", "dpo"].contains(stage));
    let adapters = beside.chain([&taught]).map(|(stage, of)| {
        let lora: &[&str] =
            if *stage == "ppo" { &["--lora", "r=4", "--set", "ema=0"] } else { &["--lora", "r=4"] };
        (*stage, [&of[..], lora].concat())
    });
    let stages = whole.iter().cloned().chain(adapters);
    for (at, (stage, options)) in stages.enumerate() {
        survives(10, 80, |name, steps| {
            let out = path(dir.path(), &format!("{at}-{stage}-{name}"));
            let every = ["eval_every=16", "checkpoint_every=6", "sample_every=16", "batch_size=4"];
            let every = every.iter().flat_map(|set| ["--set", set]);
            let words = [stage, "--out", &out, "--steps", steps].into_iter().chain(options.iter().copied());
            (words.chain(every).map(String::from).collect(), out)
        });
    }
}

/// A labelled text, as a line.
fn review(number: usize) -> String {
    let (text, label) = [("a good day", "good"), ("a bad day", "bad")][number % 2];
    format!("{{\"text\":\"{text} {number}\",\"label\":\"{label}\"}}\n")
}

/// An answer that is good or bad, as a line.
fn thumb(number: usize) -> String {
    let good = number.is_multiple_of(2);
    format!("{{\"prompt\":\"What is {}?\",\"completion\":\"{good}\",\"label\":{good}}}\n", number / 3)
}

/// Kills a training `kills` times at random moments: it ends with the bytes of one that was left alone.
/// `training` gives the arguments and the directory of a run by name, for so many steps.
fn survives(kills: u64, steps: u64, training: impl Fn(&str, &str) -> (Vec<String>, String)) {
    let (whole, whole_dir) = training("whole", &steps.to_string());
    run(&whole.iter().map(String::as_str).collect::<Vec<_>>(), 0);

    let (killed, killed_dir) = training("killed", &steps.to_string());
    let metrics = Path::new(&killed_dir).join("metrics.jsonl");
    let lines = || fs::read_to_string(&metrics).map_or(0, |text| text.lines().count() as u64);
    let mut reached = 0;
    for kill in 0..kills {
        let mut child = start(&killed);
        // Some steps beyond the last kill or a little before it, so that kills fall between checkpoints, into
        // them, and into what the run does again; then a moment more, so that they fall into the middle of a
        // step.
        let target = reached + rng::below(1, 1, kill, steps / kills / 2);
        wait_until(|| lines() > target || child.try_wait().expect("a state").is_some());
        std::thread::sleep(Duration::from_micros(rng::below(1, 2, kill, 12_000)));
        child.kill().expect("SIGKILL");
        let status = child.wait().expect("it ends");
        assert!(status.code().is_none(), "kill {kill} came too late: {status}");
        reached = lines();
    }
    run(&killed.iter().map(String::as_str).collect::<Vec<_>>(), 0);
    let precision = |run: &str| {
        let recipe = fs::read_to_string(Path::new(run).join("config.toml")).expect("a recipe");
        recipe.lines().find(|line| line.starts_with("precision")).map(str::to_owned)
    };
    assert_eq!(precision(&whole_dir), precision(&killed_dir), "{killed_dir}");
    let checkpoint = format!("checkpoints/step-{steps:06}");
    let files = fs::read_dir(Path::new(&whole_dir).join(&checkpoint)).expect("a checkpoint");
    let files = files.map(|file| file.expect("a file").file_name().into_string().expect("text"));
    let mut names: Vec<String> = files.map(|name| format!("{checkpoint}/{name}")).collect();
    assert!(names.iter().any(|name| name.ends_with("model.safetensors")), "{names:?}");
    names.extend(["metrics.jsonl", "samples.jsonl", "rollouts.jsonl"].map(String::from));
    for name in names.iter().filter(|name| Path::new(&whole_dir).join(name).exists()) {
        let bytes = |run: &str| fs::read(Path::new(run).join(name)).expect("a file");
        assert!(bytes(&whole_dir) == bytes(&killed_dir), "{name} of {killed_dir} differs");
    }
}

fn start(arguments: &[String]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mynah"));
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command.spawn().expect("it starts")
}

fn wait_until(mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < Duration::from_secs(60), "it did not begin");
        std::thread::sleep(Duration::from_millis(2));
    }
}

pub(super) fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status();
    assert!(status.expect("kill runs").success());
}
