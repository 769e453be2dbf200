//! Writes the batches that a pretraining trains on, so that another program can take the same steps:
//!
//! ```text
//! cargo run --release -p mynah-gpt --example batches -- SHARDS SEQ_LEN SEQUENCES STEPS SEED > batches.u32
//! python tools/check_continued.py MODEL batches.u32 RUN
//! ```
//!
//! Each step is `SEQUENCES × (SEQ_LEN + 1)` little-endian ids: a window's tokens, and what follows the last
//! of them.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, bail};
use gpt::data::{Batch, TokenShards, Windows};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [shards, numbers @ ..] = arguments.as_slice() else { bail!("give a directory of token shards") };
    let numbers: Vec<u64> =
        numbers.iter().map(|n| n.parse().context("a number is needed")).collect::<Result<_>>()?;
    let [seq_len, sequences, steps, seed] = numbers[..] else { bail!("give SEQ_LEN SEQUENCES STEPS SEED") };
    let (seq_len, sequences) = (usize::try_from(seq_len)?, usize::try_from(sequences)?);

    let mut windows = Windows::new(&TokenShards::open(Path::new(shards))?, seq_len, seed)?;
    let mut batch = Batch::default();
    let mut out = std::io::stdout().lock();
    for step in 1..=steps {
        windows.batch(step, 0..sequences, sequences, &mut batch)?;
        for (tokens, targets) in batch.tokens.chunks(seq_len).zip(batch.targets.chunks(seq_len)) {
            let window = tokens.iter().chain(&targets[seq_len - 1..]);
            out.write_all(&window.flat_map(|id| id.to_le_bytes()).collect::<Vec<u8>>())?;
        }
    }
    Ok(())
}
