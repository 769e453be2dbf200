//! Encodes texts, one JSON string a line on standard input, and prints their ids, one JSON array a line. To
//! standard error: how fast, and how many texts do not come back from their ids.
//!
//! ```text
//! cargo run --release -p mynah-gpt --example encode -- TOKENIZER < texts.jsonl > ids.jsonl
//! python tools/compare_tokenizer.py TOKENIZER FILE…      does this, and the same in Python
//! ```

#![allow(clippy::print_stdout, clippy::print_stderr)] // That is what it is for.

use std::io::Write;
use std::time::Instant;

use anyhow::{Context, Result};
use gpt::tokenizer::Tokenizer;

fn main() -> Result<()> {
    let tokenizer = Tokenizer::from_file(std::env::args().nth(1).context("give a tokenizer")?)?;
    let lines = std::io::stdin().lines();
    let texts = lines.map(|line| Ok(serde_json::from_str(&line?)?)).collect::<Result<Vec<String>>>()?;
    let bytes: usize = texts.iter().map(String::len).sum();

    let began = Instant::now();
    let encoded = tokenizer.encode_batch(&texts);
    let seconds = began.elapsed().as_secs_f64();
    let mut changed = 0;
    for (text, ids) in texts.iter().zip(&encoded) {
        changed += usize::from(tokenizer.decode(ids)? != *text);
    }
    let threads = std::thread::available_parallelism()?;
    eprintln!(
        "{} texts, {:.1} MB in {seconds:.2} s: {:.2} MB/s on {threads} threads; {changed} come back changed",
        texts.len(),
        bytes as f64 / 1e6,
        bytes as f64 / 1e6 / seconds,
    );
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for ids in encoded {
        serde_json::to_writer(&mut out, &ids)?;
        out.write_all(b"\n")?;
    }
    Ok(out.flush()?)
}
