//! A device with a precision: what operations are done on.

use crate::CudaTensor;
use crate::device::Device;
use kernels::{Backend, Cpu, CpuOptions, CpuTensor, LinearShape, Precision, rng};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Rows and columns of the products that the peak is measured with: at first, and in bf16 at most.
const PEAK_SIZES: [usize; 2] = [256, 8192];
/// How many of them are measured at once.
const PEAK_PRODUCTS: u32 = 4;

/// A GPU as a [`Backend`].
pub struct Cuda {
    device: Arc<dyn Device>,
    precision: Precision,
    /// Says what few rows of logits say of tokens, which come to the host for that.
    pub(crate) cpu: Cpu,
}

impl Cuda {
    /// A backend on this device, with products and activations in this precision. What is left to the
    /// processor takes `threads` threads.
    pub fn new(device: Arc<dyn Device>, precision: Precision, threads: usize) -> Self {
        let cpu = Cpu::new(CpuOptions { threads, ..CpuOptions::default() });
        Cuda { device, precision, cpu }
    }

    /// The device.
    pub fn device(&self) -> &Arc<dyn Device> {
        &self.device
    }

    /// The precision of products and activations.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// One line for people: `NVIDIA H200, 139 GiB, bf16 products`.
    pub fn describe(&self) -> String {
        format!("{}, {} products", self.device.describe(), if self.is_bf16() { "bf16" } else { "f32" })
    }

    /// Measured peak of products in this precision, in floating-point operations a second: the best of larger
    /// and larger ones, which take `duration` together.
    pub fn peak(&mut self, duration: Duration) -> f64 {
        let [mut size, largest] = PEAK_SIZES;
        let largest = if self.is_bf16() { largest } else { largest / 2 };
        let (mut spent, mut best) = (Duration::ZERO, 0f64);
        loop {
            let once = self.products_of(size, duration - spent.min(duration), size == largest);
            best = best.max(once.0);
            spent += once.1;
            if size == largest || spent >= duration {
                return best;
            }
            size *= 2;
        }
    }

    /// The best of products of this size, in operations a second, and what they took: once, or for `duration`.
    fn products_of(&mut self, size: usize, duration: Duration, again: bool) -> (f64, Duration) {
        let shape = LinearShape { rows: size, d_in: size, d_out: size };
        // Random values: a multiplier at rest is quicker than one at work.
        let values: Vec<f32> = (0..(size * size) as u64).map(|i| rng::uniform(1, 2, i) - 0.5).collect();
        let [mut x, mut weight, mut out] = [(); 3].map(|()| self.activation(size * size));
        self.upload(&mut x, &values);
        self.upload(&mut weight, &values);
        let operations = 2.0 * (size as f64).powi(3);
        let (mut spent, mut best) = (Duration::ZERO, 0f64);
        while best == 0.0 || (again && spent < duration) {
            self.device.synchronize();
            let start = Instant::now();
            for _ in 0..PEAK_PRODUCTS {
                self.linear_forward(&mut out, &x, &weight, None, shape);
            }
            self.device.synchronize();
            spent += start.elapsed();
            best = best.max(f64::from(PEAK_PRODUCTS) * operations / start.elapsed().as_secs_f64());
        }
        (best, spent)
    }

    /// Bytes of its memory that may still be had, where the device tells.
    pub fn free_bytes(&self) -> Option<u64> {
        self.device.free_bytes()
    }

    /// What `work` does, with products of `f32`.
    pub(crate) fn in_f32(&mut self, work: impl FnOnce(&mut Self)) {
        let precision = std::mem::replace(&mut self.precision, Precision::F32);
        work(self);
        self.precision = precision;
    }

    pub(crate) fn is_bf16(&self) -> bool {
        self.precision == Precision::Bf16
    }

    /// Rows of logits on the host.
    pub(crate) fn on_host(&mut self, logits: &CudaTensor) -> CpuTensor {
        let mut values = vec![0.0; logits.len()];
        self.download(&mut values, logits);
        let mut tensor = self.cpu.zeros(values.len());
        self.cpu.upload(&mut tensor, &values);
        tensor
    }
}
