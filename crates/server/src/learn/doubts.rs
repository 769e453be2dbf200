//! Rankings that the reward model would order the other way: it read them all, and what it believes least may be a mistake.

use anyhow::{Context, Result};
use feedback::statistics::contradiction;
use lm::train::run::read_lines;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use text::data::messages::{Ranking, ranking};
use text::output::write_rows;

use super::plan::Generation;
use crate::api::{ApiError, score};
use crate::app::{App, Caller};
use crate::model::Model;
use crate::runs::beside;

/// So many are told.
const TOLD: usize = 20;
/// Until a server that has no room is asked again.
const LATER: Duration = Duration::from_millis(500);

/// What the reward model thinks of a ranking's answers.
#[derive(Serialize, Deserialize)]
struct Scored {
    assignment: i64,
    rewards: Vec<f64>,
}

fn place(generation: &Generation) -> PathBuf {
    generation.dir.join("scores.jsonl")
}

/// The rankings that were learned from, by assignment.
fn rankings(dir: &Path) -> Result<Vec<(i64, Ranking)>> {
    let lines = read_lines::<Map<String, Value>>(&dir.join("rankings.jsonl"))?;
    let read = |row: Map<String, Value>| {
        let assignment = row.get("assignment")?.as_i64()?;
        // What no reward model could read it did not learn from.
        Some((assignment, ranking(row).ok()?))
    };
    Ok(lines.items.into_iter().filter_map(read).collect())
}

/// Lets the reward model read all rankings, one after another between what others ask, unless that was done.
pub(super) async fn weigh(
    app: &Arc<App>,
    model: Arc<Model>,
    generation: &Generation,
) -> Result<(), ApiError> {
    let (path, dir) = (place(generation), generation.dir.clone());
    if path.exists() {
        return Ok(());
    }
    let all = beside(move || rankings(&dir).map_err(ApiError::failed)).await?;
    let mut scored = Vec::new();
    for (assignment, Ranking { messages, completions, .. }) in all {
        let rewards = loop {
            let caller = Caller { owner: 0, id: "learning".to_owned(), received: Instant::now() };
            match score::rewards(app, &caller, &model, &messages, &completions).await {
                Err(error) if error.is_busy() => tokio::time::sleep(LATER).await,
                // One that does not fit the context was left out of training as well.
                Err(error) if error.is_askers() => break None,
                rewards => break Some(rewards?),
            }
        };
        scored.extend(rewards.map(|rewards| Scored { assignment, rewards }));
    }
    beside(move || write_rows(&path, &scored).map(drop).map_err(ApiError::failed)).await
}

/// The rankings that are contradicted most, and of how many; none where they were not read yet. Those that were doubted
/// before are left out.
pub(super) fn told(generation: &Generation, doubted: &BTreeSet<i64>) -> Result<Option<Value>> {
    let path = place(generation);
    if !path.exists() {
        return Ok(None);
    }
    let scores: BTreeMap<i64, Vec<f64>> =
        read_lines::<Scored>(&path)?.items.into_iter().map(|it| (it.assignment, it.rewards)).collect();
    let all = rankings(&generation.dir).context("what it learned from is gone")?;
    let of = all.len();
    let contradicted = |(assignment, ranking): (i64, Ranking)| {
        let rewards = scores.get(&assignment).filter(|_| !doubted.contains(&assignment))?;
        let rewards = Some(rewards).filter(|rewards| rewards.len() == ranking.ranks.len())?;
        Some((contradiction(&ranking.ranks, rewards)?, assignment, ranking, rewards))
    };
    let mut found: Vec<_> = all.into_iter().filter_map(contradicted).collect();
    found.sort_by(|a, b| b.0.total_cmp(&a.0));
    let contrary = found.len();
    let line = |(loss, assignment, ranking, rewards): (f64, i64, Ranking, &Vec<f64>)| {
        let answers = ranking.completions.iter().zip(&ranking.ranks).zip(rewards);
        let mut answers: Vec<(u32, Value)> = answers
            .map(|((text, rank), reward)| (*rank, json!({ "text": text, "rank": rank, "reward": reward })))
            .collect();
        answers.sort_by_key(|(rank, _)| *rank);
        json!({
            "assignment": assignment,
            "rater": ranking.extra.get("rater"),
            "loss": loss,
            "messages": ranking.messages,
            "answers": answers.into_iter().map(|(_, answer)| answer).collect::<Vec<_>>(),
        })
    };
    let told: Vec<Value> = found.into_iter().take(TOLD).map(line).collect();
    Ok(Some(json!({ "rankings": told, "contrary": contrary, "of": of })))
}

#[cfg(test)]
mod tests {
    use super::super::plan::By;
    use super::*;

    #[test]
    fn what_is_believed_least_comes_first() {
        let dir = tempfile::tempdir().unwrap();
        let row = |assignment: i64| {
            let message = json!({ "role": "user", "content": assignment.to_string() });
            json!({ "assignment": assignment, "messages": [message], "completions": ["a", "b"], "ranks": [1, 2] })
        };
        write_rows(&dir.path().join("rankings.jsonl"), (1..=5).map(row).collect::<Vec<_>>()).unwrap();
        let generation = Generation {
            number: 1,
            name: "ppo-1".into(),
            parent: "sft".into(),
            by: By::Ppo,
            rankings: 5,
            stages: Vec::new(),
            pid: None,
            failed: None,
            dir: dir.path().into(),
        };
        assert_eq!(told(&generation, &BTreeSet::new()).unwrap(), None, "nothing was read yet");
        // By how much the worse answer has the greater reward; of the third one it has the smaller.
        let scored = [(1, 0.5), (2, 2.0), (3, -1.0), (4, 1.0), (5, 3.0)];
        let scored = scored.map(|(assignment, lead)| Scored { assignment, rewards: vec![0.0, lead] });
        write_rows(&place(&generation), &scored).unwrap();
        let told = told(&generation, &BTreeSet::from([5])).unwrap().unwrap();
        let of: Vec<&Value> =
            told["rankings"].as_array().unwrap().iter().map(|it| &it["assignment"]).collect();
        assert_eq!(of, [&json!(2), &json!(4), &json!(1)]);
        assert_eq!((&told["contrary"], &told["of"]), (&json!(3), &json!(5)));
    }
}
