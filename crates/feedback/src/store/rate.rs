//! What raters say.

use anyhow::Result;
use rusqlite::{OptionalExtension, Transaction, TransactionBehavior, params};
use serde_json::{Value, json};
use std::collections::BTreeMap;

use super::assign::may_hold;
use super::{Rater, Refused, Store};

/// Bytes of a draft and of a comment, at most.
const DRAFT: usize = 16 << 10;
const COMMENT: usize = 4 << 10;
/// Bytes of a key.
const KEY: usize = 100;

/// What is said of an item.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// The rank of each answer by its id; 1 is best, equal ranks are ties.
    Ranked(BTreeMap<String, u32>),
    /// None of the answers is any good: none is better than another.
    AllBad,
    /// It cannot be judged, and why.
    Skipped(String),
}

/// A verdict on an assignment.
#[derive(Clone, Debug)]
pub struct Submission {
    /// Whose item it is, and in which order it was shown.
    pub assignment: i64,
    /// The page's: the same one twice is one rating, and with other words it is refused.
    pub key: String,
    /// What is said.
    pub verdict: Verdict,
    /// What else is to be said.
    pub comment: String,
    /// How long it took.
    pub seconds: f64,
    /// The digest of the guidelines that stood beside it.
    pub guidelines: String,
}

/// Whether a page may name something so.
pub(super) fn is_key(key: &str) -> bool {
    (1..=KEY).contains(&key.len())
}

/// A rating as a row of its table.
pub(super) struct Row<'a> {
    pub(super) key: &'a str,
    pub(super) assignment: i64,
    pub(super) ranks: Option<&'a [u32]>,
    pub(super) all_bad: bool,
    pub(super) skipped: Option<&'a str>,
    pub(super) comment: &'a str,
    pub(super) seconds: f64,
    pub(super) guidelines: &'a str,
}

impl Row<'_> {
    /// Writes it: its number, or that of the rating that was kept with this key.
    ///
    /// # Errors
    /// A field is out of its range; the key was used for something else, which is not to be taken for this; the
    /// store cannot be written.
    pub(super) fn write(&self, tx: &Transaction<'_>, now: i64) -> Result<i64, Refused> {
        let Row { key, assignment, all_bad, skipped, comment, seconds, guidelines, .. } = *self;
        let wrong = |what: String| Err(Refused::Wrong(what));
        if !is_key(key) {
            return wrong(format!("a key has 1 to {KEY} characters"));
        }
        if comment.len() > COMMENT {
            return wrong(format!("a comment has {COMMENT} bytes at most"));
        }
        if !(seconds.is_finite() && seconds >= 0.0) {
            return wrong("seconds is no time".to_owned());
        }
        let ranks = self.ranks.map(|ranks| json!(ranks).to_string());
        let known = "select id, assignment = ?2 and ranks is ?3 and all_bad = ?4 and skipped is ?5 and comment = ?6 \
                     from rating where key = ?1";
        let same = params![key, assignment, ranks, all_bad, skipped, comment];
        let known = tx.query_row(known, same, |row| Ok((row.get(0)?, row.get(1)?)));
        match known.optional()? {
            Some((rating, true)) => return Ok(rating),
            Some(_) => return Err(Refused::Wrong("this key belongs to another rating".to_owned())),
            None => {}
        }
        tx.execute(
            "insert into rating (key, assignment, ranks, all_bad, skipped, comment, seconds, guidelines, at) \
             values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            params![key, assignment, ranks, all_bad, skipped, comment, seconds, guidelines, now],
        )?;
        Ok(tx.last_insert_rowid())
    }
}

impl Store {
    /// Keeps what the page has on an assignment so far; the rater has it for another while.
    ///
    /// # Errors
    /// It is not the rater's; the draft is too long; the store cannot be written.
    pub fn draft(&mut self, rater: Rater, assignment: i64, draft: &Value, now: i64) -> Result<(), Refused> {
        let draft = serde_json::to_string(draft)?;
        if draft.len() > DRAFT {
            return Err(Refused::Wrong(format!("a draft has {DRAFT} bytes at most")));
        }
        let tx = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        check(&tx, rater, assignment, now)?;
        // What was submitted meanwhile, as from another tab, is begun no more.
        let sql = "update assignment set draft = ?2, leased_until = max(leased_until, ?3) \
                   where id = ?1 and id not in (select assignment from rating)";
        tx.execute(sql, params![assignment, draft, now + super::assign::LEASE])?;
        Ok(tx.commit()?)
    }

    /// Keeps a verdict. When this returns it is on the disk.
    ///
    /// # Errors
    /// The assignment is not the rater's; the ranks do not fit what was shown; the store cannot be written.
    pub fn submit(&mut self, rater: Rater, said: &Submission, now: i64) -> Result<i64, Refused> {
        let ids = self.ids_by_position(rater, said.assignment)?;
        let (ranks, skipped) = match &said.verdict {
            Verdict::Ranked(ranks) => (Some(ranks_by_position(&ids, ranks)?), None),
            Verdict::AllBad => (Some(vec![1; ids.len()]), None),
            Verdict::Skipped(why) if why.trim().is_empty() => {
                return Err(Refused::Wrong("a skipped item needs a reason".to_owned()));
            }
            Verdict::Skipped(why) => (None, Some(why)),
        };
        let tx = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        check(&tx, rater, said.assignment, now)?;
        let row = Row {
            key: &said.key,
            assignment: said.assignment,
            ranks: ranks.as_deref(),
            all_bad: said.verdict == Verdict::AllBad,
            skipped: skipped.map(String::as_str),
            comment: &said.comment,
            seconds: said.seconds,
            guidelines: &said.guidelines,
        };
        let rating = row.write(&tx, now)?;
        tx.execute("update assignment set draft = null where id = ?1", [said.assignment])?;
        tx.commit()?;
        Ok(rating)
    }

    /// How many ratings there are, corrections too.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn ratings(&self) -> Result<i64> {
        Ok(self.connection.query_row("select count(*) from rating", [], |row| row.get(0))?)
    }

    /// What counts of an assignment, by the names that its page knows.
    pub(super) fn rated(&self, assignment: i64, shown: &[usize]) -> Result<Option<Value>> {
        let sql = "select ranks, all_bad, skipped, comment from counted where assignment = ?1";
        let row = self.connection.query_row(sql, [assignment], |row| {
            let (ranks, all_bad): (Option<String>, bool) = (row.get(0)?, row.get(1)?);
            let (skipped, comment): (Option<String>, String) = (row.get(2)?, row.get(3)?);
            Ok((ranks, all_bad, skipped, comment))
        });
        let Some((ranks, all_bad, skipped, comment)) = row.optional()? else { return Ok(None) };
        let ranks: Vec<u32> =
            ranks.map(|ranks| serde_json::from_str(&ranks)).transpose()?.unwrap_or_default();
        let named = |&position: &usize| {
            let rank = ranks.get(position).filter(|_| !all_bad)?;
            Some((self.answer_id(assignment, position), json!(rank)))
        };
        let ranks: serde_json::Map<String, Value> = shown.iter().filter_map(named).collect();
        Ok(Some(json!({ "ranks": ranks, "all_bad": all_bad, "skipped": skipped, "comment": comment })))
    }

    fn ids_by_position(&self, rater: Rater, assignment: i64) -> Result<Vec<String>, Refused> {
        let sql = "select shown from assignment where id = ?1 and rater = ?2";
        let shown =
            self.connection.query_row(sql, params![assignment, rater.0], |row| row.get::<_, String>(0));
        let shown: Vec<usize> = serde_json::from_str(&shown.optional()?.ok_or(Refused::Unknown)?)?;
        Ok((0..shown.len()).map(|position| self.answer_id(assignment, position)).collect())
    }
}

/// Whether a rater may say something about an assignment: it is theirs, and was ranked before or is in their
/// hands.
fn check(tx: &Transaction<'_>, rater: Rater, assignment: i64, now: i64) -> Result<(), Refused> {
    let sql = "select exists (select 1 from rating where assignment = ?1) from assignment where id = ?1 and rater = ?2";
    let is_rated: Option<bool> =
        tx.query_row(sql, params![assignment, rater.0], |row| row.get(0)).optional()?;
    match is_rated {
        None => Err(Refused::Unknown),
        Some(true) => Ok(()),
        Some(false) if may_hold(tx, assignment, now)? => Ok(()),
        Some(false) => Err(Refused::Expired),
    }
}

/// Ranks from 1 without gaps, by position.
fn ranks_by_position(ids: &[String], said: &BTreeMap<String, u32>) -> Result<Vec<u32>, Refused> {
    let wrong = |what: String| Refused::Wrong(what);
    if let Some(unknown) = said.keys().find(|id| !ids.contains(id)) {
        return Err(wrong(format!("there is no answer {unknown:?} in this item")));
    }
    let rank = |id: &String| {
        let rank = said.get(id).copied().filter(|rank| *rank > 0);
        rank.ok_or_else(|| wrong(format!("answer {id:?} has no rank: they are whole numbers from 1")))
    };
    let ranks = ids.iter().map(rank).collect::<Result<Vec<u32>, _>>()?;
    Ok(dense(&ranks))
}

/// The same order by ranks from 1 without gaps.
pub(super) fn dense(ranks: &[u32]) -> Vec<u32> {
    let mut all = ranks.to_vec();
    all.sort_unstable();
    all.dedup();
    ranks.iter().map(|rank| 1 + all.partition_point(|other| other < rank) as u32).collect()
}
