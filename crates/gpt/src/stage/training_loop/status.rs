//! Status lines and samples, as people see them while training goes on.

use super::{Machine, Step, Training, TrainingLoop};
use crate::numbers::{count, scaled};
use crate::train::run::Sample;
use anyhow::Result;

impl TrainingLoop<'_> {
    /// `step  20/300`.
    pub(super) fn place(&self) -> String {
        let steps = self.pace.steps;
        let width = steps.to_string().len();
        format!("step {:>width$}/{steps}", self.step)
    }

    /// What is told of a step, the most needed first: where it is, how well it went, how fast, and the rest.
    pub(super) fn columns(&self, step: &Step, tokens_per_sec: f64, mfu: f64) -> Vec<String> {
        let mut columns = vec![self.place()];
        let (first, rest) = step.columns.split_at(step.columns.len().min(2));
        columns.extend_from_slice(first);
        columns.push(format!("{:>6} tok/s", count(tokens_per_sec.round() as u64)));
        if mfu > 0.0 {
            columns.push(format!("{:2.0} % of peak", 100.0 * mfu));
        }
        columns.extend_from_slice(rest);
        columns
    }

    /// What the model writes now, for people and for `samples.jsonl`.
    pub(super) fn sample(&mut self, training: &mut dyn Training) -> Result<()> {
        let samples = training.samples()?;
        self.progress.samples(&samples, self.is_over());
        let step = self.step;
        self.run.lead(|run| {
            let mut samples = samples.into_iter();
            samples.try_for_each(|(prompt, completion)| run.sample(&Sample { step, prompt, completion }))
        })
    }

    /// The machine, and what its figures are, once for all stages of a road.
    pub(super) fn introduce_machine(&self) {
        let Machine { description, peak_flops, .. } = self.machine;
        self.progress.once(description);
        if peak_flops.is_finite() {
            let peak = scaled(*peak_flops);
            self.progress.once(&format!(
                "% of peak: what a step does of the {peak}FLOP/s that products alone reach here"
            ));
        }
    }
}
