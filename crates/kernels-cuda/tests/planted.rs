//! Faults that are planted in a kernel, which the emulator has to find: else it would find no others.

#![allow(clippy::unwrap_used)] // A test that finds no value has failed.

#[macro_use]
#[allow(dead_code, reason = "other suites use the rest")]
mod emulator;

use kernels::{AttentionShape, Backend, Precision, rng};
use kernels_cuda::{Cuda, source};
use std::process::ExitCode;

/// Enough for three tiles of keys, of which the first is overwritten by the third.
const LEN: usize = 200;
/// The test that a process of its own runs.
const OUT_OF_BOUNDS: &str = "an_access_out_of_bounds_is_found";
const EAGER: &[&str] = &["-DEMU_EAGER"];

fn main() -> ExitCode {
    let always = tests![
        delivery_at_once_changes_nothing
        a_wait_too_few_is_found
        a_barrier_too_few_is_found
        an_index_that_is_off_is_found
    ];
    emulator::suite(
        always.into_iter().chain([(OUT_OF_BOUNDS, an_access_out_of_bounds_is_found as emulator::Test)]),
    )
}

/// What attention in tiles gives with these kernels.
fn attention(source: &str, flags: &[&str]) -> Vec<f32> {
    let library = emulator::compile(source, &[emulator::sanitized::flags(), flags].concat());
    let mut b = Cuda::new(emulator::open(&library), Precision::Bf16, 1);
    let shape = AttentionShape { n_head: 2, n_kv_head: 1, head_dim: 64, scale: 0.125, window: None };
    let values: Vec<f32> =
        (0..(LEN * shape.qkv_width()) as u64).map(|i| rng::uniform(1, 2, i) - 0.5).collect();
    let (mut qkv, mut out) = (b.activation(values.len()), b.activation(LEN * shape.q_width()));
    b.upload(&mut qkv, &values);
    let (mut lse, mut lens) = (b.zeros(LEN * shape.n_head), b.ids());
    b.upload_ids(&mut lens, &[LEN as u32]);
    b.attention_forward(&mut out, &mut lse, &qkv, &lens, &shape, None);
    let mut values = vec![0.0; LEN * shape.q_width()];
    b.download(&mut values, &out);
    values
}

/// The kernels with a fault: the first `from` after the kernel's beginning becomes `to`.
fn planted(from: &str, to: &str) -> String {
    let source = source();
    let (before, kernel) = source.split_once("void flash_forward(u16* out").unwrap();
    assert!(kernel.contains(from), "{from}");
    format!("{before}void flash_forward(u16* out{}", kernel.replacen(from, to, 1))
}

fn assert_found(from: &str, to: &str, flags: &[&str]) {
    let sound = attention(&source(), &[]);
    assert!(sound.iter().all(|x| x.is_finite()));
    assert_ne!(attention(&planted(from, to), flags), sound, "{from} → {to} was not found");
}

fn delivery_at_once_changes_nothing() {
    assert_eq!(attention(&source(), EAGER), attention(&source(), &[]));
}

fn a_wait_too_few_is_found() {
    assert_found("cp_async_wait<1>()", "cp_async_wait<2>()", &[]);
}

fn a_barrier_too_few_is_found() {
    let end = "      product_columns<D, 64, R>(o, s, vs + buffer * 64 * ROW);\n    }\n";
    assert_found(&format!("{end}    __syncthreads();\n"), end, EAGER);
}

fn an_index_that_is_off_is_found() {
    assert_found("k0 + j * 8 + lane % 4 * 2 + (e & 1)", "k0 + j * 8 + lane % 4 * 2 + (e & 1) + 1", &[]);
}

/// Rows beyond the last sequence, which the kernel has to leave alone.
#[allow(clippy::print_stderr, reason = "what this process is through with, another one reads")]
fn an_access_out_of_bounds_is_found() -> Result<(), String> {
    let (guard, sound) = ("row + r < len && ", "the sound kernel is done");
    if emulator::sanitized::is_here() {
        attention(&source(), &[]);
        eprintln!("{sound}");
        attention(&source().replacen(guard, "", 1), &[]);
        return Ok(());
    }
    assert!(source().contains(guard));
    let (ended, _) = emulator::sanitized::again(&["--exact", OUT_OF_BOUNDS, "--nocapture"])?;
    let said = String::from_utf8_lossy(&ended.stderr);
    let found = said.split_once(sound).is_some_and(|(_, then)| {
        then.contains("AddressSanitizer: heap-buffer-overflow") && then.contains("flash.cu:")
    });
    assert!(found, "{said}");
    Ok(())
}
