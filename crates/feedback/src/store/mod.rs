//! One SQLite file.

mod again;
mod assign;
mod chat;
mod exchange;
mod items;
mod rate;
mod rated;
#[cfg(test)]
mod tests;

use anyhow::{Context, Result, anyhow, bail, ensure};
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, TransactionBehavior};
use serde::Serialize;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

pub use assign::{Assigned, Progress, ShownAnswer};
pub use chat::{ChatRanking, Thumb};
pub use exchange::Imported;
pub use items::{Added, ItemOptions, NewItem, Unscored};
pub use rate::{Submission, Verdict};

/// What raters are told, unless somebody writes their own: in English and in Chinese.
pub const GUIDELINES: [&str; 2] = [include_str!("../guidelines.en.md"), include_str!("../guidelines.zh.md")];

const SCHEMA: &str = include_str!("schema.sql");
const AGAIN: &str = include_str!("again.sql");
/// "mynh": tells our files from those of other programs.
const APPLICATION: i32 = 0x6d79_6e68;
const VERSION: i32 = 2;
/// Another process may be writing for so long.
const PATIENCE: Duration = Duration::from_secs(10);

/// Items, raters and what they said.
pub struct Store {
    connection: Connection,
    secret: [u8; 32],
}

/// Somebody who ranks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rater(i64);

/// What somebody with a token may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Everything, ranking too.
    Owner(Rater),
    /// Rank.
    Rater(Rater),
}

impl Role {
    /// As whom they rank.
    pub fn rater(self) -> Rater {
        match self {
            Role::Owner(rater) | Role::Rater(rater) => rater,
        }
    }
}

/// Why what a rater asked was not done.
#[derive(Debug)]
pub enum Refused {
    /// There is no such assignment of this rater.
    Unknown,
    /// It was in their hands for too long, and others have it now.
    Expired,
    /// What was said does not fit what was shown.
    Wrong(String),
    /// The store could not be read or written.
    Failed(anyhow::Error),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused::Unknown => f.write_str("you have no such item"),
            Refused::Expired => f.write_str("you had this item for too long, and others have it now"),
            Refused::Wrong(what) => f.write_str(what),
            Refused::Failed(error) => write!(f, "{error:#}"),
        }
    }
}

impl std::error::Error for Refused {}

impl From<anyhow::Error> for Refused {
    fn from(error: anyhow::Error) -> Refused {
        Refused::Failed(error)
    }
}

impl From<rusqlite::Error> for Refused {
    fn from(error: rusqlite::Error) -> Refused {
        Refused::Failed(error.into())
    }
}

impl From<serde_json::Error> for Refused {
    fn from(error: serde_json::Error) -> Refused {
        Refused::Failed(error.into())
    }
}

/// Whether a file is a store.
pub fn is_store(path: &Path) -> bool {
    let mut head = [0; 72];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut head));
    read.is_ok() && head.starts_with(b"SQLite format 3\0") && head[68..72] == APPLICATION.to_be_bytes()
}

impl Store {
    /// Opens the store at `path`, or begins one there.
    ///
    /// # Errors
    /// The file cannot be opened or written; it is another one, or was made by a later version.
    pub fn open(path: &Path) -> Result<Store> {
        Store::open_with(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)
    }

    /// Opens a store that is there, to read it.
    ///
    /// # Errors
    /// There is none, or it is another file.
    pub fn open_to_read(path: &Path) -> Result<Store> {
        ensure!(path.exists(), "there is no {}: check the path", path.display());
        Store::open_with(path, OpenFlags::SQLITE_OPEN_READ_ONLY)
    }

    fn open_with(path: &Path, flags: OpenFlags) -> Result<Store> {
        let what = || format!("cannot open the store {}", path.display());
        let mut connection =
            Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX).with_context(what)?;
        prepare(&mut connection, flags.contains(OpenFlags::SQLITE_OPEN_CREATE)).with_context(what)?;
        let secret: String =
            connection.query_row("select value from meta where name = 'secret'", [], |row| row.get(0))?;
        let secret = blake3::Hash::from_hex(secret).context("the store's secret is damaged")?.into();
        Ok(Store { connection, secret })
    }

    /// Somebody of this name, who is known from now on.
    ///
    /// # Errors
    /// The name is empty or long; the store cannot be written.
    pub fn rater(&mut self, name: &str) -> Result<Rater, Refused> {
        let name = name.trim();
        if !(1..=100).contains(&name.chars().count()) {
            return Err(Refused::Wrong(format!("a rater's name has 1 to 100 characters: {name:?}")));
        }
        self.connection.execute("insert into rater (name) values (?1) on conflict do nothing", [name])?;
        Ok(Rater(
            self.connection.query_row("select id from rater where name = ?1", [name], |row| row.get(0))?,
        ))
    }

    /// All raters' names, with their tokens.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn raters(&self) -> Result<Vec<(String, String)>> {
        let mut found = self.connection.prepare("select id, name from rater where id > 1 order by id")?;
        let rows = found.query_map([], |row| Ok((row.get::<_, i64>(0)?, row.get(1)?)))?;
        rows.map(|row| row.map(|(id, name)| (name, self.token(Rater(id)))).map_err(Into::into)).collect()
    }

    /// What opens the ranking page to somebody. It is a function of the store's secret, so that links can be
    /// told again.
    pub fn token(&self, rater: Rater) -> String {
        let hash = blake3::keyed_hash(&self.secret, format!("token {}", rater.0).as_bytes());
        hash.to_hex()[..40].to_owned()
    }

    /// The owner, who ranks as well.
    pub fn owner(&self) -> Rater {
        Rater(1)
    }

    /// Who has this token.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn role(&self, token: &str) -> Result<Option<Role>> {
        // Hashes are compared in constant time.
        let given = blake3::hash(token.as_bytes());
        let has = |rater: Rater| blake3::hash(self.token(rater).as_bytes()) == given;
        if has(self.owner()) {
            return Ok(Some(Role::Owner(self.owner())));
        }
        let mut found = self.connection.prepare("select id from rater where id > 1")?;
        let raters: Vec<i64> = found.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
        Ok(raters.into_iter().map(Rater).find(|rater| has(*rater)).map(Role::Rater))
    }

    /// Somebody's name.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn name(&self, rater: Rater) -> Result<String> {
        let found =
            self.connection.query_row("select name from rater where id = ?1", [rater.0], |row| row.get(0));
        found.context("cannot read a rater")
    }

    /// What raters are told from now on, in each language that the page has.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn set_guidelines(&mut self, text: &str) -> Result<()> {
        set(&self.connection, "guidelines", text)
    }

    /// What raters are told: the owner's own words, or ours in the languages of the page.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn guidelines(&self) -> Result<Guidelines> {
        let own = get(&self.connection, "guidelines")?;
        let [en, zh] = match &own {
            Some(own) => [own.as_str(), own.as_str()],
            None => GUIDELINES,
        };
        let digest = blake3::hash([en, zh].concat().as_bytes()).to_hex()[..16].to_owned();
        Ok(Guidelines { en: en.to_owned(), zh: zh.to_owned(), digest })
    }
}

impl fmt::Debug for Store {
    /// Without the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("path", &self.connection.path()).finish_non_exhaustive()
    }
}

/// What raters are told, as Markdown.
#[derive(Clone, Debug, Serialize)]
pub struct Guidelines {
    /// In English, or as the owner wrote it.
    pub en: String,
    /// In Chinese, or as the owner wrote it.
    pub zh: String,
    /// Tells them from others.
    pub digest: String,
}

fn get(connection: &Connection, name: &str) -> Result<Option<String>> {
    let found = connection.query_row("select value from meta where name = ?1", [name], |row| row.get(0));
    found.optional().context("cannot read the store")
}

fn set(connection: &Connection, name: &str, value: &str) -> Result<()> {
    let sql = "insert into meta (name, value) values (?1, ?2) on conflict (name) do update set value = ?2";
    connection.execute(sql, [name, value]).context("cannot write the store")?;
    Ok(())
}

/// Makes the store of an empty file; looks whether another one is a store.
fn prepare(connection: &mut Connection, may_write: bool) -> Result<()> {
    connection.busy_timeout(PATIENCE)?;
    let number = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
    let application = number("application_id").map_err(|error| match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => {
            anyhow!("it is no store of `mynah rank`, which is an SQLite database: check the path")
        }
        _ => error.into(),
    })?;
    let version = number("user_version")?;
    let tables: i64 = connection.query_row("select count(*) from sqlite_schema", [], |row| row.get(0))?;
    let is_empty = tables == 0 && application == 0;
    ensure!(is_empty || application == APPLICATION, "it is a database of another program");
    ensure!(version <= VERSION, "it was made by a later version of mynah: take that one");
    if !may_write {
        ensure!(!is_empty, "nothing was ever stored in it");
        return Ok(());
    }
    // Acknowledged is on the disk: the log is synchronised at each commit.
    connection.pragma_update(None, "journal_mode", "wal")?;
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Two processes may begin it at once.
    let version = tx.pragma_query_value(None, "user_version", |row| row.get::<_, i32>(0))?;
    if version == 0 {
        let mut secret = [0; 32];
        if getrandom::fill(&mut secret).is_err() {
            bail!("the operating system has no random numbers");
        }
        tx.execute_batch(SCHEMA)?;
        set(&tx, "secret", &blake3::Hash::from(secret).to_hex())?;
        tx.execute("insert into rater (id, name) values (1, 'owner')", [])?;
        tx.pragma_update(None, "application_id", APPLICATION)?;
    }
    if version < 2 {
        tx.execute_batch(AGAIN)?;
        tx.pragma_update(None, "user_version", VERSION)?;
    }
    tx.commit()?;
    Ok(())
}
