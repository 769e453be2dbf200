//! Holds [`Cpu`] to the [`Reference`]: every operation at awkward sizes, at every SIMD level of this machine,
//! in both precisions, with the same bits for any number of threads.
//!
//! * here: which operations there are; the test of one of them.
//! * `lab`: makes inputs, records outputs, says when two records agree.
//! * `operations`: one function each, generic in the backend: the same calls for both.
//! * `bits`: what the conventions of the trait promise beyond the right values.

mod bits;
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

conformance! {
    copy
    resize
    fill
    add
    accumulate
    average
    gelu_forward
    gelu_backward
    swiglu_forward
    swiglu_backward
    dropout
    embed_forward
    embed_backward
    gather_forward
    gather_backward
    layer_norm_forward
    layer_norm_backward
    add_layer_norm_forward
    rms_norm_forward
    rms_norm_backward
    add_rms_norm_forward
    head_norm_forward
    head_norm_backward
    rope_forward
    rope_backward
    linear_forward
    linear_backward_input
    linear_backward_weight
    linear_gelu_forward
    linear_gelu_backward_input
    linear_add_forward
    attention_forward
    attention_backward
    attention_cached
    cache_fork
    head_forward
    head_backward
    draw
    token_logprobs
    likeliest
    clear
    norm
    adamw
}

#[test]
fn every_operation_is_covered() {
    // Every other test makes, fills and reads tensors, those of the optimizer in an arena; `bits` compares
    // `packed` with the plain matrix.
    const IN_PASSING: &[&str] = &["zeros", "arena", "activation", "packed", "len", "upload", "download"];
    /// Lists that other tests upload, to longer and to shorter ones, and read.
    const LISTS: &[&str] = &["ids", "upload_ids", "scalars", "upload_scalars", "read"];
    let mut needed = harness::operations();
    needed.retain(|name| !IN_PASSING.contains(name) && !LISTS.contains(name));
    assert_eq!(needed, COVERED, "operations of the trait (left), those with a conformance test (right)");
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
