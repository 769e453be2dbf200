//! What the test suites of the backends share.

use kernels::rng;

/// `len` random values of mean 0 and variance 1; another `stream`, other values.
pub(crate) fn noise(stream: u64, len: usize) -> Vec<f32> {
    (0..len as u64).map(|i| (rng::uniform(1, stream, i) - 0.5) * 12f32.sqrt()).collect()
}

/// The names of the trait's methods, from its source: what a suite has to cover.
pub(crate) fn operations() -> Vec<&'static str> {
    let source = include_str!("../../src/backend.rs");
    let (_, body) = source.split_once("pub trait Backend").expect("the trait is in backend.rs");
    let signatures = body.lines().filter_map(|line| line.trim().strip_prefix("fn "));
    signatures.map(|signature| signature.split('(').next().expect("a name")).collect()
}
