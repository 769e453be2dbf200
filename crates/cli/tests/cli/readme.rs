//! The READMEs keep their word: both languages have the same commands, and every command runs as printed.

use std::fs;
use std::path::Path;

use super::workshop::{mynah, write_sources};

const REPOSITORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// The lines in fenced `sh` blocks, in order.
fn commands(name: &str) -> Vec<String> {
    let text = fs::read_to_string(Path::new(REPOSITORY).join(name)).expect("a README");
    let blocks = text.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap_or_default());
    blocks.flat_map(str::lines).filter(|line| !line.is_empty()).map(String::from).collect()
}

/// Splits a command where a shell would: at blanks, but not within double quotes.
fn words(command: &str) -> Vec<String> {
    let quoted = command.split('"').enumerate();
    quoted
        .flat_map(|(i, part)| match i % 2 {
            1 => vec![part.to_string()],
            _ => part.split_whitespace().map(String::from).collect(),
        })
        .collect()
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
    write_sources(&dir.path().join("code"), 80);
    let (mut cargo, mut ours) = (0, 0);
    for command in commands("README.md") {
        let words = words(&command);
        match words[0].as_str() {
            // These two are what runs this test, and what guards the main branch runs in small.
            "cargo" => cargo += 1,
            "mynah" => {
                let arguments: Vec<&str> = words[1..].iter().map(String::as_str).collect();
                let output = mynah(&arguments).current_dir(dir.path()).output().expect("it starts");
                assert!(output.status.success(), "{command}\n{}", String::from_utf8_lossy(&output.stderr));
                ours += 1;
            }
            other => panic!("{other} is not a program that a reader has: {command}"),
        }
    }
    assert!(cargo == 2 && ours > 5, "{cargo} and {ours} commands");
}
