//! Prompts with their answers.

use anyhow::Result;
use rusqlite::{OptionalExtension, Transaction, TransactionBehavior, params};
use serde_json::{Map, Value, json};
use text::data::messages::Message;

use super::Store;
use crate::order::Chance;

/// Answers that a rater can rank: each has a digit on the keyboard.
pub(super) const ANSWERS: std::ops::RangeInclusive<usize> = 2..=9;

/// A prompt with answers that wait to be ranked.
#[derive(Clone, Debug)]
pub struct NewItem {
    /// What was said.
    pub messages: Vec<Message>,
    /// Each answer, with the name of who gave it.
    pub answers: Vec<(String, Option<String>)>,
    /// Further fields, which no rater sees.
    pub extra: Map<String, Value>,
}

/// How often items are ranked.
#[derive(Clone, Copy, Debug)]
pub struct ItemOptions {
    /// How many raters rank an item.
    pub raters: u32,
    /// The share of items that one rater more ranks, by which agreement is measured.
    pub overlap: f64,
}

/// An item that reward models were not asked about.
#[derive(Clone, Debug)]
pub struct Unscored {
    /// Its number.
    pub id: i64,
    /// What was said.
    pub messages: Vec<Message>,
    /// The answers.
    pub answers: Vec<String>,
}

/// What became of new items.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Added {
    /// Those that wait now.
    pub new: u64,
    /// Those that were there.
    pub known: u64,
    /// Those without two different answers.
    pub alike: u64,
    /// Those with more answers than can be ranked at once.
    pub too_many: u64,
}

impl Store {
    /// Adds items that are not there yet. Equal answers are shown once.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn add(&mut self, items: &[NewItem], options: ItemOptions) -> Result<Added> {
        let secret = self.secret;
        let tx = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut added = Added::default();
        for item in items {
            let answers = merged(&item.answers);
            if answers.len() < *ANSWERS.start() {
                added.alike += 1;
                continue;
            }
            if answers.len() > *ANSWERS.end() {
                added.too_many += 1;
                continue;
            }
            let (_, is_new) = insert(&tx, "candidates", &item.messages, &item.extra, &answers, |digest| {
                let share = Chance::new(&secret, &format!("overlap {digest}")).below(1 << 20);
                options.raters + u32::from((share as f64) < options.overlap * f64::from(1 << 20))
            })?;
            *(if is_new { &mut added.new } else { &mut added.known }) += 1;
        }
        tx.commit()?;
        Ok(added)
    }

    /// Items on which no reward models were heard.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn unscored(&self) -> Result<Vec<Unscored>> {
        let sql =
            "select id, messages from item where source = 'candidates' and disagreement is null order by id";
        let mut items = self.connection.prepare(sql)?;
        let mut answers =
            self.connection.prepare("select text from answer where item = ?1 order by position")?;
        let rows = items.query_map([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?)))?;
        let mut found = Vec::new();
        for row in rows {
            let (id, messages) = row?;
            let texts = answers.query_map([id], |row| row.get(0))?.collect::<Result<_, _>>()?;
            found.push(Unscored { id, messages: serde_json::from_str(&messages)?, answers: texts });
        }
        Ok(found)
    }

    /// Keeps how far reward models are apart on items.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn set_disagreement(&mut self, of: &[(i64, f64)]) -> Result<()> {
        let tx = self.connection.transaction()?;
        for (item, disagreement) in of {
            tx.execute("update item set disagreement = ?2 where id = ?1", params![item, disagreement])?;
        }
        Ok(tx.commit()?)
    }
}

/// Each text once, with all who gave it.
fn merged(answers: &[(String, Option<String>)]) -> Vec<(String, Vec<String>)> {
    let mut merged: Vec<(String, Vec<String>)> = Vec::new();
    for (text, model) in answers {
        let at = merged.iter().position(|(known, _)| known == text).unwrap_or_else(|| {
            merged.push((text.clone(), Vec::new()));
            merged.len() - 1
        });
        let models = &mut merged[at].1;
        models.extend(model.iter().filter(|model| !models.contains(model)).cloned().collect::<Vec<_>>());
    }
    merged
}

/// The number of an item with these messages and answers of these models, and whether it is new.
pub(super) fn insert(
    tx: &Transaction<'_>,
    source: &str,
    messages: &[Message],
    extra: &Map<String, Value>,
    answers: &[(String, Vec<String>)],
    quota: impl FnOnce(&str) -> u32,
) -> Result<(i64, bool)> {
    // Two models may give the same answers the other way round.
    let digest = blake3::hash(serde_json::to_string(&json!([messages, answers]))?.as_bytes()).to_hex();
    let known = tx.query_row("select id from item where digest = ?1", [digest.as_str()], |row| row.get(0));
    if let Some(known) = known.optional()? {
        return Ok((known, false));
    }
    let (messages, extra) = (serde_json::to_string(messages)?, serde_json::to_string(extra)?);
    tx.execute(
        "insert into item (digest, source, messages, extra, quota) values (?1, ?2, ?3, ?4, ?5)",
        params![digest.as_str(), source, messages, extra, quota(&digest)],
    )?;
    let id = tx.last_insert_rowid();
    for (position, (text, models)) in answers.iter().enumerate() {
        tx.execute(
            "insert into answer (item, position, text, models) values (?1, ?2, ?3, ?4)",
            params![id, position as i64, text, serde_json::to_string(models)?],
        )?;
    }
    Ok((id, true))
}
