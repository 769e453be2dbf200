//! Every family and the optimizer step against PyTorch, through the model, on the emulator or a GPU.

#![allow(clippy::unwrap_used)] // A test that finds no value has failed.

#[macro_use]
mod emulator;
#[path = "../../lm/tests/families/mod.rs"]
mod families;

use families::*;
use kernels::Precision::{self, Bf16, F32};
use kernels_cuda::Cuda;
use lm::model::Keep;
use std::process::ExitCode;

fn main() -> ExitCode {
    emulator::suite(tests![logits gradients ten_steps greedy ropes runs_repeat])
}

/// Calls `check` for every family.
fn on_device(precision: Precision, check: impl Fn(&Golden, Cuda)) {
    let (device, _) = emulator::device();
    families().iter().for_each(|golden| check(golden, Cuda::new(device.clone(), precision, 1)));
}

fn logits() {
    on_device(F32, |golden, cuda| logits_agree(golden, cuda, 1e-5));
    on_device(Bf16, |golden, cuda| logits_agree(golden, cuda, 3e-2));
}

fn gradients() {
    on_device(F32, |golden, cuda| gradients_agree(golden, cuda, 3e-5));
    on_device(Bf16, |golden, cuda| gradients_agree(golden, cuda, 1e-1));
}

fn ten_steps() {
    on_device(F32, |golden, cuda| curve_agrees(golden, cuda, 1e-4));
    // Rounding falls elsewhere than on the processor, and ten large steps make the most of it.
    on_device(Bf16, |golden, cuda| curve_agrees(golden, cuda, 8e-2));
}

fn greedy() {
    on_device(F32, greedy_agrees);
}

fn ropes() {
    let (device, _) = emulator::device();
    ropes_agree(|| Cuda::new(device.clone(), F32, 1), 1e-5);
}

/// Runs repeat to the bit, and to that of blocks which are computed again on the way back: losses and weights after
/// some steps, of the oldest family and the newest.
fn runs_repeat() {
    let (device, _) = emulator::device();
    for golden in families().into_iter().step_by(5) {
        for precision in [F32, Bf16] {
            let bits = |keep| {
                let b = &mut Cuda::new(device.clone(), precision, 1);
                let mut trainer = golden.trainer(b);
                trainer.keep(b, keep);
                let mut bits = Vec::new();
                for _ in 0..3 {
                    accumulate(b, &mut trainer, &golden.ids("tokens"), &golden.ids("targets"), &[1, 1]);
                    bits.push(update(b, &mut trainer, 1e-2).1.to_bits());
                }
                let weights = trainer.weights.leaves().into_iter().flat_map(|weight| host(b, weight));
                bits.extend(weights.map(|x| u64::from(x.to_bits())));
                bits
            };
            let kept = bits(Keep::Blocks);
            for keep in [Keep::Blocks, Keep::Inputs] {
                assert!(bits(keep) == kept, "{}, {precision:?}, {keep:?}", golden.family);
            }
        }
    }
}
