//! A head beside a teacher's: not every backend has these operations.

use crate::lab::Error::Product;
use crate::lab::{Lab, Sizes};
use crate::operations::groups;
use kernels::{Distil, DistilShape, HeadShape, NO_TARGET, StoredShape};

/// Both special cases of β and what is between them, at a temperature and at none.
const SETTINGS: [(f32, f32); 4] = [(0.0, 1.0), (1.0, 0.8), (0.3, 1.0), (0.9, 1.7)];

fn shape([rows, d_model, vocab_size, teacher]: Sizes, (beta, temperature): (f32, f32)) -> DistilShape {
    let student = HeadShape { temperature, ..HeadShape::new(rows, d_model, vocab_size) };
    DistilShape { student, teacher_d_model: teacher + 1, beta }
}

/// Hidden state and head of student and teacher.
fn heads<B: Distil>(lab: &mut Lab<B>, shape: &DistilShape) -> [[B::Tensor; 2]; 2] {
    let HeadShape { rows, d_model, vocab_size, .. } = shape.student;
    [d_model, shape.teacher_d_model].map(|width| {
        let weight = lab.noise_of_sums(vocab_size * width, width);
        [lab.activation(rows * width), lab.exact_of(&weight)]
    })
}

/// Every fifth row has no target.
fn targets<B: Distil>(lab: &mut Lab<B>, rows: usize) -> B::Ids {
    let target = |row: usize| if row % 5 == 3 { NO_TARGET } else { 0 };
    lab.ids_of(&(0..rows).map(target).collect::<Vec<_>>())
}

pub(crate) fn distil_forward<B: Distil>(lab: &mut Lab<B>, sizes: Sizes) {
    for setting in SETTINGS {
        let shape = shape(sizes, setting);
        let [student, teacher] = heads(lab, &shape);
        let targets = targets(lab, shape.student.rows);
        // What is written is appended.
        let mut divergences = lab.scalars_of(&[0.5, -0.5]);
        lab.backend.distil_forward(
            &mut divergences,
            student.each_ref(),
            teacher.each_ref(),
            &targets,
            &shape,
        );
        lab.record_scalars("divergences", &[&divergences], Product);
    }
}

pub(crate) fn distil_backward<B: Distil>(lab: &mut Lab<B>, sizes: Sizes) {
    for (number, setting) in SETTINGS.into_iter().enumerate() {
        let shape = shape(sizes, setting);
        let HeadShape { rows, d_model, vocab_size, .. } = shape.student;
        let [student, teacher] = heads(lab, &shape);
        let targets = targets(lab, rows);
        let derivatives: Vec<f64> = lab.noise(rows).into_iter().map(f64::from).collect();
        let derivatives = lab.scalars_of(&derivatives);
        let (mut dhidden, mut dweight) = (lab.activation(rows * d_model), lab.exact(vocab_size * d_model));
        let mut divergences = lab.scalars_of(&[0.5]);
        lab.backend.distil_backward(
            &mut divergences,
            &mut dhidden,
            (number != 1).then_some(&mut dweight),
            &derivatives,
            student.each_ref(),
            teacher.each_ref(),
            &targets,
            &shape,
            &groups(rows, sizes[3]),
        );
        lab.record_scalars("divergences", &[&divergences], Product);
        lab.record("dhidden", &dhidden, Product);
        lab.record("dweight", &dweight, Product);
    }
}

fn stored_shape([rows, d_model, vocab_size, most]: Sizes, (beta, temperature): (f32, f32)) -> StoredShape {
    let student = HeadShape { temperature, ..HeadShape::new(rows, d_model, vocab_size) };
    StoredShape { student, k: (1 + most % 7).min(vocab_size), beta }
}

/// Of each row some tokens, none twice, of which together no more than 0.7 is likely.
fn stored<B: Distil>(lab: &mut Lab<B>, shape: &StoredShape) -> (B::Ids, B::Scalars) {
    let &StoredShape { student: HeadShape { rows, vocab_size, .. }, k, .. } = shape;
    let tokens: Vec<u32> = (0..rows * k).map(|i| ((i % k + 3 * (i / k)) % vocab_size) as u32).collect();
    let share = |x: f32| 0.7 / k as f64 * f64::from(1.2 + x.clamp(-1.0, 0.5)) / 1.7;
    let logprobs: Vec<f64> = lab.noise(rows * k).into_iter().map(|x| share(x).ln()).collect();
    (lab.ids_of(&tokens), lab.scalars_of(&logprobs))
}

pub(crate) fn stored_forward<B: Distil>(lab: &mut Lab<B>, sizes: Sizes) {
    for setting in SETTINGS {
        let shape = stored_shape(sizes, setting);
        let [student, _] = heads(lab, &DistilShape { student: shape.student, teacher_d_model: 1, beta: 0.5 });
        let ((tokens, logprobs), targets) = (stored(lab, &shape), targets(lab, shape.student.rows));
        let mut divergences = lab.scalars_of(&[0.5, -0.5]);
        let student = student.each_ref();
        lab.backend.stored_forward(&mut divergences, student, &tokens, &logprobs, &targets, &shape);
        lab.record_scalars("divergences", &[&divergences], Product);
    }
}

pub(crate) fn stored_backward<B: Distil>(lab: &mut Lab<B>, sizes: Sizes) {
    for (number, setting) in SETTINGS.into_iter().enumerate() {
        let shape = stored_shape(sizes, setting);
        let HeadShape { rows, d_model, vocab_size, .. } = shape.student;
        let [student, _] = heads(lab, &DistilShape { student: shape.student, teacher_d_model: 1, beta: 0.5 });
        let ((tokens, logprobs), targets) = (stored(lab, &shape), targets(lab, rows));
        let derivatives: Vec<f64> = lab.noise(rows).into_iter().map(f64::from).collect();
        let derivatives = lab.scalars_of(&derivatives);
        let (mut dhidden, mut dweight) = (lab.activation(rows * d_model), lab.exact(vocab_size * d_model));
        let mut divergences = lab.scalars_of(&[0.5]);
        lab.backend.stored_backward(
            &mut divergences,
            &mut dhidden,
            (number != 1).then_some(&mut dweight),
            &derivatives,
            student.each_ref(),
            &tokens,
            &logprobs,
            &targets,
            &shape,
            &groups(rows, sizes[3]),
        );
        lab.record_scalars("divergences", &[&divergences], Product);
        lab.record("dhidden", &dhidden, Product);
        lab.record("dweight", &dweight, Product);
    }
}
