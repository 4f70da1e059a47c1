//! How far chains have been read, what was found there, and what a reorganisation takes back.

use crate::{
    delivery::forget_receipt,
    error::{JournalError, Result},
    events::{Occurred, Taken, take_all},
    jobs::{self, Move, Step, forget_unsent, next_run},
    store::{Journal, Write},
    subscriptions::{self, SubscriptionChange},
    values::{Reader, signed, write},
};
use alloy_primitives::B256;
use cryptlet_types::{Event, EventId, JobId, JobState, Subject};
use sqlx::{Row, sqlite::SqliteRow};
use std::collections::BTreeSet;

/// Name of the cursor of the delegate's chain: subscriptions and deliveries stand in its blocks.
pub const DELEGATE: &str = "delegate";

/// Blocks that are remembered under each cursor. A reorganisation that goes back further cannot be followed.
pub const TRAIL: u32 = 1024;

/// How far a chain has been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// Number of the last block that was read.
    pub number: u64,
    /// Its hash: a reorg shows when the chain has another one under this number.
    pub hash: B256,
}

/// What [`Journal::apply`] has taken over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// What became of each event, in the order given.
    pub events: Vec<Taken>,
    /// Events that wait for a job again, because their subscription vanished and is back.
    pub restored: Vec<Event>,
    /// Jobs whose delivery was recorded ahead of the cursor, in a block that is not the one that was read: as in
    /// [`Rewound::undelivered`].
    pub undelivered: Vec<(JobId, JobState)>,
}

/// What [`Journal::rewind`] has taken back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rewound {
    /// Subscriptions that are no longer there. They are served again once their log reappears.
    pub vanished: Vec<Subject>,
    /// Subscriptions whose end, pause, resumption or refusal did not happen: they are as they were before it.
    pub restored: Vec<Subject>,
    /// Events that did not happen, whether or not they had a job.
    pub events: Vec<EventId>,
    /// Jobs that are not to be done: withdrawn now.
    pub withdrawn: Vec<JobId>,
    /// Jobs that are still to be delivered, and the state that each went back to: submitted, or reported if no
    /// transaction of the host's own was on its way.
    pub undelivered: Vec<(JobId, JobState)>,
    /// Jobs that had failed because their subscription had ended, which it has not: they are to be run.
    pub revived: Vec<JobId>,
}

impl Journal {
    /// How far the chain called `name` has been read, if it ever was.
    ///
    /// # Errors
    /// [`JournalError::Corrupt`] or [`JournalError::Database`].
    pub async fn cursor(&self, name: &str) -> Result<Option<Cursor>> {
        let mut db = self.read().await?;
        newest(db.conn(), name).await
    }

    /// The blocks at which the cursor stood, newest first, at most [`TRAIL`]: where to look for the last block that a
    /// chain still has.
    ///
    /// # Errors
    /// [`JournalError::Corrupt`] or [`JournalError::Database`].
    pub async fn trail(&self, name: &str) -> Result<Vec<Cursor>> {
        let mut db = self.read().await?;
        let rows = sqlx::query(
            "SELECT name, number, hash FROM trail WHERE name = ? ORDER BY number DESC LIMIT ?",
        )
        .bind(name)
        .bind(TRAIL)
        .fetch_all(db.conn())
        .await?;
        rows.iter().map(cursor_of).collect()
    }

    /// Moves the cursor and takes over what was found up to it, in one transaction: changes of subscriptions first,
    /// then events. An event that comes with its job needs no second transaction. Applying the same once more changes
    /// nothing. Subscriptions change under [`DELEGATE`] only.
    ///
    /// # Errors
    /// [`JournalError::Fork`] if the cursor would go back or its block has another hash than before,
    /// [`JournalError::UnknownSubscription`], [`JournalError::OtherEvent`], [`JournalError::OtherJob`],
    /// [`JournalError::OutOfRange`], [`JournalError::Full`] or [`JournalError::Database`].
    pub async fn apply(
        &self,
        name: &str,
        cursor: Cursor,
        changes: &[SubscriptionChange],
        events: &[Occurred],
    ) -> Result<Applied> {
        let mut tx = self.write_behind().await?;
        let mut applied = Applied::default();
        let before = newest(tx.conn(), name).await?;
        advance(&mut tx, name, before, cursor).await?;
        if name == DELEGATE {
            let above = before.map_or(0, |before| before.number);
            applied.undelivered = undeliver(&mut tx, above, Some(cursor)).await?;
        }
        if !changes.is_empty() {
            applied.restored = subscriptions::change(&mut tx, changes).await?;
            subscriptions::forget(&mut tx, name).await?;
        }
        applied.events = take_all(&mut tx, Some(name), events).await?;
        tx.commit().await?;
        Ok(applied)
    }

    /// Takes back, in one transaction, what was found under the cursor `name` above the block `to`, because the chain
    /// has other blocks there now.
    ///
    /// Logs and blocks did not occur: their jobs, unless delivered, are withdrawn, and live again when
    /// [`Journal::apply`] brings the same event once more. What is submitted cannot be called back: it stays on its way until
    /// it is delivered, or can be no more ([`Journal::reopen`]), and its number is not free until then. With [`DELEGATE`], subscriptions made above `to` vanish with
    /// all that is undelivered of them, those that changed there are as before, and deliveries made there are undone.
    ///
    /// # Errors
    /// [`JournalError::TooDeep`] if `to` lies before the trail, [`JournalError::Fork`] if it lies ahead of the cursor,
    /// [`JournalError::OutOfRange`], [`JournalError::Full`] or [`JournalError::Database`].
    pub async fn rewind(&self, name: &str, to: Cursor) -> Result<Rewound> {
        let mut tx = self.write_behind().await?;
        let mut rewound = Rewound::default();
        retreat(&mut tx, name, to).await?;
        if name == DELEGATE {
            rewound.restored = subscriptions::undo(&mut tx, to.number).await?;
            rewound.vanished = subscriptions::vanish(&mut tx, to.number).await?;
            rewound.undelivered = undeliver(&mut tx, to.number, None).await?;
            for subject in &rewound.vanished {
                rewound.events.extend(unmake(&mut tx, *subject).await?);
            }
        }
        rewound.events.extend(unhappen(&mut tx, name, to).await?);
        rewound.withdrawn = withdraw(&mut tx).await?;
        rewound.revived = revive(&mut tx, &rewound.restored).await?;
        let withdrawn: BTreeSet<_> = rewound.withdrawn.iter().collect();
        let undelivered = &mut rewound.undelivered;
        undelivered.retain(|(job, _)| !withdrawn.contains(job));
        let vanished: BTreeSet<_> = rewound.vanished.iter().collect();
        rewound
            .restored
            .retain(|subject| !vanished.contains(subject));
        tx.commit().await?;
        Ok(rewound)
    }
}

fn cursor_of(row: &SqliteRow) -> Result<Cursor> {
    let reader = Reader::new("trail", "name", row)?;
    Ok(Cursor {
        number: reader.unsigned("number")?,
        hash: reader.parsed("hash")?,
    })
}

async fn newest(conn: &mut crate::Connection, name: &str) -> Result<Option<Cursor>> {
    let row = sqlx::query(
        "SELECT name, number, hash FROM trail WHERE name = ? ORDER BY number DESC LIMIT 1",
    )
    .bind(name)
    .fetch_optional(conn)
    .await?;
    row.as_ref().map(cursor_of).transpose()
}

/// The cursor stands at a block of this name, number and hash.
macro_rules! mark {
    () => {
        "INSERT INTO trail (name, number, hash) VALUES (?1, ?2, ?3) ON CONFLICT (name, number) DO UPDATE SET hash = excluded.hash"
    };
}

async fn advance(
    tx: &mut Write<'_>,
    name: &str,
    known: Option<Cursor>,
    given: Cursor,
) -> Result<()> {
    let number = signed("cursor.number", given.number)?;
    if let Some(known) = known {
        let moved = given.number > known.number;
        if !moved && given != known {
            let name = name.to_owned();
            return Err(JournalError::Fork { name, known, given });
        }
    }
    // One question to SQLite's thread for both: it is asked at each block. Each parameter has its number: one without would be
    // counted anew in the second statement.
    sqlx::query(concat!(mark!(), "; DELETE FROM trail WHERE name = ?1 AND number <= (SELECT number FROM trail WHERE name = ?1 ORDER BY number DESC LIMIT 1 OFFSET ?4)"))
        .bind(name)
        .bind(number)
        .bind(given.hash.to_string())
        .bind(TRAIL)
        .execute(tx.conn())
        .await?;
    Ok(())
}

async fn mark(tx: &mut Write<'_>, name: &str, number: i64, hash: B256) -> Result<()> {
    sqlx::query(mark!())
        .bind(name)
        .bind(number)
        .bind(hash.to_string())
        .execute(tx.conn())
        .await?;
    Ok(())
}

async fn retreat(tx: &mut Write<'_>, name: &str, to: Cursor) -> Result<()> {
    let number = signed("cursor.number", to.number)?;
    let known = newest(tx.conn(), name).await?;
    if let Some(known) = known.filter(|known| known.number < to.number) {
        let (name, given) = (name.to_owned(), to);
        return Err(JournalError::Fork { name, known, given });
    }
    let row = sqlx::query(
        "SELECT count(*) AS blocks, coalesce(min(number), 0) AS oldest FROM trail WHERE name = ?",
    )
    .bind(name)
    .fetch_one(tx.conn())
    .await?;
    let (blocks, oldest): (i64, i64) = (row.try_get("blocks")?, row.try_get("oldest")?);
    // A trail that is shorter starts where reading started: nothing older was ever taken over.
    if blocks >= i64::from(TRAIL) && number < oldest {
        return Err(JournalError::TooDeep {
            name: name.to_owned(),
            to: to.number,
            oldest: u64::try_from(oldest).unwrap_or_default(),
        });
    }
    sqlx::query("DELETE FROM trail WHERE name = ? AND number > ?")
        .bind(name)
        .bind(number)
        .execute(tx.conn())
        .await?;
    mark(tx, name, number, to.hash).await
}

/// Of these jobs, which are not on their way any more, those whose event did not occur.
pub(crate) async fn withdraw_of(tx: &mut Write<'_>, jobs: &[i64]) -> Result<()> {
    let at = tx.at;
    sqlx::query("UPDATE job SET state = 'withdrawn', note = ?, at = ? WHERE state = 'routed' AND number IN (SELECT value FROM json_each(?)) AND event IN (SELECT number FROM event WHERE status = 'withdrawn')")
        .bind(TAKEN_BACK)
        .bind(at)
        .bind(write("job", &jobs)?)
        .execute(tx.conn())
        .await?;
    Ok(())
}

/// Fails if another block was read where the delivery is said to be.
pub(crate) async fn check(tx: &mut Write<'_>, given: Cursor) -> Result<()> {
    let row = sqlx::query("SELECT name, number, hash FROM trail WHERE name = ? AND number = ?")
        .bind(DELEGATE)
        .bind(signed("block", given.number)?)
        .fetch_optional(tx.conn())
        .await?;
    match row.as_ref().map(cursor_of).transpose()? {
        Some(known) if known != given => {
            let name = DELEGATE.to_owned();
            Err(JournalError::Fork { name, known, given })
        }
        _ => Ok(()),
    }
}

/// Deliveries above the block are not part of the chain. With `read`: those up to there that are not in that very block; what
/// was not read one by one is looked for again.
async fn undeliver(
    tx: &mut Write<'_>,
    above: u64,
    read: Option<Cursor>,
) -> Result<Vec<(JobId, JobState)>> {
    let until = read.map(|read| signed("block", read.number)).transpose()?;
    let rows = sqlx::query("SELECT id, EXISTS (SELECT 1 FROM sent WHERE sent.job = job.number AND sent.run = job.run) AS sent FROM job WHERE block > ?1 AND (?2 IS NULL OR (block <= ?2 AND block_hash <> ?3)) ORDER BY block, number")
        .bind(signed("block", above)?)
        .bind(until)
        .bind(read.map(|read| read.hash.to_string()))
        .fetch_all(tx.conn())
        .await?;
    let mut undelivered = Vec::new();
    for row in &rows {
        let reader = Reader::new("job", "id", row)?;
        let id: JobId = reader.parsed("id")?;
        let state = match reader.column::<bool>("sent")? {
            true => JobState::Submitted,
            false => JobState::Reported,
        };
        let step = Step::new([JobState::Delivered], state);
        for job in jobs::advance(tx, &step, &[Move::new(id).note(TAKEN_BACK)]).await? {
            forget_receipt(tx, job?).await?;
        }
        undelivered.push((id, state));
    }
    Ok(undelivered)
}

const TAKEN_BACK: &str = "a reorganisation of the chain took the block back";

/// Everything undecided of a subscription that has vanished.
async fn unmake(tx: &mut Write<'_>, subject: Subject) -> Result<Vec<EventId>> {
    let rows = sqlx::query("UPDATE event SET status = 'withdrawn' WHERE status IN ('new', 'routed') AND number IN (SELECT event FROM job WHERE subject = ?1 UNION ALL SELECT number FROM event WHERE status = 'new' AND subject = ?1) RETURNING id")
        .bind(subject.to_string())
        .fetch_all(tx.conn())
        .await?;
    ids(&rows)
}

/// Every log and every block above `to`.
async fn unhappen(tx: &mut Write<'_>, name: &str, to: Cursor) -> Result<Vec<EventId>> {
    let rows = sqlx::query("UPDATE event SET status = 'withdrawn' WHERE cursor = ? AND block > ? AND status IN ('new', 'routed') RETURNING id")
        .bind(name)
        .bind(signed("block", to.number)?)
        .fetch_all(tx.conn())
        .await?;
    ids(&rows)
}

fn ids(rows: &[SqliteRow]) -> Result<Vec<EventId>> {
    rows.iter()
        .map(|row| Reader::new("event", "id", row)?.parsed("id"))
        .collect()
}

/// No job outlives its event, unless it has come to its end or is on its way to the chain.
async fn withdraw(tx: &mut Write<'_>) -> Result<Vec<JobId>> {
    let at = tx.at;
    let rows = sqlx::query("UPDATE job SET state = 'withdrawn', note = ?, at = ? WHERE event IN (SELECT number FROM event WHERE status = 'withdrawn') AND (state IN ('routed', 'reported', 'parked') OR (state = 'failed' AND number IN (SELECT job FROM unserved))) RETURNING id")
        .bind(TAKEN_BACK)
        .bind(at)
        .fetch_all(tx.conn())
        .await?;
    rows.iter()
        .map(|row| Reader::new("job", "id", row)?.parsed("id"))
        .collect()
}

/// These jobs failed because their subscription is gone. What a reorganisation has taken away already has not occurred.
pub(crate) async fn unserve(tx: &mut Write<'_>, jobs: &[i64]) -> Result<()> {
    sqlx::query("INSERT OR IGNORE INTO unserved (job) SELECT value FROM json_each(?)")
        .bind(write("unserved", &jobs)?)
        .execute(tx.conn())
        .await?;
    withdraw(tx).await.map(drop)
}

/// What failed because one of these subscriptions had ended is to be done after all, if it is served again.
async fn revive(tx: &mut Write<'_>, restored: &[Subject]) -> Result<Vec<JobId>> {
    let at = tx.at;
    let rows = sqlx::query(concat!("UPDATE job SET state = 'routed', note = 'its subscription has not ended', at = ?, attempts = 0, run = ", next_run!(), " WHERE state = 'failed' AND number IN (SELECT job FROM unserved) AND subject IN (SELECT subject FROM subscription WHERE status = 'active' AND subject IN (SELECT value FROM json_each(?))) RETURNING id, number"))
        .bind(at)
        .bind(write("subscription", &restored)?)
        .fetch_all(tx.conn())
        .await?;
    let mut revived = Vec::new();
    for row in &rows {
        forget_unsent(tx, row.try_get("number")?).await?;
        revived.push(Reader::new("job", "id", row)?.parsed("id")?);
    }
    sqlx::query(
        "DELETE FROM unserved WHERE job NOT IN (SELECT number FROM job WHERE state = 'failed')",
    )
    .execute(tx.conn())
    .await?;
    Ok(revived)
}
