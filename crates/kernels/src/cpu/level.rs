//! What the processor can do, and how plain loops are compiled once for each answer.

use std::fmt;

/// A set of vector instructions; each level includes the ones before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Plain loops, vectorised by the compiler for the target's baseline.
    Portable,
    /// 256-bit vectors with fused multiply-add and half precision (x86 since 2013).
    Avx2,
    /// 512-bit vectors.
    Avx512,
    /// 512-bit vectors with dot products of bfloat16 pairs.
    Avx512Bf16,
}

impl Level {
    /// The highest level of this machine.
    pub fn detect() -> Self {
        *Self::available().last().expect("Portable is always available")
    }

    /// All levels of this machine, ascending.
    pub fn available() -> Vec<Self> {
        #[cfg_attr(not(target_arch = "x86_64"), expect(unused_mut))]
        let mut levels = vec![Self::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::is_x86_feature_detected as has;
            let avx2 = has!("avx2") && has!("fma") && has!("f16c");
            let avx512 = avx2 && has!("avx512f") && has!("avx512bw") && has!("avx512dq") && has!("avx512vl");
            let bf16 = avx512 && has!("avx512bf16");
            let further = [(avx2, Self::Avx2), (avx512, Self::Avx512), (bf16, Self::Avx512Bf16)];
            levels.extend(further.iter().filter(|(has, _)| *has).map(|(_, level)| *level));
        }
        levels
    }

    /// Whether products of bfloat16 pairs are instructions.
    pub fn has_bf16(self) -> bool {
        self == Self::Avx512Bf16
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Portable => "portable",
            Self::Avx2 => "AVX2",
            Self::Avx512 => "AVX-512",
            Self::Avx512Bf16 => "AVX-512 bf16",
        })
    }
}

/// Defines functions of plain loops, each compiled once per [`Level`] and dispatched by its first argument,
/// `level`.
///
/// ```ignore
/// multiversion! {
///     /// `y += a · x`.
///     pub(super) fn axpy(y: &mut [f32], a: f32, x: &[f32]) {
///         for (y, x) in y.iter_mut().zip(x) { *y += a * x; }
///     }
/// }
/// axpy(cpu.level, y, 2.0, x);
/// ```
///
/// Functions that the body calls must be `#[inline(always)]`, or they are compiled for the baseline; so are
/// closures that the compiler does not inline, hence loops stay outside of them. To give the same bits at
/// every level, a body uses no `mul_add` (without hardware support it is a library call; multiply and add are
/// never fused by the compiler) and sums in explicit lanes ([`LANES`]), which the compiler would not reorder
/// anyway.
///
/// A function that writes where others write too is an `unsafe fn`, like any other.
///
/// Sound because every `Level` inside a [`Cpu`](super::Cpu) was checked by [`Cpu::new`](super::Cpu::new).
macro_rules! multiversion {
    () => {};
    ($(#[$meta:meta])* $vis:vis unsafe fn $name:ident $args:tt $(-> $ret:ty)? $body:block $($rest:tt)*) => {
        multiversion! { @one [unsafe] [$(#[$meta])*] [$vis] $name $args [$(-> $ret)?] $body }
        multiversion! { $($rest)* }
    };
    ($(#[$meta:meta])* $vis:vis fn $name:ident $args:tt $(-> $ret:ty)? $body:block $($rest:tt)*) => {
        multiversion! { @one [] [$(#[$meta])*] [$vis] $name $args [$(-> $ret)?] $body }
        multiversion! { $($rest)* }
    };
    (@one [$($unsafe:tt)?] [$($meta:tt)*] [$vis:vis] $name:ident ($($arg:ident: $type:ty),* $(,)?) [$($ret:tt)*] $body:block) => {
        $($meta)*
        #[allow(clippy::too_many_arguments, unused_unsafe)]
        $vis $($unsafe)? fn $name(level: $crate::cpu::Level, $($arg: $type),*) $($ret)* {
            #[inline(always)]
            $($unsafe)? fn body($($arg: $type),*) $($ret)* $body
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            $($unsafe)? fn avx2($($arg: $type),*) $($ret)* {
                // SAFETY: what the caller promised, if anything.
                unsafe { body($($arg),*) }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
            $($unsafe)? fn avx512($($arg: $type),*) $($ret)* {
                // SAFETY: what the caller promised, if anything.
                unsafe { body($($arg),*) }
            }
            match level {
                // SAFETY: the level was found among `Level::available()`; what the caller promised, if
                // anything.
                #[cfg(target_arch = "x86_64")]
                $crate::cpu::Level::Avx2 => unsafe { avx2($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                $crate::cpu::Level::Avx512 | $crate::cpu::Level::Avx512Bf16 => unsafe { avx512($($arg),*) },
                // SAFETY: what the caller promised, if anything.
                _ => unsafe { body($($arg),*) },
            }
        }
    };
}
pub(super) use multiversion;

/// Partial sums of a reduction: lane `i` sums the elements whose index is `i` modulo this, at every level.
pub(super) const LANES: usize = 16;

/// The sum of the lanes, in a fixed tree.
#[inline(always)]
pub(super) fn sum_lanes(lanes: [f32; LANES]) -> f32 {
    reduce_lanes(lanes, |a, b| a + b)
}

/// The lanes combined in a fixed tree.
#[inline(always)]
pub(super) fn reduce_lanes(mut lanes: [f32; LANES], combine: impl Fn(f32, f32) -> f32) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] = combine(lanes[i], lanes[i + width]);
        }
        width /= 2;
    }
    lanes[0]
}

/// `Σ term(aᵢ, bᵢ)`, summed in lanes.
#[inline(always)]
pub(super) fn sum_by(a: &[f32], b: &[f32], term: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [0.0; LANES];
    let ((a_blocks, a_rest), (b_blocks, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    for (a, b) in a_blocks.iter().zip(b_blocks) {
        for i in 0..LANES {
            lanes[i] += term(a[i], b[i]);
        }
    }
    for (lane, (&a, &b)) in lanes.iter_mut().zip(a_rest.iter().zip(b_rest)) {
        *lane += term(a, b);
    }
    sum_lanes(lanes)
}

/// `Σ term(aᵢ, bᵢ, cᵢ)`, summed in lanes.
#[inline(always)]
pub(super) fn sum_by3(a: &[f32], b: &[f32], c: &[f32], term: impl Fn(f32, f32, f32) -> f32) -> f32 {
    let mut lanes = [0.0; LANES];
    let ((a_blocks, a_rest), (b_blocks, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    let (c_blocks, c_rest) = c.as_chunks::<LANES>();
    for ((a, b), c) in a_blocks.iter().zip(b_blocks).zip(c_blocks) {
        for i in 0..LANES {
            lanes[i] += term(a[i], b[i], c[i]);
        }
    }
    for (lane, ((&a, &b), &c)) in lanes.iter_mut().zip(a_rest.iter().zip(b_rest).zip(c_rest)) {
        *lane += term(a, b, c);
    }
    sum_lanes(lanes)
}

#[cfg(test)]
mod tests {
    use super::*;

    multiversion! {
        fn dot(a: &[f32], b: &[f32]) -> f32 {
            let mut lanes = [0.0; LANES];
            for (a, b) in a.chunks(LANES).zip(b.chunks(LANES)) {
                for (lane, (a, b)) in lanes.iter_mut().zip(a.iter().zip(b)) {
                    *lane += a * b;
                }
            }
            sum_lanes(lanes)
        }
    }

    #[test]
    fn every_level_gives_the_same_bits() {
        let a: Vec<f32> = (0..1003).map(|i| crate::rng::uniform(1, 2, i) - 0.5).collect();
        let b: Vec<f32> = (0..1003).map(|i| crate::rng::uniform(3, 4, i) - 0.5).collect();
        let exact: f64 = a.iter().zip(&b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
        let portable = dot(Level::Portable, &a, &b);
        assert!((f64::from(portable) - exact).abs() < 1e-4);
        for level in Level::available() {
            assert_eq!(dot(level, &a, &b).to_bits(), portable.to_bits(), "{level}");
        }
    }

    #[test]
    fn levels_ascend_to_the_detected_one() {
        let levels = Level::available();
        assert!(levels.is_sorted());
        assert_eq!((levels[0], levels[levels.len() - 1]), (Level::Portable, Level::detect()));
    }
}
