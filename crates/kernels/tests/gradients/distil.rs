//! A head beside a teacher's, and beside what was kept of one.

use super::Gradient::{Added, Overwritten};
use super::{Case, case, noise};
use kernels::{Distil, DistilShape, F64Tensor, HeadShape, NO_TARGET, Reference, StoredShape};

/// By the student's values; the teacher's have no gradient.
pub(super) fn distil() -> Vec<Case> {
    const ROWS: usize = 5;
    const TARGETS: [u32; ROWS] = [3, NO_TARGET, 0, 6, 3];
    let setting = |beta: f32, temperature: f32, groups: &'static [usize]| {
        let student = HeadShape { temperature, ..HeadShape::new(ROWS, 4, 7) };
        let shape = DistilShape { student, teacher_d_model: 3, beta };
        let teacher = [noise(3, ROWS * 3), noise(4, 7 * 3)];
        let theirs = teacher.clone();
        let forward = move |out: &mut F64Tensor, inputs: &[F64Tensor]| {
            let (mut divergences, targets) = (Vec::new(), TARGETS.to_vec());
            let student = [&inputs[0], &inputs[1]];
            Reference.distil_forward(&mut divergences, student, theirs.each_ref(), &targets, &shape);
            out.0 = divergences;
        };
        let again = forward.clone();
        let inputs = vec![(noise(1, ROWS * 4), Overwritten), (noise(2, 7 * 4), Added)];
        case(inputs, ROWS, forward, move |gradients, dout, inputs| {
            let [dhidden, dweight] = gradients else { unreachable!() };
            let (mut divergences, mut expected) = (Vec::new(), noise(5, ROWS));
            again(&mut expected, inputs);
            Reference.distil_backward(
                &mut divergences,
                dhidden,
                Some(dweight),
                &dout.0,
                [&inputs[0], &inputs[1]],
                teacher.each_ref(),
                &TARGETS.to_vec(),
                &shape,
                groups,
            );
            assert_eq!(divergences, expected.0, "the divergences of backward and forward");
            assert!(divergences[1] == 0.0 && divergences[0] > 0.0, "that of NO_TARGET, and of another row");
        })
    };
    vec![
        setting(0.0, 1.0, &[2, 1, 2]),
        setting(1.0, 0.7, &[5]),
        setting(0.5, 1.0, &[0, 5]),
        setting(0.1, 1.5, &[5]),
    ]
}

pub(super) fn stored() -> Vec<Case> {
    const ROWS: usize = 5;
    const TARGETS: [u32; ROWS] = [3, NO_TARGET, 0, 6, 3];
    const TOKENS: [u32; 2 * ROWS] = [3, 4, 0, 1, 6, 2, 1, 0, 5, 3];
    const P: [f64; 2 * ROWS] = [0.5, 0.2, 0.1, 0.1, 0.3, 0.4, 0.9, 0.05, 0.25, 0.25];
    let setting = |beta: f32, temperature: f32, groups: &'static [usize]| {
        let student = HeadShape { temperature, ..HeadShape::new(ROWS, 4, 7) };
        let shape = StoredShape { student, k: 2, beta };
        let teacher = || (TOKENS.to_vec(), P.map(f64::ln).to_vec());
        let forward = move |out: &mut F64Tensor, inputs: &[F64Tensor]| {
            let (mut divergences, (tokens, logprobs)) = (Vec::new(), teacher());
            let (student, targets) = ([&inputs[0], &inputs[1]], TARGETS.to_vec());
            Reference.stored_forward(&mut divergences, student, &tokens, &logprobs, &targets, &shape);
            out.0 = divergences;
        };
        let inputs = vec![(noise(1, ROWS * 4), Overwritten), (noise(2, 7 * 4), Added)];
        case(inputs, ROWS, forward, move |gradients, dout, inputs| {
            let [dhidden, dweight] = gradients else { unreachable!() };
            let (mut divergences, mut expected) = (Vec::new(), noise(5, ROWS));
            forward(&mut expected, inputs);
            let (tokens, logprobs) = teacher();
            Reference.stored_backward(
                &mut divergences,
                dhidden,
                Some(dweight),
                &dout.0,
                [&inputs[0], &inputs[1]],
                &tokens,
                &logprobs,
                &TARGETS.to_vec(),
                &shape,
                groups,
            );
            assert_eq!(divergences, expected.0, "the divergences of backward and forward");
        })
    };
    vec![setting(0.0, 1.0, &[2, 1, 2]), setting(1.0, 0.7, &[5]), setting(0.5, 1.5, &[0, 5])]
}
