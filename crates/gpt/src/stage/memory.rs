//! Refuses a training that this machine has no memory for, before anything is begun: otherwise the system
//! kills it without a message.

use super::{Init, Machine};
use crate::model::{Adapter, BaseStorage, Config, Method, Spec};
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

/// Refuses to train models of these shapes beside frozen ones, in passes of `rows` tokens and with gradients
/// in `lanes`, where memory lacks for it.
///
/// # Errors
/// They need more than there is; both are told.
pub(super) fn check(
    trained: &[Model<'_>],
    frozen: &[Model<'_>],
    rows: usize,
    lanes: usize,
    machine: &Machine,
) -> Result<()> {
    ensure!(
        machine.device == "cpu" || !trained.iter().any(|one| one.base().is_in_blocks()),
        "only the processor computes with a model whose matrices are stored in blocks: give --device cpu, or leave --base out"
    );
    let activation_bytes = if machine.precision == "bf16" { 2 } else { 4 };
    let of = |one: Model<'_>| match one.adapter {
        Some(adapter) => one.config.training_memory_beside(adapter, rows, activation_bytes, lanes),
        None => one.config.training_memory(rows, activation_bytes, lanes).by(one.method, one.config),
    };
    let parameters: usize = trained.iter().map(Model::parameters).sum();
    let beneath = trained.iter().filter(|one| one.adapter.is_some()).map(|one| one.config.parameters());
    let frozen_parameters: usize = frozen.iter().map(|one| one.config.parameters()).sum();
    let state_bytes = trained.iter().map(|one| of(*one).state_bytes).sum::<u64>();
    let state_bytes = state_bytes + frozen.iter().map(|one| one.config.weight_bytes(one.base())).sum::<u64>();
    let frozen_parameters = frozen_parameters + beneath.sum::<usize>();
    let whole = frozen.iter().map(|one| Model::whole(one.config));
    let pass_bytes: u64 = trained.iter().copied().chain(whole).map(|one| of(one).pass_bytes).sum();
    let needed = state_bytes + pass_bytes;
    let Some(available) = machine.memory_bytes.or_else(available_bytes) else { return Ok(()) };
    let beside = match frozen_parameters {
        0 => String::new(),
        n => format!(", and {n} frozen ones"),
    };
    let in_lanes = if lanes > 1 { format!(" in {lanes} lanes") } else { String::new() };
    let moments = match trained.iter().all(|one| one.method == Method::AdamW) {
        true => "two moments",
        false => "their moments",
    };
    ensure!(
        needed as f64 <= SHARE * available as f64,
        "training needs {} of memory: {} for {parameters} parameters with their gradients{in_lanes} and {moments}{beside}, {} for what \
         a pass over {rows} tokens keeps; this machine has {} left, and a tenth of it stays free: take a smaller model, {}a \
         smaller seq_len",
        gigabytes(needed),
        gigabytes(state_bytes),
        gigabytes(pass_bytes),
        gigabytes(available),
        if lanes > 1 { "fewer lanes, or " } else { "or " }
    );
    Ok(())
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
    use crate::stage::Settings;

    #[test]
    fn what_the_system_tells_is_understood() {
        let text = "MemTotal:       24603504 kB\nMemFree: 1 kB\nMemAvailable:   20000000 kB\nSwapTotal: 9 kB\nSwapFree:  5 kB\n";
        assert_eq!(meminfo(text), Some(1024 * 20_000_005));
        assert_eq!(meminfo("MemFree: 1 kB\n"), None);
        assert!(cfg!(not(target_os = "linux")) || available_bytes().is_some_and(|bytes| bytes > 1 << 20));
    }

    #[test]
    fn the_largest_preset_is_refused_with_what_it_needs() {
        let (shape, settings) = Settings::resolve("gpt3-175b", &[]).unwrap();
        let machine = Machine { precision: "bf16".into(), peak_flops: 1.0, ..Machine::unmeasured() };
        let config = shape.config(50_257, &settings);
        let memory = config.training_memory(4096, 2, 1);
        for frozen in [0, 2] {
            let Err(error) =
                check(&[Model::whole(&config)], &vec![Model::whole(&config); frozen], 4096, 1, &machine)
            else {
                // The system does not tell, or has three terabytes.
                return;
            };
            let message = error.to_string();
            let state = memory.state_bytes + 4 * (frozen * config.parameters()) as u64;
            let needed = gigabytes(state + (1 + frozen as u64) * memory.pass_bytes);
            let said =
                format!("training needs {needed} of memory: {} for 174600720384 par", gigabytes(state));
            assert!(message.contains(&said), "{message}");
            assert!(frozen > 0 || message.contains("2796.1 GB for"), "{message}");
        }
    }

    #[test]
    fn an_adapter_fits_where_the_model_does_not() {
        let (shape, settings) = Settings::resolve("gpt2", &[]).unwrap();
        let config = shape.config(50_257, &settings);
        let adapter = crate::checkpoint::fresh_adapter(&config, &"r=8".parse().unwrap()).unwrap();
        let beside = Model { adapter: Some(&adapter), ..Model::whole(&config) };
        let [whole, little] =
            [config.training_memory(4096, 4, 1), config.training_memory_beside(&adapter, 4096, 4, 1)]
                .map(|memory| memory.state_bytes + memory.pass_bytes);
        let between = Some((whole + little) / 2);
        let machine = Machine { memory_bytes: between, ..Machine::unmeasured() };
        assert!(check(&[beside], &[], 4096, 1, &machine).is_ok());
        assert!(check(&[Model::whole(&config)], &[], 4096, 1, &machine).is_err());
    }
}
