//! The open journal, and the transactions on it.

use crate::{
    at_once::{Connection, at_once},
    disk::{Disk, Held, Moment},
    error::{JournalError, Result},
    lock::{Lock, own},
    schema,
    values::signed,
};
use sqlx::{
    ConnectOptions, Row, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};
use std::{
    fmt,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::sync::{Mutex, MutexGuard};

/// Milliseconds since 1970-01-01T00:00:00Z, for the history. Injected, so that a simulation tells its own time.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// The machine's own clock.
#[must_use]
pub fn wall_clock() -> Clock {
    Arc::new(|| {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

/// The durable log of one host. See the crate's documentation.
pub struct Journal {
    db: Mutex<Database>,
    clock: Clock,
    disk: Held,
    _lock: Option<Lock>,
}

/// The only connection. `open` says that a transaction may have been left behind: by a caller that was
/// cancelled or by an error. Whoever locks the database next undoes it.
struct Database {
    conn: Connection,
    open: bool,
    /// How the connection commits; none where that was to change, and is not known to have.
    kept: Option<Kept>,
}

/// What a transaction withstands once it is committed: that the process is killed, in either case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kept {
    /// A loss of power, too.
    Now,
    /// A loss of power, once a later transaction does: what is lost is a tail of the log, never a piece from its middle.
    WithTheNext,
}

impl Kept {
    /// Begins the first transaction that is kept so.
    const fn begin(self) -> &'static str {
        match self {
            Self::Now => "PRAGMA synchronous = FULL; BEGIN IMMEDIATE",
            Self::WithTheNext => "PRAGMA synchronous = NORMAL; BEGIN IMMEDIATE",
        }
    }
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal").finish_non_exhaustive()
    }
}

impl Journal {
    /// Opens the journal at `path`, or creates it there. `clock` dates the history.
    ///
    /// # Errors
    /// [`JournalError::InUse`] while another host has it open, [`JournalError::OtherSchema`],
    /// [`JournalError::NotAJournal`], or what the system says.
    pub async fn open(path: &Path, clock: Clock) -> Result<Self> {
        let lock = Lock::take(path)?;
        // SQLite gives what it makes beside the file the file's own mode.
        own(path).map_err(|source| JournalError::Io {
            path: path.to_owned(),
            source,
        })?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full);
        let mut conn = connect(options).await?;
        schema::prepare(&mut conn, path).await?;
        require(&mut conn, "PRAGMA journal_mode", "wal").await?;
        let conn = Connection::ordinary(conn);
        Ok(Self::over(conn, clock, Held::default(), Some(lock)))
    }

    /// A journal that lives as long as this value.
    ///
    /// # Errors
    /// [`JournalError::Database`], in practice never.
    pub async fn in_memory(clock: Clock) -> Result<Self> {
        let conn = Connection::ordinary(memory().await?);
        Ok(Self::over(conn, clock, Held::default(), None))
    }

    /// As [`Journal::in_memory`], for simulations: every call is answered within one poll, by holding up the thread that
    /// calls, and `disk` decides what comes of it.
    ///
    /// # Errors
    /// [`JournalError::Database`], in practice never.
    pub fn simulated(clock: Clock, disk: Arc<dyn Disk>) -> Result<Self> {
        let conn = Connection::at_once(at_once(memory())?);
        Ok(Self::over(conn, clock, Held::by(disk), None))
    }

    /// Closes the file in good order: the write-ahead log is folded into it. Dropping the journal, or
    /// killing the process, loses nothing either.
    ///
    /// # Errors
    /// [`JournalError::Database`] if the log could not be folded in; it is kept then.
    pub async fn close(self) -> Result<()> {
        use sqlx::Connection;
        self.read().await?;
        Ok(self.db.into_inner().conn.into_inner().close().await?)
    }

    fn over(conn: Connection, clock: Clock, disk: Held, lock: Option<Lock>) -> Self {
        Self {
            db: Mutex::new(Database {
                conn,
                open: false,
                kept: Some(Kept::Now),
            }),
            clock,
            disk,
            _lock: lock,
        }
    }

    fn now(&self) -> u64 {
        (self.clock)()
    }

    /// The database outside any transaction.
    pub(crate) async fn read(&self) -> Result<Read<'_>> {
        self.disk.pass(Moment::Read).await?;
        let mut db = self.db.lock().await;
        if db.open {
            // Fails when SQLite itself has rolled back already; a transaction that is still open after
            // this makes the next BEGIN fail.
            let _ = sqlx::raw_sql("ROLLBACK").execute(&mut db.conn).await;
            sqlx::raw_sql("BEGIN; COMMIT").execute(&mut db.conn).await?;
            db.open = false;
        }
        Ok(Read { db })
    }

    /// A transaction: happens as a whole when [`Write::commit`] returns, else not at all. For what is acknowledged to somebody, or
    /// has an effect outside of the host.
    pub(crate) async fn write(&self) -> Result<Write<'_>> {
        self.begin(Kept::Now).await
    }

    /// A transaction, of which a loss of power may leave nothing until a later one of [`Journal::write`] is committed. For what is
    /// found again or done again then: it comes from a chain or a clock whose cursor is lost with it, and nothing has left the host.
    pub(crate) async fn write_behind(&self) -> Result<Write<'_>> {
        self.begin(Kept::WithTheNext).await
    }

    async fn begin(&self, kept: Kept) -> Result<Write<'_>> {
        let at = signed("history.at", self.now())?;
        let mut db = self.read().await?.db;
        self.disk.pass(Moment::Begin).await?;
        db.open = true;
        if db.kept == Some(kept) {
            sqlx::query("BEGIN IMMEDIATE").execute(&mut db.conn).await?;
        } else {
            db.kept = None;
            sqlx::raw_sql(kept.begin()).execute(&mut db.conn).await?;
            db.kept = Some(kept);
        }
        let disk = self.disk.clone();
        Ok(Write { db, disk, at })
    }
}

/// The locked database.
pub(crate) struct Read<'j> {
    db: MutexGuard<'j, Database>,
}

impl Read<'_> {
    pub(crate) fn conn(&mut self) -> &mut Connection {
        &mut self.db.conn
    }
}

/// The locked database inside a transaction.
pub(crate) struct Write<'j> {
    db: MutexGuard<'j, Database>,
    disk: Held,
    /// When it began, for the history.
    pub(crate) at: i64,
}

impl Write<'_> {
    pub(crate) fn conn(&mut self) -> &mut Connection {
        &mut self.db.conn
    }

    /// Has the transaction happen.
    pub(crate) async fn commit(mut self) -> Result<()> {
        self.disk.pass(Moment::Commit).await?;
        sqlx::query("COMMIT").execute(&mut self.db.conn).await?;
        self.db.open = false;
        self.disk.pass(Moment::Committed).await
    }
}

/// An empty journal in memory.
async fn memory() -> Result<SqliteConnection> {
    let mut conn = connect(SqliteConnectOptions::new().in_memory(true)).await?;
    schema::prepare(&mut conn, Path::new(":memory:")).await?;
    Ok(conn)
}

async fn connect(options: SqliteConnectOptions) -> Result<SqliteConnection> {
    Ok(options
        .foreign_keys(true)
        .busy_timeout(Duration::from_secs(5))
        .disable_statement_logging()
        .connect()
        .await?)
}

/// SQLite answers a pragma that it cannot follow with what is in force instead.
async fn require(
    conn: &mut SqliteConnection,
    pragma: &'static str,
    wanted: &'static str,
) -> Result<()> {
    let found: String = sqlx::query(pragma).fetch_one(conn).await?.try_get(0)?;
    if found == wanted {
        return Ok(());
    }
    let reason = format!("{pragma} is {found}, not {wanted}");
    Err(JournalError::Database(sqlx::Error::Configuration(
        reason.into(),
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn limit(journal: &Journal, pragma: &'static str) {
        let mut db = journal.read().await.unwrap();
        sqlx::raw_sql(pragma).execute(db.conn()).await.unwrap();
    }

    /// SQLite may roll back by itself when there is no room; the connection has to survive that.
    #[tokio::test]
    async fn the_connection_outlives_a_full_database() {
        let journal = Journal::in_memory(wall_clock()).await.unwrap();
        limit(&journal, "PRAGMA max_page_count = 1").await;
        let cursor = |number| crate::Cursor {
            number,
            hash: alloy_primitives::B256::ZERO,
        };
        let mut written = 0;
        let error = loop {
            let name = format!("{written}{}", "x".repeat(3000));
            match journal.apply(&name, cursor(1), &[], &[]).await {
                Ok(_) => written += 1,
                Err(error) => break error,
            }
        };
        assert!(matches!(error, JournalError::Full(_)), "{error}");
        assert!(error.is_retryable());
        assert_eq!(journal.cursor("later").await.unwrap(), None);
        limit(&journal, "PRAGMA max_page_count = 100000").await;
        for number in 1..3 {
            journal
                .apply("later", cursor(number), &[], &[])
                .await
                .unwrap();
        }
        assert_eq!(journal.cursor("later").await.unwrap(), Some(cursor(2)));
    }
}
