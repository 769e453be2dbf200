//! What training a model takes, estimated before it begins: tokens, operations, memory by part, time and
//! cost.

mod scaling;

pub use scaling::{Network, Scaling, SharedStep};

use serde::Serialize;

use crate::model::{Adapter, BaseStorage, Config, Keep, Method, Pass, Spec, Weights, specs};
use crate::train::most_owned;

/// Tokens of a parameter that make the best of a budget (Hoffmann et al. 2022, table 3).
pub const TOKENS_PER_PARAMETER: u64 = 20;

/// Bytes of a value between operations where products are in bfloat16.
pub const BF16_BYTES: u64 = 2;

/// What the program takes with hardly a model: its code, a small tokenizer, measuring the processor.
const PROGRAM_BYTES: u64 = 44_000_000;

/// What Open MPI and MPICH add to it where two processes are on one machine.
const MPI_BYTES: u64 = 52_000_000;

/// The share of a device's memory that training may take; the rest is for what the backend works with.
const SHARE: f64 = 0.9;

/// A kind of device: its peak in products with dense bfloat16 and its memory, from the makers' data sheets.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Device {
    /// What it is called.
    pub name: String,
    /// Floating-point operations a second at most.
    pub flops: f64,
    /// Bytes of memory; none where the system does not tell.
    pub memory_bytes: Option<u64>,
}

/// Name, operations a second, gigabytes.
const DEVICES: [(&str, f64, u64); 7] = [
    ("t4", 65e12, 16),
    ("rtx4090", 165e12, 24),
    ("l40s", 362e12, 48),
    ("a100", 312e12, 80),
    ("h100", 989e12, 80),
    ("h200", 989e12, 141),
    ("b200", 2250e12, 192),
];

impl Device {
    /// The device of this name, of [`names`](Self::names).
    pub fn named(name: &str) -> Option<Self> {
        let (name, flops, gigabytes) = DEVICES.into_iter().find(|device| device.0 == name)?;
        Some(Device { name: name.into(), flops, memory_bytes: Some(gigabytes * 1_000_000_000) })
    }

    /// The names that are known.
    pub fn names() -> impl Iterator<Item = &'static str> {
        DEVICES.into_iter().map(|device| device.0)
    }
}

/// Bytes of training by part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// Weights, as they are stored.
    pub weights: u64,
    /// Their gradients, those of a tied head and of lanes before they are added up, and what Muon works with.
    pub gradients: u64,
    /// The optimizer's moments: AdamW's two, one of a matrix that Muon learns.
    pub moments: u64,
    /// What a micro-batch leaves for its backward pass.
    pub activations: u64,
    /// The same where every block is computed again in the backward pass (Chen et al. 2016).
    pub activations_recomputed: u64,
    /// What the backend works with meanwhile, where that is known.
    pub working: u64,
    /// All, with the activations that the recipe has.
    pub total: u64,
}

impl Memory {
    /// What a process takes where so many share the moments of what is learned of `specs`: the one that has most of them,
    /// with the program itself and MPI. The first one has all moments while it saves.
    pub fn of_rank(&self, specs: &Weights<Spec>, ranks: u64) -> u64 {
        let share = |ranks| most_owned(specs, ranks) as f64;
        let moments = self.moments as f64 * share(ranks as usize) / share(1).max(1.0);
        let mpi = if ranks > 1 { MPI_BYTES } else { 0 };
        self.total - self.moments + moments as u64 + PROGRAM_BYTES + mpi
    }
}

/// What training a model takes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plan {
    /// The model's numbers.
    pub parameters: u64,
    /// Those that are learned: all, or an adapter's beside them.
    pub learned: u64,
    /// Those of them that are embeddings of tokens and positions.
    pub embedding_parameters: u64,
    /// Tokens of training.
    pub tokens: u64,
    /// Tokens that make the best of a budget for a model of this size.
    pub chinchilla_tokens: u64,
    /// Floating-point operations a token, forward and backward.
    pub flops_per_token: f64,
    /// Of the whole training.
    pub flops: f64,
    /// Tokens of a micro-batch.
    pub micro_batch_tokens: u64,
    /// Bytes of training, by part.
    pub memory: Memory,
    /// Bytes of the cache of one text as long as the context, in bfloat16.
    pub cache_bytes: u64,
}

/// The same on devices of a kind.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// The kind.
    pub device: Device,
    /// How many, each with a copy of the model.
    pub devices: u32,
    /// The share of the peak that is reached.
    pub utilisation: f64,
    /// How long.
    pub secs: f64,
    /// For how much, where the price of a device's hour is known.
    pub cost: Option<f64>,
    /// Sequences of the largest micro-batch that fits one device; 0 where the model itself does not, none
    /// where its memory is not known.
    pub sequences: Option<u64>,
    /// The same with every block computed again.
    pub sequences_recomputed: Option<u64>,
}

impl Plan {
    /// Of training a model, or an `adapter` beside it, on so many tokens, in micro-batches of one `pass` each, whose gradients are
    /// summed in `lanes`, with a backend that works with `working_bytes` besides, by an optimizer.
    pub fn new(
        config: &Config,
        adapter: Option<&Adapter<Spec>>,
        tokens: Option<u64>,
        pass: Pass,
        lanes: usize,
        working_bytes: u64,
        method: Method,
    ) -> Self {
        let parameters = config.parameters() as u64;
        let chinchilla_tokens = TOKENS_PER_PARAMETER * parameters;
        let tokens = tokens.unwrap_or(chinchilla_tokens);
        let arrays = |adapter: &Adapter<Spec>| adapter.leaves().into_iter().map(Spec::len).sum::<usize>();
        let arrays = adapter.map_or(parameters, |adapter| arrays(adapter) as u64);
        let learned = adapter.map_or(parameters, |adapter| adapter.learned() as u64);
        // What stays as it is has no gradients: one of three products.
        let passes = if adapter.is_some() { 2.0 / 3.0 } else { 1.0 };
        let flops_per_token = passes * config.training_flops_per_token();
        let memory = |pass| match adapter {
            Some(adapter) => config.training_memory_beside(adapter, pass, lanes),
            None => config.training_memory(pass, lanes).by(method, config),
        };
        let state_bytes = memory(pass).state_bytes;
        let passes = [Keep::Blocks, Keep::Inputs].map(|keep| memory(pass.keeping(keep)).pass_bytes);
        let [activations, activations_recomputed] = passes;
        let specs = specs(config);
        let without_second =
            specs.leaves().into_iter().filter(|spec| adapter.is_none() && method.is_muons(spec));
        let moments = 8 * arrays - 4 * without_second.map(Spec::len).sum::<usize>() as u64;
        let beside = if adapter.is_some() { 4 * arrays } else { 0 };
        let weights =
            config.weight_bytes(adapter.map_or(BaseStorage::NUMBERS, |adapter| adapter.base)) + beside;
        Plan {
            parameters,
            learned,
            embedding_parameters: config.embedding_parameters() as u64,
            tokens,
            chinchilla_tokens,
            flops_per_token,
            flops: flops_per_token * tokens as f64,
            micro_batch_tokens: pass.rows as u64,
            memory: Memory {
                weights,
                gradients: state_bytes - weights - moments,
                moments,
                activations,
                activations_recomputed,
                working: working_bytes,
                total: state_bytes + memory(pass).pass_bytes + working_bytes,
            },
            cache_bytes: BF16_BYTES * 2 * (config.n_layer * config.kv_width() * config.seq_len) as u64,
        }
    }

    /// The training on `devices` of a kind, at a share of their peak, for a price of an hour of one. Their
    /// talking to each other costs nothing here: it is part of the utilisation that is stated, or what
    /// [`over_ranks`](Self::over_ranks) says.
    pub fn on(
        &self,
        config: &Config,
        device: Device,
        devices: u32,
        utilisation: f64,
        price: Option<f64>,
    ) -> Estimate {
        let secs = self.flops / (device.flops * utilisation * f64::from(devices));
        let Memory { weights, gradients, moments, working, .. } = self.memory;
        let state_bytes = weights + gradients + moments + working;
        let fitting = |pass_bytes: u64| {
            let room = ((SHARE * device.memory_bytes? as f64) as u64).saturating_sub(state_bytes);
            let per_sequence = pass_bytes * config.seq_len as u64 / self.micro_batch_tokens.max(1);
            Some(room / per_sequence.max(1))
        };
        Estimate {
            secs,
            cost: price.map(|price| price * f64::from(devices) * secs / 3600.0),
            sequences: fitting(self.memory.activations),
            sequences_recomputed: fitting(self.memory.activations_recomputed),
            device,
            devices,
            utilisation,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_share_moments_and_nothing_else() {
        let config = Config::gpt2(50_257, 1024, 12, 12, 768);
        let memory = Plan::new(&config, None, None, Pass::new(4096, BF16_BYTES), 8, 1, Method::AdamW).memory;
        let specs = specs(&config);
        assert_eq!(memory.of_rank(&specs, 1), memory.total + PROGRAM_BYTES);
        // 124,439,808 numbers, of which the embedding, the largest leaf, is the whole share of one of four.
        for (ranks, owned) in [(2, 62_219_904), (4, 38_597_376)] {
            let spared = 8 * (124_439_808 - owned);
            let expected = memory.total - spared + PROGRAM_BYTES + MPI_BYTES;
            let told = memory.of_rank(&specs, ranks);
            assert!(told.abs_diff(expected) < memory.total / 500, "{ranks}: {told}, expected {expected}");
        }
    }

    /// GPT-3's table 2.1 and D.1 (Brown et al. 2020): 174,600 million parameters, 300 billion tokens, 3.14e23
    /// operations.
    #[test]
    fn the_largest_model_of_the_paper() {
        let config = Config::gpt3(50_257, 2048, 96, 96, 12_288);
        let plan =
            Plan::new(&config, None, Some(300_000_000_000), Pass::new(2048, BF16_BYTES), 1, 1, Method::AdamW);
        assert!((plan.parameters as f64 / 174.6e9 - 1.0).abs() < 0.001, "{}", plan.parameters);
        // The paper counts 6 operations a parameter, without attention's; these are counted here, and the
        // embedding's are not.
        assert!((plan.flops / 3.14e23 - 1.0).abs() < 0.03, "{:e}", plan.flops);
        // 2 · 96 layers · 12,288 · 2,048 positions · 2 bytes.
        assert_eq!(plan.cache_bytes, 9_663_676_416);
        let Memory { weights, gradients, moments, activations, activations_recomputed, working, total } =
            plan.memory;
        let parts = weights + gradients + moments + activations + working;
        assert_eq!((moments, working, total), (2 * weights, 1, parts));
        assert!(activations_recomputed * 5 < activations, "{activations_recomputed} {activations}");
        let on = plan.on(&config, Device::named("h100").unwrap(), 1024, 0.4, Some(2.0));
        assert_eq!((on.sequences, on.sequences_recomputed), (Some(0), Some(0)), "it does not fit one device");
        assert!((on.secs - plan.flops / (989e12 * 0.4 * 1024.0)).abs() < 1e-3);
        assert!((on.cost.unwrap() - on.secs / 3600.0 * 2048.0).abs() < 1e-6);
    }

    #[test]
    fn the_largest_micro_batch_fits_and_one_more_does_not() {
        let config = Config::gpt2(50_257, 1024, 12, 12, 768);
        let device = Device::named("rtx4090").unwrap();
        let plan = Plan::new(&config, None, None, Pass::new(4096, BF16_BYTES), 1, 0, Method::AdamW);
        assert_eq!(plan.tokens, 20 * plan.parameters);
        let on = plan.on(&config, device.clone(), 1, 0.4, None);
        let takes = |sequences: u64, keep| {
            let pass = Pass::new(sequences as usize * config.seq_len, BF16_BYTES).keeping(keep);
            Plan::new(&config, None, None, pass, 1, 0, Method::AdamW).memory.total as f64
        };
        let room = 0.9 * device.memory_bytes.unwrap() as f64;
        for (most, keep) in [(on.sequences, Keep::Blocks), (on.sequences_recomputed, Keep::Inputs)] {
            let most = most.unwrap();
            assert!(takes(most, keep) <= room && takes(most + 1, keep) > room, "{most}, {keep:?}");
        }
        assert!(on.sequences_recomputed > on.sequences.map(|most| 4 * most), "{on:?}");
    }
}
