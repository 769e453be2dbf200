//! Ctrl-C saves, and the same command goes on as if nothing had happened.
#![cfg(unix)]

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::workshop::{road, run};

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

fn start(arguments: &[String]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mynah"));
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command.spawn().expect("it starts")
}

fn wait_until(condition: impl Fn() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < Duration::from_secs(60), "it did not begin");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status();
    assert!(status.expect("kill runs").success());
}
