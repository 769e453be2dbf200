//! What the test suites of the backends share.

use kernels::rng;

/// `len` random values of mean 0 and variance 1; another `stream`, other values.
pub(crate) fn noise(stream: u64, len: usize) -> Vec<f32> {
    (0..len as u64).map(|i| (rng::uniform(1, stream, i) - 0.5) * 12f32.sqrt()).collect()
}

/// What devices of several processes do together: no operation of one, and tested where there are several.
const TOGETHER: [&str; 2] = ["add_up_ranks", "send_to_ranks"];

/// The names of the trait's methods, from its source: what a suite has to cover.
pub(crate) fn operations() -> Vec<&'static str> {
    let mut names = methods(include_str!("../../src/backend.rs"), "pub trait Backend");
    names.retain(|name| !TOGETHER.contains(name));
    names
}

/// Those of the trait of backends that distil.
#[allow(dead_code, reason = "not every suite is about such a backend")]
pub(crate) fn distillations() -> Vec<&'static str> {
    methods(include_str!("../../src/distil.rs"), "pub trait Distil")
}

fn methods(source: &'static str, of: &str) -> Vec<&'static str> {
    let (_, body) = source.split_once(of).expect("the trait is in its file");
    let (body, _) = body.split_once("\n}\n").expect("it ends");
    let signatures = body.lines().filter_map(|line| line.trim().strip_prefix("fn "));
    signatures.map(|signature| signature.split('(').next().expect("a name")).collect()
}
