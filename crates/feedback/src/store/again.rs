//! Ratings that a reward model doubts: whoever gave one is asked again, or the owner lets it stand.

use anyhow::Result;
use rusqlite::{Connection, OptionalExtension, params};
use std::collections::BTreeSet;

use super::{Rater, Refused, Store};

/// Of assignments that are asked for again those that nothing was said of since.
const DUE: &str = "from again join assignment on assignment.id = again.assignment \
     where kept = 0 and rater = ?1 and rating = (select max(id) from rating where rating.assignment = again.assignment)";

impl Store {
    /// Doubts what was said of an assignment: its rater is asked again before everything else, or it is kept. Either way it
    /// is not doubted a second time.
    ///
    /// # Errors
    /// Nothing was said of it; the store cannot be written.
    pub fn doubt(&mut self, assignment: i64, is_kept: bool) -> Result<(), Refused> {
        let sql = "insert into again (assignment, rating, kept) select assignment, id, ?2 from counted where assignment = ?1 \
                   on conflict (assignment) do update set rating = excluded.rating, kept = excluded.kept";
        let changed = self.connection.execute(sql, params![assignment, is_kept])?;
        if changed == 0 { Err(Refused::Unknown) } else { Ok(()) }
    }

    /// The assignments that were doubted.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn doubted(&self) -> Result<BTreeSet<i64>> {
        let mut found = self.connection.prepare("select assignment from again")?;
        Ok(found.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?)
    }
}

/// The assignment that its rater is to look at again.
pub(super) fn due(connection: &Connection, rater: Rater) -> Result<Option<i64>> {
    let sql = format!("select again.assignment {DUE} order by again.assignment limit 1");
    Ok(connection.query_row(&sql, [rater.0], |row| row.get(0)).optional()?)
}

/// How many there are.
pub(super) fn count_due(connection: &Connection, rater: Rater) -> Result<i64> {
    Ok(connection.query_row(&format!("select count(*) {DUE}"), [rater.0], |row| row.get(0))?)
}
