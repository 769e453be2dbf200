use std::collections::BTreeMap;
use std::fs;

use kernels::{Backend, Reference};
use serde_json::json;
use tempfile::tempdir;

use super::super::*;
use super::{FILES, about, golden_dir, open, random, save_step, tiny, with_contents};
use crate::model::{Method, Weights};

#[test]
fn what_is_saved_is_loaded() {
    let shelf = tempdir().unwrap();
    let dir = save_step(shelf.path(), 3);
    let checkpoint = open(&dir).unwrap();
    assert_eq!(checkpoint.config, tiny());
    assert!(checkpoint.warnings.is_empty(), "{:?}", checkpoint.warnings);
    assert_eq!(checkpoint.weights(to_host).unwrap(), random(&tiny(), 3));
    let moments = checkpoint.moments(Method::AdamW, to_host).unwrap();
    assert_eq!(moments, Some((random(&tiny(), 103), random(&tiny(), 203))));
    assert_eq!(checkpoint.manifest.unwrap().about, about(3));
    for (name, bytes) in FILES {
        assert_eq!(fs::read(dir.join(name)).unwrap(), *bytes);
    }
}

#[test]
fn the_same_checkpoint_has_the_same_bytes() {
    let (a, b) = (tempdir().unwrap(), tempdir().unwrap());
    let (a, b) = (save_step(a.path(), 3), save_step(b.path(), 3));
    let files = |dir| -> BTreeMap<_, _> {
        let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
        entries.map(|entry| (entry.file_name(), fs::read(entry.path()).unwrap())).collect()
    };
    assert_eq!(files(a), files(b));
}

#[test]
fn a_head_of_its_own_is_kept() {
    let shelf = tempdir().unwrap();
    let dir = shelf.path().join("untied");
    let config = crate::model::Config { tied_head: false, ..tiny() };
    let weights = random(&config, 1);
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
        about: about(0),
    };
    save(&dir, contents).unwrap();
    let checkpoint = open(&dir).unwrap();
    assert_eq!(checkpoint.config, config);
    assert_eq!(checkpoint.weights(to_host).unwrap(), weights);
    assert_eq!(checkpoint.moments(Method::AdamW, to_host).unwrap(), None);
}

#[test]
fn weights_go_to_a_backend_and_come_back() {
    let shelf = tempdir().unwrap();
    let golden = open(&golden_dir("gpt2")).unwrap();
    let backend = &mut Reference;
    let weights: Weights<<Reference as Backend>::Tensor> =
        golden.weights(to_backend(backend, &golden.config)).unwrap();
    let dir = shelf.path().join("copy");
    let contents = Contents {
        config: &golden.config,
        weights: &weights,
        dtype: Dtype::F32,
        moments: None,
        beside: &[],
        read: &mut from_backend(backend),
        eot_token: None,
        eos_token: None,
        end_tokens: &[],
        files: &[],
        about: about(0),
    };
    save(&dir, contents).unwrap();
    let copy = open(&dir).unwrap();
    assert_eq!(copy.config, golden.config);
    assert_eq!(copy.weights(to_host).unwrap(), golden.weights(to_host).unwrap());
}

#[test]
fn a_figure_that_is_not_finite_does_not_spoil_the_checkpoint() {
    let shelf = tempdir().unwrap();
    let dir = shelf.path().join("step-000004");
    // The shortest decimal of this number is read back one unit off by a careless parser.
    let evaluation = [("val_loss", f64::NAN), ("val_bpb", 0.123_456_789_012_345_67)];
    let evaluation = evaluation.map(|(name, value)| (name.to_owned(), Some(value)));
    let about = About { evaluation: evaluation.into(), ..about(4) };
    with_contents(4, |contents| save(&dir, Contents { about, ..contents })).unwrap();
    let evaluation = verify(&dir).unwrap().about.evaluation;
    assert_eq!(evaluation["val_loss"], None);
    assert_eq!(evaluation["val_bpb"], Some(0.123_456_789_012_345_67));
}

#[test]
fn a_good_checkpoint_is_not_overwritten() {
    let shelf = tempdir().unwrap();
    let dir = save_step(shelf.path(), 3);
    let written = fs::metadata(dir.join("mynah.json")).unwrap().modified().unwrap();
    save_step(shelf.path(), 3);
    assert_eq!(fs::metadata(dir.join("mynah.json")).unwrap().modified().unwrap(), written);

    let other = with_contents(4, |contents| save(&dir, contents)).unwrap_err();
    assert!(format!("{other:#}").contains("another checkpoint has this name"), "{other:#}");
    assert_eq!(verify(&dir).unwrap().about.step, 3);
}

#[test]
fn a_damaged_one_of_the_same_name_is_set_aside() {
    let shelf = tempdir().unwrap();
    let dir = save_step(shelf.path(), 3);
    fs::write(dir.join("model.safetensors"), "torn").unwrap();
    save_step(shelf.path(), 3);
    verify(&dir).unwrap();
    assert_eq!(fs::read(shelf.path().join("step-000003.damaged/model.safetensors")).unwrap(), b"torn");
}

#[test]
fn a_directory_of_something_else_is_left_alone() {
    let shelf = tempdir().unwrap();
    let dir = shelf.path().join("letters");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("love.txt"), "…").unwrap();
    let error = with_contents(1, |contents| save(&dir, contents)).unwrap_err();
    assert!(format!("{error:#}").contains("holds something else"), "{error:#}");
    assert!(dir.join("love.txt").exists());
    assert_eq!(fs::read_dir(shelf.path()).unwrap().count(), 1);
}

#[test]
fn too_little_space_is_said_before_anything_is_written() {
    let shelf = tempdir().unwrap();
    let weights = random(&tiny(), 1);
    let huge = crate::model::Config { vocab_size: 1 << 40, ..tiny() };
    let contents = Contents {
        config: &huge,
        weights: &weights,
        dtype: Dtype::F32,
        moments: None,
        beside: &[],
        read: &mut from_host,
        eot_token: None,
        eos_token: None,
        end_tokens: &[],
        files: &[],
        about: about(1),
    };
    let error = save(&shelf.path().join("step-000001"), contents).unwrap_err();
    assert!(format!("{error:#}").contains("free some space"), "{error:#}");
    assert_eq!(fs::read_dir(shelf.path()).unwrap().count(), 0);
}

#[test]
fn other_programs_are_told_what_ends_a_text() {
    let shelf = tempdir().unwrap();
    for (eot_token, eos_token, model, generation) in [
        (Some(6), Some(6), json!(6), json!(6)),
        (Some(6), Some(4), json!(4), json!([4, 6])),
        (None, None, json!(null), json!(null)),
    ] {
        let dir = shelf.path().join(format!("step-{model}"));
        with_contents(1, |contents| save(&dir, Contents { eot_token, eos_token, ..contents })).unwrap();
        for (file, expected) in [("config.json", model), ("generation_config.json", generation)] {
            let file: serde_json::Value =
                serde_json::from_str(&fs::read_to_string(dir.join(file)).unwrap()).unwrap();
            assert_eq!((&file["bos_token_id"], &file["eos_token_id"]), (&json!(eot_token), &expected));
        }
    }
}
