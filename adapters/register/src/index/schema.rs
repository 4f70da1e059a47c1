//! Tables of the index, and how a file gets them.
//!
//! Everything here can be read from the chain again: a file of another version is not converted, it is moved away.
//! `change` is the truth, the other tables are what it adds up to. Ids are hex text, values are JSON text.

use crate::{RegisterError, Result};
use sqlx::{Row, SqliteConnection};
use std::path::Path;

/// Version that this program reads and writes.
const VERSION: i64 = 2;
/// `crpr` in ASCII.
const APPLICATION_ID: i64 = 0x6372_7072;

const CREATE: &str = r"
CREATE TABLE cursor (
    number INTEGER NOT NULL PRIMARY KEY,
    hash   TEXT NOT NULL,
    at     INTEGER NOT NULL
) STRICT;

CREATE TABLE change (
    number   INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    block    INTEGER NOT NULL,
    cryptlet TEXT,
    value    TEXT NOT NULL
) STRICT;
CREATE INDEX change_block ON change (block);
CREATE INDEX change_cryptlet ON change (cryptlet, number);

CREATE TABLE cryptlet (
    number   INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    id       TEXT NOT NULL UNIQUE,
    name     TEXT UNIQUE,
    skeleton TEXT UNIQUE,
    flaw     TEXT CHECK ((flaw IS NULL) = (name IS NOT NULL)),
    manifest TEXT,
    value    TEXT NOT NULL
) STRICT;
CREATE INDEX cryptlet_manifest ON cryptlet (manifest);

CREATE TABLE description (
    manifest TEXT NOT NULL PRIMARY KEY,
    text     TEXT NOT NULL
) STRICT;

CREATE TABLE host (
    id    TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
) STRICT;

CREATE TABLE setting (
    name  TEXT NOT NULL PRIMARY KEY CHECK (name IN ('policy', 'board')),
    value TEXT NOT NULL
) STRICT;

CREATE VIRTUAL TABLE found USING fts5(name, publisher, description, tokenize = 'trigram');

PRAGMA application_id = 0x63727072;
PRAGMA user_version = 2;
";

/// Brings an empty file to [`VERSION`], accepts an index of that version, refuses everything else.
pub(super) async fn prepare(conn: &mut SqliteConnection, path: &Path) -> Result<()> {
    let found = number(conn, "PRAGMA user_version").await?;
    let application = number(conn, "PRAGMA application_id").await?;
    let tables = number(conn, "SELECT count(*) FROM sqlite_schema").await?;
    if application == APPLICATION_ID && found == VERSION {
        return Ok(());
    }
    if application != 0 || found != 0 || tables != 0 {
        return Err(RegisterError::NotAnIndex {
            path: path.to_owned(),
            known: VERSION,
        });
    }
    sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut *conn).await?;
    sqlx::raw_sql(CREATE).execute(&mut *conn).await?;
    sqlx::raw_sql("COMMIT").execute(&mut *conn).await?;
    Ok(())
}

async fn number(conn: &mut SqliteConnection, question: &'static str) -> Result<i64> {
    Ok(sqlx::query(question).fetch_one(conn).await?.try_get(0)?)
}
