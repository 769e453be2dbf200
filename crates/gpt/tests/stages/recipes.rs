//! Recipes that follow from the model and its examples.

use super::*;

/// A number of the recipe that a run keeps.
fn kept(run: &Path, key: &str) -> f64 {
    let value = gpt::train::run::Recipe::load(run).unwrap().settings[key].clone();
    value.as_float().or(value.as_integer().map(|number| number as f64)).unwrap()
}

/// The recipe follows from the model, where it comes from, and the number of demonstrations; it is told, and
/// kept as numbers.
#[test]
fn a_recipe_fits_the_model_and_the_examples() {
    let dir = tempfile::tempdir().unwrap();
    let wide = |vocab_size| Config { dropout: 0.05, ..Config::gpt2(vocab_size, 64, 1, 4, 256) };
    let ours = base(dir.path(), wide);
    let theirs = dir.path().join("theirs");
    std::fs::rename(&ours, &theirs).unwrap();
    std::fs::remove_file(theirs.join("mynah.json")).unwrap();
    let ours = base(dir.path(), wide);
    let run = |path: &Path, n: usize, changes: &[&str], out: &str| {
        let init = init(path);
        let (train, val) = (demonstrations(&init, n), demonstrations(&init, 2));
        let (out, told) = (dir.path().join(out), Lines::default());
        let options = SftOptions {
            init: &init,
            train: &train,
            val: &val,
            reward: None,
            ptx: Vec::new(),
            out: out.clone(),
            settings: settings(&[&["steps=1", "batch_size=2", "max_tokens=4"], changes].concat()),
            seed: 1,
        };
        sft(cpu(1), &machine(), &options, &told).unwrap();
        (["lr", "dropout", "epochs"].map(|key| kept(&out, key)), told.0.into_inner().unwrap().join("\n"))
    };
    let ([lr, dropout, epochs], told) = run(&ours, 8, &[], "ours");
    assert_eq!([dropout, epochs], [0.1, 8.0]);
    assert!(
        (lr - 1e-3 * 0.75f64.powf(1.5)).abs() < 1e-6,
        "{lr} for a model that is wider than nano by a third"
    );
    let line = format!(
        "recipe: dropout 0.1 (pretrained by mynah), epochs 8 (8 examples), lr {lr} (256 wide), micro_batch_tokens 4096 ("
    );
    assert!(told.contains(&line), "{line} is not in {told}");

    let told = "dropout 0.05 (as the model says)";
    let (numbers, line) = run(&theirs, 8, &[], "child");
    assert!(numbers[1] == 0.05 && line.contains(told), "{told} is not in {line}");
    assert_eq!(run(&dir.path().join("child"), 8, &["dropout=0"], "grandchild").0[1], 0.0, "what is given");
    let third = run(&dir.path().join("grandchild"), 8, &[], "great-grandchild");
    assert_eq!(third.0[1], 0.0, "a line that others began");

    let given = ["lr=2e-5", "dropout=0.3", "epochs=5", "micro_batch_tokens=512"];
    let (numbers, told) = run(&ours, 8, &given, "given");
    assert_eq!(numbers, [2e-5, 0.3, 5.0]);
    assert!(!told.contains("recipe:"), "{told}");
}

/// A run goes on with the numbers that it began with, whatever the rules say by now.
#[test]
fn a_run_keeps_the_recipe_that_it_began_with() {
    let dir = tempfile::tempdir().unwrap();
    let init = init(&base(dir.path(), modern));
    let (train, val) = (demonstrations(&init, 20), demonstrations(&init, 5));
    let out = dir.path().join("run");
    let run = |changes: &[&str], progress: &dyn Progress| {
        let options = SftOptions {
            init: &init,
            train: &train,
            val: &val,
            reward: None,
            ptx: Vec::new(),
            out: out.clone(),
            settings: settings(&[&["steps=6", "batch_size=5"], changes].concat()),
            seed: 1,
        };
        sft(cpu(1), &machine(), &options, progress)
    };
    let config = out.join("config.toml");
    assert!(
        run(&["lr=3e-4", "dropout=0.2", "epochs=4", "beta2=0.99"], &StopAt::new(3)).unwrap().ending.stopped
    );
    let other = format!("{:#}", run(&[], &Silent).unwrap_err());
    for part in ["settings.lr: 0.0003 → 0.001", "settings.dropout: 0.2 → 0.1", "settings.epochs: 4 → 8"]
    {
        assert!(other.contains(part), "what was given then and is not now makes another command: {other}");
    }
    // As a program without rules, and with other defaults, would have begun it.
    let begun = std::fs::read_to_string(&config).unwrap();
    let older: Vec<&str> = begun.lines().filter(|line| !line.starts_with("by_rule")).collect();
    assert_eq!(older.len() + 1, begun.lines().count());
    std::fs::write(&config, older.join("\n")).unwrap();
    let refused = format!("{:#}", run(&["lr=1e-3"], &Silent).unwrap_err());
    assert!(refused.contains("settings.lr: 0.0003 → 0.001"), "{refused}");
    let told = Lines::default();
    assert_eq!(run(&[], &told).unwrap().ending.step, 6);
    assert!(!told.0.into_inner().unwrap().join("\n").contains("recipe:"));
    assert_eq!(["lr", "dropout", "epochs", "beta2"].map(|key| kept(&out, key)), [3e-4, 0.2, 4.0, 0.99]);
    // What is kept once stays kept.
    assert_eq!(run(&[], &Silent).unwrap().ending.step, 6);
}

/// Lanes decide bits, and with several of them the cut into micro-batches does not. One lane is what runs had
/// before there were any.
#[test]
fn lanes_are_part_of_a_recipe_and_make_cuts_none() {
    let dir = tempfile::tempdir().unwrap();
    let init = init(&base(dir.path(), modern));
    let (train, val) = (demonstrations(&init, 20), demonstrations(&init, 5));
    let run = |name: &str, changes: &[&str], progress: &dyn Progress| {
        let options = SftOptions {
            init: &init,
            train: &train,
            val: &val,
            reward: None,
            ptx: Vec::new(),
            out: dir.path().join(name),
            settings: settings(&[&["steps=6", "batch_size=5"], changes].concat()),
            seed: 1,
        };
        sft(cpu(1), &machine(), &options, progress)
    };
    let refused = |name: &str, changes: &[&str]| format!("{:#}", run(name, changes, &Silent).unwrap_err());
    run("four", &["lanes=4", "micro_batch_tokens=64"], &StopAt::new(3)).unwrap();
    let other = refused("four", &["lanes=2", "micro_batch_tokens=64"]);
    assert!(other.contains("settings.lanes: 4 → 2") && !other.contains("micro_batch_tokens"), "{other}");
    assert_eq!(run("four", &["lanes=4", "micro_batch_tokens=4096"], &Silent).unwrap().ending.step, 6);

    run("one", &["micro_batch_tokens=64"], &StopAt::new(3)).unwrap();
    assert!(!std::fs::read_to_string(dir.path().join("one/config.toml")).unwrap().contains("lanes"));
    let other = refused("one", &["micro_batch_tokens=4096"]);
    assert!(other.contains("settings.micro_batch_tokens: 64 → 4096"), "{other}");
}
