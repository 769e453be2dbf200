//! Ratings as rows of files, in and out.

use anyhow::Result;
use rusqlite::{TransactionBehavior, params};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use text::data::messages::Ranking;

use super::{Store, items};

/// What became of rankings that were read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Those that are there now.
    pub new: u64,
    /// Those that were there.
    pub known: u64,
}

/// A ranking that counts, as a row.
struct Counted {
    assignment: i64,
    /// The name.
    rater: String,
    ranking: Map<String, Value>,
}

impl Store {
    /// Adds rankings, each with the row that it was read from. Rows that were added before are not added again.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn import(&mut self, rankings: &[(Ranking, Map<String, Value>)], now: i64) -> Result<Imported> {
        let raters = rankings.iter().map(|(_, row)| named(row)).collect::<Vec<_>>();
        let mut ids = BTreeMap::new();
        for name in &raters {
            if !ids.contains_key(name) {
                ids.insert(name.clone(), self.rater(name)?);
            }
        }
        let tx = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let (mut imported, mut seen) = (Imported::default(), BTreeMap::<String, u32>::new());
        for ((ranking, row), name) in rankings.iter().zip(&raters) {
            let row = serde_json::to_string(row)?;
            let digest = blake3::hash(row.as_bytes()).to_hex()[..32].to_owned();
            // Two people may have said the very same.
            let count = seen.entry(digest.clone()).and_modify(|count| *count += 1).or_insert(1);
            let key = format!("import {digest} {count}");
            if tx
                .query_row("select count(*) from rating where key = ?1", [&key], |row| row.get::<_, i64>(0))?
                > 0
            {
                imported.known += 1;
                continue;
            }
            let models = models(ranking);
            let answers: Vec<(String, Vec<String>)> =
                ranking.completions.iter().cloned().zip(models).collect();
            let (item, _) = items::insert(&tx, "import", &ranking.messages, &ranking.extra, &answers, |_| 1)?;
            let shown: Vec<usize> = (0..answers.len()).collect();
            tx.execute(
                "insert into assignment (item, rater, occurrence, rule, shown, leased_until) values (?1, ?2, \
                 (select count(*) from assignment where item = ?1 and rater = ?2), 'import', ?3, ?4)",
                params![item, ids[name].0, json!(shown).to_string(), now],
            )?;
            tx.execute(
                "insert into rating (key, assignment, ranks, all_bad, comment, seconds, guidelines, given, at) \
                 values (?1, ?2, ?3, 0, '', 0, '', ?4, ?5)",
                params![key, tx.last_insert_rowid(), json!(ranking.ranks).to_string(), row, now],
            )?;
            imported.new += 1;
        }
        tx.commit()?;
        Ok(imported)
    }

    /// What counts, as rows that `mynah reward` and `mynah dpo` read, in the order in which it was said: of an
    /// imported ranking its own row, of others messages, completions, ranks and, in `rating`, who said it and
    /// how. Items that a rater had twice are told once, skipped ones not at all.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn rankings(&self) -> Result<Vec<Map<String, Value>>> {
        Ok(self.counted()?.into_iter().map(|counted| counted.ranking).collect())
    }

    /// The same rows, each with the number of its assignment, by which it is found again, and who said it.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn numbered_rankings(&self) -> Result<Vec<Map<String, Value>>> {
        let numbered = |Counted { assignment, rater, mut ranking }| {
            ranking.insert("assignment".into(), json!(assignment));
            ranking.insert("rater".into(), json!(rater));
            ranking
        };
        Ok(self.counted()?.into_iter().map(numbered).collect())
    }

    /// Everything that was asked, each conversation once, as rows that `mynah ppo` reads.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn prompts(&self) -> Result<Vec<Value>> {
        let mut found =
            self.connection.prepare("select messages from item group by messages order by min(id)")?;
        let rows = found.query_map([], |row| row.get::<_, String>(0))?;
        rows.map(|messages| Ok(json!({ "messages": serde_json::from_str::<Value>(&messages?)? }))).collect()
    }

    /// How many rankings there are to learn from, and how many conversations were asked about.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn counts(&self) -> Result<(i64, i64)> {
        let sql = "select (select count(*) from counted where skipped is null and rule <> 'repeat'), \
                   (select count(distinct messages) from item)";
        Ok(self.connection.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?)))?)
    }

    fn counted(&self) -> Result<Vec<Counted>> {
        let sql = "select counted.*, messages, extra, name from counted join item on item.id = item join rater on rater.id = rater \
                   where skipped is null and rule <> 'repeat' order by counted.id";
        let mut found = self.connection.prepare(sql)?;
        let mut answers =
            self.connection.prepare("select text, models from answer where item = ?1 order by position")?;
        let mut rows = found.query([])?;
        let mut rankings = Vec::new();
        while let Some(row) = rows.next()? {
            let (assignment, rater): (i64, String) = (row.get("assignment")?, row.get("name")?);
            if let Some(given) = row.get::<_, Option<String>>("given")? {
                rankings.push(Counted { assignment, rater, ranking: serde_json::from_str(&given)? });
                continue;
            }
            let json =
                |name: &str| -> Result<Value> { Ok(serde_json::from_str(&row.get::<_, String>(name)?)?) };
            let item: i64 = row.get("item")?;
            let texts =
                answers.query_map([item], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
            let (mut completions, mut models) = (Vec::new(), Vec::new());
            for text in texts {
                let (text, by) = text?;
                completions.push(text);
                models.push(serde_json::from_str::<Vec<String>>(&by)?);
            }
            let mut ranking = Map::new();
            ranking.insert("messages".into(), json("messages")?);
            ranking.insert("completions".into(), json!(completions));
            ranking.insert("ranks".into(), json("ranks")?);
            if let Value::Object(extra) = json("extra")? {
                ranking.extend(extra);
            }
            if models.iter().any(|by| !by.is_empty()) {
                ranking.insert("models".into(), json!(models));
            }
            ranking.insert(
                "rating".into(),
                json!({
                    "rater": rater,
                    "rule": row.get::<_, String>("rule")?,
                    "shown": json("shown")?,
                    "all_bad": row.get::<_, bool>("all_bad")?,
                    "comment": row.get::<_, String>("comment")?,
                    "seconds": row.get::<_, f64>("seconds")?,
                    "guidelines": row.get::<_, String>("guidelines")?,
                    "at": row.get::<_, i64>("at")?,
                }),
            );
            rankings.push(Counted { assignment, rater, ranking });
        }
        Ok(rankings)
    }
}

/// Who ranked a row: our own files say so.
fn named(row: &Map<String, Value>) -> String {
    let rater = row.get("rating").and_then(|rating| rating["rater"].as_str());
    rater
        .filter(|name| !name.trim().is_empty() && *name != "owner")
        .unwrap_or("import")
        .chars()
        .take(100)
        .collect()
}

/// Who gave each answer of a row: our own files say so.
fn models(ranking: &Ranking) -> Vec<Vec<String>> {
    let models = ranking.extra.get("models").cloned();
    let models: Option<Vec<Vec<String>>> = models.and_then(|models| serde_json::from_value(models).ok());
    let models = models.filter(|models| models.len() == ranking.completions.len());
    models.unwrap_or_else(|| vec![Vec::new(); ranking.completions.len()])
}
