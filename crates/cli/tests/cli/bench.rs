//! Speeds have their shape; how high they are is no business of a test.

use serde_json::Value;

use super::workshop::{fails, keys, road, run, stdout};

fn lines(arguments: &[&str]) -> Vec<Value> {
    let text = stdout(&[&["bench"], arguments, &["--json"]].concat());
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn the_peak_is_a_number() {
    let peak = lines(&["peak", "--threads", "1"]);
    assert_eq!(keys(&peak[0]), ["bench", "precision", "level", "threads", "flops_per_sec"]);
    assert!(peak[0]["flops_per_sec"].as_f64() > Some(1e8));
}

#[test]
fn a_training_step_is_timed() {
    let train = &lines(&["train", "--preset", "tiny", "--steps", "3", "--precision", "f32"])[0];
    assert_eq!(
        (&train["steps"], &train["batch_tokens"], &train["precision"]),
        (&3.into(), &4096.into(), &"f32".into())
    );
    assert!(train["tokens_per_sec"].as_f64() > Some(1.0));
    for loss in ["loss_first", "loss_last"] {
        let loss = train[loss].as_f64().expect("a loss");
        assert!((loss - 8192f64.ln()).abs() < 0.2, "random tokens cannot be told: {loss}");
    }
}

#[test]
fn decoding_is_measured_only_where_the_context_allows() {
    fails(&["bench", "decode", "--preset", "tiny"], 1, &["tiny", "64 tokens"]);
    let decode = &lines(&["decode", "--preset", "nano", "--batch", "2"])[0];
    assert_eq!((&decode["batch"], &decode["new_tokens"]), (&2.into(), &128.into()));
    assert!(decode["decode_tokens_per_sec"].as_f64() > Some(1.0));
}

#[test]
fn iterations_are_timed() {
    for (what, own) in [("ppo", &["epochs", "minibatches"]), ("grpo", &["group", "epochs"])] {
        let told = &lines(&[what, "--preset", "nano", "--steps", "1", "--precision", "f32"])[0];
        let shape = ["bench", "preset", "precision", "threads", "prompts", "prompt_tokens", "new_tokens"];
        let times =
            ["iteration_secs_median", "iteration_secs_min", "iteration_secs_max", "peak_memory_bytes"];
        assert_eq!(keys(told), [&shape[..], own, &times].concat());
        assert_eq!((&told["bench"], &told["new_tokens"]), (&what.into(), &64.into()));
        assert!(told["iteration_secs_median"].as_f64() > Some(0.0));
    }
}

/// A run goes on in the precision that it began with, whatever this machine measures; figures are in `f32`
/// everywhere.
#[test]
fn a_run_keeps_its_precision_and_figures_have_one() {
    let road = road();
    for precision in ["f32", "bf16"] {
        let words = road.pretrain(&format!("in-{precision}"), "2");
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        run(&[&words[..], &["--precision", precision]].concat(), 0);
        run(&words, 0);
        let other = if precision == "f32" { "bf16" } else { "f32" };
        let difference = format!("settings.precision: \"{precision}\" → \"{other}\"");
        fails(&[&words[..], &["--precision", other]].concat(), 1, &[&difference]);
    }
    let (model, texts) = (road.path("run"), road.path("texts.jsonl"));
    std::fs::write(&texts, "{\"text\": \"import numpy as np\"}\n{\"text\": \"def f(x): return x\"}\n")
        .expect("a file");
    let eval = ["eval", "--model", &model, "--tasks", &texts, "--json"];
    let bits = |more: &[&str]| stdout(&[&eval[..], more].concat());
    assert_eq!(bits(&[]), bits(&["--precision", "f32"]));
}
