//! Models and data sets of the hub, from a hub on the loopback.
#![allow(clippy::unwrap_used)] // A test that finds no value has failed.

mod failures;
mod flush;
mod models;
mod server;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use server::Server;
use text::hub::{Hub, Name, Settings, Token};

const MODEL: &str = "models/someone/tiny";

/// The name `text`.
fn name(text: &str) -> Name {
    Name::of(Path::new(text)).unwrap().unwrap()
}

fn settings(endpoint: &str, cache: &Path) -> Settings {
    Settings {
        endpoint: endpoint.to_owned(),
        cache: cache.join("hub"),
        token: Some(Token("hf_secret".into())),
        offline: false,
        certificates: None,
        patience: Duration::from_millis(1),
    }
}

fn hub(server: &Server, cache: &Path) -> Hub {
    Hub::new(settings(&server.endpoint, cache)).unwrap()
}

/// The files of a model by name; what is in them, the hub does not ask.
fn golden() -> Vec<(&'static str, Vec<u8>)> {
    let weights = (0..60_000_u32).map(|i| (i.wrapping_mul(0x9e37_79b1) >> 24) as u8).collect();
    vec![
        ("config.json", br#"{"model_type":"gpt2"}"#.to_vec()),
        ("generation_config.json", br#"{"eos_token_id":0}"#.to_vec()),
        ("model.safetensors", weights),
    ]
}

/// Commits the golden model with `more` beside it, and returns the commit.
fn commit_model(server: &Server, more: &[(&str, &[u8])]) -> String {
    let golden = golden();
    let files: Vec<(&str, &[u8])> = golden.iter().map(|(name, bytes)| (*name, bytes.as_slice())).collect();
    server.commit(MODEL, &[&files, more].concat())
}

/// The message of what must fail; the token is never in it.
fn message<T>(result: anyhow::Result<T>) -> String {
    let message = format!("{:#}", result.err().expect("it fails"));
    assert!(!message.contains("hf_secret"), "{message}");
    message
}

/// Every file below a directory, sorted, relative to it.
fn files_below(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut dirs = vec![PathBuf::from(dir)];
    while let Some(next) = dirs.pop() {
        for entry in fs::read_dir(next).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if entry.file_type().unwrap().is_dir() {
                dirs.push(path);
            } else {
                found.push(path.strip_prefix(dir).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}
