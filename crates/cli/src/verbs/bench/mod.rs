//! `mynah bench`: how fast this machine is, in figures that can be put beside those of other programs.

mod decode;
mod draw;
mod policies;
mod products;
mod train;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, ValueEnum};
use gpt::checkpoint::{self, Checkpoint};
use gpt::model::Config;
use gpt::stage::usual_vocab_size;
use gpt::train::Optimizer;
use kernels::cpu::bench;
use serde_json::json;

use super::complete::temperature;
use super::pretrain::resolve;
use crate::options::{WeightsArg, whole};
use crate::precision;
use crate::session::{Ended, Purpose, Session};
use crate::terminal::text::scaled;

const DETAILS: &str = "\
Speeds are medians, but the peak, which is the best; the precision is what training and decoding would take here (--precision
sets it); memory is the most that the process held, so measure `train` alone for its own. With --json, one
object a line.

Examples:
  mynah bench
  mynah bench train --preset gpt2 --steps 5 --json
  mynah bench decode --batch 16
  mynah bench decode --batch 16 --temperature 1
  mynah bench decode --weights q8_0
  mynah bench ppo --steps 3
  mynah bench decode --model path/to/model --batch 1";

/// How long the peak and each product are measured.
const DURATION: Duration = Duration::from_millis(300);
/// The longest context that is measured.
const LONGEST_CONTEXT: usize = 1024;
/// Rows of a product.
const ROWS: usize = 4096;

/// Measure speed on this machine: peak, products, a training step, decoding
#[derive(Debug, Args)]
#[command(after_help = DETAILS)]
pub(crate) struct BenchArgs {
    /// What to measure [default: everything]
    #[arg(value_enum)]
    what: Option<What>,
    /// Shape of the model, by name
    #[arg(long, value_name = "NAME", default_value = "baby")]
    preset: String,
    /// This model's shape instead, with a context of at most 1,024 tokens; decoding takes its weights, too
    #[arg(long, value_name = "MODEL", conflicts_with = "preset")]
    model: Option<PathBuf>,
    /// Training steps that are timed, after two that are not; of PPO and GRPO iterations, after one
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = whole::<u32>(1..))]
    steps: u32,
    /// Tokens of a training step, in one pass
    #[arg(long, value_name = "N", default_value_t = 4096, value_parser = whole::<u32>(1..))]
    batch_tokens: u32,
    /// Sequences decoded at once [default: 1, then 16]
    #[arg(long, value_name = "N", value_parser = whole::<u16>(1..=1024))]
    batch: Option<u16>,
    /// Temperature of what is decoded; 0 takes the likeliest token
    #[arg(long, value_name = "T", default_value_t = 0.0, value_parser = temperature)]
    temperature: f32,
    #[command(flatten)]
    weights: WeightsArg,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    /// Multiply-adds on registers alone
    Peak,
    /// The matrix products of a training step
    Products,
    /// Whole training steps on random tokens
    Train,
    /// Decoding: 128 tokens after a prompt of 128
    Decode,
    /// A token from the logits of a large vocabulary, one row and sixteen
    Draw,
    /// Iterations of PPO: 16 answers of 64 tokens, four epochs
    Ppo,
    /// Iterations of GRPO: 8 answers of 64 tokens to each of 16 prompts, one epoch
    Grpo,
}

/// The machine and the model that are measured.
struct Bench<'a> {
    session: &'a Session,
    /// The preset or the model.
    name: String,
    config: Config,
    /// The model, if it is one.
    model: Option<Checkpoint>,
    optimizer: Optimizer,
}

pub(crate) fn run(args: &BenchArgs, session: &Session) -> Result<Ended> {
    let (shape, settings) = resolve(&args.preset, &[])?;
    // Rounded up, as is customary where speed is measured.
    let vocab_size = usual_vocab_size(&args.preset).next_multiple_of(64);
    let model = args.model.as_ref().map(|path| checkpoint::open(path, session.watcher())).transpose()?;
    let (name, config) = match &model {
        Some(model) => (model.path.display().to_string(), model.config.clone()),
        None => (args.preset.clone(), shape.config(vocab_size, &settings)),
    };
    let config = Config { dropout: 0.0, seq_len: config.seq_len.min(LONGEST_CONTEXT), ..config };
    let bench = Bench { session, name, config, model, optimizer: settings.optimizer() };
    let wanted = |what| args.what.is_none_or(|only| only == what);
    if wanted(What::Peak) {
        bench.peak()?;
    }
    if wanted(What::Products) {
        bench.products()?;
    }
    if wanted(What::Train) {
        bench.train(args.steps, args.batch_tokens as usize)?;
    }
    if wanted(What::Decode) {
        for batch in args.batch.map_or(vec![1, 16], |batch| vec![usize::from(batch)]) {
            bench.decode(batch, args.temperature, args.weights)?;
        }
    }
    if wanted(What::Draw) {
        bench.draw()?;
    }
    if wanted(What::Ppo) {
        bench.ppo(args.steps)?;
    }
    if wanted(What::Grpo) {
        bench.grpo(args.steps)?;
    }
    Ok(Ended::Done)
}

impl Bench<'_> {
    fn peak(&self) -> Result<()> {
        let mut cpu = self.session.cpu(Purpose::NewTraining)?;
        let peak = bench::peak(&mut cpu, DURATION);
        let json = json!({
            "bench": "peak",
            "precision": precision::name(cpu.options().precision),
            "level": cpu.options().level.to_string(),
            "threads": cpu.options().threads,
            "flops_per_sec": peak.round(),
        });
        self.session.result(&json, || format!("peak      {}FLOP/s, {}\n", scaled(peak), cpu.describe()))
    }
}

/// The middle value; of an even number, the upper of the two.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

fn smallest(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::INFINITY, f64::min)
}

fn largest(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::NEG_INFINITY, f64::max)
}

/// The most memory that this process has held at a time, where the system tells.
fn peak_memory_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// Some tokens; `stream` tells sequences from each other.
fn random_tokens(config: &Config, seed: u64, stream: u64, len: usize) -> Vec<u32> {
    let vocab_size = config.vocab_size as u64;
    (0..len as u64).map(|i| kernels::rng::below(seed, stream, i, vocab_size) as u32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_statistics() {
        let values = [3.0, 1.0, 2.0];
        assert_eq!((median(&values), smallest(&values), largest(&values)), (2.0, 1.0, 3.0));
    }
}
