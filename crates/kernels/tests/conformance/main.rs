//! Holds [`Cpu`] to the [`Reference`]: every operation at awkward sizes, at every SIMD level of this machine,
//! in both precisions, with the same bits for any number of threads.
//!
//! * here: which operations there are; the test of one of them.
//! * `lab`: makes inputs, records outputs, says when two records agree.
//! * `operations`: one function each, generic in the backend: the same calls for both; `distil` likewise, of [`Distil`](kernels::Distil).
//! * `bits`: what the conventions of the trait promise beyond the right values.

mod bits;
mod distil;
#[path = "../harness/mod.rs"]
mod harness;
mod lab;
mod operations;

use kernels::{Cpu, CpuOptions, Either, Level, Precision, Reference};
use lab::{Lab, Sizes, Storage};

/// Makes a test of each operation, and the list of them.
macro_rules! conformance {
    ($($operation:ident)*) => {
        const COVERED: &[&str] = &[$(stringify!($operation)),*];
        $(#[test]
        fn $operation() {
            conforms(operations::$operation::<Both>);
        })*
    };
}

operations::for_every_operation!(conformance);

#[test]
fn distil_forward() {
    conforms(distil::distil_forward::<Both>);
}

#[test]
fn distil_backward() {
    conforms(distil::distil_backward::<Both>);
}

#[test]
fn stored_forward() {
    conforms(distil::stored_forward::<Both>);
}

#[test]
fn stored_backward() {
    conforms(distil::stored_backward::<Both>);
}

#[test]
fn every_operation_is_covered() {
    operations::assert_covered(COVERED);
    assert_eq!(
        harness::distillations(),
        ["distil_forward", "distil_backward", "stored_forward", "stored_backward"]
    );
}

/// The one or the other, so that choosing among them is held to the reference too.
type Both = Either<Reference, Cpu>;

/// Runs an operation on both backends in every setting and compares.
fn conforms(operation: fn(&mut Lab<Both>, Sizes)) {
    for (precision, storage) in lab::SETTINGS {
        let mut reference_lab = Lab::new(Both::First(Reference), precision, storage);
        let on_cpu = |level, threads| {
            let cpu = Cpu::new(CpuOptions { threads, precision, level });
            Lab::new(Both::Second(cpu), precision, storage)
        };
        let mut cpu_labs: Vec<(Level, [Lab<Both>; 3])> = Level::available()
            .into_iter()
            .map(|level| (level, [1, 2, 3].map(|threads| on_cpu(level, threads))))
            .collect();
        for sizes in lab::all_sizes() {
            let expected = reference_lab.run(operation, sizes);
            for (level, labs) in &mut cpu_labs {
                let setting = format!("{level}, {precision:?}, {storage:?} activations, sizes {sizes:?}");
                let [one, two, three] = labs.each_mut().map(|lab| lab.run(operation, sizes));
                one.assert_close_to(&expected, &setting);
                two.assert_same_bits(&one, &format!("{setting}, 2 threads"));
                three.assert_same_bits(&one, &format!("{setting}, 3 threads"));
            }
        }
    }
}

fn cpu_lab(level: Level, threads: usize, precision: Precision, storage: Storage) -> Lab<Cpu> {
    Lab::new(Cpu::new(CpuOptions { threads, precision, level }), precision, storage)
}
