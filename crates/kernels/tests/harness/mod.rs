//! What the test suites of the backends share.

use kernels::rng;

/// `len` standard normal values; another `stream`, other values.
pub(crate) fn normal(stream: u64, len: usize) -> Vec<f64> {
    (0..len as u64).map(|i| rng::normal(1, stream, i)).collect()
}

/// The names of the trait's methods, from its source: what a suite has to cover.
pub(crate) fn operations() -> Vec<&'static str> {
    let source = include_str!("../../src/backend.rs");
    let (_, body) = source.split_once("pub trait Backend").expect("the trait is in backend.rs");
    let signatures = body.lines().filter_map(|line| line.trim().strip_prefix("fn "));
    signatures.map(|signature| signature.split('(').next().expect("a name")).collect()
}
