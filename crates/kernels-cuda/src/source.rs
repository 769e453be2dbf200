//! The kernels' source: one text for the compiler.

/// What the kernels are written with, then the kernels, in the order in which they are compiled.
pub const SOURCES: &[(&str, &str)] = &[
    ("gpu.h", include_str!("../kernels/gpu.h")),
    ("pointwise.cu", include_str!("../kernels/pointwise.cu")),
    ("rows.cu", include_str!("../kernels/rows.cu")),
    ("norm.cu", include_str!("../kernels/norm.cu")),
    ("product.cu", include_str!("../kernels/product.cu")),
    ("attention.cu", include_str!("../kernels/attention.cu")),
    ("flash.cu", include_str!("../kernels/flash.cu")),
    ("head.cu", include_str!("../kernels/head.cu")),
    ("draw.cu", include_str!("../kernels/draw.cu")),
    ("optimizer.cu", include_str!("../kernels/optimizer.cu")),
    ("exchange.cu", include_str!("../kernels/exchange.cu")),
];

/// All of it, one file after another, with the lines that the compiler's messages name.
pub fn source() -> String {
    SOURCES.iter().map(|(name, text)| format!("#line 1 \"{name}\"\n{text}\n")).collect()
}
