//! The READMEs keep their word: both languages have the same commands, and every command runs as printed.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use assert_cmd::Command;

use super::workshop::write_sources;

const REPOSITORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
/// Only what hangs takes longer, also where neighbours use the machine.
const LIMIT: Duration = Duration::from_secs(900);

/// The lines in fenced `sh` blocks, in order.
fn commands(name: &str) -> Vec<String> {
    let text = fs::read_to_string(Path::new(REPOSITORY).join(name)).expect("a README");
    let blocks = text.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap_or_default());
    blocks.flat_map(str::lines).filter(|line| !line.is_empty()).map(String::from).collect()
}

#[test]
fn both_languages_print_the_same_commands() {
    let english = commands("README.md");
    assert_eq!(english, commands("README.zh-CN.md"));
    assert_eq!(english[..2], ["cargo run --release", "cargo test --release"]);
}

#[test]
fn every_command_runs_as_printed() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    write_sources(&dir.path().join("crates"), 80);
    let program = Path::new(env!("CARGO_BIN_EXE_mynah")).parent().expect("a folder");
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap_or_default());
    let (mut cargo, mut ours, mut server) = (0, 0, None);
    for command in commands("README.md") {
        if command.starts_with("cargo ") {
            // What runs this test, and what guards the main branch runs in small.
            cargo += 1;
            continue;
        }
        if let Some((mut server, _)) = server.take_if(|_| !command.starts_with("curl ")) {
            stop(&mut server);
        }
        if command.starts_with("mynah serve ") || command.starts_with("mynah rank --") {
            server = Some(serve(&command, &path, dir.path()));
            ours += 1;
            continue;
        }
        let asks = command.starts_with("curl ");
        assert!(asks || command.contains("mynah "), "not a command of ours: {command}");
        let command = match (&server, asks) {
            (Some((_, address)), true) => command.replace("127.0.0.1:8000", address),
            _ => command,
        };
        let mut shell = Command::new("sh");
        shell.args(["-c", &command]).env("PATH", &path).current_dir(dir.path()).timeout(LIMIT);
        let output = shell.output().expect("a shell starts");
        assert!(output.status.success(), "{command}\n{}", String::from_utf8_lossy(&output.stderr));
        if let Some((mut server, _)) = server.take() {
            let answer = String::from_utf8_lossy(&output.stdout);
            assert!(answer.contains("\"finish_reason\""), "{answer}");
            stop(&mut server);
        }
        ours += 1;
    }
    assert!(cargo == 2 && ours > 15, "{cargo} and {ours} commands");
}

fn stop(server: &mut Child) {
    server.kill().expect("it runs");
    server.wait().expect("it ends");
}

/// Starts a server, which the next command asks: itself, and where it listens. The port is any that is free,
/// since others may listen at the usual one.
fn serve(command: &str, path: &str, dir: &Path) -> (Child, String) {
    let words = format!("exec {command} --port 0");
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", &words]).env("PATH", path).current_dir(dir).stderr(Stdio::piped());
    let mut server = shell.spawn().expect("a shell starts");
    let lines = BufReader::new(server.stderr.take().expect("a pipe")).lines();
    let address = lines
        .map_while(Result::ok)
        .find_map(|line| Some(line.split_once("listening on http://")?.1.to_owned()));
    (server, address.expect("it listens"))
}
