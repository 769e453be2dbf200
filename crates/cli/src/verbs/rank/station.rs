//! `mynah rank --candidates F --store DB`: people rank in the browser.

use std::collections::HashMap;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use clap::Args;
use feedback::statistics::disagreement;
use feedback::{Added, ItemOptions, NewItem, Store, Unscored};
use gpt::data::messages::{self, candidates};
use gpt::data::{Candidates, Prompter};
use gpt::stage::score;
use kernels::{Cpu, CpuOptions};
use serde_json::{Map, json};
use server::Settings;

use super::super::complete::Model;
use super::super::stages::{RowArgs, share};
use crate::options::{Usage, whole};
use crate::session::{Ended, Purpose, Session};
use crate::terminal::text::{count, plural};
use crate::terminal::{eprint_line, print_json};

#[derive(Debug, Args)]
pub(crate) struct StationArgs {
    /// Candidates, JSON lines as `mynah candidates` writes them; of several models with their names, repeated
    #[arg(long, value_name = "[NAME=]FILE")]
    candidates: Vec<String>,
    /// Where items and ratings are kept: an SQLite file, which is made if it is not there
    #[arg(long, value_name = "FILE", required = true)]
    store: Option<PathBuf>,
    /// Let somebody rank, by a link of their own; may be repeated
    #[arg(long, value_name = "NAME")]
    rater: Vec<String>,
    /// How many raters rank an item
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = whole::<u32>(1..=100))]
    per_item: u32,
    /// The share of items that one rater more ranks, by which agreement is measured
    #[arg(long, value_name = "SHARE", default_value_t = 0.1, value_parser = share)]
    overlap: f64,
    /// What raters are told, as Markdown [default: a page of our own]
    #[arg(long, value_name = "FILE")]
    guidelines: Option<PathBuf>,
    /// A reward model; of two or more the items on which they are apart come first
    #[arg(long, value_name = "MODEL")]
    reward: Vec<PathBuf>,
    /// The address to listen at
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    host: IpAddr,
    /// The port to listen at; 0 takes a free one
    #[arg(long, value_name = "N", default_value_t = 8000, value_parser = whole::<u16>(0..=65535))]
    port: u16,
    /// Answer under this name as well, such as that of a proxy; may be repeated
    #[arg(long, value_name = "HOST")]
    allow_host: Vec<String>,
    #[command(flatten)]
    rows: RowArgs,
}

pub(crate) fn run(args: &StationArgs, session: &Session) -> Result<Ended> {
    let path = args.store.as_deref().context("--store FILE is needed")?;
    if args.reward.len() == 1 {
        let one =
            "one reward model is never apart from itself: give two or more, such as checkpoints of a run";
        return Err(Usage(format!("--reward: {one}")).into());
    }
    session.start_threads()?;
    let items = items(args, session)?;
    let mut store = Store::open(path)?;
    let added = store.add(&items, ItemOptions { raters: args.per_item, overlap: args.overlap })?;
    told(added, session);
    if let Some(file) = &args.guidelines {
        let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        ensure!(!text.trim().is_empty(), "{} is empty: raters would be told nothing", file.display());
        store.set_guidelines(&text)?;
    }
    for name in &args.rater {
        store.rater(name)?;
    }
    if !args.reward.is_empty() {
        weigh(&mut store, &args.reward, session)?;
    }
    let report = store.report()?;
    ensure!(
        report.items > 0,
        "{} has nothing to rank: give answers with --candidates FILE, as `mynah candidates` writes them",
        path.display()
    );
    session.say(&format!(
        "{} to rank, {} so far",
        plural(report.items as u64, "item"),
        plural(report.ratings as u64, "rating")
    ));
    serve(args, path, &store, session)?;
    Ok(Ended::Done)
}

/// The prompts of all files, each with its answers in all of them.
fn items(args: &StationArgs, session: &Session) -> Result<Vec<NewItem>> {
    let rows = args.rows.reader(messages::FIELDS, session)?;
    let (mut items, mut numbers) = (Vec::<NewItem>::new(), HashMap::new());
    for given in &args.candidates {
        let (name, file) = match given.split_once('=') {
            Some((name, file)) if !name.is_empty() && !name.contains(['/', '\\']) => {
                (Some(name.to_owned()), file)
            }
            _ => (None, given.as_str()),
        };
        let file = Path::new(file);
        let stem = || file.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        let name = name.or_else(|| if args.candidates.len() > 1 { stem() } else { None });
        for Candidates { messages, completions, mut extra } in rows.read(file, candidates)? {
            extra.shift_remove("ranks");
            let number = *numbers.entry(serde_json::to_string(&messages)?).or_insert(items.len());
            if number == items.len() {
                items.push(NewItem { messages, answers: Vec::new(), extra });
            }
            items[number].answers.extend(completions.into_iter().map(|text| (text, name.clone())));
        }
    }
    rows.columns.check()?;
    Ok(items)
}

/// What became of new items, where it is worth a word.
fn told(added: Added, session: &Session) {
    let Added { new, known, alike, too_many } = added;
    if known > 0 && new > 0 {
        session.say(&format!("{} are new, {} were there", count(new), count(known)));
    }
    if alike > 0 {
        session.say(&format!("{} left out: all answers are the same", plural(alike, "item")));
    }
    if too_many > 0 {
        let few = "more than nine different answers: sample fewer with `mynah candidates --k 4`";
        session.say(&format!("{} left out: {few}", plural(too_many, "item")));
    }
}

/// Asks reward models for all items that they have not seen, and keeps how far they are apart.
fn weigh(store: &mut Store, models: &[PathBuf], session: &Session) -> Result<()> {
    let (mut numbers, mut asked) = (Vec::new(), Vec::new());
    for Unscored { id, messages, answers } in store.unscored()? {
        numbers.push(id);
        asked.push(Candidates { messages, completions: answers, extra: Map::new() });
    }
    if asked.is_empty() {
        return Ok(());
    }
    let mut by_item = vec![Vec::new(); asked.len()];
    for path in models {
        let Model { mut compute, config, weights, tokenizer, .. } =
            Model::load(path, Purpose::Figures, session)?;
        let shown = path.display();
        ensure!(config.n_label == Some(1), "{shown} is no reward model: train one with `mynah reward`");
        let (prompter, context) = (Prompter::new(&tokenizer)?, config.seq_len);
        let mut fitting = Vec::new();
        for (number, item) in asked.iter().enumerate() {
            let prompt = prompter.prompt_with(&item.messages, None)?.len();
            if item.completions.iter().all(|text| prompt + prompter.answer(text).len() <= context) {
                fitting.push(number);
            }
        }
        let some: Vec<Candidates> = fitting.iter().map(|&number| asked[number].clone()).collect();
        let rewards = score(&mut compute, config, weights, &prompter, &some, session.watcher())?;
        fitting.into_iter().zip(rewards).for_each(|(number, rewards)| by_item[number].push(rewards));
    }
    let scored = numbers.into_iter().zip(&by_item).filter(|(_, rewards)| rewards.len() == models.len());
    let apart: Vec<(i64, f64)> = scored.map(|(number, rewards)| (number, disagreement(rewards))).collect();
    let left = asked.len() - apart.len();
    if left > 0 {
        session.say(&format!(
            "{} do not fit a reward model's context: chance alone asks for them",
            plural(left as u64, "item")
        ));
    }
    store.set_disagreement(&apart)
}

fn serve(args: &StationArgs, path: &Path, store: &Store, session: &Session) -> Result<()> {
    let owner = store.token(store.owner());
    let raters = store.raters()?;
    let settings = Settings {
        host: args.host,
        port: args.port,
        keys: vec![owner.clone()],
        allow_hosts: args.allow_host.clone(),
        store: Some(path.to_owned()),
        log: if session.quiet() { Arc::new(|_| {}) } else { Arc::new(|line| eprint_line(&line)) },
        ..Settings::default()
    };
    session.terminal().at_stop("letting ratings come to the disk");
    // Nothing is computed: there is no model.
    let idle = Cpu::new(CpuOptions { threads: 1, ..CpuOptions::default() });
    server::serve(idle, &[], settings, session.watcher(), |address| {
        let host = match args.host {
            IpAddr::V6(ip) => format!("[{ip}]"),
            IpAddr::V4(ip) => ip.to_string(),
        };
        let url = format!("http://{host}:{}", address.port());
        let link = |token: &str| format!("{url}/rank#{token}");
        session.close();
        for (name, token) in &raters {
            eprint_line(&format!("{name} ranks at {}", link(token)));
        }
        eprint_line(&format!("rank at {}", link(&owner)));
        if args.host.is_unspecified() {
            session.say("others put this machine's address or name in the place of the one above; a name needs --allow-host");
        }
        eprint_line(&format!("listening on {url}"));
        if session.json() {
            let links: Map<_, _> =
                raters.iter().map(|(name, token)| (name.clone(), json!(link(token)))).collect();
            let _ = print_json(&json!({ "listening": url, "owner": link(&owner), "raters": links }));
        }
    })
}
