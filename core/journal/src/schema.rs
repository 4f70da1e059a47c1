//! Tables of the journal, and how a file gets them.
//!
//! `PRAGMA user_version` holds the schema's version and `PRAGMA application_id` says that the file is a
//! journal. Ids are hex text, values are JSON text: the file can be read with `sqlite3` and nothing else.

use crate::error::{JournalError, Result};
use sqlx::{Row, SqliteConnection};
use std::path::Path;

/// Version that this program writes.
pub(crate) const VERSION: i64 = 2;

/// Version 1. `PRAGMA application_id` is `crpj` in ASCII.
const CREATE: &str = r"
CREATE TABLE cursor (
    name   TEXT NOT NULL PRIMARY KEY,
    number INTEGER NOT NULL,
    hash   TEXT NOT NULL
) STRICT;

CREATE TABLE subscription (
    subject     TEXT NOT NULL PRIMARY KEY,
    status      TEXT NOT NULL CHECK (status IN ('active', 'ended', 'refused')),
    value       TEXT CHECK (value IS NOT NULL OR status <> 'active'),
    reason      TEXT,
    fired_until INTEGER NOT NULL
) STRICT;

CREATE TABLE event (
    id      TEXT NOT NULL PRIMARY KEY,
    subject TEXT NOT NULL REFERENCES subscription (subject),
    due     INTEGER NOT NULL,
    status  TEXT NOT NULL CHECK (status IN ('new', 'routed', 'refused')),
    reason  TEXT,
    value   TEXT NOT NULL
) STRICT;
CREATE INDEX event_new ON event (subject, due) WHERE status = 'new';

CREATE TABLE job (
    number   INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    id       TEXT NOT NULL UNIQUE,
    event    TEXT NOT NULL UNIQUE REFERENCES event (id),
    subject  TEXT NOT NULL,
    due      INTEGER NOT NULL,
    state    TEXT NOT NULL,
    round    INTEGER NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 0,
    note     TEXT,
    value    TEXT NOT NULL,
    run      TEXT
) STRICT;
CREATE INDEX job_unfinished ON job (subject, due)
    WHERE state IN ('routed', 'reported', 'submitted');
CREATE INDEX job_due ON job (subject, due);
CREATE INDEX job_state ON job (state);
CREATE INDEX job_subject ON job (subject, due);

CREATE TABLE submission (
    number INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    job    TEXT NOT NULL REFERENCES job (id),
    round  INTEGER NOT NULL,
    hash   TEXT NOT NULL,
    value  TEXT NOT NULL,
    UNIQUE (job, round, hash)
) STRICT;

CREATE TABLE receipt (
    number  INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    job     TEXT NOT NULL UNIQUE REFERENCES job (id),
    success INTEGER NOT NULL CHECK (success IN (0, 1)),
    value   TEXT NOT NULL
) STRICT;

CREATE TABLE history (
    number INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    job    TEXT NOT NULL REFERENCES job (id),
    at     INTEGER NOT NULL,
    state  TEXT NOT NULL,
    note   TEXT
) STRICT;
CREATE INDEX history_job ON history (job, number);

PRAGMA application_id = 0x6372706a;
PRAGMA user_version = 2;
";
const APPLICATION_ID: i64 = 0x6372_706a;

/// Brings an empty file to [`VERSION`], accepts a journal of that version, refuses everything else.
pub(crate) async fn prepare(conn: &mut SqliteConnection, path: &Path) -> Result<()> {
    let found = number(conn, "PRAGMA user_version").await?;
    let application = number(conn, "PRAGMA application_id").await?;
    let tables = number(conn, "SELECT count(*) FROM sqlite_schema").await?;
    if application == APPLICATION_ID {
        return match found {
            VERSION => Ok(()),
            _ => Err(JournalError::NewerSchema {
                found,
                known: VERSION,
            }),
        };
    }
    if application != 0 || found != 0 || tables != 0 {
        return Err(JournalError::NotAJournal(path.to_owned()));
    }
    sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut *conn).await?;
    sqlx::raw_sql(CREATE).execute(&mut *conn).await?;
    sqlx::raw_sql("COMMIT").execute(&mut *conn).await?;
    Ok(())
}

async fn number(conn: &mut SqliteConnection, question: &'static str) -> Result<i64> {
    Ok(sqlx::query(question).fetch_one(conn).await?.try_get(0)?)
}
