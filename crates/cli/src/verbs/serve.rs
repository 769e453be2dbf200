//! `mynah serve`: OpenAI's interface to models.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use gpt::checkpoint::Stored;
use kernels::Precision;
use server::{Capacity, Learning, Limits, Settings, Source};

use crate::device::Computes;
use crate::options::{Usage, WeightsArg, whole};
use crate::session::{Ended, Purpose, Session};
use crate::terminal::{eprint_line, print_json};

const EXAMPLES: &str = "\
Models are asked as OpenAI's are: POST /v1/chat/completions, /v1/completions (with suffix for models that have learned
fill-in-the-middle), /v1/embeddings, /v1/score (reward models); /openapi.json lists everything. Clients take
http://127.0.0.1:8000/v1 for their base URL. A road offers each of its stages by its name. BASE+ADAPTER is an adapter beside
its base, whose weights are in memory once for all that share them. One line for each request goes to
standard error; --quiet leaves them out. Ctrl-C lets answers come to their end, a second one does not.

Examples:
  mynah serve --model runs/first
  mynah serve --model old=runs/sft --model new=runs/ppo --model runs/reward
  mynah serve --model base --model kind=base+runs/kind --model terse=base+runs/terse
  mynah serve --model hf:HuggingFaceTB/SmolLM2-135M-Instruct --host 0.0.0.0 --api-key-file key.txt
  curl http://127.0.0.1:8000/v1/chat/completions -H 'Content-Type: application/json' \\
    -d '{\"model\": \"sft\", \"messages\": [{\"role\": \"user\", \"content\": \"2 + 3?\"}]}'";

/// Where the key may stand besides a file.
const KEY_VARIABLE: &str = "MYNAH_API_KEY";

/// Serve models to any program that speaks OpenAI's interface
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ServeArgs {
    /// A run, a road, a checkpoint, a Hugging Face model directory, a GGUF file, or hf:OWNER/NAME; may be
    /// repeated
    #[arg(long, value_name = "[NAME=]MODEL", required = true, num_args = 1..)]
    model: Vec<String>,
    #[command(flatten)]
    weights: WeightsArg,
    /// The address to listen at; others than this machine's own need a key
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    host: IpAddr,
    /// The port to listen at; 0 takes a free one
    #[arg(long, value_name = "N", default_value_t = 8000, value_parser = whole::<u16>(0..=65535))]
    port: u16,
    /// Keys that open the server, one a line; MYNAH_API_KEY=KEY does as well
    #[arg(long, value_name = "FILE")]
    api_key_file: Option<PathBuf>,
    /// The same on the command line, where every program of this machine sees it
    #[arg(long, value_name = "KEY", conflicts_with = "api_key_file")]
    api_key: Option<String>,
    /// Answer under this name as well, such as that of a proxy; may be repeated
    #[arg(long, value_name = "HOST")]
    allow_host: Vec<String>,
    /// Let pages of this origin ask, such as `https://chat.example`; may be repeated
    #[arg(long, value_name = "ORIGIN")]
    allow_origin: Vec<String>,
    /// Memory for keys and values of each model in MB [default: what its slots need]
    #[arg(long, value_name = "N", value_parser = whole::<u64>(1..))]
    cache_mb: Option<u64>,
    /// Keep what people think of answers, in this SQLite file: the page has thumbs, votes and rankings, `/rank` its
    /// answers to rank, and at `/learn` a model learns from them
    #[arg(long, value_name = "FILE")]
    store: Option<PathBuf>,
    /// Show the runs in this folder, step by step, and load their checkpoints on demand
    #[arg(long, value_name = "DIR")]
    runs: Option<PathBuf>,
    /// Texts that each model continues at once
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = whole::<u16>(1..=256))]
    slots: u16,
    /// Seconds of silence after which a stream tells by a comment that it lives; 0 for never
    #[arg(long, value_name = "SECONDS", default_value_t = 15)]
    comment_after: u32,
}

pub(crate) fn run(args: &ServeArgs, session: &Session) -> Result<Ended> {
    let keys = keys(args, session)?;
    if !args.host.is_loopback() && keys.is_empty() {
        return Err(Usage(format!(
            "{} can be reached by others, and there is no key: give one with --api-key-file FILE or {KEY_VARIABLE}=KEY, or \
             listen at 127.0.0.1",
            args.host
        ))
        .into());
    }
    let mut sources = Vec::new();
    for model in &args.model {
        sources.extend(Source::parse(model)?);
    }
    let paths: Vec<&Path> = sources.iter().map(|source| source.path.as_path()).collect();
    let stored = session.stored(args.weights, &paths)?;
    let compute = session.compute(Purpose::Service)?;
    let precision = session.precision_name(Purpose::Service)?;
    let bytes_per_value = match compute.precision() {
        Precision::F32 => 4,
        Precision::Bf16 => 2,
    };
    let in_blocks = match stored {
        Stored::In(format) => format!(", weights in {format}"),
        Stored::Exactly | Stored::AsInFile => String::new(),
    };
    let settings = Settings {
        host: args.host,
        port: args.port,
        keys,
        allow_hosts: args.allow_host.clone(),
        allow_origins: args.allow_origin.clone(),
        store: args.store.clone(),
        runs: args.runs.iter().cloned().collect(),
        learning: learning(args, session)?,
        capacity: Capacity {
            slots: usize::from(args.slots),
            cache_bytes: args.cache_mb.map(|mb| mb * 1_000_000),
            stored,
        },
        limits: Limits { silence: Duration::from_secs(args.comment_after.into()), ..Limits::default() },
        arithmetic: format!("{} {precision}{in_blocks} {}", compute.arithmetic(), env!("CARGO_PKG_VERSION")),
        bytes_per_value,
        log: if session.quiet() { Arc::new(|_| {}) } else { Arc::new(|line| eprint_line(&line)) },
    };
    session.terminal().at_stop("letting answers come to their end");
    let (host, names) = (args.host, sources.iter().map(|source| source.name.clone()).collect::<Vec<_>>());
    server::serve(compute, &sources, settings, session.watcher(), |address| {
        let url = match host {
            IpAddr::V6(_) => format!("http://[{host}]:{}", address.port()),
            IpAddr::V4(_) => format!("http://{host}:{}", address.port()),
        };
        session.close();
        session.say(&format!("models: {} ({precision}{in_blocks})", names.join(", ")));
        eprint_line(&format!("listening on {url}"));
        if session.json() {
            let _ = print_json(&serde_json::json!({ "listening": url, "models": names }));
        }
    })?;
    Ok(Ended::Done)
}

/// How models learn from the store, where there is one: beside what is served, they take one thread.
fn learning(args: &ServeArgs, session: &Session) -> Result<Option<Learning>> {
    let Some(store) = &args.store else { return Ok(None) };
    let folder = Learning::folder(args.runs.as_deref(), store);
    // Links and relative paths are resolved once: whoever goes on may stand elsewhere.
    let above = folder.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let above =
        above.canonicalize().with_context(|| format!("cannot open {}: check the path", above.display()))?;
    let name = folder.file_name().context("a folder has a name")?;
    let mut arguments = vec!["--threads".to_owned(), "1".to_owned()];
    arguments.extend(
        session.typed_device().iter().flat_map(|device| ["--device".to_owned(), (*device).to_owned()]),
    );
    let program = std::env::current_exe().context("cannot tell where this program is")?;
    Ok(Some(Learning { program, arguments, folder: above.join(name) }))
}

/// The keys of the file, of the environment or of the command line.
fn keys(args: &ServeArgs, session: &Session) -> Result<Vec<String>> {
    if let Some(file) = &args.api_key_file {
        let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        let keys: Vec<String> =
            text.lines().map(str::trim).filter(|key| !key.is_empty()).map(str::to_owned).collect();
        anyhow::ensure!(!keys.is_empty(), "{} has no key: write one a line", file.display());
        return Ok(keys);
    }
    if let Some(key) = &args.api_key {
        session
            .say("note: --api-key can be seen by every program of this machine: --api-key-file FILE cannot");
        return Ok(vec![key.clone()]);
    }
    Ok(std::env::var(KEY_VARIABLE).ok().filter(|key| !key.is_empty()).into_iter().collect())
}
