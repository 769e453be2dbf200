//! What computes: the processor, or a GPU where the program was built with the feature `cuda`.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::Result;
use gpt::train::run::Recipe;
use kernels::cpu::bench;
use kernels::{Cpu, CpuOptions, Precision};
#[cfg(feature = "cuda")]
use kernels_cuda::{Cuda, Driver, Nccl};
use ranks::Ranks;
#[cfg(feature = "cuda")]
use std::sync::Arc;

/// The backend of every verb.
#[cfg(feature = "cuda")]
pub(crate) type Compute = kernels::Either<Cpu, Cuda>;
/// The backend of every verb.
#[cfg(not(feature = "cuda"))]
pub(crate) type Compute = Cpu;

/// A device as it is typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DeviceName {
    Cpu,
    /// The GPU of this number.
    Cuda(usize),
}

impl DeviceName {
    /// `cpu`, `cuda` or `cuda:1`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let wrong = || "not cpu, cuda or the number of a GPU such as cuda:1".to_string();
        match text.split_once(':') {
            None if text == "cpu" => Ok(DeviceName::Cpu),
            None if text == "cuda" => Ok(DeviceName::Cuda(0)),
            Some(("cuda", number)) => number.parse().map(DeviceName::Cuda).map_err(|_| wrong()),
            _ => Err(wrong()),
        }
    }

    /// What the run or the road in `dir` began on; none where there is none.
    pub(crate) fn begun_on(dir: &Path) -> Option<Self> {
        let recipe = Recipe::load(dir).ok()?;
        let name = recipe.settings.get("device").and_then(|name| name.as_str()).unwrap_or("cpu");
        DeviceName::parse(name).ok()
    }
}

/// The devices of this call of the program, each opened once.
#[derive(Default)]
pub(crate) struct Devices {
    gpus: Mutex<HashMap<usize, Result<Device, String>>>,
}

/// A device that is open.
#[derive(Clone)]
pub(crate) enum Device {
    Cpu,
    #[cfg(feature = "cuda")]
    Cuda(Arc<Driver>),
}

impl Devices {
    /// The one that is `wanted`; where nobody says, a GPU if one works, else the processor.
    ///
    /// # Errors
    /// The GPU cannot be opened.
    pub(crate) fn open(&self, wanted: Option<DeviceName>) -> Result<Device> {
        match wanted {
            Some(DeviceName::Cpu) => Ok(Device::Cpu),
            Some(DeviceName::Cuda(number)) => self.gpu(number),
            None => Ok(self.gpu(0).unwrap_or(Device::Cpu)),
        }
    }

    fn gpu(&self, number: usize) -> Result<Device> {
        let mut gpus = self.gpus.lock().expect("nobody panics with it");
        gpus.entry(number).or_insert_with(|| open(number)).clone().map_err(anyhow::Error::msg)
    }
}

#[cfg(feature = "cuda")]
fn open(number: usize) -> Result<Device, String> {
    Driver::open(number).map(|driver| Device::Cuda(Arc::new(driver))).map_err(|e| e.to_string())
}

#[cfg(not(feature = "cuda"))]
fn open(_number: usize) -> Result<Device, String> {
    Err("this mynah was built without GPUs; build one with `cargo build --release -p mynah --features cuda`"
        .into())
}

impl Device {
    /// Whether it is no processor.
    pub(crate) fn is_gpu(&self) -> bool {
        !matches!(self, Device::Cpu)
    }

    /// What it is, for people; nothing of the processor.
    pub(crate) fn about(&self) -> String {
        match self {
            Device::Cpu => String::new(),
            #[cfg(feature = "cuda")]
            Device::Cuda(driver) => kernels_cuda::device::Device::describe(driver.as_ref()),
        }
    }

    /// Connects the GPUs of all processes, so that what they exchange does not go through their hosts. Returns what
    /// it goes through, for people; nothing of processors.
    ///
    /// # Errors
    /// They do not find each other.
    #[cfg_attr(
        not(feature = "cuda"),
        expect(unused_variables, reason = "the hosts of processors have nothing to connect")
    )]
    pub(crate) fn link(&self, ranks: &Ranks) -> Result<Option<String>> {
        match self {
            Device::Cpu => Ok(None),
            #[cfg(feature = "cuda")]
            Device::Cuda(driver) => link(driver, ranks).map(Some),
        }
    }

    /// A backend on it.
    pub(crate) fn compute(&self, precision: Precision, options: CpuOptions) -> Compute {
        match self {
            Device::Cpu => on_cpu(Cpu::new(CpuOptions { precision, ..options })),
            #[cfg(feature = "cuda")]
            Device::Cuda(driver) => Compute::Second(Cuda::new(driver.clone(), precision, options.threads)),
        }
    }
}

#[cfg(feature = "cuda")]
fn link(driver: &Driver, ranks: &Ranks) -> Result<String> {
    let nccl = match ranks.together(Nccl::open().map_err(anyhow::Error::from)) {
        Ok(nccl) => nccl,
        Err(why) => return Ok(format!("gradients and weights go through the memory of the hosts: {why}")),
    };
    let version = nccl.version();
    ranks.refuse_differences(&[("NCCL", version.clone())])?;
    let id = ranks.lead(|| Ok(nccl.id()?))?;
    let waiting = ranks.clone();
    let watch = Box::new(move |wait: &mut dyn FnMut()| waiting.during(wait));
    // Who fails here ends the others, which may be waiting for it.
    driver.join(nccl, &id, ranks.rank(), ranks.size(), watch)?;
    Ok(format!("gradients and weights go from GPU to GPU (NCCL {version})"))
}

/// The processor among the backends.
pub(crate) fn on_cpu(cpu: Cpu) -> Compute {
    #[cfg(feature = "cuda")]
    return Compute::First(cpu);
    #[cfg(not(feature = "cuda"))]
    return cpu;
}

/// What is asked of whichever backend it is.
pub(crate) trait Computes {
    /// As it is typed.
    fn device(&self) -> &'static str;
    /// One line for people.
    fn about(&self) -> String;
    /// What decides the bits of its results, besides the precision.
    fn arithmetic(&self) -> String;
    /// That of products.
    fn precision(&self) -> Precision;
    /// Measured peak of products, in floating-point operations a second.
    fn peak(&mut self, duration: Duration) -> f64;
    /// Bytes that may still be had, where it has memory of its own.
    fn own_memory(&self) -> Option<u64>;
    /// Begins to measure how long kernels take, where there are some.
    fn measure(&self) {}
    /// Ends that: names, how often, seconds together; the longest first.
    fn measured(&self) -> Vec<(String, usize, f64)> {
        Vec::new()
    }
}

impl Computes for Cpu {
    fn device(&self) -> &'static str {
        "cpu"
    }

    fn about(&self) -> String {
        self.describe()
    }

    fn arithmetic(&self) -> String {
        self.options().level.to_string()
    }

    fn precision(&self) -> Precision {
        self.options().precision
    }

    fn peak(&mut self, duration: Duration) -> f64 {
        bench::peak(self, duration)
    }

    fn own_memory(&self) -> Option<u64> {
        None
    }
}

#[cfg(feature = "cuda")]
impl Computes for Compute {
    fn device(&self) -> &'static str {
        match self {
            Compute::First(cpu) => cpu.device(),
            Compute::Second(_) => "cuda",
        }
    }

    fn about(&self) -> String {
        match self {
            Compute::First(cpu) => cpu.about(),
            Compute::Second(cuda) => cuda.describe(),
        }
    }

    fn arithmetic(&self) -> String {
        match self {
            Compute::First(cpu) => cpu.arithmetic(),
            Compute::Second(cuda) => cuda.describe(),
        }
    }

    fn precision(&self) -> Precision {
        match self {
            Compute::First(cpu) => cpu.precision(),
            Compute::Second(cuda) => cuda.precision(),
        }
    }

    fn peak(&mut self, duration: Duration) -> f64 {
        match self {
            Compute::First(cpu) => cpu.peak(duration),
            Compute::Second(cuda) => cuda.peak(duration),
        }
    }

    fn own_memory(&self) -> Option<u64> {
        match self {
            Compute::First(cpu) => cpu.own_memory(),
            Compute::Second(cuda) => cuda.free_bytes(),
        }
    }

    fn measure(&self) {
        if let Compute::Second(cuda) = self {
            cuda.device().measure();
        }
    }

    fn measured(&self) -> Vec<(String, usize, f64)> {
        match self {
            Compute::First(_) => Vec::new(),
            Compute::Second(cuda) => {
                cuda.device().measured().into_iter().map(|m| (m.name, m.count, m.secs)).collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_have_names() {
        for (text, device) in
            [("cpu", DeviceName::Cpu), ("cuda", DeviceName::Cuda(0)), ("cuda:3", DeviceName::Cuda(3))]
        {
            assert_eq!(DeviceName::parse(text), Ok(device));
        }
        for wrong in ["", "gpu", "cpu:0", "cuda:", "cuda:-1", "cuda:x"] {
            assert!(DeviceName::parse(wrong).is_err(), "{wrong}");
        }
    }
}
