//! Sweeps: runs of a grid and of a ladder, killed and continued, and what is wrong with their files.

use std::fs;
use std::path::Path;

use super::workshop::{fails, json, path, road, run, stdout};

/// What the small runs of a sweep have in common.
fn common(steps: u64) -> String {
    format!(
        "preset = \"tiny\"\ndata = {:?}\n[set]\nn_layer = 1\nd_model = 16\nseq_len = 32\nbatch_tokens = 128\nwarmup_steps = 5\n\
         eval_every = 10\neval_windows = 4\ncheckpoint_every = 10\nsample_every = 0\nsteps = {steps}\n",
        road().path("tokens")
    )
}

fn sweep_file(dir: &Path, name: &str, text: &str) -> String {
    let file = path(dir, name);
    fs::write(&file, text).expect("a file");
    file
}

/// Six runs, with both optimizers: killed twice, they end with the bytes of those that were left alone.
#[test]
#[cfg(unix)]
fn a_killed_sweep_ends_with_the_same_bytes() {
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    let dir = tempfile::tempdir().expect("a directory");
    let text = common(150) + "[grid]\noptimizer = [\"adamw\", \"muon\"]\nlr = [1e-3, 3e-3, 1e-2]\n";
    let file = sweep_file(dir.path(), "grid.toml", &text);
    let [whole, killed] = ["whole", "killed"].map(|name| path(dir.path(), name));
    let told = json(&["sweep", &file, "--out", &whole, "--precision", "f32"]);

    let mut died = 0;
    for (run, checkpoint) in
        [("2-optimizer-adamw-lr-0.003", "step-000020"), ("5-optimizer-muon-lr-0.003", "step-000030")]
    {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mynah"));
        command.args(["sweep", &file, "--out", &killed, "--precision", "f32", "--threads", ["1", "2"][died]]);
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
        let (began, checkpoint) = (Instant::now(), format!("{killed}/{run}/checkpoints/{checkpoint}"));
        while !Path::new(&checkpoint).exists() && child.try_wait().expect("a state").is_none() {
            assert!(began.elapsed() < Duration::from_secs(120), "it does not go on");
            std::thread::sleep(Duration::from_micros(300));
        }
        child.kill().expect("SIGKILL");
        died += usize::from(child.wait().expect("it ends").code().is_none());
        let state = stdout(&["runs", &killed]);
        assert!(state.contains("killed"), "{state}");
    }
    assert_eq!(died, 2, "both times it was killed, and not over");
    let again = json(&["sweep", &file, "--out", &killed, "--precision", "f32"]);
    for name in ["report.html", "results.json", "best.toml"] {
        let bytes = |out: &str| fs::read(Path::new(out).join(name)).expect("a file");
        assert!(bytes(&whole) == bytes(&killed), "{name} differs");
    }
    assert_eq!(again["runs"].to_string().replace(&killed, &whole), told["runs"].to_string());

    // Nothing is done twice, and the best recipe is a preset.
    let metrics =
        |run: &str| fs::metadata(format!("{killed}/{run}/metrics.jsonl")).expect("a file").modified().ok();
    let before = metrics("1-optimizer-adamw-lr-0.001");
    run_ok(&["sweep", &file, "--out", &killed, "--precision", "f32"]);
    assert_eq!(metrics("1-optimizer-adamw-lr-0.001"), before);
    let best = told["preset"].as_str().expect("a preset");
    let out = path(dir.path(), "best");
    let tokens = road().path("tokens");
    let words = ["pretrain", "--data", &tokens, "--preset", best, "--out", &out, "--steps", "20"];
    // Else the faster one is taken, which is another on other machines.
    run_ok(&[&words[..], &["--precision", "f32"]].concat());
    let name = told["best"].as_str().expect("a run");
    let recipe = |dir: &str| -> Vec<String> {
        let text = fs::read_to_string(Path::new(dir).join("config.toml")).expect("a recipe");
        let settings = text.lines().skip_while(|line| *line != "[settings]").skip(1);
        let settings = settings.take_while(|line| !line.starts_with('['));
        settings.filter(|line| !line.starts_with("steps =")).map(String::from).collect()
    };
    assert_eq!(recipe(&out), recipe(&format!("{whole}/{name}")), "the same but for the steps");
    let other = sweep_file(dir.path(), "other.toml", &text.replace("1e-2", "2e-2"));
    fails(&["sweep", &other, "--out", &killed, "--precision", "f32"], 1, &["different command", "grid"]);
}

fn run_ok(arguments: &[&str]) {
    run(arguments, 0);
}

#[test]
fn a_ladder_has_a_power_law() {
    let dir = tempfile::tempdir().expect("a directory");
    let rungs = [(8, "flops = 4e8"), (16, "tokens = '6k'"), (32, "steps = 60")];
    let rungs = rungs.map(|(width, amount)| format!("[[ladder]]\nd_model = {width}\n{amount}\n"));
    let file = sweep_file(dir.path(), "ladder.toml", &(common(20) + &rungs.concat()));
    let out = path(dir.path(), "sweep");
    let told = json(&["sweep", &file, "--out", &out]);
    let runs = told["runs"].as_array().expect("runs");
    assert_eq!(runs.len(), 3);
    assert_eq!(runs[1]["tokens"], 6016, "whole steps of 128");
    let flops = runs[0]["flops"].as_f64().expect("operations");
    assert!((flops / 4e8 - 1.0).abs() < 0.05, "{flops}");
    let law = &told["law"];
    assert_eq!(law["n"], 3);
    assert!(law["b"]["low"].as_f64() < law["b"]["value"].as_f64(), "{law}");
    let page = fs::read_to_string(Path::new(&out).join("report.html")).expect("a page");
    assert!(page.contains("Scaling law") && page.contains("标度律"));
    run(&["report", &out], 0);
    assert_eq!(fs::read_to_string(Path::new(&out).join("report.html")).expect("a page"), page);
}

#[test]
fn faults_of_a_sweep_are_named_by_key_and_line() {
    let dir = tempfile::tempdir().expect("a directory");
    let out = path(dir.path(), "sweep");
    for (text, parts) in [
        (common(20) + "[grid]\nlrate = [1e-3]\n", &["line 15", "lrate"][..]),
        (common(20) + "[grid]\nd_model = [15]\n", &["line 15", "n_head"]),
        (common(20) + "[grid]\nlr = 3\n", &["line 15", "lr is a integer"]),
        ("flavour = 3\n".to_owned() + &common(20) + "[grid]\nlr = [1]\n", &["line 1", "--flavour"]),
        ("preset = 'tniy'\ndata = 'x'\n[grid]\nlr = [1e-3]\n".to_owned(), &["line 4", "tniy", "tiny"]),
        ("verb = 'chat'\n[grid]\nlr = [1e-3]\n".to_owned(), &["line 1", "chat", "pretrain"]),
    ] {
        let file = sweep_file(dir.path(), "sweep.toml", &text);
        fails(&["sweep", &file, "--out", &out], 2, &[&["sweep.toml"], parts].concat());
        assert!(!Path::new(&out).exists(), "nothing was begun");
    }
    fails(&["sweep", &path(dir.path(), "none.toml"), "--out", &out], 2, &["none.toml", "cannot read"]);
}

/// A training that explodes is noted, and the others go on.
#[test]
fn a_run_that_fails_is_noted() {
    let dir = tempfile::tempdir().expect("a directory");
    let text = common(60) + "grad_clip = 0\n[grid]\nlr = [1e9, 1e-3]\n";
    let file = sweep_file(dir.path(), "sweep.toml", &text);
    let told = json(&["sweep", &file, "--out", &path(dir.path(), "sweep")]);
    let runs = told["runs"].as_array().expect("runs");
    assert!(runs[0]["failed"].is_string() && runs[0]["finished"] == false, "{told}");
    assert_eq!(runs[1]["finished"], true);
    assert!(told["best"].as_str().expect("a run").starts_with("2-"));
}
