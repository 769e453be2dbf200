//! From text to a GPT that continues it, in seconds:
//!
//! ```text
//! cargo run --release -p mynah-gpt --example train_and_complete -- runs/library
//! ```

#![allow(clippy::print_stdout)] // That is what it is for.

use anyhow::{Context, Result};
use gpt::complete::{Completer, Options};
use gpt::corpus::{self, Documents, Split};
use gpt::data::{self, Overflow, TokenizeOptions};
use gpt::progress::Silent;
use gpt::stage::{Machine, PretrainOptions, Settings, Source, Start, pretrain};
use gpt::tokenizer::Tokenizer;
use gpt::{checkpoint, lessons};
use kernels::{Cpu, CpuOptions};
use std::ops::ControlFlow;
use std::path::PathBuf;

fn main() -> Result<()> {
    let dir = PathBuf::from(std::env::args().nth(1).context("give a directory to work in")?);
    let at = |name: &str| dir.join(name);
    std::fs::create_dir_all(&dir)?;

    // Documents, from any files; here from stories that are made up.
    lessons::write_text(&at("text.jsonl"), 0, 400_000)?;
    let (paths, out) = (vec![at("text.jsonl")], at("corpus"));
    corpus::build(&corpus::Options { paths, out, dedup: false, ..Default::default() }, &Silent)?;

    // A vocabulary, and the documents as its tokens.
    let texts = Documents::open(&at("corpus"), Split::Train)?.map(|document| Ok(document?.text));
    Tokenizer::train(texts, 400, &[], &Silent)?.save(at("tokenizer.json"))?;
    let (corpus, tokenizer, out) = (at("corpus"), at("tokenizer.json"), at("tokens"));
    let (context, overflow, fim) = (None, Overflow::Pack, None);
    data::tokenize(&TokenizeOptions { corpus, tokenizer, out, context, overflow, fim }, &Silent)?;

    // A run: interrupted and started again, it goes on.
    let (shape, settings) = Settings::resolve("tiny", &["steps=100".into()])?;
    let mut cpu = Cpu::new(CpuOptions::default());
    let machine = Machine::unmeasured();
    let (source, start) = (Source::Shards(vec![(at("tokens"), 1.0)]), Start::Random(shape));
    let run = PretrainOptions { source, out: at("run"), settings, seed: 0, start };
    let outcome = pretrain(Cpu::new(CpuOptions::default()), &machine, &run, &Silent)?;
    println!("{} steps, held out: {:?}", outcome.ending.step, outcome.validation);

    // The model is a Hugging Face directory; anybody's would do.
    let model = checkpoint::open(&at("run"), &Silent)?;
    let tokenizer = model.tokenizer()?.context("a run keeps its tokenizer")?;
    let weights = model.weights(checkpoint::to_backend(&mut cpu, &model.config))?;
    let mut completer = Completer::new(&mut cpu, &model.config, &weights, &tokenizer, 1)?;
    let options = Options { max_tokens: 40, stop: vec!["\n".into()], ..Default::default() };
    let found = completer.complete(&["Tom has a"], &options, |_, _| ControlFlow::Continue(()))?;
    println!("Tom has a{}", found[0].text);
    Ok(())
}
