//! A block of integers → numbers, one function for each format that is only read. `x` has room for just one block, and
//! `block` is one.

use half::f16;

/// `d:f16 m:f16 q:u4[32]`
pub(super) fn q4_1(x: &mut [f32], block: &[u8]) {
    let (d, m) = (half_at(block, 0), half_at(block, 2));
    nibbles(x, &block[4..], |_, q| d * f32::from(q) + m);
}

/// `d:f16 fifth:u1[32] q:u4[32]`
pub(super) fn q5_0(x: &mut [f32], block: &[u8]) {
    let d = half_at(block, 0);
    nibbles(x, &block[6..], |i, q| d * (f32::from(q | fifth(&block[2..6], i)) - 16.0));
}

/// `d:f16 m:f16 fifth:u1[32] q:u4[32]`
pub(super) fn q5_1(x: &mut [f32], block: &[u8]) {
    let (d, m) = (half_at(block, 0), half_at(block, 2));
    nibbles(x, &block[8..], |i, q| d * f32::from(q | fifth(&block[4..8], i)) + m);
}

/// `d:f16 m:f16 (s,t):u6[8] q:u4[256]`
pub(super) fn q4_k(x: &mut [f32], block: &[u8]) {
    let quarters = x.chunks_exact_mut(64).zip(block[16..].chunks_exact(32));
    for (quarter, (x, q)) in quarters.enumerate() {
        let pair = [2 * quarter, 2 * quarter + 1].map(|group| scale_and_least(block, group));
        nibbles(x, q, |i, q| {
            let (scale, least) = pair[i / 32];
            scale * f32::from(q) - least
        });
    }
}

/// `d:f16 m:f16 (s,t):u6[8] fifth:u1[256] q:u4[256]`; bit `g` of a byte of `fifth` belongs to the group `g`
/// of 32.
pub(super) fn q5_k(x: &mut [f32], block: &[u8]) {
    let (fifth, q) = block[16..].split_at(32);
    for (quarter, (x, q)) in x.chunks_exact_mut(64).zip(q.chunks_exact(32)).enumerate() {
        let pair = [2 * quarter, 2 * quarter + 1].map(|group| scale_and_least(block, group));
        nibbles(x, q, |i, q| {
            let (scale, least) = pair[i / 32];
            let bit = fifth[i % 32] >> (2 * quarter + i / 32) & 1;
            scale * f32::from(q | bit << 4) - least
        });
    }
}

/// `q's lower halves:u4[256] upper quarters:u2[256] s:i8[16] d:f16`; all in two halves of 128 numbers, of
/// which 32 and 32 share bytes.
pub(super) fn q6_k(x: &mut [f32], block: &[u8]) {
    let (low, rest) = block.split_at(128);
    let (high, rest) = rest.split_at(64);
    let d = half_at(rest, 16);
    for (i, x) in x.iter_mut().enumerate() {
        let (half, group, l) = (i / 128, i / 32 % 4, i % 32);
        let nibble = low[64 * half + 32 * (group % 2) + l] >> (4 * (group / 2)) & 0xf;
        let quarter = high[32 * half + l] >> (2 * group) & 3;
        let q = i16::from(nibble | quarter << 4) - 32;
        *x = d * f32::from(rest[i / 16] as i8) * f32::from(q);
    }
}

fn half_at(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// The lower halves of the bytes are the first half of the numbers, the upper halves the other one.
fn nibbles(x: &mut [f32], bytes: &[u8], value: impl Fn(usize, u8) -> f32) {
    let (low, high) = x.split_at_mut(bytes.len());
    for (i, ((low, high), byte)) in low.iter_mut().zip(high).zip(bytes).enumerate() {
        *low = value(i, byte & 0xf);
        *high = value(bytes.len() + i, byte >> 4);
    }
}

/// The fifth bit of a number, in its place.
fn fifth(bits: &[u8], i: usize) -> u8 {
    (bits[i / 8] >> (i % 8) & 1) << 4
}

/// `d·s` and `m·t` of a group of 32 numbers. Of the first four groups `s` and `t` are the lower 6 bits of
/// bytes; of the others the lower 4 lie in four further bytes, the upper 2 above those of the first.
fn scale_and_least(block: &[u8], group: usize) -> (f32, f32) {
    let bytes = &block[4..16];
    let (s, t) = if group < 4 {
        (bytes[group] & 63, bytes[group + 4] & 63)
    } else {
        let shared = bytes[group + 4];
        (shared & 0xf | bytes[group - 4] >> 6 << 4, shared >> 4 | bytes[group] >> 6 << 4)
    };
    (half_at(block, 0) * f32::from(s), half_at(block, 2) * f32::from(t))
}
