//! Holds [`Cuda`] to the [`Reference`]: the very list of operations that the processor is held to. On the
//! emulator some of its sizes (with `MYNAH_CUDA_ALL_SIZES` all of them), on a GPU all.

#[path = "../emulator/mod.rs"]
mod emulator;
#[path = "../../../kernels/tests/harness/mod.rs"]
mod harness;
#[path = "../../../kernels/tests/conformance/lab.rs"]
#[allow(dead_code, reason = "other suites use the rest")]
mod lab;
#[path = "../../../kernels/tests/conformance/operations/mod.rs"]
mod operations;

use kernels::{Precision, Reference};
use kernels_cuda::Cuda;
use lab::{Lab, Sizes, Storage};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Of the sizes, every so-manieth runs on the emulator, which is slow.
const STEP: usize = 14;

/// What there are no kernels for, and is refused by name.
const REFUSED: &[&str] = &["blocks"];

/// Makes a test of each operation, and the list of them.
macro_rules! conformance {
    ($($operation:ident)*) => {
        const COVERED: &[&str] = &[$(stringify!($operation)),*];
        $(#[test]
        fn $operation() {
            conforms(stringify!($operation), operations::$operation::<Reference>, operations::$operation::<Cuda>);
        })*
    };
}

operations::for_every_operation!(conformance);

#[test]
fn every_operation_is_covered() {
    operations::assert_covered(COVERED);
}

/// Runs an operation on both backends in every setting and compares; twice, for runs repeat to the bit.
fn conforms(name: &str, reference: fn(&mut Lab<Reference>, Sizes), cuda: fn(&mut Lab<Cuda>, Sizes)) {
    let Some((device, real)) = emulator::device() else { return };
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
        for sizes in lab::all_sizes().step_by(if all { 1 } else { STEP }) {
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
