//! Number formats against the gguf package: `tools/golden_gguf.py` made the blocks and what they stand for.

use std::fs;

use kernels::BlockFormat;

use super::super::Dtype;
use super::super::number_format::NumberFormat;
use super::golden_dir;
use super::variant::{floats, parse};

const FLOATS: [NumberFormat; 2] = [NumberFormat::Float(Dtype::F16), NumberFormat::Float(Dtype::Bf16)];

/// Those of files.
fn blocks() -> impl Iterator<Item = NumberFormat> {
    BlockFormat::ALL.into_iter().filter(|format| *format != BlockFormat::Nf4).map(NumberFormat::Blocks)
}

#[test]
fn every_format_is_read_bit_for_bit() {
    let golden = parse(&fs::read(golden_dir("").with_file_name("gguf/blocks.safetensors")).unwrap());
    for format in FLOATS.into_iter().chain(blocks()) {
        let (bytes, expected) = (&golden[&format!("{format}.bytes")], &golden[&format!("{format}.values")]);
        let expected = floats(expected);
        let mut values = vec![f32::NAN; expected.len()];
        format.decode(&mut values, &bytes.bytes);
        assert_eq!(values, expected, "{format}");
        assert!(values.iter().any(|value| *value != 0.0), "{format}");
        assert!(NumberFormat::READABLE.contains(&format.to_string()), "{format}");
    }
}

#[test]
fn what_is_written_is_what_the_package_writes() {
    let golden = parse(&fs::read(golden_dir("").with_file_name("gguf/blocks.safetensors")).unwrap());
    let values = floats(&golden["values"]);
    for format in FLOATS.into_iter().chain([NumberFormat::Blocks(BlockFormat::Q8_0)]) {
        assert_eq!(format.encode(&values).unwrap(), golden[&format!("{format}.bytes")].bytes, "{format}");
    }
}

#[test]
fn what_a_format_cannot_hold_is_told() {
    for bad in [f32::NAN, f32::INFINITY, 1e8] {
        let mut block = [1.0; 32];
        block[7] = bad;
        let said = NumberFormat::Blocks(BlockFormat::Q8_0).encode(&block).unwrap_err().to_string();
        assert!(said.contains("Q8_0 cannot"), "{said}");
    }
    assert!(NumberFormat::Float(Dtype::F16).encode(&[70_000.0]).is_err());
}
