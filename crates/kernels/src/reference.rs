//! The operations in `f64` with naive loops: the executable specification.

/// `f64` and naive loops.
#[derive(Debug, Default)]
pub struct Reference;
