//! What the loop does about a step that went wrong: it goes back, or ends the run as failed and says what to
//! change. What is wrong is decided in [`sound`](super::sound).

use super::sound::{Fault, far_above};
use super::{Step, Training, TrainingLoop};
use crate::checkpoint::{self, About};
use crate::model::NotFinite;
use crate::report;
use crate::train::run::{CHECKPOINTS, EventKind};
use anyhow::{Error, Result, anyhow};

/// After so many bad steps in a row, training returns to the last checkpoint.
const BAD_STEPS_IN_A_ROW: u32 = 3;

impl TrainingLoop<'_> {
    /// Says so where the first step's loss is far above the held-out loss before it.
    pub(super) fn compare_first_loss(&mut self, step: &Step) -> Result<()> {
        let both = step.loss.zip(self.before.get("val_loss").copied());
        let Some(why) = both.and_then(|(first, before)| far_above(first, before)) else { return Ok(()) };
        let dropout = self.settings.get("dropout").map_or_else(String::new, |p| format!(" {p}"));
        self.progress.line(&format!(
            "note: {why}: dropout{dropout} may be too much for this model (--set dropout=0), the form of the examples new to it, \
             such as another chat template, or the training data unlike the held-out data; if the loss does not fall within a \
             few steps, lower the learning rate (--lr)"
        ));
        self.event(EventKind::Warned, why)
    }

    /// Notes a bad step. Too many in a row, and training returns to the last checkpoint, so that it goes on
    /// from there with the data that comes next. At the end, a state that is sound by its held-out figures
    /// outweighs a single bad step.
    pub(super) fn handle_skipped_step(
        &mut self,
        fault: Option<Fault>,
        training: &mut dyn Training,
    ) -> Result<()> {
        let Some(fault) = fault else {
            (self.bad_steps, self.sound) = (0, Some(self.step));
            return Ok(());
        };
        self.bad_steps += 1;
        let (kind, what) = match fault {
            Fault::LeftOut(_) => (EventKind::SkippedStep, "skipped"),
            Fault::Exploded(_) | Fault::Unsound(_) => (EventKind::ExplodedStep, "exploded"),
        };
        self.progress.line(&format!("step {} {what}: {}", self.step, fault.why()));
        self.event(kind, fault.why().to_owned())?;
        if self.is_over() {
            let outweighed =
                self.bad_steps == 1 && self.sound.is_some() && !matches!(fault, Fault::Unsound(_));
            if !outweighed {
                return Err(self.fail(fault.why()));
            }
            self.bad_steps = 0;
        } else if self.bad_steps == BAD_STEPS_IN_A_ROW {
            self.go_back(&fault, training)?;
        }
        Ok(())
    }

    /// Returns to the newest checkpoint, or to the beginning; a second time to the same one, and training has
    /// failed.
    fn go_back(&mut self, fault: &Fault, training: &mut dyn Training) -> Result<()> {
        self.set_aside_unmeasured()?;
        (self.bad_steps, self.evaluation) = (0, None);
        let back_to = match self.newest(training)? {
            Some(about) => about.step,
            None => {
                training.restart()?;
                0
            }
        };
        if self.rolled_back_to == Some(back_to) {
            return Err(self.fail(&format!(
                "training does not recover: twice from step {back_to}, {BAD_STEPS_IN_A_ROW} steps in a row were bad (the last one: \
                 {})",
                fault.why()
            )));
        }
        self.rolled_back_to = Some(back_to);
        self.progress.line(&format!(
            "back to the state after step {back_to}, on with the data of step {}",
            self.step + 1
        ));
        Ok(())
    }

    /// Takes the newest checkpoint off the shelf where nothing tells that its state was sound: all steps
    /// since are bad, and it was not measured, as somebody had stopped the run.
    fn set_aside_unmeasured(&mut self) -> Result<()> {
        if self.saved != self.sound {
            return Ok(());
        }
        let saved = self.saved;
        self.saved = self.run.lead(|run| {
            let newest = checkpoint::newest_good(&run.path().join(CHECKPOINTS))?.found;
            let is_unmeasured = |about: &About| Some(about.step) == saved && about.evaluation.is_empty();
            if !newest.is_some_and(|(_, manifest)| is_unmeasured(&manifest.about)) {
                return Ok(saved);
            }
            run.set_aside_after(saved.and_then(|step| step.checked_sub(1)))?;
            Ok(run.checkpoints()?.last().map(|checkpoint| checkpoint.step))
        })?;
        self.sound = self.saved;
        Ok(())
    }

    /// The end of a run that failed: its page says so. The error says what is kept and what to change.
    fn fail(&mut self, why: &str) -> Error {
        let shown =
            |value: &toml::Value| value.as_float().map_or_else(|| value.to_string(), |x| format!("{x:e}"));
        let of = |key: &str| {
            self.settings.get(key).map_or_else(String::new, |value| format!(", here {}", shown(value)))
        };
        let (lr, warmup) = (of("lr"), of("warmup_steps"));
        let set_aside = self.set_aside_unmeasured();
        let kept = match self.saved {
            Some(step) => format!("the checkpoint of step {step} is kept, and is the run's model"),
            None => "no step left a sound state, so that the run holds no model".into(),
        };
        let told = set_aside.and_then(|()| self.event(EventKind::Failed, why.to_owned()));
        let told = told.and_then(|()| self.run.lead(|run| report::write(run.path())));
        let besides = told.err().map_or_else(String::new, |error| format!(" (what is more: {error:#})"));
        anyhow!(
            "training failed at step {}: {why}; {kept}{besides}. Try a lower learning rate (--lr{lr}) or a longer warm-up (--set \
             warmup_steps=…{warmup}), in another --out",
            self.step
        )
    }

    /// What a step, or what was asked of the state after it, failed of: where the model's numbers overflow,
    /// training has failed.
    pub(super) fn overflowed(&mut self, error: Error) -> Error {
        if error.is::<NotFinite>() {
            self.fail(&format!("{error:#}"))
        } else {
            error.context(format!("step {}", self.step))
        }
    }
}
