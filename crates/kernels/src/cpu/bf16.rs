//! bfloat16: the upper half of an `f32`, kept as its bits.

/// The value of bfloat16 bits.
#[inline(always)]
pub(super) fn from_bf16(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// The bits of the nearest bfloat16, ties to even. NaN stays NaN.
#[inline(always)]
pub(super) fn to_bf16(value: f32) -> u16 {
    let bits = value.to_bits();
    let rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    let quiet_nan = (bits >> 16) | 0x40;
    (if value.is_nan() { quiet_nan } else { rounded }) as u16
}

/// The nearest bfloat16 as an `f32`.
#[inline(always)]
pub(super) fn round_bf16(value: f32) -> f32 {
    from_bf16(to_bf16(value))
}

/// `out = x`, value by value.
#[inline(always)]
pub(super) fn widen(out: &mut [f32], x: &[u16]) {
    for (out, &x) in out.iter_mut().zip(x) {
        *out = from_bf16(x);
    }
}

/// `out = x`, each value rounded.
#[inline(always)]
pub(super) fn narrow(out: &mut [u16], x: &[f32]) {
    for (out, &x) in out.iter_mut().zip(x) {
        *out = to_bf16(x);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_to_nearest_even() {
        for bits in (0..=u16::MAX).filter(|&bits| !from_bf16(bits).is_nan()) {
            assert_eq!(to_bf16(from_bf16(bits)), bits);
        }
        let ulp = 2f32.powi(-7);
        assert_eq!(round_bf16(1.0 + 0.49 * ulp), 1.0);
        assert_eq!(round_bf16(1.0 + 0.5 * ulp), 1.0);
        assert_eq!(round_bf16(1.0 + 1.5 * ulp), 1.0 + 2.0 * ulp);
        assert_eq!(round_bf16(-1.0 - 0.51 * ulp), -1.0 - ulp);
        assert_eq!(round_bf16(f32::MAX), f32::INFINITY);
        assert!(round_bf16(f32::NAN).is_nan() && round_bf16(f32::from_bits(0x7f80_0001)).is_nan());
    }
}
