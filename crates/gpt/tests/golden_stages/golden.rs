//! The figures of a stage, and what is held against them.

use gpt::checkpoint::{self, Checkpoint};
use gpt::model::{Config, Weights, specs};
use gpt::progress::Silent;
use gpt::train::run::checkpoint_path;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// How far a figure may be from PyTorch's, which is float64 throughout: checkpoints, scores and what is
/// sampled from are float32.
const TOLERANCE: f64 = 2e-6;

/// What PyTorch says of a stage.
pub(crate) struct Golden(Value);

impl Golden {
    /// The figures of the inputs that the test has; other inputs are refused. None where the inputs were
    /// asked for: they are written.
    pub(crate) fn of(name: &str, inputs: &Value) -> Option<Self> {
        let path: PathBuf =
            [env!("CARGO_MANIFEST_DIR"), "tests/golden/stages", &format!("{name}.json")].iter().collect();
        if std::env::var_os("MYNAH_GOLDEN_INPUTS").is_some() {
            std::fs::write(path, format!("{{\"inputs\": {inputs}}}\n")).unwrap();
            return None;
        }
        let golden: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        assert!(golden["inputs"] == *inputs, "{name}: the inputs are others than those of the figures");
        Some(Golden(golden["golden"].clone()))
    }

    /// A figure, list or table.
    pub(crate) fn at(&self, pointer: &str) -> &Value {
        self.0.pointer(pointer).unwrap_or_else(|| panic!("no {pointer}"))
    }

    /// Every figure of every step, by name, is in the journal.
    pub(crate) fn holds_metrics(&self, run: &Path) {
        let lines = lines(&run.join("metrics.jsonl"));
        let wanted = self.at("/metrics").as_array().unwrap();
        assert_eq!(lines.len(), wanted.len(), "steps");
        for (step, (line, wanted)) in (1..).zip(lines.iter().zip(wanted)) {
            for (name, wanted) in wanted.as_object().unwrap() {
                close(&line[name], wanted, &format!("step {step}: {name}"));
            }
        }
    }

    /// The weights of the checkpoints of all steps, of which the last holds the selected state where a stage
    /// selects.
    pub(crate) fn holds_checkpoints(&self, run: &Path) {
        let states = self.at("/states").as_array().unwrap();
        for step in 1..=states.len() {
            let path = checkpoint_path(run, step as u64);
            let model = checkpoint::open(&path, &Silent).unwrap();
            let selected = model.manifest.as_ref().unwrap().about.selected;
            let of = match self.0.get("selected").filter(|_| step == states.len()) {
                Some(best) => {
                    assert_eq!(selected.unwrap_or(step as u64), best.as_u64().unwrap(), "the selected step");
                    best.as_u64().unwrap() as usize
                }
                None => step,
            };
            for (name, wanted) in states[of - 1].as_object().unwrap() {
                let (config, weights) = tree(&model, name);
                let names = specs(&config);
                for (spec, values) in names.leaves().into_iter().zip(weights.leaves()) {
                    let what = format!("step {step}: {name}, {}", spec.name);
                    close(&summary(values), &wanted[&spec.name], &what);
                }
            }
        }
    }
}

/// The model of a checkpoint, or one that lies beside it.
fn tree(model: &Checkpoint, name: &str) -> (Config, Weights<Vec<f32>>) {
    let config = match name {
        "value" => Config { n_label: Some(1), ..model.config.clone() },
        _ => model.config.clone(),
    };
    let weights = match name {
        "model" => model.exact_weights(checkpoint::to_host),
        beside => model.beside(&format!("{beside}.safetensors"), &config, "w.", checkpoint::to_host),
    };
    (config, weights.unwrap())
}

/// Norm and five values.
fn summary(values: &[f32]) -> Value {
    let norm = values.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
    let picks = (0..5).map(|i| f64::from(values[i * (values.len() - 1) / 4]));
    std::iter::once(norm).chain(picks).collect()
}

/// The lines of a journal.
pub(crate) fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Holds numbers, in the same places of lists and tables, against each other.
pub(crate) fn close(got: &Value, wanted: &Value, what: &str) {
    match wanted {
        Value::Array(items) => {
            assert_eq!(got.as_array().map(Vec::len), Some(items.len()), "{what}");
            for (i, wanted) in items.iter().enumerate() {
                close(&got[i], wanted, &format!("{what}[{i}]"));
            }
        }
        Value::Object(fields) => {
            for (name, wanted) in fields {
                close(&got[name], wanted, &format!("{what}.{name}"));
            }
        }
        Value::Number(wanted) => {
            let wanted = wanted.as_f64().unwrap();
            let got = got.as_f64().unwrap_or_else(|| panic!("{what}: {got}, PyTorch has {wanted}"));
            let error = (got - wanted).abs() / (1.0 + wanted.abs());
            assert!(error < TOLERANCE, "{what}: {got}, PyTorch has {wanted}");
        }
        _ => assert_eq!(got, wanted, "{what}"),
    }
}
