//! A row of logits: its log-probability and entropy, and its gradients, in its place.

use super::{Gradients, Outputs, Step};
use crate::cpu::level::{LANES, multiversion, sum_by, sum_lanes};
use crate::cpu::math::exp;
use crate::cpu::pool::Disjoint;
use crate::cpu::scratch::Scratch;
use crate::cpu::{Precision, bf16};

impl Step<'_> {
    /// From logits to `outputs`, and with `gradients` to the logits' gradients, in their place.
    pub(super) fn softmax(
        &mut self,
        logits: &mut [f32],
        outputs: &mut Outputs<'_>,
        targets: &[u32],
        gradients: Option<&Gradients<'_>>,
    ) {
        let (level, precision, rows, width) = (self.level, self.precision, self.rows, self.shape.vocab_size);
        let (scale, z_loss) = (1.0 / self.shape.temperature, self.shape.z_loss);
        let (logits, logprobs) = (Disjoint::new(logits), Disjoint::new(outputs.logprobs));
        let entropies = outputs.entropies.as_deref_mut().map(Disjoint::new);
        self.pool.run(rows.len(), &|chunk, scratch: &mut Scratch| {
            let row = rows[chunk] as usize;
            let target = targets[row] as usize;
            // SAFETY: every chunk takes its own row.
            let (logits, logprob) =
                unsafe { (logits.slice(chunk * width, width), &mut logprobs.slice(row, 1)[0]) };
            let exps = scratch.buffers[0].floats(width);
            let (max, sum) = exp_row(level, exps, logits, scale);
            *logprob = f64::from(scale) * (f64::from(logits[target]) - f64::from(max)) - f64::from(sum).ln();
            if let Some(entropies) = &entropies {
                let mean = mean_row(level, exps, logits, scale, max, sum);
                // SAFETY: as above.
                unsafe { entropies.slice(row, 1)[0] = f64::from(sum).ln() - f64::from(mean) };
            }
            if let Some(Gradients { dlogprobs, dentropies, .. }) = gradients {
                let by_logit = (dlogprobs[row] * f64::from(scale)) as f32;
                // What the row's probabilities are multiplied by.
                let pull = match z_loss != 0.0 {
                    true => by_logit * (1.0 + 2.0 * z_loss * (scale * max + sum.ln())),
                    false => by_logit,
                };
                let factor = match dentropies {
                    None => -pull / sum,
                    Some(dentropies) => {
                        let by_entropy = (dentropies[row] * f64::from(scale)) as f32;
                        let mean = mean_row(level, exps, logits, scale, max, sum);
                        tilt_row(level, exps, logits, scale, max, mean, pull, by_entropy);
                        -1.0 / sum
                    }
                };
                let dtarget = by_logit + exps[target] * factor;
                match precision {
                    Precision::F32 => {
                        scale_row(level, logits, exps, factor);
                        logits[target] = dtarget;
                    }
                    Precision::Bf16 => {
                        let dlogits = first_half(logits);
                        scale_row_bf16(level, dlogits, exps, factor);
                        dlogits[target] = bf16::to_bf16(dtarget);
                    }
                }
            }
        });
    }
}

/// The memory of the first half of a row, for as many values of half the size.
pub(super) fn first_half(row: &mut [f32]) -> &mut [u16] {
    let len = row.len();
    // SAFETY: every bit pattern is a `u16`, whose alignment is smaller.
    let (_, halves, _) = unsafe { row.align_to_mut::<u16>() };
    &mut halves[..len]
}

multiversion! {
    /// The largest logit, and the sum of `exps[i] = exp(scale · (logits[i] - max))`.
    pub(super) fn exp_row(exps: &mut [f32], logits: &[f32], scale: f32) -> (f32, f32) {
        let mut lanes = [f32::NEG_INFINITY; LANES];
        let (whole, rest) = logits.as_chunks::<LANES>();
        for logits in whole {
            for (lane, &logit) in lanes.iter_mut().zip(logits) {
                *lane = if logit > *lane { logit } else { *lane };
            }
        }
        let max = lanes.iter().chain(rest).fold(f32::NEG_INFINITY, |max, &logit| if logit > max { logit } else { max });

        let mut lanes = [0.0; LANES];
        let (whole_exps, rest_exps) = exps.as_chunks_mut::<LANES>();
        for (exps, logits) in whole_exps.iter_mut().zip(whole) {
            for (lane, (e, &logit)) in lanes.iter_mut().zip(exps.iter_mut().zip(logits)) {
                *e = exp(scale * (logit - max));
                *lane += *e;
            }
        }
        for (lane, (e, &logit)) in lanes.iter_mut().zip(rest_exps.iter_mut().zip(rest)) {
            *e = exp(scale * (logit - max));
            *lane += *e;
        }
        (max, sum_lanes(lanes))
    }

    /// The mean of `scale · (logits[i] - max)` under the row's probabilities: `ln sum` minus it is their
    /// entropy.
    fn mean_row(exps: &[f32], logits: &[f32], scale: f32, max: f32, sum: f32) -> f32 {
        sum_by(exps, logits, |e, logit| e * (scale * (logit - max))) / sum
    }

    /// `exps[i] *= pull + by_entropy · (log p[i] + H)`.
    fn tilt_row(
        exps: &mut [f32],
        logits: &[f32],
        scale: f32,
        max: f32,
        mean: f32,
        pull: f32,
        by_entropy: f32,
    ) {
        for (e, &logit) in exps.iter_mut().zip(logits) {
            *e *= pull + by_entropy * (scale * (logit - max) - mean);
        }
    }

    /// `out = factor · x`.
    pub(super) fn scale_row(out: &mut [f32], x: &[f32], factor: f32) {
        for (out, x) in out.iter_mut().zip(x) {
            *out = factor * x;
        }
    }

    /// `out = factor · x`, rounded.
    pub(super) fn scale_row_bf16(out: &mut [u16], x: &[f32], factor: f32) {
        for (out, x) in out.iter_mut().zip(x) {
            *out = bf16::to_bf16(factor * x);
        }
    }
}
