//! What a store's report is made of.

use anyhow::Result;

use super::Store;
use crate::order::Rule;
use crate::statistics::{Item, Rated, Report, Said};

impl Store {
    /// What the ratings say.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn report(&self) -> Result<Report> {
        Ok(Report::of(&self.said()?))
    }

    fn said(&self) -> Result<Said> {
        let waiting = "select count(*) from item where source = 'candidates'";
        let mut said =
            Said { waiting: self.connection.query_row(waiting, [], |row| row.get(0))?, ..Said::default() };
        let sql = "select item, name, rule, ranks, all_bad, skipped, seconds from counted join rater on rater.id = rater \
                   order by counted.id";
        let mut counted = self.connection.prepare(sql)?;
        let mut rows = counted.query([])?;
        while let Some(row) = rows.next()? {
            let ranks: Option<String> = row.get(3)?;
            said.rated.push(Rated {
                item: row.get(0)?,
                rater: row.get(1)?,
                rule: Rule::of(&row.get::<_, String>(2)?).unwrap_or(Rule::Random),
                ranks: ranks.map(|ranks| serde_json::from_str(&ranks)).transpose()?,
                all_bad: row.get(4)?,
                skipped: row.get(5)?,
                seconds: row.get(6)?,
            });
        }
        let sql = "select item, text, models from answer where item in (select item from counted) order by item, position";
        let mut answers = self.connection.prepare(sql)?;
        let mut rows = answers.query([])?;
        while let Some(row) = rows.next()? {
            let item = said.items.entry(row.get(0)?).or_insert(Item { answers: Vec::new() });
            item.answers.push((row.get(1)?, serde_json::from_str(&row.get::<_, String>(2)?)?));
        }
        // An owner who ranks nothing is no rater.
        let sql = "select name from rater where id > 1 or id in (select rater from counted) order by id";
        let mut raters = self.connection.prepare(sql)?;
        said.raters = raters.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
        Ok(said)
    }
}
