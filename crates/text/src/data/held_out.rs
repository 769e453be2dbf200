//! Which items of a data set are held out: their contents decide, so that equal ones stay on one side,
//! whatever their order.

/// Whether an item with these bytes is among the about `fraction` that are held out.
pub fn is_held_out(bytes: &[u8], fraction: f64) -> bool {
    draw(bytes) < fraction
}

/// A number from 0 to 1 that looks random.
pub(super) fn draw(bytes: &[u8]) -> f64 {
    let digest = blake3::hash(bytes);
    let first = digest.as_bytes()[..8].try_into().expect("a digest has 32 bytes");
    u64::from_le_bytes(first) as f64 / u64::MAX as f64
}
