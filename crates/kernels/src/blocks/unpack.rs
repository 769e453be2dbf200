//! Blocks → values, a group at a time.

use super::{BlockFormat, GROUP, NF4};
use half::f16;

impl BlockFormat {
    /// The values from `start` on, as many as `out` has.
    #[inline(always)]
    pub(crate) fn unpack(self, mut out: &mut [f32], bytes: &[u8], start: usize) {
        let mut at = start;
        while !out.is_empty() {
            let block = &bytes[at / self.block_len() * self.block_bytes()..][..self.block_bytes()];
            let group = at % self.block_len() / GROUP;
            let (skipped, count) = (at % GROUP, (GROUP - at % GROUP).min(out.len()));
            let (now, later) = out.split_at_mut(count);
            match now.try_into() {
                Ok(now) => self.unpack_group(now, block, group),
                Err(_) => {
                    let mut whole = [0.0; GROUP];
                    self.unpack_group(&mut whole, block, group);
                    now.copy_from_slice(&whole[skipped..][..count]);
                }
            }
            (at, out) = (at + count, later);
        }
    }

    /// The values of a group of a block.
    #[inline(always)]
    fn unpack_group(self, out: &mut [f32; GROUP], block: &[u8], group: usize) {
        match self {
            BlockFormat::Q8_0 => {
                let d = half_at(block, 0);
                out.iter_mut().zip(&block[2..]).for_each(|(x, &q)| *x = d * f32::from(q as i8));
            }
            BlockFormat::Q4_0 => {
                let d = half_at(block, 0);
                nibbles(out, &block[2..], |_, q| d * f32::from(q as i8 - 8));
            }
            BlockFormat::Q4_1 => {
                let (d, m) = (half_at(block, 0), half_at(block, 2));
                nibbles(out, &block[4..], |_, q| d * f32::from(q) + m);
            }
            BlockFormat::Q5_0 => {
                let (d, bits) = (half_at(block, 0), word_at(block, 2));
                nibbles(out, &block[6..], |i, q| d * f32::from((q | fifth(bits, i)) as i8 - 16));
            }
            BlockFormat::Q5_1 => {
                let (d, m, bits) = (half_at(block, 0), half_at(block, 2), word_at(block, 4));
                nibbles(out, &block[8..], |i, q| d * f32::from(q | fifth(bits, i)) + m);
            }
            BlockFormat::Q4K => {
                let (scale, least) = k_scales(block, group);
                let (q, shift) = (&block[16 + group / 2 * 32..], 4 * (group % 2));
                let codes = out.iter_mut().zip(&q[..GROUP]);
                codes.for_each(|(x, &q)| *x = scale * f32::from(q >> shift & 15) - least);
            }
            BlockFormat::Q5K => {
                let (scale, least) = k_scales(block, group);
                let (q, shift) = (&block[48 + group / 2 * 32..], 4 * (group % 2));
                for ((x, &q), &fifth) in out.iter_mut().zip(&q[..GROUP]).zip(&block[16..48]) {
                    *x = scale * f32::from(q >> shift & 15 | (fifth >> group & 1) << 4) - least;
                }
            }
            BlockFormat::Q6K => {
                let (half, quarter) = (group / 4, group % 4);
                let (low, high) = (&block[64 * half + 32 * (quarter % 2)..], &block[128 + 32 * half..]);
                let (shift, d) = (4 * (quarter / 2), half_at(block, 208));
                let scales = [0, 1].map(|of| d * f32::from(block[192 + 2 * group + of] as i8));
                for (i, ((x, &low), &high)) in
                    out.iter_mut().zip(&low[..GROUP]).zip(&high[..GROUP]).enumerate()
                {
                    let q = low >> shift & 15 | (high >> (2 * quarter) & 3) << 4;
                    *x = scales[i / 16] * f32::from(q as i8 - 32);
                }
            }
            BlockFormat::Nf4 => {
                let absmax = f32::from_bits(word_at(block, 0));
                let (pairs, _) = out.as_chunks_mut::<2>();
                for ([first, second], &code) in pairs.iter_mut().zip(&block[4 + 16 * group..]) {
                    *first = absmax * NF4[usize::from(code >> 4)];
                    *second = absmax * NF4[usize::from(code & 15)];
                }
            }
        }
    }
}

/// The 16-bit float at a place of a block.
#[inline(always)]
pub(super) fn half_at(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

#[inline(always)]
pub(super) fn word_at(block: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([0, 1, 2, 3].map(|byte| block[at + byte]))
}

/// The lower halves of the bytes are the first half of the values, the upper halves the other one.
#[inline(always)]
fn nibbles(out: &mut [f32; GROUP], bytes: &[u8], value: impl Fn(usize, u8) -> f32) {
    let (low, high) = out.split_at_mut(GROUP / 2);
    for (i, ((low, high), &byte)) in low.iter_mut().zip(high).zip(&bytes[..GROUP / 2]).enumerate() {
        *low = value(i, byte & 15);
        *high = value(GROUP / 2 + i, byte >> 4);
    }
}

/// The fifth bit of a code, in its place.
#[inline(always)]
pub(super) fn fifth(bits: u32, i: usize) -> u8 {
    ((bits >> i & 1) << 4) as u8
}

/// `s` and `t` of a group. Of the first four groups they are the lower 6 bits of bytes; of the others the lower 4 lie
/// in four further bytes, the upper 2 above those of the first.
#[inline(always)]
pub(super) fn k_pair(block: &[u8], group: usize) -> [u8; 2] {
    let bytes = &block[4..16];
    if group < 4 {
        return [bytes[group] & 63, bytes[group + 4] & 63];
    }
    let shared = bytes[group + 4];
    [shared & 15 | bytes[group - 4] >> 6 << 4, shared >> 4 | bytes[group] >> 6 << 4]
}

/// `d · s` and `m · t` of a group.
#[inline(always)]
fn k_scales(block: &[u8], group: usize) -> (f32, f32) {
    let [s, t] = k_pair(block, group);
    (half_at(block, 0) * f32::from(s), half_at(block, 2) * f32::from(t))
}
