//! What the register's chain says, kept in SQLite: cryptlets by name and by id, hosts, policy, board.
//!
//! The host reads the register's logs in order and applies them up to a [`Cursor`] (a block). Every change is kept
//! with the block up to which it was read; a record is what all changes of a cryptlet add up to. After a
//! reorganisation the index is rewound to a cursor that is still canonical: later changes are dropped, and the
//! records that they touched are rebuilt from those that stay.
//!
//! One writer, as the journal; readers have connections of their own and see whole blocks only. Every method may be
//! cancelled: a transaction that was not acknowledged is undone, or done whole, never half.
//!
//! A contract that says what a register of ours cannot say (a version of an unknown cryptlet, say) is not our
//! register, and nothing of such a block is taken. A cryptlet whose name breaks the register's rules, or looks like
//! an earlier one, is kept by its id and flagged ([`Known::flaw`]), and never found by name.

mod apply;
mod changes;
mod lock;
mod names;
mod read;
mod readers;
mod recent;
mod schema;

pub use read::{Known, PAGE};

use crate::{
    RegisterError, Result,
    file::{at, own},
};
use alloy_primitives::B256;
use cryptlet_journal::{Connection, at_once};
use cryptlet_types::register::{Board, PolicyRecord};
use lock::Lock;
use readers::Readers;
use recent::Recent;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sqlx::{
    ConnectOptions,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use std::{fmt, path::Path, sync::Mutex as SyncMutex, time::Duration};
use tokio::sync::{Mutex, MutexGuard};

/// A block up to which the register's logs were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Cursor {
    /// Its number.
    pub number: u64,
    /// Its hash.
    pub hash: B256,
}

/// The policy that the register says is in force, and the board that approved it then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PolicySet {
    /// Which policy.
    pub record: PolicyRecord,
    /// The administrators at that moment; the board may have changed since.
    pub board: Board,
}

/// Connections for readers: a long search does not keep a look-up waiting.
const READERS: u32 = 4;

/// The index. See the module's documentation.
pub struct Index {
    writer: Mutex<Writer>,
    readers: Readers,
    recent: Recent,
    _lock: Option<Lock>,
}

/// The one connection that writes. `open` says that a transaction may have been left behind: by a caller that was
/// cancelled or by an error. Whoever locks the writer next undoes it.
struct Writer {
    conn: Connection,
    open: bool,
}

impl fmt::Debug for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Index").finish_non_exhaustive()
    }
}

impl Index {
    /// Opens the index at `path`, or creates an empty one there.
    ///
    /// # Errors
    /// [`RegisterError::InUse`] while another host has it open, [`RegisterError::NotAnIndex`], or what the system
    /// says.
    pub async fn open(path: &Path) -> Result<Self> {
        let lock = Lock::take(path)?;
        // SQLite gives what it makes beside the file the file's own mode.
        own(path).map_err(at(path))?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            // What a power cut takes away, the cursor included, is read again from the chain.
            .synchronous(SqliteSynchronous::Normal)
            .busy_timeout(Duration::from_secs(5))
            .disable_statement_logging();
        let mut conn = options.connect().await?;
        schema::prepare(&mut conn, path).await?;
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .test_before_acquire(false)
            .connect_with(options.read_only(true))
            .await?;
        let conn = Connection::ordinary(conn);
        Ok(Self {
            writer: Mutex::new(Writer { conn, open: false }),
            readers: Readers::Pool(readers),
            recent: Recent::default(),
            _lock: Some(lock),
        })
    }

    /// An index that lives as long as this value, for simulations: every call is answered within one poll, by holding up the
    /// thread that calls.
    ///
    /// # Errors
    /// [`RegisterError::Database`], in practice never.
    pub fn simulated() -> Result<Self> {
        // A name of its own, which both connections share.
        let options: SqliteConnectOptions = "sqlite::memory:".parse()?;
        let options = options.disable_statement_logging();
        let mut conn = at_once(options.connect())?;
        at_once(schema::prepare(&mut conn, Path::new(":memory:")))?;
        let reader = Connection::at_once(at_once(options.connect())?);
        Ok(Self {
            writer: Mutex::new(Writer {
                conn: Connection::at_once(conn),
                open: false,
            }),
            readers: Readers::AtOnce(SyncMutex::new(reader)),
            recent: Recent::default(),
            _lock: None,
        })
    }

    /// Whether this is a simulation's: then nothing that goes with it may be left to another thread either.
    #[must_use]
    pub fn is_simulated(&self) -> bool {
        matches!(self.readers, Readers::AtOnce(_))
    }

    /// A transaction: happens as a whole when [`Write::commit`] returns, else not at all.
    async fn write(&self) -> Result<Write<'_>> {
        let mut writer = self.writer.lock().await;
        if writer.open {
            // Fails when SQLite itself has rolled back already; a transaction that is still open after this makes
            // the next BEGIN fail.
            let _ = sqlx::raw_sql("ROLLBACK").execute(&mut writer.conn).await;
        }
        writer.open = true;
        sqlx::query("BEGIN IMMEDIATE")
            .execute(&mut writer.conn)
            .await?;
        Ok(Write { writer })
    }
}

/// The writer inside a transaction.
struct Write<'i> {
    writer: MutexGuard<'i, Writer>,
}

impl Write<'_> {
    fn conn(&mut self) -> &mut Connection {
        &mut self.writer.conn
    }

    /// Makes the transaction durable.
    async fn commit(mut self) -> Result<()> {
        sqlx::query("COMMIT").execute(self.conn()).await?;
        self.writer.open = false;
        Ok(())
    }
}

/// The JSON text of a value for `table`.
fn encode<T: Serialize>(table: &'static str, value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|error| corrupt(table, error))
}

/// A value of `table` from its JSON text.
fn decode<T: DeserializeOwned>(table: &'static str, text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| corrupt(table, error))
}

fn corrupt(table: &'static str, reason: impl ToString) -> RegisterError {
    RegisterError::Corrupt {
        table,
        reason: reason.to_string(),
    }
}

/// SQLite orders by signed 64-bit integers; no chain comes near their end.
fn signed(number: u64) -> Result<i64> {
    let foreign = |_| RegisterError::Foreign(format!("{number} is no block and no time"));
    i64::try_from(number).map_err(foreign)
}

fn unsigned(table: &'static str, number: i64) -> Result<u64> {
    u64::try_from(number).map_err(|error| corrupt(table, error))
}
