//! Questions to the index.

use super::{Cursor, Index, PolicySet, corrupt, decode, unsigned};
use crate::{Result, Synced};
use cryptlet_types::{
    CryptletId,
    bounded::clip,
    register::{Board, CryptletRecord, HostRecord},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sqlx::{QueryBuilder, Row, Sqlite, SqliteExecutor, sqlite::SqliteRow};

/// Most cryptlets of one page.
pub const PAGE: u32 = 100;
/// Most words of a search that count.
const WORDS: usize = 8;
/// Shortest word, in characters, that the full-text index finds.
const TRIGRAM: usize = 3;

/// A cryptlet, as far as this host knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Known {
    /// What the register says.
    pub record: CryptletRecord,
    /// What the manifest of the version that runs says of it, if this host has seen that manifest.
    pub description: Option<String>,
    /// Why nobody should rely on its name. Such a cryptlet is not found by name.
    pub flaw: Option<String>,
}

impl Index {
    /// The cryptlet of this name.
    ///
    /// # Errors
    /// [`RegisterError::Corrupt`](crate::RegisterError::Corrupt),
    /// [`RegisterError::Database`](crate::RegisterError::Database).
    pub async fn by_name(&self, name: &str) -> Result<Option<Known>> {
        let row = sqlx::query("SELECT c.value, c.flaw, d.text FROM cryptlet c LEFT JOIN description d ON d.manifest = c.manifest WHERE c.name = ?")
            .bind(name)
            .fetch_optional(&self.readers)
            .await?;
        row.map(|row| known(&row)).transpose()
    }

    /// The cryptlet with this id.
    ///
    /// # Errors
    /// As [`Index::by_name`].
    pub async fn by_id(&self, cryptlet: CryptletId) -> Result<Option<Known>> {
        let edition = self.recent.edition();
        if let Some(known) = self.recent.get(cryptlet) {
            return Ok(Some(known));
        }
        let row = sqlx::query("SELECT c.value, c.flaw, d.text FROM cryptlet c LEFT JOIN description d ON d.manifest = c.manifest WHERE c.id = ?")
            .bind(cryptlet.to_string())
            .fetch_optional(&self.readers)
            .await?;
        let found = row.map(|row| known(&row)).transpose()?;
        if let Some(known) = &found {
            self.recent.keep(edition, cryptlet, known);
        }
        Ok(found)
    }

    /// Cryptlets in the order of their names, at most `limit` ([`PAGE`] at most), those after the name `after`.
    ///
    /// # Errors
    /// As [`Index::by_name`].
    pub async fn list(&self, limit: u32, after: Option<&str>) -> Result<Vec<Known>> {
        let rows = sqlx::query("SELECT c.value, c.flaw, d.text FROM cryptlet c LEFT JOIN description d ON d.manifest = c.manifest WHERE c.name > ? ORDER BY c.name LIMIT ?")
            .bind(after.unwrap_or_default())
            .bind(limit.min(PAGE))
            .fetch_all(&self.readers)
            .await?;
        rows.iter().map(known).collect()
    }

    /// Cryptlets whose name, publisher or description holds every word of `query`, however it is capitalised: first
    /// the one of this name, then names that begin with the query, then names that hold it, then the rest; each by
    /// name. At most `limit` ([`PAGE`] at most), those after the one named `after` in this order. Words of one or
    /// two characters are looked for in names only. A query without a word lists everything.
    ///
    /// # Errors
    /// As [`Index::by_name`].
    pub async fn search(&self, query: &str, limit: u32, after: Option<&str>) -> Result<Vec<Known>> {
        let query = clip(query).trim().to_lowercase();
        let (long, short): (Vec<_>, Vec<_>) = query
            .split_whitespace()
            .take(WORDS)
            .partition(|word| word.chars().count() >= TRIGRAM);
        if long.is_empty() && short.is_empty() {
            return self.list(limit, after).await;
        }
        let mut sql = matching(&query, &long, &short);
        if let Some(after) = after {
            sql.push(" WHERE (rank, name) > (")
                .push_bind(rank(&query, after));
            sql.push(", ").push_bind(after).push(")");
        }
        sql.push(" ORDER BY rank, name LIMIT ")
            .push_bind(limit.min(PAGE));
        sql.push(") p JOIN cryptlet c ON c.number = p.number LEFT JOIN description d ON d.manifest = c.manifest ORDER BY p.rank, p.name");
        let rows = sql.build().fetch_all(&self.readers).await?;
        rows.iter().map(known).collect()
    }

    /// All hosts that administrators registered, by address.
    ///
    /// # Errors
    /// As [`Index::by_name`].
    pub async fn hosts(&self) -> Result<Vec<HostRecord>> {
        let rows = sqlx::query("SELECT value FROM host ORDER BY id")
            .fetch_all(&self.readers)
            .await?;
        rows.iter()
            .map(|row| decode("host", row.try_get("value")?))
            .collect()
    }

    /// The policy that the register says is in force, with the board that approved it; none if none was ever set.
    ///
    /// # Errors
    /// As [`Index::by_name`].
    pub async fn policy(&self) -> Result<Option<PolicySet>> {
        setting(&self.readers, "policy").await
    }

    /// The administrators now; none before the chain was read.
    ///
    /// # Errors
    /// As [`Index::by_name`].
    pub async fn board(&self) -> Result<Option<Board>> {
        setting(&self.readers, "board").await
    }

    /// Up to which block, and as of when, the chain is known; none before it was read.
    ///
    /// # Errors
    /// As [`Index::by_name`].
    pub async fn synced(&self) -> Result<Option<Synced>> {
        last_cursor(&self.readers).await
    }

    /// The cursors that it can be rewound to, newest first: after a reorganisation, the first one that is still
    /// canonical is the one.
    ///
    /// # Errors
    /// As [`Index::by_name`].
    pub async fn cursors(&self) -> Result<Vec<Cursor>> {
        let rows = sqlx::query("SELECT number, hash, at FROM cursor ORDER BY number DESC")
            .fetch_all(&self.readers)
            .await?;
        let cursor = |row| {
            let Synced { block, hash, .. } = synced(row)?;
            Ok(Cursor {
                number: block,
                hash,
            })
        };
        rows.iter().map(cursor).collect()
    }
}

/// Number, rank and name of what fits, as the inner part of a select that is still open.
fn matching(query: &str, long: &[&str], short: &[&str]) -> QueryBuilder<Sqlite> {
    let mut sql = QueryBuilder::new(
        "SELECT c.value, c.flaw, d.text FROM (SELECT number, rank, name FROM (SELECT number, name, CASE WHEN name = ",
    );
    sql.push_bind(query.to_owned());
    sql.push(" THEN 0 WHEN instr(name, ")
        .push_bind(query.to_owned());
    sql.push(") = 1 THEN 1 WHEN instr(name, ")
        .push_bind(query.to_owned());
    sql.push(") > 1 THEN 2 ELSE 3 END AS rank FROM cryptlet WHERE name IS NOT NULL");
    if !long.is_empty() {
        // A phrase in quotes has no operators in it.
        let phrase = |word: &&str| format!("\"{}\"", word.replace('"', "\"\""));
        let phrases: Vec<_> = long.iter().map(phrase).collect();
        sql.push(" AND number IN (SELECT rowid FROM found WHERE found MATCH ");
        sql.push_bind(phrases.join(" ")).push(")");
    }
    for word in short {
        sql.push(" AND instr(name, ").push_bind((*word).to_owned());
        sql.push(") > 0");
    }
    sql.push(")");
    sql
}

/// Where `name` stands among what `query` finds: as the SQL above has it.
fn rank(query: &str, name: &str) -> i64 {
    match name.find(query) {
        Some(0) if name == query => 0,
        Some(0) => 1,
        Some(_) => 2,
        None => 3,
    }
}

fn known(row: &SqliteRow) -> Result<Known> {
    Ok(Known {
        record: decode("cryptlet", row.try_get("value")?)?,
        description: row.try_get("text")?,
        flaw: row.try_get("flaw")?,
    })
}

pub(super) async fn setting<T: DeserializeOwned>(
    executor: impl SqliteExecutor<'_>,
    name: &'static str,
) -> Result<Option<T>> {
    let row = sqlx::query("SELECT value FROM setting WHERE name = ?")
        .bind(name)
        .fetch_optional(executor)
        .await?;
    row.map(|row| decode("setting", row.try_get("value")?))
        .transpose()
}

pub(super) async fn last_cursor(executor: impl SqliteExecutor<'_>) -> Result<Option<Synced>> {
    let row = sqlx::query("SELECT number, hash, at FROM cursor ORDER BY number DESC LIMIT 1")
        .fetch_optional(executor)
        .await?;
    row.as_ref().map(synced).transpose()
}

fn synced(row: &SqliteRow) -> Result<Synced> {
    let hash: &str = row.try_get("hash")?;
    Ok(Synced {
        block: unsigned("cursor", row.try_get("number")?)?,
        hash: hash.parse().map_err(|error| corrupt("cursor", error))?,
        at: unsigned("cursor", row.try_get("at")?)?,
    })
}
