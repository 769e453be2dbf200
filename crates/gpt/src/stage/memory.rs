//! Refuses a training that this machine has no memory for, before anything is begun: otherwise the system
//! kills it without a message.

use super::{Init, Machine};
use crate::model::{
    Adapter, BaseStorage, Config, EXACT_BYTES, Keep, Method, PASS_TOKENS, Pass, Spec, TrainingMemory,
};
use crate::progress::Progress;
use anyhow::{Result, ensure};

/// How much of the memory that is left a training may take; the rest is for what the backend works with, for
/// checkpoints while they are written, and for other programs. A training at 99 % was ended by the system.
const SHARE: f64 = 0.9;

/// A model of this shape, or one that stays as it is with an adapter beside it.
#[derive(Clone, Copy)]
pub(super) struct Model<'a> {
    config: &'a Config,
    adapter: Option<&'a Adapter<Spec>>,
    method: Method,
}

impl<'a> Model<'a> {
    /// What begins at `init` in the shape `config`.
    pub(super) fn of(init: &'a Init, config: &'a Config) -> Self {
        Model { config, adapter: init.adapter(), method: Method::AdamW }
    }

    /// All of a model of this shape.
    pub(super) fn whole(config: &'a Config) -> Self {
        Model { config, adapter: None, method: Method::AdamW }
    }

    /// The same with another optimizer.
    pub(super) fn by(self, method: Method) -> Self {
        Model { method, ..self }
    }

    fn base(&self) -> BaseStorage {
        self.adapter.map_or(BaseStorage::NUMBERS, |adapter| adapter.base)
    }

    fn parameters(&self) -> usize {
        self.adapter.map_or_else(|| self.config.parameters(), Adapter::learned)
    }
}

/// Tokens of a pass at most where memory is what decides them: more make products no faster.
pub(super) const MOST_PASS_TOKENS: usize = 65_536;
/// What a GPU's backend takes besides: the workspace of products, and what one operation after another works with.
const GPU_WORKS_WITH: u64 = 128 << 20;
/// Rows of logits that a GPU has at once.
const GPU_LOGITS: usize = 8192;

/// A training as memory sees it.
#[derive(Clone, Copy)]
pub(super) struct Needs<'a> {
    /// The models that are trained.
    pub(super) trained: &'a [Model<'a>],
    /// Those beside them that are only read.
    pub(super) frozen: &'a [Model<'a>],
    /// In so many lanes gradients are summed.
    pub(super) lanes: usize,
    /// What a pass keeps.
    pub(super) keep: Keep,
}

impl Needs<'_> {
    /// Refuses to train in passes of `rows` tokens where memory lacks for it.
    ///
    /// # Errors
    /// It needs more than there is; both are told.
    pub(super) fn check(&self, rows: usize, machine: &Machine) -> Result<()> {
        let Needs { trained, frozen, lanes, keep } = *self;
        ensure!(
            machine.device == "cpu" || !trained.iter().any(|one| one.base().is_in_blocks()),
            "only the processor computes with a model whose matrices are stored in blocks: give --device cpu, or leave --base out"
        );
        let needed = self.bytes(rows, machine);
        let Some(available) = machine.memory_bytes.or_else(available_bytes) else { return Ok(()) };
        let parameters: usize = trained.iter().map(Model::parameters).sum();
        let beneath = trained.iter().filter(|one| one.adapter.is_some());
        let frozen_parameters: usize = frozen.iter().chain(beneath).map(|one| one.config.parameters()).sum();
        let beside = match frozen_parameters {
            0 => String::new(),
            n => format!(", and {n} frozen ones"),
        };
        let in_lanes = if lanes > 1 { format!(" in {lanes} lanes") } else { String::new() };
        let moments = match trained.iter().all(|one| one.method == Method::AdamW) {
            true => "two moments",
            false => "their moments",
        };
        let recompute = match keep {
            Keep::Blocks => {
                let recomputed = Needs { keep: Keep::Inputs, ..*self }.bytes(rows, machine);
                format!(
                    "compute blocks again on the way back (--set recompute=true), with which the pass keeps {}, ",
                    gigabytes(recomputed.pass_bytes)
                )
            }
            Keep::Inputs => String::new(),
        };
        ensure!(
            needed.bytes() as f64 <= SHARE * available as f64,
            "training needs {} of memory: {} for {parameters} parameters with their gradients{in_lanes} and {moments}{beside}, {} for what \
             a pass over {rows} tokens keeps; this machine has {} left, and a tenth of it stays free: {recompute}take a smaller model, {}a \
             smaller seq_len",
            gigabytes(needed.bytes()),
            gigabytes(needed.state_bytes),
            gigabytes(needed.pass_bytes),
            gigabytes(available),
            if lanes > 1 { "fewer lanes, or " } else { "or " }
        );
        Ok(())
    }

    /// How many tokens go through the models at once where a GPU's free memory decides: the most that fit, in steps
    /// of twice as many from `least` on, and at most `most`; `progress` hears of it. Of several processes the one with the
    /// least memory decides for all, and all lanes count, so that it does not matter who has how many. None on the
    /// processor, where the model alone decides.
    pub(super) fn pass_tokens(
        &self,
        least: usize,
        most: usize,
        machine: &Machine,
        progress: &dyn Progress,
    ) -> Option<usize> {
        if machine.device == "cpu" {
            return None;
        }
        let fits = |rows: &usize| {
            let Some(free) = machine.memory_bytes else { return *rows <= PASS_TOKENS.max(least) };
            self.bytes(*rows, machine).bytes() as f64 <= SHARE * free as f64
        };
        let doubled =
            std::iter::successors(Some(least), |rows| Some(2 * rows)).take_while(|rows| *rows < most);
        let rows = doubled.chain([most.max(least)]).take_while(fits).last().unwrap_or(least);
        let rows = machine.ranks.gather(&[rows as u64]).into_iter().min().unwrap_or(rows as u64) as usize;
        if let Some(free) = machine.memory_bytes {
            let needed = gigabytes(self.bytes(rows, machine).bytes());
            progress.line(&format!(
                "micro_batch_tokens {rows}: training takes {needed} then, and {} of the GPU's memory are free",
                gigabytes(free)
            ));
        }
        Some(rows)
    }

    /// What it takes in passes of `rows` tokens.
    fn bytes(&self, rows: usize, machine: &Machine) -> TrainingMemory {
        let Needs { trained, frozen, lanes, keep } = *self;
        let pass = Pass::new(rows, if machine.precision == "bf16" { 2 } else { 4 });
        let of_trained = |one: &Model<'_>| match one.adapter {
            Some(adapter) => one.config.training_memory_beside(adapter, pass.keeping(keep), lanes),
            None => one.config.training_memory(pass.keeping(keep), lanes).by(one.method, one.config),
        };
        // There is no way back, for which something would be kept.
        let of_frozen = |one: &Model<'_>| TrainingMemory {
            state_bytes: one.config.weight_bytes(one.base()),
            pass_bytes: one.config.training_memory(pass.keeping(Keep::Inputs), 1).pass_bytes,
        };
        let all = trained.iter().map(of_trained).chain(frozen.iter().map(of_frozen));
        let sum = all.fold(TrainingMemory { state_bytes: 0, pass_bytes: 0 }, |sum, one| TrainingMemory {
            state_bytes: sum.state_bytes + one.state_bytes,
            pass_bytes: sum.pass_bytes + one.pass_bytes,
        });
        if machine.device == "cpu" { sum } else { self.on_gpu(sum, pass) }
    }

    /// The same with what a GPU has besides: the copies of weights in bfloat16 that products read, and what
    /// operations work with.
    fn on_gpu(&self, sum: TrainingMemory, Pass { rows, activation_bytes, .. }: Pass) -> TrainingMemory {
        let configs = || self.trained.iter().chain(self.frozen).map(|one| one.config);
        let copies: usize = if activation_bytes == 2 { configs().map(Config::parameters).sum() } else { 0 };
        let widest = configs().map(|config| config.vocab_size).max().unwrap_or(0);
        let logits = (rows.min(GPU_LOGITS) * widest) as u64 * EXACT_BYTES;
        TrainingMemory {
            state_bytes: sum.state_bytes + activation_bytes * copies as u64,
            pass_bytes: sum.pass_bytes + logits + GPU_WORKS_WITH,
        }
    }
}

fn gigabytes(bytes: u64) -> String {
    format!("{:.1} GB", bytes as f64 / 1e9)
}

/// Memory that this process may still have without taking it from others; none where the system does not
/// tell.
pub fn available_bytes() -> Option<u64> {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let machine = meminfo(&read("/proc/meminfo")?)?;
    // Of a container that has a limit of its own.
    let number = |name: &str| read(&format!("/sys/fs/cgroup/{name}"))?.trim().parse::<u64>().ok();
    let left = number("memory.max").map(|max| max.saturating_sub(number("memory.current").unwrap_or(0)));
    Some(left.map_or(machine, |left| left.min(machine)))
}

/// What `/proc/meminfo` tells: memory that can be had, and the free part of the swap.
fn meminfo(text: &str) -> Option<u64> {
    let kib = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
        line.trim().strip_suffix(" kB")?.parse::<u64>().ok()
    };
    Some(1024 * (kib("MemAvailable")? + kib("SwapFree").unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Silent;
    use crate::stage::Settings;

    #[test]
    fn what_the_system_tells_is_understood() {
        let text = "MemTotal:       24603504 kB\nMemFree: 1 kB\nMemAvailable:   20000000 kB\nSwapTotal: 9 kB\nSwapFree:  5 kB\n";
        assert_eq!(meminfo(text), Some(1024 * 20_000_005));
        assert_eq!(meminfo("MemFree: 1 kB\n"), None);
        assert!(cfg!(not(target_os = "linux")) || available_bytes().is_some_and(|bytes| bytes > 1 << 20));
    }

    fn needs<'a>(trained: &'a [Model<'a>], frozen: &'a [Model<'a>], keep: Keep) -> Needs<'a> {
        Needs { trained, frozen, lanes: 1, keep }
    }

    #[test]
    fn the_largest_preset_is_refused_with_what_it_needs() {
        let (shape, settings) = Settings::resolve("gpt3-175b", &[]).unwrap();
        let config = shape.config(50_257, &settings);
        let machine = Machine {
            precision: "bf16".into(),
            peak_flops: 1.0,
            memory_bytes: Some(1 << 40),
            ..Machine::unmeasured()
        };
        let [kept, recomputed] = [Keep::Blocks, Keep::Inputs]
            .map(|keep| config.training_memory(Pass::new(4096, 2).keeping(keep), 1));
        assert!(recomputed.pass_bytes * 5 < kept.pass_bytes, "{recomputed:?} {kept:?}");
        for (frozen, keep) in [(0, Keep::Blocks), (2, Keep::Blocks), (0, Keep::Inputs)] {
            let (one, others) = ([Model::whole(&config)], vec![Model::whole(&config); frozen]);
            let error = needs(&one, &others, keep).check(4096, &machine).unwrap_err();
            let message = error.to_string();
            let own = if keep == Keep::Blocks { kept } else { recomputed };
            // A frozen model has its weights, and passes that keep no more than one block.
            let state = own.state_bytes + 4 * (frozen * config.parameters()) as u64;
            let pass = own.pass_bytes + frozen as u64 * recomputed.pass_bytes;
            let said = format!(
                "training needs {} of memory: {} for 174600720384 par",
                gigabytes(state + pass),
                gigabytes(state)
            );
            assert!(message.contains(&said), "{message}");
            assert!(frozen > 0 || message.contains("2796.1 GB for"), "{message}");
            let spared = gigabytes((1 + frozen as u64) * recomputed.pass_bytes);
            let suggested = message
                .contains(&format!("(--set recompute=true), with which the pass keeps {spared}, take"));
            assert_eq!(suggested, keep == Keep::Blocks, "{message}");
        }
    }

    #[test]
    fn recomputed_blocks_fit_where_all_of_them_do_not() {
        let (shape, settings) = Settings::resolve("gpt2", &[]).unwrap();
        let config = shape.config(50_257, &settings);
        let [kept, recomputed] = [Keep::Blocks, Keep::Inputs]
            .map(|keep| config.training_memory(Pass::new(4096, 4).keeping(keep), 1).bytes());
        let machine = Machine { memory_bytes: Some((kept + recomputed) / 2), ..Machine::unmeasured() };
        let one = [Model::whole(&config)];
        assert!(needs(&one, &[], Keep::Blocks).check(4096, &machine).is_err());
        assert!(needs(&one, &[], Keep::Inputs).check(4096, &machine).is_ok());
    }

    #[test]
    fn free_memory_decides_how_much_a_gpu_takes_at_once() {
        let (shape, settings) = Settings::resolve("gpt2", &[]).unwrap();
        let config = shape.config(50_257, &settings);
        let one = [Model::whole(&config)];
        let gpu = |memory_bytes: u64, device: &str| Machine {
            device: device.into(),
            precision: "bf16".into(),
            memory_bytes: Some(memory_bytes),
            ..Machine::unmeasured()
        };
        let tokens = |needs: Needs<'_>, gigabytes: u64| {
            let machine = gpu(gigabytes * 1_000_000_000, "cuda");
            let rows = needs.pass_tokens(1024, 96 * 1024, &machine, &Silent).unwrap();
            let fits = |rows| needs.bytes(rows, &machine).bytes() as f64 <= 0.9 * gigabytes as f64 * 1e9;
            assert_eq!(needs.check(rows, &machine).is_ok(), fits(rows));
            assert!(rows == 1024 || fits(rows), "{rows} do not fit");
            assert!(rows == 96 * 1024 || !fits((2 * rows).min(96 * 1024)), "more than {rows} fit");
            rows / 1024
        };
        let [kept, again] = [Keep::Blocks, Keep::Inputs].map(|keep| needs(&one, &[], keep));
        // Twice as many from step to step, and all of a batch where that fits.
        assert_eq!([1, 4, 8, 16, 24, 80, 141].map(|free| tokens(kept, free)), [1, 1, 4, 16, 32, 96, 96]);
        assert_eq!([1, 4, 8, 16, 24].map(|free| tokens(again, free)), [1, 2, 16, 96, 96]);
        // Others beside it take their part.
        assert!(tokens(needs(&one, &[one[0]; 12], Keep::Blocks), 16) < 16);
        assert_eq!(kept.pass_tokens(1024, 4096, &gpu(1 << 40, "cpu"), &Silent), None);
        let untold = Machine { memory_bytes: None, ..gpu(0, "cuda") };
        assert_eq!(kept.pass_tokens(1024, 1 << 20, &untold, &Silent), Some(4096));
        let few = gpu(1_000_000_000, "cuda");
        let refused = kept.check(kept.pass_tokens(1024, 4096, &few, &Silent).unwrap(), &few);
        assert!(refused.unwrap_err().to_string().contains("--set recompute=true"));
    }

    #[test]
    fn an_adapter_fits_where_the_model_does_not() {
        let (shape, settings) = Settings::resolve("gpt2", &[]).unwrap();
        let config = shape.config(50_257, &settings);
        let adapter = crate::checkpoint::fresh_adapter(&config, &"r=8".parse().unwrap()).unwrap();
        let beside = Model { adapter: Some(&adapter), ..Model::whole(&config) };
        let pass = Pass::new(4096, 4);
        let [whole, little] =
            [config.training_memory(pass, 1), config.training_memory_beside(&adapter, pass, 1)]
                .map(|memory| memory.bytes());
        let between = Some((whole + little) / 2);
        let machine = Machine { memory_bytes: between, ..Machine::unmeasured() };
        assert!(needs(&[beside], &[], Keep::Blocks).check(4096, &machine).is_ok());
        assert!(needs(&[Model::whole(&config)], &[], Keep::Blocks).check(4096, &machine).is_err());
    }
}
