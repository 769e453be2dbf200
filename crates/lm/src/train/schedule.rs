//! The learning rate over a run.

use serde::{Deserialize, Serialize};

/// How the rate falls after the warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decay {
    /// Half a cosine (Loshchilov & Hutter 2017), as GPT-3 uses it.
    #[default]
    Cosine,
    /// A line, as GPT-1 uses it for fine-tuning.
    Linear,
}

/// Linear warm-up, then a fall from `lr` towards `min_lr_frac · lr`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    /// The highest rate.
    pub lr: f32,
    /// What is left at the end, as a fraction.
    pub min_lr_frac: f32,
    /// The way there.
    pub decay: Decay,
    /// Steps of the warm-up.
    pub warmup_steps: u64,
    /// Steps of the run.
    pub steps: u64,
}

impl Schedule {
    /// The rate of step `step`, counted from 1.
    pub fn at(&self, step: u64) -> f32 {
        let done = step - 1;
        let fraction = if done < self.warmup_steps {
            step as f64 / self.warmup_steps as f64
        } else {
            let span = self.steps.saturating_sub(self.warmup_steps).max(1) as f64;
            let progress = ((done - self.warmup_steps) as f64 / span).min(1.0);
            let low = f64::from(self.min_lr_frac);
            let left = match self.decay {
                Decay::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * progress).cos()),
                Decay::Linear => 1.0 - progress,
            };
            low + (1.0 - low) * left
        };
        (f64::from(self.lr) * fraction) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rises_in_a_line_and_falls_along_a_cosine() {
        let decay = Decay::Cosine;
        let schedule = Schedule { lr: 1.0, min_lr_frac: 0.1, decay, warmup_steps: 4, steps: 104 };
        assert_eq!(schedule.at(1), 0.25);
        assert_eq!(schedule.at(4), 1.0);
        assert_eq!(schedule.at(5), 1.0);
        assert!((schedule.at(55) - 0.55).abs() < 1e-6);
        assert!(schedule.at(104) > 0.1 && schedule.at(104) < 0.101);
        assert_eq!(schedule.at(1000), 0.1);
    }

    #[test]
    fn falls_in_a_line() {
        let decay = Decay::Linear;
        let schedule = Schedule { lr: 1.0, min_lr_frac: 0.0, decay, warmup_steps: 2, steps: 12 };
        assert_eq!([1, 2, 3, 8, 12].map(|step| schedule.at(step)), [0.5, 1.0, 1.0, 0.5, 0.1]);
    }

    #[test]
    fn without_warm_up_the_first_step_has_the_whole_rate() {
        let decay = Decay::Cosine;
        let schedule = Schedule { lr: 0.5, min_lr_frac: 0.0, decay, warmup_steps: 0, steps: 1 };
        assert_eq!(schedule.at(1), 0.5);
    }
}
