//! Runs over HTTP: what was written after which step, and asking a checkpoint again.
#![cfg(unix)]

use super::fixture::{Server, cpu, write};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

/// A run of two checkpoints and fifty steps with samples; the last line is being written.
fn run(dir: &Path, stage: &str) {
    let mut cpu = cpu();
    for step in [10, 50] {
        write(&dir.join(format!("checkpoints/step-{step:06}")), step, false, &mut cpu);
    }
    fs::write(dir.join("config.toml"), format!("stage = {stage:?}\nformat = 1\n[settings]\nsteps = 50\n"))
        .unwrap();
    let sample =
        |step| json!({ "step": step, "prompt": "a", "completion": format!("b{step}") }).to_string() + "\n";
    let torn = "{\"step\": 51, \"prompt\": \"x";
    fs::write(dir.join("samples.jsonl"), (1..=50).map(sample).collect::<String>() + torn).unwrap();
    let rollout = |step| {
        json!({ "step": step, "prompt": "p", "answer": "q", "reward": 0.5, "kl": 0.1 }).to_string() + "\n"
    };
    fs::write(dir.join("rollouts.jsonl"), (1..=50).map(rollout).collect::<String>()).unwrap();
    fs::write(dir.join("metrics.jsonl"), "{\"step\":50,\"loss\":1.0,\"val_loss\":2.0}\n").unwrap();
}

#[test]
fn a_run_is_told_step_by_step_and_its_checkpoints_can_be_asked() {
    let dir = tempfile::tempdir().unwrap();
    let (runs, elsewhere) = (dir.path().join("runs"), dir.path().join("elsewhere"));
    run(&runs.join("road/ppo"), "ppo");
    run(&elsewhere, "sft");
    let link = |to: &str, at: &str| std::os::unix::fs::symlink(elsewhere.join(to), runs.join(at)).unwrap();
    link("", "link");
    link("checkpoints/step-000010", "road/ppo/checkpoints/step-000030");
    run(&runs.join("road/sft"), "sft");
    fs::remove_file(runs.join("road/sft/samples.jsonl")).unwrap();
    link("samples.jsonl", "road/sft/samples.jsonl");
    let server = Server::start(|settings| settings.runs = vec![runs.clone()]);

    assert_eq!(server.get("/v1/models").json()["offers"]["runs"], true);
    let listed = server.get("/v1/runs").json()["runs"].take();
    let names: Vec<&Value> = listed.as_array().unwrap().iter().map(|run| &run["name"]).collect();
    assert_eq!(
        names,
        [&json!("road/ppo"), &json!("road/sft")],
        "a link out of the folder is none of its runs"
    );
    let steps = server.get("/v1/runs/road/ppo").json()["steps"].take();
    let steps = steps.as_array().unwrap();
    assert_eq!(steps.len(), 50, "what is not written to its end is not told");
    let kept: Vec<u64> = steps
        .iter()
        .filter(|step| step["checkpoint"] == true)
        .map(|step| step["step"].as_u64().unwrap())
        .collect();
    assert_eq!(kept, [10, 30, 50]);
    let away = server.get("/v1/runs/road/sft");
    assert!(away.status == 500 && away.body.contains("link to another place"), "{}", away.body);
    assert_eq!(steps[9]["samples"][0]["completion"], "b10");
    assert_eq!(steps[9]["rollouts"][0], json!({ "prompt": "p", "answer": "q", "reward": 0.5, "kl": 0.1 }));
    for path in ["link", "..", "../elsewhere", "%2e%2e/elsewhere", "road/ppo/checkpoints", "nothing"] {
        let status = server.get(&format!("/v1/runs/{path}")).status;
        assert!(status == 404 || status == 401, "{path}: {status}");
    }

    let told = server.get("/v1/curves/road/ppo").json();
    assert_eq!(told["curves"]["val_loss"], json!([[50, 2.0]]));
    assert_eq!((&told["step"], &told["steps"], &told["state"]), (&json!(50), &json!(50), &json!("killed")));
    // It goes on, by another process: what is new is told, and nothing twice.
    fs::write(runs.join("road/ppo/metrics.jsonl"), "{\"step\":49,\"val_loss\":3.0}\n").unwrap();
    let events = "{\"unix_secs\":1,\"step\":48,\"event\":\"resumed\",\"detail\":\"\"}\n";
    fs::write(runs.join("road/ppo/events.jsonl"), events).unwrap();
    let told = server.get("/v1/curves/road/ppo").json();
    assert_eq!(told["curves"]["val_loss"], json!([[49, 3.0]]));
    assert_eq!((&told["events"][0]["event"], &told["events"][0]["step"]), (&json!("resumed"), &json!(48)));

    let ask = |step: u64| server.post("/v1/runs", &json!({ "run": "road/ppo", "step": step }));
    let body = |model: &str| json!({ "model": model, "prompt": "x", "max_tokens": 3, "temperature": 0 });
    assert_eq!(ask(10).json(), json!({ "model": "road/ppo@10" }));
    let first = server.answer("/v1/completions", &body("road/ppo@10"));
    assert_eq!(ask(50).json(), json!({ "model": "road/ppo@50" }));
    let second = server.answer("/v1/completions", &body("road/ppo@50"));
    assert_ne!(first["system_fingerprint"], second["system_fingerprint"]);
    assert_eq!(
        server.post("/v1/completions", &body("road/ppo@10")).status,
        404,
        "one at a time is in memory"
    );
    assert_eq!(server.get("/v1/models").json()["data"].as_array().unwrap().len(), 4);
    assert_eq!(ask(20).status, 404);
    assert_eq!(ask(30).status, 404, "a link out of the run is no checkpoint of it");
    let outside = server.post("/v1/runs", &json!({ "run": "../elsewhere", "step": 10 }));
    assert_eq!(outside.status, 404);
}

#[test]
fn of_a_long_run_some_steps_are_told_and_all_checkpoints() {
    let dir = tempfile::tempdir().unwrap();
    run(&dir.path().join("long"), "sft");
    write(&dir.path().join("long/checkpoints/step-000012"), 12, false, &mut cpu());
    let sample = |step| json!({ "step": step, "prompt": "a", "completion": "b" }).to_string() + "\n";
    fs::write(dir.path().join("long/samples.jsonl"), (1..=2000).map(sample).collect::<String>()).unwrap();
    let server = Server::start(|settings| settings.runs = vec![dir.path().to_owned()]);
    let steps = server.get("/v1/runs/long").json()["steps"].take();
    let steps: Vec<(u64, bool)> = steps
        .as_array()
        .unwrap()
        .iter()
        .map(|step| (step["step"].as_u64().unwrap(), step["checkpoint"] == true))
        .collect();
    assert!((400..=403).contains(&steps.len()), "{}", steps.len());
    assert!(steps.is_sorted() && [10, 12, 50].iter().all(|step| steps.contains(&(*step, true))));
    assert_eq!(steps.last(), Some(&(2000, false)));
}

#[test]
fn a_server_without_runs_says_how_it_gets_some() {
    let server = Server::start(|_| {});
    let reply = server.get("/v1/runs");
    assert!(reply.status == 404 && reply.body.contains("--runs"), "{}", reply.body);
    // Pages need not ask in vain.
    let offers = &server.get("/v1/models").json()["offers"];
    assert_eq!(offers, &json!({ "feedback": false, "runs": false, "learning": false }));
}
