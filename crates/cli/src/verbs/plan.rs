//! `mynah plan`: what a training takes, before it begins.

use std::str::FromStr;

use anyhow::Result;
use clap::Args;
use gpt::checkpoint::fresh_adapter;
use gpt::model::{Adapter, BaseStorage, Config, Keep, Lora, Pass, Spec, Weights, is_learned, specs};
use gpt::plan::{BF16_BYTES, Device, Estimate, Network, Plan, Scaling};
use gpt::stage::{available_bytes, usual_vocab_size};
use kernels::{BlockFormat, Cpu, HeadShape, Precision};
use serde::Serialize;
use serde_json::json;

use super::pretrain::resolve;
use crate::device::{Compute, Computes, DeviceName};
use crate::options::{Usage, amount, bytes_a_second, number, whole};
use crate::session::{Ended, Purpose, Session};
use crate::terminal::text::{bytes, count, plural, scaled, secs, table};
use crate::together::LANES;

const DETAILS: &str = "\
`cpu`, which is `this`, and `cuda` are what this machine has, measured; other devices are what their makers' data sheets say. Memory is
for one micro-batch of the recipe. Time is operations over the device's peak times its utilisation; the usual share is
0.3 to 0.5 of a GPU's peak, and 0.65 to 0.75 of what `mynah bench peak` measures on a processor. For several, a table says what a
step of the recipe takes of 1 to 1,024 processes over a network, and from how many on twice as many are less than 1.2 times as
fast; the formula is in docs/cluster.md.

Examples:
  mynah plan --preset baby
  mynah plan --preset gpt2 --device cpu --device cuda
  mynah plan --preset gpt2 --device h100 --price 2.5
  mynah plan --preset gpt3-175b --device h100 --count 1024 --tokens 300B
  mynah plan --preset gpt2 --count 8 --bandwidth 25Gbit/s --latency-us 10";

/// The processor's other name among devices.
const THIS: &str = "this";
/// The shares of the peak that are reached where none is given: on a processor as measured, on others as
/// usual.
const UTILISATION: [f64; 2] = [0.7, 0.4];
/// The network where nobody says: usual Ethernet of 10 Gbit/s.
const LATENCY_US: f64 = 20.0;
const BANDWIDTH: f64 = 1.25e9;
/// Processes of the last row at least.
const MOST: u64 = 1024;

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
    /// Of the network between several: microseconds that a message takes beside its bytes [default: 20]
    #[arg(long, value_name = "F", value_parser = microseconds)]
    latency_us: Option<f64>,
    /// Of the network between several: 1.25GB/s, 10Gbit/s [default: 10Gbit/s]
    #[arg(long, value_name = "B/s", value_parser = bytes_a_second)]
    bandwidth: Option<f64>,
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

fn microseconds(text: &str) -> Result<f64, String> {
    let value = text.parse::<f64>().ok().filter(|micros| micros.is_finite() && *micros >= 0.0);
    value.ok_or_else(|| "not a number from 0 up".into())
}

fn devices() -> String {
    Device::names().collect::<Vec<_>>().join(", ")
}

fn device_help() -> String {
    format!(
        "Where: `cpu` or `{THIS}`, the processor of this machine, or `cuda`, `cuda:1`, its GPU, measured, or one of {}; may be \
         repeated",
        devices()
    )
}

fn fraction(text: &str) -> Result<f64, String> {
    let value = text.parse::<f64>().ok().filter(|share| *share > 0.0 && *share <= 1.0);
    value.ok_or_else(|| "not a share above 0, up to 1".into())
}

pub(crate) fn run(args: &PlanArgs, session: &Session) -> Result<Ended> {
    let (shape, settings) = resolve(&args.preset, &args.set)?;
    let vocab_size = args.vocab_size.map_or_else(|| usual_vocab_size(&args.preset), |n| n as usize);
    let config = shape.config(vocab_size, &settings);
    let mut places =
        args.device.iter().map(|name| Place::named(name, session)).collect::<Result<Vec<_>>>()?;
    let exact = places.iter().any(|place| place.precision() == Precision::F32);
    let activation_bytes = if exact { 4 } else { BF16_BYTES };
    let rows = settings.pass_tokens();
    let working_bytes = places.iter().map(|place| place.working_bytes(&config, rows)).max().unwrap_or(0);
    let adapter = args.lora.as_ref().map(|lora| fresh_adapter(&config, lora));
    let adapter = adapter.transpose().map_err(|error| Usage(format!("--lora: {error:#}")))?;
    let adapter = adapter
        .map(|adapter| Adapter { base: args.base.map_or(BaseStorage::NUMBERS, BaseStorage::In), ..adapter });
    let planned = |rows, lanes, working_bytes| {
        let adapter = adapter.as_ref();
        let optimizer = settings.optimizer;
        let pass = Pass::new(rows, activation_bytes).keeping(Keep::of(settings.recompute));
        Plan::new(&config, adapter, args.tokens, pass, lanes, working_bytes, optimizer)
    };
    let plan = planned(rows, settings.lanes, working_bytes);
    let mut estimates = Vec::new();
    for place in &mut places {
        let (device, usual) = place.measured(session);
        let utilisation = args.utilisation.unwrap_or(usual);
        estimates.push(plan.on(&config, device, args.count, utilisation, args.price));
    }
    // What no recipe says is as under a launcher.
    let lanes = if settings.lanes > 1 { settings.lanes } else { LANES };
    let learned = Weights { adapter: adapter.clone(), ..specs(&config) };
    let memory = |ranks: u64| {
        let passes = lanes.max(ranks as usize);
        let rows = rows.min(settings.sequences().div_ceil(passes) * config.seq_len);
        let working = places.iter().map(|place| place.working_bytes(&config, rows)).max().unwrap_or(0);
        planned(rows, (lanes / ranks as usize).max(1), working).memory.of_rank(&learned, ranks)
    };
    let scalings = scalings(args, &plan, (&config, &learned), settings.sequences(), &estimates, memory);
    let mut told = json!({ "preset": args.preset, "vocab_size": vocab_size, "plan": plan, "on": estimates });
    if !scalings.is_empty() {
        told["over_ranks"] = json!(scalings);
    }
    session.result(&told, || text(&plan, &config, &estimates) + &over_ranks(&scalings))?;
    Ok(Ended::Done)
}

/// A step over processes on each device, where several are asked for or a network is told.
fn scalings(
    args: &PlanArgs,
    plan: &Plan,
    (config, learned): (&Config, &Weights<Spec>),
    sequences: usize,
    estimates: &[Estimate],
    memory: impl Fn(u64) -> u64,
) -> Vec<Scaled> {
    if args.count == 1 && args.latency_us.is_none() && args.bandwidth.is_none() {
        return Vec::new();
    }
    let network = Network {
        latency_secs: args.latency_us.unwrap_or(LATENCY_US) * 1e-6,
        bytes_per_sec: args.bandwidth.unwrap_or(BANDWIDTH),
    };
    let leaves = learned.leaves().into_iter().filter(|spec| is_learned(learned, spec)).count();
    let step = (sequences as u64, config.seq_len as u64);
    let scaling = |estimate: &Estimate| {
        let flops = estimate.device.flops * estimate.utilisation;
        let (device, most) = (estimate.device.name.clone(), MOST.max(args.count.into()));
        let scaling = plan.over_ranks(step, flops, network, leaves as u64, most, &memory);
        Scaled { device, scaling }
    };
    estimates.iter().map(scaling).collect()
}

/// Steps over processes of a device.
#[derive(Serialize)]
struct Scaled {
    device: String,
    #[serde(flatten)]
    scaling: Scaling,
}

fn over_ranks(scalings: &[Scaled]) -> String {
    let mut text = String::new();
    for Scaled { device, scaling: Scaling { network, sequences, steps, stops_at } } in scalings {
        let Network { latency_secs, bytes_per_sec } = network;
        text += &format!(
            "\n  a step of {} over processes, each {device}, with {}B/s and {:.0} µs a message between them:\n",
            plural(*sequences, "sequence"),
            scaled(*bytes_per_sec),
            1e6 * latency_secs
        );
        let head =
            ["processes", "step", "computes", "bytes", "messages", "speed-up", "tokens/s", "memory of one"];
        let mut rows = vec![head.map(String::from)];
        rows.extend(steps.iter().map(|step| {
            [
                count(step.ranks),
                format!("{:.4} s", step.step_secs),
                format!("{:.4} s", step.compute_secs),
                format!("{:.4} s", step.bytes_secs),
                format!("{:.4} s", step.latency_secs),
                format!("{:.2}", step.speed_up),
                scaled(step.tokens_per_sec),
                bytes(step.memory_bytes),
            ]
        }));
        text += &table(&rows);
        text += &match stops_at {
            Some(ranks) => format!(
                "  it stops scaling at {}: twice as many processes are less than 1.2 times as fast\n",
                count(*ranks)
            ),
            None => "  it scales to the last of them\n".to_owned(),
        };
    }
    text
}

/// What a training is planned for.
enum Place {
    Processor(Cpu),
    Gpu(Compute),
    /// As its maker describes it.
    Named(Device),
}

impl Place {
    /// The one that is typed so.
    fn named(name: &str, session: &Session) -> Result<Self> {
        if name == THIS {
            return Ok(Place::Processor(session.processor(Purpose::NewTraining)?));
        }
        match DeviceName::parse(name) {
            Ok(DeviceName::Cpu) => Self::named(THIS, session),
            Ok(gpu) => Ok(Place::Gpu(session.compute_on(gpu, Purpose::NewTraining)?)),
            Err(_) => {
                let unknown = || {
                    let known = devices();
                    Usage(format!(
                        "there is no device `{name}`: choose among cpu, {THIS}, cuda, cuda:1 …, {known}"
                    ))
                };
                Ok(Place::Named(Device::named(name).ok_or_else(unknown)?))
            }
        }
    }

    /// That of products.
    fn precision(&self) -> Precision {
        match self {
            Place::Processor(cpu) => cpu.options().precision,
            Place::Gpu(gpu) => gpu.precision(),
            Place::Named(_) => Precision::Bf16,
        }
    }

    /// What it works with besides tensors, where that is known.
    fn working_bytes(&self, config: &Config, rows: usize) -> u64 {
        let Place::Processor(cpu) = self else { return 0 };
        let &Config { d_model, vocab_size, .. } = config;
        cpu.working_bytes(&config.products(rows), &HeadShape::new(rows, d_model, vocab_size))
    }

    /// Its peak and memory, and the usual share of the peak.
    fn measured(&mut self, session: &Session) -> (Device, f64) {
        let (machine, memory_bytes, usual) = match self {
            Place::Processor(cpu) => (session.machine(cpu), available_bytes(), UTILISATION[0]),
            Place::Gpu(gpu) => {
                let machine = session.machine(gpu);
                let memory_bytes = machine.memory_bytes;
                (machine, memory_bytes, UTILISATION[1])
            }
            Place::Named(device) => return (device.clone(), UTILISATION[1]),
        };
        (Device { name: machine.description, flops: machine.peak_flops, memory_bytes }, usual)
    }
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
        text +=
            "\n  peak and memory of a device with a name are its maker's; cpu and cuda are measured here\n";
    }
    text
}
