//! The head beside a teacher's: both kinds of logits exist for a chunk of rows at a time, and turn into the divergence of
//! their distributions and its gradients in place.

use super::super::gemm::{Blocks, Factor, Kernel, Right, pack_right};
use super::super::level::{multiversion, sum_by, sum_by3};
use super::super::math::{exp, ln};
use super::super::pool::{Disjoint, Pool};
use super::super::scratch::{Buffer, Scratch};
use super::super::tensor::Values;
use super::super::{Cpu, CpuTensor, Precision};
use super::softmax::{exp_row, first_half, scale_row, scale_row_bf16};
use super::{Gradients, Outputs, Step, run};
use crate::cpu::bf16::to_bf16;
use crate::distil::{log_tail, of_outcome};
use crate::shapes::{append, assert_groups, size_of_shape};
use crate::{Distil, DistilShape, HeadShape, StoredShape};

impl Distil for Cpu {
    fn distil_forward(
        &mut self,
        divergences: &mut Vec<f64>,
        [hidden, weight]: [&CpuTensor; 2],
        teacher: [&CpuTensor; 2],
        targets: &Vec<u32>,
        shape: &DistilShape,
    ) {
        let student = &shape.student;
        let teacher = Some(Teacher::model("distil_forward", teacher, shape));
        let outputs = Outputs { logprobs: append(divergences, student.rows), entropies: None };
        run(self, outputs, None, hidden, weight, teacher, targets, student, &[student.rows]);
    }

    fn distil_backward(
        &mut self,
        divergences: &mut Vec<f64>,
        dhidden: &mut CpuTensor,
        dweight: Option<&mut CpuTensor>,
        ddivergences: &Vec<f64>,
        student: [&CpuTensor; 2],
        teacher: [&CpuTensor; 2],
        targets: &Vec<u32>,
        shape: &DistilShape,
        groups: &[usize],
    ) {
        let teacher = Teacher::model("distil_backward", teacher, shape);
        let gradients = (dhidden, dweight, ddivergences.as_slice());
        learn(self, divergences, gradients, student, teacher, targets, &shape.student, groups);
    }

    fn stored_forward(
        &mut self,
        divergences: &mut Vec<f64>,
        [hidden, weight]: [&CpuTensor; 2],
        tokens: &Vec<u32>,
        logprobs: &Vec<f64>,
        targets: &Vec<u32>,
        shape: &StoredShape,
    ) {
        let student = &shape.student;
        let teacher = Some(Teacher::stored("stored_forward", (tokens, logprobs), shape));
        let outputs = Outputs { logprobs: append(divergences, student.rows), entropies: None };
        run(self, outputs, None, hidden, weight, teacher, targets, student, &[student.rows]);
    }

    fn stored_backward(
        &mut self,
        divergences: &mut Vec<f64>,
        dhidden: &mut CpuTensor,
        dweight: Option<&mut CpuTensor>,
        ddivergences: &Vec<f64>,
        student: [&CpuTensor; 2],
        tokens: &Vec<u32>,
        logprobs: &Vec<f64>,
        targets: &Vec<u32>,
        shape: &StoredShape,
        groups: &[usize],
    ) {
        let teacher = Teacher::stored("stored_backward", (tokens, logprobs), shape);
        let gradients = (dhidden, dweight, ddivergences.as_slice());
        learn(self, divergences, gradients, student, teacher, targets, &shape.student, groups);
    }
}

/// The backward pass of both.
#[allow(clippy::too_many_arguments)]
fn learn(
    cpu: &mut Cpu,
    divergences: &mut Vec<f64>,
    (dhidden, dweight, ddivergences): (&mut CpuTensor, Option<&mut CpuTensor>, &[f64]),
    [hidden, weight]: [&CpuTensor; 2],
    teacher: Teacher<'_>,
    targets: &[u32],
    shape: &HeadShape,
    groups: &[usize],
) {
    assert_eq!(dhidden.len(), hidden.len(), "values of dhidden");
    let learned = dweight.as_ref().map_or(weight.len(), |dweight| dweight.len());
    assert_eq!(learned, weight.len(), "values of dweight");
    assert_eq!(ddivergences.len(), shape.rows, "values of ddivergences");
    assert_groups(teacher.operation, groups, shape.rows);
    let dweight = dweight.map(CpuTensor::sink);
    let gradients = Gradients { dlogprobs: ddivergences, dentropies: None, dhidden: dhidden.sink(), dweight };
    let outputs = Outputs { logprobs: append(divergences, shape.rows), entropies: None };
    run(cpu, outputs, Some(gradients), hidden, weight, Some(teacher), targets, shape, groups);
}

/// Who is learned from, and by which β.
pub(super) struct Teacher<'a> {
    pub(super) operation: &'static str,
    who: Who<'a>,
    beta: f32,
}

enum Who<'a> {
    Model { hidden: &'a CpuTensor, weight: &'a CpuTensor, d_model: usize },
    Stored(Stored<'a>),
}

/// Some tokens of each row with their log-probabilities.
#[derive(Clone, Copy)]
pub(super) struct Stored<'a> {
    tokens: &'a [u32],
    logprobs: &'a [f64],
    k: usize,
}

/// What a teacher keeps from call to call.
#[derive(Default)]
pub(super) struct TeacherMemory {
    depth: Blocks,
    weight: Buffer,
    hidden: Buffer,
    logits: Buffer,
}

/// A teacher in a pass over its rows.
pub(super) enum Teaching<'a> {
    Model(Head<'a>, f32),
    Stored(Stored<'a>, f32),
}

/// The head of another model.
pub(super) struct Head<'a> {
    hidden: Values<'a>,
    weight: Right<'a>,
    depth: &'a Blocks,
    gathered: &'a mut Buffer,
    logits: &'a mut Buffer,
    d_model: usize,
}

impl<'a> Teacher<'a> {
    fn model(operation: &'static str, [hidden, weight]: [&'a CpuTensor; 2], shape: &DistilShape) -> Self {
        shape.check(operation);
        let &DistilShape { student: HeadShape { rows, vocab_size, .. }, teacher_d_model: d_model, beta } =
            shape;
        assert_eq!(hidden.len(), size_of_shape(operation, &[rows, d_model]), "values of teacher_hidden");
        assert_eq!(
            weight.len(),
            size_of_shape(operation, &[vocab_size, d_model]),
            "values of teacher_weight"
        );
        Teacher { operation, who: Who::Model { hidden, weight, d_model }, beta }
    }

    fn stored(
        operation: &'static str,
        (tokens, logprobs): (&'a [u32], &'a [f64]),
        shape: &StoredShape,
    ) -> Self {
        shape.check(operation, tokens, logprobs);
        Teacher { operation, who: Who::Stored(Stored { tokens, logprobs, k: shape.k }), beta: shape.beta }
    }

    /// Packs the matrix of a model.
    pub(super) fn begin(
        self,
        kernel: Kernel,
        pool: &mut Pool,
        memory: &'a mut TeacherMemory,
        shape: &HeadShape,
    ) -> Teaching<'a> {
        match self.who {
            Who::Stored(stored) => Teaching::Stored(stored, self.beta),
            Who::Model { hidden, weight, d_model } => {
                let TeacherMemory { depth, weight: words, hidden: gathered, logits } = memory;
                depth.clear();
                kernel.push(depth, d_model);
                let words = words.words(kernel.packed_words(depth, shape.vocab_size));
                let factor = Factor::along_k(weight.values(), d_model);
                let weight = pack_right(kernel, pool, words, factor, depth, shape.vocab_size);
                let hidden = hidden.values();
                Teaching::Model(Head { hidden, weight, depth, gathered, logits, d_model }, self.beta)
            }
        }
    }
}

impl Teaching<'_> {
    /// From the student's logits of a step to `divergences`, and with `gradients` to the gradients of these logits, in their
    /// place.
    pub(super) fn diverge(
        &mut self,
        step: &mut Step<'_>,
        logits: &mut [f32],
        divergences: &mut [f64],
        gradients: Option<&Gradients<'_>>,
    ) {
        match self {
            Teaching::Model(head, beta) => {
                let theirs = head.logits(step);
                step.diverge(logits, theirs, *beta, divergences, gradients);
            }
            Teaching::Stored(stored, beta) => {
                step.diverge_stored(logits, *stored, *beta, divergences, gradients);
            }
        }
    }
}

impl Head<'_> {
    /// Its logits of the rows of a step.
    fn logits(&mut self, step: &mut Step<'_>) -> &mut [f32] {
        let gathered = step.gather(self.hidden, self.d_model, self.gathered);
        let logits = self.logits.floats(step.rows.len() * step.shape.vocab_size);
        step.logits(logits, (gathered, self.d_model), self.weight, self.depth);
        logits
    }
}

impl Step<'_> {
    fn diverge(
        &mut self,
        logits: &mut [f32],
        teacher: &mut [f32],
        beta: f32,
        divergences: &mut [f64],
        gradients: Option<&Gradients<'_>>,
    ) {
        let (level, precision, rows, width) = (self.level, self.precision, self.rows, self.shape.vocab_size);
        let scale = 1.0 / self.shape.temperature;
        let (logits, teacher) = (Disjoint::new(logits), Disjoint::new(teacher));
        let divergences = Disjoint::new(divergences);
        self.pool.run(rows.len(), &|chunk, scratch: &mut Scratch| {
            let row = rows[chunk] as usize;
            // SAFETY: every chunk takes its own row.
            let (logits, ratios, divergence) = unsafe {
                let part = (chunk * width, width);
                (
                    logits.slice(part.0, part.1),
                    teacher.slice(part.0, part.1),
                    &mut divergences.slice(row, 1)[0],
                )
            };
            let [q, p, ..] = &mut scratch.buffers;
            let (q, p) = (q.floats(width), p.floats(width));
            let (max, sum) = exp_row(level, q, logits, scale);
            let (p_max, p_sum) = exp_row(level, p, ratios, scale);
            let shift = scale * (max - p_max) + (f64::from(sum).ln() - f64::from(p_sum).ln()) as f32;
            ratio_row(level, ratios, logits, scale, shift);
            // The student's `g` of each token but for a factor, and its mean.
            let (factor, mean) = if beta == 0.0 {
                *divergence = f64::from(product_sum(level, p, ratios) / p_sum);
                (1.0, 0.0)
            } else if beta == 1.0 {
                let mean = product_sum(level, q, ratios) / sum;
                *divergence = -f64::from(mean);
                (-1.0, mean)
            } else {
                mixture_row(level, logits, ratios, beta);
                let mean = product_sum(level, q, logits) / sum;
                let theirs = product_sum_of_sum(level, p, logits, ratios) / p_sum;
                *divergence = f64::from(beta * theirs + (1.0 - beta) * mean);
                ratios.copy_from_slice(logits);
                (1.0 - beta, mean)
            };
            if let Some(Gradients { dlogprobs: ddivergences, .. }) = gradients {
                let by = (ddivergences[row] * f64::from(scale)) as f32;
                match beta {
                    0.0 => difference_row(level, q, p, by / sum, by / p_sum),
                    _ => tilt_row(level, q, ratios, by * factor / sum, mean),
                }
                match precision {
                    Precision::F32 => scale_row(level, logits, q, 1.0),
                    Precision::Bf16 => scale_row_bf16(level, first_half(logits), q, 1.0),
                }
            }
        });
    }

    fn diverge_stored(
        &mut self,
        logits: &mut [f32],
        Stored { tokens, logprobs, k }: Stored<'_>,
        beta: f32,
        divergences: &mut [f64],
        gradients: Option<&Gradients<'_>>,
    ) {
        let (level, precision, rows, width) = (self.level, self.precision, self.rows, self.shape.vocab_size);
        let (scale, beta) = (1.0 / self.shape.temperature, f64::from(beta));
        let (logits, divergences) = (Disjoint::new(logits), Disjoint::new(divergences));
        self.pool.run(rows.len(), &|chunk, scratch: &mut Scratch| {
            let row = rows[chunk] as usize;
            // SAFETY: every chunk takes its own row.
            let (logits, divergence) =
                unsafe { (logits.slice(chunk * width, width), &mut divergences.slice(row, 1)[0]) };
            let [q, learned, ..] = &mut scratch.buffers;
            let (q, learned) = (q.floats(width), learned.floats(k));
            let (max, sum) = exp_row(level, q, logits, scale);
            let (tokens, logprobs) = (&tokens[row * k..][..k], &logprobs[row * k..][..k]);
            // Summed without the others, since little may be left of the whole sum.
            tokens.iter().for_each(|&token| q[token as usize] = 0.0);
            let tail = f64::from(sum_row(level, q).max(f32::MIN_POSITIVE));
            let log_sum = f64::from(sum).ln();
            let log_q = |token: u32| f64::from(scale * (logits[token as usize] - max)) - log_sum;
            let known = || tokens.iter().zip(logprobs).map(|(&token, &log_p)| (log_q(token), log_p));
            let of_tail = of_outcome(log_tail(logprobs), tail.ln() - log_sum, beta);
            let (mut value, mut mean) = of_tail;
            for (log_q, log_p) in known() {
                let (share, qg) = of_outcome(log_p, log_q, beta);
                value += share;
                mean += qg;
            }
            *divergence = value;
            let Some(Gradients { dlogprobs: ddivergences, .. }) = gradients else { return };
            let by = ddivergences[row] * f64::from(scale);
            for (learned, (log_q, log_p)) in learned.iter_mut().zip(known()) {
                *learned = (by * (of_outcome(log_p, log_q, beta).1 - log_q.exp() * mean)) as f32;
            }
            let factor = (by * (of_tail.1 / tail - mean / f64::from(sum))) as f32;
            match precision {
                Precision::F32 => {
                    scale_row(level, logits, q, factor);
                    tokens.iter().zip(learned).for_each(|(&token, d)| logits[token as usize] = *d);
                }
                Precision::Bf16 => {
                    let logits = first_half(logits);
                    scale_row_bf16(level, logits, q, factor);
                    tokens.iter().zip(learned).for_each(|(&token, d)| logits[token as usize] = to_bf16(*d));
                }
            }
        });
    }
}

/// Beyond this, in nats, the less likely of two probabilities is 0 beside the other in any precision.
const FARTHEST: f32 = 80.0;

multiversion! {
    /// `theirs = log p - log q`, from both kinds of logits; `shift` is the difference of what they are reduced by.
    fn ratio_row(theirs: &mut [f32], ours: &[f32], scale: f32, shift: f32) {
        for (theirs, ours) in theirs.iter_mut().zip(ours) {
            *theirs = scale * (*theirs - ours) + shift;
        }
    }

    /// `out = log q - log m` and `ratios = log p - log q`, which becomes no larger than [`FARTHEST`].
    fn mixture_row(out: &mut [f32], ratios: &mut [f32], beta: f32) {
        for (out, ratio) in out.iter_mut().zip(ratios) {
            let near = if *ratio > FARTHEST { FARTHEST } else { *ratio };
            let near = if near < -FARTHEST { -FARTHEST } else { near };
            *ratio = near;
            *out = -ln((1.0 - beta) + beta * exp(near));
        }
    }

    /// `Σ aᵢ`.
    fn sum_row(a: &[f32]) -> f32 {
        sum_by(a, a, |a, _| a)
    }

    /// `Σ aᵢ bᵢ`.
    fn product_sum(a: &[f32], b: &[f32]) -> f32 {
        sum_by(a, b, |a, b| a * b)
    }

    /// `Σ aᵢ (bᵢ + cᵢ)`.
    fn product_sum_of_sum(a: &[f32], b: &[f32], c: &[f32]) -> f32 {
        sum_by3(a, b, c, |a, b, c| a * (b + c))
    }

    /// `q = by_q · q - by_p · p`.
    fn difference_row(q: &mut [f32], p: &[f32], by_q: f32, by_p: f32) {
        for (q, p) in q.iter_mut().zip(p) {
            *q = by_q * *q - by_p * p;
        }
    }

    /// `q *= factor · (g - mean)`.
    fn tilt_row(q: &mut [f32], g: &[f32], factor: f32, mean: f32) {
        for (q, g) in q.iter_mut().zip(g) {
            *q *= factor * (g - mean);
        }
    }
}
