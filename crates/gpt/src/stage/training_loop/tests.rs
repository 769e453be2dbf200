//! The loop with a training whose losses are written down before.

use super::*;
use crate::checkpoint::{Checkpoint, Contents, Dtype, from_host, newest_good};
use crate::model::{Config, NotFinite, specs};
use crate::progress::Silent;
use crate::train::run::RunDir;
use serde_json::json;
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use tempfile::tempdir;

/// What a step gives: its loss, and the held-out loss and accuracy after it.
type Scripted = (f64, f64, f64);

struct Script<'s> {
    steps: &'s [Scripted],
    before: f64,
    at: usize,
    restored: Vec<u64>,
    restarted: u32,
    overflows_at: u64,
    evaluations: u32,
}

impl<'s> Script<'s> {
    fn new(steps: &'s [Scripted]) -> Self {
        Script {
            steps,
            before: 5.0,
            at: 0,
            restored: Vec::new(),
            restarted: 0,
            overflows_at: 0,
            evaluations: 0,
        }
    }
}

impl Training for Script<'_> {
    fn step(&mut self, step: u64, cancel: Cancel<'_>) -> Result<Step> {
        cancel.check()?;
        if step == self.overflows_at {
            return Err(NotFinite { sequence: 0, tokens: 7 }.into());
        }
        self.at = step as usize;
        let loss = self.steps[self.at - 1].0;
        Ok(Step {
            metrics: Map::from_iter([("loss".to_owned(), json!(loss))]),
            loss: Some(loss),
            tokens: 1,
            flops: 1.0,
            skipped: (!loss.is_finite()).then(|| format!("gradient norm {loss}")),
            ..Step::default()
        })
    }

    fn evaluate(&mut self, cancel: Cancel<'_>) -> Result<Evaluation> {
        cancel.check()?;
        self.evaluations += 1;
        let (_, loss, accuracy) = self.steps[self.at.max(1) - 1];
        Ok(Evaluation { metrics: vec![("val_loss", loss), ("val_accuracy", accuracy)], line: String::new() })
    }

    fn samples(&mut self) -> Result<Vec<(String, String)>> {
        Ok(Vec::new())
    }

    fn state(&mut self) -> &mut dyn State {
        self
    }

    fn begin(&mut self, _: &dyn Progress, cancel: Cancel<'_>) -> Result<Option<Evaluation>> {
        cancel.check()?;
        Ok(Some(Evaluation { metrics: vec![("val_loss", self.before)], line: String::new() }))
    }

    fn guessing(&self) -> Option<Guessing> {
        Some(Guessing::Nats(5.0))
    }
}

impl State for Script<'_> {
    fn save(&mut self, dir: &Path, about: About) -> Result<()> {
        let config = Config::gpt2(7, 5, 1, 1, 2);
        let weights = specs(&config).map(|spec| vec![0.5; spec.len()]);
        let contents = Contents {
            config: &config,
            weights: &weights,
            dtype: Dtype::F32,
            moments: None,
            beside: &[],
            read: &mut from_host,
            eot_token: None,
            eos_token: None,
            end_tokens: &[],
            files: &[],
            about,
        };
        checkpoint::save(dir, contents)
    }

    fn restore(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        let step = checkpoint.manifest.as_ref().unwrap().about.step;
        self.at = step as usize;
        self.restored.push(step);
        Ok(())
    }

    fn restart(&mut self) -> Result<()> {
        self.restarted += 1;
        Ok(())
    }
}

/// Runs a script, saving after every `every` steps.
fn run_with(out: &Path, script: &mut Script<'_>, every: u64, best: Best) -> Result<Ending> {
    let recipe = Recipe::new("sft", toml::toml! { lr = 1e9 warmup_steps = 7 dropout = 0.2 });
    let machine = Machine { peak_flops: 1.0, ..Machine::unmeasured() };
    let steps = script.steps.len() as u64;
    let pace = Pace {
        steps,
        eval_every: every,
        checkpoint_every: every,
        sample_every: 0,
        keep_last: 1,
        kept: None,
        best,
    };
    train(out, &recipe, pace, 1, &machine, script, &Silent)
}

fn run(out: &Path, script: &mut Script<'_>) -> Result<Ending> {
    run_with(out, script, 1, Best { metric: "val_loss", highest: false, at_the_end: false })
}

fn newest(out: &Path) -> Option<About> {
    newest_good(&out.join(CHECKPOINTS)).unwrap().found.map(|(_, manifest)| manifest.about)
}

fn events(out: &Path) -> String {
    fs::read_to_string(out.join("events.jsonl")).unwrap()
}

#[test]
fn tensorboard_has_a_file_for_each_time_that_a_run_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let recipe = Recipe::new("sft", toml::Table::new());
    let machine = Machine { tensorboard: true, ..Machine::unmeasured() };
    let best = Best { metric: "val_loss", highest: false, at_the_end: false };
    let script = [(5.0, 4.9, 0.5), (4.0, 4.1, 0.6), (3.0, 3.3, 0.6)];
    for steps in [2, 3] {
        let pace = Pace {
            steps,
            eval_every: 1,
            checkpoint_every: 1,
            sample_every: 0,
            keep_last: 1,
            kept: None,
            best,
        };
        train(dir.path(), &recipe, pace, 1, &machine, &mut Script::new(&script), &Silent).unwrap();
    }
    let files = fs::read_dir(dir.path().join("tensorboard")).unwrap().map(|file| file.unwrap().path());
    let mut files: Vec<Vec<u8>> = files.map(|path| fs::read(path).unwrap()).collect();
    files.sort_by_key(|bytes| std::cmp::Reverse(bytes.len()));
    let times =
        |bytes: &[u8], name: &str| bytes.windows(name.len()).filter(|of| *of == name.as_bytes()).count();
    let counts: Vec<[usize; 2]> =
        files.iter().map(|bytes| [times(bytes, "val_loss"), times(bytes, "tokens_per_sec")]).collect();
    assert_eq!(counts, [[2, 2], [1, 1]], "a value for each step, once");
}

#[test]
fn what_explodes_at_the_end_fails_and_the_last_good_state_stays() {
    let good = [(5.0, 4.9, 0.5), (4.0, 4.1, 0.6), (3.0, 3.3, 0.6), (2.5, 2.9, 0.7)];
    let ends: [&[Scripted]; 4] = [
        &[(7e16, 7e16, 0.9), (7e16, f64::NAN, 0.9)],
        &[(f64::NAN, f64::INFINITY, 0.9)],
        &[(5.0, 16.0, 0.9)],
        &[(f64::NAN, 3.0, 0.9), (f64::NAN, 3.0, 0.9)],
    ];
    for end in ends {
        let steps = [&good, end].concat();
        let dir = tempdir().unwrap();
        let mut said = Vec::new();
        // The second time from what the first left.
        for _ in 0..2 {
            let error = format!("{:#}", run(dir.path(), &mut Script::new(&steps)).unwrap_err());
            for part in [
                format!("training failed at step {}", steps.len()).as_str(),
                "the checkpoint of step 4 is kept",
                "--lr, here 1e9)",
                "--set warmup_steps=…, here 7",
            ] {
                assert!(error.contains(part), "{part}: {error}");
            }
            assert_eq!(newest(dir.path()).unwrap().step, 4);
            said.push(error);
        }
        assert_eq!(said[0], said[1]);
        assert!(events(dir.path()).contains("\"event\":\"failed\""));
        assert!(fs::read_to_string(dir.path().join("report.html")).unwrap().contains("failed at step"));
    }
}

#[test]
fn speeds_are_amounts_by_the_time_of_a_step() {
    let dir = tempdir().unwrap();
    run(dir.path(), &mut Script::new(&[(5.0, 4.5, 0.6), (4.0, 4.0, 0.7)])).unwrap();
    let timings = fs::read_to_string(dir.path().join("timings.jsonl")).unwrap();
    for line in timings.lines() {
        let line: Map<String, Value> = serde_json::from_str(line).unwrap();
        let [secs, tokens_per_sec, mfu] =
            ["step_secs", "tokens_per_sec", "mfu"].map(|name| line[name].as_f64().unwrap());
        // A step of the script has a token and an operation, and the machine does one a second.
        assert!((secs * tokens_per_sec - 1.0).abs() < 1e-9 && (secs * mfu - 1.0).abs() < 1e-9, "{line:?}");
    }
    assert_eq!(timings.lines().count(), 2);
}

#[test]
fn a_run_of_bad_steps_alone_says_so() {
    for steps in [&[(5.0, 7e16, 0.9)][..], &[(f64::NAN, 4.0, 0.9)], &[(5.0, 1e9, 0.9), (1e9, 1e9, 0.9)]] {
        let dir = tempdir().unwrap();
        let error = format!("{:#}", run(dir.path(), &mut Script::new(steps)).unwrap_err());
        assert!(error.contains("no step left a sound state"), "{error}");
        assert!(newest(dir.path()).is_none());
    }
}

#[test]
fn states_that_are_not_sound_are_neither_saved_nor_the_best() {
    // The second has the highest accuracy, and a loss as of none that learns.
    let steps = [(5.0, 4.5, 0.6), (5.1, 99.0, 0.99), (4.0, 4.2, 0.7), (3.0, 4.4, 0.65)];
    let dir = tempdir().unwrap();
    let best = Best { metric: "val_accuracy", highest: true, at_the_end: true };
    run_with(dir.path(), &mut Script::new(&steps), 1, best).unwrap();
    let about = newest(dir.path()).unwrap();
    assert_eq!((about.step, about.selected), (4, Some(3)));
    assert!(!dir.path().join("checkpoints/step-000002").exists());
    let metrics = fs::read_to_string(dir.path().join("metrics.jsonl")).unwrap();
    let marked: Vec<bool> = metrics.lines().map(|line| line.contains("\"exploded\":true")).collect();
    assert_eq!(marked, [false, true, false, false]);
}

#[test]
fn a_state_that_is_saved_is_measured_before() {
    // A validation is due at the end only, checkpoints after every step.
    let steps = [(5.0, 4.5, 0.6), (4.0, f64::NAN, 0.6), (4.0, 4.2, 0.7)];
    let dir = tempdir().unwrap();
    let recipe = Recipe::new("sft", toml::Table::new());
    let machine = Machine { peak_flops: 1.0, ..Machine::unmeasured() };
    let best = Best { metric: "val_loss", highest: false, at_the_end: false };
    let pace = Pace {
        steps: 3,
        eval_every: 9,
        checkpoint_every: 1,
        sample_every: 0,
        keep_last: 9,
        kept: None,
        best,
    };
    train(dir.path(), &recipe, pace, 1, &machine, &mut Script::new(&steps), &Silent).unwrap();
    let kept: Vec<u64> =
        crate::train::run::checkpoints(dir.path()).unwrap().iter().map(|one| one.step).collect();
    assert_eq!(kept, [1, 3]);
    let metrics = fs::read_to_string(dir.path().join("metrics.jsonl")).unwrap();
    assert_eq!(metrics.matches("val_loss").count(), 1, "only what was due is told: {metrics}");
}

#[test]
fn three_bad_steps_lead_back_and_training_may_recover() {
    let bad = (50.0, 60.0, 0.1);
    let steps = [(5.0, 4.5, 0.6), (4.0, 4.0, 0.7), bad, bad, bad, (3.9, 3.8, 0.7), (3.0, 3.5, 0.8)];
    let dir = tempdir().unwrap();
    let mut script = Script::new(&steps);
    run(dir.path(), &mut script).unwrap();
    assert_eq!((script.restored, newest(dir.path()).unwrap().step), (vec![2], 7));
    let again = [&steps[..5], &[bad; 4]].concat();
    let dir = tempdir().unwrap();
    let error = format!("{:#}", run(dir.path(), &mut Script::new(&again)).unwrap_err());
    assert!(error.contains("twice from step 2") && error.contains("step 8"), "{error}");
    assert_eq!(newest(dir.path()).unwrap().step, 2);
}

#[test]
fn what_a_stopped_run_left_is_set_aside_where_it_was_bad() {
    let bad = (1e9, 1e9, 0.1);
    for (steps, kept) in [
        (vec![(5.0, 1e9, 0.5), bad, bad], None),
        (vec![(5.0, 1e9, 0.5), bad, bad, bad, (5.0, 4.0, 0.5), (4.0, 3.0, 0.5)], Some(6)),
    ] {
        let dir = tempdir().unwrap();
        let mut script = Script::new(&steps);
        // What a process leaves that is stopped after the first step, before its state was measured.
        let recipe = Recipe::new("sft", toml::toml! { lr = 1e9 warmup_steps = 7 dropout = 0.2 });
        let digest = blake3::hash(toml::to_string(&recipe.settings).unwrap().as_bytes()).to_hex().to_string();
        let mut run_dir = RunDir::open(dir.path(), &recipe).unwrap();
        run_dir.metrics.append(&json!({"step": 1, "loss": 5.0})).unwrap();
        let about =
            About { stage: "sft".into(), step: 1, seed: 1, recipe_digest: Some(digest), ..About::default() };
        State::save(&mut script, &run_dir.checkpoint_path(1), about).unwrap();
        drop(run_dir);
        let best = Best { metric: "val_loss", highest: false, at_the_end: false };
        let done = run_with(dir.path(), &mut script, 6, best);
        assert_eq!(done.is_ok(), kept.is_some());
        assert_eq!(newest(dir.path()).map(|about| about.step), kept);
        assert!(dir.path().join("checkpoints/step-000001.damaged").exists());
    }
}

#[test]
fn a_single_bad_step_at_the_end_is_outweighed_by_a_sound_state() {
    for last in [(f64::NAN, 3.9, 0.7), (40.0, 3.9, 0.7)] {
        let steps = [(5.0, 4.5, 0.6), (4.0, 4.0, 0.7), last];
        let dir = tempdir().unwrap();
        assert_eq!(run(dir.path(), &mut Script::new(&steps)).unwrap().step, 3);
        assert_eq!(newest(dir.path()).unwrap().step, 3);
    }
}

#[test]
fn numbers_that_overflow_in_a_step_end_the_run_as_failed() {
    let steps = [(5.0, 4.5, 0.6), (4.0, 4.0, 0.7), (3.0, 3.0, 0.7)];
    let dir = tempdir().unwrap();
    let error =
        format!("{:#}", run(dir.path(), &mut Script { overflows_at: 3, ..Script::new(&steps) }).unwrap_err());
    assert!(error.contains("failed at step 3: after 7 tokens the model's logits are not finite"), "{error}");
    assert!(error.contains("the checkpoint of step 2 is kept"), "{error}");
    assert!(events(dir.path()).contains("failed"));
}

#[test]
fn a_first_loss_far_above_the_one_before_is_warned_of() {
    for (before, warns) in [(1.9, true), (2.1, false)] {
        let steps = [(5.0, 4.5, 0.6), (4.0, 4.0, 0.7)];
        let dir = tempdir().unwrap();
        run(dir.path(), &mut Script { before, ..Script::new(&steps) }).unwrap();
        assert_eq!(events(dir.path()).contains("\"event\":\"warned\""), warns);
    }
    let dir = tempdir().unwrap();
    let mut script = Script { before: f64::NAN, ..Script::new(&[(5.0, 4.5, 0.6)]) };
    let error = format!("{:#}", run(dir.path(), &mut script).unwrap_err());
    assert!(error.contains("before training: val_loss is NaN"), "{error}");
}

/// The last evaluation is that of the end, unless another state was put in its place; of a stopped run there is none.
#[test]
fn what_a_run_ends_with_is_measured_once() {
    let steps = [(5.0, 4.5, 0.6), (4.0, 4.2, 0.7), (3.0, 4.4, 0.65)];
    let machine = Machine::unmeasured();
    for (at_the_end, accuracy, evaluations) in [(false, 0.65, 3), (true, 0.7, 4)] {
        let dir = tempdir().unwrap();
        let mut script = Script::new(&steps);
        let best = Best { metric: "val_accuracy", highest: true, at_the_end };
        let mut ending = run_with(dir.path(), &mut script, 1, best).unwrap();
        let found = ending.evaluated(&machine, &Silent, &mut script).unwrap().unwrap();
        assert_eq!((found.figure("val_accuracy"), script.evaluations), (Some(accuracy), evaluations));
        // Asked to stop meanwhile, it is a run that was stopped.
        let stopped = ending.evaluated(&machine, &StopsAfter(0.into()), &mut script).unwrap();
        assert!(stopped.is_none() && ending.stopped);
        assert!(ending.evaluated(&machine, &Silent, &mut script).unwrap().is_none());
    }
}

/// A state that a step made bad is no checkpoint, wherever the run is stopped.
#[test]
fn a_step_that_went_wrong_is_not_left_unfinished() {
    let steps = [(5.0, 4.5, 0.6), (f64::NAN, 4.4, 0.6), (4.0, 4.2, 0.7)];
    let recipe = Recipe::new("sft", toml::Table::new());
    let machine = Machine { peak_flops: 1.0, ..Machine::unmeasured() };
    let best = Best { metric: "val_loss", highest: false, at_the_end: false };
    let pace = Pace {
        steps: 3,
        eval_every: 1,
        checkpoint_every: 1,
        sample_every: 0,
        keep_last: 9,
        kept: None,
        best,
    };
    for looks in 0..9 {
        let dir = tempdir().unwrap();
        let progress = StopsAfter(looks.into());
        train(dir.path(), &recipe, pace, 1, &machine, &mut Script::new(&steps), &progress).unwrap();
        assert!(newest(dir.path()).is_none_or(|about| about.step != 2), "stopped at look {looks}");
    }
}

/// Asks to stop after so many looks at whether somebody does.
struct StopsAfter(AtomicUsize);

impl Progress for StopsAfter {
    fn begin(&self, _: &str, _: u64, _: Unit) {}
    fn advance(&self, _: u64) {}
    fn line(&self, _: &str) {}
    fn end(&self) {}
    fn should_stop(&self) -> bool {
        self.0.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_err()
    }
}

/// Wherever it is stopped, in a step or an evaluation, nothing that was done is lost, and nothing in the end differs.
#[test]
fn a_run_that_was_stopped_anywhere_ends_as_if_it_were_not() {
    let steps = [(5.0, 4.5, 0.6), (4.5, 4.4, 0.6), (4.0, 4.2, 0.7), (3.0, 4.4, 0.65), (3.0, 4.3, 0.65)];
    let recipe = Recipe::new("sft", toml::Table::new());
    let machine = Machine { peak_flops: 1.0, ..Machine::unmeasured() };
    let run = |out: &Path, at_the_end: bool, progress: &dyn Progress| {
        let best = Best { metric: "val_accuracy", highest: true, at_the_end };
        let pace = Pace {
            steps: steps.len() as u64,
            eval_every: 2,
            checkpoint_every: 3,
            sample_every: 0,
            keep_last: 9,
            kept: None,
            best,
        };
        train(out, &recipe, pace, 1, &machine, &mut Script::new(&steps), progress).unwrap()
    };
    let result = |out: &Path| (fs::read(out.join("metrics.jsonl")).unwrap(), newest(out).unwrap());
    for at_the_end in [false, true] {
        let whole = tempdir().unwrap();
        run(whole.path(), at_the_end, &Silent);
        let mut stops = 0;
        loop {
            let dir = tempdir().unwrap();
            let stopped = run(dir.path(), at_the_end, &StopsAfter(stops.into()));
            if !stopped.stopped {
                break;
            }
            let saved = newest(dir.path()).map_or(0, |about| about.step);
            assert_eq!(saved, stopped.step, "stopped at look {stops}");
            run(dir.path(), at_the_end, &Silent);
            assert_eq!(result(dir.path()), result(whole.path()), "stopped at look {stops}");
            let aside = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().path().extension().is_some();
            assert!(!fs::read_dir(dir.path().join(CHECKPOINTS)).unwrap().any(aside), "nothing is set aside");
            stops += 1;
        }
        // One look before the first evaluation; before each of five steps one of the loop's and one of its own; four
        // evaluations, of which those of step 3 and 4 are between.
        assert_eq!(stops, 1 + 10 + 4);
    }
}
