//! Who is asked what next.

use anyhow::Result;
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};
use serde::Serialize;
use serde_json::Value;

use super::{Rater, Refused, Store, again};
use crate::order::{Chance, Rule};

/// Seconds that an item stays in the hands of a rater of whom nothing is heard.
pub(super) const LEASE: i64 = 600;
/// One in so many items is asked a second time.
const REPEAT_EVERY: usize = 20;
/// So many other items lie between the two at least.
const REPEAT_AFTER: i64 = 5;
/// Where reward models choose, so many of a hundred items are chosen at random all the same: what is said of
/// raters and models is said of those alone.
const AT_RANDOM: usize = 30;

/// What a rater is shown. Nothing here names who answered.
#[derive(Clone, Debug, Serialize)]
pub struct Assigned {
    /// Its number.
    pub assignment: i64,
    /// The conversation: roles and texts.
    pub messages: Value,
    /// The answers in the order of the page.
    pub answers: Vec<ShownAnswer>,
    /// What the page kept of it.
    pub draft: Option<Value>,
    /// What the rater said of it before, for a correction.
    pub rated: Option<Value>,
    /// Whether the rater said something of it, and is asked once more.
    pub again: bool,
    /// How far the rater is.
    pub progress: Progress,
}

/// An answer on the page.
#[derive(Clone, Debug, Serialize)]
pub struct ShownAnswer {
    /// Its name in this assignment, which ranks refer to.
    pub id: String,
    /// Its text.
    pub text: String,
}

/// How far a rater is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Progress {
    /// Items that were ranked.
    pub done: i64,
    /// Items that wait.
    pub left: i64,
}

/// Raters who have an item or have ranked it; ?1 is the time. A correction is no further rater.
const TAKEN: &str = "(select count(*) from assignment as a where a.item = item.id and a.occurrence = 0 and \
     coalesce((select skipped is null from rating where assignment = a.id order by id desc limit 1), a.leased_until >= ?1))";

impl Store {
    /// The item that the rater has in hand, or else another one; none when nothing is left.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn next(&mut self, rater: Rater, now: i64) -> Result<Option<Assigned>, Refused> {
        let secret = self.secret;
        let tx = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let assignment = match in_hand(&tx, rater, now)? {
            Some(assignment) => Some(assignment),
            None => match (again::due(&tx, rater)?, choose(&tx, &secret, rater, now)?) {
                (Some(due), _) => Some(due),
                (None, Some(chosen)) => Some(assign(&tx, &secret, rater, chosen, now)?),
                (None, None) => None,
            },
        };
        if let Some(assignment) = assignment {
            tx.execute(
                "update assignment set leased_until = ?2 where id = ?1",
                params![assignment, now + LEASE],
            )?;
        }
        tx.commit()?;
        assignment.map(|assignment| self.assigned(rater, assignment, now)).transpose()
    }

    /// The last item that the rater ranked or skipped before this assignment, or of all, to correct it.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn previous(&self, rater: Rater, before: Option<i64>, now: i64) -> Result<Option<Assigned>, Refused> {
        let sql = "select max(assignment) from counted where rater = ?1 and assignment < ?2 and rule not in ('chat', 'import')";
        let before = before.unwrap_or(i64::MAX);
        let found: Option<i64> =
            self.connection.query_row(sql, params![rater.0, before], |row| row.get(0))?;
        found.map(|assignment| self.assigned(rater, assignment, now)).transpose()
    }

    /// What the rater is shown of an assignment of theirs.
    fn assigned(&self, rater: Rater, assignment: i64, now: i64) -> Result<Assigned, Refused> {
        let sql = "select messages, item, shown, draft from assignment join item on item.id = item where assignment.id = ?1 \
                   and rater = ?2";
        let row = self.connection.query_row(sql, params![assignment, rater.0], |row| {
            Ok((
                row.get::<_, String>(0)?,
                row.get::<_, i64>(1)?,
                row.get::<_, String>(2)?,
                row.get::<_, Option<String>>(3)?,
            ))
        });
        let (messages, item, shown, draft) = row.optional()?.ok_or(Refused::Unknown)?;
        let shown: Vec<usize> = serde_json::from_str(&shown)?;
        let mut texts =
            self.connection.prepare("select text from answer where item = ?1 order by position")?;
        let texts: Vec<String> = texts.query_map([item], |row| row.get(0))?.collect::<Result<_, _>>()?;
        let answer = |&position: &usize| ShownAnswer {
            id: self.answer_id(assignment, position),
            text: texts[position].clone(),
        };
        Ok(Assigned {
            assignment,
            messages: serde_json::from_str(&messages)?,
            answers: shown.iter().map(answer).collect(),
            draft: draft.map(|draft| serde_json::from_str(&draft)).transpose()?,
            rated: self.rated(assignment, &shown)?,
            again: again::due(&self.connection, rater)? == Some(assignment),
            progress: self.progress(rater, now)?,
        })
    }

    /// How far a rater is.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn progress(&self, rater: Rater, now: i64) -> Result<Progress> {
        let done = "select count(*) from counted where rater = ?1 and skipped is null and rule not in ('chat', 'import')";
        let done = self.connection.query_row(done, [rater.0], |row| row.get(0))?;
        let in_hand =
            "select count(*) from assignment where rater = ?1 and id not in (select assignment from rating)";
        let in_hand: i64 = self.connection.query_row(in_hand, [rater.0], |row| row.get(0))?;
        let due = again::count_due(&self.connection, rater)?;
        Ok(Progress { done, left: in_hand + due + waiting(&self.connection, rater, now)? })
    }

    /// The name of an answer in an assignment: it tells nothing of the answer.
    pub(super) fn answer_id(&self, assignment: i64, position: usize) -> String {
        let hash = blake3::keyed_hash(&self.secret, format!("answer {assignment} {position}").as_bytes());
        hash.to_hex()[..12].to_owned()
    }
}

/// An assignment of the rater that is not ranked yet. One that was in hand for too long may be others' now.
fn in_hand(tx: &Transaction<'_>, rater: Rater, now: i64) -> Result<Option<i64>> {
    let sql = "select id from assignment where rater = ?1 and id not in (select assignment from rating) order by id desc limit 1";
    let found: Option<i64> = tx.query_row(sql, [rater.0], |row| row.get(0)).optional()?;
    match found {
        Some(assignment) if !may_hold(tx, assignment, now)? => {
            tx.execute("delete from assignment where id = ?1", [assignment])?;
            Ok(None)
        }
        found => Ok(found),
    }
}

/// Whether an assignment that is not ranked is still its rater's: the time is not over, or nobody else took
/// the item meanwhile.
pub(super) fn may_hold(tx: &Transaction<'_>, assignment: i64, now: i64) -> Result<bool> {
    let sql = format!(
        "select occurrence > 0 or leased_until >= ?1 or {TAKEN} < quota from assignment join item on item.id = item \
         where assignment.id = ?2"
    );
    Ok(tx.query_row(&sql, params![now, assignment], |row| row.get(0))?)
}

fn waiting(connection: &Connection, rater: Rater, now: i64) -> Result<i64> {
    let sql = format!("select count(*) from item where {}", available());
    Ok(connection.query_row(&sql, params![now, rater.0], |row| row.get(0))?)
}

/// Items that a rater may be given; ?1 is the time, ?2 the rater.
fn available() -> String {
    format!(
        "source = 'candidates' and not exists (select 1 from assignment where item = item.id and rater = ?2) and {TAKEN} < quota"
    )
}

/// An item for the rater, the rule that chose it, and how often they had it before.
fn choose(
    tx: &Transaction<'_>,
    secret: &[u8; 32],
    rater: Rater,
    now: i64,
) -> Result<Option<(i64, Rule, i64)>> {
    let count = |sql: &str| tx.query_row(sql, [rater.0], |row| row.get::<_, i64>(0));
    let firsts =
        count("select count(*) from assignment where rater = ?1 and rule in ('random', 'disagreement')")?;
    let repeats = count("select count(*) from assignment where rater = ?1 and rule = 'repeat'")?;
    let mut chance = Chance::new(secret, &format!("choice {} {firsts} {repeats}", rater.0));
    if is_repeat_due(secret, rater, firsts as usize, repeats as usize)
        && let Some(item) = repeated(tx, rater, &mut chance)?
    {
        return Ok(Some((item, Rule::Repeat, 1)));
    }
    let waiting = waiting(tx, rater, now)?;
    if waiting == 0 {
        return Ok(None);
    }
    let apart = format!(
        "select id from item where {} and disagreement is not null order by disagreement desc, id limit 1",
        available()
    );
    let apart: Option<i64> = tx.query_row(&apart, params![now, rater.0], |row| row.get(0)).optional()?;
    if let Some(item) = apart.filter(|_| chance.below(100) >= AT_RANDOM) {
        return Ok(Some((item, Rule::Disagreement, 0)));
    }
    let sql = format!("select id from item where {} order by id limit 1 offset ?3", available());
    let offset = chance.below(waiting as usize) as i64;
    let item = tx.query_row(&sql, params![now, rater.0, offset], |row| row.get(0))?;
    Ok(Some((item, Rule::Random, 0)))
}

/// Once in every [`REPEAT_EVERY`] items, somewhere in them, but not before there is something to repeat.
fn is_repeat_due(secret: &[u8; 32], rater: Rater, firsts: usize, repeats: usize) -> bool {
    let mut chance = Chance::new(secret, &format!("repeat {} {repeats}", rater.0));
    let within = REPEAT_EVERY - REPEAT_AFTER as usize - 1;
    firsts >= repeats * REPEAT_EVERY + REPEAT_AFTER as usize + 1 + chance.below(within)
}

/// An item that the rater ranked a while ago, and once.
fn repeated(tx: &Transaction<'_>, rater: Rater, chance: &mut Chance) -> Result<Option<i64>> {
    let sql = "select item from counted where rater = ?1 and skipped is null and rule in ('random', 'disagreement') \
               and item not in (select item from assignment where rater = ?1 and rule = 'repeat') \
               and (select count(*) from assignment as later where later.rater = ?1 and later.id > counted.assignment) >= ?2";
    let mut found = tx.prepare(sql)?;
    let items: Vec<i64> =
        found.query_map(params![rater.0, REPEAT_AFTER], |row| row.get(0))?.collect::<Result<_, _>>()?;
    Ok((!items.is_empty()).then(|| items[chance.below(items.len())]))
}

fn assign(
    tx: &Transaction<'_>,
    secret: &[u8; 32],
    rater: Rater,
    (item, rule, occurrence): (i64, Rule, i64),
    now: i64,
) -> Result<i64> {
    let answers = "select count(*) from answer where item = ?1";
    let answers: i64 = tx.query_row(answers, [item], |row| row.get(0))?;
    let mut chance = Chance::new(secret, &format!("order {item} {} {occurrence}", rater.0));
    let shown = serde_json::to_string(&chance.permutation(answers as usize))?;
    tx.execute(
        "insert into assignment (item, rater, occurrence, rule, shown, leased_until) values (?1, ?2, ?3, ?4, ?5, ?6)",
        params![item, rater.0, occurrence, rule.name(), shown, now + LEASE],
    )?;
    Ok(tx.last_insert_rowid())
}
