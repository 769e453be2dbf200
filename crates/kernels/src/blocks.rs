//! Matrices in blocks of small integers with scales: how a weight that is not learned takes an eighth to a quarter
//! of its memory.
//!
//! A block is that many neighbours of the flattened matrix `[d_out, d_in]`, row after row; the last one is filled
//! up with zeros. A value is one float multiplication away, whose result is exact in q8_0 and q4_0, so that
//! whoever unpacks a block gets the same bits. What is here is plain: it runs once a weight.

use half::f16;
use std::fmt;
use std::str::FromStr;

/// How the values of a block are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockFormat {
    /// `d:f16 q:i8[32]`, `x = d · q`, as GGUF files have it: 8.5 bits a value.
    Q8_0,
    /// `d:f16 q:u4[32]`, `x = d · (q - 8)`, as GGUF files have it: 4.5 bits a value. Byte `j` holds value `j` in
    /// its lower half and value `j + 16` in the upper one.
    Q4_0,
    /// `absmax:f32 code:u4[64]`, `x = absmax · NF4[code]` (Dettmers et al. 2023, "QLoRA"): 4.5 bits a value. The
    /// first of two values is in the upper half of a byte, as bitsandbytes has it.
    Nf4,
}

/// The values of [`BlockFormat::Nf4`]: quantiles of a normal distribution, between −1 and 1.
pub const NF4: [f32; 16] = [
    -1.0,
    -0.696_192_8,
    -0.525_073_05,
    -0.394_917_5,
    -0.284_441_38,
    -0.184_773_43,
    -0.091_050_036,
    0.0,
    0.079_580_3,
    0.160_930_2,
    0.246_112_3,
    0.337_915_24,
    0.440_709_83,
    0.562_617,
    0.722_956_84,
    1.0,
];

/// The most values of a block.
const MAX_BLOCK_LEN: usize = 64;

impl BlockFormat {
    /// All of them.
    pub const ALL: [BlockFormat; 3] = [BlockFormat::Q8_0, BlockFormat::Q4_0, BlockFormat::Nf4];

    /// Values of a block.
    #[inline(always)]
    pub const fn block_len(self) -> usize {
        match self {
            BlockFormat::Q8_0 | BlockFormat::Q4_0 => 32,
            BlockFormat::Nf4 => 64,
        }
    }

    /// Bytes of a block.
    #[inline(always)]
    pub const fn block_bytes(self) -> usize {
        match self {
            BlockFormat::Q8_0 => 2 + 32,
            BlockFormat::Q4_0 => 2 + 16,
            BlockFormat::Nf4 => 4 + 32,
        }
    }

    /// Bytes of a block's scale, with which it begins.
    #[inline(always)]
    pub(crate) const fn scale_bytes(self) -> usize {
        match self {
            BlockFormat::Q8_0 | BlockFormat::Q4_0 => 2,
            BlockFormat::Nf4 => 4,
        }
    }

    /// The code of value `i` of a block of half bytes, among the block's codes.
    pub(crate) fn nibble(self, codes: &[u8], i: usize) -> u8 {
        match self {
            BlockFormat::Nf4 => codes[i / 2] >> (4 * (1 - i % 2)) & 15,
            _ => codes[i % 16] >> (4 * (i / 16)) & 15,
        }
    }

    /// Bytes of so many values.
    pub const fn bytes(self, values: usize) -> usize {
        values.div_ceil(self.block_len()) * self.block_bytes()
    }

    /// The blocks of these values; none where a value is no number, or beyond what the format can hold.
    pub fn quantise(self, values: &[f32]) -> Option<Vec<u8>> {
        let mut bytes = Vec::with_capacity(self.bytes(values.len()));
        for values in values.chunks(self.block_len()) {
            let mut block = [0.0; MAX_BLOCK_LEN];
            block[..values.len()].copy_from_slice(values);
            let block = &block[..self.block_len()];
            let largest = block.iter().copied().reduce(|a, b| if b.abs() > a.abs() { b } else { a })?;
            let scale = match self {
                BlockFormat::Q8_0 => f16::from_f32(largest.abs() / 127.0).to_f32(),
                BlockFormat::Q4_0 => f16::from_f32(largest / -8.0).to_f32(),
                BlockFormat::Nf4 => largest.abs(),
            };
            if !scale.is_finite() || block.iter().any(|x| !x.is_finite()) {
                return None;
            }
            match self {
                BlockFormat::Q8_0 => q8_0(&mut bytes, block, largest),
                BlockFormat::Q4_0 => q4_0(&mut bytes, block, largest),
                BlockFormat::Nf4 => nf4(&mut bytes, block, largest.abs()),
            }
        }
        Some(bytes)
    }

    /// The values of blocks, as many as `out` has.
    ///
    /// # Panics
    ///
    /// If these are not the bytes of so many values.
    pub fn dequantise(self, out: &mut [f32], bytes: &[u8]) {
        assert_eq!(bytes.len(), self.bytes(out.len()), "bytes of another number of values");
        self.unpack(out, bytes, 0);
    }

    /// The values from `start` on, as many as `out` has.
    #[inline(always)]
    pub(crate) fn unpack(self, mut out: &mut [f32], bytes: &[u8], start: usize) {
        let (len, mut at) = (self.block_len(), start);
        while !out.is_empty() {
            let block = &bytes[at / len * self.block_bytes()..][..self.block_bytes()];
            let (skipped, count) = (at % len, (len - at % len).min(out.len()));
            let (now, later) = out.split_at_mut(count);
            if count == len {
                self.unpack_block(now, block);
            } else {
                let mut whole = [0.0; MAX_BLOCK_LEN];
                self.unpack_block(&mut whole[..len], block);
                now.copy_from_slice(&whole[skipped..][..count]);
            }
            (at, out) = (at + count, later);
        }
    }

    /// The values of a block.
    #[inline(always)]
    fn unpack_block(self, out: &mut [f32], block: &[u8]) {
        match self {
            BlockFormat::Q8_0 => {
                let d = f16::from_le_bytes([block[0], block[1]]).to_f32();
                out.iter_mut().zip(&block[2..]).for_each(|(x, &q)| *x = d * f32::from(q as i8));
            }
            BlockFormat::Q4_0 => {
                let d = f16::from_le_bytes([block[0], block[1]]).to_f32();
                let (low, high) = out.split_at_mut(16);
                for ((low, high), &q) in low.iter_mut().zip(high).zip(&block[2..]) {
                    *low = d * f32::from((q & 15) as i8 - 8);
                    *high = d * f32::from((q >> 4) as i8 - 8);
                }
            }
            BlockFormat::Nf4 => {
                let absmax = f32::from_le_bytes([block[0], block[1], block[2], block[3]]);
                let (pairs, _) = out.as_chunks_mut::<2>();
                for ([first, second], &code) in pairs.iter_mut().zip(&block[4..]) {
                    *first = absmax * NF4[usize::from(code >> 4)];
                    *second = absmax * NF4[usize::from(code & 15)];
                }
            }
        }
    }
}

fn inverse(x: f32) -> f32 {
    if x == 0.0 { 0.0 } else { 1.0 / x }
}

fn q8_0(bytes: &mut Vec<u8>, block: &[f32], largest: f32) {
    let d = largest.abs() / 127.0;
    bytes.extend_from_slice(&f16::from_f32(d).to_le_bytes());
    bytes.extend(block.iter().map(|x| (x * inverse(d)).round() as i8 as u8));
}

fn q4_0(bytes: &mut Vec<u8>, block: &[f32], largest: f32) {
    let d = largest / -8.0;
    bytes.extend_from_slice(&f16::from_f32(d).to_le_bytes());
    let q = |x: f32| ((x * inverse(d) + 8.5) as u8).min(15);
    let (low, high) = block.split_at(16);
    bytes.extend(low.iter().zip(high).map(|(&low, &high)| q(low) | q(high) << 4));
}

fn nf4(bytes: &mut Vec<u8>, block: &[f32], absmax: f32) {
    bytes.extend_from_slice(&absmax.to_le_bytes());
    // Above how many of the midpoints between neighbours it is.
    let code =
        |x: f32| NF4.windows(2).filter(|pair| (pair[0] + pair[1]) / 2.0 < x * inverse(absmax)).count() as u8;
    let (pairs, _) = block.as_chunks::<2>();
    bytes.extend(pairs.iter().map(|&[first, second]| code(first) << 4 | code(second)));
}

impl fmt::Display for BlockFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BlockFormat::Q8_0 => "q8_0",
            BlockFormat::Q4_0 => "q4_0",
            BlockFormat::Nf4 => "nf4",
        })
    }
}

impl FromStr for BlockFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|format| format.to_string() == text);
        found.ok_or_else(|| "choose among q8_0, q4_0 and nf4".into())
    }
}

/// A matrix `[d_out, d_in]` in blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockMatrix {
    format: BlockFormat,
    d_out: usize,
    d_in: usize,
    bytes: Vec<u8>,
}

impl BlockMatrix {
    /// The nearest to `values`; none where the format cannot hold one of them.
    ///
    /// # Panics
    ///
    /// If the shape has another number of values.
    pub fn quantise(format: BlockFormat, values: &[f32], [d_out, d_in]: [usize; 2]) -> Option<Self> {
        let len = crate::shapes::size_of_shape("blocks", &[d_out, d_in]);
        assert_eq!(values.len(), len, "blocks: values of the matrix");
        Some(Self { format, d_out, d_in, bytes: format.quantise(values)? })
    }

    /// How its values are stored.
    pub fn format(&self) -> BlockFormat {
        self.format
    }

    /// `[d_out, d_in]`.
    pub fn shape(&self) -> [usize; 2] {
        [self.d_out, self.d_in]
    }

    /// Number of values.
    #[allow(clippy::len_without_is_empty, reason = "a matrix without values is none")]
    pub fn len(&self) -> usize {
        self.d_out * self.d_in
    }

    /// Its blocks.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Its values.
    pub fn values(&self) -> Vec<f32> {
        let mut values = vec![0.0; self.len()];
        self.format.dequantise(&mut values, &self.bytes);
        values
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn back(format: BlockFormat, values: &[f32]) -> (Vec<u8>, Vec<f32>) {
        let bytes = format.quantise(values).unwrap();
        let mut back = vec![f32::NAN; values.len()];
        format.dequantise(&mut back, &bytes);
        (bytes, back)
    }

    fn assert_near(values: &[f32], expected: &[f32]) {
        for (x, expected) in values.iter().zip(expected) {
            assert!((x - expected).abs() < 1e-6, "{values:?}, {expected:?}");
        }
    }

    fn largest_error(values: &[f32], back: &[f32]) -> f32 {
        values.iter().zip(back).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max)
    }

    /// What the gguf package makes of these values.
    #[test]
    fn blocks_of_gguf() {
        let x: Vec<f32> = (0..32u8).map(|i| (0.1 * f64::from(i) - 1.5) as f32).collect();
        let (bytes, values) = back(BlockFormat::Q8_0, &x);
        assert_near(&[f16::from_le_bytes([bytes[0], bytes[1]]).to_f32()], &[0.012_596_13]);
        assert_eq!(bytes[2..5], [137, 145, 153], "-119, -111, -103");
        assert!((largest_error(&x, &values) - 0.006_152_3).abs() < 1e-6);
        let (bytes, values) = back(BlockFormat::Q4_0, &x);
        assert_near(&[f16::from_le_bytes([bytes[0], bytes[1]]).to_f32()], &[-0.199_951_17]);
        assert_eq!(bytes[2..8], [0x8f, 0x7f, 0x7f, 0x6e, 0x6e, 0x5d]);
        assert_near(&values[..4], &[-1.399_658, -1.399_658, -1.399_658, -1.199_707]);
        assert!((largest_error(&x, &values) - 0.100_341_8).abs() < 1e-6);
    }

    /// What bitsandbytes makes of these values.
    #[test]
    fn blocks_of_bitsandbytes() {
        let x = [0.5, -1.0, 0.25, 0.1].into_iter().chain((-30..30).map(|i| 0.01 * i as f32));
        let (bytes, values) = back(BlockFormat::Nf4, &x.collect::<Vec<_>>());
        assert_eq!(bytes[..4], 1f32.to_le_bytes());
        assert_eq!(bytes[4..10], [0xc0, 0xa8, 0x44, 0x44, 0x44, 0x45]);
        assert_near(&values[..5], &[0.440_709_8, -1.0, 0.246_112_3, 0.079_580_3, -0.284_441_4]);
    }

    #[test]
    fn blocks_of_blocks_are_the_same_and_the_last_may_be_short() {
        let values: Vec<f32> = (0..1000).map(|i| crate::rng::uniform(1, 2, i) - 0.3).collect();
        for format in BlockFormat::ALL {
            let (bytes, once) = back(format, &values);
            assert_eq!(bytes.len(), format.bytes(1000));
            assert_eq!(back(format, &once), (bytes, once.clone()), "{format}");
            assert!(largest_error(&values, &once) < 0.12, "{format}");
            assert_eq!(back(format, &[0.0; 7]).1, [0.0; 7]);
            assert_eq!(format.to_string().parse(), Ok(format));
        }
        assert!("q5_0".parse::<BlockFormat>().is_err());
    }

    #[test]
    fn what_a_format_cannot_hold_is_told() {
        for bad in [f32::NAN, f32::INFINITY, 1e8] {
            let mut values = [1.0; 64];
            values[7] = bad;
            assert_eq!(BlockFormat::Q8_0.quantise(&values), None);
            assert_eq!(BlockFormat::Q4_0.quantise(&values), None);
            assert_eq!(BlockFormat::Nf4.quantise(&values).is_none(), bad != 1e8);
        }
    }
}
