//! Functions that the standard library has no vectorisable form of: branch-free, so that plain loops become
//! vectors, and without fused operations, so that the bits are the same at every level.

use std::f32::consts::{LN_2, LOG2_E};

/// Adding 1.5 · 2²³ rounds to an integer, which is then in the low bits.
const ROUND: f32 = 12_582_912.0;

/// `eˣ`, within one unit in the last place; 0 below -87.68 and infinity from 88.38 on.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    /// ln 2 in two parts, the first with so few bits that its product with `n` is exact.
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let x = clamp(x, -127.0 * LN_2, 128.0 * LN_2);
    let shifted = x * LOG2_E + ROUND;
    let n = shifted - ROUND;
    power(shifted, (x - n * LN_2_HIGH) - n * LN_2_LOW)
}

/// `2ˣ`, within one unit in the last place; 0 below -126.5 and infinity from 127.5 on.
#[inline(always)]
pub(super) fn exp2(x: f32) -> f32 {
    let x = clamp(x, -127.0, 128.0);
    let shifted = x + ROUND;
    power(shifted, (x - (shifted - ROUND)) * LN_2)
}

/// `2ⁿ · eʳ` for the integer `n` in `shifted`, `-127 ≤ n ≤ 128`, and `|r| ≤ ln 2 / 2`. The smallest `n` gives
/// 0 and the largest infinity, without further ado: such are the bits of their powers.
#[inline(always)]
fn power(shifted: f32, r: f32) -> f32 {
    // Minimax for (eʳ - 1 - r) / r².
    let q = 0.001_381_453_8;
    let q = q * r + 0.008_368_745;
    let q = q * r + 0.041_668_39;
    let q = q * r + 0.166_665_21;
    let q = q * r + 0.499_999_94;
    let exp_r = 1.0 + (r + r * r * q);
    exp_r * f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23))
}

/// `x` within bounds, or NaN.
#[inline(always)]
fn clamp(x: f32, low: f32, high: f32) -> f32 {
    let x = if x < low { low } else { x };
    if x > high { high } else { x }
}

/// `ln x` of a positive normal number, within 2 units in the last place of the result or of 1, whichever is more.
#[inline(always)]
pub(super) fn ln(x: f32) -> f32 {
    /// √½: the mantissa is brought from there to √2.
    const ROOT: u32 = 0x3f35_04f3;
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let shifted = x.to_bits().wrapping_sub(ROOT);
    let n = (shifted as i32 >> 23) as f32;
    let r = f32::from_bits((shifted & 0x007f_ffff) + ROOT) - 1.0;
    // Minimax for (ln(1 + r) - r + r²/2) / r³ (Moshier, Cephes).
    let q = 0.070_376_836;
    let q = q * r - 0.115_146_1;
    let q = q * r + 0.116_769_99;
    let q = q * r - 0.124_201_41;
    let q = q * r + 0.142_493_23;
    let q = q * r - 0.166_680_58;
    let q = q * r + 0.200_007_15;
    let q = q * r - 0.249_999_94;
    let q = q * r + 0.333_333_3;
    let squared = r * r;
    (r + (q * r * squared + n * LN_2_LOW - 0.5 * squared)) + n * LN_2_HIGH
}

/// `1 / (1 + e⁻ˣ)`, within 3 units in the last place.
#[inline(always)]
pub(super) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::level::{Level, multiversion};

    multiversion! {
        fn exp_all(values: &mut [f32]) {
            for value in values {
                *value = exp(*value);
            }
        }
    }

    /// Every `step`-th float from `from` towards larger magnitude, to `to`.
    fn floats(from: f32, to: f32, step: usize) -> impl Iterator<Item = f32> {
        (from.to_bits()..=to.to_bits()).step_by(step).map(f32::from_bits)
    }

    /// Largest error of `ours` in units in the last place of the exact result.
    fn worst(xs: impl Iterator<Item = f32>, ours: fn(f32) -> f32, exact: fn(f64) -> f64) -> f64 {
        xs.map(|x| {
            let exact = exact(f64::from(x));
            let ulp = (exact as f32).next_up() - exact as f32;
            (f64::from(ours(x)) - exact).abs() / f64::from(ulp)
        })
        .fold(0.0, f64::max)
    }

    #[test]
    fn exponentials_are_accurate() {
        for (ours, exact, low, high) in [
            (exp as fn(f32) -> f32, f64::exp as fn(f64) -> f64, -87.3, 88.3),
            (exp2, f64::exp2, -125.9, 127.4),
        ] {
            let error = worst(floats(1e-9, high, 331).chain(floats(-1e-9, low, 331)), ours, exact);
            println!("{error:.3} ulp");
            assert!(error < 1.0, "{error}");
        }
    }

    #[test]
    fn logarithms_are_accurate() {
        let error = |x: f32| {
            let exact = f64::from(x).ln();
            (f64::from(ln(x)) - exact).abs() / (f64::from(f32::EPSILON) * exact.abs().max(1.0))
        };
        let worst = floats(1.2e-38, 3.0e38, 331).map(error).fold(0.0, f64::max);
        assert!(worst < 2.0, "{worst}");
        assert_eq!(ln(1.0), 0.0);
    }

    #[test]
    fn sigmoid_is_accurate() {
        let error = worst(floats(1e-9, 87.0, 331).chain(floats(-1e-9, -87.0, 331)), sigmoid, |x| {
            1.0 / (1.0 + (-x).exp())
        });
        println!("sigmoid: {error:.3} ulp");
        assert!(error < 3.0, "{error}");
    }

    #[test]
    fn exponentials_at_the_edges() {
        for f in [exp, exp2] {
            for (x, expected) in [(0.0, 1.0), (-0.0, 1.0), (-128.0, 0.0), (129.0, f32::INFINITY)] {
                assert_eq!(f(x), expected, "{x}");
            }
            assert_eq!(f(f32::NEG_INFINITY), 0.0);
            assert_eq!(f(f32::INFINITY), f32::INFINITY);
            assert!(f(f32::NAN).is_nan());
        }
    }

    #[test]
    fn exp_has_the_same_bits_at_every_level() {
        let x: Vec<f32> = (0..4097).map(|i| (i as f32 - 2048.0) * 0.0437).collect();
        let expected: Vec<u32> = x.iter().map(|&x| exp(x).to_bits()).collect();
        for level in Level::available() {
            let mut values = x.clone();
            exp_all(level, &mut values);
            assert!(values.iter().map(|y| y.to_bits()).eq(expected.iter().copied()), "{level}");
        }
    }
}
