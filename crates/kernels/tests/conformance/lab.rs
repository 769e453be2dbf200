//! Makes inputs, records outputs, says when two records agree.

use crate::harness::noise;
use kernels::{Backend, CacheSpan, Precision, rng};

/// Up to four sizes of an operation: rows, widths, whatever it has.
pub(crate) type Sizes = [usize; 4];

/// 1, around the widths of vectors and tiles, and beyond a block.
const SIZES: [usize; 11] = [1, 7, 8, 9, 15, 16, 17, 63, 64, 65, 130];

/// Larger than the blocks that products are cut into, and than a chunk of rows of the head.
const LARGE: [Sizes; 3] = [[300, 130, 500, 520], [130, 500, 300, 64], [1100, 9, 17, 300]];

/// Every pair of sizes in every two places (an orthogonal array, for 11 is prime), then the large ones; a
/// tenth of the pairs under sanitizers, which are slow.
pub(crate) fn all_sizes() -> impl Iterator<Item = Sizes> {
    let place = |i: usize, j: usize, k: usize| SIZES[(i + k * j) % SIZES.len()];
    let pairs = (0..SIZES.len()).flat_map(|i| (0..SIZES.len()).map(move |j| (i, j)));
    let sizes = pairs.map(move |(i, j)| [SIZES[i], SIZES[j], place(i, j, 1), place(i, j, 2)]);
    let (step, large) = if cfg!(slow) { (10, &LARGE[..0]) } else { (1, &LARGE[..]) };
    sizes.step_by(step).chain(large.iter().copied())
}

/// How the tensors between operations are made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Storage {
    /// By `activation`: in bfloat16 if the backend likes.
    Native,
    /// By `zeros`: in `f32`.
    Exact,
}

/// What a suite runs through. In `f32` the two kinds of storage are one.
pub(crate) const SETTINGS: [(Precision, Storage); 3] = [
    (Precision::F32, Storage::Native),
    (Precision::Bf16, Storage::Native),
    (Precision::Bf16, Storage::Exact),
];

/// How far an output may be from the reference.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Error {
    /// By `f32` rounding, whatever the precision of products.
    Exact,
    /// By the rounding of operands or results to bfloat16 in that precision.
    Product,
}

/// A backend and the record of what an operation gave on it.
///
/// All tensors are made full of noise, outputs too, so that what is to be overwritten must be. The same calls
/// make the same noise. What may be stored in bfloat16 is representable there, so that all backends get the
/// same values.
pub(crate) struct Lab<B: Backend> {
    pub(crate) backend: B,
    precision: Precision,
    storage: Storage,
    made: u64,
    record: Record,
}

impl<B: Backend> Lab<B> {
    pub(crate) fn new(backend: B, precision: Precision, storage: Storage) -> Self {
        Self { backend, precision, storage, made: 0, record: Record::default() }
    }

    /// What the operation records at these sizes.
    pub(crate) fn run(&mut self, operation: fn(&mut Self, Sizes), sizes: Sizes) -> Record {
        self.made = 0;
        operation(self, sizes);
        assert!(!self.record.outputs.is_empty(), "nothing was recorded");
        std::mem::take(&mut self.record)
    }

    /// Noise that is kept exactly: a weight, a gradient of one, the residual stream, statistics.
    pub(crate) fn exact(&mut self, len: usize) -> B::Tensor {
        let values = self.noise(len);
        self.exact_of(&values)
    }

    /// Noise between operations.
    pub(crate) fn activation(&mut self, len: usize) -> B::Tensor {
        let values = self.noise(len);
        self.activation_of(&values)
    }

    pub(crate) fn exact_of(&mut self, values: &[f32]) -> B::Tensor {
        let mut tensor = self.backend.zeros(values.len());
        self.backend.upload(&mut tensor, values);
        tensor
    }

    pub(crate) fn activation_of(&mut self, values: &[f32]) -> B::Tensor {
        if self.storage == Storage::Exact {
            return self.exact_of(values);
        }
        let mut tensor = self.backend.activation(values.len());
        match self.precision {
            Precision::F32 => self.backend.upload(&mut tensor, values),
            Precision::Bf16 => {
                let values: Vec<f32> = values.iter().copied().map(representable).collect();
                self.backend.upload(&mut tensor, &values);
            }
        }
        tensor
    }

    /// Numbers on the host.
    pub(crate) fn noise(&mut self, len: usize) -> Vec<f32> {
        self.made += 1;
        noise(self.made, len)
    }

    /// Noise to be summed over `terms` products with other noise: the sum has variance 1.
    pub(crate) fn noise_of_sums(&mut self, len: usize, terms: usize) -> Vec<f32> {
        let deviation = 1.0 / (terms as f32).sqrt();
        self.noise(len).iter().map(|x| x * deviation).collect()
    }

    /// Numbers below `n`, on the host.
    pub(crate) fn indices(&mut self, len: usize, n: usize) -> Vec<u32> {
        self.made += 1;
        (0..len as u64).map(|i| rng::below(2, self.made, i, n as u64) as u32).collect()
    }

    /// A list of ids. It held others before.
    pub(crate) fn ids_of(&mut self, values: &[u32]) -> B::Ids {
        let mut ids = self.backend.ids();
        self.backend.upload_ids(&mut ids, &[7; 3]);
        self.backend.upload_ids(&mut ids, values);
        ids
    }

    /// Spans of a cache.
    pub(crate) fn spans_of(&mut self, spans: &[CacheSpan]) -> B::Ids {
        self.ids_of(&CacheSpan::ids(spans).collect::<Vec<u32>>())
    }

    /// A list of numbers. It held others before.
    pub(crate) fn scalars_of(&mut self, values: &[f64]) -> B::Scalars {
        let mut scalars = self.backend.scalars();
        self.backend.upload_scalars(&mut scalars, &[f64::NAN; 3]);
        self.backend.upload_scalars(&mut scalars, values);
        scalars
    }

    pub(crate) fn record(&mut self, name: &'static str, tensor: &B::Tensor, error: Error) {
        let values = self.host(tensor);
        self.record_host(name, values, error);
    }

    pub(crate) fn record_host(&mut self, name: &'static str, values: Vec<f64>, error: Error) {
        let error = if self.precision == Precision::F32 { Error::Exact } else { error };
        self.record.outputs.push(Output { name, values, error });
    }

    /// Records what lists hold together.
    pub(crate) fn record_scalars(&mut self, name: &'static str, lists: &[&B::Scalars], error: Error) {
        let mut values = vec![f64::NAN; 3];
        self.backend.read(&mut values, lists);
        self.record_host(name, values, error);
    }

    /// The values of a tensor.
    pub(crate) fn host(&mut self, tensor: &B::Tensor) -> Vec<f64> {
        let mut values = vec![0.0; self.backend.len(tensor)];
        self.backend.download(&mut values, tensor);
        values.into_iter().map(f64::from).collect()
    }
}

/// The nearest number with the 8 significant bits of a bfloat16.
fn representable(x: f32) -> f32 {
    // Adding and taking away a multiple of `x` makes the sum's rounding cut the lower 16 bits.
    let shift = x * 65537.0;
    shift - (shift - x)
}

/// What an operation gave.
#[derive(Default)]
pub(crate) struct Record {
    outputs: Vec<Output>,
}

struct Output {
    name: &'static str,
    values: Vec<f64>,
    error: Error,
}

impl Record {
    /// Holds the outputs to the reference's. Their values are about 1 by their making, so errors are measured
    /// in units of 1, or of the output's root mean square where that is larger.
    pub(crate) fn assert_close_to(&self, reference: &Self, setting: &str) {
        for (output, expected) in self.pairs(reference) {
            let name = output.name;
            // For bfloat16 twice its unit roundoff: factors are rounded, and often results. For f32, whose
            // unit roundoff is 2⁻²⁴, there is room for the roundings of a long sum and of approximated
            // functions.
            let tolerance = match expected.error {
                Error::Exact => 1e-6,
                Error::Product => 2.0 * 2f64.powi(-8),
            };
            let scale = rms(expected.values.iter().copied()).max(1.0);
            let errors =
                || output.values.iter().zip(&expected.values).map(|(x, expected)| (x - expected).abs());
            for (i, error) in errors().enumerate() {
                let (x, expected) = (output.values[i], expected.values[i]);
                // Written so that NaN fails.
                let close = error <= 4.0 * tolerance * scale.max(expected.abs());
                assert!(close, "{setting}: {name}[{i}] is {x}, the reference says {expected}");
            }
            let error = rms(errors());
            assert!(
                error <= tolerance * scale,
                "{setting}: {name} is off by {error} of {scale} (root mean square)"
            );
        }
    }

    pub(crate) fn assert_same_bits(&self, other: &Self, setting: &str) {
        for (a, b) in self.pairs(other) {
            for (i, (x, y)) in a.values.iter().zip(&b.values).enumerate() {
                assert_eq!(x.to_bits(), y.to_bits(), "{setting}: {}[{i}] is {x} or {y}", a.name);
            }
        }
    }

    fn pairs<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = (&'a Output, &'a Output)> {
        let shape = |record: &Self| -> Vec<(&str, usize)> {
            record.outputs.iter().map(|output| (output.name, output.values.len())).collect()
        };
        assert_eq!(shape(self), shape(other));
        self.outputs.iter().zip(&other.outputs)
    }
}

/// Root mean square; of nothing, 0.
fn rms(values: impl Iterator<Item = f64>) -> f64 {
    let (count, sum) = values.fold((0.0, 0.0), |(count, sum), x| (count + 1.0, sum + x * x));
    if count == 0.0 { 0.0 } else { f64::sqrt(sum / count) }
}
