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
    /// `1 - √x`, fast at first (Hägele et al. 2024).
    Sqrt,
}

impl Decay {
    /// Whether it is the usual one.
    pub fn is_usual(&self) -> bool {
        *self == Decay::default()
    }

    /// What is left after a share `x` of the fall.
    fn left(self, x: f64) -> f64 {
        match self {
            Decay::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * x).cos()),
            Decay::Linear => 1.0 - x,
            Decay::Sqrt => 1.0 - x.sqrt(),
        }
    }
}

/// Linear warm-up, then a fall from `lr` towards `min_lr_frac · lr`; between them, where the fall has steps of its own,
/// the rate is stable: warm-up, stable, decay (Hu et al. 2024).
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
    /// Steps of the fall, the last of the run; none for all after the warm-up.
    pub decay_steps: Option<u64>,
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
            let after = self.steps.saturating_sub(self.warmup_steps);
            let span = self.decay_steps.unwrap_or(after).min(after);
            let begins = self.warmup_steps + (after - span);
            let progress = (done.saturating_sub(begins) as f64 / span.max(1) as f64).min(1.0);
            let low = f64::from(self.min_lr_frac);
            low + (1.0 - low) * self.decay.left(progress)
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
        let schedule =
            Schedule { lr: 1.0, min_lr_frac: 0.1, decay, warmup_steps: 4, decay_steps: None, steps: 104 };
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
        let schedule =
            Schedule { lr: 1.0, min_lr_frac: 0.0, decay, warmup_steps: 2, decay_steps: None, steps: 12 };
        assert_eq!([1, 2, 3, 8, 12].map(|step| schedule.at(step)), [0.5, 1.0, 1.0, 0.5, 0.1]);
    }

    #[test]
    fn without_warm_up_the_first_step_has_the_whole_rate() {
        let decay = Decay::Cosine;
        let schedule =
            Schedule { lr: 0.5, min_lr_frac: 0.0, decay, warmup_steps: 0, decay_steps: None, steps: 1 };
        assert_eq!(schedule.at(1), 0.5);
    }

    /// The rates of `transformers`' schedule of this kind.
    #[test]
    fn stays_at_the_whole_rate_and_falls_at_the_end() {
        for (decay, falls) in [
            (Decay::Linear, [1.0, 0.82, 0.64, 0.46, 0.28]),
            (Decay::Cosine, [1.0, 0.914058, 0.689058, 0.410942, 0.185942]),
            (Decay::Sqrt, [1.0, 0.597508, 0.430790, 0.302863, 0.195016]),
        ] {
            let schedule = Schedule {
                lr: 1.0,
                min_lr_frac: 0.1,
                decay,
                warmup_steps: 4,
                decay_steps: Some(5),
                steps: 13,
            };
            assert_eq!([1, 4, 5, 8].map(|step| schedule.at(step)), [0.25, 1.0, 1.0, 1.0]);
            for (step, rate) in (9..).zip(falls) {
                assert!(
                    (schedule.at(step) - rate).abs() < 1e-6,
                    "{decay:?}, step {step}: {}",
                    schedule.at(step)
                );
            }
            assert!((schedule.at(14) - 0.1).abs() < 1e-6);
        }
    }

    #[test]
    fn a_fall_is_no_longer_than_what_follows_the_warm_up() {
        let of = |decay_steps| {
            let decay = Decay::Linear;
            Schedule { lr: 1.0, min_lr_frac: 0.0, decay, warmup_steps: 2, decay_steps, steps: 12 }
        };
        for step in 1..=12 {
            assert_eq!(of(Some(99)).at(step), of(None).at(step));
        }
    }
}
