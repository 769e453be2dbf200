//! Suggestions where a path holds no model.

use std::fs;
use std::path::Path;

use text::nearest::nearest;

/// Endings of files that hold data.
const DATA: [&str; 9] = ["jsonl", "json", "csv", "tsv", "parquet", "txt", "md", "gz", "zst"];
/// Files that a model directory has.
const OF_A_MODEL: [&str; 5] = ["safetensors", "bin", "pt", "pth", "index"];

/// What may be meant by a path that does not exist; nothing where nobody could tell.
pub(super) fn meant(path: &Path) -> String {
    let text = path.to_string_lossy();
    if let Some(name) = text.strip_prefix("https://huggingface.co/") {
        return format!(" (did you mean hf:{}?)", name.split('/').take(2).collect::<Vec<_>>().join("/"));
    }
    if cfg!(unix) && text.contains('\\') {
        return format!(" (did you mean {}?)", text.replace('\\', "/"));
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let beside = parent.unwrap_or(Path::new("."));
    if let (Ok(entries), Some(name)) = (fs::read_dir(beside), path.file_name()) {
        let names: Vec<String> =
            entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        if let Some(near) = nearest(&name.to_string_lossy(), names.iter().map(String::as_str)) {
            let near = parent.map_or_else(|| near.into(), |parent| parent.join(near));
            return format!(" (did you mean {}?)", near.display());
        }
    }
    match text.split('/').collect::<Vec<_>>()[..] {
        _ if text.starts_with(['.', '~', '/']) || text.contains(':') => String::new(),
        [name] if name.starts_with("gpt2") || name == "distilgpt2" => {
            format!(" (of the hub that is hf:openai-community/{name})")
        }
        [owner, _] if !Path::new(owner).exists() => format!(" (of the hub that is hf:{text})"),
        _ => String::new(),
    }
}

/// What a file that is no GGUF is, and what to name instead.
pub(super) fn about_file(path: &Path) -> String {
    let ending = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let is_of_a_model =
        OF_A_MODEL.contains(&ending.as_str()) || name.starts_with("tokenizer") || name == "config.json";
    if is_of_a_model {
        return "a file, and not GGUF: other models are whole directories, so name the directory it lies in"
            .into();
    }
    if DATA.contains(&ending.as_str()) {
        return "a file of data, and here a model is wanted: a run directory, a Hugging Face model directory, a GGUF file, or \
                hf:OWNER/NAME. Do two arguments stand in each other's place?"
            .into();
    }
    "a file, and not GGUF: name a model's directory, a run's, a GGUF file, or hf:OWNER/NAME".into()
}

/// What a directory without a model holds, and what to name instead.
pub(super) fn about_dir(path: &Path) -> String {
    if path.join("meta.json").exists() {
        return "these are tokens, from which `mynah pretrain --data` trains one".into();
    }
    if path.join("demonstrations.jsonl").exists() {
        return "these are lessons, data to learn from: the road of `mynah --help` makes a model of them"
            .into();
    }
    if path.join("report.json").exists() {
        return "this is a corpus, which `mynah tokenize` turns into tokens for `mynah pretrain`".into();
    }
    if path.join("tokenizer.json").exists() {
        return "there is a tokenizer, and no config.json beside it: a model directory has both".into();
    }
    let runs: Vec<String> = fs::read_dir(path)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.join("checkpoints").is_dir() || path.join(super::CONFIG).exists())
        .map(|path| path.display().to_string())
        .take(8)
        .collect();
    match runs.is_empty() {
        true => format!(
            "neither {} nor a checkpoint; train one into it, or name another directory",
            super::CONFIG
        ),
        false => format!("it has some within, so name one of them: {}", sorted(runs).join(", ")),
    }
}

fn sorted(mut names: Vec<String>) -> Vec<String> {
    names.sort();
    names
}
