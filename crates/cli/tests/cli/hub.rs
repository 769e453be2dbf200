//! `hf:OWNER/NAME` where a model or a path is named, from a hub on the loopback.

use std::fs;
use std::path::Path;

use assert_cmd::Command;
use serde_json::Value;
use tempfile::{TempDir, tempdir};

use crate::adapters::adapted;
use crate::hub_server::Server;
use crate::workshop::{mynah, path, road};

/// A hub, and a home that nothing but its cache is in.
struct Place {
    server: Server,
    home: TempDir,
}

impl Place {
    fn new() -> Place {
        Place { server: Server::start(), home: tempdir().expect("a directory") }
    }

    fn path(&self, name: &str) -> String {
        path(self.home.path(), name)
    }

    /// `mynah` in this place.
    fn mynah(&self, arguments: &[&str]) -> Command {
        let mut command = mynah(arguments);
        for name in [
            "HF_HUB_CACHE",
            "HUGGINGFACE_HUB_CACHE",
            "HF_HUB_OFFLINE",
            "HF_TOKEN",
            "SSL_CERT_FILE",
            "http_proxy",
            "HTTP_PROXY",
            "ALL_PROXY",
            "all_proxy",
        ] {
            command.env_remove(name);
        }
        command.env("HF_HOME", self.home.path()).env("HF_ENDPOINT", &self.server.endpoint);
        command
    }

    /// Standard output and standard error of a call that ends with `code`.
    fn run(&self, arguments: &[&str], code: i32) -> (String, String) {
        ended(&mut self.mynah(arguments), code)
    }

    /// Trains a few steps on a stream of a data set.
    fn stream(&self, set: &str, out: &str) -> (String, String) {
        let tokenizer = road().path("tokenizer.json");
        let stream = ["pretrain", "--stream", set, "--tokenizer", &tokenizer, "--out", out];
        let recipe = ["--preset", "tiny", "--steps", "5", "--val-fraction", "0.3", "--block-tokens", "500"];
        let shape = ["n_layer=1", "d_model=16", "seq_len=16", "batch_tokens=32", "warmup_steps=1"];
        let every = ["eval_every=5", "eval_windows=2", "checkpoint_every=5", "sample_every=0"];
        let sets = shape.into_iter().chain(every).flat_map(|set| ["--set", set]);
        self.run(&stream.into_iter().chain(recipe).chain(sets).collect::<Vec<_>>(), 0)
    }

    /// Commits the files of a directory, with `more` beside them, as a model's newest version.
    fn commit_dir(&self, dir: &Path, more: &[(&str, &[u8])]) -> String {
        let mut files: Vec<(String, Vec<u8>)> = Vec::new();
        for entry in fs::read_dir(dir).expect("a directory") {
            let entry = entry.expect("an entry");
            let name = entry.file_name().into_string().expect("a name");
            files.push((name, fs::read(entry.path()).expect("a file")));
        }
        let files: Vec<(&str, &[u8])> = files.iter().map(|(n, b)| (n.as_str(), b.as_slice())).collect();
        self.server.commit("models/someone/tiny", &[&files, more].concat())
    }
}

fn ended(command: &mut Command, code: i32) -> (String, String) {
    let output = command.output().expect("it runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    let (out, err) = (text(output.stdout), text(output.stderr));
    assert_eq!(output.status.code(), Some(code), "{err}");
    (out, err)
}

fn words(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(String::as_str).collect()
}

fn checkpoint(run: &str) -> std::path::PathBuf {
    Path::new(run).join("checkpoints/step-000040")
}

#[test]
fn a_model_is_shown_and_continues_text() {
    let place = Place::new();
    let commit = place.commit_dir(&checkpoint(&road().path("run")), &[]);
    let origin = format!("hf:someone/tiny@{commit}");
    let (shown, told) = place.run(&["show", "hf:someone/tiny", "--json"], 0);
    let shown: Value = serde_json::from_str(&shown).expect("JSON");
    assert_eq!(shown["origin"], origin.as_str());
    assert!(told.contains(&origin) && !told.contains("unverified"), "{told}");
    assert_eq!(shown["warnings"].as_array().map(Vec::len), Some(0));
    let (local, _) =
        place.run(&["complete", "--model", &road().path("run"), "def f", "--max-tokens", "5"], 0);
    let again = ["complete", "--model", "hf:someone/tiny", "def f", "--max-tokens", "5"];
    assert_eq!(place.run(&again, 0).0, local);
    let (offline, told) = ended(place.mynah(&again).env("HF_HUB_OFFLINE", "1"), 0);
    assert_eq!((offline, told.as_str()), (local, ""));
}

#[test]
fn an_adapter_of_the_hub_stands_beside_its_base() {
    let place = Place::new();
    let base = road().path("run");
    let trained = adapted(place.home.path(), "adapted", &["--lora", "r=4", "--lr", "0.03"]);
    place.commit_dir(&Path::new(&trained).join("checkpoints/step-000008"), &[]);
    let complete = |model: &[&str]| {
        let words = ["def f", "--max-tokens", "24", "--temperature", "1", "--precision", "f32"];
        place.run(&[&["complete"], model, &words[..]].concat(), 0).0
    };
    let expected = complete(&["--model", &trained]);
    assert_eq!(complete(&["--model", &base, "--adapter", "hf:someone/tiny"]), expected);
    // Alone it is beside the base that it names.
    assert_eq!(complete(&["--model", "hf:someone/tiny"]), expected);
    assert_ne!(complete(&["--model", &base]), expected);
    let (_, told) = place.run(&["complete", "--model", &base, "--adapter", "hf:no/body", "x"], 1);
    assert!(told.contains("no model no/body"), "{told}");
}

#[test]
fn a_run_goes_on_with_the_commit_that_it_began_from() {
    let place = Place::new();
    let (road, out) = (road(), place.path("run"));
    let commit = place.commit_dir(&checkpoint(&road.path("run")), &[]);
    let mut arguments = road.pretrain("unused", "20");
    let at = arguments.iter().position(|word| word == "--out").expect("an option") + 1;
    arguments[at].clone_from(&out);
    arguments.extend(["--init".to_owned(), "hf:someone/tiny".to_owned()]);
    let pinned = format!("hf:someone/tiny@{commit}");
    place.run(&words(&arguments), 0);
    let manifest = |step: &str| {
        let file = Path::new(&out).join("checkpoints").join(step).join("mynah.json");
        serde_json::from_slice::<Value>(&fs::read(file).expect("a manifest")).expect("JSON")
    };
    assert_eq!(manifest("step-000020")["parent"], pinned.as_str());

    // Another model has the branch now; the run stays with its own, and says so.
    let weights = fs::read(checkpoint(&road.path("run")).join("model.safetensors")).expect("weights");
    let mut other = weights;
    *other.last_mut().expect("a byte") ^= 1;
    let newer = place.commit_dir(&checkpoint(&road.path("run")), &[("model.safetensors", &other)]);
    fs::remove_dir_all(Path::new(&out).join("checkpoints")).expect("it is there");
    place.run(&words(&arguments), 0);
    assert_eq!(manifest("step-000020")["parent"], pinned.as_str());
    let recipe = fs::read_to_string(Path::new(&out).join("config.toml")).expect("a recipe");
    assert!(recipe.contains(&format!("path = \"{pinned}\"")), "{recipe}");

    // Whoever names the newer one names another run.
    *arguments.last_mut().expect("a word") = format!("hf:someone/tiny@{newer}");
    let (_, told) = place.run(&words(&arguments), 1);
    assert!(told.contains("inputs.init"), "{told}");
}

#[test]
fn a_data_set_becomes_a_corpus() {
    let place = Place::new();
    let line = |i: usize| format!("{{\"text\":\"Record number {i} says something of its own.\"}}\n");
    let lines = |from: usize| (from..from + 50).map(line).collect::<String>();
    let (one, two, three) = (lines(0), lines(50), lines(100));
    let commit = place.server.commit(
        "datasets/someone/texts",
        &[
            ("README.md", b"# Texts\n\nAbout this data set."),
            ("data/one.jsonl", one.as_bytes()),
            ("data/two.jsonl", two.as_bytes()),
            ("test/three.jsonl", three.as_bytes()),
        ],
    );
    let out = place.path("corpus");
    let arguments = ["corpus", "hf:someone/texts", "--out", &out, "--exclude", "/test", "--json"];
    let (report, _) = place.run(&arguments, 0);
    let report: Value = serde_json::from_str(&report).expect("JSON");
    assert_eq!(report["sources"], serde_json::json!([format!("hf:someone/texts@{commit}")]));
    assert_eq!(report["kept"]["documents"], 100);
    assert_eq!(report["dropped"]["excluded"]["count"], 1);
    assert_eq!(report["dropped"]["unsupported_kind"]["count"], 1);
    let asked = place.server.asked("GET", "/resolve/");
    assert!(asked.iter().all(|a| a.path.contains("/data/")), "only what is read is fetched: {asked:?}");
    let document = fs::read_to_string(Path::new(&out).join("train-00000.jsonl")).expect("a shard");
    assert!(document.contains(&format!("{commit}/data/one.jsonl")), "a document tells its commit");

    // What is complete stays, whatever the branch is now, and without a hub.
    let endpoint = place.server.endpoint.clone();
    let Place { server, home } = place;
    drop(server);
    let mut again = mynah(&arguments);
    let (_, told) = ended(again.env("HF_HOME", home.path()).env("HF_ENDPOINT", endpoint), 0);
    assert!(told.contains("nothing to do"), "{told}");
}

/// A run that is begun again stays with its commit.
#[test]
fn a_data_set_streams_into_a_training() {
    let place = Place::new();
    let line = |i: usize| format!("{{\"text\":\"Record number {i} says something of its own.\"}}\n");
    let lines = |from: usize| (from..from + 50).map(line).collect::<String>();
    let texts = [lines(0), lines(50), lines(100), lines(150)];
    let files = ["a.jsonl", "b.jsonl", "c.jsonl", "d.jsonl"];
    let files: Vec<(&str, &[u8])> = files.into_iter().zip(texts.iter().map(String::as_bytes)).collect();
    let commit = place.server.commit("datasets/someone/texts", &files);
    let out = place.path("run");
    let (_, told) = place.stream("hf:someone/texts", &out);
    assert!(told.contains("a stream of 4 files") && told.contains("block 0:"), "{told}");

    // Another commit has the branch now; the run that is begun again has its own.
    place.server.commit("datasets/someone/texts", &[("a.jsonl", lines(500).as_bytes())]);
    let recipe = fs::read_to_string(Path::new(&out).join("config.toml")).expect("a recipe");
    assert!(recipe.contains(&format!("hf:someone/texts@{commit}")), "{recipe}");
    fs::remove_dir_all(Path::new(&out).join("checkpoints")).expect("it is there");
    let metrics = || fs::read(Path::new(&out).join("metrics.jsonl")).expect("metrics");
    let before = metrics();
    place.stream("hf:someone/texts", &out);
    assert!(before == metrics(), "the same data gives the same losses");
}

#[test]
fn a_data_set_that_is_larger_than_the_disk_leaves_it_again() {
    let place = Place::new();
    let text = |i: usize| format!("{{\"text\":\"File number {i} {}\"}}\n", "and so on ".repeat(60));
    let mut files: Vec<(String, String)> = (0..12).map(|i| (format!("{i}.jsonl"), text(i))).collect();
    // The only one that is large enough for a size that is not its own.
    files.push(("large.jsonl".into(), text(12).repeat(2)));
    let files: Vec<(&str, &[u8])> = files.iter().map(|(n, t)| (n.as_str(), t.as_bytes())).collect();
    place.server.commit("datasets/someone/endless", &files);
    place.server.world().false_size = Some(1 << 60);
    let (_, told) = place.stream("hf:someone/endless", &place.path("run"));
    assert!(told.contains("does not fit on the disk"), "{told}");
    let blobs = Path::new(&place.path("hub")).join("datasets--someone--endless/blobs");
    let left: Vec<_> = fs::read_dir(&blobs).expect("they were there").collect();
    assert!(left.is_empty(), "{left:?}");
    assert!(!place.server.asked("GET", "/resolve-cache/").is_empty(), "files were fetched");
}

#[test]
fn what_cannot_be_had_is_said_and_ends_with_one() {
    let place = Place::new();
    place.commit_dir(&checkpoint(&road().path("run")), &[]);
    for (arguments, parts) in [
        (["show", "hf:gpt2"], ["hf:openai-community/gpt2", "owner"]),
        (["show", "hf:no/body"], ["no such model", "HF_TOKEN"]),
        (["show", "hf:someone/tiny@v2"], ["no revision \"v2\"", "branch"]),
        (["show", "hf:someone/tiny/x.gguf"], ["no .gguf file", "someone/tiny"]),
    ] {
        let (_, told) = ended(place.mynah(&arguments).env("HF_TOKEN", "hf_secret"), 1);
        assert!(parts.iter().all(|part| told.contains(part)), "{told}");
        assert!(told.starts_with("error: ") && !told.contains("hf_secret"), "{told}");
    }
    let (_, told) = ended(place.mynah(&["show", "hf:someone/tiny"]).env("HF_ENDPOINT", "mirror"), 1);
    assert!(told.contains("HF_ENDPOINT"), "{told}");
    let out = place.path("corpus");
    let (_, told) = place.run(&["corpus", "hf:someone/tiny/x.gguf", "--out", &out], 1);
    assert!(told.contains("no text"), "{told}");
    assert!(!Path::new(&out).exists());
}
