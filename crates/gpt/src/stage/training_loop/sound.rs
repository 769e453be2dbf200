//! When a training has gone wrong: what is not finite, and what has exploded.
//!
//! A step is *left out* where its loss or gradient is not finite: nothing has changed. A training has
//! *exploded* where the model is much further from what is right than guessing is. What counts as much is
//! beyond what any training that learns comes to:
//!
//! * in nats, the larger of the loss of guessing and the first step's loss, and 10 more: what is right gets
//!   less than e⁻¹⁰, a 22,000th, of the probability that guessing gives it, in the mean over a whole batch;
//! * of squared errors, ten times the larger of both.
//!
//! The held-out loss has the same limit, but only as long as the training loss is not below where it began: a
//! model that knows its few examples by heart may be as sure, and wrong, about others. Figures that are not
//! finite are never sound.

use super::training::{Evaluation, Guessing, Step};
use anyhow::{Result, ensure};

/// Nats above guessing, or above the beginning, from which on a training has exploded.
const MARGIN_NATS: f64 = 10.0;
/// The factor that takes their place where losses are squares.
const SQUARES: f64 = 10.0;

impl Guessing {
    /// The loss above which a training has exploded that began at `first`.
    fn limit(self, first: f64) -> f64 {
        match self {
            Guessing::Nats(guessing) => guessing.max(first) + MARGIN_NATS,
            Guessing::Squares(guessing) => SQUARES * guessing.max(first),
        }
    }

    fn loss(self) -> f64 {
        match self {
            Guessing::Nats(loss) | Guessing::Squares(loss) => loss,
        }
    }
}

/// What is held against a step.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Fault {
    /// Nothing was changed, as something was not finite.
    LeftOut(String),
    /// The step's loss is beyond the limit, or the stage says that it exploded.
    Exploded(String),
    /// The state after the step is not sound, by its held-out figures.
    Unsound(String),
}

impl Fault {
    /// Why, for people.
    pub(super) fn why(&self) -> &str {
        match self {
            Fault::LeftOut(why) | Fault::Exploded(why) | Fault::Unsound(why) => why,
        }
    }
}

/// What is wrong with a step, and with the state after it where that was measured; `first` is the first
/// step's loss.
pub(super) fn fault(
    step: &Step,
    evaluation: Option<&Evaluation>,
    guessing: Option<Guessing>,
    first: Option<f64>,
) -> Option<Fault> {
    let first = first.filter(|first| first.is_finite());
    let limit = guessing.map(|guessing| (guessing.loss(), guessing.limit(first.unwrap_or(0.0))));
    let beyond = |loss: f64| limit.filter(|(_, limit)| loss > *limit);
    let explain = |what: &str, loss: f64, guessing: f64| {
        let first = first.map_or(String::new(), |first| format!("training began at {first:.4}, "));
        format!("{what} is {}, while {first}guessing costs {guessing:.4}", shown(loss))
    };
    if let Some(evaluation) = evaluation {
        if let Err(error) = evaluation.check() {
            return Some(Fault::Unsound(error.to_string()));
        }
        let learned = step.loss.zip(first).is_some_and(|(loss, first)| loss < first);
        if let Some((loss, (guessing, _))) = evaluation.loss().and_then(|loss| Some((loss, beyond(loss)?)))
            && !learned
        {
            return Some(Fault::Unsound(explain("the validation loss", loss, guessing)));
        }
    }
    if let Some(why) = &step.skipped {
        return Some(Fault::LeftOut(why.clone()));
    }
    if let Some(why) = &step.exploded {
        return Some(Fault::Exploded(why.clone()));
    }
    let (loss, (guessing, _)) = step.loss.and_then(|loss| Some((loss, beyond(loss)?)))?;
    Some(Fault::Exploded(explain("the loss", loss, guessing)))
}

/// A loss with as many digits as tell something.
fn shown(loss: f64) -> String {
    if loss < 1e4 { format!("{loss:.4}") } else { format!("{loss:.2e}") }
}

impl Evaluation {
    /// The held-out loss, where it is the measure of the training loss.
    pub(in crate::stage) fn loss(&self) -> Option<f64> {
        self.figure("val_loss")
    }

    /// Refuses figures that are not finite.
    pub(in crate::stage) fn check(&self) -> Result<()> {
        for (name, value) in &self.metrics {
            ensure!(value.is_finite(), "{name} is {value}, which is not finite");
        }
        Ok(())
    }
}

/// Refuses a final figure that is not finite.
pub(in crate::stage) fn finite(name: &str, value: f64) -> Result<f64> {
    ensure!(value.is_finite(), "the state that the run ended with is not sound: its {name} is {value}");
    Ok(value)
}

/// Why the first step's loss looks wrong beside the held-out loss before it, where it does: it is of the same
/// model, but for dropout, on the same kind of data.
pub(super) fn far_above(first: f64, before: f64) -> Option<String> {
    const FACTOR: f64 = 2.0;
    const NATS: f64 = 1.0;
    (first > FACTOR * before + NATS)
        .then(|| format!("the first training loss, {first:.2}, is far above the validation loss before training, {before:.2}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(loss: f64) -> Step {
        Step { loss: Some(loss), tokens: 1, flops: 1.0, ..Step::default() }
    }

    fn held_out(loss: f64) -> Evaluation {
        Evaluation { metrics: vec![("val_loss", loss), ("val_accuracy", 0.5)], line: String::new() }
    }

    #[test]
    fn what_learns_is_sound_and_what_explodes_is_not() {
        let guessing = Some(Guessing::Nats(300f64.ln()));
        let fault_of = |loss: f64, val: Option<f64>, first: f64| {
            let evaluation = val.map(held_out);
            fault(&step(loss), evaluation.as_ref(), guessing, Some(first))
        };
        for (loss, val, first) in [
            // Untrained, learning, by heart and wrong about the rest, a bad batch, a model that began worse
            // than guessing.
            (5.8, Some(5.8), 5.8),
            (1.2, Some(1.4), 5.8),
            (0.01, Some(19.0), 5.8),
            (15.0, None, 5.8),
            (24.0, Some(24.0), 20.0),
        ] {
            assert_eq!(fault_of(loss, val, first), None, "{loss} {val:?} {first}");
        }
        let exploded = fault_of(7.1e16, None, 5.8).unwrap();
        assert_eq!(
            exploded,
            Fault::Exploded(
                "the loss is 7.10e16, while training began at 5.8000, guessing costs 5.7038".into()
            )
        );
        for (loss, val) in [(5.8, 16.0), (1.0, f64::NAN), (5.8, f64::INFINITY)] {
            assert!(matches!(fault_of(loss, Some(val), 5.8), Some(Fault::Unsound(_))), "{loss} {val}");
        }
        let left_out = Step { skipped: Some("gradient norm NaN".into()), ..step(f64::NAN) };
        assert_eq!(
            fault(&left_out, Some(&held_out(5.0)), guessing, None),
            Some(Fault::LeftOut("gradient norm NaN".into()))
        );
        assert!(matches!(
            fault(&left_out, Some(&held_out(50.0)), guessing, Some(5.8)),
            Some(Fault::Unsound(_))
        ));
    }

    #[test]
    fn squares_have_a_limit_of_their_own() {
        let fault_of = |loss: f64, first: f64| {
            fault(&step(loss), None, Some(Guessing::Squares(9.0)), Some(first)).is_some()
        };
        assert!(!fault_of(89.0, 0.5) && fault_of(91.0, 0.5) && !fault_of(150.0, 20.0));
    }

    #[test]
    fn a_stage_without_a_loss_is_checked_by_its_figures() {
        let none = Step { loss: None, ..step(0.0) };
        let evaluation = |kl: f64| Evaluation { metrics: vec![("eval/kl", kl)], line: String::new() };
        assert_eq!(fault(&none, Some(&evaluation(3.0)), None, None), None);
        assert_eq!(
            fault(&none, Some(&evaluation(f64::NAN)), None, None),
            Some(Fault::Unsound("eval/kl is NaN, which is not finite".into()))
        );
    }

    #[test]
    fn a_first_loss_far_above_validation_is_told() {
        assert!(far_above(11.2, 2.21).is_some_and(|why| why.contains("11.20") && why.contains("2.21")));
        assert_eq!((far_above(3.99, 2.21), far_above(0.9, 0.69)), (None, None));
    }
}
