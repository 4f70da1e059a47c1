//! Subscriptions: what the delegate's logs say about them, and what a reorganisation makes of it.

use crate::{
    error::Result,
    events::event_of,
    store::{Journal, Write},
    values::{Insert, Reader, Values, pack, signed, write},
};
use cryptlet_types::{Event, Subject, Subscription, UnixSeconds, bounded::clip};
use sqlx::sqlite::SqliteRow;
use std::collections::{BTreeMap, BTreeSet};

/// What the delegate's logs said about one subscription, and in which block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubscriptionChange {
    /// A contract subscribed.
    Added {
        /// What it asked for.
        subscription: Subscription,
        /// Number of the log's block.
        block: u64,
    },
    /// A contract unsubscribed. Final: a delegate never uses a subject again.
    Ended {
        /// The subscription.
        subject: Subject,
        /// Number of the log's block.
        block: u64,
    },
    /// A contract wants no deliveries for now. No events are taken over, except steps of computations.
    Paused {
        /// The subscription.
        subject: Subject,
        /// Number of the log's block.
        block: u64,
    },
    /// A contract wants deliveries again. What was due before is not made up.
    Resumed {
        /// The subscription.
        subject: Subject,
        /// Number of the log's block.
        block: u64,
        /// Timestamp of the log's block: what is due in this very second is made.
        at: UnixSeconds,
    },
    /// A contract subscribed to something that this host cannot serve.
    Refused {
        /// The subscription.
        subject: Subject,
        /// Number of the log's block.
        block: u64,
        /// Why not, for people.
        reason: String,
    },
}

/// A subscription that has not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActiveSubscription {
    /// What was asked for.
    pub subscription: Subscription,
    /// Number of the block that holds it.
    pub block: u64,
    /// Nothing is to be made for it now.
    pub paused: bool,
    /// Everything that was due by the clock up to and including this second is in the journal. Starts one second
    /// before `since`.
    pub fired_until: UnixSeconds,
    /// What the host keeps for its trigger ([`Journal::record_observation`]): small JSON.
    pub state: Option<String>,
}

impl Journal {
    /// Subscriptions that have not ended, ordered by subject: at most `limit`, behind `after`.
    ///
    /// # Errors
    /// [`JournalError::Corrupt`](crate::JournalError::Corrupt) or [`JournalError::Database`](crate::JournalError::Database).
    pub async fn subscriptions_page(
        &self,
        after: Option<Subject>,
        limit: u32,
    ) -> Result<Vec<ActiveSubscription>> {
        let mut db = self.read().await?;
        let rows = sqlx::query("SELECT subject, block, paused, fired_until, state, value FROM subscription WHERE status = 'active' AND subject > ? ORDER BY subject LIMIT ?")
            .bind(after.map_or_else(String::new, |after| after.to_string()))
            .bind(limit)
            .fetch_all(db.conn())
            .await?;
        drop(db);
        rows.iter().map(active).collect()
    }

    /// The subscription, unless it has ended or never was.
    ///
    /// # Errors
    /// [`JournalError::Corrupt`](crate::JournalError::Corrupt) or [`JournalError::Database`](crate::JournalError::Database).
    pub async fn subscription(&self, subject: Subject) -> Result<Option<ActiveSubscription>> {
        let mut db = self.read().await?;
        let row = sqlx::query("SELECT subject, block, paused, fired_until, state, value FROM subscription WHERE status = 'active' AND subject = ?")
            .bind(subject.to_string())
            .fetch_optional(db.conn())
            .await?;
        row.as_ref().map(active).transpose()
    }

    /// Whether the subscription was ever served here, though a reorganisation may have taken it away.
    ///
    /// # Errors
    /// [`JournalError::Database`](crate::JournalError::Database).
    pub async fn was_served(&self, subject: Subject) -> Result<bool> {
        let mut db = self.read().await?;
        let row =
            sqlx::query("SELECT 1 FROM subscription WHERE subject = ? AND status <> 'refused'")
                .bind(subject.to_string())
                .fetch_optional(db.conn())
                .await?;
        Ok(row.is_some())
    }

    /// All subscriptions that have not ended, ordered by subject. Where there may be many,
    /// [`Journal::subscriptions_page`] lets others have the journal in between.
    ///
    /// # Errors
    /// [`JournalError::Corrupt`](crate::JournalError::Corrupt) or [`JournalError::Database`](crate::JournalError::Database).
    pub async fn subscriptions(&self) -> Result<Vec<ActiveSubscription>> {
        self.subscriptions_page(None, u32::MAX).await
    }
}

fn active(row: &SqliteRow) -> Result<ActiveSubscription> {
    let reader = Reader::new("subscription", "subject", row)?;
    let subscription: Subscription = reader.packed("value")?;
    reader.same_id(subscription.subject)?;
    Ok(ActiveSubscription {
        subscription,
        block: reader.unsigned("block")?,
        paused: reader.column("paused")?,
        fired_until: reader.unsigned("fired_until")?,
        state: reader.column("state")?,
    })
}

/// Takes over all changes. Returns the events that wait for a job again.
pub(crate) async fn change(
    tx: &mut Write<'_>,
    changes: &[SubscriptionChange],
) -> Result<Vec<Event>> {
    let mut restored = Vec::new();
    for alike in changes.chunk_by(|one, next| one.added().is_some() && next.added().is_some()) {
        let added: Vec<_> = alike.iter().filter_map(SubscriptionChange::added).collect();
        restored.extend(add(tx, &added).await?);
        for change in alike {
            change_one(tx, change).await?;
        }
    }
    Ok(restored)
}

impl SubscriptionChange {
    fn added(&self) -> Option<(&Subscription, u64)> {
        match self {
            Self::Added {
                subscription,
                block,
            } => Some((subscription, *block)),
            _ => None,
        }
    }
}

async fn change_one(tx: &mut Write<'_>, change: &SubscriptionChange) -> Result<()> {
    match change {
        SubscriptionChange::Added { .. } => Ok(()),
        SubscriptionChange::Ended { subject, block } => {
            end(tx, *subject, signed("block", *block)?).await
        }
        SubscriptionChange::Paused { subject, block } => {
            pause(tx, *subject, signed("block", *block)?, None).await
        }
        SubscriptionChange::Resumed { subject, block, at } => {
            pause(tx, *subject, signed("block", *block)?, Some(*at)).await
        }
        SubscriptionChange::Refused {
            subject,
            block,
            reason,
        } => refuse(tx, *subject, signed("block", *block)?, reason).await,
    }
}

async fn vanished(tx: &mut Write<'_>) -> Result<BTreeSet<Subject>> {
    let rows = sqlx::query("SELECT subject FROM subscription WHERE status = 'vanished'")
        .fetch_all(tx.conn())
        .await?;
    subjects(&rows)
}

fn subjects<T: FromIterator<Subject>>(rows: &[SqliteRow]) -> Result<T> {
    rows.iter()
        .map(|row| Reader::new("subscription", "subject", row)?.parsed("subject"))
        .collect()
}

/// An ended subscription stays ended; one that an older version refused is served from now on; one that vanished is
/// back, perhaps in another block, with another `since`. Returns the events that wait for a job again.
async fn add(tx: &mut Write<'_>, added: &[(&Subscription, u64)]) -> Result<Vec<Event>> {
    let mut restored = Vec::new();
    if added.is_empty() {
        return Ok(restored);
    }
    let vanished = vanished(tx).await?;
    let mut rows = Vec::new();
    for (subscription, block) in added {
        // What is due in the very second of `since` has not fired yet.
        let fired_until = signed("subscription.since", subscription.since.saturating_sub(1))?;
        let (block, value) = (
            signed("block", *block)?,
            pack("subscription", subscription)?,
        );
        rows.push((subscription.subject, block, value, fired_until));
    }
    let insert = Insert {
        head: "INSERT INTO subscription (subject, status, block, value, fired_until) ",
        tail: " ON CONFLICT (subject) DO UPDATE SET status = 'active', block = excluded.block, value = excluded.value, reason = NULL, fired_until = max(fired_until, excluded.fired_until) WHERE status <> 'ended'",
    };
    let bind = |mut row: Values<'_>,
                (subject, block, value, fired_until): (Subject, i64, Vec<u8>, i64)| {
        row.push_bind(subject.to_string())
            .push_bind("active")
            .push_bind(block)
            .push_bind(value)
            .push_bind(fired_until);
    };
    insert.rows(tx, rows, bind).await?;
    for (subscription, _) in added {
        if vanished.contains(&subscription.subject) {
            restored.extend(restore(tx, subscription).await?);
        }
    }
    Ok(restored)
}

/// Logs, blocks and moments are found again by whoever finds the subscription again; what an application, a feed or a
/// run said is not said twice.
async fn restore(tx: &mut Write<'_>, subscription: &Subscription) -> Result<Vec<Event>> {
    let rows = sqlx::query("UPDATE event SET status = 'new' WHERE status = 'withdrawn' AND subject = ? AND kind IN ('application', 'threshold', 'step') AND due >= ? RETURNING id, value")
        .bind(subscription.subject.to_string())
        .bind(signed("subscription.since", subscription.since)?)
        .fetch_all(tx.conn())
        .await?;
    rows.iter().map(event_of).collect()
}

async fn end(tx: &mut Write<'_>, subject: Subject, block: i64) -> Result<()> {
    remember(tx, subject, block).await?;
    sqlx::query("INSERT INTO subscription (subject, status, block, fired_until) VALUES (?, 'ended', ?, 0) ON CONFLICT (subject) DO UPDATE SET status = 'ended'")
        .bind(subject.to_string())
        .bind(block)
        .execute(tx.conn())
        .await?;
    Ok(())
}

/// Pauses, or resumes at a moment: what was due before it is not made up.
async fn pause(
    tx: &mut Write<'_>,
    subject: Subject,
    block: i64,
    resumed: Option<UnixSeconds>,
) -> Result<()> {
    remember(tx, subject, block).await?;
    let fired_until = signed("at", resumed.unwrap_or_default().saturating_sub(1))?;
    sqlx::query(
        "UPDATE subscription SET paused = ?, fired_until = max(fired_until, ?) WHERE subject = ?",
    )
    .bind(resumed.is_none())
    .bind(fired_until)
    .bind(subject.to_string())
    .execute(tx.conn())
    .await?;
    Ok(())
}

async fn refuse(tx: &mut Write<'_>, subject: Subject, block: i64, reason: &str) -> Result<()> {
    remember(tx, subject, block).await?;
    sqlx::query("INSERT INTO subscription (subject, status, block, reason, fired_until) VALUES (?, 'refused', ?, ?, 0) ON CONFLICT (subject) DO UPDATE SET status = 'refused', reason = excluded.reason WHERE status <> 'ended'")
        .bind(subject.to_string())
        .bind(block)
        .bind(clip(reason))
        .execute(tx.conn())
        .await?;
    Ok(())
}

/// Keeps what a subscription is before it changes in `block`.
async fn remember(tx: &mut Write<'_>, subject: Subject, block: i64) -> Result<()> {
    sqlx::query("INSERT INTO undo (block, subject, status, paused, fired_until, reason) SELECT ?, subject, status, paused, fired_until, reason FROM subscription WHERE subject = ? AND status <> 'vanished'")
        .bind(block)
        .bind(subject.to_string())
        .execute(tx.conn())
        .await?;
    Ok(())
}

/// Forgets what no reorganisation can bring back any more: the trail does not reach that far.
pub(crate) async fn forget(tx: &mut Write<'_>, name: &str) -> Result<()> {
    sqlx::query("DELETE FROM undo WHERE block <= (SELECT min(number) FROM trail WHERE name = ?)")
        .bind(name)
        .execute(tx.conn())
        .await?;
    Ok(())
}

/// Makes undone what changed above the block, latest first. What was made since stays made: its events are known, so that
/// an older `fired_until` repeats nothing.
pub(crate) async fn undo(tx: &mut Write<'_>, above: u64) -> Result<Vec<Subject>> {
    let above = signed("block", above)?;
    let rows = sqlx::query("SELECT subject, number, status, paused, fired_until, reason FROM undo WHERE block > ? ORDER BY number DESC")
        .bind(above)
        .fetch_all(tx.conn())
        .await?;
    for row in &rows {
        let reader = Reader::new("undo", "subject", row)?;
        sqlx::query("UPDATE subscription SET status = ?, paused = ?, fired_until = ?, reason = ? WHERE subject = ?")
            .bind(reader.column::<String>("status")?)
            .bind(reader.column::<bool>("paused")?)
            .bind(reader.column::<i64>("fired_until")?)
            .bind(reader.column::<Option<String>>("reason")?)
            .bind(&reader.id)
            .execute(tx.conn())
            .await?;
    }
    sqlx::query("DELETE FROM undo WHERE block > ?")
        .bind(above)
        .execute(tx.conn())
        .await?;
    let found: BTreeSet<Subject> = subjects(&rows)?;
    Ok(found.into_iter().collect())
}

/// Takes out of service what was made above the block.
pub(crate) async fn vanish(tx: &mut Write<'_>, above: u64) -> Result<Vec<Subject>> {
    let rows = sqlx::query("UPDATE subscription SET status = 'vanished', paused = 0, fired_until = 0, state = NULL, reason = NULL WHERE block > ? AND status <> 'vanished' RETURNING subject")
        .bind(signed("block", above)?)
        .fetch_all(tx.conn())
        .await?;
    let mut found: Vec<Subject> = subjects(&rows)?;
    found.sort_unstable();
    Ok(found)
}

/// How these subscriptions stand; those that are not known are left out.
pub(crate) async fn standings(
    tx: &mut Write<'_>,
    subjects: &BTreeSet<Subject>,
) -> Result<BTreeMap<Subject, Standing>> {
    let rows = sqlx::query("SELECT subject, status, paused FROM subscription WHERE subject IN (SELECT value FROM json_each(?))")
        .bind(write("subscription", subjects)?)
        .fetch_all(tx.conn())
        .await?;
    rows.iter()
        .map(|row| {
            let reader = Reader::new("subscription", "subject", row)?;
            let served = reader.column::<&str>("status")? == "active";
            let standing = match reader.column("paused")? {
                _ if !served => Standing::Gone,
                true => Standing::Paused,
                false => Standing::Served,
            };
            Ok((reader.parsed("subject")?, standing))
        })
        .collect()
}

/// How a subscription stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Served,
    Paused,
    /// Ended, refused or vanished.
    Gone,
}
