use std::fs::{self, OpenOptions};
use std::path::Path;

use proptest::prelude::*;
use serde_json::json;

use super::claim::LOCK;
use super::*;

fn recipe() -> Recipe {
    let mut recipe =
        Recipe::new("pretrain", toml::toml! { lr = 6e-4 seed = 0 model = { n_layer = 2, d_model = 32 } });
    recipe.runtime = toml::toml! { threads = 2 keep_last = 3 };
    recipe.inputs.insert("data".into(), Input::new(Path::new("tokens"), "blake3:aa"));
    recipe
}

/// Does steps `from..=to` as a trainer would, with a sample every fourth.
fn train(run: &mut RunDir, from: u64, to: u64) {
    for step in from..=to {
        run.metrics.append(&json!({"step": step, "loss": 1.0 / step as f64, "lr": 6e-4})).unwrap();
        run.timings.append(&json!({"step": step, "step_secs": 0.5})).unwrap();
        if step % 4 == 0 {
            let completion = format!("fn f{step}() {{}}\n中文");
            run.sample(&Sample { step, prompt: "fn".into(), completion }).unwrap();
        }
    }
}

fn refusal(result: Result<RunDir>) -> String {
    format!("{:#}", result.expect_err("must be refused"))
}

fn checkpoint(run: &RunDir, step: u64) {
    fs::create_dir(run.checkpoint_path(step)).unwrap();
    fs::write(run.checkpoint_path(step).join("model.safetensors"), "weights").unwrap();
}

fn steps(run: &RunDir) -> Vec<u64> {
    run.checkpoints().unwrap().iter().map(|checkpoint| checkpoint.step).collect()
}

#[test]
fn a_recipe_survives_its_file() {
    let dir = tempfile::tempdir().unwrap();
    drop(RunDir::open(dir.path(), &recipe()).unwrap());
    assert_eq!(Recipe::load(dir.path()).unwrap(), recipe());
}

#[test]
fn a_glance_at_a_run_is_no_reason_to_refuse_it() {
    let dir = tempfile::tempdir().unwrap();
    drop(RunDir::open(dir.path(), &recipe()).unwrap());
    let glance = File::open(dir.path().join("run.lock")).unwrap();
    glance.lock_shared().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(std::time::Duration::from_millis(40));
            glance.unlock().unwrap();
        });
        RunDir::open(dir.path(), &recipe()).unwrap();
    });
}

#[test]
fn a_different_recipe_is_refused_with_every_difference() {
    let dir = tempfile::tempdir().unwrap();
    drop(RunDir::open(dir.path(), &recipe()).unwrap());
    let mut other = recipe();
    other.settings["lr"] = 1e-3.into();
    other.settings["model"]["n_layer"] = 3.into();
    other.settings.insert("dropout".into(), 0.1.into());
    other.settings.remove("seed");
    other.inputs.get_mut("data").unwrap().digest = "blake3:bb".into();
    let message = refusal(RunDir::open(dir.path(), &other));
    let differences: Vec<&str> = message.lines().filter_map(|line| line.strip_prefix("  ")).collect();
    assert_eq!(
        differences,
        [
            "inputs.data: other contents",
            "settings.dropout: (absent) → 0.1",
            "settings.lr: 0.0006 → 0.001",
            "settings.model.n_layer: 2 → 3",
            "settings.seed: 0 → (absent)",
        ]
    );
    assert_eq!(Recipe::load(dir.path()).unwrap(), recipe(), "a refusal changes nothing");
}

/// Other data are told by their places, and by what became of them where the place is the same.
#[test]
fn inputs_differ_by_their_places() {
    let dir = tempfile::tempdir().unwrap();
    let of = |path: &Path, digest: &str| {
        let mut recipe = recipe();
        recipe.inputs.insert("data".into(), Input::new(path, digest));
        recipe
    };
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));
    fs::write(&a, "").unwrap();
    let (old, there) = (of(&a, "1"), a.display());
    assert_eq!(old.differences(&of(&b, "2")), [format!("inputs.data: {there} → {}", b.display())]);
    assert_eq!(old.differences(&of(&a, "2")), [format!("inputs.data: {there} has other contents now")]);
    let mut without = recipe();
    without.inputs.clear();
    assert_eq!(old.differences(&without), [format!("inputs.data: {there} → (absent)")]);
}

/// A directory that holds something else than a run, or what the run reads, is no place for one.
#[test]
fn a_directory_of_something_else_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("meta.json"), "{}").unwrap();
    let message = refusal(RunDir::open(dir.path(), &recipe()));
    assert!(message.contains("is not empty (meta.json is in it)"), "{message}");
    let mut reads = recipe();
    reads.inputs.insert("data".into(), Input::new(dir.path(), "1"));
    assert!(refusal(RunDir::open(dir.path(), &reads)).contains("is read by this command"));
    reads.inputs.insert("data".into(), Input::new(&dir.path().join("meta.json"), "1"));
    assert!(refusal(RunDir::open(dir.path(), &reads)).contains("meta.json, which this command reads"));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing was written");
    // What is left by one that was killed before it had a recipe is its own.
    let run = dir.path().join("run");
    fs::create_dir(&run).unwrap();
    fs::write(run.join(LOCK), "1").unwrap();
    fs::write(run.join(".config.toml.mynah.tmp"), "sta").unwrap();
    RunDir::open(&run, &recipe()).unwrap();
}

#[test]
fn what_decides_nothing_may_change() {
    let dir = tempfile::tempdir().unwrap();
    drop(RunDir::open(dir.path(), &recipe()).unwrap());
    let mut other = recipe();
    other.runtime = toml::toml! { threads = 64 };
    other.inputs.get_mut("data").unwrap().path = "/elsewhere".into();
    drop(RunDir::open(dir.path(), &other).unwrap());
    assert_eq!(Recipe::load(dir.path()).unwrap(), other, "the newest command is recorded");
}

/// Whoever has the lock may not have written yet who it is.
#[test]
fn a_holder_without_a_number_is_another_process() {
    let dir = tempfile::tempdir().unwrap();
    let lock = fs::File::create(dir.path().join(LOCK)).unwrap();
    lock.try_lock().unwrap();
    let message = refusal(RunDir::open(dir.path(), &recipe()));
    assert!(message.contains("is in use by another process: wait"), "{message}");
}

#[test]
fn a_second_trainer_is_refused_by_pid() {
    let dir = tempfile::tempdir().unwrap();
    let first = RunDir::open(dir.path(), &recipe()).unwrap();
    let message = refusal(RunDir::open(dir.path(), &recipe()));
    assert!(message.contains(&format!("in use by process {}", std::process::id())), "{message}");
    drop(first);
    RunDir::open(dir.path(), &recipe()).unwrap();
}

#[test]
fn files_of_unknown_origin_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(METRICS), "{\"step\":1}\n").unwrap();
    let message = refusal(RunDir::open(dir.path(), &recipe()));
    assert!(message.contains("is not empty (metrics.jsonl is in it) and holds no config.toml"), "{message}");
    fs::write(dir.path().join(CONFIG), "stage = ").unwrap();
    let message = refusal(RunDir::open(dir.path(), &recipe()));
    assert!(message.contains("config.toml is damaged"), "{message}");
}

#[test]
fn a_path_that_is_a_file_is_refused() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let message = refusal(RunDir::open(file.path(), &recipe()));
    assert!(message.contains("is a file: name a directory for the run"), "{message}");
}

#[test]
fn history_is_not_cut() {
    let dir = tempfile::tempdir().unwrap();
    let mut run = RunDir::open(dir.path(), &recipe()).unwrap();
    train(&mut run, 1, 9);
    run.truncate_after(5, 5).unwrap();
    run.event(&Event { step: 5, event: EventKind::Resumed, detail: String::new() }).unwrap();
    train(&mut run, 6, 7);
    let timings: Lines<serde_json::Value> = read_lines(&dir.path().join(TIMINGS)).unwrap();
    assert_eq!(timings.items.len(), 9 + 2);
    let events: Lines<Event> = read_lines(&dir.path().join(EVENTS)).unwrap();
    assert_eq!(events.items[0].event, EventKind::Resumed);
}

#[test]
fn metrics_that_do_not_reach_the_checkpoint_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut run = RunDir::open(dir.path(), &recipe()).unwrap();
    train(&mut run, 1, 5);
    let message = format!("{:#}", run.truncate_after(8, 8).unwrap_err());
    assert!(message.contains("ends at step 5, before the checkpoint of step 8"), "{message}");
}

#[test]
fn damage_before_the_checkpoint_is_named_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let metrics = dir.path().join(METRICS);
    let mut run = RunDir::open(dir.path(), &recipe()).unwrap();
    let text = "{\"step\":1}\n{\"st\0\0\0\n{\"step\":3}\n{\"step\":4}\n";
    fs::write(&metrics, text).unwrap();
    let message = format!("{:#}", run.truncate_after(3, 3).unwrap_err());
    assert!(message.contains("damaged at line 2"), "{message}");
    assert_eq!(fs::read_to_string(&metrics).unwrap(), text);
    assert_eq!(read_lines::<serde_json::Value>(&metrics).unwrap().unreadable, [2]);
    run.truncate_after(1, 1).unwrap();
    assert_eq!(fs::read_to_string(&metrics).unwrap(), "{\"step\":1}\n");
}

#[test]
fn the_newest_and_the_best_checkpoints_stay() {
    let dir = tempfile::tempdir().unwrap();
    let mut run = RunDir::open(dir.path(), &recipe()).unwrap();
    for (step, val_loss) in [(100, 2.0), (200, 1.0), (300, 0.5), (999_999, 1.5), (1_000_000, 1.0)] {
        run.metrics.append(&json!({"step": step, "loss": 1.0, "val_loss": val_loss})).unwrap();
        if step != 300 {
            checkpoint(&run, step);
        }
    }
    assert_eq!(
        run.best_step("val_loss", false, |_| true, None).unwrap().map(|(step, _)| step),
        Some(200),
        "300 was never saved; 1,000,000 is later"
    );
    let best = run.best_step("val_loss", false, |_| true, None).unwrap().map(|(step, _)| step);
    run.retain(1, best.as_slice()).unwrap();
    assert_eq!(steps(&run), [200, 1_000_000]);
    run.retain(0, &[]).unwrap();
    assert_eq!(steps(&run), [1_000_000], "the newest always stays");
    assert_eq!(fs::read_dir(dir.path().join(CHECKPOINTS)).unwrap().count(), 1);
}

#[test]
fn unfinished_checkpoints_are_no_checkpoints_and_are_swept_away() {
    let dir = tempfile::tempdir().unwrap();
    let run = RunDir::open(dir.path(), &recipe()).unwrap();
    checkpoint(&run, 100);
    for name in ["step-000200.tmp", ".tmp-step-000200", "step-000050.tmp-removed"] {
        fs::create_dir(dir.path().join(CHECKPOINTS).join(name)).unwrap();
    }
    assert_eq!(steps(&run), [100]);
    drop(run);
    drop(RunDir::open(dir.path(), &recipe()).unwrap());
    assert_eq!(fs::read_dir(dir.path().join(CHECKPOINTS)).unwrap().count(), 1);
}

#[test]
fn damaged_checkpoints_do_not_take_the_place_of_good_ones() {
    let dir = tempfile::tempdir().unwrap();
    let mut run = RunDir::open(dir.path(), &recipe()).unwrap();
    train(&mut run, 1, 30);
    [10, 20, 30].into_iter().for_each(|step| checkpoint(&run, step));
    run.truncate_after(10, 10).unwrap();
    assert_eq!(steps(&run), [10]);
    checkpoint(&run, 15);
    run.retain(1, &[]).unwrap();
    assert_eq!(steps(&run), [15]);
    [20, 30].into_iter().for_each(|step| checkpoint(&run, step));
    run.restart().unwrap();
    assert_eq!((steps(&run), fs::read(dir.path().join(METRICS)).unwrap()), (vec![], vec![]));
}

#[test]
fn a_file_is_replaced_whole() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("report.html");
    write_atomically(&path, b"a long first version").unwrap();
    write_atomically(&path, b"second").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"second");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    // Through a link the file behind it is, and the link stays one.
    let link = dir.path().join("link.html");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    write_atomically(&link, b"third").unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(fs::read(&path).unwrap(), b"third");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Kill at any byte of the files after any checkpoint, resume, finish: the bytes of an unbroken run.
    #[test]
    fn a_broken_run_ends_with_the_bytes_of_an_unbroken_one(
        checkpoint in 0u64..=20, beyond in 0u64..=8, torn_metrics in 0usize..40, torn_samples in 0usize..60,
    ) {
        let (unbroken, broken) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        train(&mut RunDir::open(unbroken.path(), &recipe()).unwrap(), 1, 28);

        let mut run = RunDir::open(broken.path(), &recipe()).unwrap();
        train(&mut run, 1, checkpoint);
        let safe = [METRICS, SAMPLES].map(|name| fs::metadata(broken.path().join(name)).unwrap().len());
        train(&mut run, checkpoint + 1, checkpoint + beyond);
        drop(run);
        for (name, torn, safe) in [(METRICS, torn_metrics, safe[0]), (SAMPLES, torn_samples, safe[1])] {
            let file = OpenOptions::new().write(true).open(broken.path().join(name)).unwrap();
            let len = file.metadata().unwrap().len();
            file.set_len(len.saturating_sub(torn as u64).max(safe)).unwrap();
        }

        let mut run = RunDir::open(broken.path(), &recipe()).unwrap();
        if checkpoint == 0 { run.restart().unwrap() } else { run.truncate_after(checkpoint, checkpoint).unwrap() }
        train(&mut run, checkpoint + 1, 28);
        for name in [METRICS, SAMPLES] {
            let bytes = |dir: &tempfile::TempDir| fs::read_to_string(dir.path().join(name)).unwrap();
            prop_assert_eq!(bytes(&unbroken), bytes(&broken));
        }
    }
}
