//! What is said in the chat page: answers ranked on the spot, votes, corrections, thumbs.

use anyhow::Result;
use rusqlite::{TransactionBehavior, params};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use text::data::messages::Message;

use super::rate::{Row, dense, is_key};
use super::{Refused, Store, items};

/// Answers of a chat, ranked: four of one model, one of each of two, or one and how it should have been.
#[derive(Clone, Debug, Deserialize)]
pub struct ChatRanking {
    /// The page's: the same one twice is one ranking, and with other words it is refused.
    pub key: String,
    /// What was said before the answers.
    pub messages: Vec<Message>,
    /// The answers, with the names of who gave them, in the order in which they were shown.
    pub completions: Vec<(String, Option<String>)>,
    /// The rank of each; 1 is best. None where all of them are bad.
    pub ranks: Option<Vec<u32>>,
    /// What else is to be said.
    #[serde(default)]
    pub comment: String,
    /// Seconds that it took.
    #[serde(default)]
    pub seconds: f64,
}

/// A thumb on an answer.
#[derive(Clone, Debug, Deserialize)]
pub struct Thumb {
    /// The page's: the same one twice is one thumb.
    pub key: String,
    /// The page's name of the answer: the last thumb on it counts.
    pub subject: String,
    /// What was said before the answer.
    pub messages: Vec<Message>,
    /// The answer.
    pub completion: String,
    /// Whether it is good; null takes it back.
    pub label: Option<bool>,
    /// Model, seed, settings.
    #[serde(default)]
    pub about: Map<String, Value>,
}

impl Store {
    /// Keeps a ranking of the chat's answers as the owner's. The same answers ranked again are a correction.
    ///
    /// # Errors
    /// The ranks do not fit the answers; the store cannot be written.
    pub fn rank_chat(&mut self, said: &ChatRanking, now: i64) -> Result<i64, Refused> {
        let n = said.completions.len();
        let wrong = |what: &str| Err(Refused::Wrong(what.to_owned()));
        if !items::ANSWERS.contains(&n) {
            return wrong("2 to 9 answers can be ranked");
        }
        if said.messages.is_empty() {
            return wrong("messages is empty: what was answered?");
        }
        let ranks = match &said.ranks {
            Some(ranks) if ranks.len() != n || ranks.contains(&0) => {
                return wrong("ranks has a whole number from 1 for each answer");
            }
            Some(ranks) => dense(ranks),
            None => vec![1; n],
        };
        let answers: Vec<(String, Vec<String>)> = said
            .completions
            .iter()
            .map(|(text, model)| (text.clone(), model.iter().cloned().collect()))
            .collect();
        let (owner, guidelines) = (self.owner(), self.guidelines()?.digest);
        let tx = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let (item, _) = items::insert(&tx, "chat", &said.messages, &Map::new(), &answers, |_| 1)?;
        let shown = json!((0..n).collect::<Vec<_>>()).to_string();
        tx.execute(
            "insert into assignment (item, rater, occurrence, rule, shown, leased_until) values (?1, ?2, 0, 'chat', ?3, ?4) \
             on conflict do nothing",
            params![item, owner.0, shown, now],
        )?;
        let sql = "select id from assignment where item = ?1 and rater = ?2 and occurrence = 0";
        let assignment: i64 = tx.query_row(sql, [item, owner.0], |row| row.get(0))?;
        let row = Row {
            key: &said.key,
            assignment,
            ranks: Some(&ranks),
            all_bad: said.ranks.is_none(),
            skipped: None,
            comment: &said.comment,
            seconds: said.seconds,
            guidelines: &guidelines,
        };
        let rating = row.write(&tx, now)?;
        tx.commit()?;
        Ok(rating)
    }

    /// Keeps a thumb.
    ///
    /// # Errors
    /// It lacks a key or a subject; the store cannot be written.
    pub fn thumb(&mut self, said: &Thumb, now: i64) -> Result<(), Refused> {
        if !is_key(&said.key) || !is_key(&said.subject) {
            return Err(Refused::Wrong("key and subject have 1 to 100 characters".to_owned()));
        }
        self.connection.execute(
            "insert into thumb (key, subject, messages, answer, label, about, at) values (?1, ?2, ?3, ?4, ?5, ?6, ?7) \
             on conflict (key) do nothing",
            params![
                said.key,
                said.subject,
                serde_json::to_string(&said.messages)?,
                said.completion,
                said.label,
                serde_json::to_string(&said.about)?,
                now
            ],
        )?;
        Ok(())
    }

    /// Answers with the thumbs that count, as rows of KTO's form (Ethayarajh et al. 2024).
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn labelled(&self) -> Result<Vec<Map<String, Value>>> {
        let sql = "select messages, answer, label, about from thumb where label is not null \
                   and id = (select max(id) from thumb as other where other.subject = thumb.subject) order by id";
        let mut found = self.connection.prepare(sql)?;
        let mut rows = found.query([])?;
        let mut labelled = Vec::new();
        while let Some(row) = rows.next()? {
            let json = |at: usize| -> Result<Value> { Ok(serde_json::from_str(&row.get::<_, String>(at)?)?) };
            let (answer, label): (String, bool) = (row.get(1)?, row.get(2)?);
            let fields = [
                ("messages", json(0)?),
                ("completion", answer.into()),
                ("label", label.into()),
                ("about", json(3)?),
            ];
            labelled.push(fields.map(|(name, value)| (name.to_owned(), value)).into_iter().collect());
        }
        Ok(labelled)
    }
}
