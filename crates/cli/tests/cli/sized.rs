//! Pretraining whose shape and schedule a budget decides.

use std::fs;

use super::workshop::{fails, json, path, road, run, stderr};

#[test]
fn a_budget_decides_shape_and_schedule() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = road().path("tokens");
    let out = path(dir.path(), "run");
    let words =
        ["pretrain", "--data", &data, "--flops", "2e10", "--out", &out, "--set", "eval_windows=4", "--json"];
    let assert = run(&words, 0);
    let told = stderr(&assert);
    assert!(told.contains("2 layers of 64") && told.contains("epochs"), "{told}");
    let recipe = fs::read_to_string(format!("{out}/config.toml")).expect("a recipe");
    let number = |key: &str| {
        let line = recipe.lines().find_map(|line| line.strip_prefix(&format!("{key} = ")));
        line.expect("the key").parse::<f64>().expect("a number")
    };
    // Multiplications and additions of a token's way forward and back, without attention's few.
    let parameters = json(&["show", &out])["parameters"].as_f64().expect("a number");
    // Muon's five times three products for every map: 2 layers with queries and a projection of 64, keys and values of 32, and three
    // maps of an MLP.
    let products = |side: f64, long: f64| 5.0 * 2.0 * side * side * (2.0 * long + side);
    let update = 2.0
        * (2.0 * products(64.0, 64.0) + 2.0 * products(32.0, 64.0) + 3.0 * products(64.0, number("d_ff")));
    let spent = number("steps") * (number("batch_tokens") * 6.0 * parameters + update);
    assert!((0.8..1.1).contains(&(spent / 2e10)), "{spent:e} of 2e10: {recipe}");

    // What has begun goes on with its own recipe, whatever the machine does now.
    let again =
        ["pretrain", "--data", &data, "--minutes", "3", "--out", &out, "--set", "eval_windows=4", "--json"];
    let told = stderr(&run(&again, 0));
    assert!(told.contains("its recipe holds"), "{told}");
    fails(
        &["pretrain", "--data", &data, "--flops", "2e10", "--out", &out, "--set", "lr=1e-4"],
        1,
        &["lr", "0.0001"],
    );
}

#[test]
fn a_minute_is_measured_on_the_machine() {
    let dir = tempfile::tempdir().expect("a directory");
    let (data, out) = (road().path("tokens"), path(dir.path(), "run"));
    let words = ["pretrain", "--data", &data, "--minutes", "1", "--out", &out, "--set", "steps=1"];
    let told = stderr(&run(&words, 0));
    assert!(told.contains("operations are") && told.contains("tokens of it"), "{told}");
}

#[test]
fn budgets_that_are_none() {
    let data = road().path("tokens");
    for (more, code, parts) in [
        (&["--minutes", "0"][..], 2, &["--minutes 0", "above 0"][..]),
        (&["--flops=-1e9"], 2, &["--flops"]),
        (&["--flops", "1e13", "--preset", "tiny"], 2, &["cannot be used with"]),
        (&["--flops", "1e6"], 1, &["give ten times as many"]),
        (&["--flops", "1e13", "--set", "nothing=1"], 1, &["nothing"]),
    ] {
        fails(&[&["pretrain", "--data", &data, "--out", "never"], more].concat(), code, parts);
    }
}
