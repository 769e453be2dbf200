//! Functions that the standard library has no vectorisable form of: branch-free, so that plain loops become vectors,
//! and without fused operations, so that the bits are the same at every level.

/// `eˣ`, within one unit in the last place; 0 where the result would be subnormal, infinity where it overflows.
///
/// `eˣ = 2ⁿ · eʳ` with `n` the integer nearest to `x / ln 2` and a polynomial for `eʳ`, `|r| ≤ ln 2 / 2`.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    /// ln of the smallest normal number, and of the largest finite one rounded up.
    const LOW: f32 = -87.336_54;
    const HIGH: f32 = 88.722_84;
    /// Adding 1.5 · 2²³ rounds to an integer, which is then in the low bits.
    const ROUND: f32 = 12_582_912.0;
    /// ln 2 in two parts, the first with so few bits that its product with `n` is exact.
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;

    // Comparisons this way round keep NaN.
    let bounded = if x < LOW { LOW } else { x };
    let bounded = if bounded > HIGH { HIGH } else { bounded };
    let shifted = bounded * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (bounded - n * LN_2_HIGH) - n * LN_2_LOW;
    // Minimax for (eʳ - 1 - r) / r².
    let q = 0.001_381_453_8;
    let q = q * r + 0.008_368_745;
    let q = q * r + 0.041_668_39;
    let q = q * r + 0.166_665_21;
    let q = q * r + 0.499_999_94;
    let exp_r = 1.0 + (r + r * r * q);
    // 2¹²⁸ is no f32: the power of two comes in two factors.
    let n = shifted.to_bits() as i32 - ROUND.to_bits() as i32;
    let half = n >> 1;
    let y = exp_r * power_of_two(half) * power_of_two(n - half);
    if x < LOW {
        0.0
    } else if x > HIGH {
        f32::INFINITY
    } else {
        y
    }
}

/// `2ⁿ` for `-126 ≤ n ≤ 127`.
#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) as u32) << 23)
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
    fn exp_is_accurate() {
        let all = floats(1e-9, 88.72, 331).chain(floats(-1e-9, -87.33, 331));
        let error = worst(all, exp, f64::exp);
        println!("exp: {error:.3} ulp");
        assert!(error < 1.0, "{error}");
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
    fn exp_at_the_edges() {
        let edges = [(0.0, 1.0), (-0.0, 1.0), (f32::NEG_INFINITY, 0.0), (-88.0, 0.0), (89.0, f32::INFINITY)];
        for (x, expected) in edges {
            assert_eq!(exp(x), expected, "exp({x})");
        }
        assert_eq!(exp(f32::INFINITY), f32::INFINITY);
        assert!(exp(f32::NAN).is_nan());
        assert!(exp(-87.336).is_normal() && exp(88.722).is_finite());
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
