//! Matrices in blocks.

use super::{BlockFormat, Factors};
use crate::rng;
use crate::shapes::size_of_shape;
use half::f16;

/// A matrix `[d_out, d_in]` in blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockMatrix {
    d_in: usize,
    bands: Vec<Band>,
}

/// Neighbouring rows of a matrix in one format. Files have the parts of what is one matrix here in formats of their own:
/// queries and keys in one, values in another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Band {
    /// The format.
    pub format: BlockFormat,
    /// Number of rows.
    pub rows: usize,
    /// The blocks of the rows, which are flattened.
    pub bytes: Vec<u8>,
}

impl BlockMatrix {
    /// The nearest to `values`, which are in one format that is [made](BlockFormat::MADE); none where that cannot hold
    /// one of them.
    ///
    /// # Panics
    ///
    /// If the shape has another number of values.
    pub fn quantise(format: BlockFormat, values: &[f32], [d_out, d_in]: [usize; 2]) -> Option<Self> {
        let len = size_of_shape("blocks", &[d_out, d_in]);
        assert_eq!(values.len(), len, "blocks: values of the matrix");
        Some(Self { d_in, bands: vec![Band { format, rows: d_out, bytes: format.quantise(values)? }] })
    }

    /// Rows of `d_in` values in blocks that there are.
    ///
    /// # Panics
    ///
    /// If a band has another number of bytes than its rows take.
    pub fn of_bands(d_in: usize, bands: Vec<Band>) -> Self {
        for Band { format, rows, bytes } in &bands {
            let len = size_of_shape("blocks", &[*rows, d_in]);
            assert_eq!(bytes.len(), format.bytes(len), "blocks: bytes of {rows} rows in {format}");
        }
        Self { d_in, bands }
    }

    /// Random blocks in any format, whose values are below 2: what tests and measurements compute with. `stream` decides
    /// which.
    pub fn noise(format: BlockFormat, [d_out, d_in]: [usize; 2], stream: u64) -> Self {
        let len = size_of_shape("blocks", &[d_out, d_in]);
        let mut bytes: Vec<u8> =
            (0..format.bytes(len) as u64).map(|i| rng::below(5, stream, i, 256) as u8).collect();
        for (index, block) in (0..).zip(bytes.chunks_exact_mut(format.block_bytes())) {
            let scale = 0.5 + 0.5 * rng::uniform(6, stream, index);
            let coding = format.coding();
            if coding.is_table {
                block[..4].copy_from_slice(&scale.to_le_bytes());
                continue;
            }
            let codes = (1 << (coding.low_bits + coding.high_bits)) as f32;
            let factor = [1.0, 128.0, 64.0][coding.factors.count()];
            let mut put =
                |at: usize, x: f32| block[at..at + 2].copy_from_slice(&f16::from_f32(x).to_le_bytes());
            put(coding.d, scale / (codes * factor));
            if let Some(m) = coding.m {
                put(m, if coding.factors == Factors::None { -0.5 } else { 0.5 / factor });
            }
        }
        Self::of_bands(d_in, vec![Band { format, rows: d_out, bytes }])
    }

    /// Its rows, from the first on.
    pub fn bands(&self) -> &[Band] {
        &self.bands
    }

    /// `[d_out, d_in]`.
    pub fn shape(&self) -> [usize; 2] {
        [self.bands.iter().map(|band| band.rows).sum(), self.d_in]
    }

    /// Number of values.
    #[allow(clippy::len_without_is_empty, reason = "a matrix without values is none")]
    pub fn len(&self) -> usize {
        self.shape().into_iter().product()
    }

    /// Bytes that it takes.
    pub fn bytes(&self) -> usize {
        self.bands.iter().map(|band| band.bytes.len()).sum()
    }

    /// Its values.
    pub fn values(&self) -> Vec<f32> {
        let mut values = vec![0.0; self.len()];
        self.unpack(&mut values, 0);
        values
    }

    /// Its values from `start` on, as many as `out` has.
    #[inline(always)]
    pub(crate) fn unpack(&self, mut out: &mut [f32], mut start: usize) {
        for band in &self.bands {
            let len = band.rows * self.d_in;
            if start < len && !out.is_empty() {
                let (now, later) = out.split_at_mut(out.len().min(len - start));
                band.format.unpack(now, &band.bytes, start);
                (out, start) = (later, 0);
            } else {
                start = start.saturating_sub(len);
            }
        }
        assert!(out.is_empty(), "values outside of the matrix");
    }
}
