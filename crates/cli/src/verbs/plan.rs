//! `mynah plan`: what a training takes, before it begins.

use std::str::FromStr;

use anyhow::Result;
use clap::Args;
use gpt::checkpoint::fresh_adapter;
use gpt::model::{Adapter, Config, Lora};
use gpt::plan::{BF16_BYTES, Device, Estimate, Plan};
use gpt::stage::{available_bytes, usual_vocab_size};
use kernels::{BlockFormat, Cpu, HeadShape};
use serde_json::json;

use super::pretrain::resolve;
use crate::options::{Usage, amount, number, whole};
use crate::precision;
use crate::session::{Ended, Purpose, Session};
use crate::terminal::text::{bytes, count, scaled, secs, table};

const DETAILS: &str = "\
Training itself runs on the processor (`this`): other devices can be planned for, and there is no backend for them here. Memory is
for one micro-batch of the recipe. Time is operations over the device's peak times its utilisation; the usual share is
0.3 to 0.5 of a GPU's peak, and 0.65 to 0.75 of what `mynah bench peak` measures on a processor.

Examples:
  mynah plan --preset baby
  mynah plan --preset gpt2 --device h100 --price 2.5
  mynah plan --preset gpt3-175b --device h100 --count 1024 --tokens 300B";

/// The processor's name among devices.
const THIS: &str = "this";
/// The shares of the peak that are reached where none is given: on a processor as measured, on others as
/// usual.
const UTILISATION: [f64; 2] = [0.7, 0.4];

/// Tell what training a model takes: operations, memory, time and cost
#[derive(Debug, Args)]
#[command(after_help = DETAILS)]
pub(crate) struct PlanArgs {
    /// Shape and recipe, by name or as a TOML file
    #[arg(long, value_name = "NAME")]
    preset: String,
    /// Tokens of the vocabulary [default: GPT-1's for gpt1, 8,192 for tiny, nano and baby, else GPT-2's
    /// 50,257]
    #[arg(long, value_name = "N", value_parser = whole::<u32>(1..))]
    vocab_size: Option<u32>,
    /// Tokens of training [default: twenty for each parameter]
    #[arg(long, value_name = "N", value_parser = amount)]
    tokens: Option<u64>,
    #[arg(long, value_name = "NAME", default_value = THIS, help = device_help())]
    device: Vec<String>,
    /// Devices, each with a copy of the model
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = whole::<u32>(1..))]
    count: u32,
    /// The share of the peak that is reached [default: 0.7 of this processor's, 0.4 of others']
    #[arg(long, value_name = "F", value_parser = fraction)]
    utilisation: Option<f64>,
    /// Price of an hour of one device, in any currency
    #[arg(long, value_name = "F", value_parser = number)]
    price: Option<f64>,
    /// Of an adapter beside the model, which stays as it is: r=16,alpha=32,targets=q_proj+v_proj, or targets=all
    #[arg(long, value_name = "KEY=VALUE,…", value_parser = Lora::from_str, num_args = 0..=1, default_missing_value = "")]
    lora: Option<Lora>,
    /// How the matrices beneath the adapter are stored [default: exactly]
    #[arg(long, value_name = "q8_0|q4_0|nf4", value_parser = BlockFormat::from_str, requires = "lora")]
    base: Option<BlockFormat>,
    /// Change any recipe key; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

fn devices() -> String {
    Device::names().collect::<Vec<_>>().join(", ")
}

fn device_help() -> String {
    format!("Where: `{THIS}` machine, measured, or one of {}; may be repeated", devices())
}

fn fraction(text: &str) -> Result<f64, String> {
    let value = text.parse::<f64>().ok().filter(|share| *share > 0.0 && *share <= 1.0);
    value.ok_or_else(|| "not a share above 0, up to 1".into())
}

pub(crate) fn run(args: &PlanArgs, session: &Session) -> Result<Ended> {
    let (shape, settings) = resolve(&args.preset, &args.set)?;
    let vocab_size = args.vocab_size.map_or_else(|| usual_vocab_size(&args.preset), |n| n as usize);
    let config = shape.config(vocab_size, &settings);
    let mut cpu = session.cpu(Purpose::NewTraining)?;
    let here = args.device.iter().any(|name| name == THIS);
    let exact = here && precision::name(cpu.options().precision) != "bf16";
    let activation_bytes = if exact { 4 } else { BF16_BYTES };
    let rows = settings.pass_tokens();
    let working_bytes = if here { working_bytes(&cpu, &config, rows) } else { 0 };
    let adapter = args.lora.as_ref().map(|lora| fresh_adapter(&config, lora));
    let adapter = adapter.transpose().map_err(|error| Usage(format!("--lora: {error:#}")))?;
    let adapter = adapter.map(|adapter| Adapter { base: args.base, ..adapter });
    let plan = Plan::new(
        &config,
        adapter.as_ref(),
        args.tokens,
        rows,
        settings.lanes,
        activation_bytes,
        working_bytes,
        settings.optimizer,
    );
    let mut estimates = Vec::new();
    for name in &args.device {
        let (device, usual) = if name == THIS {
            let machine = session.machine(&mut cpu);
            let memory_bytes = available_bytes();
            (Device { name: machine.description, flops: machine.peak_flops, memory_bytes }, UTILISATION[0])
        } else {
            let unknown =
                || Usage(format!("there is no device `{name}`: choose among {THIS}, {}", devices()));
            (Device::named(name).ok_or_else(unknown)?, UTILISATION[1])
        };
        let utilisation = args.utilisation.unwrap_or(usual);
        estimates.push(plan.on(&config, device, args.count, utilisation, args.price));
    }
    let told = json!({ "preset": args.preset, "vocab_size": vocab_size, "plan": plan, "on": estimates });
    session.result(&told, || text(&plan, &config, &estimates))?;
    Ok(Ended::Done)
}

/// What this processor works with, which is no other device's.
fn working_bytes(cpu: &Cpu, config: &Config, rows: usize) -> u64 {
    let &Config { d_model, vocab_size, .. } = config;
    cpu.working_bytes(&config.products(rows), &HeadShape { rows, d_model, vocab_size, temperature: 1.0 })
}

fn text(plan: &Plan, config: &Config, estimates: &[Estimate]) -> String {
    let Config { vocab_size, seq_len, .. } = *config;
    let memory = plan.memory;
    let row = |name: &str, value: String| [name.to_owned(), value];
    let rows = [
        row("tokens of the vocabulary", count(vocab_size as u64)),
        row("parameters", count(plan.parameters)),
        row("of these embeddings", count(plan.embedding_parameters)),
        row("numbers that are learned", count(plan.learned)),
        row("tokens", count(plan.tokens)),
        row("twenty for each parameter", count(plan.chinchilla_tokens)),
        row("operations a token", scaled(plan.flops_per_token)),
        row("operations in all", format!("{:.2e}", plan.flops)),
        row("weights", bytes(memory.weights)),
        row("gradients", bytes(memory.gradients)),
        row("the optimizer's moments", bytes(memory.moments)),
        row(&format!("a pass over {} tokens", count(plan.micro_batch_tokens)), bytes(memory.activations)),
        row("the same, blocks recomputed", bytes(memory.activations_recomputed)),
        row("what the processor works with", bytes(memory.working)),
        row("memory in all", bytes(memory.total)),
        row(&format!("cache of {} tokens, bf16", count(seq_len as u64)), bytes(plan.cache_bytes)),
    ];
    let mut text = table(&rows);
    for estimate in estimates {
        let Estimate { device, devices, utilisation, cost, .. } = estimate;
        let fits = match (estimate.sequences, estimate.sequences_recomputed) {
            (Some(0), Some(0)) => "; one does not hold the model".to_owned(),
            (Some(n), Some(recomputed)) => {
                format!("; at most {n} sequences at once ({recomputed} recomputed)")
            }
            _ => String::new(),
        };
        let cost = cost.map_or(String::new(), |cost| format!(", {cost:.2} in all"));
        let memory = device.memory_bytes.map_or(String::new(), |n| format!(", {}", bytes(n)));
        text += &format!(
            "\n  {devices} × {} ({}FLOP/s{memory}) at {:.0} %: {}{cost}{fits}\n",
            device.name,
            scaled(device.flops),
            100.0 * utilisation,
            secs(estimate.secs)
        );
    }
    if estimates.iter().any(|estimate| Device::named(&estimate.device.name).is_some()) {
        text += "\n  mynah trains on the processor: the figures of other devices are for comparison\n";
    }
    text
}
