//! What is fetched, where it lies, and what a name means afterwards.

use std::fs;

use tempfile::tempdir;
use text::hub::{Hub, Kind, Settings};
use text::progress::Silent;

use super::server::{Server, etag};
use super::{MODEL, commit_model, files_below, golden, hub, message, name, settings};

#[test]
fn a_model_is_fetched_once_and_lies_where_python_looks() {
    let (server, dir) = (Server::start(), tempdir().unwrap());
    let commit = commit_model(
        &server,
        &[
            ("README.md", b"# Tiny"),
            ("tokenizer.json", b"{}"),
            ("onnx/model.onnx", b"x"),
            ("pytorch_model.bin", b"x"),
        ],
    );
    let first = hub(&server, dir.path()).model(&name("hf:someone/tiny"), &Silent).unwrap();
    assert_eq!(first.name.to_string(), format!("hf:someone/tiny@{commit}"));
    for (file, bytes) in golden() {
        assert_eq!(fs::read(first.path.join(file)).unwrap(), bytes, "{file}");
    }
    let root = dir.path().join("hub/models--someone--tiny");
    let mut expected = vec!["refs/main".to_owned(), format!("trees/{commit}.json")];
    for (file, bytes) in golden().into_iter().chain([("tokenizer.json", b"{}".to_vec())]) {
        expected.push(format!("snapshots/{commit}/{file}"));
        expected.push(format!("blobs/{}", etag(&bytes)));
        let link = fs::read_link(root.join("snapshots").join(&commit).join(file)).unwrap();
        assert_eq!(link.to_str().unwrap(), format!("../../blobs/{}", etag(&bytes)));
    }
    expected.sort();
    assert_eq!(files_below(&root), expected, "what is needed, and nothing else");
    assert_eq!(fs::read_to_string(root.join("refs/main")).unwrap(), commit);

    server.world().asked.clear();
    hub(&server, dir.path()).model(&name("hf:someone/tiny"), &Silent).unwrap();
    assert_eq!(server.asked("GET", "").len(), 1, "what a branch is, is asked again");
    hub(&server, dir.path()).model(&first.name, &Silent).unwrap();
    assert!(server.asked("GET", "").is_empty(), "a commit that is there needs no hub");
}

#[test]
fn without_the_hub_the_cache_serves() {
    let (server, dir) = (Server::start(), tempdir().unwrap());
    commit_model(&server, &[]);
    let fetched = hub(&server, dir.path()).model(&name("hf:someone/tiny"), &Silent).unwrap();
    let gone = settings(&server.endpoint, dir.path());
    drop(server);
    let offline = Settings { offline: true, ..gone.clone() };
    for settings in [gone, offline] {
        let again = Hub::new(settings).unwrap().model(&name("hf:someone/tiny"), &Silent).unwrap();
        assert_eq!((again.path, again.name), (fetched.path.clone(), fetched.name.clone()));
    }
}

#[test]
fn a_branch_moves_and_a_pinned_name_stays() {
    let (server, dir) = (Server::start(), tempdir().unwrap());
    commit_model(&server, &[]);
    let hub = hub(&server, dir.path());
    let old = hub.model(&name("hf:someone/tiny"), &Silent).unwrap();
    let newer = commit_model(&server, &[("tokenizer.json", b"{}")]);
    assert_eq!(hub.model(&old.name, &Silent).unwrap().path, old.path);
    let weights = |path: &std::path::Path| fs::canonicalize(path.join("model.safetensors")).unwrap();
    let new = hub.model(&name("hf:someone/tiny@main"), &Silent).unwrap();
    assert!(new.name.to_string().ends_with(&newer) && new.path != old.path);
    assert_eq!(weights(&new.path), weights(&old.path), "the same contents are kept once");
    assert!(server.asked("GET", &super::server::etag(&golden()[2].1)).len() == 1, "and fetched once");
}

#[test]
fn shards_are_those_of_the_index() {
    let (server, dir) = (Server::start(), tempdir().unwrap());
    let index =
        br#"{"weight_map":{"a":"model-00001-of-00002.safetensors","b":"model-00002-of-00002.safetensors"}}"#;
    let files: &[(&str, &[u8])] = &[
        ("config.json", b"{}"),
        ("model.safetensors.index.json", index),
        ("model-00001-of-00002.safetensors", b"one"),
        ("model-00002-of-00002.safetensors", b"two"),
        ("consolidated.safetensors", b"three"),
    ];
    server.commit(MODEL, files);
    let model = hub(&server, dir.path()).model(&name("hf:someone/tiny"), &Silent).unwrap();
    let there = files_below(&model.path);
    assert_eq!(there.len(), 4, "{there:?}");
    assert!(!there.contains(&"consolidated.safetensors".to_owned()));

    for (wrong, part) in [("../../x", "outside"), ("gone.safetensors", "does not have")] {
        let index = format!(r#"{{"weight_map":{{"a":"{wrong}"}}}}"#);
        server.commit(MODEL, &[("config.json", b"{}"), ("model.safetensors.index.json", index.as_bytes())]);
        let message = message(hub(&server, dir.path()).model(&name("hf:someone/tiny"), &Silent));
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn a_gguf_file_is_picked_by_name() {
    let (server, dir) = (Server::start(), tempdir().unwrap());
    let commit = server
        .commit(MODEL, &[("README.md", b"#"), ("tiny-F16.gguf", b"GGUF1"), ("q/tiny-Q8_0.gguf", b"GGUF2")]);
    let hub = hub(&server, dir.path());
    let model = |text: &str| hub.model(&name(text), &Silent);
    let picked = model("hf:someone/tiny/q/tiny-Q8_0.gguf").unwrap();
    assert_eq!(fs::read(&picked.path).unwrap(), b"GGUF2");
    assert_eq!(picked.name.to_string(), format!("hf:someone/tiny/q/tiny-Q8_0.gguf@{commit}"));
    let all = message(model("hf:someone/tiny"));
    assert!(all.contains("hf:someone/tiny/q/tiny-Q8_0.gguf") && all.contains("tiny-F16.gguf"), "{all}");
    let none = message(model("hf:someone/tiny/other.gguf"));
    assert!(none.contains("tiny-F16.gguf"), "{none}");
}

#[test]
fn what_is_no_model_is_said_to_be_none() {
    let (server, dir) = (Server::start(), tempdir().unwrap());
    for (files, parts) in [
        (
            &[("config.json", b"{}" as &[u8]), ("pytorch_model.bin", b"x")] as &[(&str, &[u8])],
            ["pytorch_model.bin", "save_pretrained"],
        ),
        (&[("config.json", b"{}")], ["no model", "model.safetensors nor"]),
        (&[("README.md", b"#")], ["no model", "config.json"]),
    ] {
        server.commit(MODEL, files);
        let message = message(hub(&server, dir.path()).model(&name("hf:someone/tiny"), &Silent));
        assert!(parts.iter().all(|part| message.contains(part)), "{message}");
    }
}

#[test]
fn a_data_set_has_an_address_of_its_own() {
    let (server, dir) = (Server::start(), tempdir().unwrap());
    let long = "a line\n".repeat(1000);
    let commit =
        server.commit("datasets/someone/texts", &[("data/a b.txt", long.as_bytes()), ("x.jsonl", b"{}")]);
    let hub = hub(&server, dir.path());
    let repository = hub.open(Kind::Dataset, &name("hf:someone/texts"), &Silent).unwrap();
    assert_eq!(repository.files().collect::<Vec<_>>(), ["data/a b.txt", "x.jsonl"]);
    assert_eq!(repository.size("data/a b.txt"), Some(7000));
    repository.fetch(&["data/a b.txt"], &Silent).unwrap();
    assert_eq!(fs::read_to_string(repository.dir().join("data/a b.txt")).unwrap(), long);
    assert!(!repository.dir().join("x.jsonl").exists());
    let expected = dir.path().join("hub/datasets--someone--texts/snapshots").join(commit);
    assert_eq!(repository.dir(), expected);
    let missing = message(hub.model(&name("hf:someone/texts"), &Silent));
    assert!(missing.contains("someone/texts"), "{missing}");
}

#[test]
fn a_mirror_that_lists_names_only_is_asked_about_each_file() {
    let (server, dir) = (Server::start(), tempdir().unwrap());
    commit_model(&server, &[]);
    server.world().names_only = true;
    let model = hub(&server, dir.path()).model(&name("hf:someone/tiny"), &Silent).unwrap();
    for (file, bytes) in golden() {
        assert_eq!(fs::read(model.path.join(file)).unwrap(), bytes, "{file}");
        let blob = dir.path().join("hub/models--someone--tiny/blobs").join(etag(&bytes));
        assert!(blob.is_file(), "{file}");
    }
    assert!(!server.asked("HEAD", "/resolve/").is_empty());
}

#[test]
fn the_token_goes_to_the_hub_and_to_nobody_else() {
    let (server, dir) = (Server::start(), tempdir().unwrap());
    commit_model(&server, &[]);
    hub(&server, dir.path()).model(&name("hf:someone/tiny"), &Silent).unwrap();
    let asked = server.asked("GET", "");
    assert!(asked.iter().any(|a| a.at_store) && asked.iter().any(|a| !a.at_store));
    for asked in asked {
        let expected = if asked.at_store { None } else { Some("Bearer hf_secret") };
        assert_eq!(asked.token.as_deref(), expected, "{}", asked.path);
    }
}

#[test]
fn what_is_forgotten_leaves_the_cache_and_can_be_fetched_again() {
    let (server, dir) = (Server::start(), tempdir().unwrap());
    let [small, large] = ["small".to_owned(), "large ".repeat(500)];
    server.commit(
        "datasets/someone/texts",
        &[("a/small.txt", small.as_bytes()), ("large.txt", large.as_bytes())],
    );
    let hub = hub(&server, dir.path());
    let repository = hub.open(Kind::Dataset, &name("hf:someone/texts"), &Silent).unwrap();
    let files = ["a/small.txt", "large.txt"];
    assert!(repository.fits(&files));
    repository.fetch(&files, &Silent).unwrap();
    let blobs = || files_below(&dir.path().join("hub/datasets--someone--texts/blobs")).len();
    assert_eq!(blobs(), 2);
    repository.forget("a/small.txt").unwrap();
    assert_eq!((blobs(), files.map(|file| repository.is_there(file))), (1, [false, true]));
    repository.fetch(&files, &Silent).unwrap();
    assert_eq!(fs::read_to_string(repository.dir().join("a/small.txt")).unwrap(), small);
    assert_eq!(message(repository.forget("none.txt")).split(' ').next(), Some("cannot"));
}
