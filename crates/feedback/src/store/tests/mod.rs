//! A store as raters and their owner meet it.

mod asking;
mod exchange;
mod saying;

use super::*;
use crate::order::Rule;
use serde_json::{Map, json};
use std::collections::BTreeMap;
use tempfile::TempDir;
use text::data::messages::{Message, Role as Speaker};

const NOW: i64 = 1_800_000_000;

fn begun() -> (TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("feedback.db")).unwrap();
    (dir, store)
}

/// So many items of four answers each.
fn items(n: usize) -> Vec<NewItem> {
    let item = |i| NewItem {
        messages: vec![Message::new(Speaker::User, format!("question {i}"))],
        answers: (0..4).map(|k| (format!("answer {k} to {i}"), Some(format!("model-{k}")))).collect(),
        extra: Map::from_iter([("answer".to_owned(), json!("secret"))]),
    };
    (0..n).map(item).collect()
}

const ONCE: ItemOptions = ItemOptions { raters: 1, overlap: 0.0 };

fn said(assigned: &Assigned, key: &str, verdict: Verdict) -> Submission {
    Submission {
        assignment: assigned.assignment,
        key: key.into(),
        verdict,
        comment: String::new(),
        seconds: 7.5,
        guidelines: "x".into(),
    }
}

/// Ranks in the order of the page.
fn in_order(assigned: &Assigned) -> Verdict {
    Verdict::Ranked((1..).zip(&assigned.answers).map(|(rank, answer)| (answer.id.clone(), rank)).collect())
}
