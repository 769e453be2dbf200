//! Headers that lie, each in its own way, and what is said about it.

use std::fs;

use kernels::{BlockFormat, BlockMatrix};

use super::super::super::gguf::Entries;
use super::*;

/// A tensor as it is described: name, dimensions, format, offset.
type Described<'a> = (&'a str, &'a [u64], u32, u64);

fn string(text: &[u8]) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text].concat()
}

/// A file with these entries and tensors, and so many bytes of data.
fn file(entries: &Entries, tensors: &[Described<'_>], data: usize) -> Vec<u8> {
    let mut bytes = b"GGUF\x03\0\0\0".to_vec();
    bytes.extend((tensors.len() as u64).to_le_bytes());
    bytes.extend(entries.count.to_le_bytes());
    bytes.extend(&entries.bytes);
    for (name, dimensions, format, offset) in tensors {
        bytes.extend(string(name.as_bytes()));
        bytes.extend((dimensions.len() as u32).to_le_bytes());
        dimensions.iter().for_each(|len| bytes.extend(len.to_le_bytes()));
        bytes.extend(format.to_le_bytes());
        bytes.extend(offset.to_le_bytes());
    }
    bytes.resize(bytes.len().next_multiple_of(32) + data, 0);
    bytes
}

/// A file whose tensors of these names, without what comes before and after a point, are replaced by random blocks.
pub(super) fn with_noise(file: &[u8], formats: &[(&str, BlockFormat)]) -> Vec<u8> {
    let number = |format| match format {
        BlockFormat::Q4_0 => 2u32,
        BlockFormat::Q4_1 => 3,
        BlockFormat::Q5_0 => 6,
        BlockFormat::Q5_1 => 7,
        BlockFormat::Q4K => 12,
        BlockFormat::Q5K => 13,
        BlockFormat::Q6K => 14,
        _ => panic!("{format} has another number"),
    };
    let word = |at: usize| u64::from_le_bytes(file[at..at + 8].try_into().unwrap()) as usize;
    let long = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap());
    let first = string(b"token_embd.weight");
    let mut at = file.windows(first.len()).position(|window| window == first).unwrap();
    let (mut described, mut data) = (file[..at].to_vec(), Vec::new());
    let mut tensors = Vec::new();
    for _ in 0..word(8) {
        let name = std::str::from_utf8(&file[at + 8..][..word(at)]).unwrap();
        at += 8 + name.len();
        let dimensions: Vec<usize> = (0..long(at) as usize).map(|i| word(at + 4 + 8 * i)).collect();
        at += 4 + 8 * dimensions.len();
        tensors.push((name, dimensions, long(at), word(at + 4)));
        at += 12;
    }
    let start = at.next_multiple_of(32);
    for (stream, (name, dimensions, kind, offset)) in (0..).zip(&tensors) {
        let found = formats.iter().find(|(part, _)| name.split('.').any(|own| own == *part));
        let (kind, bytes) = match found {
            Some((_, format)) => {
                let matrix = BlockMatrix::noise(*format, [dimensions[1], dimensions[0]], stream);
                (number(*format), matrix.bands()[0].bytes.clone())
            }
            None => (*kind, file[start + offset..][..4 * dimensions.iter().product::<usize>()].to_vec()),
        };
        described.extend(string(name.as_bytes()));
        described.extend((dimensions.len() as u32).to_le_bytes());
        dimensions.iter().for_each(|len| described.extend((*len as u64).to_le_bytes()));
        described.extend(kind.to_le_bytes());
        described.extend((data.len() as u64).to_le_bytes());
        data.extend(bytes);
        data.resize(data.len().next_multiple_of(32), 0);
    }
    described.resize(described.len().next_multiple_of(32), 0);
    [described, data].concat()
}

/// The least that names an architecture.
fn gpt2() -> Entries {
    let mut entries = Entries::default();
    entries.text("general.architecture", "gpt2");
    entries
}

/// An entry of any type, with any bytes.
fn raw(key: &str, kind: u32, value: &[u8]) -> Entries {
    Entries { bytes: [&string(key.as_bytes())[..], &kind.to_le_bytes(), value].concat(), count: 1 }
}

const F32: u32 = 0;
const Q8_0: u32 = 8;

#[test]
fn what_is_no_gguf_file_says_so() {
    assert!(refusal(b"").contains("the first four bytes, 4 bytes at 0, is beyond the file's end at 0"));
    assert!(refusal(b"PK\x03\x04 and more").contains("does not begin with \"GGUF\""));
    assert!(
        refusal(b"GGUF\x01\0\0\0\0\0\0\0\0\0\0\0").contains("version 1 is not supported; known are 2 and 3")
    );
    assert!(refusal(b"GGUF\0\0\0\x03\0\0\0\0").contains("big-endian"));
    // By its first bytes a file is GGUF under any name; by its name, any file that claims to be.
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.bin");
    fs::copy(golden("qwen3.gguf"), &path).unwrap();
    assert_eq!(open(&path).unwrap().architecture(), "Qwen3ForCausalLM");
    fs::write(&path, "something else").unwrap();
    let said = format!("{:#}", open(&path).err().unwrap());
    assert!(said.contains("model.bin is a file, and not GGUF"), "{said}");
}

#[test]
fn entries_that_lie_are_named() {
    let huge = u64::MAX.to_le_bytes();
    let array =
        |of: u32, count: u64, rest: &[u8]| [&of.to_le_bytes(), &count.to_le_bytes()[..], rest].concat();
    for (entries, expected) in [
        (raw("x", 8, &huge), "the entry x: cut off or damaged: x, 18446744073709551615 bytes"),
        (raw("x", 13, b""), "the entry x: damaged: 13 is no type of a value"),
        (raw("x", 9, &array(4, u64::MAX, b"")), "the entry x: damaged: an array beyond any file"),
        (raw("x", 9, &array(4, 1 << 40, b"")), "the entry x: cut off or damaged: an array"),
        (raw("x", 9, &array(8, 1 << 60, b"")), "the entry x: cut off or damaged: a string of an array"),
        (raw("x", 9, &array(9, 1, &array(4, 1, b"\0\0\0\0"))), "the entry x: an array of arrays"),
        (
            raw("general.alignment", 4, &24u32.to_le_bytes()),
            "general.alignment is 24, which is no power of two",
        ),
        (raw("general.alignment", 10, &0u64.to_le_bytes()), "general.alignment is 0"),
        (raw("general.alignment", 8, &string(b"32")), "general.alignment is String, not a whole number"),
        (raw("general.alignment", 10, &(1u64 << 63).to_le_bytes()), "general.architecture is missing"),
        (raw("general.alignment", 11, &(-32i64).to_le_bytes()), "general.alignment is -32"),
        (raw("general.architecture", 8, &string(b"\xff")), "general.architecture is not UTF-8"),
        (
            raw("general.architecture", 8, &string(b"mamba")),
            "\"mamba\" is not supported; known are gpt2, llama",
        ),
        (Entries::default(), "general.architecture is missing"),
        // Zeros behind the last entry read as entries without a name.
        (Entries { count: u64::MAX, ..gpt2() }, "the entry  is there twice"),
    ] {
        let said = refusal(&file(&entries, &[], 64));
        assert!(said.contains(expected), "{expected:?} is not in: {said}");
    }
    let mut twice = gpt2();
    twice.text("general.architecture", "llama");
    assert!(refusal(&file(&twice, &[], 0)).contains("the entry general.architecture is there twice"));
    let bad_key = Entries { bytes: [&string(b"\xff")[..], &4u32.to_le_bytes(), &[0; 4]].concat(), count: 1 };
    assert!(refusal(&file(&bad_key, &[], 0)).contains("a key, at 32, is not UTF-8"));
}

#[test]
fn tensors_that_lie_are_named() {
    let one: &[Described<'_>] = &[("w", &[8], F32, 0)];
    for (tensors, data, expected) in [
        (one, 31, "cut off: the tensor w lies beyond the file's end"),
        (&[("w", &[8], F32, 4)], 64, "the tensor w begins at 4, no multiple of 32"),
        (&[("w", &[8], F32, u64::MAX - 31)], 64, "the tensor w lies beyond"),
        (&[("w", &[8], F32, 0), ("w", &[8], F32, 32)], 64, "the tensor w is there twice"),
        (&[("v", &[16], F32, 0), ("w", &[8], F32, 32)], 64, "the tensors v and w overlap"),
        (&[("w", &[], F32, 0)], 64, "the tensor w: damaged: it has 0 dimensions"),
        (&[("w", &[1; 5], F32, 0)], 64, "the tensor w: damaged: it has 5 dimensions"),
        (
            &[("w", &[1 << 32, 1 << 32], F32, 0)],
            64,
            "the tensor w: the shape [4294967296, 4294967296] is beyond",
        ),
        (&[("w", &[u64::MAX], F32, 0)], 64, "the tensor w: the shape [18446744073709551615] is beyond"),
        (
            &[("w", &[40], Q8_0, 0)],
            64,
            "the tensor w: rows of 40 numbers are no whole blocks of Q8_0, which have 32",
        ),
    ] as [(&[Described<'_>], usize, &str); 10]
    {
        let said = refusal(&file(&gpt2(), tensors, data));
        assert!(said.contains(expected), "{expected:?} is not in: {said}");
    }
}

/// The golden file with one text in place of another of the same length.
fn patched(name: &str, from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut bytes = fs::read(golden(name)).unwrap();
    let at = bytes.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
    bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
    bytes
}

#[test]
fn what_does_not_fit_the_architecture_is_named() {
    for (name, from, to, expected) in [
        ("gpt2.gguf", "blk.1.ffn_up.bias", "blk.1.ffn_up.bios", "the tensor blk.1.ffn_up.bias is missing"),
        (
            "gpt2.gguf",
            "token_embd.weight",
            "token_embd.wheels",
            "token_embd.weight, one row a token, is missing",
        ),
        ("llama.gguf", "llama.block_count", "llama.block_comet", "llama.block_count is missing"),
        (
            "llama.gguf",
            "output.weight",
            "outlet.weight",
            "unknown tensors, which this architecture does not have: outlet",
        ),
    ] {
        let said = refusal(&patched(name, from, to));
        assert!(said.contains(expected), "{expected:?} is not in: {said}");
    }
    // An entry that may change what a model computes is told of.
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("odd.gguf");
    fs::write(&path, patched("llama.gguf", "llama.attention.key_length", "llama.attention.clamp_kqvs"))
        .unwrap();
    let said = format!("{:#}", open(&path).err().unwrap());
    assert!(said.contains("value_length is 8, not the 4"), "{said}");
    fs::write(&path, patched("qwen2.gguf", "general.name", "qwen2.expert")).unwrap();
    let warnings = open(&path).unwrap().warnings;
    assert!(warnings.len() == 1 && warnings[0].contains("qwen2.expert is not understood"), "{warnings:?}");
}

#[test]
fn a_number_format_that_is_not_read_is_named() {
    let mut bytes = fs::read(golden("qwen3.gguf")).unwrap();
    let name = b"output_norm.weight";
    let at = bytes.windows(name.len()).position(|window| window == name).unwrap() + name.len();
    // After the name: one dimension, its length, the format.
    let format = at + 4 + 8;
    bytes[format..format + 4].copy_from_slice(&10u32.to_le_bytes());
    let said = refusal(&bytes);
    assert!(said.contains("the tensor output_norm.weight holds Q2_K; readable are F32, F16"), "{said}");
}
