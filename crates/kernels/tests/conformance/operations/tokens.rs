//! The head, and draws from logits.

use super::groups;
use crate::lab::Error::{Exact, Product};
use crate::lab::{Lab, Sizes};
use kernels::{Backend, Draw, Drawn, HeadShape, NO_TARGET};

/// Scores as a model's are: most of them far below the best, some tied, in more tokens than are ever sorted.
fn logits<B: Backend>(lab: &mut Lab<B>, rows: usize, vocab_size: usize) -> B::Tensor {
    let values: Vec<f32> = lab.noise(rows * vocab_size).iter().map(|x| (x * 64.0).round() / 8.0).collect();
    lab.exact_of(&values)
}

pub(crate) fn draw<B: Backend>(lab: &mut Lab<B>, [rows, vocab_size, top_k, seed]: Sizes) {
    let vocab_size = 8 * vocab_size;
    let logits = logits(lab, rows, vocab_size);
    let added: Vec<(u32, f32)> =
        (0..vocab_size as u32).step_by(3).map(|id| (id, if id % 2 == 0 { 3.0 } else { -100.0 })).collect();
    let allowed: Vec<u32> =
        lab.indices(vocab_size.div_ceil(32), 1 << 31).iter().map(|word| word | 1).collect();
    let none = vec![0; allowed.len()];
    let draw = |row: usize| Draw {
        temperature: [1.0, 0.0, 0.7, 1e-9, f32::INFINITY][row % 5],
        top_k: [0, top_k, 2 * top_k, 1][row / 2 % 4],
        top_p: [1.0, 0.9, 0.3, 0.999, 0.0][row / 3 % 5],
        random: [seed as u64, 3, row as u64],
        n_tokens: vocab_size - row % 2,
        added: if row % 4 == 1 { &added[..1] } else { [&[], &added[..added.len() - 1]][row / 5 % 2] },
        allowed: [None, None, Some(&allowed[..]), Some(&none[..])][row / 7 % 4],
    };
    let draws: Vec<Draw<'_>> = (0..rows).map(draw).collect();
    let mut drawn = vec![Drawn::Nothing; rows];
    lab.backend.draw(&mut drawn, &logits, vocab_size, &draws);
    let number = |drawn: &Drawn| match drawn {
        Drawn::Token(id) => f64::from(*id),
        Drawn::Nothing => -1.0,
        Drawn::NotFinite => -2.0,
    };
    lab.record_host("drawn", drawn.iter().map(number).collect(), Exact);
}

pub(crate) fn token_logprobs<B: Backend>(lab: &mut Lab<B>, [rows, vocab_size, count, _]: Sizes) {
    let logits = logits(lab, rows, vocab_size);
    let mut asked: Vec<usize> = lab.indices(count, rows).iter().map(|row| *row as usize).collect();
    asked.sort_unstable();
    let asked: Vec<(usize, u32)> = asked.into_iter().zip(lab.indices(count, vocab_size)).collect();
    let mut said = vec![None; count];
    lab.backend.token_logprobs(&mut said, &logits, vocab_size, &asked);
    let said: Vec<_> = said.into_iter().map(|said| said.expect("logits are finite")).collect();
    lab.record_host("logprob", said.iter().map(|said| said.logprob).collect(), Exact);
    lab.record_host("is_best", said.iter().map(|said| f64::from(u8::from(said.is_best))).collect(), Exact);
}

pub(crate) fn likeliest<B: Backend>(lab: &mut Lab<B>, [rows, vocab_size, count, _]: Sizes) {
    let logits = logits(lab, rows, 8 * vocab_size);
    let mut ids = vec![0; count.min(8 * vocab_size)];
    lab.backend.likeliest(&mut ids, &logits, 8 * vocab_size, rows - 1);
    lab.record_host("ids", ids.into_iter().map(f64::from).collect(), Exact);
}

fn head_shape([rows, d_model, vocab_size, _]: Sizes) -> HeadShape {
    let (temperature, z_loss) = ([1.0, 0.8][rows % 2], [0.0, 0.05][d_model % 2]);
    HeadShape { temperature, z_loss, ..HeadShape::new(rows, d_model, vocab_size) }
}

/// Every fifth row has no target.
fn head_targets<B: Backend>(lab: &mut Lab<B>, shape: &HeadShape) -> B::Ids {
    let mut targets = lab.indices(shape.rows, shape.vocab_size);
    targets.iter_mut().skip(3).step_by(5).for_each(|target| *target = NO_TARGET);
    lab.ids_of(&targets)
}

fn head_weight<B: Backend>(lab: &mut Lab<B>, shape: &HeadShape) -> B::Tensor {
    let weight = lab.noise_of_sums(shape.vocab_size * shape.d_model, shape.d_model);
    lab.exact_of(&weight)
}

pub(crate) fn head_forward<B: Backend>(lab: &mut Lab<B>, sizes: Sizes) {
    let shape = head_shape(sizes);
    let hidden = lab.activation(shape.rows * shape.d_model);
    let weight = head_weight(lab, &shape);
    let targets = head_targets(lab, &shape);
    // What is written is appended, and to nothing too.
    let (mut logprobs, mut entropies) = (lab.scalars_of(&[0.5, -0.5]), lab.scalars_of(&[]));
    lab.backend.head_forward(&mut logprobs, Some(&mut entropies), &hidden, &weight, &targets, &shape);
    lab.backend.head_forward(&mut logprobs, None, &hidden, &weight, &targets, &shape);
    lab.record_scalars("logprobs and entropies", &[&logprobs, &entropies], Product);
}

pub(crate) fn head_backward<B: Backend>(lab: &mut Lab<B>, sizes: Sizes) {
    let shape = head_shape(sizes);
    let [.., most] = sizes;
    let (hidden, mut dhidden) =
        (lab.activation(shape.rows * shape.d_model), lab.activation(shape.rows * shape.d_model));
    let weight = head_weight(lab, &shape);
    let mut dweight = lab.exact(shape.vocab_size * shape.d_model);
    let targets = head_targets(lab, &shape);
    let [dlogprobs, dentropies]: [Vec<f64>; 2] =
        [(); 2].map(|()| lab.noise(shape.rows).into_iter().map(f64::from).collect());
    let [dlogprobs, dentropies] = [dlogprobs, dentropies].map(|values| lab.scalars_of(&values));
    for (dentropies, learned) in [(None, true), (Some(&dentropies), true), (None, false)] {
        let mut logprobs = lab.scalars_of(&[0.5, -0.5]);
        lab.backend.head_backward(
            &mut logprobs,
            &mut dhidden,
            learned.then_some(&mut dweight),
            &dlogprobs,
            dentropies,
            &hidden,
            &weight,
            &targets,
            &shape,
            &groups(shape.rows, most),
        );
        lab.record_scalars("logprobs", &[&logprobs], Product);
        lab.record("dhidden", &dhidden, Product);
        lab.record("dweight", &dweight, Product);
    }
}
