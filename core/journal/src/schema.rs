//! Tables of the journal, and how a file gets them.
//!
//! `PRAGMA user_version` holds the schema's version and `PRAGMA application_id` says that the file is a
//! journal. Ids are hex text, values are JSON text: the file can be read with `sqlite3` and nothing else. Only a
//! subscription is CBOR, because a host that starts reads all of them.

use crate::error::{JournalError, Result};
use sqlx::{Row, SqliteConnection};
use std::path::Path;

/// Version that this program reads and writes.
pub(crate) const VERSION: i64 = 4;

/// Version 4. `PRAGMA application_id` is `crpj` in ASCII.
///
/// What a job carries lies beside its row, so that a transition writes little. Triggers keep history and tally: no
/// transition can forget them.
const CREATE: &str = r"
CREATE TABLE trail (
    name   TEXT NOT NULL,
    number INTEGER NOT NULL,
    hash   TEXT NOT NULL,
    PRIMARY KEY (name, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE subscription (
    subject     TEXT NOT NULL PRIMARY KEY,
    status      TEXT NOT NULL CHECK (status IN ('active', 'ended', 'refused', 'vanished')),
    block       INTEGER NOT NULL,
    paused      INTEGER NOT NULL DEFAULT 0 CHECK (paused IN (0, 1)),
    fired_until INTEGER NOT NULL,
    state       TEXT,
    reason      TEXT,
    value       BLOB CHECK (value IS NOT NULL OR status <> 'active')
) STRICT, WITHOUT ROWID;
CREATE INDEX subscription_block ON subscription (block);
CREATE INDEX subscription_vanished ON subscription (subject) WHERE status = 'vanished';

CREATE TABLE undo (
    number      INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    block       INTEGER NOT NULL,
    subject     TEXT NOT NULL REFERENCES subscription (subject),
    status      TEXT NOT NULL,
    paused      INTEGER NOT NULL,
    fired_until INTEGER NOT NULL,
    reason      TEXT
) STRICT;
CREATE INDEX undo_block ON undo (block);

CREATE TABLE event (
    number  INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    id      TEXT NOT NULL UNIQUE,
    subject TEXT NOT NULL REFERENCES subscription (subject),
    due     INTEGER NOT NULL,
    kind    TEXT NOT NULL,
    cursor  TEXT,
    block   INTEGER CHECK ((block IS NULL) = (cursor IS NULL)),
    status  TEXT NOT NULL CHECK (status IN ('new', 'routed', 'refused', 'withdrawn')),
    reason  TEXT,
    value   TEXT NOT NULL
) STRICT;
CREATE INDEX event_new ON event (subject, due) WHERE status = 'new';
CREATE INDEX event_withdrawn ON event (subject) WHERE status = 'withdrawn';
CREATE INDEX event_block ON event (cursor, block) WHERE block IS NOT NULL;

CREATE TABLE job (
    number     INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    id         TEXT NOT NULL UNIQUE,
    event      INTEGER NOT NULL UNIQUE REFERENCES event (number),
    subject    TEXT NOT NULL,
    cryptlet   TEXT NOT NULL,
    due        INTEGER NOT NULL,
    state      TEXT NOT NULL,
    at         INTEGER NOT NULL,
    run        INTEGER NOT NULL DEFAULT 0,
    attempts   INTEGER NOT NULL DEFAULT 0,
    note       TEXT,
    block      INTEGER CHECK ((block IS NOT NULL) = (state = 'delivered')),
    block_hash TEXT
) STRICT;
CREATE INDEX job_state ON job (state);
CREATE INDEX job_subject ON job (subject, due);
CREATE INDEX job_cryptlet ON job (cryptlet);
CREATE INDEX job_block ON job (block) WHERE block IS NOT NULL;

CREATE TABLE unserved (
    job INTEGER NOT NULL PRIMARY KEY REFERENCES job (number)
) STRICT;

CREATE TABLE work (
    job   INTEGER NOT NULL PRIMARY KEY REFERENCES job (number),
    value TEXT NOT NULL
) STRICT;

CREATE TABLE run (
    job    INTEGER NOT NULL REFERENCES job (number),
    number INTEGER NOT NULL,
    value  TEXT NOT NULL,
    PRIMARY KEY (job, number)
) STRICT;

CREATE TABLE submission (
    number INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    hash   TEXT NOT NULL UNIQUE,
    value  TEXT NOT NULL
) STRICT;

CREATE TABLE sent (
    number     INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    job        INTEGER NOT NULL REFERENCES job (number),
    run        INTEGER NOT NULL,
    submission INTEGER NOT NULL REFERENCES submission (number),
    UNIQUE (job, run, submission)
) STRICT;

CREATE TABLE inclusion (
    number INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    digest TEXT NOT NULL UNIQUE,
    value  TEXT NOT NULL
) STRICT;

CREATE TABLE receipt (
    number    INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    job       INTEGER NOT NULL UNIQUE REFERENCES job (number),
    success   INTEGER NOT NULL CHECK (success IN (0, 1)),
    inclusion INTEGER NOT NULL REFERENCES inclusion (number),
    value     TEXT NOT NULL
) STRICT;
CREATE INDEX receipt_inclusion ON receipt (inclusion);

CREATE TABLE history (
    job    INTEGER NOT NULL REFERENCES job (number),
    number INTEGER NOT NULL,
    at     INTEGER NOT NULL,
    state  TEXT NOT NULL,
    note   TEXT,
    PRIMARY KEY (job, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE tally (
    state TEXT NOT NULL PRIMARY KEY,
    jobs  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TRIGGER job_made AFTER INSERT ON job BEGIN
    INSERT INTO history VALUES (new.number, 1, new.at, new.state, new.note);
    INSERT INTO tally VALUES (new.state, 1) ON CONFLICT (state) DO UPDATE SET jobs = jobs + 1;
END;

CREATE TRIGGER job_moved AFTER UPDATE OF state ON job BEGIN
    INSERT INTO history SELECT new.number, coalesce(max(number), 0) + 1, new.at, new.state, new.note
        FROM history WHERE job = new.number;
    UPDATE tally SET jobs = jobs - 1 WHERE state = old.state;
    INSERT INTO tally VALUES (new.state, 1) ON CONFLICT (state) DO UPDATE SET jobs = jobs + 1;
END;

CREATE TABLE message (
    application TEXT NOT NULL,
    id          TEXT NOT NULL,
    received    INTEGER NOT NULL,
    digest      TEXT NOT NULL,
    value       TEXT NOT NULL,
    PRIMARY KEY (application, id)
) STRICT;
CREATE INDEX message_received ON message (received);

CREATE TABLE answer (
    cryptlet TEXT NOT NULL,
    request  TEXT NOT NULL,
    start    INTEGER NOT NULL,
    until    INTEGER NOT NULL,
    value    TEXT NOT NULL,
    PRIMARY KEY (cryptlet, request, start, until)
) STRICT;
CREATE INDEX answer_until ON answer (until);

CREATE TABLE feed (
    id    TEXT NOT NULL PRIMARY KEY,
    at    INTEGER NOT NULL,
    value TEXT NOT NULL
) STRICT;

PRAGMA application_id = 0x6372706a;
PRAGMA user_version = 4;
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
            _ => Err(JournalError::OtherSchema {
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
