//! Holds [`Cuda`] to the [`Reference`]: the very list of operations that the processor is held to. On the
//! emulator some of its sizes (with `MYNAH_CUDA_ALL_SIZES` all of them), on a GPU all.

#[path = "../emulator/mod.rs"]
mod emulator;
#[path = "../../../kernels/tests/harness/mod.rs"]
mod harness;
#[path = "../../../kernels/tests/conformance/lab.rs"]
#[allow(dead_code, reason = "other suites use the rest")]
mod lab;
mod linked;
#[path = "../../../kernels/tests/conformance/operations/mod.rs"]
mod operations;

use kernels::{Precision, Reference};
use kernels_cuda::Cuda;
use lab::{Lab, Sizes, Storage};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

/// Of the sizes, every so-manieth runs on the emulator, which is slow.
const STEP: usize = 14;

/// Sizes for kernels that the others leave out, which are the only ones under the address sanitizer: norms of up to 512,
/// 768 and 1,024 values, heads of 128 and 64 in several tiles.
fn further(operation: &str) -> &'static [Sizes] {
    match operation {
        _ if operation.contains("layer_norm") || operation.contains("rms_norm") => {
            &[[3, 65, 8, 1], [3, 64, 8, 1], [3, 640, 8, 1], [2, 1000, 8, 1]]
        }
        _ if operation.starts_with("attention") => &[[70, 9, 128, 17], [130, 5, 64, 7]],
        _ => &[[17, 9, 64, 7]],
    }
}

/// What there are no kernels for, and is refused by name.
const REFUSED: &[&str] = &["blocks"];

/// The list of tests, one of each operation.
macro_rules! conformance {
    ($($operation:ident)*) => {
        const OPERATIONS: &[(&str, emulator::Test)] = &[$((stringify!($operation), || {
            conforms(stringify!($operation), operations::$operation::<Reference>, operations::$operation::<Cuda>);
            Ok(())
        })),*];
    };
}

operations::for_every_operation!(conformance);

fn main() -> ExitCode {
    emulator::suite(OPERATIONS.iter().copied().chain(WHOLE.iter().copied()))
}

/// What is no operation by itself.
const WHOLE: &[(&str, emulator::Test)] = &[
    ("every_operation_is_covered", every_operation_is_covered),
    ("all_kernels_keep_within_bounds", all_kernels_keep_within_bounds),
    ("sums_are_those_of_the_host", linked::sums_are_those_of_the_host),
    ("what_one_sends_the_others_have", linked::what_one_sends_the_others_have),
    ("who_is_alone_exchanges_nothing", linked::who_is_alone_exchanges_nothing),
];

fn every_operation_is_covered() -> Result<(), String> {
    operations::assert_covered(&OPERATIONS.iter().map(|operation| operation.0).collect::<Vec<_>>());
    Ok(())
}

/// No kernel reads or writes outside of what was allocated, and none is left out: the same list under the address
/// sanitizer.
fn all_kernels_keep_within_bounds() -> Result<(), String> {
    if emulator::sanitized::is_here() || emulator::device().1 {
        return Ok(());
    }
    let (ended, launched) = emulator::sanitized::again(&[])?;
    let said = [ended.stdout, ended.stderr].map(|said| String::from_utf8_lossy(&said).into_owned());
    let all = format!("{} passed", OPERATIONS.len() + WHOLE.len());
    assert!(ended.status.success() && said[0].contains(&all), "{}", said.concat());
    let source = kernels_cuda::source();
    let left_out: Vec<_> = emulator::names(&source)
        .into_iter()
        .filter(|name| !launched.iter().any(|known| known == name))
        .collect();
    assert!(left_out.is_empty(), "not run: {left_out:?}");
    Ok(())
}

/// Runs an operation on both backends in every setting and compares; twice, for runs repeat to the bit.
fn conforms(name: &str, reference: fn(&mut Lab<Reference>, Sizes), cuda: fn(&mut Lab<Cuda>, Sizes)) {
    let (device, real) = emulator::device();
    if REFUSED.contains(&name) {
        let mut lab = Lab::new(Cuda::new(device, Precision::F32, 1), Precision::F32, Storage::Native);
        let refused = catch_unwind(AssertUnwindSafe(|| lab.run(cuda, [1; 4]))).err();
        let message = refused.as_ref().and_then(|message| message.downcast_ref::<String>());
        assert!(message.is_some_and(|message| message.starts_with(&format!("{name}: "))), "{message:?}");
        return;
    }
    for (precision, storage) in lab::SETTINGS {
        let mut reference_lab = Lab::new(Reference, precision, storage);
        let mut cuda_lab = Lab::new(Cuda::new(device.clone(), precision, 1), precision, storage);
        let all = real || std::env::var_os("MYNAH_CUDA_ALL_SIZES").is_some();
        let (step, most) = match (all, emulator::sanitized::is_here()) {
            (true, _) => (1, usize::MAX),
            (false, false) => (STEP, usize::MAX),
            (false, true) => (1, 0),
        };
        for sizes in lab::all_sizes().step_by(step).take(most).chain(further(name).iter().copied()) {
            let expected = reference_lab.run(reference, sizes);
            let setting = format!("{precision:?}, {storage:?} activations, sizes {sizes:?}");
            let once = cuda_lab.run(cuda, sizes);
            once.assert_close_to(&expected, &setting);
            if real {
                cuda_lab.run(cuda, sizes).assert_same_bits(&once, &format!("{setting}, again"));
            }
        }
    }
}
